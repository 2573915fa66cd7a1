/**
 * Writing DER (X.690), as much of it as X.509, PKCS #10, CRLs and OCSP need. Every function returns one complete element;
 * the caller composes them. Arguments are trusted: what comes from users is checked where it becomes a name or a number,
 * and a RangeError from here is a programming error.
 */
import { encodedOid } from "../oid.ts";

/** Tag octets of universal types, as they stand in the encoding. */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

const contextClass = 0x80;
const constructedBit = 0x20;

/** The tag octet of `[n]`, constructed (EXPLICIT, or IMPLICIT of a SEQUENCE) or primitive. */
export const contextTag = (n: number, constructed: boolean): number =>
  contextClass | (constructed ? constructedBit : 0) | n;

/** Tag and length of an element with this many content octets; for streaming what is too large to copy. */
export function header(tag: number, length: number): Buffer {
  if (length < 0x80) return Buffer.from([tag, length]);
  if (length < 0x100) return Buffer.from([tag, 0x81, length]);
  if (length < 0x10000) return Buffer.from([tag, 0x82, length >> 8, length & 0xff]);
  if (length < 0x1000000) return Buffer.from([tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]);
  if (length > 0xffffffff) throw new RangeError("an element is longer than 4 GiB");
  const long = Buffer.from([tag, 0x84, 0, 0, 0, 0]);
  long.writeUInt32BE(length, 2);
  return long;
}

/** One element from its tag and the parts of its content. */
export function element(tag: number, parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const head = header(tag, length);
  const result = Buffer.allocUnsafe(head.length + length);
  result.set(head, 0);
  let at = head.length;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => element(tags.sequence, parts);

/** SET OF: the elements in ascending order of their encodings (X.690 11.6). */
export const setOf = (...parts: readonly Uint8Array[]): Buffer =>
  element(tags.set, parts.length > 1 ? [...parts].sort(Buffer.compare) : parts);

/** A non-negative INTEGER from a number, a bigint or big-endian magnitude octets. */
export function integer(value: number | bigint | Uint8Array, tag: number = tags.integer): Buffer {
  const magnitude = typeof value === "object" ? value : octets(value);
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++;
  const minimal = magnitude.subarray(start);
  return element(tag, (minimal[0] ?? 0x80) & 0x80 ? [zero, minimal] : [minimal]);
}

const zero = Buffer.of(0);

function octets(value: number | bigint): Buffer {
  if (value < 0 || (typeof value === "number" && !Number.isSafeInteger(value))) {
    throw new RangeError("an INTEGER must be whole, exact and not negative");
  }
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex");
}

export const enumerated = (value: number): Buffer => integer(value, tags.enumerated);

export const boolean = (value: boolean): Buffer => Buffer.of(tags.boolean, 1, value ? 0xff : 0);

export const nothing = (): Buffer => Buffer.of(tags.null, 0);

export const octetString = (...content: readonly Uint8Array[]): Buffer => element(tags.octetString, content);

/** A BIT STRING of whole octets. */
export const bitString = (bytes: Uint8Array): Buffer => element(tags.bitString, [zero, bytes]);

/** A BIT STRING with named bits: bit 0 is the most significant, trailing zero bits are left out (X.690 11.2.2). */
export function namedBits(bits: Iterable<number>): Buffer {
  const set = [...bits];
  const last = Math.max(-1, ...set);
  const bytes = Buffer.alloc((last >> 3) + 1);
  for (const bit of set) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  return element(tags.bitString, [Buffer.of(last < 0 ? 0 : 7 - (last & 7)), bytes]);
}

export const oid = (dotted: string): Buffer => encodedOid(dotted);

export const utf8 = (text: string): Buffer => element(tags.utf8String, [Buffer.from(text, "utf8")]);

/** PrintableString; the caller has checked the characters. */
export const printable = (text: string): Buffer => element(tags.printableString, [Buffer.from(text, "latin1")]);

/** IA5String; the caller has checked that the text is ASCII. */
export const ia5 = (text: string): Buffer => element(tags.ia5String, [Buffer.from(text, "latin1")]);

/** A time to the second as validity and CRLs have it: UTCTime until 2049, GeneralizedTime after (RFC 5280 4.1.2.5). */
export function time(at: Date): Buffer {
  const year = at.getUTCFullYear();
  return year >= 1950 && year < 2050
    ? element(tags.utcTime, [Buffer.from(digits(at).slice(2), "latin1")])
    : generalizedTime(at);
}

/** GeneralizedTime to the second, whatever the year (OCSP, invalidityDate). */
export const generalizedTime = (at: Date): Buffer => Buffer.from(`\x18\x0f${digits(at)}`, "latin1");

/** YYYYMMDDHHMMSSZ */
function digits(at: Date): string {
  const iso = at.toISOString();
  if (iso.length !== 24) throw new RangeError("a time must lie in the years 0 to 9999");
  return `${iso.slice(0, 4)}${iso.slice(5, 7)}${iso.slice(8, 10)}${iso.slice(11, 13)}${iso.slice(14, 16)}${iso.slice(17, 19)}Z`;
}

/** `[n] EXPLICIT`: wraps complete elements. Also `[n] IMPLICIT SEQUENCE` from the elements of the sequence. */
export const explicit = (n: number, ...parts: readonly Uint8Array[]): Buffer => element(contextTag(n, true), parts);

/** `[n] IMPLICIT`: one complete element under another tag, primitive or constructed as it was. */
export function implicit(n: number, encoded: Uint8Array): Buffer {
  const retagged = Buffer.from(encoded);
  retagged[0] = contextClass | ((encoded[0] ?? 0) & constructedBit) | n;
  return retagged;
}
