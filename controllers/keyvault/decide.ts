/** What to say of one KeyVault after it was tried. Pure. */
import { DEFAULT_CALLS_PER_10_SECONDS } from "../../core/ports/target-vaults.ts";
import { budgetPerDay, callsPerDay } from "../../core/sync/forecast.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

/** What one list call to the vault brought to light. */
export type Probe =
  /** `misnamed`: how its name differs from what the project says, and it may be used. */
  | {
      readonly kind: "Answered";
      readonly at: Date;
      /** On the first page, when that is all of them. */
      readonly entries?: number;
      readonly named: boolean;
      readonly misnamed?: string;
    }
  /** `stalled`: trying again cannot help until something changes. */
  | { readonly kind: "Refused"; readonly reason: Reason; readonly message: string; readonly stalled: boolean };

export interface Observed {
  readonly probe: Probe;
  /** Entries in the vault, as far as anybody knows. */
  readonly entries?: number;
  /** Of the rules that look at it. */
  readonly intervalsMs: readonly number[];
}

const RECHECK_GOOD_MS = 300_000;

const UNREACHABLE: readonly Reason[] = [
  "VaultUnreachable",
  "VaultThrottled",
  "BudgetExhausted",
  "VaultHostNotAllowed",
  "GatewayUnavailable",
  "GatewayTaskUnknown",
  "GatewayFenced",
];

export function decide(keyVault: KeyVault, seen: Observed, now: Date): Plan<never> {
  const { probe } = seen;
  const cost = costOf(keyVault, seen);
  if (probe.kind === "Answered") {
    return {
      actions: [],
      status: {
        conditions: [
          { type: "Reachable", status: "True", reason: "Available", message: "the vault answers" },
          { type: "Authorized", status: "True", reason: "Available", message: "the vault lets this identity in" },
          ...named(probe),
          ...cost.conditions,
        ],
        fields: cost.fields,
      },
      next: { kind: "recheckAt", at: new Date(probe.at.getTime() + RECHECK_GOOD_MS) },
    };
  }
  const { reason, message } = probe;
  const unreachable = UNREACHABLE.includes(reason);
  const reachable: OwnedCondition = unreachable
    ? { type: "Reachable", status: "False", reason, message }
    : reason === "AccessDenied"
      ? { type: "Reachable", status: "True", reason: "Available", message: "the vault answers" }
      : { type: "Reachable", status: "Unknown", reason, message: "the vault was not asked" };
  const authorized: OwnedCondition = unreachable
    ? { type: "Authorized", status: "Unknown", reason, message: "the vault did not say" }
    : { type: "Authorized", status: "False", reason, message };
  return {
    actions: [],
    // The condition that tells the cause comes first: Ready takes its reason and message from it.
    status: {
      conditions: [...(unreachable ? [reachable, authorized] : [authorized, reachable]), ...cost.conditions],
      fields: cost.fields,
    },
    next:
      probe.stalled && reason !== "AccessDenied" && reason !== "CredentialInvalid"
        ? { kind: "stalled", reason, message }
        : {
            kind: "recheckAt",
            at: new Date(now.getTime() + pauseMs(keyVault.status?.conditions, ["Reachable", "Authorized"], now)),
          },
  };
}

interface Cost {
  readonly conditions: readonly OwnedCondition[];
  readonly fields: { readonly secrets?: number; readonly forecastCallsPerDay?: number };
}

function costOf({ spec }: KeyVault, { entries, intervalsMs }: Observed): Cost {
  if (entries === undefined) return { conditions: [], fields: {} };
  const forecast = callsPerDay({ entries, intervalsMs, probeMs: RECHECK_GOOD_MS });
  const budget = budgetPerDay(spec.budget?.callsPer10Seconds ?? DEFAULT_CALLS_PER_10_SECONDS);
  const calls = `looking at ${entries} entries takes ${forecast} calls a day`;
  const affordable: OwnedCondition =
    forecast <= budget
      ? { type: "Affordable", status: "True", reason: "Succeeded", message: `${calls}, and its budget has ${budget}` }
      : {
          type: "Affordable",
          status: "False",
          reason: "ForecastExceedsBudget",
          message: `${calls}, and its budget has ${budget}: raise spec.interval of the SyncRules that use it (${intervalsMs.length}), or spec.budget.callsPer10Seconds`,
        };
  return { conditions: [affordable], fields: { secrets: entries, forecastCallsPerDay: forecast } };
}

function named({ named, misnamed }: Extract<Probe, { kind: "Answered" }>): OwnedCondition[] {
  if (misnamed !== undefined) return [{ type: "Named", status: "False", reason: "NameDiffers", message: misnamed }];
  if (!named) return [];
  return [{ type: "Named", status: "True", reason: "Succeeded", message: "the vault is named as its project says" }];
}
