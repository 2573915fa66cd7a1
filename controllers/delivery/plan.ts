/** What is to be done for one core Secret, from what was observed. Pure; the same for every kind that delivers. */
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import {
  type Delivered,
  type DesiredDelivery,
  type Digests,
  dataDiffers,
  deliveryFingerprint,
  isOurs,
  type LiveCoreSecret,
  sameData,
  sameFrame,
} from "./desired.ts";

/**
 * The core Secret under the name that the manifest asks for. Untouched: its resourceVersion is the one on record, so it
 * was not read.
 */
export type ObservedCoreSecret =
  | { readonly kind: "Absent" }
  | { readonly kind: "Untouched" }
  | { readonly kind: "Live"; readonly live: LiveCoreSecret };

export interface DeliveryFacts {
  readonly digests: Pick<Digests, "digest">;
  readonly entries: Delivered;
  /** Number of what is delivered: a version or a revision. */
  readonly version: number;
  readonly record: DeliveryRecord | undefined;
  readonly core: ObservedCoreSecret;
}

export type DeliveryAction =
  | {
      readonly kind: "Deliver";
      readonly desired: DesiredDelivery;
      /** What it must replace; absent: nothing is there, and creating must fail if something is. */
      readonly replaces?: Pick<LiveCoreSecret, "uid" | "resourceVersion">;
      readonly delivery: Pick<DeliveryRecord, "fingerprint" | "pendingRestarts">;
    }
  /** What is there is taken over as it stands, if it is still what `delivery` says. */
  | { readonly kind: "Adopt"; readonly desired: DesiredDelivery; readonly delivery: DeliveryRecord }
  /** What is there is already right; only the record of it is missing or old. */
  | { readonly kind: "RecordDelivery"; readonly delivery: DeliveryRecord }
  | { readonly kind: "ReleaseDelivery"; readonly delivery: DeliveryRecord }
  | { readonly kind: "RestartWorkloads"; readonly delivery: DeliveryRecord };

export interface Refusal {
  readonly reason: Reason;
  readonly message: string;
}

export type DeliveryPlan =
  | { readonly kind: "Act"; readonly action: DeliveryAction }
  | { readonly kind: "Settled" }
  | { readonly kind: "RecheckAt"; readonly at: Date }
  | ({ readonly kind: "Refused" } & Refusal);

/** The watch tells when it is gone; this is only the safety net. */
const TERMINATION_RECHECK_MS = 10_000;

export function planDelivery(desired: DesiredDelivery, facts: DeliveryFacts, now: Date): DeliveryPlan {
  const { record: previous, core } = facts;
  const fingerprint = deliveryFingerprint(facts.digests, desired, facts.entries);
  // Only who could have read another value before has something to notice; adopting and repairing restart nothing.
  const changed = previous !== undefined && dataDiffers(previous, fingerprint);
  const pendingRestarts = [...new Set([...(previous?.pendingRestarts ?? []), ...(changed ? desired.restarts : [])])];
  const delivery = { fingerprint, pendingRestarts };

  switch (core.kind) {
    case "Absent":
      return act({ kind: "Deliver", desired, delivery });
    case "Untouched":
      if (previous?.fingerprint === fingerprint) {
        return previous.pendingRestarts.length === 0
          ? { kind: "Settled" }
          : act({ kind: "RestartWorkloads", delivery: previous });
      }
      return act({
        kind: "Deliver",
        desired,
        delivery,
        ...(previous && { replaces: { uid: previous.uid, resourceVersion: previous.resourceVersion } }),
      });
    case "Live":
      return planOver(core.live, desired, facts, delivery, now);
  }
}

const act = (action: DeliveryAction): DeliveryPlan => ({ kind: "Act", action });

/** Something stands there that is not, or no longer, as it was left. */
function planOver(
  live: LiveCoreSecret,
  desired: DesiredDelivery,
  { entries, record, version }: DeliveryFacts,
  delivery: Pick<DeliveryRecord, "fingerprint" | "pendingRestarts">,
  now: Date,
): DeliveryPlan {
  const { secretName, field } = desired;
  const refuse = (reason: Reason, message: string): DeliveryPlan => ({ kind: "Refused", reason, message });
  if (live.terminating) return { kind: "RecheckAt", at: new Date(now.getTime() + TERMINATION_RECHECK_MS) };

  if (live.rival !== undefined) {
    return refuse(
      "TargetNotOwned",
      `core Secret ${secretName} is delivered by ${live.rival}; deliver to another secretName`,
    );
  }
  const ours = isOurs(live, desired, record);
  const equal = sameData(live, desired, entries);
  if (!ours && !desired.adopt) {
    return refuse(
      "TargetNotOwned",
      `core Secret ${secretName} exists and is not ours; set ${field}.adopt to take it over, or deliver to another secretName`,
    );
  }
  if (live.type !== desired.type) {
    return refuse(
      "TargetTypeDiffers",
      `core Secret ${secretName} has type ${live.type}, not ${desired.type}, and Kubernetes does not let a type change; ` +
        "deliver to another secretName, or delete that core Secret if nobody needs it",
    );
  }
  if (!ours && !equal && !desired.overwrite) {
    return refuse(
      "TargetDiffers",
      `core Secret ${secretName} exists with other data; ${losing(field)}, or deliver to another secretName`,
    );
  }
  // Said last: whoever hands it over wants to know before that nothing else is in the way.
  if (!ours && live.controller !== undefined) {
    return refuse(
      "TargetNotOwned",
      `core Secret ${secretName} belongs to ${live.controller}, which goes on writing it; delete that with kubectl delete --cascade=orphan, ` +
        "which leaves the core Secret, or deliver to another secretName",
    );
  }
  if (live.immutable && !equal) {
    return refuse(
      "TargetDiffers",
      `core Secret ${secretName} is marked immutable and has other data; delete it by hand`,
    );
  }
  const { uid, resourceVersion } = live;
  if (equal && sameFrame(live, desired)) {
    const made = record?.made && { made: record.made };
    return act({
      kind: "RecordDelivery",
      delivery: { secretName, uid, resourceVersion, version, ...delivery, ...made },
    });
  }
  return act({ kind: "Deliver", desired, delivery, replaces: { uid, resourceVersion } });
}

/** A rule of one namespace has no say over data of another. */
const losing = (field: DesiredDelivery["field"]): string =>
  field === "spec.target.kubernetes" || field === "spec.target.gateway.kubernetes"
    ? "delete it there if nobody needs it"
    : `set ${field}.overwrite to lose that data`;
