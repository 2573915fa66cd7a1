/**
 * Values sealed for Git: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. Whoever
 * has the project's public sealing key seals, offline; only the platform opens. `info` (RFC 9180, section 5.1) is where the
 * value belongs, so that a ciphertext that was copied to another place does not open there. It says nothing of the
 * installation or of UIDs: a cluster that is rebuilt from Git, with the same sealing key, opens what stands there.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { encodeFields } from "../canonical.ts";
import { Stalled } from "../errors.ts";
import { Sensitive } from "../sensitive.ts";

/** The public half, as it stands in `Project.status.sealingKey`. */
export interface SealingKey {
  /** A UUID; ciphertexts name it, so that older keys go on opening theirs. */
  readonly id: string;
  /** The 32 bytes of RFC 7748, base64url. */
  readonly publicKey: string;
}

export interface PrivateSealingKey extends SealingKey {
  readonly pair: { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey };
}

/** Where a sealed value belongs. */
export interface SealedPlace {
  readonly project: string;
  readonly environment: string;
  readonly namespace: string;
  /** Of the Secret. */
  readonly name: string;
  /** Of the entry. */
  readonly key: string;
}

/** The suite of everything that is sealed to a public key here. */
export const hpke = new CipherSuite({
  kem: new DhkemX25519HkdfSha256(),
  kdf: new HkdfSha256(),
  aead: new Aes256Gcm(),
});

/** Layout of a sealed text: format (1 byte), id of the key (16), encapsulated key (32), ciphertext with its tag. */
const FORMAT = 1;
const ID_BYTES = 16;
const HEADER_BYTES = 1 + ID_BYTES;
const ENCAPSULATED_BYTES = 32;
const TAG_BYTES = 16;
/** As of a literal: more has no place in a manifest. */
const LARGEST_VALUE = 65_536;
/** Characters of the longest sealed text, base64url without padding. */
export const LONGEST_SEALED = Math.ceil(((HEADER_BYTES + ENCAPSULATED_BYTES + LARGEST_VALUE + TAG_BYTES) * 4) / 3);

const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");
const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");

/** The text for `sealed:` in a manifest. Throws Stalled ValueInvalid. */
export async function seal(to: SealingKey, place: SealedPlace, value: Sensitive): Promise<string> {
  if (value.byteLength > LARGEST_VALUE) {
    throw new Stalled("ValueInvalid", `entry ${place.key}: a sealed value has at most ${LARGEST_VALUE} bytes`);
  }
  const header = Buffer.concat([Buffer.from([FORMAT]), idBytes(to.id)]);
  const recipientPublicKey = await importPublicKey(to.publicKey);
  const { enc, ct } = await hpke.seal({ recipientPublicKey, info: bound(place) }, value.reveal(), header);
  return Buffer.concat([header, Buffer.from(enc), Buffer.from(ct)]).toString("base64url");
}

/**
 * The value of a sealed text.
 *
 * @param keyOf the project's private key of that id
 * @throws Stalled SealedValueInvalid, which names the entry and the fix
 */
export async function unseal(
  keyOf: (id: string) => PrivateSealingKey | undefined,
  place: SealedPlace,
  sealed: string,
): Promise<Sensitive> {
  const bytes = Buffer.from(sealed, "base64url");
  const canonical = bytes.toString("base64url") === sealed;
  if (!canonical || bytes[0] !== FORMAT || bytes.length < HEADER_BYTES + ENCAPSULATED_BYTES + TAG_BYTES) {
    throw invalid(place, "it is not what `mazevault seal` prints");
  }
  const header = bytes.subarray(0, HEADER_BYTES);
  const id = idText(header.subarray(1));
  const key = keyOf(id);
  if (key === undefined) throw invalid(place, `project ${place.project} has no sealing key ${id}`);
  const enc = bytes.subarray(HEADER_BYTES, HEADER_BYTES + ENCAPSULATED_BYTES);
  const ciphertext = bytes.subarray(HEADER_BYTES + ENCAPSULATED_BYTES);
  try {
    const value = await hpke.open({ recipientKey: key.pair, enc, info: bound(place) }, ciphertext, header);
    return new Sensitive(Buffer.from(value));
  } catch {
    throw invalid(place, "it was sealed for another project, environment, namespace, name or key, or was damaged");
  }
}

/** The key pair of 32 random bytes; they are zeroed. */
export async function privateSealingKey(id: string, material: Buffer): Promise<PrivateSealingKey> {
  const publicKey = publicHalf(privateKeyOf(PKCS8_X25519, material));
  const privateKey = await hpke.kem.importKey("raw", new Uint8Array(material), false);
  material.fill(0);
  return { id, publicKey, pair: { privateKey, publicKey: await importPublicKey(publicKey) } };
}

/** A public sealing key that an installation vouches for: what is committed to Git. */
export interface SignedSealingKey extends SealingKey {
  readonly project: string;
  readonly installation: string;
  /** The installation's public signing key (Ed25519, RFC 8032), base64url: what a reader pins. */
  readonly signedBy: string;
  readonly signature: string;
}

/** The installation's signing key of 32 random bytes; they are zeroed. */
export function signingKey(material: Buffer): KeyObject {
  const key = privateKeyOf(PKCS8_ED25519, material);
  material.fill(0);
  return key;
}

export function signSealingKey(
  signer: KeyObject,
  key: Omit<SignedSealingKey, "signedBy" | "signature">,
): SignedSealingKey {
  const { id, publicKey, project, installation } = key;
  const signature = sign(null, signedFields(key), signer).toString("base64url");
  return { id, publicKey, project, installation, signedBy: publicHalf(signer), signature };
}

const FILE_KIND = "SealingKey";

/** The file to commit. */
export const sealingKeyFile = (key: SignedSealingKey): string =>
  `${JSON.stringify({ kind: FILE_KIND, ...key }, undefined, 2)}\n`;

/**
 * The key in such a file, its signature verified. Without `signedBy`, which the reader has from elsewhere, that only says
 * that the file is whole.
 *
 * @throws Stalled ValueInvalid
 */
export function readSealingKeyFile(text: string, signedBy?: string): SignedSealingKey {
  const { kind, ...key } = parseFile(text);
  const fields = ["id", "publicKey", "project", "installation", "signedBy", "signature"] as const;
  if (kind !== FILE_KIND || !fields.every((field) => typeof key[field] === "string")) {
    throw new Stalled("ValueInvalid", "this is no sealing key file");
  }
  const signed = key as unknown as SignedSealingKey;
  if (signedBy !== undefined && signed.signedBy !== signedBy) {
    throw new Stalled("ValueInvalid", `the sealing key of project ${signed.project} is signed by another installation`);
  }
  if (!isSigned(signed)) {
    throw new Stalled("ValueInvalid", `the sealing key of project ${signed.project} does not match its signature`);
  }
  return signed;
}

function parseFile(text: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? { ...parsed } : {};
  } catch {
    return {};
  }
}

function isSigned(key: SignedSealingKey): boolean {
  try {
    const verifier = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: key.signedBy }, format: "jwk" });
    return verify(null, signedFields(key), verifier, Buffer.from(key.signature, "base64url"));
  } catch {
    return false;
  }
}

const signedFields = ({
  installation,
  project,
  id,
  publicKey,
}: Omit<SignedSealingKey, "signedBy" | "signature">): Buffer =>
  encodeFields("mazevault sealing key", [installation, project, id, publicKey]);

export const placeFields = ({ project, environment, namespace, name, key }: SealedPlace): readonly string[] => [
  project,
  environment,
  namespace,
  name,
  key,
];

const bound = (place: SealedPlace): Buffer => encodeFields("mazevault sealed value", placeFields(place));

function invalid({ namespace, name, key }: SealedPlace, why: string): Stalled {
  const message = `entry ${key}: the sealed value does not open: ${why}; seal it again with: mazevault seal ${namespace}/${name} ${key}`;
  return new Stalled("SealedValueInvalid", message);
}

/** Throws Stalled ValueInvalid. */
export async function importPublicKey(publicKey: string): Promise<CryptoKey> {
  try {
    return await hpke.kem.importKey("raw", new Uint8Array(Buffer.from(publicKey, "base64url")), true);
  } catch {
    throw new Stalled("ValueInvalid", "the public key is not 32 bytes in base64url");
  }
}

const privateKeyOf = (prefix: Buffer, material: Buffer): KeyObject =>
  createPrivateKey({ key: Buffer.concat([prefix, material]), format: "der", type: "pkcs8" });

const publicHalf = (key: KeyObject): string => createPublicKey(key).export({ format: "jwk" }).x ?? "";

function idBytes(id: string): Buffer {
  const bytes = Buffer.from(id.replaceAll("-", ""), "hex");
  if (bytes.length !== ID_BYTES) throw new Stalled("ValueInvalid", "the id of the sealing key is no UUID");
  return bytes;
}

const idText = (bytes: Buffer): string =>
  bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
