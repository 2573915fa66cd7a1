/**
 * What the OCSP process sees of the database, under its own role: which serial numbers were issued and which of them are
 * revoked, CRLs and CA certificates, and its own requests for delegated responder certificates. No key, no envelope, and
 * nothing that it could change. Errors: `Unavailable("DatabaseUnavailable")`.
 */
import type { CrlKey, Revocation, StoredCrl } from "./pki-store.ts";

/** A CA generation that has a certificate. */
export interface OcspAuthority {
  readonly authorityId: string;
  readonly generation: number;
  /** DER of the Name, of the SubjectPublicKeyInfo, of the certificate. */
  readonly subject: Buffer;
  readonly spki: Buffer;
  readonly certificate: Buffer;
  /** From thisUpdate to nextUpdate, in milliseconds. */
  readonly ocspValidityMs: number;
}

/** A serial number that was issued. */
export interface OcspCertificate {
  readonly authorityId: string;
  readonly generation: number;
  /** Lower-case hex, as in `CertificateRecord`. */
  readonly serialNumber: string;
  readonly notAfter: Date;
  /** Which of its CA's CRLs tells about it. */
  readonly partition: number;
  /** Undefined: good. `certificateHold` is a revocation too (RFC 6960, section 2.2). */
  readonly revocation?: Revocation;
}

/** Hands out every change at least once, in no particular order; the state in each row is the current one. */
export interface OcspChanges {
  readonly certificates: readonly OcspCertificate[];
  /** Where the next `changes` begins. */
  readonly next: OcspPosition;
  /** Whether more is to be read at once. */
  readonly more: boolean;
}

/**
 * Where a reader stands. Transactions become visible in another order than they are numbered in, so a round begins again
 * at the oldest transaction that was still running when the round before began (`from`): what is read twice is the price
 * for missing nothing.
 */
export interface OcspPosition {
  readonly from: bigint;
  /** Within a round: the last row that was read, and where the next round begins. */
  readonly round?: {
    readonly transaction: bigint;
    readonly authorityId: string;
    readonly serialNumber: string;
    readonly nextFrom: bigint;
  };
}

export interface OcspStore {
  /** All of them: there are few. */
  authorities(): Promise<readonly OcspAuthority[]>;
  /** At most `limit` rows; without a position from the beginning. Expired certificates are handed out too. */
  changes(after: OcspPosition | undefined, limit: number): Promise<OcspChanges>;
  /** Which CRLs are in force, without their DER. */
  crls(): Promise<readonly Omit<StoredCrl, "covers" | "der">[]>;
  crl(key: CrlKey): Promise<Omit<StoredCrl, "covers"> | undefined>;
  /** Asks the leader for a certificate; `id` is a UUID of the caller's, `csr` the DER of a PKCS #10 request. */
  requestResponder(request: {
    readonly id: string;
    readonly authorityId: string;
    readonly generation: number;
    readonly csr: Buffer;
  }): Promise<void>;
  /** DER of the certificate. Gone: the request was not answered in time and is forgotten; ask anew. */
  responder(id: string): Promise<Buffer | "Pending" | "Gone">;
}
