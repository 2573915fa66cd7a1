/**
 * Where encrypted, immutable secret versions live. The platform's store is PostgreSQL; `fake-vault-store.ts` is the
 * in-memory fake, and both pass `vault-store.contract.ts`.
 *
 * Contract, common to all methods:
 * - Acknowledged means durable: a resolved promise survives a kill of every process.
 * - Every method that writes takes a `Writer`. If its epoch is over, nothing changes and `Fenced` is thrown, also when
 *   the epoch ends while the write is under way. What takes `Unled` too is safe without leading: it is conditional on the
 *   pointer's generation, so a stale view cannot overwrite a newer one.
 * - Every write inserts its audit rows and its outbox row in the same transaction, or does not happen at all.
 * - Writes are conditional on the pointer's generation that the caller has seen (`expected`): when somebody else moved
 *   it, nothing changes and `Conflict` is thrown.
 * - When the store cannot be reached: `Unavailable("DatabaseUnavailable")`. When what is stored does not match its MAC
 *   or is older than the audit record says: `Unavailable("TamperDetected")`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { HandledWrite } from "./handled-writes.ts";

/** What a secret is, for ever: a re-created namespace (another UID) does not inherit. */
export interface SecretIdentity {
  readonly project: string;
  readonly environment: string;
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
}

/** Who writes: the leader's epoch fences stale ones, the writer id and counter order the audit rows. */
export interface Writer {
  readonly epoch: bigint;
}

/** A replica that serves requests and does not lead; the leader hears of what it wrote through the outbox. */
export interface Unled {
  readonly epoch: undefined;
}
export const UNLED: Unled = { epoch: undefined };

/**
 * Active: can be read. SoftDeleted: kept until `purgeAfter`. Retained: the object is gone and asked that everything
 * stays. Applying the object again makes both of them Active.
 */
export type SecretState = "Active" | "SoftDeleted" | "Retained";

/**
 * What becomes of the versions. It stands with the pointer, since an object that disappeared while nobody watched can
 * no longer say it, and under the pointer's MAC, since it decides what is deleted.
 */
export interface Lifecycle {
  readonly deletionPolicy: "SoftDelete" | "Retain" | "Purge";
  /** How long a soft-deleted secret can be recovered, in milliseconds. */
  readonly softDeleteMs: number;
  /** How many versions stay; at least 1. */
  readonly keepVersions: number;
}

/**
 * How the rotation of generated entries stands. It stands with the pointer, under its MAC, and changes with it: what was
 * done for a due time or a request is committed with the version that it made.
 */
export interface RotationRecord {
  /** What the manifest asks for, such as `every 720h` or `0 3 1 * * UTC`; absent: nothing. */
  readonly timetable?: string;
  /** Since when it asks for that: what was due before does not count. */
  readonly since: Date;
  /** Of the last rotation, and never before the time at which it was due. */
  readonly at?: Date;
  /** The request that was handled last, by its token. */
  readonly request?: string;
  /** Versions that retention leaves alone for now, oldest first. */
  readonly held: readonly HeldVersion[];
  /** Where versions are applied before they are current; absent: none ever was. */
  readonly apply?: ApplyRecord;
}

/** How the version stands that is to be current next, and the one that was before. */
export interface ApplyRecord {
  /** Highest number that a version got which was not current at once: no other gets it again. */
  readonly last: number;
  /** Somebody asked for new values who has no annotation to say so by. */
  readonly asked?: true;
  /** Not current: nothing delivers it, and nothing pushes it. */
  readonly pending?: PendingVersion;
  /** Was current until the present one, and still counts outside. */
  readonly former?: FormerVersion;
  /** Of the last attempt, unless it succeeded. */
  readonly failure?: ApplyFailure;
  /** Versions that were never current and will not be, oldest first: above the current one only these stay, and the pending one. */
  readonly failed: readonly number[];
}

export type ApplyCause = "Timetable" | "Request" | "First";

export interface PendingVersion {
  readonly version: number;
  /** The current version when it was made. */
  readonly base: number;
  /** Whose values are new, without templates. */
  readonly keys: readonly string[];
  readonly cause: ApplyCause;
  /** When it was due, by a timetable. */
  readonly due?: Date;
  readonly since: Date;
}

export interface FormerVersion {
  readonly version: number;
  /** Role of the database that is to end; absent: nothing is. */
  readonly role?: string;
  /** Since when everything that uses it has the present one; it ends when the overlap is over. */
  readonly confirmed?: Date;
}

export interface ApplyFailure {
  readonly version: number;
  readonly cause: ApplyCause;
  /** Safe to show. */
  readonly message: string;
  /** In a row. */
  readonly count: number;
  readonly retryAt: Date;
}

export interface HeldVersion {
  readonly version: number;
  readonly until: Date;
}

/** One entry of a stored version, without its value. */
export interface EntryDigest {
  readonly key: string;
  /** HMAC over how the entry came about (its spec and the fingerprints of its inputs); equal means nothing to do. */
  readonly recipe: string;
  /** HMAC over identity and value; equal means same value. Both are hex, 64 characters. */
  readonly fingerprint: string;
}

/** The current version of a secret as far as it can be told without decrypting anything. */
export interface SecretRecord {
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly state: SecretState;
  readonly currentVersion: number;
  /** Grows by one with every change of the pointer row, covered by its MAC and anchored in the audit rows. */
  readonly generation: bigint;
  readonly deletedAt?: Date;
  readonly purgeAfter?: Date;
  readonly lifecycle: Lifecycle;
  /** Absent: no rotation was ever asked for. */
  readonly rotation?: RotationRecord;
  /** Of the Key Vault that has its values, and its versions only their places; absent: the versions have them. */
  readonly vaultUrl?: string;
  /** Of the current version, ordered by key. */
  readonly entries: readonly EntryDigest[];
  readonly delivery?: DeliveryRecord;
  /** The current version, where it was read along with the record. */
  readonly sealed?: SealedVersion;
}

/** What was last delivered as a core Secret; equal resourceVersion means nobody touched it since. */
export interface DeliveryRecord {
  readonly secretName: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** HMAC over everything that was put into the core Secret: data, type, labels, annotations, owner. */
  readonly fingerprint: string;
  readonly version: number;
  /** Workloads that still have to be restarted for this delivery (kind/name); empty when done. */
  readonly pendingRestarts: readonly string[];
  /** Of values that have other bytes each time they are made, such as keystores; absent: there is none. */
  readonly made?: readonly MadeValue[];
  /** Of a core Secret that was taken over as it stood: the certificate of another CA in it, DER in base64. */
  readonly adopted?: string;
}

/** By these the bytes that were delivered are known again for what they were made of; both are keyed digests. */
export interface MadeValue {
  readonly key: string;
  readonly bytes: string;
  readonly contents: string;
}

/** A value sealed for storage. `ciphertext` is nonce (12 bytes), AES-256-GCM ciphertext, tag (16 bytes). */
export interface SealedEntry extends EntryDigest {
  readonly ciphertext: Buffer;
}

export interface SealedVersion {
  readonly version: number;
  /** The DEK wrapped by the project key `projectKeyId`, same layout as a ciphertext. */
  readonly wrappedKey: Buffer;
  readonly projectKeyId: string;
  /** The project key that wrapped the DEK at first, which the entries are bound to. */
  readonly entriesKeyId: string;
  readonly entries: readonly SealedEntry[];
}

/** The wrapped DEK of a version, without what it encrypts. */
export interface DataKey {
  /** Of the secret. */
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly version: number;
  readonly wrappedKey: Buffer;
}

/** A DEK that is to be wrapped by another project key: what stands there, and what shall. */
export interface DataKeyRewrap {
  /** Of the secret. */
  readonly id: string;
  readonly version: number;
  readonly before: Buffer;
  readonly after: Buffer;
}

/** Values that were written to a Key Vault for versions that are to be committed, see `KeptEntries`. */
export interface KeptWrite {
  /** Undefined: nothing had to be written. */
  readonly id: string | undefined;
  readonly vaultUrl: string;
  /** In the vault, by key. */
  readonly versions: ReadonlyMap<string, string>;
}

/** A new version becomes the current one, and the secret is Active afterwards whatever it was before. */
export interface NewVersion {
  readonly id: string;
  readonly identity: SecretIdentity;
  /** Generation of the pointer that the caller has seen; undefined when it saw no row. */
  readonly expected: bigint | undefined;
  readonly generation: bigint;
  readonly mac: Buffer;
  readonly sealed: SealedVersion;
  /** The version that is current afterwards, where that is not this one; only of a secret that is stored already. */
  readonly currentVersion?: number;
  /** Versions beyond `keepVersions` are deleted in the same transaction, never the current one, and none that is held. */
  readonly lifecycle: Lifecycle;
  /** As it is afterwards; absent: there is none. */
  readonly rotation?: RotationRecord;
  /** Ends with the commit; when somebody else has taken it over, nothing changes and `Conflict` is thrown. */
  readonly write?: KeptWrite;
  /** The write of a gateway that this version comes of; when it was handled before, nothing changes and `Conflict` is thrown. */
  readonly handled?: HandledByVersion;
  readonly audit: readonly AuditEntry[];
}

/** See `HandledWrites`; the values that the version has made were set `ageMs` before. */
export interface HandledByVersion {
  readonly write: HandledWrite;
  readonly ageMs: number;
}

/** Moves the pointer without a new version: soft-delete, retain, recover, change of lifecycle. */
export interface PointerChange {
  readonly id: string;
  readonly expected: bigint;
  readonly generation: bigint;
  readonly mac: Buffer;
  readonly state: SecretState;
  readonly currentVersion: number;
  readonly deletedAt?: Date;
  readonly purgeAfter?: Date;
  /**
   * Versions beyond `keepVersions` are deleted in the same transaction, never the current one, and none that is held; so are those above
   * the current one that are neither pending nor among those that failed.
   */
  readonly lifecycle: Lifecycle;
  /** As it is afterwards; absent: there is none. */
  readonly rotation?: RotationRecord;
  /** Leaves evidence that a person deleted it, see `Ending` in `sync-store.ts`; a secret that is Active again refutes it. */
  readonly tombstone?: boolean;
  readonly audit: readonly AuditEntry[];
}

/**
 * A place in the outbox. Rows are handed out in the order of their transactions and only when every older transaction
 * has ended: a sequence alone would skip a row whose transaction commits after a later one.
 */
export interface OutboxPosition {
  readonly transaction: bigint;
  readonly id: bigint;
}

/** One line of the outbox: something about this secret changed. */
export interface OutboxRow {
  readonly position: OutboxPosition;
  readonly secretId: string;
  readonly namespace: string;
  readonly name: string;
  /** Written by a replica that does not lead, so the leader has yet to act on it. */
  readonly unled: boolean;
}

/** A version that is kept, as far as it can be told without decrypting anything. */
export interface KeptVersion {
  readonly version: number;
  /** Time of its commit. */
  readonly createdAt: Date;
  /** In alphabetical order. */
  readonly keys: readonly string[];
}

/** What must be known to find objects that disappeared while nobody watched. */
export interface SecretLocation {
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly state: SecretState;
  readonly lifecycle: Lifecycle;
  readonly delivery?: Pick<DeliveryRecord, "secretName" | "uid" | "resourceVersion">;
}

/** The pointer was moved by somebody else since it was read; read again and decide anew. */
export class Conflict extends Error {
  constructor(id: string) {
    super(`secret ${id} was changed by another writer`);
    this.name = "Conflict";
  }
}

export interface VaultStore {
  /** What is stored, not yet judged: the caller verifies the MAC. Undefined when there is no row. */
  find(identity: SecretIdentity): Promise<StoredPointer | undefined>;
  /** The same with `record.sealed`, of the same moment. */
  findSealed(identity: SecretIdentity): Promise<StoredPointer | undefined>;
  /** The same of many at once, by their ids; what there is not is left out. */
  findSealedAll(ids: readonly string[]): Promise<readonly StoredPointer[]>;
  /** Ciphertexts of one version; undefined when retention or purge removed it. */
  readVersion(id: string, version: number): Promise<SealedVersion | undefined>;
  /** The versions that are kept, newest first. */
  listVersions(id: string): Promise<readonly KeptVersion[]>;
  /** Throws `KeyReplaced` when the DEK is not wrapped by the newest version of the project key. */
  commitVersion(writer: Writer | Unled, version: NewVersion): Promise<void>;
  /** Several versions of one secret in their order, each expecting the one before: all of them, or none. */
  commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void>;
  /** Whether a version that is kept has a value of this fingerprint under this key. */
  keeps(id: string, key: string, fingerprint: string): Promise<boolean>;
  /**
   * For how many milliseconds, by the store's own clock, the current version has had this value under this key without a
   * break, also since a version that is not kept any more; undefined when it has another one. What was only kept beside does not break
   * it, nor does what is not current yet. What a gateway wrote counts from when it was set there.
   */
  heldForMs(id: string, key: string, fingerprint: string): Promise<number | undefined>;
  changePointer(writer: Writer | Unled, change: PointerChange): Promise<void>;
  /** Deletes the secret and every version; the audit rows stay, and so does evidence that a person deleted it. */
  purge(
    writer: Writer,
    id: string,
    expected: bigint,
    audit: readonly AuditEntry[],
    evidence?: Pick<PointerChange, "tombstone">,
  ): Promise<void>;
  /** Not audited by itself: the delivery's audit rows go through `audit`. */
  recordDelivery(
    writer: Writer,
    id: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** Everything stored under this name in the namespace, of whichever project, environment or namespace UID. */
  locate(namespace: string, name: string): Promise<readonly SecretLocation[]>;
  /** All secrets, in pages by id, at most `limit` each. */
  listLocations(after: string | undefined, limit: number): Promise<readonly SecretLocation[]>;
  /** Soft-deleted secrets whose time is over. */
  listExpired(
    now: Date,
    limit: number,
  ): Promise<readonly { id: string; generation: bigint; identity: SecretIdentity }[]>;
  /** Outbox rows after `after` (absent: from the oldest that is kept), oldest first, at most `limit`. */
  readOutbox(after: OutboxPosition | undefined, limit: number): Promise<readonly OutboxRow[]>;
  /** DEKs that a project key wraps, by id and version, at most `limit`. */
  listDataKeys(
    projectKeyId: string,
    after: Pick<DataKey, "id" | "version"> | undefined,
    limit: number,
  ): Promise<readonly DataKey[]>;
  /**
   * Wraps DEKs by another project key, each only when it is as it was and nobody is deleting it; returns how many.
   * Throws `KeyReplaced`.
   */
  rewrapDataKeys(writer: Writer, from: string, to: string, keys: readonly DataKeyRewrap[]): Promise<number>;
}

/** A record together with what its authenticity is judged by. */
export interface StoredPointer {
  readonly record: SecretRecord;
  readonly mac: Buffer;
  /** The highest generation that the audit rows know for this secret. */
  readonly auditedGeneration: bigint;
}
