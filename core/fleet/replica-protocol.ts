/** What a gateway asks its primary for to keep its replica, inside the channel. */
import { z } from "zod";

export const REPLICA = "/fleet/v1/replica";
export const REPLICA_VALUES = "/fleet/v1/replica-values";

/** The channel drains for some seconds when a primary ends, and an answer that has nothing to say can wait no longer. */
export const LONGEST_WAIT_MS = 10_000;
/** In one answer. */
export const ITEMS_PER_ANSWER = 1_000;
export const VALUES_PER_REQUEST = 100;

/** SHA-256, hex. */
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const key = z.string().min(1).max(600);

/** One thing that a gateway may have; `body` is JSON as text, so that both sides digest the same bytes. */
const item = z.object({ key, body: z.string() });

export const replicaRequest = z.object({
  /** What the last answer said; absent: none has come since this gateway started. */
  instance: z.uuid().optional(),
  sequence: z.int().nonnegative().optional(),
  /** Over all items that the gateway has. */
  digest,
  /** For the next page of an index: the last key of the page before. */
  after: key.optional(),
  waitMs: z.int().nonnegative().max(LONGEST_WAIT_MS),
});
export type ReplicaRequest = z.infer<typeof replicaRequest>;

const position = { instance: z.uuid(), sequence: z.int().nonnegative() };

export const replicaAnswer = z.discriminatedUnion("kind", [
  /** The gateway has what it may have. */
  z.object({ kind: z.literal("Same"), ...position }),
  /** `digest`: over all that the gateway may have, when these are all changes. */
  z.object({
    kind: z.literal("Changes"),
    ...position,
    changed: z.array(item),
    removed: z.array(key),
    digest: digest.optional(),
  }),
  /** A page of everything, by key; `next` asks for the one after it. What changes meanwhile comes behind the first page's sequence. */
  z.object({ kind: z.literal("Index"), ...position, items: z.array(item), next: key.optional() }),
]);
export type ReplicaAnswer = z.infer<typeof replicaAnswer>;

export const replicaValuesRequest = z.object({
  items: z.array(z.object({ key, digest })).min(1).max(VALUES_PER_REQUEST),
});
export type ReplicaValuesRequest = z.infer<typeof replicaValuesRequest>;

/**
 * In the order of the request. Values: base64 by entry. Gone: not this gateway's, or not any more. Moved: it has changed since;
 * what it is now comes with the next changes. Later: the answer is full; ask again. Unavailable: it cannot be opened now.
 */
const valuesOfItem = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Values"), values: z.record(z.string(), z.base64()) }),
  z.object({ kind: z.enum(["Gone", "Moved", "Later", "Unavailable"]) }),
]);
export type ValuesOfItem = z.infer<typeof valuesOfItem>;

export const replicaValuesAnswer = z.object({ items: z.array(valuesOfItem).max(VALUES_PER_REQUEST) });
export type ReplicaValuesAnswer = z.infer<typeof replicaValuesAnswer>;
