import { createHmac, type KeyObject, randomUUID } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Stalled, Unavailable, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditLog } from "../ports/audit-log.ts";
import {
  type AuthorityGeneration,
  type AuthorityIdentity,
  type AuthorityRecord,
  type AuthorityState,
  type CertificateRecord,
  type CertificateStatus,
  PkiConflict,
  type PkiStore,
  type Revocation,
  type RevocationSettings,
} from "../ports/pki-store.ts";
import type { PrimaryCa } from "../ports/primary-ca.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { authorityEntry, certificateEntry } from "./audit-entries.ts";
import { CaKeys, type SigningCa } from "./ca-keys.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { createCsr } from "./csr.ts";
import { isInstalled, judgeExternal } from "./external-ca.ts";
import type { NameConstraints } from "./general-name.ts";
import { Issuance, type IssueRequest } from "./issuance.ts";
import { generateKey, type KeySpec, keySpecOf, readPublicKey, spkiOf } from "./key.ts";
import { encodeName, nameToString, parseName, type RdnSequence } from "./name.ts";
import { judgePrimaryChain } from "./primary-chain.ts";
import { PrimaryIssuance } from "./primary-issuance.ts";
import { certificateExtensions, profiles } from "./profile.ts";
import { judgeStatus, sealStatus, tampered } from "./status.ts";
import type { PublicationUrls } from "./urls.ts";

/** The CA that an issuer object asks for. */
export interface AuthoritySpec {
  readonly identity: AuthorityIdentity;
  readonly subject: RdnSequence;
  readonly key: KeySpec;
  readonly durationMs: number;
  readonly pathLength?: number;
  readonly nameConstraints?: NameConstraints;
  readonly revocation: RevocationSettings;
  /** That the one above allows it is the caller's to check. */
  readonly parent:
    | { readonly kind: "Self" }
    | { readonly kind: "Authority"; readonly authority: AuthorityRecord }
    /** Signed elsewhere: see `certificateRequest` and `install`. */
    | { readonly kind: "External" };
  readonly actor: Actor;
}

/** The CA of the primary that an issuer object of a gateway asks for. */
export interface PrimaryAuthoritySpec {
  readonly identity: AuthorityIdentity;
  /** Name of the primary's ClusterIssuer. */
  readonly primaryIssuer: string;
  /** DER, as the primary tells of it: the CA's certificate first, the root last. */
  readonly chain: readonly Buffer[];
  readonly actor: Actor;
}

/**
 * Certification authorities: their keys, the certificates they issue, and what becomes of those.
 *
 * Errors, common to all methods: `PkiConflict` when something else is stored than what was decided on; `Fenced`;
 * `Unavailable` with DatabaseUnavailable, KeyUnavailable, TamperDetected.
 */
export class Authorities {
  readonly #store: PkiStore;
  readonly #caKeys: CaKeys;
  readonly #issuance: Issuance;
  readonly #primary: PrimaryCa | undefined;
  readonly #ofPrimary: PrimaryIssuance | undefined;
  readonly #keys: Pick<KeyRing, "installationId" | "pkiFingerprint" | "pkiStatus">;
  readonly #audit: AuditLog;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: PkiStore;
    readonly keys: KeyRing;
    readonly audit: AuditLog;
    /** Where CRLs, OCSP and CA certificates are published; without it certificates do not say. */
    readonly urls?: PublicationUrls;
    /** Of a gateway: signs for the authorities whose key is there. */
    readonly primary?: PrimaryCa;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#caKeys = new CaKeys(parts.keys);
    this.#keys = parts.keys;
    this.#audit = parts.audit;
    this.#now = parts.now ?? (() => new Date());
    const { store, keys, primary } = parts;
    this.#issuance = new Issuance({ store, keys, urls: parts.urls, now: this.#now });
    this.#primary = primary;
    this.#ofPrimary = primary && new PrimaryIssuance({ store, keys, primary, now: this.#now });
  }

  describe(identity: AuthorityIdentity): Promise<AuthorityRecord | undefined> {
    return this.#store.findAuthority(identity);
  }

  /**
   * The CA with key and certificate, made where it is missing; one that was retired is taken up again. The certificate of
   * an external one is not made here. Nothing is written when it is as asked for.
   *
   * @throws Stalled AuthorityDiffers when a CA of this identity has another subject or kind of key; Waiting
   * IssuerNotReady when the one above cannot sign; MalformedInput when the subject cannot be encoded
   */
  async ensure(writer: Writer, spec: AuthoritySpec): Promise<AuthorityRecord> {
    const found = (await this.#store.findAuthority(spec.identity)) ?? (await this.#create(writer, spec));
    const difference = differenceFrom(found, spec);
    if (difference !== undefined) throw new Stalled("AuthorityDiffers", difference);
    const record = await this.change(writer, found, { state: "Active", revocation: spec.revocation }, spec.actor);
    const generation = newest(record);
    const { parent } = spec;
    return generation.certificate === undefined && parent.kind !== "External"
      ? this.#certify(writer, record, generation, { ...spec, parent })
      : record;
  }

  /**
   * A CA of the primary, known here by this issuer: as `ensure`, with the certificate that the primary tells of.
   *
   * @param chain DER, the CA's certificate first, the root last
   * @throws Stalled AuthorityDiffers when a CA of this identity has another key; Unavailable PrimaryAnswerInvalid
   */
  async ensureOfPrimary(
    writer: Writer,
    { identity, primaryIssuer, chain, actor }: PrimaryAuthoritySpec,
  ): Promise<AuthorityRecord> {
    const ca = judgePrimaryChain(chain);
    const found =
      (await this.#store.findAuthority(identity)) ??
      (await this.#createOfPrimary(writer, { identity, primaryIssuer, actor }, ca));
    const difference = differenceFromPrimary(found, { primaryIssuer, chain });
    if (difference !== undefined) throw new Stalled("AuthorityDiffers", difference);
    const record = await this.change(writer, found, { state: "Active" }, actor);
    const generation = newest(record);
    const { certificate } = generation;
    if (certificate !== undefined && sameChain([certificate, ...generation.chain], chain)) return record;
    const installed = {
      certificate: ca.der,
      notAfter: ca.notAfter,
      chain: chain.slice(1),
      ...(certificate && { replaces: certificate }),
    };
    return this.#install(writer, record, generation, installed, actor);
  }

  /** A request (PKCS #10, DER) for the newest generation's certificate, to be signed elsewhere. Each call makes another. */
  async certificateRequest(writer: Writer, record: AuthorityRecord, actor: Actor): Promise<Buffer> {
    const generation = newest(record);
    const { signer } = await this.#caKeys.open(writer, record, generation);
    const subject = parseName(generation.subject);
    const contents = { subject, spki: signer.spki, subjectAltNames: [], usages: profiles.CA, ca: {} };
    const request = await createCsr(subject, certificateExtensions(contents), signer);
    const details = { generation: generation.number };
    await this.#audit.append([authorityEntry("AuthorityRequested", record, actor, details)]);
    failpoint("pki.afterRequest");
    return request;
  }

  /**
   * The certificate that was signed elsewhere for the newest generation, for the first time or in the place of the one
   * it has. Nothing is written when it has this one.
   *
   * @param text PEM, the CA's own certificate first, the self-signed root last
   * @throws MalformedInput of `external.certificate`
   */
  async install(writer: Writer, record: AuthorityRecord, text: string, actor: Actor): Promise<AuthorityRecord> {
    const generation = newest(record);
    if (isInstalled(text, generation)) return record;
    const { certificate, notAfter, chain } = judgeExternal(text, generation, this.#now());
    const installed = {
      certificate,
      notAfter,
      chain,
      ...(generation.certificate && { replaces: generation.certificate }),
    };
    return this.#install(writer, record, generation, installed, actor);
  }

  /** State and settings; nothing is written when they are as they should be. */
  async change(
    writer: Writer,
    record: AuthorityRecord,
    wanted: { readonly state?: AuthorityState; readonly revocation?: RevocationSettings },
    actor: Actor,
  ): Promise<AuthorityRecord> {
    const { state = record.state, revocation = record.revocation } = wanted;
    const { crlEveryMs, ocspValidityMs } = revocation;
    const before = record.revocation;
    if (state === record.state && crlEveryMs === before.crlEveryMs && ocspValidityMs === before.ocspValidityMs) {
      return record;
    }
    const audit = [authorityEntry("AuthorityChanged", record, actor, { state, crlEveryMs, ocspValidityMs })];
    await this.#store.changeAuthority(writer, { id: record.id, state, revocation, audit });
    return { ...record, state, revocation };
  }

  /**
   * The certificate for this revision of the requester: exactly one, however often and wherever it is asked for. A
   * reservation for something else is given up; a certificate for something else is a `PkiConflict`: ask for the next
   * revision.
   *
   * @throws Waiting IssuerNotReady when the CA has no certificate or has ended; MalformedInput
   */
  async issue(writer: Writer, request: IssueRequest): Promise<CertificateRecord> {
    if (request.authority.primaryIssuer !== undefined) {
      return this.#issuanceOfPrimary(request.authority).issue(writer, newest(request.authority), request);
    }
    const ca = await this.signingCa(writer, request.authority);
    return this.#issuance.issue(writer, ca, request);
  }

  /**
   * A generation of a CA, the newest when absent, ready to sign; its certificate was judged, so that who does not lead may believe it.
   *
   * @throws Waiting IssuerNotReady when it has no certificate or has ended
   */
  async signingCa(
    writer: Writer | Unled,
    authority: AuthorityRecord,
    generation = newest(authority),
  ): Promise<SigningCa> {
    const { kind, name } = authority.identity;
    const { notAfter } = generation;
    if (notAfter === undefined) throw notReady(`${kind} ${name} has no certificate of its own yet`);
    if (notAfter <= this.#now()) throw notReady(`the CA of ${kind} ${name} ended at ${notAfter.toISOString()}`);
    return this.#caKeys.open(writer, authority, generation);
  }

  /** Its certificate, then those above it up to and including the root; empty while it has none. */
  chainOf(authority: AuthorityRecord, generation = newest(authority).number): readonly Buffer[] {
    const found = authority.generations.find(({ number }) => number === generation);
    return found?.certificate === undefined ? [] : [found.certificate, ...found.chain];
  }

  /**
   * The private key of a certificate that was made here. The read is on record before this resolves.
   *
   * @throws Unavailable TamperDetected also when the key is not that of the certificate
   */
  async openKey(
    writer: Writer | Unled,
    record: CertificateRecord,
    { actor, purpose }: { readonly actor: Actor; readonly purpose: string },
  ): Promise<KeyObject> {
    const key = await this.#issuance.key(writer, record);
    await this.#audit.append([certificateEntry("CertificateKeyRead", record, actor, { purpose })]);
    return key;
  }

  /**
   * Keyed digest of a value that is not kept, such as a password: 64 hex digits. Equal means same value for the same
   * purpose of the same requester; without the installation's key nobody can try likely values.
   */
  fingerprint(requesterUid: string, purpose: string, value: Sensitive): string {
    return createHmac("sha256", this.#keys.pkiFingerprint)
      .update(encodeFields(`mazevault pki ${purpose}`, [requesterUid, value.reveal()]))
      .digest("hex");
  }

  /**
   * Refuses a status that is not as it was written here.
   *
   * @throws Unavailable TamperDetected
   */
  judgeStatus(status: CertificateStatus): void {
    judgeStatus(this.#keys, status);
  }

  /** On record, and in CRL and OCSP at the next look; returns whether anything changed. */
  async revoke(
    writer: Writer,
    record: CertificateRecord,
    { reason, invalidityDate }: Omit<Revocation, "at">,
    actor: Actor,
  ): Promise<boolean> {
    const { authorityId, serialNumber } = record;
    const standing = await this.#standing(record);
    await this.#revokeAtPrimary(standing, reason);
    const at = standing.revocation?.at ?? this.#now();
    const revocation = { at, reason, ...(invalidityDate && { invalidityDate }) };
    const seal = sealStatus(this.#keys, { ...standing, revocation }, nextGeneration(standing));
    const details = { authority: authorityId, reason };
    const audit = [certificateEntry("CertificateRevoked", record, actor, details, seal.generation)];
    return this.#store.revoke(writer, authorityId, serialNumber, revocation, seal, audit);
  }

  /** Ends a hold; returns whether it was on hold. */
  async release(writer: Writer, record: CertificateRecord, actor: Actor): Promise<boolean> {
    const { authorityId, serialNumber } = record;
    const { revocation: _, ...standing } = await this.#standing(record);
    await this.#revokeAtPrimary(standing, "removeFromCRL");
    const seal = sealStatus(this.#keys, standing, nextGeneration(standing));
    const details = { authority: authorityId };
    const audit = [certificateEntry("CertificateReleased", record, actor, details, seal.generation)];
    return this.#store.release(writer, authorityId, serialNumber, seal, audit);
  }

  /** Authenticates what was revoked before statuses had a MAC, where the audit record says so too; returns how much. */
  async sealFormer(writer: Writer): Promise<number> {
    let sealed = 0;
    for (;;) {
      const page = await this.#store.unsealed(SEALED_AT_A_TIME);
      for (const record of page) {
        const { authorityId, serialNumber } = record;
        const seal = sealStatus(this.#keys, record, 1n);
        const details = { authority: authorityId };
        const audit = [certificateEntry("CertificateStatusSealed", record, SEALER, details, seal.generation)];
        await this.#store.seal(writer, authorityId, serialNumber, seal, audit);
      }
      sealed += page.length;
      if (page.length < SEALED_AT_A_TIME) return sealed;
    }
  }

  /** What the primary signed is revoked there first; it is repeated when what follows did not happen. */
  async #revokeAtPrimary(
    standing: Pick<CertificateRecord, "authorityId" | "serialNumber" | "seal">,
    reason: Parameters<PrimaryCa["revoke"]>[1],
  ) {
    const { authorityId, serialNumber } = standing;
    if (this.#primary === undefined) return;
    const authority = await this.#store.authority(authorityId);
    if (authority?.primaryIssuer === undefined) return;
    await this.#primary.revoke(serialNumber, reason, nextGeneration(standing));
    failpoint("signing.afterRevocation");
  }

  #issuanceOfPrimary({ identity: { kind, name } }: AuthorityRecord): PrimaryIssuance {
    if (this.#ofPrimary !== undefined) return this.#ofPrimary;
    throw new Stalled("NotAGateway", `${kind} ${name} signs at the primary of a gateway, and this is none`);
  }

  async #createOfPrimary(
    writer: Writer,
    { identity, primaryIssuer, actor }: Omit<PrimaryAuthoritySpec, "chain">,
    ca: Certificate,
  ): Promise<AuthorityRecord> {
    const id = randomUUID();
    const generation = { subject: ca.subjectDer, spki: ca.spki };
    const details = { subject: nameToString(ca.subject), primaryIssuer };
    const audit = [authorityEntry("AuthorityCreated", { id, identity }, actor, details)];
    // CRLs and OCSP answers are the primary's: nothing is made by these.
    const revocation = { crlEveryMs: 0, ocspValidityMs: 0 };
    const authority = { id, identity, revocation, primaryIssuer, generation, audit };
    const created = await this.#store.createAuthority(writer, authority);
    failpoint("signing.afterAuthority");
    return created;
  }

  /** As it stands in the store now, its status judged: what is changed next is built on it. */
  async #standing({ authorityId, serialNumber }: CertificateRecord): Promise<CertificateRecord> {
    const standing = await this.#store.certificate(authorityId, serialNumber);
    if (standing === undefined) throw tampered(`certificate ${serialNumber} is gone`);
    this.judgeStatus(standing);
    return standing;
  }

  async #create(writer: Writer, spec: AuthoritySpec): Promise<AuthorityRecord> {
    const { identity, revocation, actor } = spec;
    const subject = encodeName(spec.subject);
    const id = randomUUID();
    const key = await generateKey(spec.key);
    const sealedKey = await this.#caKeys.seal(writer, { id, identity }, { number: 1, subject }, key);
    const generation = { subject, spki: spkiOf(key), sealedKey };
    const details = { subject: nameToString(spec.subject), algorithm: spec.key.algorithm };
    const audit = [authorityEntry("AuthorityCreated", { id, identity }, actor, details)];
    const created = await this.#store.createAuthority(writer, { id, identity, revocation, generation, audit });
    failpoint("pki.afterAuthority");
    return created;
  }

  /** A CA's certificate is one more certificate of the CA above it, or of its own. */
  async #certify(
    writer: Writer,
    record: AuthorityRecord,
    generation: AuthorityGeneration,
    spec: AuthoritySpec & { readonly parent: Exclude<AuthoritySpec["parent"], { readonly kind: "External" }> },
  ): Promise<AuthorityRecord> {
    const { number, subject } = generation;
    const own = await this.#caKeys.open(writer, record, newest(record));
    const parent = spec.parent.kind === "Self" ? own : await this.signingCa(writer, spec.parent.authority);
    const { namespace, namespaceUid, name } = record.identity;
    const { pathLength, nameConstraints, durationMs, actor } = spec;
    const request: IssueRequest = {
      authority: spec.parent.kind === "Self" ? record : spec.parent.authority,
      requester: { kind: "Authority", namespace, namespaceUid, name, uid: record.id },
      revision: number,
      profile: "CA",
      subject: parseName(subject),
      subjectAltNames: [],
      usages: profiles.CA,
      ca: { ...(pathLength !== undefined && { pathLength }), ...(nameConstraints && { nameConstraints }) },
      durationMs,
      key: { spki: own.signer.spki },
      actor,
    };
    const { certificate, notAfter } = await this.#issuance.issue(writer, parent, request);
    if (certificate === undefined) throw new PkiConflict(`the certificate of ${record.identity.kind} ${name}`);
    return this.#install(writer, record, generation, { certificate, notAfter, chain: parent.chain }, actor);
  }

  async #install(
    writer: Writer,
    record: AuthorityRecord,
    { number }: AuthorityGeneration,
    installed: Pick<Parameters<PkiStore["installCertificate"]>[1], "certificate" | "notAfter" | "chain" | "replaces">,
    actor: Actor,
  ): Promise<AuthorityRecord> {
    const serialNumber = parseCertificate(installed.certificate).serialNumber.toString("hex");
    failpoint("pki.beforeInstall");
    await this.#store.installCertificate(writer, {
      authorityId: record.id,
      generation: number,
      ...installed,
      audit: [authorityEntry("AuthorityCertified", record, actor, { generation: number, serialNumber })],
    });
    failpoint("pki.afterInstall");
    const certified = await this.#store.authority(record.id);
    if (certified === undefined) throw new PkiConflict(`authority ${record.id}`);
    return certified;
  }
}

const SEALER: Actor = { kind: "Controller", name: "status" };
const SEALED_AT_A_TIME = 1_000;

const nextGeneration = ({ seal }: Pick<CertificateRecord, "seal">): bigint => (seal?.generation ?? 0n) + 1n;

/** The generation that signs. */
export function newest({ id, generations }: AuthorityRecord): AuthorityGeneration {
  const last = generations.at(-1);
  if (last === undefined) throw new Unavailable("TamperDetected", `authority ${id} has lost its key; see the runbook`);
  return last;
}

const notReady = (message: string): Waiting => new Waiting("IssuerNotReady", message, 60_000);

/** Why a CA that exists is not the one that is asked for; undefined when it is. */
export function differenceFrom(
  record: AuthorityRecord,
  { key, subject, identity }: Pick<AuthoritySpec, "key" | "subject" | "identity">,
): string | undefined {
  if (record.primaryIssuer !== undefined) {
    return `the CA of ${identity.kind} ${identity.name} is one of the primary; choose another name`;
  }
  const { subject: standing, spki } = newest(record);
  const have = keySpecOf(readPublicKey(spki));
  const sizeOf = (spec: KeySpec | undefined) => (spec === undefined || spec.algorithm === "Ed25519" ? 0 : spec.size);
  if (standing.equals(encodeName(subject)) && have?.algorithm === key.algorithm && sizeOf(have) === sizeOf(key)) {
    return undefined;
  }
  return (
    `a CA of ${identity.kind} ${identity.name} exists with subject ${nameToString(parseName(standing))} and a key of ` +
    `${have?.algorithm}; apply it as it was, or choose another name`
  );
}

const sameChain = (one: readonly Buffer[], other: readonly Buffer[]): boolean =>
  one.length === other.length && one.every((each, at) => other[at]?.equals(each));

/** Whether nothing is to be written for a CA of the primary. */
export const isAsPrimaryTells = (
  record: AuthorityRecord,
  { primaryIssuer, chain }: Pick<PrimaryAuthoritySpec, "primaryIssuer" | "chain">,
): boolean => {
  const { certificate, chain: above } = newest(record);
  return (
    record.state === "Active" &&
    record.primaryIssuer === primaryIssuer &&
    certificate !== undefined &&
    sameChain([certificate, ...above], chain)
  );
};

/** Why a CA that exists is not the one of the primary that is asked for; undefined when it is. */
export function differenceFromPrimary(
  record: AuthorityRecord,
  { primaryIssuer, chain }: Pick<PrimaryAuthoritySpec, "primaryIssuer" | "chain">,
): string | undefined {
  const { kind, name } = record.identity;
  const { spki, subject } = newest(record);
  const ca = judgePrimaryChain(chain);
  if (record.primaryIssuer === primaryIssuer && spki.equals(ca.spki) && subject.equals(ca.subjectDer)) return undefined;
  const what =
    record.primaryIssuer === undefined
      ? "has its key here"
      : record.primaryIssuer !== primaryIssuer
        ? `is ClusterIssuer ${record.primaryIssuer} of the primary`
        : "has another key or subject";
  return `the CA of ${kind} ${name} ${what}; choose another name for what is to be signed by ${nameToString(ca.subject)}`;
}
