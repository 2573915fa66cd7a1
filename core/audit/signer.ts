import { type KeyObject, randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import { type AuditRow, rowMac } from "./row.ts";

/** Numbers and authenticates the audit rows of this process; each process is a writer of its own. */
export class AuditSigner {
  readonly writerId = randomUUID();
  readonly #now: () => Date;
  #counter = 0n;
  #key: KeyObject | undefined;

  constructor(now: () => Date = () => new Date()) {
    this.#now = now;
  }

  /** The key comes from the key ring, which itself needs a store that signs: so it is handed in afterwards. */
  useKey(key: KeyObject): void {
    this.#key = key;
  }

  sign(entry: AuditEntry): AuditRow {
    if (this.#key === undefined) throw new Unavailable("KeyUnavailable", "the audit key is not unwrapped yet");
    this.#counter += 1n;
    const row = { writerId: this.writerId, counter: this.#counter, at: this.#now(), entry };
    return { ...row, mac: rowMac(this.#key, row) };
  }

  /** For verification. */
  get key(): KeyObject {
    if (this.#key === undefined) throw new Unavailable("KeyUnavailable", "the audit key is not unwrapped yet");
    return this.#key;
  }
}
