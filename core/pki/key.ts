/** Key pairs: making them, naming what they are, refusing weak ones. */
import { createHash, createPublicKey, generateKeyPair, generateKeyPairSync, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { DerError, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { oids } from "./oid.ts";

export type KeySpec =
  | { readonly algorithm: "RSA" /** bits of the modulus */; readonly size: number }
  | { readonly algorithm: "ECDSA"; readonly size: 256 | 384 | 521 }
  | { readonly algorithm: "Ed25519" };

const curves = { 256: "prime256v1", 384: "secp384r1", 521: "secp521r1" } as const;
const generate = promisify(generateKeyPair);

/**
 * A new private key. In the thread pool where it takes long, RSA-4096 takes seconds; P-256 and Ed25519 take less time
 * than the way there and back.
 */
export async function generateKey(spec: KeySpec): Promise<KeyObject> {
  switch (spec.algorithm) {
    case "RSA":
      return (await generate("rsa", { modulusLength: spec.size, publicExponent: 0x10001 })).privateKey;
    case "ECDSA": {
      const curve = { namedCurve: curves[spec.size] };
      return spec.size === 256 ? generateKeyPairSync("ec", curve).privateKey : (await generate("ec", curve)).privateKey;
    }
    case "Ed25519":
      return generateKeyPairSync("ed25519").privateKey;
  }
}

/** What a key (private or public) is; undefined for algorithms and curves that MazeVault does not know. */
export function keySpecOf(key: KeyObject): KeySpec | undefined {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case "rsa":
      return { algorithm: "RSA", size: modulusLength ?? 0 };
    case "ec":
      for (const size of [256, 384, 521] as const) if (curves[size] === namedCurve) return { algorithm: "ECDSA", size };
      return undefined;
    case "ed25519":
      return { algorithm: "Ed25519" };
    default:
      return undefined;
  }
}

/** Why nobody should trust this public key, as a sentence for the one who made it; undefined when it is strong. */
export function weakKey(publicKey: KeyObject): string | undefined {
  const spec = keySpecOf(publicKey);
  if (!spec) return "the key must be RSA, ECDSA on P-256, P-384 or P-521, or Ed25519";
  if (spec.algorithm !== "RSA") return undefined;
  if (spec.size < 2048 || spec.size > 8192) return `the RSA key has ${spec.size} bits; 2048 to 8192 are allowed`;
  const exponent = publicKey.asymmetricKeyDetails?.publicExponent ?? 0n;
  // The bounds of FIPS 186-5 A.1.1; smaller ones have broken implementations, larger ones cost the verifier.
  if (exponent % 2n === 0n || exponent < 65537n || exponent >= 1n << 256n) {
    return "the RSA key's public exponent must be odd and at least 65537 (and below 2^256)";
  }
  const modulus = BigInt(`0x${Buffer.from(publicKey.export({ format: "jwk" }).n ?? "", "base64url").toString("hex")}`);
  return smallPrimes.some((prime) => modulus % prime === 0n) ? "the RSA key's modulus has a small factor" : undefined;
}

/** Below 752, as the CA/Browser Forum asks (Baseline Requirements 6.1.6). */
const smallPrimes = Array.from({ length: 750 }, (_, n) => n + 2)
  .filter((n) => !Array.from({ length: 26 }, (_, m) => m + 2).some((m) => m < n && n % m === 0))
  .map(BigInt);

/** AlgorithmIdentifiers of the keys whose octets a SubjectPublicKeyInfo holds as they are (RFC 5480 2, RFC 8410 4). */
const ecAlgorithm = (curve: string) => der.sequence(der.oid(oids.ecPublicKey), der.oid(curve));
const algorithms = {
  256: ecAlgorithm(oids.prime256v1),
  384: ecAlgorithm(oids.secp384r1),
  521: ecAlgorithm(oids.secp521r1),
  Ed25519: der.sequence(der.oid(oids.ed25519)),
} as const;

/** DER of the SubjectPublicKeyInfo of a private or public key. */
export function spkiOf(key: KeyObject): Buffer {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const spec = keySpecOf(publicKey);
  if (spec === undefined || spec.algorithm === "RSA") return publicKey.export({ type: "spki", format: "der" });
  // OpenSSL's own encoder takes many times as long.
  const algorithm = algorithms[spec.algorithm === "ECDSA" ? spec.size : spec.algorithm];
  return der.sequence(algorithm, der.bitString(publicKey.export({ format: "raw-public" })));
}

/** Keys by the buffer that they were read from: what was parsed is asked for its key more than once, and never written to. */
const known = new WeakMap<Buffer, KeyObject>();

/**
 * The public key of a SubjectPublicKeyInfo in its one right form: named curve, uncompressed point on it, canonical DER.
 *
 * @throws DerError
 */
export function readPublicKey(spki: Buffer): KeyObject {
  const before = known.get(spki);
  if (before !== undefined) return before;
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
  } catch {
    throw new DerError(0, "the public key cannot be read");
  }
  if (publicKey.asymmetricKeyType === "ec") {
    const { parameters, subjectPublicKey } = readSpki(spki);
    if (parameters !== der.tags.oid) throw new DerError(0, "the curve of the public key is not named (RFC 5480 2.1.1)");
    if (subjectPublicKey[0] !== 4) throw new DerError(0, "the public key is not an uncompressed point (RFC 5480 2.2)");
  }
  // OpenSSL also reads padding after the end and lengths that are not minimal.
  if (!spkiOf(publicKey).equals(spki)) throw new DerError(0, "the public key is not encoded canonically");
  known.set(spki, publicKey);
  return publicKey;
}

/** The tag of the algorithm's parameters (0: none), and the octets of the key. */
const readSpki = (spki: Buffer): { parameters: number; subjectPublicKey: Buffer } =>
  readDer(spki, (r) =>
    r.sequence((info) => {
      const parameters = info.sequence((algorithm) => {
        algorithm.oid();
        return algorithm.done ? 0 : algorithm.any().tag;
      });
      return { parameters, subjectPublicKey: info.bitString() };
    }),
  );

/** Subject key identifier: the leftmost 160 bits of the SHA-256 of the public key (RFC 7093 section 2, method 1). */
export const keyIdentifier = (spki: Buffer): Buffer =>
  createHash("sha256").update(readSpki(spki).subjectPublicKey).digest().subarray(0, 20);
