import { failpoint } from "../../core/failpoints.ts";
import type { OutboxPosition, OutboxRow, VaultStore } from "../../core/ports/vault-store.ts";
import { type Database, type DatabaseOptions, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";
import { HintListener } from "./hint-listener.ts";
import { CHANNEL } from "./outbox-hint.ts";

const PAGE = 1_000;
/** Bounds what a lost hint costs. */
const CATCH_UP_MS = 3_000;
const FIRST_RECONNECT_MS = 100;
const LONGEST_RECONNECT_MS = 5_000;

const CURSOR = { name: "outbox_cursor", text: "SELECT transaction, id FROM outbox_cursors WHERE consumer = $1" };
// A fence that refuses keeps the cursor where it is: a stale leader must not pass over rows that its successor has not seen.
const MOVE = { name: "outbox_move", text: "SELECT move_outbox_cursor($2, $3, $4) FROM fence($1)" };
const START = { name: "outbox_start", text: "SELECT start_outbox_cursor($2) FROM fence($1)" };

export interface OutboxListenerOptions {
  readonly database: Database;
  readonly store: Pick<VaultStore, "readOutbox">;
  readonly connection: DatabaseOptions;
  /** Of the leader that consumes; when it is over, rows are still handed out, but the cursor stays. */
  readonly epoch: bigint;
  /** The cursor's name; each consumer sees every row at least once. */
  readonly consumer: string;
  /** Called with rows in order; the cursor moves after it resolved. When it rejects, the same rows come again. */
  readonly onRows: (rows: readonly OutboxRow[]) => Promise<void>;
  /** Told of failures, which are retried; silent by default. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Hands out the outbox to one consumer. NOTIFY only says when to look: the table and the stored cursor decide what is
 * new, so nothing is lost while the connection, the process or PostgreSQL was away.
 */
export class OutboxListener {
  readonly #options: OutboxListenerOptions;
  readonly #stopped = new AbortController();
  readonly #hints: HintListener;
  #wake: () => void = () => {};
  #hinted = false;
  #running: Promise<void> | undefined;

  constructor(options: OutboxListenerOptions) {
    this.#options = options;
    this.#hints = new HintListener({
      connection: options.connection,
      channel: CHANNEL,
      onHint: () => this.#hint(),
      ...(options.onError && { onError: options.onError }),
    });
  }

  /** A consumer that is new begins with what is committed from now on. */
  start(): void {
    this.#hints.start();
    this.#running ??= this.#consume();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#wake();
    await this.#hints.stop();
    await this.#running;
  }

  async #consume(): Promise<void> {
    const { store, consumer, onRows } = this.#options;
    let pause = FIRST_RECONNECT_MS;
    let after: OutboxPosition | undefined;
    while (!this.#stopped.signal.aborted) {
      try {
        after ??= await this.#cursor();
        const rows = await store.readOutbox(after, PAGE);
        const last = rows.at(-1)?.position;
        if (last !== undefined) {
          await onRows(rows);
          await this.#write(MOVE, [consumer, last.transaction, last.id]);
          failpoint("outbox.afterMove");
          after = last;
        }
        pause = FIRST_RECONNECT_MS;
        if (rows.length < PAGE) await this.#idle();
      } catch (error) {
        this.#options.onError?.(error);
        await this.#sleep(pause);
        pause = Math.min(pause * 2, LONGEST_RECONNECT_MS);
      }
    }
  }

  async #cursor(): Promise<OutboxPosition> {
    const { database, consumer } = this.#options;
    await this.#write(START, [consumer]);
    const [row] = await read<{ transaction: string; id: string }>(database, CURSOR, [consumer]);
    return { transaction: BigInt(row?.transaction ?? 0), id: BigInt(row?.id ?? 0) };
  }

  async #write(statement: Statement, values: readonly unknown[]): Promise<void> {
    const { database, epoch } = this.#options;
    try {
      await database.query(statement, [epoch, ...values]);
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }

  #hint(): void {
    this.#hinted = true;
    this.#wake();
  }

  /** Until the next hint, or until it is time to look anyway. */
  async #idle(): Promise<void> {
    if (!this.#hinted) await this.#sleep(CATCH_UP_MS, true);
    this.#hinted = false;
  }

  #sleep(ms: number, wakeable = false): Promise<void> {
    if (this.#stopped.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#stopped.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#stopped.signal.addEventListener("abort", done, { once: true });
      if (wakeable) this.#wake = done;
    });
  }
}
