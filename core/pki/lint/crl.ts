import { setImmediate } from "node:timers/promises";
import { parseCertificate } from "../certificate.ts";
import { parseCrl } from "../crl.ts";
import { DerError } from "../der/reader.ts";
import { readPublicKey } from "../key.ts";
import { oids } from "../oid.ts";
import { verifySignature } from "../signer.ts";
import { type Finding, Findings } from "./finding.ts";

export interface CrlExpectations {
  /** DER of the CA's certificate. */
  readonly issuer: Buffer;
  /** When it is looked at. */
  readonly at: Date;
  /** URI of the partition; absent: all certificates of the CA. */
  readonly distributionPoint?: string;
}

/** Entries read between two turns of the event loop: some milliseconds. */
const CHUNK = 2_000;

/** Holds a full CRL against RFC 5280 5. Other work goes on while a long one is read. */
export async function lintCrl(
  der: Buffer,
  { issuer: issuerDer, at, distributionPoint }: CrlExpectations,
): Promise<Finding[]> {
  const findings = new Findings();
  try {
    const crl = parseCrl(der);
    const issuer = parseCertificate(issuerDer);
    const right = verifySignature(crl.signatureAlgorithm, readPublicKey(issuer.spki), crl.tbs, crl.signature);
    findings.error(!right, "signature", "the signature is not the CA's, or of an algorithm that nobody should trust");
    findings.error(!crl.issuer.equals(issuer.subjectDer), "issuerName", "the issuer is not the CA's subject");
    findings.error(issuer.keyUsage?.includes("cRLSign") !== true, "issuerUsage", "the CA may not sign CRLs");
    const authority = crl.authorityKeyIdentifier;
    findings.error(
      !authority?.equals(issuer.subjectKeyIdentifier ?? Buffer.alloc(0)),
      "authorityKeyIdentifier",
      "the authorityKeyIdentifier is not the CA's subjectKeyIdentifier",
    );
    findings.error(
      crl.number === undefined || crl.number >= 1n << 159n,
      "number",
      "there is no CRLNumber of at most 20 octets",
    );
    findings.error(crl.thisUpdate > at, "thisUpdate", "thisUpdate is in the future");
    findings.error(crl.nextUpdate === undefined || crl.nextUpdate <= at, "nextUpdate", "nextUpdate is over or missing");
    const points = distributionPoint === undefined ? undefined : [distributionPoint];
    const samePoints = JSON.stringify(points) === JSON.stringify(crl.distributionPoints);
    findings.error(!samePoints, "distributionPoint", "the issuing distribution point is another one");
    for (const { oid, critical } of crl.extensions.values()) {
      findings.error(
        critical !== (oid === oids.issuingDistributionPoint),
        "critical",
        `wrong criticality of the extension ${oid}`,
      );
      findings.error(!EXTENSIONS.has(oid), "extension", `a full CRL has no extension ${oid}`);
    }
    const seen = new Set<string>();
    for (const entry of crl.entries()) {
      findings.error(seen.has(entry.serialNumber), "entryTwice", `${entry.serialNumber} stands there twice`);
      seen.add(entry.serialNumber);
      findings.error(entry.revokedAt > at, "revokedAt", `${entry.serialNumber} is revoked in the future`);
      findings.error(
        entry.reason === "removeFromCRL",
        "removeFromCRL",
        `${entry.serialNumber}: only delta CRLs remove`,
      );
      const said = entry.extensions.has(oids.cRLReason) && entry.reason === "unspecified";
      findings.warning(said, "unspecified", `${entry.serialNumber}: an unspecified reason is to be left out`);
      const critical = [...entry.extensions.values()].some((extension) => extension.critical);
      findings.error(critical, "entryCritical", `${entry.serialNumber}: a critical extension`);
      if (seen.size % CHUNK === 0) await setImmediate();
    }
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    findings.error(true, "malformed", error.message);
  }
  return findings.all;
}

const EXTENSIONS: ReadonlySet<string> = new Set([
  oids.authorityKeyIdentifier,
  oids.cRLNumber,
  oids.issuingDistributionPoint,
]);
