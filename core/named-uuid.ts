import { createHash } from "node:crypto";
import { encodeFields, type Field } from "./canonical.ts";

/** The same UUID for the same fields of the same purpose, which nobody can choose: version 8 (RFC 9562, section 5.8) of their SHA-256. */
export function namedUuid(purpose: string, fields: readonly Field[]): string {
  const digest = createHash("sha256").update(encodeFields(purpose, fields)).digest("hex");
  const variant = ((Number.parseInt(digest.charAt(16), 16) & 0b11) | 0b1000).toString(16);
  const [first, second, third] = [digest.slice(0, 8), digest.slice(8, 12), digest.slice(13, 16)];
  return `${first}-${second}-8${third}-${variant}${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
}
