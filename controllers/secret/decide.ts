/**
 * What to do for one Secret, from what was observed.
 *
 *   (no version) --StoreVersion--> stored --Deliver--> delivered --RestartWorkloads--> settled
 *                                    |  ^                  |
 *                                    |  +-- source or spec changed
 *                                    +--ReleaseDelivery--> (deliver removed, or another secretName)
 *
 * Each round plans the next effect only, since what follows depends on what it brings about.
 */
import type { DeliveryRecord, Lifecycle, SecretRecord } from "../../core/ports/vault-store.ts";
import { planVersion } from "../../core/vault/recipe.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { DeliverSpec, Secret } from "../../crds/secret.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";
import {
  type DesiredDelivery,
  type Digests,
  dataDiffers,
  deliveryFingerprint,
  desiredDelivery,
  isOurs,
  type LiveCoreSecret,
  sameData,
  sameFrame,
} from "./delivery.ts";

export interface Observed {
  readonly installation: string;
  readonly digests: Digests;
  readonly lifecycle: Lifecycle;
  readonly record: SecretRecord | undefined;
  /** By entry key, for every secretRef entry. */
  readonly sources: ReadonlyMap<string, string>;
  /**
   * The core Secret under the name that the manifest asks for. Untouched: its resourceVersion is the one on record, so
   * it was not read. NotRequested: there is no `deliver`.
   */
  readonly core:
    | { readonly kind: "NotRequested" }
    | { readonly kind: "Absent" }
    | { readonly kind: "Untouched" }
    | { readonly kind: "Live"; readonly live: LiveCoreSecret };
  /** What restarting brought to light, in this pass. */
  readonly restartProblems: readonly string[];
}

export type Action =
  | {
      readonly kind: "StoreVersion";
      readonly secret: Secret;
      readonly seen: SecretRecord | undefined;
      readonly lifecycle: Lifecycle;
    }
  | {
      readonly kind: "Deliver";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly desired: DesiredDelivery;
      /** What it must replace; absent: nothing is there, and creating must fail if something is. */
      readonly replaces?: Pick<LiveCoreSecret, "uid" | "resourceVersion">;
      readonly delivery: Pick<DeliveryRecord, "fingerprint" | "pendingRestarts">;
    }
  /** What is there is already right; only the record of it is missing or old. */
  | {
      readonly kind: "RecordDelivery";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly delivery: DeliveryRecord;
    }
  | {
      readonly kind: "ReleaseDelivery";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly delivery: DeliveryRecord;
    }
  | {
      readonly kind: "RestartWorkloads";
      readonly secret: Secret;
      readonly record: SecretRecord;
      readonly delivery: DeliveryRecord;
    };

export type Outcome =
  | { readonly kind: "Record"; readonly record: SecretRecord }
  | { readonly kind: "Delivery"; readonly delivery: DeliveryRecord | undefined; readonly problems?: readonly string[] }
  /** Something stands there after all; look at it. */
  | { readonly kind: "Found"; readonly live: LiveCoreSecret };

const NONE_REQUESTED: OwnedCondition = {
  type: "Delivered",
  status: "False",
  reason: "NotRequested",
  message: "spec.deliver is not set",
};

export function decide(secret: Secret, seen: Observed, now: Date): Plan<Action> {
  const { record, lifecycle, digests } = seen;
  if (record === undefined || needsVersion(secret, seen, record)) {
    return plan(secret, seen, [{ kind: "StoreVersion", secret, seen: record, lifecycle }]);
  }
  const { deliver } = secret.spec;
  const desired = deliver && desiredDelivery(secret, deliver, seen.installation);
  if (record.delivery !== undefined && record.delivery.secretName !== desired?.secretName) {
    return plan(secret, seen, [{ kind: "ReleaseDelivery", secret, record, delivery: record.delivery }]);
  }
  if (deliver === undefined || desired === undefined) return plan(secret, seen, []);
  const fingerprint = deliveryFingerprint(digests, desired, record.entries, secret.metadata.uid);
  return deliveryPlan(secret, seen, record, deliver, desired, fingerprint, now);
}

function needsVersion(secret: Secret, seen: Observed, record: SecretRecord): boolean {
  const { keepVersions, softDeleteMs, deletionPolicy } = record.lifecycle;
  const wanted = seen.lifecycle;
  return (
    record.state !== "Active" ||
    keepVersions !== wanted.keepVersions ||
    softDeleteMs !== wanted.softDeleteMs ||
    deletionPolicy !== wanted.deletionPolicy ||
    planVersion(seen.digests, secret.spec.entries, record.entries, seen.sources).kind === "Changed"
  );
}

function deliveryPlan(
  secret: Secret,
  seen: Observed,
  record: SecretRecord,
  deliver: DeliverSpec,
  desired: DesiredDelivery,
  fingerprint: string,
  now: Date,
): Plan<Action> {
  const previous = record.delivery;
  const restarts = restartTargets(deliver);
  // Only who could have read another value before has something to notice; adopting and repairing restart nothing.
  const changed = previous !== undefined && dataDiffers(previous, fingerprint);
  const pendingRestarts = [...new Set([...(previous?.pendingRestarts ?? []), ...(changed ? restarts : [])])];
  const delivery = { fingerprint, pendingRestarts };

  switch (seen.core.kind) {
    case "NotRequested":
      return plan(secret, seen, []);
    case "Absent":
      return plan(secret, seen, [{ kind: "Deliver", secret, record, desired, delivery }]);
    case "Untouched":
      if (previous?.fingerprint === fingerprint) {
        return previous.pendingRestarts.length === 0
          ? plan(secret, seen, [])
          : plan(secret, seen, [{ kind: "RestartWorkloads", secret, record, delivery: previous }]);
      }
      return plan(secret, seen, [
        {
          kind: "Deliver",
          secret,
          record,
          desired,
          delivery,
          ...(previous && { replaces: { uid: previous.uid, resourceVersion: previous.resourceVersion } }),
        },
      ]);
    case "Live":
      return livePlan(secret, seen, record, deliver, desired, delivery, seen.core.live, now);
  }
}

function livePlan(
  secret: Secret,
  seen: Observed,
  record: SecretRecord,
  deliver: DeliverSpec,
  desired: DesiredDelivery,
  delivery: Pick<DeliveryRecord, "fingerprint" | "pendingRestarts">,
  live: LiveCoreSecret,
  now: Date,
): Plan<Action> {
  const { secretName } = desired;
  const refuse = (reason: Reason, message: string): Plan<Action> => plan(secret, seen, [], { reason, message });
  if (live.terminating) {
    return {
      ...plan(secret, seen, []),
      next: { kind: "recheckAt", at: new Date(now.getTime() + TERMINATION_RECHECK_MS) },
    };
  }

  if (live.rival !== undefined) {
    return refuse(
      "TargetNotOwned",
      `core Secret ${secretName} is delivered by Secret ${live.rival}; deliver to another secretName`,
    );
  }
  const ours = isOurs(live, secret.metadata.name, seen.installation, record.delivery);
  const equal = sameData(live, desired, record.entries);
  if (!ours && deliver.adopt !== true) {
    return refuse(
      "TargetNotOwned",
      `core Secret ${secretName} exists and is not ours; set spec.deliver.adopt to take it over, or deliver to another secretName`,
    );
  }
  if (live.type !== desired.type) {
    return refuse(
      "TargetTypeDiffers",
      `core Secret ${secretName} has type ${live.type}, not ${desired.type}, and Kubernetes does not let a type change; ` +
        "deliver to another secretName, or delete that core Secret if nobody needs it",
    );
  }
  if (!ours && !equal && deliver.overwrite !== true) {
    return refuse(
      "TargetDiffers",
      `core Secret ${secretName} exists with other data; set spec.deliver.overwrite to lose that data, or deliver to another secretName`,
    );
  }
  if (live.immutable && !equal) {
    return refuse(
      "TargetDiffers",
      `core Secret ${secretName} is marked immutable and has other data; delete it by hand`,
    );
  }
  const { uid, resourceVersion } = live;
  if (equal && sameFrame(live, desired, secret.metadata.uid)) {
    const version = record.currentVersion;
    return plan(secret, seen, [
      { kind: "RecordDelivery", secret, record, delivery: { secretName, uid, resourceVersion, version, ...delivery } },
    ]);
  }
  return plan(secret, seen, [
    { kind: "Deliver", secret, record, desired, delivery, replaces: { uid, resourceVersion } },
  ]);
}

/** The watch tells when it is gone; this is only the safety net. */
const TERMINATION_RECHECK_MS = 10_000;

export const CONSUMERS = "consumers";

const restartTargets = (deliver: DeliverSpec): string[] => [
  ...(deliver.restart ?? []).map(({ kind, name }) => `${kind}/${name}`),
  ...(deliver.restartConsumers === true ? [CONSUMERS] : []),
];

interface Refusal {
  readonly reason: Reason;
  readonly message: string;
}

/** Status of what is there now: while actions are planned, it is only used if the first of them fails. */
function plan(secret: Secret, seen: Observed, actions: readonly Action[], refusal?: Refusal): Plan<Action> {
  const { record } = seen;
  const stored: OwnedCondition =
    record === undefined
      ? { type: "Stored", status: "False", reason: "Progressing", message: "no version is stored yet" }
      : { type: "Stored", status: "True", reason: "Succeeded", message: `version ${record.currentVersion} is stored` };
  const version = record === undefined ? {} : { version: record.currentVersion };
  return {
    actions,
    status: { conditions: [stored, delivered(secret, seen, actions.length > 0, refusal)], fields: version },
    next: refusal === undefined ? { kind: "settled" } : { kind: "stalled", ...refusal },
  };
}

function delivered(secret: Secret, seen: Observed, busy: boolean, refusal: Refusal | undefined): OwnedCondition {
  const { deliver } = secret.spec;
  if (deliver === undefined) return NONE_REQUESTED;
  if (refusal !== undefined) return { type: "Delivered", status: "False", ...refusal };
  const delivery = seen.record?.delivery;
  const name = deliver.secretName ?? secret.metadata.name;
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
