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
  | "VaultEntryWritten"
  | "VaultEntryRecovered"
  | "KeyCreated"
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
  | "CrlPublished";

/**
 * A controller sees objects, not people: the actor of a change through Kubernetes is the object's UID and generation;
 * the person stands in the API server's audit log.
 */
export type Actor =
  | { readonly kind: "Object"; readonly resource: string; readonly uid: string; readonly generation: number }
  | { readonly kind: "Controller"; readonly name: string };

export interface AuditSubject {
  readonly kind: "Secret" | "Key" | "VaultEntry" | "Workload" | "Installation" | "Authority" | "Certificate";
  /**
   * Id of the secret, key or authority row, serial number of a certificate, UID of an object; generation of its pointer
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
  /** Recomputes MACs and the chain; the first bad row, or how many rows and the head are good. */
  verify(): Promise<AuditVerdict>;
}

export type AuditVerdict =
  | { readonly ok: true; readonly linked: number; readonly unlinked: number; readonly head: string }
  | { readonly ok: false; readonly row: bigint; readonly fault: "macDiffers" | "chainBroken" | "rowMissing" };
