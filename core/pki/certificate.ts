/** X.509 certificates, version 3 (RFC 5280 4.1): writing and reading. */
import { type DerReader, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import {
  type AuthorityInfoAccess,
  type AuthorityKeyIdentifier,
  type BasicConstraints,
  type Extension,
  encodeExtensions,
  type KeyUsage,
  parseAuthorityInfoAccess,
  parseAuthorityKeyIdentifier,
  parseBasicConstraints,
  parseCRLDistributionPoints,
  parseExtendedKeyUsage,
  parseKeyUsage,
  parseNameConstraints,
  parseSubjectAltName,
  parseSubjectKeyIdentifier,
  readExtensions,
} from "./extension.ts";
import type { GeneralName, NameConstraints } from "./general-name.ts";
import { readPublicKey } from "./key.ts";
import { parseName, type RdnSequence } from "./name.ts";
import { oids } from "./oid.ts";
import { type Signer, signed, verifySignature } from "./signer.ts";

export interface CertificateTemplate {
  /** Big-endian octets of a positive number. */
  readonly serialNumber: Buffer;
  /** DER of the issuer's subject, octet by octet as its certificate has it. */
  readonly issuer: Buffer;
  /** DER of a name. */
  readonly subject: Buffer;
  /** Parts of a second are cut off. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** In this order; at least one. */
  readonly extensions: readonly Extension[];
}

const version3 = der.explicit(0, der.integer(2));

/** DER of the signed certificate. What stands in the template is the caller's to judge. */
export function signCertificate(template: CertificateTemplate, signer: Signer): Promise<Buffer> {
  const tbs = der.sequence(
    version3,
    der.integer(template.serialNumber),
    signer.signatureAlgorithm,
    template.issuer,
    der.sequence(der.time(template.notBefore), der.time(template.notAfter)),
    template.subject,
    template.spki,
    der.explicit(3, encodeExtensions(template.extensions)),
  );
  return signed(tbs, signer);
}

/** A certificate that was read. Extensions that it does not have are undefined or, where lists, empty. */
export interface Certificate {
  readonly der: Buffer;
  readonly tbs: Buffer;
  /** Content octets of the INTEGER. */
  readonly serialNumber: Buffer;
  readonly issuer: RdnSequence;
  readonly issuerDer: Buffer;
  readonly subject: RdnSequence;
  readonly subjectDer: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Buffer;
  /** All, by OID. */
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly basicConstraints: BasicConstraints | undefined;
  readonly keyUsage: readonly KeyUsage[] | undefined;
  /** Dotted OIDs. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly subjectKeyIdentifier: Buffer | undefined;
  readonly authorityKeyIdentifier: AuthorityKeyIdentifier | undefined;
  readonly subjectAltNames: readonly GeneralName[];
  readonly nameConstraints: NameConstraints | undefined;
  readonly crlUrls: readonly string[];
  readonly authorityInfoAccess: AuthorityInfoAccess | undefined;
  /** DER of the AlgorithmIdentifier. */
  readonly signatureAlgorithm: Buffer;
  readonly signature: Buffer;
}

/** Longest certificate that is read, in octets. */
const maxCertificate = 256 * 1024;

/**
 * Reads a certificate and the extensions that MazeVault knows. Its key and signature are not looked at.
 *
 * @throws DerError
 */
export function parseCertificate(encoded: Buffer): Certificate {
  return readDer(
    encoded,
    (r) =>
      r.sequence((outer) => {
        const tbs = outer.any();
        const fields = readDer(tbs.der, (inner) => inner.sequence(readFields), maxCertificate);
        const signatureAlgorithm = outer.any().der;
        // RFC 5280 4.1.1.2: the inner one is signed, the outer one is used.
        if (!signatureAlgorithm.equals(fields.innerAlgorithm)) outer.fail("the two signature algorithms differ");
        const { innerAlgorithm: _, ...rest } = fields;
        return { der: encoded, tbs: tbs.der, ...rest, signatureAlgorithm, signature: outer.bitString() };
      }),
    maxCertificate,
  );
}

/** So many certificates of CAs are kept parsed. */
const MOST_KEPT = 256;
/** By their octets; the least recently used first. */
const kept = new Map<string, Certificate>();

/**
 * As `parseCertificate`, for a CA's, which comes again with each certificate below it.
 *
 * @throws DerError
 */
export function parseCaCertificate(encoded: Buffer): Certificate {
  const octets = encoded.toString("latin1");
  const certificate = kept.get(octets) ?? parseCertificate(Buffer.from(encoded));
  kept.delete(octets);
  kept.set(octets, certificate);
  const [oldest] = kept.keys();
  if (kept.size > MOST_KEPT && oldest !== undefined) kept.delete(oldest);
  return certificate;
}

function readFields(r: DerReader) {
  if (r.optional(der.contextTag(0, true), (v) => v.explicit(0, (version) => version.number())) !== 2) {
    r.fail("not a certificate of version 3");
  }
  const serialNumber = r.integer();
  if (serialNumber.length > 20 || (serialNumber[0] ?? 0) >= 0x80) {
    r.fail("the serial number is negative or has more than 20 octets");
  }
  const innerAlgorithm = r.any().der;
  const issuerDer = r.any().der;
  const { notBefore, notAfter } = r.sequence((v) => ({ notBefore: v.time(), notAfter: v.time() }));
  const subjectDer = r.any().der;
  const spki = r.any().der;
  // issuerUniqueID and subjectUniqueID: not to be made, to be understood (RFC 5280 4.1.2.8).
  for (const n of [1, 2]) r.optional(der.contextTag(n, false), (id) => id.content(id.next));
  const extensions =
    r.optional(der.contextTag(3, true), (e) => e.explicit(3, readExtensions)) ?? new Map<string, Extension>();
  const parsed = <T>(oid: string, parse: (value: Buffer) => T): T | undefined => {
    const extension = extensions.get(oid);
    return extension && parse(extension.value);
  };
  return {
    serialNumber,
    innerAlgorithm,
    issuer: parseName(issuerDer),
    issuerDer,
    subject: parseName(subjectDer),
    subjectDer,
    notBefore,
    notAfter,
    spki,
    extensions,
    basicConstraints: parsed(oids.basicConstraints, parseBasicConstraints),
    keyUsage: parsed(oids.keyUsage, parseKeyUsage),
    extendedKeyUsage: parsed(oids.extendedKeyUsage, parseExtendedKeyUsage),
    subjectKeyIdentifier: parsed(oids.subjectKeyIdentifier, parseSubjectKeyIdentifier),
    authorityKeyIdentifier: parsed(oids.authorityKeyIdentifier, parseAuthorityKeyIdentifier),
    subjectAltNames: parsed(oids.subjectAltName, parseSubjectAltName) ?? [],
    nameConstraints: parsed(oids.nameConstraints, parseNameConstraints),
    crlUrls: parsed(oids.cRLDistributionPoints, parseCRLDistributionPoints) ?? [],
    authorityInfoAccess: parsed(oids.authorityInfoAccess, parseAuthorityInfoAccess),
  };
}

/**
 * Whether the certificate was signed with the key of this SubjectPublicKeyInfo.
 *
 * @throws DerError when the SubjectPublicKeyInfo is no public key
 */
export function verifySignedBy(certificate: Certificate, issuerSpki: Buffer): boolean {
  const { signatureAlgorithm, tbs, signature } = certificate;
  return verifySignature(signatureAlgorithm, readPublicKey(issuerSpki), tbs, signature);
}
