/**
 * What the platform remembers of core Secrets that SyncRules made in other namespaces: for each what was delivered last, as
 * `DeliveryRecord` has it of the one beside a Secret, and what both sides agreed on where both may change it. Writes are fenced by the leader's epoch as in `vault-store.ts`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { DeliveryRecord, Writer } from "./vault-store.ts";

/** Under a rule with direction Bidirectional: fingerprints by key of the Secret. */
export type Agreed = Readonly<Record<string, string>>;

export interface CopyDelivery extends DeliveryRecord {
  /** What both sides had when it was recorded; absent: no rule with direction Bidirectional has recorded it. */
  readonly agreed?: Agreed;
  /** What was about to be written since, by whoever may have died over it. Never empty. */
  readonly meant?: readonly Agreed[];
  /** What was about to become the platform's since, from there; only what was. Never empty. */
  readonly taking?: readonly Agreed[];
}

export interface CopyRecord {
  readonly secretId: string;
  readonly namespace: string;
  /** A namespace that was made anew under the same name has another one. */
  readonly namespaceUid: string;
  readonly delivery: CopyDelivery;
}

export interface CopyStore {
  /** Of these secrets, whichever rule made them. */
  copies(secretIds: readonly string[]): Promise<readonly CopyRecord[]>;
  /**
   * Records it in place of what stood there, also of another secret, and inserts the audit rows, in one transaction. Throws
   * `Conflict` when the secret was purged, and with it what was known of its copies.
   */
  recordCopy(writer: Writer, copy: CopyRecord, audit: readonly AuditEntry[]): Promise<void>;
}
