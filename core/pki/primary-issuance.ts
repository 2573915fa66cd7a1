import { type KeyObject, randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import {
  type AuthorityGeneration,
  type CertificateRecord,
  PkiConflict,
  type PkiStore,
  type SealedKey,
} from "../ports/pki-store.ts";
import type { PrimaryCa, PrimarySigningRequest } from "../ports/primary-ca.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { certificateEntry } from "./audit-entries.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { createCsr } from "./csr.ts";
import { DerError } from "./der/reader.ts";
import { encodeGeneralName, type GeneralName } from "./general-name.ts";
import { digestOf, type IssueRequest, leafOwner } from "./issuance.ts";
import { generateKey, spkiOf } from "./key.ts";
import { encodeName } from "./name.ts";
import { certificateExtensions } from "./profile.ts";
import { importPrivateKey, sealPrivateKey } from "./sealed-key.ts";
import { LocalSigner } from "./signer.ts";

/** Of a certificate that is reserved, and has not been signed yet. */
interface Reserved {
  readonly record: CertificateRecord;
  /** Where it was made here. */
  readonly key: KeyObject | undefined;
}

/**
 * Has the primary sign what objects in the gateway's cluster ask for, each exactly once. The key is made and stays here. A
 * reservation is recorded before anything is sent, under a number of its own by which the primary knows the request: a crash at any
 * point, or an answer that was lost, leaves a reservation which the next call asks for again. With the answer it becomes the
 * certificate, under the serial number that the primary chose.
 */
export class PrimaryIssuance {
  readonly #store: PkiStore;
  readonly #keys: KeyRing;
  readonly #primary: PrimaryCa;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: PkiStore;
    readonly keys: KeyRing;
    readonly primary: PrimaryCa;
    readonly now: () => Date;
  }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#primary = parts.primary;
    this.#now = parts.now;
  }

  /**
   * As `Authorities.issue`, for an authority of the primary whose newest generation this is.
   *
   * @throws besides what `PrimaryCa.sign` does
   */
  async issue(writer: Writer, generation: AuthorityGeneration, request: IssueRequest): Promise<CertificateRecord> {
    const templateDigest = digestOf(request, generation.spki);
    const { requester, revision, authority } = request;
    const standing = await this.#store.certificateFor(requester.uid, revision);
    const same = standing?.templateDigest === templateDigest && standing.authorityId === authority.id;
    if (standing?.state === "Issued") {
      if (same) return standing;
      throw new PkiConflict(`revision ${revision} of ${requester.name}`);
    }
    if (standing !== undefined && !same) await this.#abandon(writer, standing, request);
    const reserved =
      standing !== undefined && same
        ? { record: standing, key: await this.#keyOf(writer, standing) }
        : await this.#reserve(writer, generation, request, templateDigest);
    try {
      return await this.#complete(writer, generation, request, reserved);
    } catch (error) {
      if (!(error instanceof Unavailable && error.code === "RequestIdTaken")) throw error;
      // It would be refused for ever, as what it was asked for under was another registration of this gateway.
      await this.#abandon(writer, reserved.record, request);
      return this.#complete(
        writer,
        generation,
        request,
        await this.#reserve(writer, generation, request, templateDigest),
      );
    }
  }

  async #abandon(writer: Writer, record: CertificateRecord, { actor }: IssueRequest): Promise<void> {
    const audit = [certificateEntry("CertificateAbandoned", record, actor, {})];
    await this.#store.abandon(writer, record.authorityId, record.serialNumber, audit);
  }

  async #reserve(
    writer: Writer,
    { number: generation }: AuthorityGeneration,
    request: IssueRequest,
    templateDigest: string,
  ): Promise<Reserved> {
    const { authority, requester, revision, profile, actor, durationMs } = request;
    const key = await this.#newKey(writer, request);
    const notBefore = this.#now();
    const wanted = {
      authorityId: authority.id,
      generation,
      serialNumber: randomUUID().replaceAll("-", ""),
      requester,
      revision,
      profile,
      templateDigest,
      notBefore,
      notAfter: new Date(notBefore.getTime() + durationMs),
      crlPartition: 0,
    };
    const sealedKey = await this.#seal(writer, wanted, key);
    const details = { authority: authority.id, profile, primaryRequest: requestId(wanted) };
    const audit = [certificateEntry("CertificateReserved", wanted, actor, details)];
    const record = await this.#store.reserve(writer, { ...wanted, ...(sealedKey && { sealedKey }) }, audit);
    // Another process was faster. It led before us, and whatever it meant is found when this is asked for again.
    if (record.serialNumber !== wanted.serialNumber) throw new PkiConflict(`revision ${revision} of ${requester.name}`);
    failpoint("signing.afterReserve");
    return { record, key };
  }

  /** Undefined: only the requester has it. */
  async #newKey(writer: Writer, { key, requester }: IssueRequest): Promise<KeyObject | undefined> {
    if ("spki" in key) return undefined;
    if ("generate" in key) return generateKey(key.generate);
    const of = key.reuse;
    const kept = of.requester.uid === requester.uid ? await this.#keyOf(writer, of) : undefined;
    if (kept === undefined) throw new PkiConflict(`the key of certificate ${of.serialNumber}`);
    return kept;
  }

  async #complete(
    writer: Writer,
    generation: AuthorityGeneration,
    request: IssueRequest,
    { record, key }: Reserved,
  ): Promise<CertificateRecord> {
    const { requester, revision, profile, keepKeys = 1, actor } = request;
    const spki = "spki" in request.key ? request.key.spki : key && spkiOf(key);
    if (spki === undefined) throw new PkiConflict(`the key of ${requester.kind} ${requester.name}`);
    const asked = await signingRequest(request, requestId(record), key);
    const certificate = judgedAnswer(await this.#primary.sign(asked), generation, request, spki);
    failpoint("signing.afterAnswer");
    const { notBefore, notAfter } = certificate;
    const serialNumber = certificate.serialNumber.toString("hex");
    const sealedKey = await this.#seal(writer, { ...record, serialNumber }, key);
    const details = {
      authority: record.authorityId,
      profile,
      revision,
      notAfter: notAfter.toISOString(),
      primaryRequest: requestId(record),
    };
    const issued = await this.#store.complete(writer, {
      authorityId: record.authorityId,
      serialNumber: record.serialNumber,
      chosen: { serialNumber, notBefore, notAfter, ...(sealedKey && { sealedKey }) },
      certificate: certificate.der,
      keepKeys,
      audit: [certificateEntry("CertificateIssued", { serialNumber, requester }, actor, details)],
    });
    failpoint("signing.afterComplete");
    return issued;
  }

  async #seal(
    writer: Writer,
    owner: Parameters<typeof leafOwner>[0],
    key: KeyObject | undefined,
  ): Promise<SealedKey | undefined> {
    if (key === undefined) return undefined;
    return sealPrivateKey(writer, await this.#keys.pki(writer), this.#keys.installationId, leafOwner(owner), key);
  }

  async #keyOf(writer: Writer, record: CertificateRecord): Promise<KeyObject | undefined> {
    const { authorityId, serialNumber } = record;
    const sealed = await this.#store.readKey(authorityId, serialNumber);
    const { installationId } = this.#keys;
    return sealed && importPrivateKey(await this.#keys.pki(writer), installationId, leafOwner(record), sealed);
  }
}

/** The number of a reservation as a UUID, which it was made from. */
const requestId = ({ serialNumber }: Pick<CertificateRecord, "serialNumber">): string =>
  serialNumber.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");

async function signingRequest(
  { authority, requester, profile, subject, subjectAltNames, usages, durationMs, key: wanted }: IssueRequest,
  id: string,
  key: KeyObject | undefined,
): Promise<PrimarySigningRequest> {
  const { kind, namespace, name, uid } = requester;
  if ((kind !== "Certificate" && kind !== "CertificateRequest") || profile === "CA" || profile === "OCSPResponder")
    throw new TypeError(`the primary signs no ${profile} for ${kind}`);
  const given = "spki" in wanted ? wanted.csr : undefined;
  let csr = given;
  if (csr === undefined) {
    if (key === undefined) throw new TypeError("the request that the key has signed is missing");
    const signer = new LocalSigner(key);
    csr = await createCsr(
      subject,
      certificateExtensions({ subject, spki: signer.spki, subjectAltNames, usages }),
      signer,
    );
  }
  return {
    id,
    issuer: authority.primaryIssuer ?? "",
    csr,
    profile,
    usages,
    durationMs,
    requester: { kind, namespace, name, uid },
  };
}

/** Backdating and whole seconds may make it this much longer. */
const SLACK_MS = 1_000;

/**
 * What came back is what was asked for, and of this CA: the channel is trusted, and yet nothing is delivered that would not verify.
 *
 * @throws Unavailable PrimaryAnswerInvalid
 */
function judgedAnswer(
  [leaf = Buffer.alloc(0)]: readonly Buffer[],
  { subject, spki }: AuthorityGeneration,
  wanted: IssueRequest,
  key: Buffer,
): Certificate {
  const invalid = (what: string) =>
    new Unavailable("PrimaryAnswerInvalid", `the primary signed something else than what was asked for: ${what}`);
  let certificate: Certificate;
  try {
    certificate = parseCertificate(leaf);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw invalid("it is no certificate");
  }
  if (!certificate.issuerDer.equals(subject) || !verifySignedBy(certificate, spki)) throw invalid("another CA's");
  const { keyUsage = [], extendedKeyUsage = [], basicConstraints, notBefore, notAfter } = certificate;
  const differing = Object.entries({
    key: certificate.spki.equals(key),
    subject: certificate.subjectDer.equals(encodeName(wanted.subject)),
    "alternative names": sameSet(encoded(certificate.subjectAltNames), encoded(wanted.subjectAltNames)),
    "key usage": sameSet(keyUsage, wanted.usages.keyUsage),
    "extended key usage": sameSet(extendedKeyUsage, wanted.usages.extendedKeyUsage),
    "basic constraints": basicConstraints?.ca !== true,
    validity: notAfter.getTime() - notBefore.getTime() <= wanted.durationMs + SLACK_MS,
  }).flatMap(([field, equal]) => (equal ? [] : [field]));
  if (differing.length > 0) throw invalid(differing.join(", "));
  return certificate;
}

const encoded = (names: readonly GeneralName[]): string[] =>
  names.map((name) => encodeGeneralName(name).toString("hex"));

const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && new Set([...a, ...b]).size === new Set(a).size;
