/**
 * What a gateway remembers of being one: at most one row. Its private keys are sealed (`core/pki/sealed-key.ts`), its bootstrap
 * token is known by its digest only. Writes are fenced by the leader's epoch as in `vault-store.ts`. The adapters pass
 * `membership-store.contract.ts`.
 */
import type { GatewayRole } from "../fleet/protocol.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { SealedKey } from "./pki-store.ts";
import type { Writer } from "./vault-store.ts";

/** See `core/fleet/membership.ts`; without a row the gateway is unregistered. */
export type MembershipState = "Registering" | "Registered" | "Confirmed" | "Revoked";

export interface MemberKey {
  /** SHA-256 of its SubjectPublicKeyInfo, 32 bytes. */
  readonly digest: Buffer;
  readonly sealed: SealedKey;
  /** DER: its certificate first, the primary's root last; empty until the primary has answered. */
  readonly certificates: readonly Buffer[];
  /** When they came, by this gateway's clock; its life is counted from here, however wrong that clock is. */
  readonly receivedAt: Date | undefined;
}

/** Who the gateway is to the primary. */
export interface MemberIdentity {
  /** UUID. */
  readonly gatewayId: string;
  readonly name: string;
  readonly environment: string;
  readonly role: GatewayRole;
}

export interface MembershipRecord {
  readonly state: MembershipState;
  readonly primaryUrl: string;
  /** SHA-256 of the token that it registered with last, 32 bytes. */
  readonly tokenHash: Buffer;
  /** SHA-256 of the SubjectPublicKeyInfo of the primary's root, which that token named, 32 bytes. */
  readonly rootDigest: Buffer;
  /** Undefined until the primary has answered. */
  readonly identity: MemberIdentity | undefined;
  readonly current: MemberKey;
  /** Takes the place of `current` once it was confirmed. */
  readonly next: MemberKey | undefined;
}

export interface StoredMembership {
  /** Grows with each write, from 1. */
  readonly generation: bigint;
  readonly record: MembershipRecord;
}

export interface MembershipStore {
  read(): Promise<StoredMembership | undefined>;
  /**
   * Puts the record in place of the one of that generation (0: there is none) and inserts the audit rows, in one transaction;
   * returns the new generation. Throws `Conflict` when another one stands there, and `Fenced`.
   */
  write(writer: Writer, before: bigint, record: MembershipRecord, audit: readonly AuditEntry[]): Promise<bigint>;
}
