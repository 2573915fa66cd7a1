/** Whatever comes in for an OCSP request, it is read as what stands there, or refused with a status of RFC 6960 2.3. */
import { parseCertificate } from "../../certificate.ts";
import { bitString, explicit, integer, nothing, octetString, oid, sequence } from "../../der/writer.ts";
import { encodeGeneralName } from "../../general-name.ts";
import { encodeName } from "../../name.ts";
import { encodeCertId, issuerHashes } from "../../ocsp/cert-id.ts";
import { OcspRequestError, parseOcspRequest } from "../../ocsp/request.ts";
import { oids } from "../../oid.ts";
import { type Attempt, mutate, pick } from "./mutation.ts";

/** Requests about certificates of a CA: as short as can be, with nonces, about several, signed by their sender. */
export function ocspSamples(certificate: Buffer): readonly Buffer[] {
  const { subject, spki } = parseCertificate(certificate);
  const id = (serialNumber: string, hash: "sha1" | "sha256" = "sha256") =>
    sequence(encodeCertId(hash, issuerHashes(hash, encodeName(subject), spki), serialNumber));
  const nonce = (octets: number) => sequence(oid(oids.ocspNonce), octetString(octetString(Buffer.alloc(octets, 7))));
  const unknown = sequence(oid("1.3.6.1.5.5.7.48.1.99"), octetString(nothing()));
  // Which nobody has to understand.
  const bySha512 = sequence(
    sequence(oid("2.16.840.1.101.3.4.2.3")),
    octetString(Buffer.alloc(64)),
    octetString(Buffer.alloc(64)),
    integer(1),
  );
  const extensions = (...all: Buffer[]) => explicit(2, sequence(...all));
  const name = explicit(1, encodeGeneralName({ kind: "dns", value: "a" }));
  const algorithm = sequence(oid(oids.sha256), nothing());
  const signature = sequence(algorithm, bitString(Buffer.alloc(64)), explicit(0, sequence(certificate)));
  return [
    sequence(sequence(sequence(id("7f01")))),
    sequence(sequence(sequence(id("7f02", "sha1")), extensions(nonce(32)))),
    sequence(sequence(sequence(id("7f01"), id("01", "sha1"), id("02")), extensions(nonce(1), unknown))),
    sequence(sequence(name, sequence(id("7f01"))), explicit(0, signature)),
    sequence(sequence(sequence(sequence(bySha512)))),
  ];
}

export function ocspAttempt(certificate: Buffer): Attempt {
  const samples = ocspSamples(certificate);
  return (random) => outcomeOf(mutate(pick(samples, random), random));
}

/** `read`, or the status that it is refused with. */
export function outcomeOf(request: Buffer): "read" | OcspRequestError["status"] {
  try {
    const { certIds } = parseOcspRequest(request);
    if (!certIds.every(({ der }) => request.includes(der))) throw new Error("what was read does not stand there");
    return "read";
  } catch (error) {
    if (error instanceof OcspRequestError) return error.status;
    throw new Error(`came of ${request.toString("hex")}`, { cause: error });
  }
}
