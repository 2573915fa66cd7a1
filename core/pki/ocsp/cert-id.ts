/** CertID (RFC 6960 4.1.1): how OCSP names a certificate. */
import { hash as digest } from "node:crypto";
import { type DerReader, readDer } from "../der/reader.ts";
import { integer, nothing, octetString, sequence, tags } from "../der/writer.ts";
import { encodedOid, oids } from "../oid.ts";

/** RFC 9919 3.1.1 asks for SHA-256; older clients know SHA-1 only, which is no weakness here: nothing rests on collisions. */
export type CertIdHash = "sha1" | "sha256";

/** Which certificate is meant: hashes of its issuer's name and key, and its serial number. */
export interface CertId {
  readonly hash: CertIdHash;
  readonly issuerNameHash: Buffer;
  readonly issuerKeyHash: Buffer;
  /** Content of the INTEGER: two's complement, minimal. */
  readonly serialNumber: Buffer;
  /** The whole CertID, as the response repeats it. */
  readonly der: Buffer;
}

/** A CertID by a hash that no issuer here is known by. */
export class UnknownHash extends Error {
  constructor() {
    super("a CertID by another hash than SHA-1 and SHA-256");
    this.name = "UnknownHash";
  }
}

const HASHES = {
  sha1: { oid: encodedOid(oids.sha1), octets: 20 },
  sha256: { oid: encodedOid(oids.sha256), octets: 32 },
};
const SHA1 = HASHES.sha1.oid.subarray(2);
const SHA256 = HASHES.sha256.oid.subarray(2);

/**
 * The next element, a CertID.
 *
 * @throws DerError, UnknownHash
 */
export function readCertId(reader: DerReader): CertId {
  const { der } = reader.any();
  const fields = readDer(der, (outer) =>
    outer.sequence((inner) => {
      const hash = inner.sequence(readHash);
      const issuerNameHash = readDigest(inner, hash);
      const issuerKeyHash = readDigest(inner, hash);
      return { hash, issuerNameHash, issuerKeyHash, serialNumber: inner.integer() };
    }),
  );
  return { ...fields, der };
}

function readHash(reader: DerReader): CertIdHash {
  const algorithm = reader.content(tags.oid);
  // Parameters absent or NULL: both are in use (RFC 5754 2).
  if (!reader.done) reader.null();
  if (algorithm.equals(SHA256)) return "sha256";
  if (algorithm.equals(SHA1)) return "sha1";
  throw new UnknownHash();
}

function readDigest(reader: DerReader, hash: CertIdHash): Buffer {
  const value = reader.octetString();
  if (value.length !== HASHES[hash].octets) reader.fail("a hash of another length than its algorithm's");
  return value;
}

/** The part of a CertID that all certificates of an issuer have in common: `subject` its DER Name, `spki` its key. */
export function issuerHashes(
  hash: CertIdHash,
  subject: Buffer,
  spki: Buffer,
): Pick<CertId, "issuerNameHash" | "issuerKeyHash"> {
  return { issuerNameHash: digest(hash, subject, "buffer"), issuerKeyHash: keyHash(hash, spki) };
}

/** Hash of the subjectPublicKey BIT STRING without its tag, length and count of unused bits. */
export function keyHash(hash: CertIdHash, spki: Buffer): Buffer {
  const key = readDer(spki, (reader) =>
    reader.sequence((inner) => {
      inner.any();
      return inner.bitString();
    }),
  );
  return digest(hash, key, "buffer");
}

/** A CertID; `serialNumber` in hex. For what is signed before anybody asks. */
export function encodeCertId(
  hash: CertIdHash,
  { issuerNameHash, issuerKeyHash }: Pick<CertId, "issuerNameHash" | "issuerKeyHash">,
  serialNumber: string,
): Buffer {
  return sequence(
    sequence(HASHES[hash].oid, nothing()),
    octetString(issuerNameHash),
    octetString(issuerKeyHash),
    integer(Buffer.from(serialNumber, "hex")),
  );
}
