import { createHash, type KeyObject } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import {
  type AuthorityRecord,
  type CertificateRecord,
  PkiConflict,
  type PkiStore,
  type Requester,
  type SealedKey,
} from "../ports/pki-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { certificateEntry } from "./audit-entries.ts";
import { keyIdentifierOf, type SigningCa } from "./ca-keys.ts";
import { parseCertificate, signCertificate, verifySignedBy } from "./certificate.ts";
import { encodeExtensions } from "./extension.ts";
import type { GeneralName, NameConstraints } from "./general-name.ts";
import { generateKey, type KeySpec, spkiOf } from "./key.ts";
import { lintCertificate } from "./lint/certificate.ts";
import { refuseFaults } from "./lint/refuse-faults.ts";
import { encodeName, type RdnSequence } from "./name.ts";
import { oids } from "./oid.ts";
import {
  type CertificateContents,
  certificateExtensions,
  type IssuerReferences,
  type Profile,
  type Usages,
} from "./profile.ts";
import { importPrivateKey, type KeyOwner, sealPrivateKey } from "./sealed-key.ts";
import { newSerialNumber } from "./serial.ts";
import type { PublicationUrls } from "./urls.ts";

/** A certificate that is asked for. That the issuer's policy allows it is the caller's to check. */
export interface IssueRequest {
  readonly authority: AuthorityRecord;
  readonly requester: Requester;
  readonly revision: number;
  readonly profile: Profile;
  readonly subject: RdnSequence;
  readonly subjectAltNames: readonly GeneralName[];
  readonly usages: Usages;
  readonly ca?: { readonly pathLength?: number; readonly nameConstraints?: NameConstraints };
  /** From notBefore, which lies in the past for skewed clocks; never beyond the CA's own end. */
  readonly durationMs: number;
  /** A key made here, one that only the requester has, or that of an earlier certificate of the same requester. */
  readonly key:
    | { readonly generate: KeySpec }
    /** `csr`: the request (PKCS #10, DER) that this key has signed, for a CA that is elsewhere. */
    | { readonly spki: Buffer; readonly csr?: Buffer }
    | { readonly reuse: CertificateRecord };
  /** How many revisions of the requester keep their keys; 1 when absent. */
  readonly keepKeys?: number;
  readonly actor: Actor;
}

/** How far in the past notBefore lies, so that a relying party whose clock is slow accepts the certificate at once ... */
const BACKDATE_MS = 5 * 60_000;
/** ... but no more than this part of a short validity. */
const BACKDATE_PART = 1 / 10;
/** A reservation that is found again is only signed while this part of its validity has not passed. */
const RESUMABLE_PART = 1 / 10;
/** Certificates in one CRL's scope: a full CRL with all of them revoked has about 2 MB. */
const CRL_PARTITION = 50_000;

/**
 * Issues certificates, each exactly once. A serial number is recorded before anything is signed with it, and what is
 * signed is recorded before it leaves: a crash at any point leaves at most a reservation, which the next call finishes
 * with the same serial number and key.
 */
export class Issuance {
  readonly #store: PkiStore;
  readonly #keys: KeyRing;
  readonly #urls: PublicationUrls | undefined;
  readonly #now: () => Date;
  /** Issues under way, by requester and revision: of two equal ones the second finds what the first made. */
  readonly #issuing = new Map<string, Promise<unknown>>();
  /** Certificates of each generation, counted once and then kept up: decides the CRL partition of the next one. */
  readonly #issued = new Map<string, Promise<{ count: number }>>();

  constructor(parts: {
    readonly store: PkiStore;
    readonly keys: KeyRing;
    readonly urls: PublicationUrls | undefined;
    readonly now: () => Date;
  }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#urls = parts.urls;
    this.#now = parts.now;
  }

  /** As `Authorities.issue` says, with a CA that can sign. */
  issue(writer: Writer, ca: SigningCa, request: IssueRequest): Promise<CertificateRecord> {
    return this.#alone(request, () => this.#issue(writer, ca, request));
  }

  /**
   * The private key of a certificate that was made here.
   *
   * @throws Unavailable TamperDetected also when the certificate does not certify it; PkiConflict when it is not kept
   */
  async key(writer: Writer | Unled, record: CertificateRecord): Promise<KeyObject> {
    const sealed = await this.#store.readKey(record.authorityId, record.serialNumber);
    if (sealed === undefined) throw new PkiConflict(`the key of certificate ${record.serialNumber}`);
    const key = importPrivateKey(await this.#keys.pki(writer), this.#keys.installationId, leafOwner(record), sealed);
    const { certificate } = record;
    if (certificate !== undefined && !parseCertificate(certificate).spki.equals(spkiOf(key))) {
      throw tampered(record, "does not certify its key");
    }
    return key;
  }

  /** One at a time for each revision of a requester. */
  async #alone<T>({ requester, revision }: IssueRequest, work: () => Promise<T>): Promise<T> {
    const place = `${requester.uid} ${revision}`;
    const before = this.#issuing.get(place);
    const turn = (before ?? Promise.resolve()).then(work, work);
    this.#issuing.set(place, turn);
    try {
      return await turn;
    } finally {
      if (this.#issuing.get(place) === turn) this.#issuing.delete(place);
    }
  }

  async #issue(writer: Writer, ca: SigningCa, request: IssueRequest): Promise<CertificateRecord> {
    const { requester, revision, actor } = request;
    const templateDigest = digestOf(request, ca.signer.spki);
    // What an interrupted attempt left is found by reserving, since there is hardly ever anything.
    let reserved = await this.#reserve(writer, ca, request, templateDigest);
    if (reserved.spki === undefined) {
      const { record: standing } = reserved;
      if (standing.state === "Issued") return this.#same(standing, ca, templateDigest);
      if (this.#resumable(standing, ca, templateDigest)) return this.#sign(writer, ca, request, standing);
      const audit = [certificateEntry("CertificateAbandoned", standing, actor, {})];
      await this.#store.abandon(writer, standing.authorityId, standing.serialNumber, audit);
      reserved = await this.#reserve(writer, ca, request, templateDigest);
      // Another process was faster. It led before us, and whatever it meant is found when this is asked for again.
      if (reserved.spki === undefined) throw new PkiConflict(`revision ${revision} of ${requester.name}`);
    }
    failpoint("pki.afterReserve");
    return this.#sign(writer, ca, request, reserved.record, reserved.spki);
  }

  /** What stands for the revision now; the key when it is the reservation that was made here. */
  async #reserve(
    writer: Writer,
    ca: SigningCa,
    request: IssueRequest,
    templateDigest: string,
  ): Promise<{ readonly record: CertificateRecord; readonly spki: Buffer | undefined }> {
    const { requester, revision, profile, key, actor } = request;
    const serialNumber = newSerialNumber(this.#now()).toString("hex");
    const place = { authorityId: ca.authorityId, generation: ca.generation, serialNumber };
    const wanted = {
      ...place,
      requester,
      revision,
      profile,
      templateDigest,
      ...this.#validity(ca, request.durationMs),
    };
    let spki: Buffer;
    let sealedKey: SealedKey | undefined;
    if ("spki" in key) spki = key.spki;
    else {
      const made =
        "generate" in key ? await generateKey(key.generate) : await this.#reusedKey(writer, request, key.reuse);
      spki = spkiOf(made);
      const keys = await this.#keys.pki(writer);
      sealedKey = await sealPrivateKey(writer, keys, this.#keys.installationId, leafOwner(wanted), made);
    }
    const reservation = {
      ...wanted,
      crlPartition: await this.#nextPartition(ca),
      ...(sealedKey && { sealedKey }),
    };
    const audit = [certificateEntry("CertificateReserved", wanted, actor, { authority: ca.authorityId, profile })];
    const record = await this.#store.reserve(writer, reservation, audit);
    return { record, spki: record.serialNumber === serialNumber ? spki : undefined };
  }

  async #reusedKey(writer: Writer, { requester }: IssueRequest, of: CertificateRecord): Promise<KeyObject> {
    if (of.requester.uid !== requester.uid) throw new PkiConflict(`the key of certificate ${of.serialNumber}`);
    return this.key(writer, of);
  }

  async #sign(
    writer: Writer,
    ca: SigningCa,
    request: IssueRequest,
    reserved: CertificateRecord,
    spki?: Buffer,
  ): Promise<CertificateRecord> {
    const { subject, subjectAltNames, usages, ca: asCa, keepKeys = 1, actor } = request;
    const key = spki ?? (await this.#keyOf(writer, request, reserved));
    const contents: CertificateContents = { subject, spki: key, subjectAltNames, usages, ...(asCa && { ca: asCa }) };
    // A root says nothing about its issuer (RFC 5280 4.2.1.1): that is itself.
    const references = ca.certificate === undefined ? undefined : this.#references(ca, reserved.crlPartition);
    const template = {
      serialNumber: Buffer.from(reserved.serialNumber, "hex"),
      issuer: ca.subject,
      subject: encodeName(subject),
      notBefore: reserved.notBefore,
      notAfter: reserved.notAfter,
      spki: key,
      extensions: certificateExtensions(contents, references),
    };
    const certificate = await signCertificate(template, ca.signer);
    const told = references !== undefined && references.ocspUrls.length > 0 && request.profile !== "OCSPResponder";
    const expected = { extendedKeyUsage: usages.extendedKeyUsage, ca: asCa ?? (false as const), urls: told };
    const issuer = ca.certificate?.der ?? certificate;
    refuseFaults(`certificate ${reserved.serialNumber}`, lintCertificate(certificate, { issuer, ...expected }));
    failpoint("pki.beforeComplete");
    const { authorityId, serialNumber, notAfter } = reserved;
    const details = {
      authority: authorityId,
      profile: request.profile,
      revision: request.revision,
      notAfter: notAfter.toISOString(),
    };
    const issued = await this.#store.complete(writer, {
      authorityId,
      serialNumber,
      certificate,
      keepKeys,
      audit: [certificateEntry("CertificateIssued", reserved, actor, details)],
    });
    failpoint("pki.afterComplete");
    return issued;
  }

  /** SubjectPublicKeyInfo of a reservation that was found again. */
  async #keyOf(writer: Writer, { key }: IssueRequest, reserved: CertificateRecord): Promise<Buffer> {
    return "spki" in key ? key.spki : spkiOf(await this.key(writer, reserved));
  }

  /** The certificate that is there already, if it is the one that was asked for. */
  #same(standing: CertificateRecord, ca: SigningCa, templateDigest: string): CertificateRecord {
    const { serialNumber, certificate, requester, revision } = standing;
    if (standing.templateDigest !== templateDigest || standing.authorityId !== ca.authorityId) {
      throw new PkiConflict(`revision ${revision} of ${requester.name}`);
    }
    if (certificate === undefined) throw tampered(standing, "is gone");
    const parsed = parseCertificate(certificate);
    const ours =
      parsed.serialNumber.toString("hex") === serialNumber &&
      (standing.generation !== ca.generation || verifySignedBy(parsed, ca.signer.spki));
    if (!ours) throw tampered(standing, "is another one");
    return standing;
  }

  #resumable(reserved: CertificateRecord, ca: SigningCa, templateDigest: string): boolean {
    const { authorityId, generation, notBefore, notAfter } = reserved;
    const validity = notAfter.getTime() - notBefore.getTime();
    const used = this.#now().getTime() - notBefore.getTime() - backdate(validity);
    return (
      reserved.templateDigest === templateDigest &&
      authorityId === ca.authorityId &&
      generation === ca.generation &&
      used < validity * RESUMABLE_PART
    );
  }

  /** Whole seconds, as certificates have them; both ends belong to the validity (RFC 5280 4.1.2.5). */
  #validity({ certificate: above }: SigningCa, durationMs: number): Pick<CertificateRecord, "notBefore" | "notAfter"> {
    const start = Math.floor((this.#now().getTime() - backdate(durationMs)) / 1000) * 1000;
    const end = start + Math.floor(durationMs / 1000) * 1000 - 1000;
    return {
      notBefore: new Date(Math.max(start, above?.notBefore.getTime() ?? start)),
      notAfter: new Date(Math.min(end, above?.notAfter.getTime() ?? end)),
    };
  }

  #references(ca: SigningCa, partition: number): IssuerReferences {
    const { authorityId, generation } = ca;
    const urls = this.#urls;
    return {
      keyIdentifier: keyIdentifierOf(ca),
      crlUrls: urls === undefined ? [] : [urls.crl({ authorityId, generation, partition })],
      ocspUrls: urls === undefined ? [] : [urls.ocsp],
      caIssuersUrls: urls === undefined ? [] : [urls.caCertificate(authorityId, generation)],
    };
  }

  /** A certificate that does not say where its CRL is belongs to the one that covers them all. */
  async #nextPartition({ authorityId, generation }: SigningCa): Promise<number> {
    if (this.#urls === undefined) return 0;
    const place = `${authorityId} ${generation}`;
    let counting = this.#issued.get(place);
    if (counting === undefined) {
      counting = this.#store.countCertificates(authorityId, generation).then((count) => ({ count }));
      this.#issued.set(place, counting);
      counting.catch(() => this.#issued.delete(place));
    }
    const issued = await counting;
    issued.count += 1;
    return Math.floor((issued.count - 1) / CRL_PARTITION);
  }
}

const backdate = (validityMs: number): number => Math.min(BACKDATE_MS, validityMs * BACKDATE_PART);

const tampered = ({ serialNumber }: CertificateRecord, what: string): Unavailable =>
  new Unavailable("TamperDetected", `certificate ${serialNumber} ${what}; see the runbook`);

export const leafOwner = ({
  requester,
  revision,
  authorityId,
  serialNumber,
  templateDigest,
}: Pick<
  CertificateRecord,
  "requester" | "revision" | "authorityId" | "serialNumber" | "templateDigest"
>): KeyOwner => ({
  kind: "Certificate",
  namespace: requester.namespace,
  namespaceUid: requester.namespaceUid,
  name: requester.name,
  id: requester.uid,
  number: revision,
  bound: [requester.kind, authorityId, serialNumber, templateDigest],
});

/**
 * Of everything that the requester decides; URLs and times are the installation's.
 *
 * @param anyKey a SubjectPublicKeyInfo
 */
export function digestOf(request: IssueRequest, anyKey: Buffer): string {
  const { authority, requester, profile, subject, subjectAltNames, usages, ca, durationMs, key } = request;
  // The key goes in by itself, and may not be made yet: any does to write the other extensions.
  const contents = { subject, spki: anyKey, subjectAltNames, usages, ...(ca && { ca }) };
  const extensions = certificateExtensions(contents).filter(({ oid }) => oid !== oids.subjectKeyIdentifier);
  const wantedKey =
    "spki" in key
      ? key.spki
      : "reuse" in key
        ? `${key.reuse.authorityId} ${key.reuse.serialNumber}`
        : JSON.stringify([key.generate.algorithm, "size" in key.generate ? key.generate.size : 0]);
  const fields = encodeFields("mazevault certificate request", [
    authority.id,
    requester.kind,
    requester.namespace,
    requester.namespaceUid,
    requester.name,
    profile,
    encodeName(subject),
    encodeExtensions(extensions),
    durationMs,
    wantedKey,
  ]);
  return createHash("sha256").update(fields).digest("hex");
}
