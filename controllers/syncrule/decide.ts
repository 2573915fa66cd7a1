/**
 * What to do for one SyncRule, from what was observed. Pure: the comparisons themselves are in `core/sync/plan.ts`,
 * `core/sync/pull-plan.ts` and `core/sync/exchange-plan.ts`.
 */
import { durationMs } from "../../core/duration.ts";
import type { ItemKey, PulledItem, SyncItem } from "../../core/ports/sync-store.ts";
import type { VaultEntryProperties } from "../../core/ports/target-vault.ts";
import type { EntryPlace, NamedEntry, SyncFailure } from "../../core/sync/entries.ts";
import {
  conflictKey,
  decideExchange,
  type OpenConflict,
  type PlannedExchange,
  type SharedEntry,
} from "../../core/sync/exchange-plan.ts";
import { decidePush, type PlannedPush } from "../../core/sync/plan.ts";
import { decidePull, type PlannedPull, type Trouble, type WantedEntry } from "../../core/sync/pull-plan.ts";
import type { FoundConflict, SyncResult } from "../../core/sync/run.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { SyncConflict } from "../../crds/syncconflict.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

/** What both directions have in common. */
interface Seen {
  readonly vaultUrl: string;
  /** Entries that have no name that can be used, or may not be synchronised at all. */
  readonly refused: readonly SyncFailure[];
  /** Conflicts that another direction has left behind. */
  readonly over: readonly SyncConflict[];
  /** Entries that the rule covers and that have a name. */
  readonly covered: number;
  /** All entries of the vault, when this pass looked at it. */
  readonly target?: readonly VaultEntryProperties[];
  /** Why looking at the vault failed. */
  readonly lookFailure?: VaultFailure;
  /** When the vault is to be looked at again. */
  readonly nextLook: Date;
  readonly syncNow?: string;
  readonly forgotten: boolean;
  /** What pushing or pulling came to in this pass. */
  readonly done?: SyncResult;
}

/** Where entries are written to the vault. */
interface SeenToWrite extends Seen {
  readonly installation: string;
  /** Secrets that the rule covers without a complete version yet. */
  readonly unstored: readonly string[];
  readonly items: readonly SyncItem[];
  readonly holders: readonly SyncItem[];
}

export interface SeenToPush extends SeenToWrite {
  readonly kind: "Push";
  /** What the rule covers, by the names that the entries have in the vault. */
  readonly entries: readonly NamedEntry[];
}

export interface SeenToPull extends Seen {
  readonly kind: "Pull";
  readonly ruleUid: string;
  readonly wanted: readonly WantedEntry[];
  readonly pulled: readonly PulledItem[];
  readonly troubled: ReadonlyMap<string, Trouble>;
  /** UIDs of the rules that exist. */
  readonly rules: ReadonlySet<string>;
}

export interface SeenToExchange extends SeenToWrite {
  readonly kind: "Bidirectional";
  /** What the manifest or a core Secret decides: pushed only. */
  readonly ours: readonly NamedEntry[];
  /** What both sides may change. */
  readonly shared: readonly SharedEntry[];
  readonly troubled: ReadonlyMap<string, Trouble>;
  /** Of this rule, and not opened or closed in this pass. */
  readonly conflicts: readonly SyncConflict[];
  /** Of these, UIDs of those whose vault's side is settled. */
  readonly settled: ReadonlySet<string>;
}

export type Observed = { readonly kind: "Suspended" } | SeenToPush | SeenToPull | SeenToExchange;

export interface VaultFailure {
  readonly reason: Reason;
  readonly message: string;
  /** When it said so itself. */
  readonly retryAfterMs?: number;
}

export type Action =
  | { readonly kind: "Forget"; readonly rule: SyncRule; readonly keys: readonly ItemKey[] }
  | { readonly kind: "Push"; readonly rule: SyncRule; readonly plan: readonly PlannedPush[] }
  | { readonly kind: "ForgetPulled"; readonly rule: SyncRule; readonly items: readonly PulledItem[] }
  /** `later`: how many more are due, here and below. */
  | {
      readonly kind: "Pull";
      readonly rule: SyncRule;
      readonly plan: readonly PlannedPull[];
      readonly later: number;
    }
  | {
      readonly kind: "Exchange";
      readonly rule: SyncRule;
      readonly push: readonly PlannedPush[];
      readonly exchange: readonly PlannedExchange[];
      readonly later: number;
    }
  /** `open`: the object that is there already. */
  | {
      readonly kind: "OpenConflict";
      readonly rule: SyncRule;
      readonly found: FoundConflict;
      readonly open: SyncConflict | undefined;
    }
  | { readonly kind: "CloseConflict"; readonly rule: SyncRule; readonly conflict: SyncConflict };

/** What there is to do, whichever way. */
interface Work {
  readonly forget: readonly Action[];
  readonly transfer: readonly Action[];
  readonly inSync: number;
  readonly failures: readonly SyncFailure[];
  readonly later: number;
  /** Entries whose conflict waits for a person. */
  readonly conflicted: readonly EntryPlace[];
  /** What is to be done with the objects of conflicts. */
  readonly conflicts: readonly Action[];
  /** A conflict was dealt with: its object goes when both sides are seen to agree. */
  readonly resolved: boolean;
}

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
  const work = workOf(rule, seen);
  const actions: Action[] = seen.forgotten ? [] : [...work.forget];
  if (seen.done === undefined && seen.lookFailure === undefined) actions.push(...work.transfer);
  actions.push(...work.conflicts, ...seen.over.map((conflict): Action => ({ kind: "CloseConflict", rule, conflict })));

  const { done } = seen;
  const items = seen.covered + seen.refused.length;
  const inSync = work.inSync + (done === undefined ? 0 : done.written + done.confirmed);
  const pending = items - inSync;
  const failures = [...seen.refused, ...work.failures, ...(done?.failures ?? [])];
  const stopped = seen.lookFailure ?? stoppedBy(done);
  const pause = pauseMs(rule.status?.conditions, ["Synced", "TargetReachable"], now);
  const open = done !== undefined && (done.waiting > 0 || done.untried > 0 || done.failed > 0);
  const retryMs = stopped?.retryAfterMs ?? done?.retryAfterMs ?? pause;
  const retryAt = stopped !== undefined || open ? now.getTime() + retryMs : Number.POSITIVE_INFINITY;
  const continues = done !== undefined && (work.later > 0 || (work.resolved && !open));
  const continueAt = continues ? now.getTime() + CONTINUE_MS : Number.POSITIVE_INFINITY;
  const unstored = seen.kind === "Pull" ? [] : seen.unstored;

  return {
    actions,
    status: {
      conditions: [
        targetReachable(stopped),
        synced({ items, pending, failures, stopped, unstored, conflicted: work.conflicted }),
      ],
      fields: {
        items,
        inSync,
        pending,
        ...(work.conflicted.length > 0 && { conflicts: work.conflicted.length }),
        ...(failures.length > 0 && { failures: failures.slice(0, SHOWN_FAILURES) }),
        ...(seen.syncNow !== undefined && { lastHandledSyncNow: seen.syncNow }),
      },
    },
    next: { kind: "recheckAt", at: new Date(Math.min(retryAt, continueAt, seen.nextLook.getTime())) },
  };
}

function workOf(rule: SyncRule, seen: Exclude<Observed, { kind: "Suspended" }>): Work {
  switch (seen.kind) {
    case "Push":
      return toPush(rule, seen);
    case "Pull":
      return toPull(rule, seen);
    case "Bidirectional":
      return toExchange(rule, seen);
  }
}

function toExchange(rule: SyncRule, seen: SeenToExchange): Work {
  const { shared, ours, items } = seen;
  const ids = new Set(shared.map(({ secretId, key }) => `${secretId} ${key}`));
  const isShared = ({ secretId, key }: SyncItem) => ids.has(`${secretId} ${key}`);
  const [theirs, own] = [items.filter(isShared), items.filter((item) => !isShared(item))];
  const pushing = decidePush({ ...seen, entries: ours, items: own });
  const known = new Map(seen.conflicts.map((conflict) => [keyOfConflict(conflict), conflict]));
  const isManual = rule.spec.conflictPolicy === "Manual";
  const conflicts = new Map([...known].map(([key, conflict]) => [key, asFound(conflict, isManual, seen.settled)]));
  const exchanging = decideExchange({ ...seen, entries: shared, items: theirs, conflicts });
  const found = seen.done?.conflicts ?? [];
  const stillIn = new Set(found.map(({ entry }) => conflictKey(entry)));
  const { push } = pushing;
  const { exchange } = exchanging;
  const forget = [...pushing.forget, ...exchanging.forget];
  const later = pushing.later + exchanging.later;
  return {
    inSync: pushing.inSync + exchanging.inSync,
    failures: [...pushing.failures, ...exchanging.failures],
    later,
    forget: forget.length === 0 ? [] : [{ kind: "Forget", rule, keys: forget }],
    transfer: push.length + exchange.length === 0 ? [] : [{ kind: "Exchange", rule, push, exchange, later }],
    conflicted: [
      ...new Map(
        [...exchanging.conflicted, ...found.map(({ entry }): EntryPlace => entry)].map((entry) => [
          conflictKey(entry),
          entry,
        ]),
      ).values(),
    ],
    conflicts: [
      ...found.flatMap((each): Action[] => {
        const open = known.get(conflictKey(each.entry));
        return isAsFound(open, each) ? [] : [{ kind: "OpenConflict", rule, found: each, open }];
      }),
      ...exchanging.over.flatMap((key): Action[] => {
        const conflict = known.get(key);
        return conflict === undefined ? [] : [{ kind: "CloseConflict", rule, conflict }];
      }),
    ],
    resolved: exchange.some(({ entry }) => known.has(conflictKey(entry)) && !stillIn.has(conflictKey(entry))),
  };
}

export const keyOfConflict = ({ status }: SyncConflict): string =>
  conflictKey({ secretName: status?.secret ?? "", key: status?.key ?? "" });

/** Under another policy nobody is waited for: what was in conflict is looked into again. */
function asFound(
  { metadata, spec, status }: SyncConflict,
  isManual: boolean,
  settled: ReadonlySet<string>,
): OpenConflict {
  if (!isManual) return { settled: false };
  return {
    settled: settled.has(metadata.uid),
    ...(spec.resolution && { resolution: spec.resolution }),
    ...(status?.platformVersion !== undefined && { platformVersion: status.platformVersion }),
    ...(status?.targetVersion !== undefined && { targetVersion: status.targetVersion }),
    ...(status?.targetUpdatedOn !== undefined && { targetUpdatedOn: new Date(status.targetUpdatedOn) }),
  };
}

const isAsFound = (open: SyncConflict | undefined, found: FoundConflict): boolean =>
  open?.spec.resolution === undefined &&
  open?.status?.platformVersion === found.platformVersion &&
  open.status.targetVersion === found.targetVersion &&
  open.status.targetUpdatedOn === found.targetUpdatedOn.toISOString();

const nothingInConflict = { conflicted: [], conflicts: [], resolved: false } as const;

function toPush(rule: SyncRule, seen: SeenToPush): Work {
  const { push, forget, ...rest } = decidePush(seen);
  return {
    ...rest,
    ...nothingInConflict,
    forget: forget.length === 0 ? [] : [{ kind: "Forget", rule, keys: forget }],
    transfer: push.length === 0 ? [] : [{ kind: "Push", rule, plan: push }],
  };
}

function toPull(rule: SyncRule, seen: SeenToPull): Work {
  const { pull, forget, ...rest } = decidePull(seen);
  return {
    ...rest,
    ...nothingInConflict,
    forget: forget.length === 0 ? [] : [{ kind: "ForgetPulled", rule, items: forget }],
    transfer: pull.length === 0 ? [] : [{ kind: "Pull", rule, plan: pull, later: rest.later }],
  };
}

function stoppedBy(done: SyncResult | undefined): VaultFailure | undefined {
  if (done?.stopped === undefined) return undefined;
  const { code, message } = done.stopped;
  return { reason: code, message, ...(done.retryAfterMs !== undefined && { retryAfterMs: done.retryAfterMs }) };
}

const targetReachable = (failure: VaultFailure | undefined): OwnedCondition =>
  failure === undefined
    ? { type: "TargetReachable", status: "True", reason: "Available", message: "the vault answers and lets us in" }
    : { type: "TargetReachable", status: "False", reason: failure.reason, message: failure.message };

function synced(state: {
  readonly items: number;
  readonly pending: number;
  readonly failures: readonly SyncFailure[];
  readonly stopped: VaultFailure | undefined;
  readonly unstored: readonly string[];
  readonly conflicted: readonly EntryPlace[];
}): OwnedCondition {
  const { items, pending, failures, stopped, unstored, conflicted } = state;
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
