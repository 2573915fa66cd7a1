import type { KeyObject } from "node:crypto";
import { type Certificate, parseCertificate, verifySignedBy } from "../certificate.ts";
import { DerError } from "../der/reader.ts";
import { readPublicKey } from "../key.ts";
import { type CertId, type CertIdHash, issuerHashes, keyHash, UnknownHash } from "../ocsp/cert-id.ts";
import type { OcspRequest } from "../ocsp/request.ts";
import { type BasicOcspResponse, parseOcspResponse } from "../ocsp/response.ts";
import { oids } from "../oid.ts";
import { verifySignature } from "../signer.ts";
import { type Finding, Findings } from "./finding.ts";

export interface OcspResponseExpectations {
  /** When it is looked at. */
  readonly at: Date;
  /** Where it was signed for one request: the one that it must answer. */
  readonly request?: OcspRequest;
}

/** Who may have signed a response. */
interface Signatory {
  readonly certificate: Certificate;
  readonly key: KeyObject;
  readonly keyHash: Buffer;
  /** What is wrong with its appointment, at any time. */
  readonly faults: readonly Finding[];
}

/**
 * Holds successful responses about the certificates of one CA against RFC 6960 and RFC 9919. What they have in common, the
 * CA's certificate and the responder's, is read and judged once; each response is read completely, its signature included.
 */
export class OcspResponseLint {
  readonly #issuer: Signatory;
  readonly #hashes: Readonly<Record<CertIdHash, Pick<CertId, "issuerNameHash" | "issuerKeyHash">>>;
  /** The last one that was met. */
  #delegate: Signatory | undefined;

  /**
   * @param issuer DER of the certificate of the CA that issued what the responses are about
   * @throws DerError
   */
  constructor(issuer: Buffer) {
    const certificate = parseCertificate(issuer);
    const { subjectDer, spki } = certificate;
    this.#issuer = { certificate, key: readPublicKey(spki), keyHash: keyHash("sha1", spki), faults: [] };
    this.#hashes = { sha1: issuerHashes("sha1", subjectDer, spki), sha256: issuerHashes("sha256", subjectDer, spki) };
  }

  lint(der: Buffer, { at, request }: OcspResponseExpectations): readonly Finding[] {
    const findings = new Findings();
    try {
      const { status, basic } = parseOcspResponse(der);
      findings.error(basic === undefined, "status", `the response says ${status}`);
      if (basic !== undefined) {
        this.#lintResponder(basic, at, findings);
        this.#lintAnswers(basic, at, findings);
        if (request !== undefined) lintMatch(basic, request, findings);
      }
    } catch (error) {
      if (!(error instanceof DerError || error instanceof UnknownHash)) throw error;
      findings.error(true, "malformed", error.message);
    }
    return findings.all;
  }

  /** Signed by the CA itself, or by one whom it has given its authority (RFC 6960 4.2.2.2). */
  #lintResponder(basic: BasicOcspResponse, at: Date, findings: Findings): void {
    const { responderKeyHash, certificates, signatureAlgorithm, tbs, signature } = basic;
    const signers = [this.#issuer, ...certificates.map((one) => this.#delegated(one))];
    const signer = signers.find((one) => responderKeyHash?.equals(one.keyHash) === true);
    findings.error(
      signer === undefined,
      "responder",
      "the responder is not named by the key of the CA or of a certificate in the response",
    );
    if (signer === undefined) return;
    findings.error(
      !verifySignature(signatureAlgorithm, signer.key, tbs, signature),
      "signature",
      "the signature is not the responder's, or of an algorithm that nobody should trust",
    );
    const isDelegated = signer !== this.#issuer;
    findings.warning(
      certificates.length !== (isDelegated ? 1 : 0),
      "certificates",
      "there are certificates that nobody needs",
    );
    const { notBefore, notAfter } = signer.certificate;
    findings.error(at < notBefore || at > notAfter, "responderValidity", "the responder's certificate is not valid");
    findings.add(signer.faults);
    const outlives = basic.responses.some(({ nextUpdate }) => nextUpdate !== undefined && nextUpdate > notAfter);
    findings.warning(
      isDelegated && outlives,
      "outlivesResponder",
      "nextUpdate is after the end of the responder's certificate",
    );
  }

  /** @throws DerError */
  #delegated(der: Buffer): Signatory {
    if (this.#delegate?.certificate.der.equals(der)) return this.#delegate;
    // It stays, and the response that it is a part of does not.
    const certificate = parseCertificate(Buffer.from(der));
    const { spki } = certificate;
    const faults = appointmentFaults(certificate, this.#issuer.certificate);
    this.#delegate = { certificate, key: readPublicKey(spki), keyHash: keyHash("sha1", spki), faults };
    return this.#delegate;
  }

  #lintAnswers(basic: BasicOcspResponse, at: Date, findings: Findings): void {
    const { producedAt, responses, extensions, nonce } = basic;
    findings.error(producedAt > at, "producedAt", "producedAt is in the future");
    findings.error(responses.length === 0, "empty", "there is no answer");
    findings.error(
      nonce !== undefined && (nonce.length === 0 || nonce.length > 128),
      "nonce",
      "a nonce has 1 to 128 octets",
    );
    for (const { oid, critical } of extensions.values()) {
      findings.error(critical, "critical", `the extension ${oid} is critical`);
    }
    const seen = new Set(responses.map(({ certId }) => certId.der.toString("hex")));
    findings.error(seen.size < responses.length, "answerTwice", "two answers about the same certificate");
    for (const { certId, status, thisUpdate, nextUpdate } of responses) {
      const { issuerNameHash, issuerKeyHash } = this.#hashes[certId.hash];
      const own = certId.issuerNameHash.equals(issuerNameHash) && certId.issuerKeyHash.equals(issuerKeyHash);
      findings.error(!own, "certId", "an answer about a certificate of another CA");
      findings.error(
        thisUpdate > at || thisUpdate > producedAt,
        "thisUpdate",
        "thisUpdate is in the future or after producedAt",
      );
      // RFC 9919 3.2.4: it must be there.
      findings.error(nextUpdate === undefined || nextUpdate <= at, "nextUpdate", "nextUpdate is over or missing");
      const revokedLater = typeof status === "object" && status.at > producedAt;
      findings.error(revokedLater, "revokedAt", "revoked in the future");
    }
  }
}

function appointmentFaults(responder: Certificate, issuer: Certificate): readonly Finding[] {
  const findings = new Findings();
  findings.error(
    !verifySignedBy(responder, issuer.spki) || !responder.issuerDer.equals(issuer.subjectDer),
    "delegation",
    "the responder's certificate is not the CA's",
  );
  findings.error(
    responder.extendedKeyUsage?.includes(oids.ocspSigning) !== true,
    "ocspSigning",
    "the responder may not sign OCSP responses",
  );
  findings.error(
    !responder.extensions.has(oids.ocspNoCheck),
    "ocspNoCheck",
    "the responder's own status would have to be asked for",
  );
  return findings.all;
}

/** Octet for octet what was asked for, in its order (RFC 9919 3.1.1, RFC 9654 2.1). */
function lintMatch({ responses, nonce }: BasicOcspResponse, request: OcspRequest, findings: Findings): void {
  const { certIds } = request;
  const same =
    responses.length === certIds.length && certIds.every(({ der }, at) => responses[at]?.certId.der.equals(der));
  findings.error(!same, "otherCertIds", "the answers are not those that were asked for");
  const sameNonce = request.nonce === undefined ? nonce === undefined : nonce?.equals(request.nonce) === true;
  findings.error(!sameNonce, "otherNonce", "the nonce is not the one of the request");
}
