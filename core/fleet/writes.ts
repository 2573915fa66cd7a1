/** Writes that a gateway sends to its primary, and what the primary says of them; JSON, judged by these schemas on arrival. */
import { z } from "zod";
import { dataKey, labelName, objectName } from "../../crds/common.ts";

export const WRITES_PATH = "/fleet/v1/writes";
export const KNOWN_WRITES_PATH = "/fleet/v1/writes/known";

/** In one request. */
export const MOST_WRITES = 100;
/** Ids that are asked about in one request. */
export const MOST_KNOWN = 1_000;

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/, "must be base64");

export const writeAuthor = z.strictObject({
  /** Such as `LocalUser alice@example.com`. */
  subject: z.string().min(1).max(512),
  /** By what they were authenticated at the gateway. */
  via: z.string().min(1).max(64),
});
export type WriteAuthor = z.infer<typeof writeAuthor>;

export const gatewayWrite = z.strictObject({
  id: z.uuid(),
  place: z.strictObject({ namespace: labelName, name: objectName }),
  /** Which secret the author meant: another one that stands at its place by now gets nothing of it. */
  secret: z.strictObject({
    id: z.uuid(),
    project: objectName,
    environment: labelName,
    namespaceUid: z.string().max(256),
  }),
  /** By key: base64 of the bytes. */
  values: z.record(dataKey, base64).refine((values) => Object.keys(values).length > 0, "must have at least one key"),
  /** Version that the gateway had when it accepted the write. */
  baseVersion: z.int().nonnegative(),
  /** The write of the same secret before it: what that has set is no conflict with this one. */
  follows: z.uuid().optional(),
  /** Milliseconds since the gateway accepted it, by the gateway's own clock. */
  ageMs: z.int().nonnegative(),
  author: writeAuthor,
});
export type GatewayWrite = z.infer<typeof gatewayWrite>;

const code = z.string().regex(/^[A-Za-z]{1,64}$/);
const detail = z.string().max(4_096);
const version = z.int().positive();

const applied = z.object({
  kind: z.literal("Applied"),
  /** The version that has the values. */
  version,
  /** Keys that have another value since; none: all had theirs already. */
  changed: z.array(z.string()),
});
const keptBeside = z.object({
  kind: z.literal("KeptBeside"),
  /** The version that has the values, which never was the current one; absent where a kept one had them already. */
  version: version.optional(),
});
const refused = z.object({ kind: z.literal("Refused"), code, detail });

/**
 * What came of a write, for good. Applied: the values are current. KeptBeside: somebody has set newer ones, so they stay as a
 * version of their own. Refused: they cannot be stored.
 */
export const writeOutcome = z.discriminatedUnion("kind", [applied, keptBeside, refused]);
export type WriteOutcome = z.infer<typeof writeOutcome>;

/** Not now: nothing was done, and the write is to be sent again. */
const later = z.object({ kind: z.literal("Later"), code, detail });

/** Also below: what is not understood may be a condition of the write. */
export const writesRequest = z.strictObject({
  /** Writes that had an outcome of effect last: where one of them is not known, this primary was restored, and does nothing. */
  settled: z.array(z.uuid()).max(MOST_WRITES),
  /** In order; those of one secret are done one after the other. */
  writes: z.array(gatewayWrite).max(MOST_WRITES),
});
export type WritesRequest = z.infer<typeof writesRequest>;

export const writesAnswer = z.object({
  /** Ids of `settled` that are not known here. */
  forgotten: z.array(z.uuid()),
  outcomes: z.array(
    z.object({ id: z.uuid(), outcome: z.discriminatedUnion("kind", [applied, keptBeside, refused, later]) }),
  ),
});
export type WritesAnswer = z.infer<typeof writesAnswer>;
export type AnsweredOutcome = WritesAnswer["outcomes"][number]["outcome"];

export const knownWritesRequest = z.object({ ids: z.array(z.uuid()).max(MOST_KNOWN) });
export const knownWritesAnswer = z.object({ forgotten: z.array(z.uuid()) });
