/**
 * Core Secrets in a gateway's cluster, which the primary has it look at and write. A gateway keeps nothing of them: what was
 * delivered last comes with each task, and what stands there now goes back with its answer. Whatever is asked twice is done once.
 */
import { z } from "zod";
import { dataKey, labelName, objectName } from "../../crds/common.ts";
import { type Reason, reasons } from "../../crds/conditions.ts";
import { deliveredMetadata } from "../../crds/delivery.ts";
import { gatewayEnvironment } from "../../crds/gateway.ts";
import { DELIVERABLE_TYPES } from "../../crds/secret.ts";
import type { TaskKind } from "./tasks.ts";

/** A task says whether it was refused as a whole before any of these is reached. */
export const LOOKED_AT_ONCE = 500;
export const DELIVERED_AT_ONCE = 50;

const uid = z.string().min(1).max(128);
const text = z.string().max(1024);

/** As `DeliveryRecord`; its fingerprint is by `copy-digests.ts`. */
const delivery = z.strictObject({
  secretName: objectName,
  uid,
  resourceVersion: z.string().min(1).max(64),
  fingerprint: z.string().max(256),
  version: z.int().positive(),
  pendingRestarts: z.array(z.string().max(317)).max(64),
});

/** For what, and how: the same for all of a task. */
const frame = {
  /** Of the primary: whose the core Secrets are. */
  installation: z.string().min(1).max(64),
  /** Of the gateways that may have them; one of another environment refuses. */
  environment: gatewayEnvironment,
  project: objectName,
  /** Of the project. */
  projectEnvironment: labelName,
  rule: z.strictObject({ namespace: labelName, name: objectName, uid }),
  /** Of the gateway's cluster. */
  namespace: labelName,
  type: z.enum(DELIVERABLE_TYPES),
  labels: deliveredMetadata.labels.refine(
    (labels) => labels === undefined || !("owner" in labels),
    "owner is not allowed",
  ),
  annotations: deliveredMetadata.annotations,
  restartConsumers: z.boolean(),
  adopt: z.boolean(),
};

const wanted = {
  secretName: objectName,
  /** The Secret at the primary; it is in the namespace of the rule. */
  source: z.strictObject({ name: objectName, uid }),
  keys: z
    .array(z.strictObject({ from: dataKey, to: dataKey }))
    .min(1)
    .max(256),
  /** See `copyKey`. */
  copyKey: z.string().regex(/^[0-9a-f]{64}$/),
  /** Of what is to be delivered. */
  version: z.int().positive(),
  /** What was delivered last; absent: nothing that is known of. */
  delivered: delivery.optional(),
  /** UIDs of rules that write a core Secret of this name through the other gateway of the pair: what bears their mark is left to them. */
  rivals: z.array(uid).max(1_000),
};

const place = z.strictObject(wanted);
/** Base64, by key of the Secret. */
const withValues = z.strictObject({ ...wanted, data: z.record(dataKey, z.base64().max(1_500_000)) });

/** Of another version there may be reasons that are not known here. */
const reason = z
  .string()
  .max(64)
  .transform((code): Reason => (Object.hasOwn(reasons, code) ? (code as Reason) : "Failed"));

const refused = z.object({ kind: z.literal("Refused"), reason, message: text });
const failed = z.object({ kind: z.literal("Failed"), reason, message: text });
const waiting = z.object({ kind: z.literal("Waiting"), reason, message: text, afterMs: z.number().nonnegative() });

const sight = z.discriminatedUnion("kind", [
  /** Nobody has touched it since. */
  z.object({ kind: z.literal("AsLeft") }),
  /** Somebody has, and it is as it should be all the same; or it is another one which is. */
  z.object({ kind: z.literal("Moved"), delivery }),
  /** Values are needed to tell, or to write. `state`: what stands there; empty: nothing does. */
  z.object({ kind: z.literal("Due"), state: z.string().max(256) }),
  refused,
  failed,
  waiting,
]);

const outcome = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Delivered"), delivery, written: z.boolean() }),
  refused,
  failed,
  waiting,
]);

const lookBody = z.strictObject({ ...frame, secrets: z.array(place).min(1).max(LOOKED_AT_ONCE) });
const deliverBody = z.strictObject({ ...frame, secrets: z.array(withValues).min(1).max(DELIVERED_AT_ONCE) });
/** In the order of the body. */
const lookResult = z.object({ secrets: z.array(sight).max(LOOKED_AT_ONCE) });
const deliverResult = z.object({ secrets: z.array(outcome).max(DELIVERED_AT_ONCE) });

export type DeliveryFrame = Omit<z.output<typeof lookBody>, "secrets">;
export type WantedCopy = z.output<typeof place>;
export type CopyWithValues = z.output<typeof withValues>;
export type SightOfCopy = z.output<typeof sight>;
export type OutcomeOfCopy = z.output<typeof outcome>;
export type LookBody = z.output<typeof lookBody>;
export type LookResult = z.output<typeof lookResult>;
export type DeliverBody = z.output<typeof deliverBody>;
export type DeliverResult = z.output<typeof deliverResult>;

/** Tells how core Secrets stand, without a value on the way in either direction. Writes nothing. */
export const lookAtSecrets: TaskKind<LookBody, LookResult> = {
  kind: "LookAtSecrets",
  body: lookBody,
  result: lookResult,
};

/** Writes core Secrets. Those that cannot be written hold up no other. */
export const deliverSecrets: TaskKind<DeliverBody, DeliverResult> = {
  kind: "DeliverSecrets",
  body: deliverBody,
  result: deliverResult,
};
