/**
 * What to do for one SyncRule, from what was observed. Pure: the comparisons themselves are in `core/sync/plan.ts`,
 * `core/sync/pull-plan.ts` and `core/sync/exchange-plan.ts`.
 */
import { durationMs } from "../../core/duration.ts";
import type { ItemKey, PulledItem, RuleRecord, SyncItem } from "../../core/ports/sync-store.ts";
import type { VaultEntryProperties } from "../../core/ports/target-vault.ts";
import { type DeletionPlan, type Doomed, decideDeletions, QUIET_MS } from "../../core/sync/deletion-plan.ts";
import { type EntryPlace, failure, type NamedEntry, type SyncFailure } from "../../core/sync/entries.ts";
import {
  conflictKey,
  decideExchange,
  EXCHANGES_AT_ONCE,
  type OpenConflict,
  type PlannedExchange,
  type SharedEntry,
} from "../../core/sync/exchange-plan.ts";
import { type Held, type PlannedAction, planned } from "../../core/sync/limits.ts";
import { decidePush, isHealing, type PlannedPush, PUSHES_AT_ONCE } from "../../core/sync/plan.ts";
import {
  decidePull,
  type PlannedPull,
  PULLS_AT_ONCE,
  type Trouble,
  type WantedEntry,
} from "../../core/sync/pull-plan.ts";
import type { DecidedConflict, FoundConflict, SyncResult } from "../../core/sync/run.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { SyncConflict } from "../../crds/syncconflict.ts";
import type { SyncRule, SyncRuleStatus } from "../../crds/syncrule.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";
import { stoppedBy, synced, targetReachable } from "./conditions.ts";
import { describeDecided } from "./decided.ts";
import { dryPlan, dryRun, exceeded, type Limited, limit, type Safety, shown } from "./limiting.ts";
import { type Announced, announceExchanges, announcePulls, announcePushes } from "./planned.ts";

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
  /** Entries that an earlier look found out of step, and that this pass does not look at: something else goes first. */
  readonly unhealed?: number;
  /** The conflict that was decided last in an earlier pass. */
  readonly decided?: DecidedConflict;
  readonly forgotten: boolean;
  readonly safety: Safety;
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
  readonly troubled: ReadonlyMap<string, Trouble>;
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
  /** `later`: how many more are to be healed. */
  | { readonly kind: "Push"; readonly rule: SyncRule; readonly plan: readonly PlannedPush[]; readonly later: number }
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
  | { readonly kind: "CloseConflict"; readonly rule: SyncRule; readonly conflict: SyncConflict }
  /** `released`: the plan that a person let through. */
  | {
      readonly kind: "RecordRule";
      readonly rule: SyncRule;
      readonly record: RuleRecord;
      readonly released: Held | undefined;
    }
  | { readonly kind: "Delete"; readonly rule: SyncRule; readonly doomed: readonly Doomed[] };

/** What there is to do, whichever way. */
interface Work {
  readonly forget: readonly Action[];
  /** All that would be done, also what is held back. */
  readonly planned: readonly PlannedAction[];
  /** What of it is done now, and how much more is due. */
  transfer(goes: Limited["goes"]): { readonly actions: readonly Action[]; readonly later: number };
  readonly inSync: number;
  readonly failures: readonly SyncFailure[];
  readonly deletions: DeletionPlan;
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
  const { safety, done } = seen;
  const isDry = rule.spec.dryRun === true;
  const limited = limit(rule, work.planned, { ...seen, isWhole: seen.target !== undefined });
  const held = isDry ? undefined : limited.held;
  const transfer = work.transfer(limited.goes);
  const actions = isDry ? [] : actionsOf(rule, seen, work, limited, transfer);

  const { deleted } = safety;
  const items = seen.covered + seen.refused.length;
  const healthy = Math.max(0, work.inSync - (seen.unhealed ?? 0));
  const inSync = healthy + (done === undefined ? 0 : done.written + done.confirmed);
  const pending = items - inSync;
  // Who may not delete may still write: the vault as a whole is well.
  const denied = deleted?.stopped?.code === "AccessDenied" ? deleted.stopped : undefined;
  const failures = [
    ...seen.refused,
    ...work.failures,
    ...(done?.failures ?? []),
    ...(deleted?.failures ?? []),
    ...(denied === undefined ? [] : work.deletions.due.map((entry) => failure(entry, denied.code, denied.message))),
  ];
  const stopped = seen.lookFailure ?? stoppedBy(done) ?? (denied === undefined ? stoppedBy(deleted) : undefined);
  const pause = pauseMs(rule.status?.conditions, ["Synced", "TargetReachable"], now);
  const isOpen = (result: SyncResult | undefined): boolean =>
    result !== undefined && (result.waiting > 0 || result.untried > 0 || result.failed > 0);
  const open = isOpen(done) || isOpen(deleted);
  const retryMs = stopped?.retryAfterMs ?? done?.retryAfterMs ?? deleted?.retryAfterMs ?? pause;
  const retryAt = stopped !== undefined || open ? now.getTime() + retryMs : Number.POSITIVE_INFINITY;
  const continues = done !== undefined && (transfer.later > 0 || done.gaveWay === true || (work.resolved && !open));
  const continueAt = continues ? now.getTime() + CONTINUE_MS : Number.POSITIVE_INFINITY;
  const isUndecided = safety.undecided.length > 0 || !safety.isQuiet;
  const undecidedAt = isUndecided ? now.getTime() + QUIET_MS : Number.POSITIVE_INFINITY;
  const unstored = seen.kind === "Pull" ? [] : seen.unstored;
  const tooMuch = held && exceeded(rule, held, limited.limits, safety.isProtected);

  return {
    actions,
    status: {
      conditions: [
        targetReachable(stopped),
        isDry
          ? dryRun(work.planned)
          : synced({ items, pending, failures, stopped, unstored, conflicted: work.conflicted, tooMuch }),
        ...(tooMuch === undefined ? [] : [tooMuch]),
      ],
      fields: {
        items,
        inSync,
        pending,
        ...(work.conflicted.length > 0 && { conflicts: work.conflicted.length }),
        ...lastConflict(rule, done?.decided.at(-1) ?? seen.decided),
        ...(failures.length > 0 && { failures: failures.slice(0, SHOWN_FAILURES) }),
        ...(seen.syncNow !== undefined && { lastHandledSyncNow: seen.syncNow }),
        ...(isDry && dryPlan(rule, work.planned, seen.vaultUrl)),
        ...(held !== undefined && shown(held.actions, held.hash)),
        ...(safety.record?.release !== undefined && { lastHandledRelease: safety.record.release }),
      },
    },
    next: { kind: "recheckAt", at: new Date(Math.min(retryAt, continueAt, undecidedAt, seen.nextLook.getTime())) },
  };
}

function actionsOf(
  rule: SyncRule,
  seen: Exclude<Observed, { kind: "Suspended" }>,
  work: Work,
  { record, released, goes }: Limited,
  { actions: transfer, later }: ReturnType<Work["transfer"]>,
): readonly Action[] {
  const { safety, done } = seen;
  const actions: Action[] = seen.forgotten ? [] : [...work.forget];
  if (record !== undefined) actions.push({ kind: "RecordRule", rule, record, released });
  // What is released is let through by what is on record, so that who comes after a crash goes on with it.
  if (released !== undefined) return actions;
  if (done === undefined && seen.lookFailure === undefined) actions.push(...transfer);
  actions.push(...work.conflicts, ...seen.over.map((conflict): Action => ({ kind: "CloseConflict", rule, conflict })));
  const isLast = done === undefined ? transfer.length === 0 : done.stopped === undefined && later === 0;
  if (isLast && safety.isQuiet && seen.lookFailure === undefined && safety.deleted === undefined) {
    const doomed = work.deletions.due.filter((entry) => goes(toDelete(entry))).slice(0, PUSHES_AT_ONCE);
    if (doomed.length > 0) actions.push({ kind: "Delete", rule, doomed });
  }
  return actions;
}

const toDelete = (entry: Doomed): PlannedAction => planned("Delete", entry, "Deletions");

/** None is decided before the vault was looked at. */
export function deletionsOf({
  safety,
  target,
  items,
  installation,
}: Pick<SeenToWrite, "safety" | "target" | "items" | "installation">): DeletionPlan {
  const { doomed, undecided, left = [] } = safety;
  if (target === undefined || doomed.length === 0) return { ...NO_DELETIONS, failures: left };
  const others = new Set<SyncItem>([...undecided, ...doomed.map(({ item }) => item)]);
  return decideDeletions(doomed, { target, installation, covered: items.filter((item) => !others.has(item)) });
}

const NO_DELETIONS: DeletionPlan = { due: [], over: [], failures: [] };

/** What the plans may forget as soon as the rule does not cover it. */
function forgettable({ items, safety: { doomed, undecided } }: SeenToWrite): readonly SyncItem[] {
  const kept = new Set<SyncItem>([...undecided, ...doomed.map(({ item }) => item)]);
  return kept.size === 0 ? items : items.filter((item) => !kept.has(item));
}

/** Those that are done now, at most `most`, and how many more are due. */
function going<Each>(
  announced: readonly Announced<Each>[],
  goes: Limited["goes"],
  most: number,
): { readonly now: readonly Each[]; readonly later: number } {
  const due = announced.filter(({ action }) => goes(action)).map(({ work }) => work);
  return { now: due.slice(0, most), later: Math.max(0, due.length - most) };
}

const actionsIn = (announced: readonly Announced<unknown>[]): readonly PlannedAction[] =>
  announced.flatMap(({ action }) => action ?? []);

const ALL = { limit: Number.POSITIVE_INFINITY };

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
  const { shared, ours } = seen;
  const items = forgettable(seen);
  const deletions = deletionsOf(seen);
  const ids = new Set(shared.map(({ secretId, key }) => `${secretId} ${key}`));
  const isShared = ({ secretId, key }: SyncItem) => ids.has(`${secretId} ${key}`);
  const [theirs, own] = [items.filter(isShared), items.filter((item) => !isShared(item))];
  const pushing = decidePush({ ...seen, ...ALL, entries: ours, items: own });
  const known = new Map(seen.conflicts.map((conflict) => [keyOfConflict(conflict), conflict]));
  const isManual = rule.spec.conflictPolicy === "Manual";
  const conflicts = new Map([...known].map(([key, conflict]) => [key, asFound(conflict, isManual, seen.settled)]));
  const exchanging = decideExchange({ ...seen, ...ALL, entries: shared, items: theirs, conflicts });
  const found = seen.done?.conflicts ?? [];
  const stillIn = new Set(found.map(({ entry }) => conflictKey(entry)));
  const pushes = announcePushes(pushing.push, seen.target);
  const exchanges = announceExchanges(exchanging.exchange, seen.target);
  const forget = [...pushing.forget, ...exchanging.forget, ...deletions.over];
  return {
    inSync: pushing.inSync + exchanging.inSync,
    failures: [...pushing.failures, ...exchanging.failures, ...deletions.failures],
    deletions,
    forget: forget.length === 0 ? [] : [{ kind: "Forget", rule, keys: forget }],
    planned: [...actionsIn(pushes), ...actionsIn(exchanges), ...deletions.due.map(toDelete)],
    transfer: (goes) => {
      const [push, exchange] = [going(pushes, goes, PUSHES_AT_ONCE), going(exchanges, goes, EXCHANGES_AT_ONCE)];
      const later = push.later + exchange.later;
      const none = push.now.length + exchange.now.length === 0;
      const actions: Action[] = [{ kind: "Exchange", rule, push: push.now, exchange: exchange.now, later }];
      return { actions: none ? [] : actions, later };
    },
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
    resolved: exchanging.exchange.some(
      ({ entry }) => known.has(conflictKey(entry)) && !stillIn.has(conflictKey(entry)),
    ),
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
  const { push, inSync, failures, ...plan } = decidePush({ ...seen, ...ALL, items: forgettable(seen) });
  const deletions = deletionsOf(seen);
  const pushes = announcePushes(push, seen.target);
  const forget = [...plan.forget, ...deletions.over];
  return {
    ...nothingInConflict,
    inSync,
    failures: [...failures, ...deletions.failures],
    deletions,
    forget: forget.length === 0 ? [] : [{ kind: "Forget", rule, keys: forget }],
    planned: [...actionsIn(pushes), ...deletions.due.map(toDelete)],
    transfer: (goes) => {
      const { now, later } = going(pushes, goes, PUSHES_AT_ONCE);
      const healing = pushes.filter(({ action, work }) => goes(action) && isHealing(work.cause)).length;
      const unhealed = healing - now.filter(({ cause }) => isHealing(cause)).length;
      return { actions: now.length === 0 ? [] : [{ kind: "Push", rule, plan: now, later: unhealed }], later };
    },
  };
}

function toPull(rule: SyncRule, seen: SeenToPull): Work {
  const { pull, forget, inSync, failures } = decidePull({ ...seen, ...ALL });
  const pulls = announcePulls(pull);
  return {
    ...nothingInConflict,
    inSync,
    failures,
    deletions: NO_DELETIONS,
    forget: forget.length === 0 ? [] : [{ kind: "ForgetPulled", rule, items: forget }],
    planned: actionsIn(pulls),
    transfer: (goes) => {
      const { now, later } = going(pulls, goes, PULLS_AT_ONCE);
      return { actions: now.length === 0 ? [] : [{ kind: "Pull", rule, plan: now, later }], later };
    },
  };
}

/** It stays until there is another one. */
function lastConflict(rule: SyncRule, decided: DecidedConflict | undefined): Pick<SyncRuleStatus, "lastConflict"> {
  if (decided === undefined) return rule.status?.lastConflict ? { lastConflict: rule.status.lastConflict } : {};
  const { secretName: secret, key, entryName: name } = decided.entry;
  return { lastConflict: { secret, key, name, winner: decided.winner, message: describeDecided(decided) } };
}
