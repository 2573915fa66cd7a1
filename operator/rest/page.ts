/** Pages of a list: ordered by key, and continued after the last one that was seen. */
import { z } from "zod";

const DEFAULT_LIMIT = 100;
const LARGEST_LIMIT = 500;

export const pageQuery = {
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(LARGEST_LIMIT)
    .default(DEFAULT_LIMIT)
    .meta({ description: "Number of items at most." }),
  after: z
    .string()
    .min(1)
    .max(512)
    .regex(/^[\w-]+$/, "must be what `next` of the page before said")
    .optional()
    .meta({ description: "What `next` of the page before said." }),
};

export const pageOf = <T extends z.ZodType>(item: T) =>
  z.strictObject({
    items: z.array(item),
    next: z.string().optional().meta({ description: "Asks for the next page, as `after`; absent on the last one." }),
  });

export interface PageRequest {
  readonly limit: number;
  readonly after?: string | undefined;
}

export const cursorOf = (key: string): string => Buffer.from(key, "utf8").toString("base64url");
export const keyOfCursor = (cursor: string): string => Buffer.from(cursor, "base64url").toString("utf8");

/** The page of those items, each with the key that orders it, whose keys come after the cursor. */
export function page<T, R>(
  items: Iterable<T>,
  keyOf: (item: T) => string,
  { limit, after }: PageRequest,
  show: (item: T) => R,
): { items: R[]; next?: string } {
  const seen = after === undefined ? "" : keyOfCursor(after);
  const rest = [...items].map((item) => ({ key: keyOf(item), item })).filter(({ key }) => key > seen);
  rest.sort((a, b) => (a.key < b.key ? -1 : 1));
  const shown = rest.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(({ item }) => show(item)),
    ...(last !== undefined && rest.length > limit && { next: cursorOf(last.key) }),
  };
}
