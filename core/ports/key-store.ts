/** Where wrapped keys stand, and who holds the root key. */
import type { AuditEntry } from "./audit-log.ts";
import type { Unled, Writer } from "./vault-store.ts";

/** A wrapped key as it is stored. Layout of `wrapped`: nonce (12 bytes), AES-256-GCM ciphertext, tag (16 bytes). */
export interface WrappedKey {
  readonly id: string;
  readonly purpose: KeyPurpose;
  /** Project name for project keys, empty for the installation's. */
  readonly scope: string;
  readonly version: number;
  /** Id of the key that wraps this one; the root provider's key id for the installation key. */
  readonly wrappedBy: string;
  readonly wrapped: Buffer;
  readonly createdAt: Date;
}

/**
 * Installation: wraps project keys and what belongs to no project. Project: wraps DEKs. Fingerprint: HMAC for change
 * detection, one per project. Pointer: HMAC over pointer rows. Audit: HMAC over audit rows. AuditSigning: Ed25519 private
 * key that signs checkpoints. Pki: wraps the data keys of private keys of certificates, for the whole installation. Sealing: X25519 private key that opens what was sealed for a
 * project, wrapped by the project key; all versions are in use. Signing: Ed25519 private key, for what the installation
 * states to those outside. Identity: HMAC over rows of users, sessions and API keys. Token: seed of an Ed25519 key (RFC 8032, 5.1.5) that signs tokens.
 */
export type KeyPurpose =
  | "Installation"
  | "Project"
  | "Fingerprint"
  | "Pointer"
  | "Audit"
  | "AuditSigning"
  | "Pki"
  | "Sealing"
  | "Signing"
  | "Identity"
  | "Token";

export interface KeyStore {
  /** Id of the installation, a UUID made at the first migration and never changed. */
  installationId(): Promise<string>;
  /** Lowest version first. */
  load(purpose: KeyPurpose, scope: string): Promise<readonly WrappedKey[]>;
  /**
   * Inserts unless a key of that purpose, scope and version exists; returns the one that now stands there. The audit
   * rows are inserted only with the key. Epoch 0 writes before anybody ever led. Throws `Fenced`.
   */
  insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey>;
  /** Adds `count` to the uses of a key, durably, before they happen; returns the sum. Throws `Fenced`. */
  reserveUses(writer: Writer | Unled, id: string, count: number): Promise<bigint>;
}

/** The root key (KEK). Providers: `file`, `passphrase`; a Key Vault and an HSM come behind the same port. */
export interface RootKey {
  /** Stable name of the key in use, stored with what it wraps, so that a wrong root key is told apart from tampering. */
  readonly id: string;
  wrap(plaintext: Buffer, additionalData: Buffer): Promise<Buffer>;
  /** Throws `Unavailable("KeyUnavailable")` when it is not the key that wrapped. */
  unwrap(wrapped: Buffer, additionalData: Buffer): Promise<Buffer>;
}
