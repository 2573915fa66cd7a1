/** Serial numbers of certificates. */
import { randomBytes } from "node:crypto";
import { MalformedInput, quoted } from "./malformed-input.ts";

const DAY_MS = 24 * 3_600_000;

/**
 * 18 octets: the day on which it is taken, then 128 random bits. What stands in the store is compared with it; what was removed
 * from there after its end was of an earlier day, so that no serial number comes twice. The day's top bit is clear and the next
 * one set, so that the INTEGER is positive and of one length (RFC 5280 4.1.2.2).
 */
export function newSerialNumber(at: Date): Buffer {
  const day = Buffer.alloc(2);
  // Days since 1970 look like this from 2014 to 2059; then they begin again.
  day.writeUInt16BE(0x4000 | (Math.floor(at.getTime() / DAY_MS) & 0x3fff));
  return Buffer.concat([day, randomBytes(16)]);
}

/** As openssl prints it and resources have it: `3f:0a:...`, without the zero octet that keeps an INTEGER positive. */
export const serialToText = (serial: Uint8Array): string =>
  Buffer.from(serial)
    .toString("hex")
    .replace(/^(?:00)+(?=.)/, "")
    .replace(/..(?=.)/g, "$&:");

/**
 * The content octets of the INTEGER, from hexadecimal digits with or without colons.
 *
 * @throws MalformedInput naming `field`
 */
export function parseSerial(text: string, field: string): Buffer {
  const digits =
    text.length <= 64 && /^(?:[0-9a-f]{2}(?::[0-9a-f]{2})*|[0-9a-f]+)$/i.test(text) ? text.replaceAll(":", "") : "";
  const octets = Buffer.from(digits.length % 2 ? `0${digits}` : digits, "hex");
  const first = octets.findIndex((octet) => octet !== 0);
  if (first < 0)
    throw new MalformedInput(field, `${quoted(text)} is no serial number; write it as status.serialNumber has it`);
  const magnitude = octets.subarray(first);
  const content = (magnitude[0] ?? 0) & 0x80 ? Buffer.concat([Buffer.of(0), magnitude]) : magnitude;
  if (content.length > 20) throw new MalformedInput(field, "a serial number has at most 20 octets");
  return content;
}
