/** What is to be done next for a version that is applied before it is current, and what status says of it. Pure. */
import type { SecretRecord } from "../../../core/ports/vault-store.ts";
import { type ApplyPlan, planApply } from "../../../core/vault/apply.ts";
import type { RotationPlan } from "../../../core/vault/due.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { OwnedCondition } from "../../runtime/controller.ts";
import type { ApplyAction, ApplyActionOutcome } from "./perform.ts";

/** What an effect brought to light in this pass. */
export type Underway = Extract<ApplyActionOutcome, { kind: "Underway" }>;

export interface ApplyStep {
  readonly plan: ApplyPlan;
  readonly action?: ApplyAction;
}

export interface DeliveryState {
  /** Absent: none is asked for. */
  readonly secretName?: string | undefined;
  readonly restarts: readonly string[];
  /** The core Secret holds the current version, or there is none to hold it. */
  readonly settled: boolean;
}

/** @param underway once it is known that what is under way goes on by itself, nothing is done in this pass */
export function applyStep(
  secret: Secret,
  record: SecretRecord,
  due: RotationPlan,
  delivery: DeliveryState,
  underway: Underway | undefined,
  now: Date,
): ApplyStep {
  const plan = planApply(secret.spec, due, record, now);
  if (underway !== undefined) return { plan };
  const of = { secret, record };
  switch (plan.kind) {
    case "Propose":
      return { plan, action: { ...of, kind: "Propose", keys: plan.keys, cause: plan.cause } };
    case "Apply":
      return { plan, action: { ...of, kind: "Apply", pending: plan.pending } };
    case "Confirm": {
      const { secretName, restarts, settled } = delivery;
      if (!settled) return { plan };
      return { plan, action: { ...of, kind: "Confirm", restarts, ...(secretName !== undefined && { secretName }) } };
    }
    case "End": {
      const former = record.rotation?.apply?.former;
      return former === undefined ? { plan } : { plan, action: { ...of, kind: "End", former } };
    }
    case "Abandon":
      return { plan, action: { ...of, kind: "Abandon" } };
    case "Idle":
    case "Wait":
      return { plan };
  }
}

/** Of condition Rotated; undefined where there is nothing to say about applying. */
export function applyCondition(
  { plan }: ApplyStep,
  record: SecretRecord,
  underway: Underway | undefined,
): OwnedCondition | undefined {
  const { pending, former, failure } = record.rotation?.apply ?? {};
  const said = (status: "True" | "False", reason: OwnedCondition["reason"], message: string): OwnedCondition => ({
    type: "Rotated",
    status,
    reason,
    message,
  });
  const more = underway === undefined ? "" : `: ${underway.message}`;
  switch (plan.kind) {
    case "Apply":
      return said("False", "Applying", `version ${pending?.version} is being applied${more}`);
    case "Confirm":
      return said(
        "False",
        "ConfirmingConsumption",
        `version ${record.currentVersion} is current, version ${former?.version} counts until all that use it have the new one${more}`,
      );
    case "End":
      return underway === undefined
        ? said("True", "Overlapping", `role ${former?.role} of version ${former?.version} is being ended`)
        : said("False", "FormerNotEnded", underway.message);
    case "Wait": {
      if (plan.for === "Overlap") {
        const until = toSeconds(plan.until);
        return said(
          "True",
          "Overlapping",
          `version ${former?.version} counts until ${until}; everything has the new one`,
        );
      }
      break;
    }
    case "Propose":
      break;
    default:
      return undefined;
  }
  if (failure === undefined) return undefined;
  const { version, message, count } = failure;
  const when = plan.kind === "Wait" ? `the next attempt is at ${toSeconds(plan.until)}` : "the next attempt begins";
  const times = count === 1 ? "" : ` (attempt ${count})`;
  return said(
    "False",
    "ApplyFailed",
    `version ${version} was not applied${times}, version ${record.currentVersion} stays: ${message}; ${when}, or at once by annotation mazevault.io/rotate`,
  );
}

/** As Kubernetes writes times. */
const toSeconds = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
