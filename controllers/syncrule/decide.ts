/**
 * What to do for one SyncRule with direction Push, from what was observed. Pure: the comparison itself is in
 * `core/sync/plan.ts`.
 */
import { durationMs } from "../../core/duration.ts";
import type { ItemKey, SyncItem } from "../../core/ports/sync-store.ts";
import type { VaultEntryProperties } from "../../core/ports/target-vault.ts";
import type { NamedEntry, SyncFailure } from "../../core/sync/entries.ts";
import { decidePush, type PlannedPush } from "../../core/sync/plan.ts";
import type { PushResult } from "../../core/sync/push.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

export interface Observed {
  readonly kind: "Suspended" | "Active";
  readonly installation: string;
  readonly vaultUrl: string;
  /** What the rule covers, by the names that the entries have in the vault; `failures` have none that can be used. */
  readonly entries: readonly NamedEntry[];
  readonly nameFailures: readonly SyncFailure[];
  /** Secrets that the rule covers without a complete version yet. */
  readonly unstored: readonly string[];
  readonly items: readonly SyncItem[];
  readonly holders: readonly SyncItem[];
  /** All entries of the vault, when this pass looked at it. */
  readonly target?: readonly VaultEntryProperties[];
  /** Why looking at the vault failed. */
  readonly lookFailure?: VaultFailure;
  /** When the vault is to be looked at again. */
  readonly nextLook: Date;
  readonly syncNow?: string;
  readonly forgotten: boolean;
  /** What pushing came to in this pass. */
  readonly pushed?: PushResult;
}

export interface VaultFailure {
  readonly reason: Reason;
  readonly message: string;
  /** When it said so itself. */
  readonly retryAfterMs?: number;
}

export type Action =
  | { readonly kind: "Forget"; readonly rule: SyncRule; readonly keys: readonly ItemKey[] }
  | { readonly kind: "Push"; readonly rule: SyncRule; readonly plan: readonly PlannedPush[] };

export const SYNC_NOW_ANNOTATION = "mazevault.io/sync-now";
export const DEFAULT_INTERVAL = "60s";
/** What is bounded per pass goes on at once. */
const CONTINUE_MS = 100;
const SHOWN_FAILURES = 10;

export const intervalMs = (rule: SyncRule): number => durationMs(rule.spec.interval ?? DEFAULT_INTERVAL);

export function decide(rule: SyncRule, seen: Observed, now: Date): Plan<Action> {
  if (seen.kind === "Suspended") {
    const suspended: OwnedCondition = {
      type: "Synced",
      status: "Unknown",
      reason: "Suspended",
      message: "spec.suspend is true; remove it to go on",
    };
    return { actions: [], status: { conditions: [suspended] }, next: { kind: "settled" } };
  }
  const plan = decidePush({
    entries: seen.entries,
    vaultUrl: seen.vaultUrl,
    items: seen.items,
    holders: seen.holders,
    ...(seen.target && { target: seen.target }),
    installation: seen.installation,
  });
  const actions: Action[] = [];
  if (!seen.forgotten && plan.forget.length > 0) actions.push({ kind: "Forget", rule, keys: plan.forget });
  if (seen.pushed === undefined && seen.lookFailure === undefined && plan.push.length > 0) {
    actions.push({ kind: "Push", rule, plan: plan.push });
  }

  const { pushed } = seen;
  const items = seen.entries.length + seen.nameFailures.length;
  const inSync = plan.inSync + (pushed === undefined ? 0 : pushed.written + pushed.confirmed);
  const pending = items - inSync;
  const failures = [...seen.nameFailures, ...plan.failures, ...(pushed?.failures ?? [])];
  const stopped = seen.lookFailure ?? stoppedBy(pushed);
  const pause = pauseMs(rule.status?.conditions, ["Synced", "TargetReachable"], now);
  const open = pushed !== undefined && (pushed.waiting > 0 || pushed.untried > 0 || pushed.failed > 0);
  const retryMs = stopped?.retryAfterMs ?? pushed?.retryAfterMs ?? pause;
  const retryAt = stopped !== undefined || open ? now.getTime() + retryMs : Number.POSITIVE_INFINITY;
  const continueAt = pushed !== undefined && plan.later > 0 ? now.getTime() + CONTINUE_MS : Number.POSITIVE_INFINITY;

  return {
    actions,
    status: {
      conditions: [targetReachable(stopped), synced(seen, { items, pending, failures, stopped })],
      fields: {
        items,
        inSync,
        pending,
        ...(failures.length > 0 && { failures: failures.slice(0, SHOWN_FAILURES) }),
        ...(seen.syncNow !== undefined && { lastHandledSyncNow: seen.syncNow }),
      },
    },
    next: { kind: "recheckAt", at: new Date(Math.min(retryAt, continueAt, seen.nextLook.getTime())) },
  };
}

function stoppedBy(pushed: PushResult | undefined): VaultFailure | undefined {
  if (pushed?.stopped === undefined) return undefined;
  const { code, message } = pushed.stopped;
  return { reason: code, message, ...(pushed.retryAfterMs !== undefined && { retryAfterMs: pushed.retryAfterMs }) };
}

const targetReachable = (failure: VaultFailure | undefined): OwnedCondition =>
  failure === undefined
    ? { type: "TargetReachable", status: "True", reason: "Available", message: "the vault answers and lets us in" }
    : { type: "TargetReachable", status: "False", reason: failure.reason, message: failure.message };

function synced(
  seen: Observed,
  state: { items: number; pending: number; failures: readonly SyncFailure[]; stopped: VaultFailure | undefined },
): OwnedCondition {
  const { items, pending, failures, stopped } = state;
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
  if (pending > 0) {
    return {
      type: "Synced",
      status: "False",
      reason: stopped?.reason ?? "Progressing",
      message: `${pending} of ${items} entries are not in step yet`,
    };
  }
  if (seen.unstored.length > 0) {
    return {
      type: "Synced",
      status: "False",
      reason: "SecretNotStored",
      message: `no complete version is stored yet of ${seen.unstored.slice(0, 5).join(", ")}${seen.unstored.length > 5 ? " and others" : ""}`,
    };
  }
  return { type: "Synced", status: "True", reason: "Succeeded", message: `${items} entries are in step` };
}
