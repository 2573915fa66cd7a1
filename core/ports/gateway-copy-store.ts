/**
 * What the primary remembers of core Secrets that SyncRules made in clusters of gateways. Writes are fenced by the leader's
 * epoch as in `vault-store.ts`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { DeliveryRecord, Writer } from "./vault-store.ts";

export interface GatewayCopyRecord {
  readonly secretId: string;
  /** Name of the gateway that the rule names, also while another one acts for it. */
  readonly gateway: string;
  /** Of that cluster. */
  readonly namespace: string;
  /** Of what it was made of, by the platform's keyed digests: changes with each value, name and setting. */
  readonly madeOf: string;
  /** As the gateway told it; its fingerprint is by `core/fleet/copy-digests.ts`. */
  readonly delivery: DeliveryRecord;
}

/** Whose copies these are; with either of both they go. */
export interface GatewayCopyOwners {
  readonly gateway: string;
  /** As `namespace/name`. */
  readonly rule: string;
}

export interface GatewayCopyStore {
  /** Of these secrets, whichever rule made them. */
  gatewayCopies(gateway: string, secretIds: readonly string[]): Promise<readonly GatewayCopyRecord[]>;
  /**
   * Records each in place of what stood there, also of another secret or rule, and inserts the audit rows, in one transaction.
   * Those of secrets that were purged are left out.
   *
   * @param rule that made them, as `namespace/name`
   */
  recordGatewayCopies(
    writer: Writer,
    rule: string,
    copies: readonly GatewayCopyRecord[],
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** Each pair once. */
  gatewayCopyOwners(): Promise<readonly GatewayCopyOwners[]>;
  /** Of those that this rule made last, or that are at this gateway, nothing is known any more. */
  forgetGatewayCopies(writer: Writer, of: { readonly rule: string } | { readonly gateway: string }): Promise<void>;
}
