import { explicit, octetString, oid, sequence } from "../../core/pki/der/writer.ts";
import { type CertIdHash, encodeCertId, issuerHashes } from "../../core/pki/ocsp/cert-id.ts";
import { parseOcspResponse } from "../../core/pki/ocsp/response.ts";
import { oids } from "../../core/pki/oid.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";

/** CertID of a certificate that this authority's first key signed, or of a serial number that it did not. */
export function certIdOf({ generations }: AuthorityRecord, serialNumber: string, hash: CertIdHash = "sha256"): Buffer {
  const [generation] = generations;
  if (generation === undefined) throw new Error("an authority without a key");
  return encodeCertId(hash, issuerHashes(hash, generation.subject, generation.spki), serialNumber);
}

/** DER of an OCSP request. */
export function requestFor(certIds: readonly Buffer[], nonce?: Buffer): Buffer {
  const extension = nonce && sequence(oid(oids.ocspNonce), octetString(octetString(nonce)));
  return sequence(
    sequence(
      sequence(...certIds.map((certId) => sequence(certId))),
      ...(extension ? [explicit(2, sequence(extension))] : []),
    ),
  );
}

/** An answer in short: `good`, `unknown`, the reason of a revocation, or the status of an error. */
export function verdictOf(der: Buffer): string {
  const { status, basic } = parseOcspResponse(der);
  if (basic === undefined) return status;
  return basic.responses.map((one) => (typeof one.status === "string" ? one.status : one.status.reason)).join(", ");
}
