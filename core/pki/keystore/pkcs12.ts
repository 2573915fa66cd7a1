/**
 * PKCS#12 (RFC 7292) as Java since 8u301 and OpenSSL since 1.1 read it: encrypted by PBES2 with AES-256-CBC and
 * PBKDF2-HMAC-SHA-256 (RFC 8018), under an HMAC-SHA-256. Java 17 does not know the newer PBMAC1 (RFC 9579).
 */
import { createCipheriv, createHash, createHmac, hash, pbkdf2, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import type { Sensitive } from "../../sensitive.ts";
import {
  element,
  explicit,
  implicit,
  integer,
  nothing,
  octetString,
  oid,
  sequence,
  setOf,
  tags,
} from "../der/writer.ts";
import { type KeyStoreContents, KeyStoreError } from "./contents.ts";

const DATA = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA = "1.2.840.113549.1.7.6";
const SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2";
const CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
const FRIENDLY_NAME = "1.2.840.113549.1.9.20";
const LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
/** sun.security.pkcs12.PKCS12KeyStore: a certificate is a trust anchor only with this attribute. */
const TRUSTED_KEY_USAGE = "2.16.840.1.113894.746875.1.1";
const ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";
const PBES2 = "1.2.840.113549.1.5.13";
const PBKDF2 = "1.2.840.113549.1.5.12";
const HMAC_WITH_SHA256 = "1.2.840.113549.2.9";
const AES_256_CBC = "2.16.840.1.101.3.4.1.42";
const SHA256 = "2.16.840.1.101.3.4.2.1";

/** Java 17's own number, for each of the three derivations. */
const ITERATIONS = 10_000;
const SALT_BYTES = 16;

const derive = promisify(pbkdf2);

/** com.sun.crypto.provider.PBEKey takes no other password. */
const PRINTABLE_ASCII = /^[ -~]*$/;

/**
 * A PKCS#12 keystore; the same password protects its integrity, its certificates and the key.
 *
 * @throws KeyStoreError for a password that Java could not use
 */
export async function pkcs12(contents: KeyStoreContents, password: Sensitive): Promise<Buffer> {
  if (!PRINTABLE_ASCII.test(password.revealText())) {
    throw new KeyStoreError("the password of a PKCS#12 keystore must be printable ASCII: Java takes no other");
  }
  const { key, trusted = [] } = contents;
  const certificates = trusted.map((entry) =>
    certificateBag(entry.certificate, [
      friendlyName(entry.alias),
      attribute(TRUSTED_KEY_USAGE, oid(ANY_EXTENDED_KEY_USAGE)),
    ]),
  );
  const safes: Buffer[] = [];
  if (key !== undefined) {
    const [leaf, ...issuers] = key.chain;
    if (leaf === undefined) throw new KeyStoreError("a key in a PKCS#12 keystore needs its certificate");
    const attributes = [friendlyName(key.alias), attribute(LOCAL_KEY_ID, octetString(hash("sha1", leaf, "buffer")))];
    const plain = key.privateKey.export({ type: "pkcs8", format: "der" });
    const { algorithm, ciphertext } = await encrypt(plain, password);
    plain.fill(0);
    const shrouded = sequence(algorithm, octetString(ciphertext));
    safes.push(data(sequence(bag(SHROUDED_KEY_BAG, shrouded, attributes))));
    certificates.unshift(certificateBag(leaf, attributes), ...issuers.map((issuer) => certificateBag(issuer, [])));
  }
  const { algorithm, ciphertext } = await encrypt(sequence(...certificates), password);
  const encrypted = sequence(oid(DATA), algorithm, implicit(0, octetString(ciphertext)));
  safes.push(sequence(oid(ENCRYPTED_DATA), explicit(0, sequence(integer(0), encrypted))));

  const authenticated = sequence(...safes);
  const salt = randomBytes(SALT_BYTES);
  const mac = createHmac("sha256", macKey(password, salt)).update(authenticated).digest();
  const digestInfo = sequence(sequence(oid(SHA256), nothing()), octetString(mac));
  return sequence(integer(3), data(authenticated), sequence(digestInfo, octetString(salt), integer(ITERATIONS)));
}

async function encrypt(plain: Buffer, password: Sensitive): Promise<{ algorithm: Buffer; ciphertext: Buffer }> {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(16);
  const key = await derive(password.reveal(), salt, ITERATIONS, 32, "sha256");
  const cipher = createCipheriv("aes-256-cbc", key, iv);
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
  key.fill(0);
  const derivation = sequence(octetString(salt), integer(ITERATIONS), sequence(oid(HMAC_WITH_SHA256), nothing()));
  const scheme = sequence(sequence(oid(PBKDF2), derivation), sequence(oid(AES_256_CBC), octetString(iv)));
  return { algorithm: sequence(oid(PBES2), scheme), ciphertext };
}

/** RFC 7292, appendix B.2, for one block of SHA-256 (32 octets): purpose 3, the password as BMPString with its end. */
function macKey(password: Sensitive, salt: Buffer): Buffer {
  const block = createHash("sha256").update(Buffer.alloc(64, 3));
  const secret = Buffer.from(`${password.revealText()}\0`, "utf16le").swap16();
  let digest = block.update(fill(salt)).update(fill(secret)).digest();
  secret.fill(0);
  for (let round = 1; round < ITERATIONS; round += 1) digest = hash("sha256", digest, "buffer");
  return digest;
}

/** As many whole and partial copies as fill blocks of 64 octets. */
function fill(bytes: Buffer): Buffer {
  return Buffer.alloc(64 * Math.ceil(bytes.length / 64), bytes);
}

function data(content: Buffer): Buffer {
  return sequence(oid(DATA), explicit(0, octetString(content)));
}

function certificateBag(der: Buffer, attributes: readonly Buffer[]): Buffer {
  return bag(CERTIFICATE_BAG, sequence(oid(X509_CERTIFICATE), explicit(0, octetString(der))), attributes);
}

function bag(type: string, value: Buffer, attributes: readonly Buffer[]): Buffer {
  return sequence(oid(type), explicit(0, value), ...(attributes.length === 0 ? [] : [setOf(...attributes)]));
}

function attribute(type: string, value: Buffer): Buffer {
  return sequence(oid(type), setOf(value));
}

function friendlyName(alias: string): Buffer {
  return attribute(FRIENDLY_NAME, element(tags.bmpString, [Buffer.from(alias, "utf16le").swap16()]));
}
