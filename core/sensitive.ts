import { inspect } from "node:util";

const REDACTED = "[redacted]";

/**
 * A value that must not be printed. Every implicit way to text (string conversion, JSON, inspection) gives
 * `[redacted]`; only `reveal` gives the value, so that each place which handles plaintext can be found by searching.
 */
export class Sensitive {
  readonly #bytes: Buffer;

  constructor(value: Buffer | string) {
    this.#bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  }

  /** The bytes themselves, not a copy: they are zeroed by `dispose`. */
  reveal(): Buffer {
    return this.#bytes;
  }

  /** The bytes as UTF-8. */
  revealText(): string {
    return this.#bytes.toString("utf8");
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  dispose(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
