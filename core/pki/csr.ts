/** Certificate signing requests (PKCS #10, RFC 2986): strict reading of what strangers send, and making our own. */
import type { KeyObject } from "node:crypto";
import { DerError, type DerReader, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import {
  type BasicConstraints,
  type Extension,
  encodeExtensions,
  type KeyUsage,
  parseBasicConstraints,
  parseExtendedKeyUsage,
  parseKeyUsage,
  parseNameConstraints,
  parseSubjectAltName,
  readExtensions,
} from "./extension.ts";
import { canonical, distinct, type GeneralName, type NameConstraints } from "./general-name.ts";
import { readPublicKey, weakKey } from "./key.ts";
import { MalformedInput } from "./malformed-input.ts";
import { encodeName, parseName, type RdnSequence } from "./name.ts";
import { oids } from "./oid.ts";
import { parsePem } from "./pem.ts";
import { type Signer, signed, verifySignature } from "./signer.ts";

/** Longest request that is read, in octets, as DER or as PEM. */
export const maxCsr = 64 * 1024;

/** Why a request cannot be signed, whoever asks. The message holds no octets of it. */
export class CsrError extends Error {
  readonly code: "TooLarge" | "Malformed" | "WeakKey" | "WrongSignature" | "MalformedName";
  constructor(code: CsrError["code"], message: string) {
    super(message);
    this.name = "CsrError";
    this.code = code;
  }
}

/** What a request asks for, its signature checked. Whether it may have it is the issuer's policy to say. */
export interface Csr {
  /** The whole request. */
  readonly der: Buffer;
  /** What its key has signed; the signature over it may be another one each time. */
  readonly info: Buffer;
  readonly subject: RdnSequence;
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  readonly publicKey: KeyObject;
  /** In canonical form, each once. */
  readonly subjectAltNames: readonly GeneralName[];
  readonly basicConstraints: BasicConstraints | undefined;
  readonly keyUsage: readonly KeyUsage[] | undefined;
  /** Dotted OIDs. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly nameConstraints: NameConstraints | undefined;
  /** All requested extensions, by OID. */
  readonly extensions: ReadonlyMap<string, Extension>;
}

/**
 * Reads a request in DER or PEM and checks its signature (which proves that the requester has the private key), the strength of
 * the key, and that every name can stand in a certificate.
 *
 * @throws CsrError
 */
export function parseCsr(input: Buffer | string): Csr {
  if (input.length > maxCsr) throw new CsrError("TooLarge", `a request has at most ${maxCsr} octets`);
  try {
    return readCsr(typeof input === "string" || input[0] !== der.tags.sequence ? fromPem(input.toString()) : input);
  } catch (error) {
    if (error instanceof DerError) throw new CsrError("Malformed", `the request is malformed: ${error.message}`);
    if (error instanceof MalformedInput) throw new CsrError("MalformedName", `the request's ${error.message}`);
    throw error;
  }
}

function fromPem(text: string): Buffer {
  let blocks: ReturnType<typeof parsePem>;
  try {
    blocks = parsePem(text, "request");
  } catch (error) {
    throw error instanceof MalformedInput ? new CsrError("Malformed", error.message) : error;
  }
  const [block, ...others] = blocks;
  // Older programs write NEW in front (RFC 7468 section 7).
  if (!block || others.length > 0 || !/^(NEW )?CERTIFICATE REQUEST$/.test(block.label)) {
    throw new CsrError("Malformed", "the request must be one PEM block CERTIFICATE REQUEST");
  }
  return block.der;
}

function readCsr(encoded: Buffer): Csr {
  const { info, signatureAlgorithm, signature } = readDer(encoded, (r) =>
    r.sequence((s) => ({ info: s.any().der, signatureAlgorithm: s.any().der, signature: s.bitString() })),
  );
  const { subject, spki, extensions } = readDer(info, (r) => r.sequence(readInfo));
  const publicKey = readPublicKey(spki);
  const weakness = weakKey(publicKey);
  if (weakness) throw new CsrError("WeakKey", weakness);
  if (!verifySignature(signatureAlgorithm, publicKey, info, signature)) {
    throw new CsrError("WrongSignature", "the request is not signed with its own key, or by an unknown algorithm");
  }
  encodeName(subject);
  const parsed = <T>(oid: string, parse: (value: Buffer) => T): T | undefined => {
    const extension = extensions.get(oid);
    return extension && parse(extension.value);
  };
  const names = parsed(oids.subjectAltName, parseSubjectAltName) ?? [];
  return {
    der: encoded,
    info,
    subject,
    spki,
    publicKey,
    subjectAltNames: distinct(names.map((name) => canonical(name, "subjectAltName"))),
    basicConstraints: parsed(oids.basicConstraints, parseBasicConstraints),
    keyUsage: parsed(oids.keyUsage, parseKeyUsage),
    extendedKeyUsage: parsed(oids.extendedKeyUsage, parseExtendedKeyUsage),
    nameConstraints: parsed(oids.nameConstraints, parseNameConstraints),
    extensions,
  };
}

function readInfo(r: DerReader) {
  if (r.number() !== 0) r.fail("not a request of version 1");
  const subject = parseName(r.any().der);
  const spki = r.any().der;
  const seen = new Set<string>();
  let extensions: ReadonlyMap<string, Extension> = new Map();
  r.setOf(
    (attributes) => {
      attributes.sequence((attribute) => {
        const type = attribute.oid();
        if (seen.has(type)) attribute.fail("an attribute stands there twice");
        seen.add(type);
        // Other attributes (challengePassword and the like) ask for nothing that a certificate says.
        if (type === oids.extensionRequest) extensions = attribute.inside(der.tags.set, readExtensions);
        else attribute.any();
      });
    },
    der.contextTag(0, true),
  );
  return { subject, spki, extensions };
}

/** DER of a request signed by the key that it is for. */
export function createCsr(subject: RdnSequence, extensions: readonly Extension[], signer: Signer): Promise<Buffer> {
  const requested = der.sequence(der.oid(oids.extensionRequest), der.setOf(encodeExtensions(extensions)));
  const info = der.sequence(
    der.integer(0),
    encodeName(subject),
    signer.spki,
    der.explicit(0, ...(extensions.length > 0 ? [requested] : [])),
  );
  return signed(info, signer);
}
