import { type Certificate, parseCertificate, verifySignedBy } from "../certificate.ts";
import { DerError } from "../der/reader.ts";
import { readPublicKey } from "../key.ts";
import { issuerHashes, keyHash, UnknownHash } from "../ocsp/cert-id.ts";
import { type BasicOcspResponse, parseOcspResponse } from "../ocsp/response.ts";
import { oids } from "../oid.ts";
import { verifySignature } from "../signer.ts";
import { type Finding, Findings } from "./finding.ts";

export interface OcspResponseExpectations {
  /** DER of the certificate of the CA that issued what the response is about. */
  readonly issuer: Buffer;
  /** When it is looked at. */
  readonly at: Date;
}

/** Holds a successful response against RFC 6960 and RFC 9919. */
export function lintOcspResponse(der: Buffer, { issuer: issuerDer, at }: OcspResponseExpectations): Finding[] {
  const findings = new Findings();
  try {
    const { status, basic } = parseOcspResponse(der);
    findings.error(basic === undefined, "status", `the response says ${status}`);
    if (basic !== undefined) {
      const issuer = parseCertificate(issuerDer);
      lintResponder(basic, issuer, at, findings);
      lintAnswers(basic, issuer, at, findings);
    }
  } catch (error) {
    if (!(error instanceof DerError || error instanceof UnknownHash)) throw error;
    findings.error(true, "malformed", error.message);
  }
  return findings.all;
}

/** Signed by the CA itself, or by one whom it has given its authority (RFC 6960 4.2.2.2). */
function lintResponder(basic: BasicOcspResponse, issuer: Certificate, at: Date, findings: Findings): void {
  const { responderKeyHash, certificates, signatureAlgorithm, tbs, signature } = basic;
  const byKey = ({ spki }: Certificate) => responderKeyHash?.equals(keyHash("sha1", spki)) === true;
  const signer = [issuer, ...certificates.map(parseCertificate)].find(byKey);
  findings.error(
    signer === undefined,
    "responder",
    "the responder is not named by the key of the CA or of a certificate in the response",
  );
  if (signer === undefined) return;
  const right = verifySignature(signatureAlgorithm, readPublicKey(signer.spki), tbs, signature);
  findings.error(
    !right,
    "signature",
    "the signature is not the responder's, or of an algorithm that nobody should trust",
  );
  const delegated = signer !== issuer;
  findings.warning(
    certificates.length !== (delegated ? 1 : 0),
    "certificates",
    "there are certificates that nobody needs",
  );
  findings.error(
    at < signer.notBefore || at > signer.notAfter,
    "responderValidity",
    "the responder's certificate is not valid",
  );
  if (!delegated) return;
  findings.error(
    !verifySignedBy(signer, issuer.spki) || !signer.issuerDer.equals(issuer.subjectDer),
    "delegation",
    "the responder's certificate is not the CA's",
  );
  findings.error(
    signer.extendedKeyUsage?.includes(oids.ocspSigning) !== true,
    "ocspSigning",
    "the responder may not sign OCSP responses",
  );
  findings.error(
    !signer.extensions.has(oids.ocspNoCheck),
    "ocspNoCheck",
    "the responder's own status would have to be asked for",
  );
  const outlives = basic.responses.some(({ nextUpdate }) => nextUpdate !== undefined && nextUpdate > signer.notAfter);
  findings.warning(outlives, "outlivesResponder", "nextUpdate is after the end of the responder's certificate");
}

function lintAnswers(basic: BasicOcspResponse, issuer: Certificate, at: Date, findings: Findings): void {
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
    const { issuerNameHash, issuerKeyHash } = issuerHashes(certId.hash, issuer.subjectDer, issuer.spki);
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
