/** Serial numbers of certificates. */
import { randomBytes } from "node:crypto";
import { MalformedInput, quoted } from "./malformed-input.ts";

/**
 * 16 octets, 126 of whose bits are random. The top bit is clear, so that the INTEGER is positive, and the next one set, so that
 * every serial number has the same length (RFC 5280 4.1.2.2).
 */
export function newSerialNumber(): Buffer {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

/** As openssl prints it and resources have it: `3f:0a:...`. */
export const serialToText = (serial: Uint8Array): string =>
  Buffer.from(serial)
    .toString("hex")
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
