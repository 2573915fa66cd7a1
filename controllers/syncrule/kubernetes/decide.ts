/** What to do for one SyncRule with core Secrets as its target, from what was observed. Pure. */
import type { PulledItem } from "../../../core/ports/sync-store.ts";
import type { EntryPlace, SyncFailure } from "../../../core/sync/entries.ts";
import { conflictKey } from "../../../core/sync/exchange-plan.ts";
import type { DecidedConflict, FoundConflict, SyncResult } from "../../../core/sync/run.ts";
import type { Reason } from "../../../crds/conditions.ts";
import type { SyncConflict } from "../../../crds/syncconflict.ts";
import type { SyncRule, SyncRuleStatus } from "../../../crds/syncrule.ts";
import { pauseMs } from "../../retry.ts";
import type { Next, OwnedCondition, Plan } from "../../runtime/controller.ts";
import { keyOfConflict, SYNC_NOW_ANNOTATION } from "../decide.ts";
import type { Copies, Copy } from "./copies.ts";
import { type Exchange, type Exchanges, keyIn, secretOf, unsharedMessage } from "./exchanges.ts";
import type { Take, Takes } from "./takes.ts";

/** A namespace that may not be reached, or not yet. */
export interface Closed {
  readonly reason: Reason;
  readonly message: string;
  /** When to look again; absent: somebody has to change something. */
  readonly afterMs?: number;
}

interface Seen {
  /** Conflicts that are over, or that another direction has left behind. */
  readonly over: readonly SyncConflict[];
  readonly closed: readonly Closed[];
  /** What is covered in namespaces that are closed. */
  readonly unreached: number;
  /** Secrets that the rule covers without a complete version yet. */
  readonly unstored: readonly string[];
  /** What copying or taking over came to in this pass. */
  readonly done?: SyncResult;
}

export interface SeenToCopy extends Seen {
  readonly kind: "Push";
  readonly copies: Copies;
}

export interface SeenToTake extends Seen {
  readonly kind: "Pull";
  readonly takes: Takes;
  readonly forgotten: boolean;
}

export interface SeenToExchange extends Seen {
  readonly kind: "Bidirectional";
  readonly exchanges: Exchanges;
  /** All that are open, as they are in this pass. */
  readonly conflicts: readonly SyncConflict[];
}

export type Observed = { readonly kind: "Suspended" } | SeenToCopy | SeenToTake | SeenToExchange;

export type Action =
  | { readonly kind: "Copy"; readonly rule: SyncRule; readonly copies: readonly Copy[] }
  | { readonly kind: "Take"; readonly rule: SyncRule; readonly takes: readonly Take[] }
  | { readonly kind: "Exchange"; readonly rule: SyncRule; readonly exchanges: readonly Exchange[] }
  /** `open`: the object that is there already. */
  | {
      readonly kind: "OpenConflict";
      readonly rule: SyncRule;
      readonly found: FoundConflict;
      readonly open: SyncConflict | undefined;
    }
  | { readonly kind: "CloseConflict"; readonly rule: SyncRule; readonly conflict: SyncConflict }
  | { readonly kind: "ForgetTaken"; readonly rule: SyncRule; readonly items: readonly PulledItem[] };

/** What there is to do, whichever way. */
interface Work {
  readonly actions: readonly Action[];
  readonly items: number;
  readonly inStep: number;
  readonly failures: readonly SyncFailure[];
  readonly over?: readonly SyncConflict[];
  /** What waits for a person. */
  readonly conflicted?: readonly EntryPlace[];
  /** For people, where all is in step. */
  readonly note?: string;
}

/** A conflict was dealt with: its object goes when both sides are seen to agree. */
const CONTINUE_MS = 100;
export const SHOWN_FAILURES = 10;

export function decide(rule: SyncRule, seen: Observed, now: Date): Plan<Action> {
  if (seen.kind === "Suspended") {
    const message = "spec.suspend is true; remove it to go on";
    const suspended: OwnedCondition = { type: "Synced", status: "Unknown", reason: "Suspended", message };
    return { actions: [], status: { conditions: [suspended] }, next: { kind: "settled" } };
  }
  const work = workOf(rule, seen);
  const { conflicted = [], over = [] } = work;
  const { done } = seen;
  const items = work.items + seen.unreached;
  const inSync = work.inStep + (done === undefined ? 0 : done.written + done.confirmed);
  const pending = items - inSync;
  const failures = [...work.failures, ...(done?.failures ?? [])];
  const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
  const stopped = seen.closed[0] ?? stoppedBy(done);
  const unit = seen.kind === "Pull" ? "entries" : "core Secrets";
  return {
    actions: [
      ...work.actions,
      ...[...new Set([...seen.over, ...over])].map((conflict): Action => ({ kind: "CloseConflict", rule, conflict })),
    ],
    status: {
      conditions: [
        targetReachable(stopped),
        synced({ items, pending, failures, stopped, unit, unstored: seen.unstored, conflicted, note: work.note }),
      ],
      fields: {
        items,
        inSync,
        pending,
        ...(conflicted.length > 0 && { conflicts: conflicted.length }),
        ...lastConflict(rule, done),
        ...(failures.length > 0 && { failures: failures.slice(0, SHOWN_FAILURES).map(shown) }),
        ...(syncNow !== undefined && { lastHandledSyncNow: syncNow }),
      },
    },
    next: nextOf(rule, seen, now),
  };
}

function workOf(rule: SyncRule, seen: Exclude<Observed, { kind: "Suspended" }>): Work {
  switch (seen.kind) {
    case "Push":
      return toCopy(rule, seen);
    case "Pull":
      return toTake(rule, seen);
    case "Bidirectional":
      return toExchange(rule, seen);
  }
}

function toExchange(rule: SyncRule, { exchanges, conflicts, done }: SeenToExchange): Work {
  const { inStep, due, held, refused, failures, unshared } = exchanges;
  const found = done?.conflicts ?? [];
  const known = new Map(conflicts.map((conflict) => [keyOfConflict(conflict), conflict]));
  const stillIn = new Set(found.map(({ entry }) => conflictKey(entry)));
  // One of a core Secret says that all of it was compared.
  const compared = new Set(found.map(({ entry }) => entry.secretName));
  const actions: Action[] = due.length > 0 && done === undefined ? [{ kind: "Exchange", rule, exchanges: due }] : [];
  for (const each of found) {
    const open = known.get(conflictKey(each.entry));
    if (!isAsFound(open, each)) actions.push({ kind: "OpenConflict", rule, found: each, open });
  }
  const waiting = [
    ...held.flatMap((each) => each.conflicts.filter(({ spec }) => spec.resolution === undefined)).map(placeOfConflict),
    ...found.map(({ entry }) => entry),
  ];
  return {
    actions,
    items: inStep + due.length + held.length + refused,
    inStep,
    failures,
    over: conflicts.filter((each) => compared.has(secretOf(each)) && !stillIn.has(keyOfConflict(each))),
    conflicted: [...new Map(waiting.map((entry) => [conflictKey(entry), entry])).values()],
    ...(unshared.length > 0 && { note: unsharedMessage(unshared, rule.metadata.namespace ?? "") }),
  };
}

/** What a person has said of these very versions is still to be done. */
const isAsFound = (open: SyncConflict | undefined, found: FoundConflict): boolean =>
  open?.status?.platformVersion === found.platformVersion && open.status.targetVersion === found.targetVersion;

const placeOfConflict = (conflict: SyncConflict): EntryPlace => ({
  secretName: secretOf(conflict),
  key: keyIn(conflict),
  entryName: conflict.status?.name ?? "",
});

/** It stays until there is another one. */
function lastConflict(rule: SyncRule, done: SyncResult | undefined): Pick<SyncRuleStatus, "lastConflict"> {
  const decided = done?.decided.at(-1);
  if (decided === undefined) return rule.status?.lastConflict ? { lastConflict: rule.status.lastConflict } : {};
  const { secretName: secret, key, entryName: name } = decided.entry;
  return { lastConflict: { secret, key, name, winner: decided.winner, message: describeDecided(decided) } };
}

const OF_WINNER = { Platform: "the value of this side", Target: "the value of the core Secret" } as const;

/** For people: who won, and why. */
export const describeDecided = ({ entry, policy, winner, platformVersion }: DecidedConflict): string =>
  `${conflictKey(entry)} was changed here (version ${platformVersion}) and in core Secret ${entry.entryName}; ` +
  `by ${policy} both have ${OF_WINNER[winner]}; the other one is kept as a version of the Secret`;

function toCopy(rule: SyncRule, seen: SeenToCopy): Work {
  const { inStep, due, refused, failures } = seen.copies;
  const copy = due.length > 0 && seen.done === undefined;
  return {
    actions: copy ? [{ kind: "Copy", rule, copies: due }] : [],
    items: inStep + due.length + refused,
    inStep,
    failures,
  };
}

function toTake(rule: SyncRule, seen: SeenToTake): Work {
  const { takes, forgotten, done } = seen;
  const { inStep, due, forget, failures } = takes;
  const dueEntries = due.reduce((sum, { entries }) => sum + entries.length, 0);
  const actions: Action[] = [];
  if (forget.length > 0 && !forgotten) actions.push({ kind: "ForgetTaken", rule, items: forget });
  if (due.length > 0 && done === undefined) actions.push({ kind: "Take", rule, takes: due });
  return { actions, items: inStep + dueEntries + failures.length, inStep, failures };
}

/** Watches tell of every change; only what may pass without one is looked at again. */
function nextOf(rule: SyncRule, seen: Exclude<Observed, { kind: "Suspended" }>, now: Date): Next {
  const { closed, done } = seen;
  const pause = pauseMs(rule.status?.conditions, ["Synced", "TargetReachable"], now);
  const open = done !== undefined && (done.waiting > 0 || done.untried > 0 || done.failed > 0);
  const waits = [
    ...closed.flatMap(({ afterMs }) => (afterMs === undefined ? [] : [afterMs])),
    ...(open ? [done.retryAfterMs ?? pause] : []),
    ...(!open && isResolved(seen) ? [CONTINUE_MS] : []),
  ];
  if (waits.length > 0) return { kind: "recheckAt", at: new Date(now.getTime() + Math.min(...waits)) };
  const [first] = closed;
  return first === undefined ? { kind: "settled" } : { kind: "stalled", reason: first.reason, message: first.message };
}

function isResolved(seen: Exclude<Observed, { kind: "Suspended" }>): boolean {
  if (seen.kind !== "Bidirectional" || seen.done === undefined) return false;
  const stillIn = new Set(seen.done.conflicts.map(({ entry }) => entry.secretName));
  return seen.exchanges.due.some(({ secretName, conflicts }) => conflicts.size > 0 && !stillIn.has(secretName));
}

export function stoppedBy(done: SyncResult | undefined): Closed | undefined {
  if (done?.stopped === undefined) return undefined;
  return { reason: done.stopped.code, message: done.stopped.message };
}

const targetReachable = (closed: Closed | undefined): OwnedCondition =>
  closed === undefined
    ? {
        type: "TargetReachable",
        status: "True",
        reason: "Available",
        message: "every namespace of the target is open to us",
      }
    : { type: "TargetReachable", status: "False", reason: closed.reason, message: closed.message };

/** What is about all of a Secret names no key. */
export const shown = ({ key, ...rest }: SyncFailure) => (key === "" ? rest : { ...rest, key });

export function synced(state: {
  readonly items: number;
  readonly pending: number;
  readonly failures: readonly SyncFailure[];
  readonly stopped: Closed | undefined;
  readonly unit: string;
  readonly unstored: readonly string[];
  readonly conflicted: readonly EntryPlace[];
  readonly note: string | undefined;
}): OwnedCondition {
  const { items, pending, failures, stopped, unit, unstored, conflicted, note } = state;
  const not = (reason: Reason, message: string): OwnedCondition => ({
    type: "Synced",
    status: "False",
    reason,
    message,
  });
  const [first] = failures;
  if (first !== undefined) {
    const more = pending > 1 ? `; ${pending} of ${items} ${unit} are not in step` : "";
    const what = first.key === "" ? first.secret : `${first.secret}/${first.key}`;
    return not(first.reason, `${what}: ${first.message}${more}`);
  }
  const [conflict] = conflicted;
  if (conflict !== undefined) {
    const more = conflicted.length > 1 ? `, and ${conflicted.length - 1} others,` : "";
    return not(
      "ChangedOnBothSides",
      `${conflictKey(conflict)}${more} changed here and in core Secret ${conflict.entryName}; set spec.resolution of its SyncConflict to KeepPlatform or KeepTarget`,
    );
  }
  if (stopped !== undefined) return not(stopped.reason, `${pending} of ${items} ${unit} are not in step yet`);
  if (pending > 0) return not("Progressing", `${pending} of ${items} ${unit} are not in step yet`);
  if (unstored.length > 0) {
    const more = unstored.length > 5 ? " and others" : "";
    return not("SecretNotStored", `no complete version is stored yet of ${unstored.slice(0, 5).join(", ")}${more}`);
  }
  return {
    type: "Synced",
    status: "True",
    reason: "Succeeded",
    message: `${items} ${unit} are in step${note === undefined ? "" : `; ${note}`}`,
  };
}

/** In this pass it is not to be opened or closed again. */
export function dealtWith(
  seen: Exclude<Observed, { kind: "Suspended" }>,
  action: Extract<Action, { kind: "OpenConflict" | "CloseConflict" }>,
): Observed {
  if (action.kind === "CloseConflict") {
    const without = (each: SyncConflict): boolean => each !== action.conflict;
    const over = seen.over.filter(without);
    if (seen.kind !== "Bidirectional") return { ...seen, over };
    return { ...seen, over, conflicts: seen.conflicts.filter(without) };
  }
  if (seen.kind !== "Bidirectional") return seen;
  const { entry, platformVersion, targetVersion } = action.found;
  const status = { secret: entry.secretName, key: entry.key, platformVersion, targetVersion };
  const opened = { ...action.open, spec: {}, status } as SyncConflict;
  return { ...seen, conflicts: [...seen.conflicts.filter((each) => each !== action.open), opened] };
}
