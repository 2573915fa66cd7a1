/**
 * Reading DER (X.690) that strangers sent. Strict: definite, minimal lengths, canonical values, nothing after the end, and
 * nothing is copied. Every element is visited once by the grammar that asks for it, so the time is linear in the input.
 */
import { knownOid, maxOidOctets } from "../oid.ts";
import { contextTag, tags } from "./writer.ts";

/** The input is not the DER that was expected. The message tells what is wrong and never holds bytes of the input. */
export class DerError extends Error {
  /** Where in the input, in octets from its start. */
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(`${message} (at octet ${offset})`);
    this.name = "DerError";
    this.offset = offset;
  }
}

export interface Element {
  /** The tag octet. */
  readonly tag: number;
  readonly content: Buffer;
  /** Tag, length and content. */
  readonly der: Buffer;
}

const maxDepth = 16;

/**
 * Reads one element and what `read` asks of it.
 *
 * @param maxOctets longer input is refused unread
 * @throws DerError also when `read` left something over
 */
export function readDer<T>(bytes: Uint8Array, read: (reader: DerReader) => T, maxOctets = 1 << 20): T {
  if (bytes.length > maxOctets) throw new DerError(maxOctets, `longer than ${maxOctets} octets`);
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new DerReader(buffer, 0, buffer.length, 0).whole(read);
}

/** A cursor over the elements of one constructed element. Every read moves it, or throws {@link DerError}. */
export class DerReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #depth: number;
  #at: number;

  constructor(bytes: Buffer, start: number, end: number, depth: number) {
    if (depth > maxDepth) throw new DerError(start, "nested too deeply");
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#depth = depth;
  }

  /** The tag octet of the next element, 0 at the end. */
  get next(): number {
    return this.#at < this.#end ? (this.#bytes[this.#at] ?? 0) : 0;
  }

  get done(): boolean {
    return this.#at >= this.#end;
  }

  /** Refuses the input where the cursor stands. */
  fail(message: string): never {
    throw new DerError(this.#at, message);
  }

  /** What `read` makes of the rest, which it must read completely. */
  whole<T>(read: (reader: DerReader) => T): T {
    const result = read(this);
    if (!this.done) this.fail("unexpected data after the last expected element");
    return result;
  }

  /** The next element, whatever it is. */
  any(): Element {
    const start = this.#at;
    const { contentStart, contentEnd } = this.#header();
    this.#at = contentEnd;
    return {
      tag: this.#bytes[start] ?? 0,
      content: this.#bytes.subarray(contentStart, contentEnd),
      der: this.#bytes.subarray(start, contentEnd),
    };
  }

  /** Content of the next element, which has this tag. */
  content(tag: number): Buffer {
    this.#expect(tag);
    return this.any().content;
  }

  /** What `read` makes of the elements inside the next one, which has this tag. */
  inside<T>(tag: number, read: (inner: DerReader) => T): T {
    this.#expect(tag);
    const { contentStart, contentEnd } = this.#header();
    this.#at = contentEnd;
    return new DerReader(this.#bytes, contentStart, contentEnd, this.#depth + 1).whole(read);
  }

  sequence<T>(read: (inner: DerReader) => T): T {
    return this.inside(tags.sequence, read);
  }

  /** SEQUENCE OF (or another tag for an IMPLICIT one); `read` reads one element. */
  list<T>(read: (inner: DerReader) => T, tag: number = tags.sequence): T[] {
    return this.inside(tag, (inner) => {
      const items: T[] = [];
      while (!inner.done) items.push(read(inner));
      return items;
    });
  }

  /** SET OF, in the order that DER demands (X.690 11.6). */
  setOf<T>(read: (inner: DerReader) => T, tag: number = tags.set): T[] {
    let previous: Buffer | undefined;
    return this.list((inner) => {
      const start = inner.#at;
      const item = read(inner);
      const der = inner.#bytes.subarray(start, inner.#at);
      if (previous && Buffer.compare(previous, der) > 0) throw new DerError(start, "a SET OF is not in DER order");
      previous = der;
      return item;
    }, tag);
  }

  /** `[n] EXPLICIT`, or the elements of an `[n] IMPLICIT SEQUENCE`. */
  explicit<T>(n: number, read: (inner: DerReader) => T): T {
    return this.inside(contextTag(n, true), read);
  }

  /** `read` when the next element has this tag, else undefined. */
  optional<T>(tag: number, read: (reader: DerReader) => T): T | undefined {
    return this.next === tag ? read(this) : undefined;
  }

  boolean(tag: number = tags.boolean): boolean {
    const start = this.#at;
    const content = this.content(tag);
    const value = content[0] === 0xff;
    if (content.length !== 1 || (!value && content[0] !== 0)) throw new DerError(start, "a BOOLEAN is not canonical");
    return value;
  }

  /** A BOOLEAN DEFAULT FALSE, which DER leaves out when it is false (X.690 11.5). */
  flag(tag: number = tags.boolean): boolean {
    if (this.next !== tag) return false;
    const start = this.#at;
    if (!this.boolean(tag)) throw new DerError(start, "a default value is encoded");
    return true;
  }

  /** Content of an INTEGER: two's complement, so it is negative when the top bit of the first octet is set. */
  integer(tag: number = tags.integer): Buffer {
    const start = this.#at;
    const content = this.content(tag);
    const [first, second = 0] = content;
    const padded = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
    if (first === undefined || padded) throw new DerError(start, "an INTEGER is not canonical");
    return content;
  }

  /** An INTEGER from 0 to 2^31-1. */
  number(tag: number = tags.integer): number {
    const start = this.#at;
    const content = this.integer(tag);
    if (content.length > 4 || (content[0] ?? 0) >= 0x80) throw new DerError(start, "an INTEGER is out of range");
    return content.readUIntBE(0, content.length);
  }

  enumerated(): number {
    return this.number(tags.enumerated);
  }

  null(): void {
    const start = this.#at;
    if (this.content(tags.null).length > 0) throw new DerError(start, "a NULL has content");
  }

  octetString(tag: number = tags.octetString): Buffer {
    return this.content(tag);
  }

  /** A BIT STRING of whole octets. */
  bitString(tag: number = tags.bitString): Buffer {
    const start = this.#at;
    const content = this.content(tag);
    if (content[0] !== 0) throw new DerError(start, "a BIT STRING is not of whole octets");
    return content.subarray(1);
  }

  /** Numbers of the bits that are set in a BIT STRING with named bits, in canonical form (X.690 11.2.2). */
  namedBits(tag: number = tags.bitString): number[] {
    const start = this.#at;
    const content = this.content(tag);
    if (content.length > 16) throw new DerError(start, "a BIT STRING has too many named bits");
    const [unused, ...bytes] = content;
    const bits = bytes.flatMap((byte, at) =>
      [0, 1, 2, 3, 4, 5, 6, 7].flatMap((n) => (byte & (0x80 >> n) ? at * 8 + n : [])),
    );
    const canonical = bits.length === 0 ? 0 : 7 - ((bits.at(-1) ?? 0) & 7);
    const length = bits.length === 0 ? 0 : ((bits.at(-1) ?? 0) >> 3) + 1;
    if (unused !== canonical || bytes.length !== length) throw new DerError(start, "a BIT STRING is not canonical");
    return bits;
  }

  /** A dotted OID. */
  oid(tag: number = tags.oid): string {
    const start = this.#at;
    const content = this.content(tag);
    if (content.length === 0 || content.length > maxOidOctets || (content.at(-1) ?? 0) & 0x80) {
      throw new DerError(start, "an OBJECT IDENTIFIER is empty, too long or cut off");
    }
    const known = knownOid(content);
    if (known !== undefined) return known;
    const arcs: (number | bigint)[] = [];
    let arc: number | bigint = 0;
    let fresh = true;
    for (const octet of content) {
      if (fresh && octet === 0x80) throw new DerError(start, "an OBJECT IDENTIFIER is not canonical");
      const low = octet & 0x7f;
      // Numbers are exact up to 2^53, and many times faster.
      arc = typeof arc === "number" && arc < 2 ** 46 ? arc * 128 + low : (BigInt(arc) << 7n) | BigInt(low);
      fresh = octet < 0x80;
      if (fresh) {
        arcs.push(arc);
        arc = 0;
      }
    }
    const [first = 0, ...rest] = arcs;
    const root = first < 80 ? Math.floor(Number(first) / 40) : 2;
    return [root, typeof first === "number" ? first - root * 40 : first - BigInt(root * 40), ...rest].join(".");
  }

  /** UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 allows them: to the second, in UTC. */
  time(): Date {
    return this.next === tags.utcTime ? this.#time(tags.utcTime) : this.generalizedTime();
  }

  generalizedTime(tag: number = tags.generalizedTime): Date {
    return this.#time(tag);
  }

  #time(tag: number): Date {
    const start = this.#at;
    const content = this.content(tag);
    const yearDigits = tag === tags.utcTime ? 2 : 4;
    const digits = (at: number): number => twoDigits(content, yearDigits + at);
    const first = twoDigits(content, 0);
    const year = tag === tags.utcTime ? first + (first < 50 ? 2000 : 1900) : first * 100 + twoDigits(content, 2);
    const [month, day, hour, minute, second] = [digits(0) - 1, digits(2), digits(4), digits(6), digits(8)] as const;
    const at = new Date(0);
    at.setUTCFullYear(year, month, day);
    at.setUTCHours(hour, minute, second);
    // Date rolls 30 February over; what it says then is not what stood there.
    const whole = content.length === yearDigits + 11 && content[yearDigits + 10] === 0x5a;
    if (!whole || at.getUTCDate() !== day || at.getUTCMonth() !== month || hour > 23 || minute > 59 || second > 59) {
      throw new DerError(start, "not a valid time to the second in UTC");
    }
    return at;
  }

  #expect(tag: number): void {
    if (this.next === tag && !this.done) return;
    this.fail(
      this.done
        ? `ends where an element ${hex(tag)} is expected`
        : `an element ${hex(this.next)} where ${hex(tag)} is expected`,
    );
  }

  /** Bounds of the next element's content; the cursor stays. */
  #header(): { contentStart: number; contentEnd: number } {
    const bytes = this.#bytes;
    const start = this.#at;
    if (start + 2 > this.#end) throw new DerError(start, "ends inside an element");
    if (((bytes[start] ?? 0) & 0x1f) === 0x1f) throw new DerError(start, "a tag number above 30");
    let contentStart = start + 2;
    let length = bytes[start + 1] ?? 0;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 4) throw new DerError(start, "an indefinite or too large length");
      contentStart += count;
      if (contentStart > this.#end) throw new DerError(start, "ends inside an element");
      length = bytes.readUIntBE(start + 2, count);
      if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw new DerError(start, "a length is not minimal");
    }
    if (length > this.#end - contentStart) throw new DerError(start, "an element is longer than what holds it");
    return { contentStart, contentEnd: contentStart + length };
  }
}

/** NaN when they are none. */
function twoDigits(octets: Buffer, at: number): number {
  const [tens, ones] = [(octets[at] ?? 0) - 0x30, (octets[at + 1] ?? 0) - 0x30];
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN;
}

const hex = (tag: number): string => `0x${tag.toString(16).padStart(2, "0")}`;
