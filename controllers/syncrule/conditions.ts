/** The conditions of a rule, as its last pass leaves them. */
import type { EntryPlace, SyncFailure } from "../../core/sync/entries.ts";
import { conflictKey } from "../../core/sync/exchange-plan.ts";
import type { SyncResult } from "../../core/sync/run.ts";
import type { OwnedCondition } from "../runtime/controller.ts";
import type { VaultFailure } from "./decide.ts";

export function stoppedBy(done: SyncResult | undefined): VaultFailure | undefined {
  if (done?.stopped === undefined) return undefined;
  const { code, message } = done.stopped;
  return { reason: code, message, ...(done.retryAfterMs !== undefined && { retryAfterMs: done.retryAfterMs }) };
}

export const targetReachable = (failure: VaultFailure | undefined): OwnedCondition =>
  failure === undefined
    ? { type: "TargetReachable", status: "True", reason: "Available", message: "the vault answers and lets us in" }
    : { type: "TargetReachable", status: "False", reason: failure.reason, message: failure.message };

export function synced(state: {
  readonly items: number;
  readonly pending: number;
  readonly failures: readonly SyncFailure[];
  readonly stopped: VaultFailure | undefined;
  readonly unstored: readonly string[];
  readonly conflicted: readonly EntryPlace[];
  readonly tooMuch: OwnedCondition | undefined;
}): OwnedCondition {
  const { items, pending, failures, stopped, unstored, conflicted, tooMuch } = state;
  const [first] = failures;
  if (first !== undefined) {
    const more = pending > 1 ? `; ${pending} of ${items} entries are not in step` : "";
    return {
      type: "Synced",
      status: "False",
      reason: first.reason,
      message: `${first.secret}/${first.key}: ${first.message}${more}`,
    };
  }
  const [conflict] = conflicted;
  if (conflict !== undefined) {
    const more = conflicted.length > 1 ? `, and ${conflicted.length - 1} others,` : "";
    return {
      type: "Synced",
      status: "False",
      reason: "ChangedOnBothSides",
      message: `${conflictKey(conflict)}${more} changed here and in the vault; set spec.resolution of its SyncConflict to KeepPlatform or KeepTarget`,
    };
  }
  if (tooMuch !== undefined) return { ...tooMuch, type: "Synced", status: "False" };
  if (pending > 0) {
    return {
      type: "Synced",
      status: "False",
      reason: stopped?.reason ?? "Progressing",
      message: `${pending} of ${items} entries are not in step yet`,
    };
  }
  if (unstored.length > 0) {
    return {
      type: "Synced",
      status: "False",
      reason: "SecretNotStored",
      message: `no complete version is stored yet of ${unstored.slice(0, 5).join(", ")}${unstored.length > 5 ? " and others" : ""}`,
    };
  }
  return { type: "Synced", status: "True", reason: "Succeeded", message: `${items} entries are in step` };
}
