import type { Database } from "./database.ts";

export const CHANNEL = "mazevault_outbox";
/** What the PKI stores changed, and what a responder asks for. */
export const PKI_CHANNEL = "mazevault_pki";

/** A single change is told almost at once; what comes with it goes along. */
const FIRST_MS = 20;
/** In a stream of changes each hint costs the listener three statements, so there are few; all that is new is read then. */
const APART_MS = 250;
const NOTIFY = { name: "notify", text: "SELECT pg_notify($1, '')" };

/**
 * Tells listeners that there is something new. NOTIFY takes a lock of the whole server until its transaction has
 * committed, so inside of business transactions it would make them wait for each other; and it is only a hint, as
 * whoever misses it reads the outbox a little later.
 */
export class OutboxHint {
  readonly #database: Database;
  readonly #channel: string;
  #timer: NodeJS.Timeout | undefined;
  #hintedAt = Number.NEGATIVE_INFINITY;

  constructor(database: Database, channel = CHANNEL) {
    this.#database = database;
    this.#channel = channel;
  }

  /** After a commit that listeners want to know of. */
  changed(): void {
    if (this.#timer !== undefined) return;
    const pauseMs = Math.max(FIRST_MS, this.#hintedAt + APART_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#hintedAt = performance.now();
      this.#database.query(NOTIFY, [this.#channel]).catch(() => {});
    }, pauseMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
