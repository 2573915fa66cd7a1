import type { ChainHead, LinkedRow, RecordedRow } from "../audit/chain.ts";
import type { Checkpoint } from "../audit/checkpoint.ts";
import type { Cut } from "../audit/cut.ts";
import type { Anchor } from "../audit/verification.ts";

/**
 * The audit record. Entries are inserted in the transaction of the change they describe; a linker joins them into one
 * hash chain afterwards, so that business transactions do not wait for each other.
 */

/** What was done. `subject` names the object (`Secret payments/orders-db`), never a value. */
export interface AuditEntry {
  readonly action: AuditAction;
  readonly actor: Actor;
  readonly subject: AuditSubject;
  readonly outcome: "Success" | "Denied" | "Failure";
  /** Names, numbers and reasons that help an auditor; never a value. */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

export type AuditAction =
  | "AccessDenied"
  | "ObjectChangeRequested"
  | "AuditRecordForked"
  | "AuditRowsRemoved"
  | "ClusterChosen"
  | "DatabaseRestored"
  | "ObjectAwaited"
  | "ObjectRebound"
  | "RecoverySettled"
  | "SecretVersionCreated"
  | "SecretRead"
  | "SecretDelivered"
  | "SecretDeliveryRemoved"
  | "SecretSoftDeleted"
  | "SecretRetained"
  | "SecretRecovered"
  | "SecretPurged"
  | "SecretVersionExpired"
  | "SecretLifecycleChanged"
  | "SecretRotationChanged"
  | "SecretRotated"
  | "SecretRotationRequested"
  | "SecretVersionDiscarded"
  | "SecretConsumptionConfirmed"
  | "SecretFormerEnded"
  | "VaultEntryWritten"
  | "VaultEntryRecovered"
  | "VaultEntryDeleted"
  | "VaultEntryPurged"
  | "VaultCallRequested"
  | "SyncPlanReleased"
  | "SyncConflictFound"
  | "SyncConflictDecided"
  | "SyncConflictEnded"
  | "KeyCreated"
  | "KeyRetired"
  | "KeyRotated"
  | "KeysRewrapped"
  | "WorkloadRestarted"
  | "LeadershipTaken"
  | "AuthorityCreated"
  | "AuthorityRequested"
  | "AuthorityCertified"
  | "AuthorityChanged"
  | "CertificateReserved"
  | "CertificateAbandoned"
  | "CertificateIssued"
  | "CertificateKeyRead"
  | "CertificateDelivered"
  | "CertificateAdopted"
  | "CertificateDeliveryRemoved"
  | "CertificateRevoked"
  | "CertificateReleased"
  | "CertificateStatusSealed"
  | "CertificateHolderRemoved"
  | "CertificatePurged"
  | "CertificatesPurged"
  | "CrlPublished"
  | "LoginSucceeded"
  | "LoginFailed"
  | "LoggedOut"
  | "SessionRevoked"
  | "RefreshReplayed"
  | "UserCreated"
  | "UserChanged"
  | "UserRemoved"
  | "ApiKeyCreated"
  | "ApiKeyRevoked"
  | "GatewayTokenIssued"
  | "GatewayTokenRefused"
  | "GatewayRegistered"
  | "GatewayConfirmed"
  | "GatewayRevoked"
  | "EnvironmentPaired"
  | "EnvironmentReleased"
  | "EnvironmentRestored"
  | "FailoverRequested"
  | "FailoverBegun"
  | "FailoverFenced"
  | "FailoverCompleted"
  | "FailoverRefused"
  | "GatewayWriteRefused"
  | "MembershipChanged"
  | "ReplicaChanged"
  | "ReplicaWiped"
  | "WriteQueued"
  | "WriteSettled"
  | "WritesRequeued"
  | "GatewaySigningRefused";

/**
 * A controller sees objects, not people: the actor of a change through Kubernetes is the object's UID and generation;
 * the person stands in the API server's audit log. Through REST it is the subject that was authenticated
 * (`LocalUser alice@example.com`), by what, and the id of its session or key.
 */
export type Actor =
  | { readonly kind: "Object"; readonly resource: string; readonly uid: string; readonly generation: number }
  | { readonly kind: "Controller"; readonly name: string }
  /** Somebody who came through REST, such as `LocalUser alice@example.com`, and how: by which session, key or token. */
  | {
      readonly kind: "Subject";
      readonly subject: string;
      readonly via: string;
      readonly session: string;
      readonly address?: string;
      /** Binds what is put on record to an attempt at a request, see `RequestStore`; not part of the record. */
      readonly attempt?: string;
    };

export interface AuditSubject {
  readonly kind:
    | "Secret"
    | "Key"
    | "VaultEntry"
    | "Workload"
    | "Installation"
    | "Authority"
    | "Certificate"
    | "User"
    | "Session"
    | "ApiKey"
    | "Gateway"
    | "GatewayEnvironment"
    // What a refused request was about.
    | "Audit"
    | "Identity"
    | "Issuer"
    | "Project"
    | "SyncRule";
  /**
   * Id of the row of a secret, key, authority, user, session, API key or gateway, name of an environment, serial number of a certificate, UID of an object; generation of its pointer
   * or status after the change, where it has one.
   */
  readonly id: string;
  readonly generation?: bigint;
  readonly name: string;
}

export interface AuditLog {
  /** Entries for reads and effects outside the store; resolves when they are durable. Batched by the adapter. */
  append(entries: readonly AuditEntry[]): Promise<void>;
  /** Joins unlinked rows into the chain, in the order of their sequence; returns how many. Leader only. */
  link(epoch: bigint, limit: number): Promise<number>;
  /**
   * Signs the head of the chain where that is due, when something was linked; at once when the key that signs was
   * replaced, or when the database turns out to be a restored one, which is put on record. Leader only. Throws
   * `Unavailable("TamperDetected")` when the record is not what the last checkpoint says.
   */
  checkpoint(epoch: bigint, due: CheckpointDue): Promise<Checkpoint | undefined>;
  /**
   * Removes rows behind a checkpoint that was signed before a time and that every sink has, and puts that on record; a bounded
   * number of them. undefined when nothing may go: there is nothing so old, a sink lacks it, or there is no sink. Leader only.
   * Throws `Unavailable("TamperDetected")` when what is to be removed does not verify.
   */
  cut(epoch: bigint, before: Date): Promise<Cut | undefined>;
  /** Recomputes MACs, chain and signatures; the first fault, or how far the record is good. */
  verify(options?: VerifyOptions): Promise<AuditVerdict>;
  /**
   * Rows that match, at most `limit`; `after` is the sequence number of the last one seen, or its position where the filter
   * asks for those in the chain.
   */
  read(filter: AuditFilter, after: bigint | undefined, limit: number): Promise<readonly RecordedRow[]>;
  /** Where the chain ends. */
  head(): Promise<ChainHead>;
  /** Linked rows behind a position, in the order of the chain; behind the cut when that is further on. */
  chain(after: bigint, limit: number): Promise<readonly LinkedRow[]>;
  /** Checkpoints behind a number, in their order; where the record was cut they begin there. */
  checkpoints(after: bigint, limit: number): Promise<readonly Checkpoint[]>;
  /** The last checkpoint at or below a position. */
  lastCheckpoint(upTo: bigint): Promise<Checkpoint | undefined>;
  /** What is stored as the statement by which the record was cut last; whether it was signed is for the caller to see. */
  lastCut(): Promise<Cut | undefined>;
}

/** A checkpoint is signed when so many rows were linked since the last one, or some were and so much time has passed. */
export interface CheckpointDue {
  readonly rows: number;
  readonly ms: number;
}

export interface VerifyOptions {
  /** Places of the chain that were kept outside of the database: what a sink's receiver has, or an export said. */
  readonly anchors?: readonly Omit<Anchor, "external">[];
  /** Told now and then how many rows were looked at, and how many are linked. */
  readonly onProgress?: (rows: number, linked: number) => void;
}

/** What is absent matches everything. */
export interface AuditFilter {
  readonly action?: AuditAction;
  /** Subject, name or UID of who did it. */
  readonly actor?: string;
  readonly subject?: { readonly kind?: AuditSubject["kind"]; readonly id?: string; readonly name?: string };
  readonly outcome?: AuditEntry["outcome"];
  /** Not before. */
  readonly from?: Date;
  /** Before. */
  readonly to?: Date;
  /** `OldestFirst` when absent. */
  readonly order?: "NewestFirst" | "OldestFirst";
  /**
   * Only rows that are in the chain, in its order. A sequence number is drawn before its row commits, so that a row can come
   * in between others that were read already; behind a position nothing does.
   */
  readonly linked?: boolean;
}

export type AuditFault =
  | "anchorMissed"
  | "chainBroken"
  | "checkpointDiffers"
  | "checkpointForged"
  | "checkpointMissing"
  | "countersDiffer"
  | "cutForged"
  | "headForged"
  | "headOlder"
  | "keptDiffer"
  | "macDiffers"
  | "rowMissing";

export type AuditVerdict =
  | {
      readonly ok: true;
      readonly linked: number;
      readonly unlinked: number;
      /** Hex. */
      readonly head: string;
      readonly checkpoints: number;
      /** Position of the last checkpoint; 0 when there is none. */
      readonly signedTo: number;
      /** Position of the last external anchor; 0 when none was given: later rows may have been cut off unnoticed. */
      readonly anchoredTo: number;
      /** Position up to which rows were removed because their time was over; absent when none were. */
      readonly removedTo?: number;
      /** Counters of writers that no row has: transactions that were rolled back, or rows deleted before they were linked. */
      readonly missingNumbers: number;
    }
  | {
      readonly ok: false;
      /** Sequence number of the first bad row; position where a row is missing, or where the chain differs. */
      readonly row: bigint;
      readonly fault: AuditFault;
      /** The checkpoint that shows it. */
      readonly checkpoint?: bigint;
    };
