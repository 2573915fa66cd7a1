/** Brings one core Secret to where it should be, whatever stands there: plan, act, look at what came of it, plan again. */
import { Waiting } from "../../core/errors.ts";
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { DesiredDelivery } from "./desired.ts";
import type { DeliveryObserver } from "./observe.ts";
import type { DeliveryContext, DeliveryPerformer } from "./perform.ts";
import { type DeliveryFacts, planDelivery, type Refusal } from "./plan.ts";

export type SettledDelivery =
  | { readonly kind: "Settled"; readonly written: boolean; readonly record: DeliveryRecord | undefined }
  | { readonly kind: "RecheckAt"; readonly at: Date }
  | ({ readonly kind: "Refused" } & Refusal);

const SOON_MS = 1_000;
/** More steps than one core Secret can need: deliver, look again, deliver, restart. */
export const MAX_STEPS = 8;

/** Throws `Waiting` when it changes faster than it is looked at. */
export async function settleDelivery(
  { observer, performer }: { readonly observer: DeliveryObserver; readonly performer: DeliveryPerformer },
  desired: DesiredDelivery,
  given: Omit<DeliveryFacts, "core" | "digests"> & {
    readonly digests: Awaited<ReturnType<DeliveryContext["digests"]>>;
  },
  context: DeliveryContext,
  signal: AbortSignal,
): Promise<SettledDelivery> {
  let record = given.record;
  let core = await observer.observe(desired, given.digests, record, signal);
  let written = false;
  for (let step = 0; step < MAX_STEPS; step++) {
    const plan = planDelivery(desired, { ...given, record, core }, new Date());
    if (plan.kind === "Settled") return { kind: "Settled", written, record };
    if (plan.kind !== "Act") return plan;
    const outcome = await performer.perform(plan.action, context, signal);
    if (outcome.kind === "Found") core = { kind: "Live", live: outcome.live };
    else {
      record = outcome.delivery;
      core = { kind: "Untouched" };
      written ||= plan.action.kind === "Deliver";
    }
  }
  const place = `${desired.namespace}/${desired.secretName}`;
  throw new Waiting("Progressing", `core Secret ${place} changes faster than it is looked at`, SOON_MS);
}
