import { Unavailable } from "../../../core/errors.ts";
import type { SyncFailure } from "../../../core/sync/entries.ts";
import type { FoundConflict, SyncResult } from "../../../core/sync/run.ts";
import type { SyncConflict } from "../../../crds/syncconflict.ts";
import type { Copy } from "./copies.ts";
import { type Closed, decide, type Observed, type SeenToCopy, type SeenToExchange, type SeenToTake } from "./decide.ts";
import type { Exchange } from "./exchanges.ts";
import type { Take } from "./takes.ts";
import { ruleOf, T0 } from "./testing/tenants.ts";

const NOW = new Date(T0);
const rule = ruleOf("pay", "r", { namespaces: ["jobs", "batch"] });

const copy = (secretName: string): Copy => ({ secretName }) as Copy;
const take = (...keys: string[]): Take =>
  ({ secretName: "partner", entries: keys.map((key) => ({ key })) }) as unknown as Take;
const refused: SyncFailure = { secret: "db", key: "", name: "jobs/db", reason: "TargetNotOwned", message: "not ours" };
const closed: Closed = { reason: "NamespaceNotAdmitted", message: "not admitted" };
const absent: Closed = { reason: "TargetNamespaceNotFound", message: "does not exist yet", afterMs: 60_000 };

const result = (change: Partial<SyncResult> = {}): SyncResult => ({
  written: 0,
  confirmed: 0,
  failed: 0,
  failures: [],
  waiting: 0,
  conflicts: [],
  decided: [],
  untried: 0,
  ...change,
});
const toCopy = (copies: Partial<SeenToCopy["copies"]>, seen: Partial<SeenToCopy> = {}): Observed => ({
  kind: "Push",
  closed: [],
  over: [],
  unreached: 0,
  unstored: [],
  copies: { inStep: 0, due: [], refused: 0, failures: [], ...copies },
  ...seen,
});
const toTake = (takes: Partial<SeenToTake["takes"]>, seen: Partial<SeenToTake> = {}): Observed => ({
  kind: "Pull",
  closed: [],
  over: [],
  unreached: 0,
  unstored: [],
  takes: { inStep: 0, due: [], forget: [], failures: [], ...takes },
  forgotten: false,
  ...seen,
});

const conflict = (key: string, spec: SyncConflict["spec"] = {}): SyncConflict =>
  ({
    spec,
    status: { secret: "db", key, name: "jobs/db", platformVersion: 2, targetVersion: "core/7" },
  }) as unknown as SyncConflict;
const found = (key: string, change: Partial<FoundConflict> = {}): FoundConflict => ({
  entry: { secretName: "db", key, entryName: "jobs/db" },
  secretId: "id",
  platformVersion: 2,
  targetVersion: "core/7",
  targetUpdatedOn: NOW,
  ...change,
});
const exchange = (...conflicts: SyncConflict[]): Exchange =>
  ({ secretName: "db", conflicts: new Map(conflicts.map((each) => [each.status?.key, each])) }) as unknown as Exchange;
const toExchange = (
  exchanges: Partial<SeenToExchange["exchanges"]>,
  { conflicts = [], ...seen }: Partial<SeenToExchange> = {},
): Observed => ({
  kind: "Bidirectional",
  closed: [],
  over: [],
  unreached: 0,
  unstored: [],
  exchanges: { inStep: 0, due: [], held: [], over: [], unshared: [], refused: 0, failures: [], ...exchanges },
  conflicts,
  ...seen,
});
const waits = conflict("a");
const said = conflict("a", { resolution: "KeepTarget" });

interface Case {
  readonly title: string;
  readonly seen: Observed;
  readonly actions?: readonly string[];
  /** items, inSync, pending */
  readonly counts?: readonly [number, number, number];
  readonly synced: readonly [status: string, reason: string, says?: RegExp];
  readonly reachable?: string;
  /** Milliseconds from now, or what it is instead. */
  readonly next?: number | "settled" | "stalled";
}

const pulled = { secretId: "id", key: "token" } as SeenToTake["takes"]["forget"][number];

const cases: readonly Case[] = [
  { title: "suspended", seen: { kind: "Suspended" }, synced: ["Unknown", "Suspended"] },
  { title: "nothing to copy", seen: toCopy({}), counts: [0, 0, 0], synced: ["True", "Succeeded"] },
  {
    title: "all is in step",
    seen: toCopy({ inStep: 3 }),
    counts: [3, 3, 0],
    synced: ["True", "Succeeded", /^3 core Secrets are in step$/],
  },
  {
    title: "two are due",
    seen: toCopy({ inStep: 1, due: [copy("a"), copy("b")] }),
    actions: ["Copy"],
    counts: [3, 1, 2],
    synced: ["False", "Progressing", /^2 of 3 core Secrets are not in step yet$/],
  },
  {
    title: "two were due, and are done",
    seen: toCopy({ inStep: 1, due: [copy("a"), copy("b")] }, { done: result({ written: 1, confirmed: 1 }) }),
    counts: [3, 3, 0],
    synced: ["True", "Succeeded"],
  },
  {
    title: "one of two failed, and is tried again",
    seen: toCopy(
      { due: [copy("a"), copy("b")] },
      { done: result({ written: 1, failed: 1, failures: [{ ...refused, secret: "b" }] }) },
    ),
    counts: [2, 1, 1],
    synced: ["False", "TargetNotOwned", /^b: not ours$/],
    next: 1_000,
  },
  {
    title: "one is being deleted there",
    seen: toCopy({ due: [copy("a")] }, { done: result({ waiting: 1, retryAfterMs: 10_000 }) }),
    counts: [1, 0, 1],
    synced: ["False", "Progressing"],
    next: 10_000,
  },
  {
    title: "refused whatever is done",
    seen: toCopy({ inStep: 1, refused: 2, failures: [refused] }),
    counts: [3, 1, 2],
    synced: ["False", "TargetNotOwned", /^db: not ours; 2 of 3 core Secrets are not in step$/],
  },
  {
    title: "one namespace is not admitted; the others are served",
    seen: toCopy({ inStep: 1, due: [copy("a")] }, { closed: [closed], unreached: 2 }),
    actions: ["Copy"],
    counts: [4, 1, 3],
    synced: ["False", "NamespaceNotAdmitted", /^3 of 4 core Secrets are not in step yet$/],
    reachable: "NamespaceNotAdmitted",
    next: "stalled",
  },
  {
    title: "a namespace is not admitted, and there is nothing to copy yet",
    seen: toCopy({}, { closed: [closed] }),
    counts: [0, 0, 0],
    synced: ["False", "NamespaceNotAdmitted"],
    reachable: "NamespaceNotAdmitted",
    next: "stalled",
  },
  {
    title: "one is not admitted and another one is still to come",
    seen: toCopy({}, { closed: [closed, absent], unreached: 2 }),
    counts: [2, 0, 2],
    synced: ["False", "NamespaceNotAdmitted"],
    reachable: "NamespaceNotAdmitted",
    next: 60_000,
  },
  {
    title: "the API server is away",
    seen: toCopy(
      { due: [copy("a"), copy("b")] },
      { done: result({ untried: 2, stopped: new Unavailable("ApiServerUnavailable", "no answer") }) },
    ),
    counts: [2, 0, 2],
    synced: ["False", "ApiServerUnavailable"],
    reachable: "ApiServerUnavailable",
    next: 1_000,
  },
  {
    title: "a Secret has no version yet",
    seen: toCopy({ inStep: 1 }, { unstored: ["late"] }),
    counts: [1, 1, 0],
    synced: ["False", "SecretNotStored", /late/],
  },
  {
    title: "entries are due to be taken",
    seen: toTake({ inStep: 1, due: [take("a", "b")] }),
    actions: ["Take"],
    counts: [3, 1, 2],
    synced: ["False", "Progressing", /^2 of 3 entries are not in step yet$/],
  },
  {
    title: "they were taken",
    seen: toTake({ inStep: 1, due: [take("a", "b")] }, { done: result({ written: 1, confirmed: 1 }) }),
    counts: [3, 3, 0],
    synced: ["True", "Succeeded", /^3 entries are in step$/],
  },
  {
    title: "one may not be taken",
    seen: toTake({ inStep: 1, failures: [{ ...refused, key: "token", reason: "TargetMissing" }] }),
    counts: [2, 1, 1],
    synced: ["False", "TargetMissing", /^db\/token: not ours$/],
  },
  {
    title: "the namespace to take from is not admitted",
    seen: toTake({}, { closed: [closed], unreached: 2 }),
    counts: [2, 0, 2],
    synced: ["False", "NamespaceNotAdmitted"],
    reachable: "NamespaceNotAdmitted",
    next: "stalled",
  },
  {
    title: "what the rule no longer takes is forgotten",
    seen: toTake({ inStep: 1, forget: [pulled] }),
    actions: ["ForgetTaken"],
    counts: [1, 1, 0],
    synced: ["True", "Succeeded"],
  },
  {
    title: "a core Secret that both sides may change is due",
    seen: toExchange({ inStep: 1, due: [exchange()] }),
    actions: ["Exchange"],
    counts: [2, 1, 1],
    synced: ["False", "Progressing", /^1 of 2 core Secrets are not in step yet$/],
  },
  {
    title: "in step, but not let go",
    seen: toExchange({ inStep: 1, unshared: ["jobs/db"] }),
    counts: [1, 1, 0],
    synced: [
      "True",
      "Succeeded",
      /^1 core Secrets are in step; edits in jobs\/db are written over, .*allow-pull: pay$/,
    ],
  },
  {
    title: "two values of it were changed on both sides",
    seen: toExchange({ due: [exchange()] }, { done: result({ conflicts: [found("a"), found("b")] }) }),
    actions: ["OpenConflict", "OpenConflict"],
    counts: [1, 0, 1],
    synced: ["False", "ChangedOnBothSides", /^db\/a, and 1 others, changed here and in core Secret jobs\/db; set spec/],
  },
  {
    title: "and that is known",
    seen: toExchange({ due: [exchange(waits)] }, { conflicts: [waits], done: result({ conflicts: [found("a")] }) }),
    counts: [1, 0, 1],
    synced: ["False", "ChangedOnBothSides"],
  },
  {
    title: "one was edited again since",
    seen: toExchange(
      { due: [exchange(waits)] },
      { conflicts: [waits], done: result({ conflicts: [found("a", { targetVersion: "core/8" })] }) },
    ),
    actions: ["OpenConflict"],
    synced: ["False", "ChangedOnBothSides"],
  },
  {
    title: "one waits for a person, and no read is worth it",
    seen: toExchange({ held: [{ secretName: "db", conflicts: [waits] }] }, { conflicts: [waits] }),
    counts: [1, 0, 1],
    synced: ["False", "ChangedOnBothSides", /^db\/a changed here and in core Secret jobs\/db; set/],
  },
  {
    title: "what was said of one value waits for what is said of the other",
    seen: toExchange(
      { due: [exchange(said, conflict("b"))] },
      { conflicts: [said, conflict("b")], done: result({ conflicts: [found("a"), found("b")] }) },
    ),
    synced: ["False", "ChangedOnBothSides"],
  },
  {
    title: "of two values one is no longer in conflict",
    seen: toExchange(
      { due: [exchange(waits, conflict("b"))] },
      { conflicts: [waits, conflict("b")], done: result({ conflicts: [found("b")] }) },
    ),
    actions: ["CloseConflict"],
    synced: ["False", "ChangedOnBothSides", /^db\/b changed/],
  },
  {
    title: "what a person said was done: the object goes when both are seen to agree",
    seen: toExchange({ due: [exchange(said)] }, { conflicts: [said], done: result({ written: 1 }) }),
    counts: [1, 1, 0],
    synced: ["True", "Succeeded"],
    next: 100,
  },
  {
    title: "and then it goes",
    seen: toExchange({ inStep: 1, over: [said] }, { over: [said], conflicts: [said] }),
    actions: ["CloseConflict"],
    synced: ["True", "Succeeded"],
  },
  {
    title: "a conflict that another direction has left behind",
    seen: toCopy({ inStep: 1 }, { over: [waits] }),
    actions: ["CloseConflict"],
    synced: ["True", "Succeeded"],
  },
  {
    title: "and that only once",
    seen: toTake({ inStep: 1, forget: [pulled] }, { forgotten: true }),
    counts: [1, 1, 0],
    synced: ["True", "Succeeded"],
  },
];

test.each(cases)("$title", ({ seen, actions = [], counts, synced, reachable = "Available", next = "settled" }) => {
  const plan = decide(rule, seen, NOW);
  expect(plan.actions.map(({ kind }) => kind)).toEqual(actions);
  const [status, reason, says = /^/] = synced;
  expect(plan.status.conditions.at(-1)).toMatchObject({ type: "Synced", status, reason });
  expect(plan.status.conditions.at(-1)?.message).toMatch(says);
  if (counts !== undefined) {
    const [items, inSync, pending] = counts;
    expect(plan.status.fields).toMatchObject({ items, inSync, pending });
    expect(plan.status.conditions[0]).toMatchObject({ type: "TargetReachable", reason: reachable });
  }
  if (typeof next === "number") {
    expect(plan.next).toEqual({ kind: "recheckAt", at: new Date(NOW.getTime() + next) });
  } else expect(plan.next.kind).toBe(next);
});

test("ten failures are shown, without a key where it is about all of a Secret, and a request is handled by looking", () => {
  const failures = Array.from({ length: 12 }, (_, index) => ({ ...refused, key: index === 0 ? "" : "k" }));
  const asked = { ...rule, metadata: { ...rule.metadata, annotations: { "mazevault.io/sync-now": "7" } } };
  const { fields } = decide(asked, toCopy({ refused: 12, failures }), NOW).status;
  const shown = fields?.failures as readonly object[];
  expect(shown).toHaveLength(10);
  expect(shown[0]).toEqual({ secret: "db", name: "jobs/db", reason: "TargetNotOwned", message: "not ours" });
  expect(shown[1]).toMatchObject({ key: "k" });
  expect(fields?.lastHandledSyncNow).toBe("7");
});
