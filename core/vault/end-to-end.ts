/**
 * Values that the platform itself cannot open: the writer seals each for the public keys of its readers, by HPKE as in
 * `sealing.ts`, once per reader. MazeVault stores, versions and hands out the text as it is.
 */
import { createHash, generateKeyPairSync } from "node:crypto";
import type { ReaderSpec } from "../../crds/secret.ts";
import { encodeFields } from "../canonical.ts";
import { Stalled } from "../errors.ts";
import { Sensitive } from "../sensitive.ts";
import { KEY_BYTES } from "./envelope.ts";
import { hpke, importPublicKey, placeFields, privateSealingKey, type SealedPlace } from "./sealing.ts";

/** Layout: format (1 byte), number of readers (1), their ids (16 each), then for each an encapsulated key (32) and a ciphertext. */
const FORMAT = 2;
const ID_BYTES = 16;
const ENCAPSULATED_BYTES = 32;
const TAG_BYTES = 16;

export interface ReaderKey {
  /** For the manifest: 32 bytes, base64url. */
  readonly publicKey: string;
  /** Stays with the reader: 32 bytes, base64url. */
  readonly privateKey: Sensitive;
}

/** A key pair for a reader. */
export function newReaderKey(): ReaderKey {
  const { x = "", d = "" } = generateKeyPairSync("x25519").privateKey.export({ format: "jwk" });
  return { publicKey: x, privateKey: new Sensitive(d) };
}

/** What people compare, and writers pin: SHA-256 of the public key, written as OpenSSH does. */
export const readerFingerprint = (publicKey: string): string =>
  `SHA256:${digestOf(publicKey).toString("base64").replace(/=+$/, "")}`;

/** The text to put, for each of these readers. */
export async function sealFor(readers: readonly ReaderSpec[], place: SealedPlace, value: Sensitive): Promise<string> {
  const header = Buffer.concat([
    Buffer.from([FORMAT, readers.length]),
    ...readers.map(({ publicKey }) => idOf(publicKey)),
  ]);
  const parts: Buffer[] = [];
  for (const { publicKey } of readers) {
    const to = { recipientPublicKey: await importPublicKey(publicKey), info: bound(place) };
    const { enc, ct } = await hpke.seal(to, value.reveal(), header);
    parts.push(Buffer.from(enc), Buffer.from(ct));
  }
  return Buffer.concat([header, ...parts]).toString("base64url");
}

/** Whether a stored value is such a text, whoever its readers are. */
export const isSealedForReaders = (value: Sensitive): boolean => idsOf(value).length > 0;

/**
 * What the reader with this private key reads.
 *
 * @throws Stalled SealedValueInvalid; ValueInvalid when the key is none
 */
export async function openAs(privateKey: Sensitive, place: SealedPlace, text: string): Promise<Sensitive> {
  const material = Buffer.from(privateKey.revealText(), "base64url");
  if (material.length !== KEY_BYTES) throw new Stalled("ValueInvalid", "the private key is not 32 bytes in base64url");
  const { pair, publicKey } = await privateSealingKey("", material);
  const { header, ids, parts } = parse(place.key, text);
  const part = parts[ids.findIndex((id) => id.equals(idOf(publicKey)))];
  if (part === undefined) {
    throw invalid(place.key, `it is not sealed for the reader ${readerFingerprint(publicKey)}`);
  }
  const [enc, ciphertext] = [part.subarray(0, ENCAPSULATED_BYTES), part.subarray(ENCAPSULATED_BYTES)];
  try {
    return new Sensitive(
      Buffer.from(await hpke.open({ recipientKey: pair, enc, info: bound(place) }, ciphertext, header)),
    );
  } catch {
    throw invalid(place.key, "it was sealed for another place, or was damaged");
  }
}

/**
 * Whether a value can be stored: what is not sealed, or not for all the readers and for them alone, is refused.
 *
 * @throws Stalled ValueInvalid
 */
export function assertSealedFor(readers: readonly ReaderSpec[], key: string, value: Sensitive): void {
  const wanted = readers.map(({ publicKey }) => idOf(publicKey).toString("hex")).sort();
  const found = idsOf(value);
  if (JSON.stringify(found) === JSON.stringify(wanted)) return;
  const names = readers.map(({ name }) => name).join(", ");
  throw new Stalled(
    "ValueInvalid",
    `entry ${key}: with protection EndToEnd the writer seals the value, for exactly the readers ${names}`,
  );
}

function idsOf(value: Sensitive): readonly string[] {
  try {
    const { ids } = parse("", value.revealText());
    return ids.map((id) => id.toString("hex")).sort();
  } catch {
    return [];
  }
}

interface Parsed {
  readonly header: Buffer;
  readonly ids: readonly Buffer[];
  readonly parts: readonly Buffer[];
}

function parse(key: string, text: string): Parsed {
  const bytes = Buffer.from(text, "base64url");
  const count = bytes[1] ?? 0;
  const header = bytes.subarray(0, 2 + count * ID_BYTES);
  const size = (bytes.length - header.length) / count;
  const whole = bytes.toString("base64url") === text && bytes[0] === FORMAT && Number.isInteger(size);
  if (!whole || size < ENCAPSULATED_BYTES + TAG_BYTES) throw invalid(key, "it is not sealed for readers");
  const slices = (from: number, length: number): Buffer[] =>
    Array.from({ length: count }, (_, index) => bytes.subarray(from + index * length, from + (index + 1) * length));
  return { header, ids: slices(2, ID_BYTES), parts: slices(header.length, size) };
}

const bound = (place: SealedPlace): Buffer => encodeFields("mazevault end-to-end value", placeFields(place));

const digestOf = (publicKey: string): Buffer =>
  createHash("sha256").update(Buffer.from(publicKey, "base64url")).digest();

const idOf = (publicKey: string): Buffer => digestOf(publicKey).subarray(0, ID_BYTES);

const invalid = (key: string, why: string): Stalled =>
  new Stalled("SealedValueInvalid", `entry ${key}: the value does not open: ${why}; ask its writer to put it again`);
