/** Where wrapped keys stand, and who holds the root key. */
import { Unavailable } from "../errors.ts";
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

/** Of these each version is replaced by the next, and retired when it wraps nothing any more. */
export type RotatedPurpose = Extract<KeyPurpose, "Installation" | "Project">;

/** A version of a key that is rotated, as far as it can be told without unwrapping anything. */
export interface KeyVersion {
  readonly id: string;
  readonly purpose: RotatedPurpose;
  readonly scope: string;
  readonly version: number;
  readonly wrappedBy: string;
  /** Reserved for wraps, of which some may not have happened. */
  readonly uses: bigint;
  readonly createdAt: Date;
  /** Of one that was replaced: how many keys it still wraps. */
  readonly left?: number;
}

/** A wrapped key that is to be wrapped by another one: what stands there, and what shall. */
export interface Rewrap {
  readonly id: string;
  readonly before: Buffer;
  readonly after: Buffer;
}

/** What was to be wrapped by a version has to be wrapped by the one that has replaced it. */
export class KeyReplaced extends Unavailable {
  constructor() {
    super("KeyUnavailable", "the key has just been replaced by a newer version; repeat");
    this.name = "KeyReplaced";
  }
}

/** Half of what is allowed, so that there is time for the replacement. */
export const MANY_USES = 2n ** 30n;

export interface KeyStore {
  /** Id of the installation, a UUID made at the first migration and never changed. */
  installationId(): Promise<string>;
  /** Lowest version first; not those that are retired. */
  load(purpose: KeyPurpose, scope: string): Promise<readonly WrappedKey[]>;
  /**
   * Inserts unless a key of that purpose, scope and version exists; returns the one that now stands there. The audit
   * rows are inserted only with the key. Epoch 0 writes before anybody ever led. Throws `Fenced`, and `KeyReplaced` when
   * what wraps the key is not the newest version.
   */
  insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey>;
  /** Adds `count` to the uses of a key, durably, before they happen; returns the sum. Throws `Fenced`, `KeyReplaced`. */
  reserveUses(writer: Writer | Unled, id: string, count: number): Promise<bigint>;
  /**
   * Replaces the version before this one. False when there is a newer one already, or an older one that is not retired:
   * a rotation is under way. Only after `MANY_USES` another one begins all the same: what keeps the older one may never
   * open, and new keys must be wrapped. Throws `Fenced`, and `KeyReplaced` when what wraps the key has been replaced: also a root
   * key that wraps the version before no longer.
   */
  rotate(writer: Writer | Unled, key: WrappedKey, audit: readonly AuditEntry[]): Promise<boolean>;
  /** Versions of one key that are not retired, lowest first. */
  versions(purpose: RotatedPurpose, scope: string): Promise<readonly KeyVersion[]>;
  /** The same of the keys of `limit` projects, by name, from the first after this one on. */
  projectVersions(after: string | undefined, limit: number): Promise<readonly KeyVersion[]>;
  /** Versions that were replaced and are not retired: what they wrap is to be wrapped anew. */
  replaced(): Promise<readonly KeyVersion[]>;
  /** Newest versions that were used so often, or made before a time while no older one is left. */
  due(purpose: RotatedPurpose, madeBefore: Date, uses: bigint, limit: number): Promise<readonly KeyVersion[]>;
  /** Keys that this one wraps, by id, at most `limit`. */
  wrappedBy(id: string, after: string | undefined, limit: number): Promise<readonly WrappedKey[]>;
  /** Wraps keys by another one, each only when it is as it was; returns how many. Throws `Fenced`, `KeyReplaced`. */
  rewrap(
    writer: Writer,
    from: string,
    to: string,
    keys: readonly Rewrap[],
    audit: readonly AuditEntry[],
  ): Promise<number>;
  /** Forgets a version that was replaced, once it wraps nothing; false while it does. Throws `Fenced`. */
  retire(writer: Writer, id: string, audit: readonly AuditEntry[]): Promise<boolean>;
}

/** The root key (KEK). Providers: `file`, `passphrase`; a Key Vault and an HSM come behind the same port. */
export interface RootKey {
  /** Stable name of the key in use, stored with what it wraps, so that a wrong root key is told apart from tampering. */
  readonly id: string;
  /** Where it comes from, for whoever looks for it: `root key file /etc/mazevault/root.key`. */
  readonly source: string;
  wrap(plaintext: Buffer, additionalData: Buffer): Promise<Buffer>;
  /** Throws `Unavailable("KeyUnavailable")` when it is not the key that wrapped. */
  unwrap(wrapped: Buffer, additionalData: Buffer): Promise<Buffer>;
}
