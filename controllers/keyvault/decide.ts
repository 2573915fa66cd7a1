/** What to say of one KeyVault after it was tried. Pure. */
import type { Reason } from "../../crds/conditions.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

/** What one list call to the vault brought to light. */
export type Probe =
  | { readonly kind: "Answered" }
  /** `stalled`: trying again cannot help until something changes. */
  | { readonly kind: "Refused"; readonly reason: Reason; readonly message: string; readonly stalled: boolean };

const RECHECK_GOOD_MS = 300_000;

const UNREACHABLE: readonly Reason[] = ["VaultUnreachable", "VaultThrottled", "BudgetExhausted", "VaultHostNotAllowed"];

export function decide(keyVault: KeyVault, probe: Probe, now: Date): Plan<never> {
  if (probe.kind === "Answered") {
    return {
      actions: [],
      status: {
        conditions: [
          { type: "Reachable", status: "True", reason: "Available", message: "the vault answers" },
          { type: "Authorized", status: "True", reason: "Available", message: "the vault lets this identity in" },
        ],
      },
      next: { kind: "recheckAt", at: new Date(now.getTime() + RECHECK_GOOD_MS) },
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
    status: { conditions: unreachable ? [reachable, authorized] : [authorized, reachable] },
    next:
      probe.stalled && reason !== "AccessDenied" && reason !== "CredentialInvalid"
        ? { kind: "stalled", reason, message }
        : {
            kind: "recheckAt",
            at: new Date(now.getTime() + pauseMs(keyVault.status?.conditions, ["Reachable", "Authorized"], now)),
          },
  };
}
