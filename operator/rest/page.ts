/** Pages of a list: ordered by key, and continued after the last one that was seen. */
import { setImmediate as turn } from "node:timers/promises";
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

/** Between two turns of the event loop: some milliseconds of decisions. */
const CHUNK = 200;

/** The page of those items that `mayShow` lets through, each looked at only where it counts, and other work going on meanwhile. */
export async function visiblePage<T, R>(
  items: Iterable<T>,
  keyOf: (item: T) => string,
  { limit, after }: PageRequest,
  mayShow: (item: T) => boolean,
  show: (item: T) => R,
): Promise<{ items: R[]; next?: string }> {
  const seen = after === undefined ? "" : keyOfCursor(after);
  const rest = [...items].map((item) => ({ key: keyOf(item), item })).filter(({ key }) => key > seen);
  rest.sort((a, b) => (a.key < b.key ? -1 : 1));
  const shown: typeof rest = [];
  for (const [index, each] of rest.entries()) {
    if (index % CHUNK === CHUNK - 1) await turn();
    if (!mayShow(each.item)) continue;
    const last = shown.at(-1);
    if (shown.length === limit && last !== undefined) {
      return { items: shown.map(({ item }) => show(item)), next: cursorOf(last.key) };
    }
    shown.push(each);
  }
  return { items: shown.map(({ item }) => show(item)) };
}
