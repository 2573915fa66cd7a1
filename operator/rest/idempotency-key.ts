/** The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a string of structured fields (RFC 9651, 3.3.3). */
import { Problem } from "./problem.ts";

const LONGEST = 255;
const PATTERN = `^"([ !#-\\[\\]-~]|\\\\["\\\\]){1,${LONGEST}}"$`;
const STRING = new RegExp(PATTERN);

/** As OpenAPI describes it. */
export const idempotencyKeyHeader = {
  name: "Idempotency-Key",
  in: "header",
  required: false,
  description:
    "A new string for each request, such as a UUID in quotes: whoever sends the request again with it within 24 hours has the first answer, and nothing is done twice.",
  schema: { type: "string", pattern: PATTERN },
};

/** The key; undefined when there is none. Throws a `Problem` with 400. */
export function idempotencyKeyOf(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  if (STRING.test(header)) return header.slice(1, -1).replaceAll(/\\(.)/g, "$1");
  const message = `must be a string in quotes of 1 to ${LONGEST} characters, such as "8e03978e-40d5-43e8-bc93-6894a57f9324"`;
  throw new Problem(400, "InvalidRequest", `Idempotency-Key ${message}`, {
    errors: [{ field: "header.idempotency-key", message }],
  });
}
