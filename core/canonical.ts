/**
 * One encoding for everything that is authenticated: no two different lists of fields have the same bytes, so that no
 * field can run over into its neighbour.
 */

export type Field = string | Buffer | number | bigint | Date | undefined;

const TYPE = { absent: 0, text: 1, bytes: 2, number: 3, time: 4 } as const;
const HEADER_BYTES = 5;
const COUNT_BYTES = 4;

/**
 * The number of fields (4 bytes, big-endian), then `purpose` and each field as: type (1 byte), length in bytes (4 bytes,
 * big-endian), content. Text is UTF-8, numbers are decimal text, times are ISO 8601 in UTC. Throws RangeError on a number
 * that is not a safe integer, and on text with a lone surrogate, which UTF-8 cannot tell apart.
 */
export function encodeFields(purpose: string, fields: readonly Field[]): Buffer {
  const parts = [part(purpose), ...fields.map(part)];
  const encoded = Buffer.allocUnsafe(
    parts.reduce((sum, { content }) => sum + HEADER_BYTES + byteLength(content), COUNT_BYTES),
  );
  let end = encoded.writeUInt32BE(fields.length);
  for (const { type, content } of parts) {
    end = encoded.writeUInt8(type, end);
    end = encoded.writeUInt32BE(byteLength(content), end);
    end += typeof content === "string" ? encoded.write(content, end, "utf8") : content.copy(encoded, end);
  }
  return encoded;
}

const byteLength = (content: string | Buffer): number =>
  typeof content === "string" ? Buffer.byteLength(content, "utf8") : content.length;

function part(field: Field): { readonly type: number; readonly content: string | Buffer } {
  if (field === undefined) return { type: TYPE.absent, content: "" };
  if (Buffer.isBuffer(field)) return { type: TYPE.bytes, content: field };
  if (field instanceof Date) return { type: TYPE.time, content: field.toISOString() };
  if (typeof field === "string") {
    if (!field.isWellFormed()) throw new RangeError("text to authenticate is not well-formed Unicode");
    return { type: TYPE.text, content: field };
  }
  if (typeof field === "number" && !Number.isSafeInteger(field)) {
    throw new RangeError("a number to authenticate must be a safe integer");
  }
  return { type: TYPE.number, content: field.toString(10) };
}
