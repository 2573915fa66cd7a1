/** What to do for one SyncRule with core Secrets in a gateway's cluster as its target, from what was observed. Pure. */
import type { GatewayCopyRecord } from "../../../core/ports/gateway-copy-store.ts";
import type { SyncFailure } from "../../../core/sync/entries.ts";
import type { SyncResult } from "../../../core/sync/run.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { pauseMs } from "../../retry.ts";
import type { Next, OwnedCondition, Plan } from "../../runtime/controller.ts";
import { SYNC_NOW_ANNOTATION } from "../decide.ts";
import { type Closed, SHOWN_FAILURES, shown, stoppedBy, synced } from "../kubernetes/decide.ts";
import type { GatewayCopy } from "./copies.ts";

export interface SeenToSend {
  readonly kind: "Send";
  readonly gateway: string;
  /** How many are as they should be, as far as what is on record and the last look tell. */
  readonly inStep: number;
  /** Of these nothing but where they stand is to be put on record. */
  readonly moved: readonly GatewayCopyRecord[];
  /** Whose values are to be sent, when the gateway can be reached. */
  readonly due: readonly GatewayCopy[];
  readonly failures: readonly SyncFailure[];
  /** Of which the gateway said that it cannot be told yet, and when to ask again. */
  readonly waits: readonly number[];
  /** Secrets that the rule covers without a complete version yet. */
  readonly unstored: readonly string[];
  /** The gateway could not be asked, or refused all of it. */
  readonly closed?: Closed;
  readonly nextLook: Date;
  readonly recorded: boolean;
  /** What sending came to in this pass. */
  readonly done?: SyncResult;
}

export type Observed = { readonly kind: "Suspended" } | SeenToSend;

export type Action =
  | { readonly kind: "Record"; readonly rule: SyncRule; readonly moved: readonly GatewayCopyRecord[] }
  | { readonly kind: "Send"; readonly rule: SyncRule; readonly due: readonly GatewayCopy[] };

const UNIT = "core Secrets";

export function decide(rule: SyncRule, seen: Observed, now: Date): Plan<Action> {
  if (seen.kind === "Suspended") {
    const message = "spec.suspend is true; remove it to go on";
    const suspended: OwnedCondition = { type: "Synced", status: "Unknown", reason: "Suspended", message };
    return { actions: [], status: { conditions: [suspended] }, next: { kind: "settled" } };
  }
  const { due, done, moved, recorded, closed, unstored } = seen;
  const items = seen.inStep + due.length + seen.waits.length + seen.failures.length;
  const inSync = seen.inStep + (done === undefined ? 0 : done.written + done.confirmed);
  const pending = items - inSync;
  const failures = [...seen.failures, ...(done?.failures ?? [])];
  const stopped = closed ?? stoppedBy(done);
  const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
  const actions: Action[] = [];
  if (moved.length > 0 && !recorded) actions.push({ kind: "Record", rule, moved });
  if (due.length > 0 && done === undefined && closed === undefined) actions.push({ kind: "Send", rule, due });
  return {
    actions,
    status: {
      conditions: [
        targetReachable(seen.gateway, stopped),
        synced({
          items,
          pending,
          failures,
          // What was in step when the gateway was heard of last is not taken back.
          stopped: pending > 0 ? stopped : undefined,
          unit: UNIT,
          unstored,
          conflicted: [],
          note: undefined,
        }),
      ],
      fields: {
        items,
        inSync,
        pending,
        ...(failures.length > 0 && { failures: failures.slice(0, SHOWN_FAILURES).map(shown) }),
        ...(syncNow !== undefined && { lastHandledSyncNow: syncNow }),
      },
    },
    next: nextOf(rule, seen, now),
  };
}

/** Nobody tells when something changes in that cluster, so there is always a next look. */
function nextOf(rule: SyncRule, { closed, done, waits, nextLook }: SeenToSend, now: Date): Next {
  const pause = pauseMs(rule.status?.conditions, ["Synced", "TargetReachable"], now);
  const open = done !== undefined && (done.waiting > 0 || done.untried > 0 || done.failed > 0);
  const after = [
    ...(closed === undefined ? [] : [closed.afterMs ?? pause]),
    ...(open ? [done.retryAfterMs ?? pause] : []),
    ...waits,
    Math.max(0, nextLook.getTime() - now.getTime()),
  ];
  return { kind: "recheckAt", at: new Date(now.getTime() + Math.min(...after)) };
}

const targetReachable = (gateway: string, stopped: Closed | undefined): OwnedCondition =>
  stopped === undefined
    ? {
        type: "TargetReachable",
        status: "True",
        reason: "Available",
        message: `Gateway ${gateway} answers and serves us`,
      }
    : { type: "TargetReachable", status: "False", reason: stopped.reason, message: stopped.message };
