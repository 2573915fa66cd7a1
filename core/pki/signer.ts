/** Signing with a CA's key, wherever it is, and checking such signatures. */
import { type KeyObject, sign, verify } from "node:crypto";
import * as der from "./der/writer.ts";
import { keySpecOf, spkiOf } from "./key.ts";
import { oids } from "./oid.ts";

/** A private key that signs: in this process, later in Key Vault or an HSM. */
export interface Signer {
  /** DER of its SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** DER of the AlgorithmIdentifier of its signatures. */
  readonly signatureAlgorithm: Buffer;
  /** The signature as X.509 has it: ECDSA-Sig-Value in DER, or the octets of RSA and Ed25519. */
  sign(tbs: Buffer): Promise<Buffer>;
}

type KeyType = "rsa" | "ec" | "ed25519";
interface Algorithm {
  readonly der: Buffer;
  readonly hash: string | null;
  readonly keyType: KeyType;
}

const algorithm = (keyType: KeyType, hash: string | null, oid: string, ...parameters: Buffer[]): Algorithm => ({
  der: der.sequence(der.oid(oid), ...parameters),
  hash,
  keyType,
});

// Parameters: absent for ECDSA (RFC 5758 3.2) and Ed25519 (RFC 8410 3), NULL for RSA (RFC 4055 5).
const rsaSha256 = algorithm("rsa", "sha256", oids.sha256WithRsa, der.nothing());
const ecdsaSha256 = algorithm("ec", "sha256", oids.ecdsaWithSha256);
const ecdsaSha384 = algorithm("ec", "sha384", oids.ecdsaWithSha384);
const ecdsaSha512 = algorithm("ec", "sha512", oids.ecdsaWithSha512);
const ed25519 = algorithm("ed25519", null, oids.ed25519);
const known = new Map(
  [
    rsaSha256,
    algorithm("rsa", "sha384", oids.sha384WithRsa, der.nothing()),
    algorithm("rsa", "sha512", oids.sha512WithRsa, der.nothing()),
    // RFC 4055 5: the parameters must be NULL, and their absence must be accepted.
    algorithm("rsa", "sha256", oids.sha256WithRsa),
    algorithm("rsa", "sha384", oids.sha384WithRsa),
    algorithm("rsa", "sha512", oids.sha512WithRsa),
    ecdsaSha256,
    ecdsaSha384,
    ecdsaSha512,
    ed25519,
  ].map((one) => [one.der.toString("hex"), one]),
);

/** Signs with a key in this process: RSA with SHA-256, ECDSA with the hash that fits the curve, Ed25519. */
export class LocalSigner implements Signer {
  readonly spki: Buffer;
  readonly signatureAlgorithm: Buffer;
  readonly #key: KeyObject;
  readonly #hash: string | null;
  readonly #slow: boolean;

  /** @throws RangeError when the key is of no kind that MazeVault signs with */
  constructor(privateKey: KeyObject) {
    const spec = keySpecOf(privateKey);
    if (!spec) throw new RangeError("a signing key must be RSA, ECDSA on a NIST curve, or Ed25519");
    const bySize = { 256: ecdsaSha256, 384: ecdsaSha384, 521: ecdsaSha512 };
    const { der, hash } =
      spec.algorithm === "RSA" ? rsaSha256 : spec.algorithm === "ECDSA" ? bySize[spec.size] : ed25519;
    this.spki = spkiOf(privateKey);
    this.signatureAlgorithm = der;
    this.#key = privateKey;
    this.#hash = hash;
    // P-256 and Ed25519 take less time than the way to the thread pool and back; the others would hold up the event loop.
    this.#slow = spec.algorithm === "RSA" || (spec.algorithm === "ECDSA" && spec.size !== 256);
  }

  async sign(tbs: Buffer): Promise<Buffer> {
    if (!this.#slow) return sign(this.#hash, tbs, this.#key);
    return new Promise((resolve, reject) => {
      sign(this.#hash, tbs, this.#key, (error, signature) => (error ? reject(error) : resolve(signature)));
    });
  }
}

/** Whether a signature is right. An algorithm that is unknown, or not one of this key, is not. */
export function verifySignature(
  signatureAlgorithm: Buffer,
  publicKey: KeyObject,
  tbs: Buffer,
  signature: Buffer,
): boolean {
  const found = known.get(signatureAlgorithm.toString("hex"));
  if (found?.keyType !== publicKey.asymmetricKeyType || !found) return false;
  return verify(found.hash, tbs, publicKey, signature);
}

/** DER of `SEQUENCE { tbs, signatureAlgorithm, signature }`: certificate, CSR, CRL, BasicOCSPResponse without certificates. */
export async function signed(tbs: Buffer, signer: Signer): Promise<Buffer> {
  return der.sequence(tbs, signer.signatureAlgorithm, der.bitString(await signer.sign(tbs)));
}
