/**
 * Java's own keystore format (`JKS`, version 2), for programs that cannot read PKCS#12. It is not standardised; its
 * definition is the class that reads it, sun.security.provider.JavaKeyStore. Its protection is SHA-1 without iterations:
 * no better than the password, which the PKCS#12 store beside it uses better.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Sensitive } from "../../sensitive.ts";
import { nothing, octetString, oid, sequence } from "../der/writer.ts";
import type { KeyStoreContents } from "./contents.ts";

const MAGIC = 0xfeedfeed;
const VERSION = 2;
const PRIVATE_KEY_ENTRY = 1;
const TRUSTED_CERTIFICATE_ENTRY = 2;
/** sun.security.provider.KeyProtector */
const KEY_PROTECTOR = "1.3.6.1.4.1.42.2.17.1.1";
const SALT_BYTES = 20;

/**
 * A JKS keystore; the same password protects the store and the key in it. Aliases are written in lower case, as Java
 * looks them up. `createdAt` is the creation date of the entries.
 */
export function jks(contents: KeyStoreContents, password: Sensitive, createdAt: Date): Buffer {
  const secret = Buffer.from(password.revealText(), "utf16le").swap16();
  const { key, trusted = [] } = contents;
  const date = Buffer.alloc(8);
  date.writeBigInt64BE(BigInt(createdAt.getTime()));
  const parts = [uint32(MAGIC), uint32(VERSION), uint32(trusted.length + (key === undefined ? 0 : 1))];
  if (key !== undefined) {
    const plain = key.privateKey.export({ type: "pkcs8", format: "der" });
    const encrypted = sequence(sequence(oid(KEY_PROTECTOR), nothing()), octetString(protect(plain, secret)));
    plain.fill(0);
    parts.push(uint32(PRIVATE_KEY_ENTRY), text(key.alias.toLowerCase()), date, uint32(encrypted.length), encrypted);
    parts.push(uint32(key.chain.length), ...key.chain.map(certificate));
  }
  for (const entry of trusted) {
    parts.push(
      uint32(TRUSTED_CERTIFICATE_ENTRY),
      text(entry.alias.toLowerCase()),
      date,
      certificate(entry.certificate),
    );
  }
  const store = Buffer.concat(parts);
  const digest = createHash("sha1").update(secret).update("Mighty Aphrodite").update(store).digest();
  secret.fill(0);
  return Buffer.concat([store, digest]);
}

/** salt, key XOR keystream, check; each block of the keystream is SHA-1(password, previous block), the first is the salt. */
function protect(plain: Buffer, secret: Buffer): Buffer {
  const salt = randomBytes(SALT_BYTES);
  const encrypted = Buffer.from(plain);
  for (let offset = 0, block: Buffer = salt; offset < plain.length; offset += block.length) {
    block = createHash("sha1").update(secret).update(block).digest();
    for (const [index, byte] of block.subarray(0, plain.length - offset).entries()) {
      encrypted[offset + index] = (plain[offset + index] ?? 0) ^ byte;
    }
  }
  return Buffer.concat([salt, encrypted, createHash("sha1").update(secret).update(plain).digest()]);
}

function certificate(der: Buffer): Buffer {
  return Buffer.concat([text("X.509"), uint32(der.length), der]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** java.io.DataOutput's modified UTF-8, which is UTF-8 but for NUL and what is outside the BMP (surrogates separately). */
function text(value: string): Buffer {
  const units = Array.from({ length: value.length }, (_, index) => value.charCodeAt(index));
  const bytes = units.flatMap((unit) => {
    if (unit > 0 && unit < 0x80) return [unit];
    if (unit < 0x800) return [0xc0 | (unit >> 6), 0x80 | (unit & 0x3f)];
    return [0xe0 | (unit >> 12), 0x80 | ((unit >> 6) & 0x3f), 0x80 | (unit & 0x3f)];
  });
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, Buffer.from(bytes)]);
}
