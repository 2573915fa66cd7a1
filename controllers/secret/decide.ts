/**
 * What to do for one Secret, from what was observed.
 *
 *   (no version) --StoreVersion--> stored --Deliver--> delivered --RestartWorkloads--> settled
 *                                    |  ^                  |
 *                                    |  +-- source or spec changed
 *                                    +--ReleaseDelivery--> (deliver removed, or another secretName)
 *
 * In between, entries that are due get new values: Rotate makes the next version, and all goes on as after any other.
 *
 * With `rotation.apply` that version is pending first: Propose makes it, Apply lets what uses it take it, and only then it
 * is current and delivered; Confirm waits for those who use it, End ends what the one before was good for.
 *
 * A version may lack external entries that nobody has written yet: then nothing is delivered. Whoever writes them makes
 * the next version, and the outbox wakes the Secret.
 *
 * Each round plans the next effect only, since what follows depends on what it brings about.
 */
import { Stalled } from "../../core/errors.ts";
import type { Lifecycle, RotationRecord, SecretRecord } from "../../core/ports/vault-store.ts";
import { appliedKeys, NOTHING_IS_PENDING_THERE } from "../../core/vault/apply.ts";
import { firstRotation, planRotation, type RotationCause, type RotationPlan } from "../../core/vault/due.ts";
import type { Digester } from "../../core/vault/fingerprint.ts";
import { sameLifecycle } from "../../core/vault/pointer.ts";
import { planVersion, unwritten } from "../../core/vault/recipe.ts";
import type { DeliverSpec, Secret } from "../../crds/secret.ts";
import { type DesiredDelivery, deliveredName, desiredDelivery, sourceOf } from "../delivery/desired.ts";
import type { DeliveryOutcome } from "../delivery/perform.ts";
import { type DeliveryAction, type ObservedCoreSecret, planDelivery, type Refusal } from "../delivery/plan.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";
import type { ApplyAction, ApplyActionOutcome } from "./apply/perform.ts";
import { type ApplyStep, applyCondition, applyStep, type DeliveryState, type Underway } from "./apply/plan.ts";

export interface Observed {
  readonly installation: string;
  readonly digests: Digester;
  readonly lifecycle: Lifecycle;
  readonly record: SecretRecord | undefined;
  /** By entry key, for every secretRef entry. */
  readonly sources: ReadonlyMap<string, string>;
  /** NotRequested: there is no `deliver`. */
  readonly core: ObservedCoreSecret | { readonly kind: "NotRequested" };
  /** What restarting brought to light, in this pass. */
  readonly restartProblems: readonly string[];
  /** What applying waits for, once that is known in this pass. */
  readonly underway?: Underway | undefined;
}

export type Action =
  | {
      readonly kind: "StoreVersion";
      readonly secret: Secret;
      readonly seen: SecretRecord | undefined;
      readonly lifecycle: Lifecycle;
      /** Of a secret that was never stored. */
      readonly rotation?: RotationRecord | undefined;
    }
  | {
      readonly kind: "Rotate";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly keys: readonly string[];
      readonly cause: RotationCause;
    }
  /** The manifest asks for other times than before. */
  | {
      readonly kind: "ChangeRotation";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly rotation: RotationRecord;
    }
  | ApplyAction
  | (DeliveryAction & { readonly secret: Secret; readonly record: SecretRecord });

export type Outcome = ApplyActionOutcome | DeliveryOutcome;

const NONE_REQUESTED: OwnedCondition = {
  type: "Delivered",
  status: "False",
  reason: "NotRequested",
  message: "spec.deliver is not set",
};

export function secretDelivery(secret: Secret, deliver: DeliverSpec, installation: string): DesiredDelivery {
  const { metadata, spec } = secret;
  const what = {
    source: sourceOf("Secret", secret),
    namespace: metadata.namespace ?? "",
    secretName: deliveredName(secret) ?? metadata.name,
    type: deliver.type ?? "Opaque",
    keys: deliver.keys ?? spec.entries.map(({ key }) => ({ from: key, to: key })),
    owned: spec.deletionPolicy !== "Retain",
    field: "spec.deliver",
  } as const;
  return desiredDelivery(what, deliver, installation);
}

export const ROTATE_ANNOTATION = "mazevault.io/rotate";
/** What status holds of it. */
const LONGEST_TOKEN = 256;

/** What there is to say and do about rotating; nothing while no version is stored. */
type Rotation = RotationPlan | { readonly kind: "Refused"; readonly refusal: Refusal } | undefined;

export function decide(secret: Secret, seen: Observed, now: Date): Plan<Action> {
  const rotation = rotationOf(secret, seen.record, now);
  const before = rotationSteps(secret, seen, rotation, now);
  const delivering = before ?? deliverySteps(secret, seen, now);
  const applying = before === undefined ? applyingStep(secret, seen, rotation, delivering, now) : undefined;
  const next =
    delivering.actions.length === 0 && applying?.action !== undefined
      ? { ...delivering, actions: [applying.action] }
      : delivering;
  return withRotation(next, secret, seen, rotation, applying, now);
}

/** What comes before anything is delivered. */
function rotationSteps(secret: Secret, seen: Observed, rotation: Rotation, now: Date): Plan<Action> | undefined {
  const { record, lifecycle } = seen;
  if (needsVersion(secret, seen)) {
    const first = record === undefined ? firstRotation(secret.spec, requestOf(secret), now) : undefined;
    return plan(secret, seen, [{ kind: "StoreVersion", secret, seen: record, lifecycle, rotation: first }]);
  }
  // Every entry is external, and none was written.
  if (record === undefined) return plan(secret, seen, []);
  if (rotation?.kind === "Rotate" && secret.spec.rotation?.apply === undefined && !isApplying(record)) {
    const { keys, cause } = rotation;
    return plan(secret, seen, [{ kind: "Rotate", secret, record, keys, cause }]);
  }
  if (rotation?.kind === "Change") {
    return plan(secret, seen, [{ kind: "ChangeRotation", secret, record, rotation: rotation.rotation }]);
  }
  return undefined;
}

/** Something of an `apply` that the manifest has, or had, stands in between. */
const isApplying = ({ rotation }: SecretRecord): boolean =>
  rotation?.apply?.pending !== undefined || rotation?.apply?.former !== undefined;

function deliverySteps(secret: Secret, seen: Observed, now: Date): Plan<Action> {
  const { record, core, digests } = seen;
  if (record === undefined) return plan(secret, seen, []);
  const { deliver } = secret.spec;
  const { delivery } = record;
  if (delivery !== undefined && delivery.secretName !== deliveredName(secret)) {
    return plan(secret, seen, [{ kind: "ReleaseDelivery", secret, record, delivery }]);
  }
  if (deliver === undefined || core.kind === "NotRequested" || missing(secret, seen) !== undefined) {
    return plan(secret, seen, []);
  }
  const { entries, currentVersion: version } = record;
  const desired = secretDelivery(secret, deliver, seen.installation);
  const step = planDelivery(desired, { digests, entries, version, record: delivery, core }, now);
  switch (step.kind) {
    case "Act":
      return plan(secret, seen, [{ ...step.action, secret, record }]);
    case "Refused":
      return plan(secret, seen, [], { reason: step.reason, message: step.message });
    case "RecheckAt":
      return { ...plan(secret, seen, []), next: { kind: "recheckAt", at: step.at } };
    case "Settled":
      return plan(secret, seen, []);
  }
}

/**
 * Of what is applied before it is current; what is delivered comes first, and nothing new begins while that is refused or
 * waits for values.
 */
function applyingStep(
  secret: Secret,
  seen: Observed,
  rotation: Rotation,
  delivering: Plan<Action>,
  now: Date,
): ApplyStep | undefined {
  const { record, installation, underway, core } = seen;
  if (record === undefined || rotation === undefined || rotation.kind === "Refused") return undefined;
  const { deliver } = secret.spec;
  const refused = delivering.next.kind !== "settled";
  const state: DeliveryState =
    deliver === undefined || core.kind === "NotRequested"
      ? { restarts: [], settled: true }
      : {
          secretName: deliveredName(secret),
          restarts: secretDelivery(secret, deliver, installation).restarts,
          // While one is missing nothing is delivered: the core Secret may go on handing out the former values.
          settled: delivering.actions.length === 0 && !refused && missing(secret, seen) === undefined,
        };
  const step = applyStep(secret, record, rotation, state, underway, now);
  const held = refused || lackingKeys(secret, seen).length > 0;
  return held && step.action?.kind === "Propose" ? { plan: step.plan } : step;
}

function needsVersion({ spec }: Secret, { record, lifecycle, digests, sources }: Observed): boolean {
  return (
    planVersion(digests, spec.entries, record?.entries ?? [], sources, keptValues(spec, record)).kind === "Changed" ||
    (record !== undefined && (record.state !== "Active" || !sameLifecycle(record.lifecycle, lifecycle)))
  );
}

/**
 * What is applied before it is current gets no new value by the way: changed parameters count from the next rotation on.
 * Where a Key Vault has the values none is applied.
 */
export function keptValues(spec: Secret["spec"], record: SecretRecord | undefined): ReadonlySet<string> {
  if (record?.vaultUrl !== undefined) return new Set();
  const applied = appliedKeys(spec);
  return new Set(spec.entries.flatMap(({ key, generate }) => (generate && applied.has(key) ? [key] : [])));
}

const annotated = ({ metadata }: Secret): string | undefined => metadata.annotations?.[ROTATE_ANNOTATION] || undefined;

/** Undefined as well where nobody could tell from status that it was handled. */
function requestOf(secret: Secret): string | undefined {
  const token = annotated(secret);
  return token === undefined || token.length > LONGEST_TOKEN || !token.isWellFormed() ? undefined : token;
}

function rotationOf(secret: Secret, record: SecretRecord | undefined, now: Date): Rotation {
  if (record === undefined) return undefined;
  if (secret.spec.rotation?.apply !== undefined && record.vaultUrl !== undefined) {
    return { kind: "Refused", refusal: { reason: "RotationInvalid", message: NOTHING_IS_PENDING_THERE } };
  }
  try {
    return planRotation(secret.spec, requestOf(secret), record, now);
  } catch (error) {
    if (!(error instanceof Stalled)) throw error;
    // Its values are delivered all the same.
    return { kind: "Refused", refusal: { reason: error.code, message: error.message } };
  }
}

function withRotation(
  plan: Plan<Action>,
  secret: Secret,
  { record, underway }: Observed,
  rotation: Rotation,
  applying: ApplyStep | undefined,
  now: Date,
): Plan<Action> {
  if (rotation === undefined) return plan;
  const { at, request, apply } = record?.rotation ?? {};
  const waits = applying?.plan.kind === "Wait" ? applying.plan : undefined;
  // What stands in between says when, or nobody can tell.
  const known = rotation.kind !== "Refused" && (applying === undefined || rotation.kind !== "Rotate");
  const asked = known ? rotation.next : undefined;
  const next = waits?.for === "Retry" && (asked === undefined || asked < waits.until) ? waits.until : asked;
  const told = applying && record && applyCondition(applying, record, underway);
  const condition = told ?? rotated(secret, record, rotation);
  const status = {
    conditions: [...plan.status.conditions, ...(condition === undefined ? [] : [condition])],
    fields: {
      ...plan.status.fields,
      ...(apply?.pending !== undefined && { pendingVersion: apply.pending.version }),
      ...(next !== undefined && { nextRotationTime: toSeconds(next) }),
      ...(at !== undefined && { lastRotationTime: toSeconds(at) }),
      ...(request !== undefined && { lastHandledRotate: request }),
    },
  };
  if (plan.next.kind === "stalled") return { ...plan, status };
  if (rotation.kind === "Refused") {
    const stalled = { kind: "stalled", ...rotation.refusal } as const;
    return { ...plan, status, next: plan.next.kind === "settled" ? stalled : plan.next };
  }
  const times = [next, waits?.until, underway?.at].filter((time) => time !== undefined);
  if (plan.next.kind === "recheckAt") times.push(plan.next.at);
  // What is due waits for what stands in between.
  const later = times.filter((time) => time > now || time === underway?.at);
  const [first] = later.sort((a, b) => a.getTime() - b.getTime());
  return first === undefined ? { ...plan, status } : { ...plan, status, next: { kind: "recheckAt", at: first } };
}

/** As Kubernetes writes times. */
const toSeconds = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;

/** Absent where neither the manifest nor a person asks for anything. */
function rotated(secret: Secret, record: SecretRecord | undefined, rotation: NonNullable<Rotation>) {
  const condition = (status: "True" | "False", reason: OwnedCondition["reason"], message: string): OwnedCondition => ({
    type: "Rotated",
    status,
    reason,
    message,
  });
  if (rotation.kind === "Refused") return condition("False", rotation.refusal.reason, rotation.refusal.message);
  const token = annotated(secret);
  if (token !== undefined && token !== record?.rotation?.request && rotation.kind !== "Rotate") {
    const why =
      requestOf(secret) === undefined
        ? `it is longer than ${LONGEST_TOKEN} characters`
        : "no entry with generate has a value";
    return condition("False", "NotRequested", `annotation ${ROTATE_ANNOTATION} is not acted on: ${why}`);
  }
  if (secret.spec.rotation === undefined) return undefined;
  return rotation.kind === "Settled"
    ? condition("True", "Succeeded", "every rotation that was due is done")
    : condition("False", "Progressing", "a rotation is under way");
}

const MOST_LISTED = 5;

/** Keys that somebody has to write; the name of the role that is in use comes with the first password. */
const lackingKeys = ({ spec }: Secret, { record }: Observed): readonly string[] =>
  unwritten(spec.entries, record?.entries ?? []).filter((key) => key !== spec.rotation?.apply?.postgres?.username);

/** Why the version is not complete; undefined when it is. */
function missing(secret: Secret, seen: Observed): Refusal | undefined {
  const { metadata, spec } = secret;
  const [lacking] = unwritten(spec.entries, seen.record?.entries ?? []);
  if (lacking === undefined) return undefined;
  const keys = lackingKeys(secret, seen);
  const [first] = keys;
  if (first === undefined) {
    const message = `entry ${lacking} has no value yet: it gets one when the first password is applied`;
    return { reason: "ValueMissing", message };
  }
  const write = `mazevault put ${metadata.namespace}/${metadata.name}`;
  const more = keys.length > MOST_LISTED ? " and others" : "";
  const message =
    keys.length === 1
      ? `entry ${first} has no value yet; write it with: ${write} ${first}`
      : `entries ${keys.slice(0, MOST_LISTED).join(", ")}${more} have no value yet; write each with: ${write} KEY`;
  return { reason: "ValueMissing", message };
}

/** Status of what is there now: while actions are planned, it is only used if the first of them fails. */
function plan(secret: Secret, seen: Observed, actions: readonly Action[], refusal?: Refusal): Plan<Action> {
  const { record } = seen;
  const lacking = missing(secret, seen);
  const stored: OwnedCondition = lacking
    ? { type: "Stored", status: "False", ...lacking }
    : record === undefined
      ? { type: "Stored", status: "False", reason: "Progressing", message: "no version is stored yet" }
      : { type: "Stored", status: "True", reason: "Succeeded", message: storedMessage(record) };
  const version = record === undefined ? {} : { version: record.currentVersion };
  return {
    actions,
    status: { conditions: [stored, delivered(secret, seen, actions.length > 0, refusal)], fields: version },
    next: refusal === undefined ? { kind: "settled" } : { kind: "stalled", ...refusal },
  };
}

const storedMessage = ({ currentVersion, vaultUrl }: SecretRecord): string =>
  vaultUrl === undefined
    ? `version ${currentVersion} is stored`
    : `version ${currentVersion} is stored, its values in Key Vault ${vaultUrl}`;

function delivered(secret: Secret, seen: Observed, busy: boolean, refusal: Refusal | undefined): OwnedCondition {
  const { deliver } = secret.spec;
  if (deliver === undefined) return NONE_REQUESTED;
  if (refusal !== undefined) return { type: "Delivered", status: "False", ...refusal };
  const delivery = seen.record?.delivery;
  const name = deliver.secretName ?? secret.metadata.name;
  if (missing(secret, seen) !== undefined) {
    const message = `core Secret ${name} waits until every entry has a value`;
    return { type: "Delivered", status: "False", reason: "ValueMissing", message };
  }
  if (busy || delivery === undefined) {
    return {
      type: "Delivered",
      status: "False",
      reason: "Progressing",
      message: `core Secret ${name} is not up to date yet`,
    };
  }
  const problems = seen.restartProblems.length === 0 ? "" : `; not restarted: ${seen.restartProblems.join(", ")}`;
  return {
    type: "Delivered",
    status: "True",
    reason: "Succeeded",
    message: `core Secret ${name} holds version ${delivery.version}${problems}`,
  };
}
