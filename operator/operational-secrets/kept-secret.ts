import { Unavailable } from "../../core/errors.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";

/** Whoever is refused again and again does not ask the vault each time. */
const AGAIN_AFTER_MS = 5_000;

interface KeptSecretParts {
  readonly read: () => Promise<Sensitive>;
  readonly log: Pick<Logger, "warn">;
  /** In milliseconds; never goes back. */
  readonly elapsed?: () => number;
}

/** A password as it was read last. Where it opens nothing any more it is read anew, so that a rotated one is taken up. */
export class KeptSecret {
  /** Where it is kept, for whoever looks for it. */
  readonly source: string;
  readonly #read: () => Promise<Sensitive>;
  readonly #log: Pick<Logger, "warn">;
  #kept: Sensitive;
  readonly #elapsed: () => number;
  #readAt: number;
  #reading: Promise<void> | undefined;

  constructor(source: string, first: Sensitive, { read, log, elapsed = () => performance.now() }: KeptSecretParts) {
    this.source = source;
    this.#kept = first;
    this.#read = read;
    this.#log = log;
    this.#elapsed = elapsed;
    this.#readAt = elapsed();
  }

  /** Who asked for it was refused with it. */
  refused(): void {
    if (this.#reading !== undefined || this.#elapsed() - this.#readAt < AGAIN_AFTER_MS) return;
    this.#reading = this.#readAnew().finally(() => {
      this.#reading = undefined;
    });
  }

  /** After a reading that is under way. */
  async current(): Promise<string> {
    await this.#reading;
    return this.latest;
  }

  get latest(): string {
    return this.#kept.revealText();
  }

  /** What cannot be read leaves what there is: it may come back to be right. */
  async #readAnew(): Promise<void> {
    try {
      const read = await this.#read();
      this.#kept.dispose();
      this.#kept = read;
    } catch (error) {
      const why = error instanceof Unavailable || error instanceof ConfigError ? error.message : "it cannot be read";
      this.#log.warn(`${this.source} was refused, and is not read anew: ${why}`);
    } finally {
      this.#readAt = this.#elapsed();
    }
  }
}
