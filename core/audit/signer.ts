import { type KeyObject, randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import type { SigningKeys } from "./checkpoint.ts";
import { type AuditRow, authenticated } from "./row.ts";

/** Numbers and authenticates the audit rows of this process; each process is a writer of its own. */
export class AuditSigner {
  readonly writerId = randomUUID();
  readonly #now: () => Date;
  #counter = 0n;
  #key: KeyObject | undefined;
  #signingKeys: SigningKeys | undefined;

  constructor(now: () => Date = () => new Date()) {
    this.#now = now;
  }

  /** The keys come from the key ring, which itself needs a store that signs: so they are handed in afterwards. */
  useKeys(key: KeyObject, signingKeys: SigningKeys): void {
    this.#key = key;
    this.#signingKeys = signingKeys;
  }

  sign(entry: AuditEntry): AuditRow {
    const { key } = this;
    this.#counter += 1n;
    return authenticated(key, { writerId: this.writerId, counter: this.#counter, at: this.#now(), entry });
  }

  /** For verification. */
  get key(): KeyObject {
    if (this.#key === undefined) throw missing();
    return this.#key;
  }

  get signingKeys(): SigningKeys {
    if (this.#signingKeys === undefined) throw missing();
    return this.#signingKeys;
  }
}

const missing = (): Unavailable => new Unavailable("KeyUnavailable", "the audit key is not unwrapped yet");
