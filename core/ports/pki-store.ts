/**
 * Where certification authorities, the certificates they issued, their CRLs and what the OCSP responders ask for are
 * kept. The platform's store is PostgreSQL; `fake-pki-store.ts` is the in-memory fake, and both pass
 * `pki-store.contract.ts`.
 *
 * Contract, common to all methods:
 * - Acknowledged means durable: a resolved promise survives a kill of every process.
 * - Every method that writes takes a `Writer`. If its epoch is over, nothing changes and `Fenced` is thrown, also when
 *   the epoch ends while the write is under way.
 * - Every write inserts its audit rows in the same transaction, or does not happen at all. Where a method says that it
 *   returns what stands there already, a call that changed nothing inserts no audit rows either.
 * - A write that does not fit what is stored changes nothing and throws `Conflict`: read again and decide anew.
 * - When the store cannot be reached: `Unavailable("DatabaseUnavailable")`.
 * - Times have milliseconds; the store neither rounds nor judges them.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { DeliveryRecord, Writer } from "./vault-store.ts";

/** Whose CA it is. An issuer object that is deleted and applied again finds its CA again; a re-created namespace does not. */
export interface AuthorityIdentity {
  /** Installation: it belongs to no object, as the fleet's; nobody can ask it for anything by a manifest. */
  readonly kind: "Issuer" | "ClusterIssuer" | "Installation";
  /** Empty for all but an Issuer, and so is its UID. */
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
}

/** Active: issues. Retired: its object is gone; it issues nothing, and its CRL and OCSP answers go on. */
export type AuthorityState = "Active" | "Retired";

/** How its revocations are published. It stands here, since a retired CA has no object that could say it. */
export interface RevocationSettings {
  /** From one CRL to the next, in milliseconds; nextUpdate is half of it later. */
  readonly crlEveryMs: number;
  /** From thisUpdate to nextUpdate of an OCSP answer, in milliseconds. */
  readonly ocspValidityMs: number;
}

/** A private key (PKCS #8, DER) sealed under a data key of its own. Both buffers: nonce (12 bytes), ciphertext, tag (16). */
export interface SealedKey {
  /** The data key, wrapped by the PKI key `keyId`. */
  readonly wrappedKey: Buffer;
  readonly keyId: string;
  readonly ciphertext: Buffer;
}

/** One key of a CA and its certificate; the one with the highest number signs. */
export interface AuthorityGeneration {
  /** From 1. */
  readonly number: number;
  /** DER of the Name; octet for octet the issuer of what it signs. */
  readonly subject: Buffer;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** DER; undefined until its parent has signed it. */
  readonly certificate?: Buffer;
  /** Of the certificate. */
  readonly notAfter?: Date;
  /** DER of the certificates above it up to its root, nearest first; empty for a root. */
  readonly chain: readonly Buffer[];
  /** Absent where the authority's key is at the primary. */
  readonly sealedKey?: SealedKey | undefined;
  readonly createdAt: Date;
}

export interface AuthorityRecord {
  /** UUID; appears in the URLs of its CRL, certificate and OCSP. */
  readonly id: string;
  readonly identity: AuthorityIdentity;
  readonly state: AuthorityState;
  readonly revocation: RevocationSettings;
  /** Of a gateway: the name of the primary's ClusterIssuer that signs. CRLs and OCSP answers are the primary's, too. */
  readonly primaryIssuer?: string;
  /** At least one, oldest first. */
  readonly generations: readonly AuthorityGeneration[];
}

export interface NewAuthority {
  readonly id: string;
  readonly identity: AuthorityIdentity;
  readonly revocation: RevocationSettings;
  /** Then the generation has no key. */
  readonly primaryIssuer?: string;
  readonly generation: Pick<AuthorityGeneration, "subject" | "spki" | "sealedKey">;
  readonly audit: readonly AuditEntry[];
}

/**
 * Who asked for a certificate. `uid` is the object's, or the id of the authority, responder row, gateway or, of a replica that
 * serves gateways, request that it is for. GatewayObject: an object in the cluster of a gateway, by the id of the request; its name is
 * that of the gateway, then kind, namespace and name there, such as gw-npr-1/Certificate/shop/web, and `namespaceUid` is the gateway's id.
 */
export interface Requester {
  readonly kind:
    | "Certificate"
    | "CertificateRequest"
    | "Authority"
    | "Responder"
    | "Gateway"
    | "Replica"
    | "GatewayObject";
  /** Empty for what belongs to no namespace of this cluster, and so is its UID. */
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
  readonly uid: string;
}

/**
 * Reserved: the serial number is taken and the key is made; whether it was signed is not known, and nothing has left.
 * Issued: signed. Abandoned: reserved and given up, because something else was asked for before it was signed; its
 * serial number is never used again and its revision is free.
 */
export type CertificateState = "Reserved" | "Issued" | "Abandoned";

/** CRLReason of RFC 5280, section 5.3.1, as far as it makes sense for a full CRL and in answers about end entities. */
export type RevocationReason =
  | "unspecified"
  | "keyCompromise"
  | "cACompromise"
  | "affiliationChanged"
  | "superseded"
  | "cessationOfOperation"
  | "certificateHold"
  | "privilegeWithdrawn"
  | "aACompromise";

export interface Revocation {
  /** When it was revoked or first put on hold. */
  readonly at: Date;
  readonly reason: RevocationReason;
  /** Since when the key is known or suspected to be compromised (RFC 5280, section 5.3.2). */
  readonly invalidityDate?: Date;
}

/** Authenticates a status; the store keeps it and does not judge it. */
export interface StatusSeal {
  /** How often the certificate was revoked, put on hold or released: from 1, one more each time. */
  readonly generation: bigint;
  /** HMAC-SHA-256, 32 bytes. */
  readonly mac: Buffer;
}

export interface CertificateRecord {
  readonly authorityId: string;
  /** Generation of the authority that signs it. */
  readonly generation: number;
  /** Lower-case hex without separators, of the content octets of the INTEGER. Unique in the authority. */
  readonly serialNumber: string;
  readonly state: CertificateState;
  readonly requester: Requester;
  /** From 1; a requester has one certificate for each. */
  readonly revision: number;
  readonly profile: string;
  /** Of everything that was asked for, 64 hex digits: equal means that this certificate is the answer. */
  readonly templateDigest: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Which of the authority's CRLs tells about it, from 0; decided with the reservation, as its URL is signed. */
  readonly crlPartition: number;
  /** DER, once Issued. */
  readonly certificate?: Buffer;
  /** Whether the private key was made here and is still kept. */
  readonly hasKey: boolean;
  readonly revocation?: Revocation;
  /** Of its status; absent as long as that never changed. */
  readonly seal?: StatusSeal;
  /** The highest generation of its status that the audit rows know; absent: none. */
  readonly auditedStatus?: bigint;
}

export interface Reservation
  extends Omit<CertificateRecord, "state" | "certificate" | "hasKey" | "revocation" | "seal" | "auditedStatus"> {
  /** Where the private key is made here. */
  readonly sealedKey?: SealedKey;
}

export interface Completion {
  readonly authorityId: string;
  /** Of the reservation. */
  readonly serialNumber: string;
  readonly certificate: Buffer;
  /** Where the primary has signed: what it chose in the place of what was reserved, and the key sealed for that. */
  readonly chosen?: Pick<CertificateRecord, "serialNumber" | "notBefore" | "notAfter"> & {
    readonly sealedKey?: SealedKey;
  };
  /** Keys of the requester's revisions that are older than the newest `keepKeys` are deleted; at least 1. */
  readonly keepKeys: number;
  readonly audit: readonly AuditEntry[];
}

/** What must be known of an object that has certificates, also when it disappeared while nobody watched. */
export interface CertificateHolder {
  readonly kind: "Certificate" | "CertificateRequest";
  /** UID of the object. */
  readonly uid: string;
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
  /** Revoke: its certificates are revoked when the object is gone. */
  readonly deletionPolicy: "Retain" | "Revoke";
  /** How many of its revisions stay on record after their end; absent: as long as those of everybody. */
  readonly revisionHistoryLimit?: number;
  /** `version` is the revision that was delivered. */
  readonly delivery?: DeliveryRecord;
}

export interface CrlKey {
  readonly authorityId: string;
  readonly generation: number;
  readonly partition: number;
}

/** The CRL in force. */
export interface StoredCrl extends CrlKey {
  /** CRLNumber of RFC 5280, section 5.2.3: from 1, one more with each CRL of this key. */
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly der: Buffer;
  /** As it was read in `CrlWork` before the entries were. */
  readonly covers: bigint;
}

/** What the next CRL of a key is made from. */
export interface CrlWork extends CrlKey {
  /** How often something was revoked or released; read before the entries, so that one that comes later is not lost. */
  readonly covers: bigint;
  /** The one in force, without its DER. */
  readonly last?: Pick<StoredCrl, "number" | "thisUpdate" | "nextUpdate">;
}

export interface RevokedEntry {
  readonly serialNumber: string;
  readonly revocation: Revocation;
}

/** Whether a certificate is revoked, with all by which that is judged. */
export type CertificateStatus = Pick<
  CertificateRecord,
  "authorityId" | "generation" | "crlPartition" | "serialNumber" | "notAfter" | "revocation" | "seal" | "auditedStatus"
>;

/** A responder's wish for a delegated certificate (RFC 6960, section 4.2.2.2). The responder wrote it: not to be trusted. */
export interface ResponderRequest {
  readonly id: string;
  readonly authorityId: string;
  readonly generation: number;
  /** DER of a PKCS #10 request; only its key counts, and only if its signature holds. */
  readonly csr: Buffer;
  readonly requestedAt: Date;
}

/** When certificates have ended for long enough to be removed. */
export interface PurgeTimes {
  readonly now: Date;
  /** Whose end lies before this is removed ... */
  readonly endedBefore: Date;
  /** ... and whose end lies before this if it is a revision beyond its holder's limit; never before `endedBefore`. */
  readonly surplusEndedBefore: Date;
}

/** What was decided on is not what is stored any more; read again and decide anew. */
export class PkiConflict extends Error {
  constructor(what: string) {
    super(`${what} was changed by another writer`);
    this.name = "PkiConflict";
  }
}

export interface PkiStore {
  findAuthority(identity: AuthorityIdentity): Promise<AuthorityRecord | undefined>;
  authority(id: string): Promise<AuthorityRecord | undefined>;
  /** Of whichever namespace UID; ordered by id. */
  authoritiesNamed(
    kind: AuthorityIdentity["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly AuthorityRecord[]>;
  /** All authorities, in pages by id, at most `limit` each. */
  listAuthorities(after: string | undefined, limit: number): Promise<readonly AuthorityRecord[]>;
  /** Inserts unless an authority of that identity exists; returns the one that now stands there. */
  createAuthority(writer: Writer, authority: NewAuthority): Promise<AuthorityRecord>;
  /**
   * The certificate of a generation that has none, or the one in the place of `replaces`, over the same key. The same
   * again changes nothing; when another one stands there, `PkiConflict`.
   */
  installCertificate(
    writer: Writer,
    installed: {
      readonly authorityId: string;
      readonly generation: number;
      readonly certificate: Buffer;
      readonly notAfter: Date;
      readonly chain: readonly Buffer[];
      /** DER of the certificate that stands there; absent: none does. */
      readonly replaces?: Buffer;
      readonly audit: readonly AuditEntry[];
    },
  ): Promise<void>;
  /** State and settings. */
  changeAuthority(
    writer: Writer,
    change: {
      readonly id: string;
      readonly state: AuthorityState;
      readonly revocation: RevocationSettings;
      readonly audit: readonly AuditEntry[];
    },
  ): Promise<void>;

  /**
   * Takes the serial number, before anything is signed. When the requester has a certificate of that revision that is
   * Reserved or Issued already, that one is returned, whatever was asked for: compare serial number and digest.
   * `PkiConflict` when the authority lacks the generation, when it is Retired and not asked by a responder, or when the
   * serial number is taken.
   */
  reserve(writer: Writer, reservation: Reservation, audit: readonly AuditEntry[]): Promise<CertificateRecord>;
  /** Gives a reservation up, and deletes its key. `PkiConflict` when it is not Reserved. */
  abandon(writer: Writer, authorityId: string, serialNumber: string, audit: readonly AuditEntry[]): Promise<void>;
  /**
   * Reserved becomes Issued, under the serial number that was chosen, if one was. When it is Issued already, that one is returned;
   * `PkiConflict` when it is neither.
   */
  complete(writer: Writer, completion: Completion): Promise<CertificateRecord>;
  certificate(authorityId: string, serialNumber: string): Promise<CertificateRecord | undefined>;
  /** What stands for this revision, Reserved or Issued. */
  certificateFor(requesterUid: string, revision: number): Promise<CertificateRecord | undefined>;
  /** Issued to this requester, newest revision first, at most `limit`. */
  certificatesOf(requesterUid: string, limit: number): Promise<readonly CertificateRecord[]>;
  /** Issued to this requester with that serial number, by whichever authority. */
  certificatesBySerial(requesterUid: string, serialNumber: string): Promise<readonly CertificateRecord[]>;
  /** Undefined when the key was not made here or is no longer kept. */
  readKey(authorityId: string, serialNumber: string): Promise<SealedKey | undefined>;

  /**
   * Revokes an Issued certificate. A certificate on hold gets the new reason and keeps the time; one that is revoked for
   * good, or on hold already, stays as it is. Returns whether anything changed. `PkiConflict` when it is not Issued, or
   * when the generation of its status is not the one before the seal's.
   */
  revoke(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    revocation: Revocation,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean>;
  /** Ends a hold; returns whether it was on hold. `PkiConflict` as with `revoke`. */
  release(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean>;
  /** Revoked without a seal, though the audit record says that it was revoked; at most `limit`. */
  unsealed(limit: number): Promise<readonly CertificateRecord[]>;
  /** The seal of a revocation that has none; nothing happens where there is one. */
  seal(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<void>;

  /**
   * Certificates that ended long ago, in whatever state, oldest end first, at most `limit`. Of a Certificate object the newest one
   * that was issued stays, as the next revision is counted from it, and so do revoked ones, as its manifest may go on listing
   * them. Any other revoked one stays until a CRL was made beyond its end, or its CA has ended too (RFC 5280, section 3.3).
   */
  listPurgeable(times: PurgeTimes, limit: number): Promise<readonly CertificateStatus[]>;
  /**
   * Removes certificates of one authority for good. `PkiConflict` when one of them is gone, must stay by now, or has another
   * generation of its status than `statuses` says.
   */
  purge(
    writer: Writer,
    certificates: {
      readonly authorityId: string;
      readonly statuses: readonly CertificateStatus[];
      readonly times: PurgeTimes;
      readonly audit: readonly AuditEntry[];
    },
  ): Promise<void>;

  /** All certificates, in whatever state, in pages by authority and serial number, at most `limit` each. */
  listCertificates(
    after: Pick<CertificateRecord, "authorityId" | "serialNumber"> | undefined,
    limit: number,
  ): Promise<readonly CertificateRecord[]>;

  /** Certificates that an authority's generation ever had, in whatever state, also those that were purged. */
  countCertificates(authorityId: string, generation: number): Promise<number>;

  findHolder(uid: string): Promise<CertificateHolder | undefined>;
  /** Of the object of that name and of former ones, of whichever namespace UID; ordered by uid. */
  holdersNamed(kind: CertificateHolder["kind"], namespace: string, name: string): Promise<readonly CertificateHolder[]>;
  /** All holders, in pages by uid, at most `limit` each. */
  listHolders(after: string | undefined, limit: number): Promise<readonly CertificateHolder[]>;
  /** Inserts, or replaces deletion policy and limit; the delivery stays. Not audited: nothing has happened to a certificate. */
  recordHolder(writer: Writer, holder: Omit<CertificateHolder, "delivery">): Promise<void>;
  /** `PkiConflict` when there is no such holder. */
  recordDelivery(
    writer: Writer,
    uid: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** The object is gone: its leaf keys are deleted with the holder, its certificates stay. */
  removeHolder(writer: Writer, uid: string, audit: readonly AuditEntry[]): Promise<void>;

  /**
   * CRLs that are to be made: of generations with a certificate that has not expired, where there is none yet, where something was revoked or
   * released since the one in force, or where `crlEveryMs` has passed since its thisUpdate. Oldest first, at most
   * `limit`. Partition 0 of a generation always exists, another one from its first issued certificate on.
   */
  listDueCrls(now: Date, limit: number): Promise<readonly CrlWork[]>;
  /** As `listDueCrls` tells, whether due or not; undefined when there is no such partition. */
  crlWork(key: CrlKey): Promise<CrlWork | undefined>;
  /**
   * Certificates in the scope of this CRL that are revoked, held or released, in pages by serial number: those that had not
   * ended before the last one was made, so that each appears on one CRL beyond its notAfter (RFC 5280, section 3.3).
   */
  changedStatuses(
    key: CrlKey,
    unexpiredAt: Date,
    after: string | undefined,
    limit: number,
  ): Promise<readonly CertificateStatus[]>;
  /** How many certificates of an authority have a seal, and how many must have one by the audit rows, at one moment. */
  countStatuses(authorityId: string): Promise<{ readonly sealed: number; readonly audited: number }>;
  /** Whether the audit rows say that a certificate which had a seal was purged. */
  wasPurged(authorityId: string, serialNumber: string): Promise<boolean>;
  /** Replaces the CRL in force. `PkiConflict` when its number is not one more than that one's (1 for the first). */
  publishCrl(writer: Writer, crl: StoredCrl, audit: readonly AuditEntry[]): Promise<void>;
  crl(key: CrlKey): Promise<StoredCrl | undefined>;

  /** Unanswered requests that are not older than `since`, oldest first, at most `perAuthority` for each authority. */
  pendingResponders(since: Date, perAuthority: number): Promise<readonly ResponderRequest[]>;
  /** How many responder certificates were issued for each authority since then; authorities without any are left out. */
  respondersSince(since: Date): Promise<ReadonlyMap<string, number>>;
  /** Hands a responder its certificate; the certificate's own audit row was written when it was issued. */
  answerResponder(
    writer: Writer,
    id: string,
    answer: { readonly certificate: Buffer; readonly notAfter: Date },
  ): Promise<void>;
  /** Deletes requests whose certificate has expired, and unanswered ones from before `unansweredBefore`; how many. */
  forgetResponders(writer: Writer, now: Date, unansweredBefore: Date): Promise<number>;
}
