/** OCSP requests (RFC 6960 4.1, RFC 9919 3.1) as strangers send them, many thousand times a second. */
import { DerError, type DerReader, readDer } from "../der/reader.ts";
import { contextTag, tags } from "../der/writer.ts";
import { encodedOid, oids } from "../oid.ts";
import { type CertId, readCertId, UnknownHash } from "./cert-id.ts";

/** Octets of a request that are read at most. */
export const MAX_REQUEST_OCTETS = 10 * 1024;
/** Certificates that one request may ask for; RFC 9919 3.1.1 sends one. */
const MAX_CERT_IDS = 64;
/** RFC 9654 2.1 */
const MAX_NONCE_OCTETS = 128;

export interface OcspRequest {
  readonly certIds: readonly CertId[];
  /** 1 to 128 octets. */
  readonly nonce?: Buffer;
}

/** No answer but an error response; `status` is its OCSPResponseStatus (RFC 6960 2.3). */
export class OcspRequestError extends Error {
  readonly status: "malformedRequest" | "unauthorized";
  constructor(status: OcspRequestError["status"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "OcspRequestError";
    this.status = status;
  }
}

const NONCE = encodedOid(oids.ocspNonce).subarray(2);

/**
 * Reads a request; the result refers to `der`, nothing is copied. A signature is read over and not judged, because
 * nothing here depends on who asks (RFC 9919 3.1.2).
 *
 * @throws OcspRequestError `malformedRequest`; `unauthorized` for a CertID hash that no issuer here is known by
 */
export function parseOcspRequest(der: Uint8Array): OcspRequest {
  try {
    return readDer(der, (reader) => reader.sequence(request), MAX_REQUEST_OCTETS);
  } catch (error) {
    if (error instanceof UnknownHash) throw new OcspRequestError("unauthorized", error.message, { cause: error });
    if (error instanceof DerError) throw new OcspRequestError("malformedRequest", error.message, { cause: error });
    throw error;
  }
}

function request(reader: DerReader): OcspRequest {
  const parsed = reader.sequence(tbsRequest);
  if (reader.next === contextTag(0, true)) reader.explicit(0, (inner) => inner.sequence(signature));
  return parsed;
}

function tbsRequest(reader: DerReader): OcspRequest {
  // [0] would be the version, whose only value is the default, which DER leaves out.
  if (reader.next === contextTag(1, true)) reader.any();
  const certIds = reader.list(singleRequest);
  if (certIds.length === 0) reader.fail("asks for no certificate");
  if (certIds.length > MAX_CERT_IDS) reader.fail(`asks for more than ${MAX_CERT_IDS} certificates`);
  const nonce = reader.next === contextTag(2, true) ? reader.explicit(2, requestExtensions) : undefined;
  return nonce === undefined ? { certIds } : { certIds, nonce };
}

function singleRequest(reader: DerReader): CertId {
  return reader.sequence((inner) => {
    const certId = readCertId(inner);
    if (inner.next === contextTag(0, true)) inner.explicit(0, (own) => own.list(extension));
    return certId;
  });
}

function requestExtensions(reader: DerReader): Buffer | undefined {
  let nonce: Buffer | undefined;
  reader.list((each) => {
    const value = extension(each);
    if (value === undefined) return;
    if (nonce !== undefined) each.fail("two nonces");
    nonce = readDer(value, (inner) => inner.octetString());
    if (nonce.length === 0 || nonce.length > MAX_NONCE_OCTETS)
      each.fail("a nonce of another length than 1 to 128 octets");
  });
  return nonce;
}

/** The value of a nonce; undefined for every other extension that may be ignored (RFC 6960 4.4). */
function extension(reader: DerReader): Buffer | undefined {
  return reader.sequence((inner) => {
    const isNonce = inner.content(tags.oid).equals(NONCE);
    const critical = inner.flag();
    const value = inner.octetString();
    if (critical && !isNonce) inner.fail("an unknown critical extension");
    return isNonce ? value : undefined;
  });
}

/** Only its form is looked at. */
function signature(reader: DerReader): void {
  reader.sequence((algorithm) => {
    algorithm.content(tags.oid);
    if (!algorithm.done) algorithm.any();
  });
  reader.bitString();
  if (reader.next === contextTag(0, true))
    reader.explicit(0, (inner) => inner.list((each) => each.content(tags.sequence)));
}
