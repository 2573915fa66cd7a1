import { Unavailable } from "../../../core/errors.ts";
import type { SyncResult } from "../../../core/sync/run.ts";
import type { SyncRule, SyncRuleStatus } from "../../../crds/syncrule.ts";
import { decide, type SeenToSend } from "./decide.ts";
import { passing } from "./testing/two-clusters.ts";

const NOW = new Date("2026-01-01T00:00:00Z");
const later = (ms: number): Date => new Date(NOW.getTime() + ms);
const copy = { secretName: "db" } as SeenToSend["due"][number];
const record = { gateway: "gw" } as SeenToSend["moved"][number];
const nothing: SyncResult = {
  written: 0,
  confirmed: 0,
  failed: 0,
  failures: [],
  waiting: 0,
  conflicts: [],
  decided: [],
  untried: 0,
};
const failed = { secret: "db", key: "", name: "there/db", reason: "TargetNotOwned", message: "not ours" } as const;
const away = { reason: "GatewayUnavailable", message: "nobody took it" } as const;
const seen: SeenToSend = {
  kind: "Send",
  gateway: "gw",
  inStep: 0,
  moved: [],
  due: [],
  failures: [],
  waits: [],
  unstored: [],
  nextLook: later(60_000),
  recorded: false,
};

interface Case {
  readonly title: string;
  readonly seen: Partial<SeenToSend>;
  readonly status?: SyncRuleStatus;
  readonly actions?: readonly string[];
  readonly fields?: object;
  readonly synced: readonly [string, string];
  readonly reachable?: readonly [string, string];
  /** Until the next look, in milliseconds. */
  readonly again?: number;
}

const failingSince = (ms: number): SyncRuleStatus => ({
  conditions: [
    {
      type: "TargetReachable",
      status: "False",
      reason: "GatewayUnavailable",
      message: "",
      lastTransitionTime: later(-ms).toISOString(),
    },
  ],
});

const cases: readonly Case[] = [
  {
    title: "all is in step",
    seen: { inStep: 2 },
    fields: { items: 2, inSync: 2, pending: 0 },
    synced: ["True", "Succeeded"],
  },
  {
    title: "something is due",
    seen: { inStep: 1, due: [copy] },
    actions: ["Send"],
    fields: { items: 2, inSync: 1, pending: 1 },
    synced: ["False", "Progressing"],
  },
  {
    title: "something only moved",
    seen: { inStep: 1, moved: [record] },
    actions: ["Record"],
    fields: { items: 1, inSync: 1, pending: 0 },
    synced: ["True", "Succeeded"],
  },
  {
    title: "what moved is on record",
    seen: { inStep: 1, moved: [record], recorded: true },
    synced: ["True", "Succeeded"],
  },
  {
    title: "it was sent",
    seen: { due: [copy], done: { ...nothing, written: 1 } },
    fields: { items: 1, inSync: 1, pending: 0 },
    synced: ["True", "Succeeded"],
  },
  {
    title: "it was refused here or there",
    seen: { inStep: 1, failures: [failed] },
    fields: {
      items: 2,
      inSync: 1,
      pending: 1,
      failures: [{ secret: "db", name: "there/db", reason: "TargetNotOwned", message: "not ours" }],
    },
    synced: ["False", "TargetNotOwned"],
  },
  {
    title: "the gateway is away: nothing is sent, and it is asked soon",
    seen: { inStep: 1, due: [copy], closed: away },
    fields: { items: 2, inSync: 1, pending: 1 },
    synced: ["False", "GatewayUnavailable"],
    reachable: ["False", "GatewayUnavailable"],
    again: 1_000,
  },
  {
    title: "it has been away for long: it is asked ever less often",
    seen: { inStep: 1, closed: away },
    status: failingSince(40_000),
    synced: ["True", "Succeeded"],
    reachable: ["False", "GatewayUnavailable"],
    again: 20_000,
  },
  {
    title: "it went away over the sending",
    seen: { due: [copy], done: { ...nothing, untried: 1, stopped: new Unavailable(away.reason, away.message) } },
    synced: ["False", "GatewayUnavailable"],
    reachable: ["False", "GatewayUnavailable"],
    again: 1_000,
  },
  {
    title: "the gateway says when to ask again",
    seen: { due: [copy], closed: { ...away, reason: "TargetNamespaceNotFound", afterMs: 30_000 } },
    synced: ["False", "TargetNamespaceNotFound"],
    reachable: ["False", "TargetNamespaceNotFound"],
    again: 30_000,
  },
  {
    title: "one is being deleted there",
    seen: { waits: [5_000] },
    fields: { items: 1, inSync: 0, pending: 1 },
    synced: ["False", "Progressing"],
    again: 5_000,
  },
  { title: "no version is stored yet", seen: { unstored: ["db"] }, synced: ["False", "SecretNotStored"] },
];

const ruled = (status?: SyncRuleStatus): SyncRule => ({ ...passing("r", "there"), ...(status && { status }) });

test.each(cases)("$title", ({ seen: change, status, actions = [], fields = {}, synced, reachable, again = 60_000 }) => {
  const plan = decide(ruled(status), { ...seen, ...change }, NOW);
  expect(plan.actions.map(({ kind }) => kind)).toEqual(actions);
  expect(plan.status.fields).toMatchObject(fields);
  const told = plan.status.conditions.map((each) => [each.type, each.status, each.reason]);
  expect(told).toEqual([
    ["TargetReachable", ...(reachable ?? ["True", "Available"])],
    ["Synced", ...synced],
  ]);
  expect(plan.next).toEqual({ kind: "recheckAt", at: later(again) });
});

test("a suspended rule is left alone", () => {
  expect(decide(ruled(), { kind: "Suspended" }, NOW)).toMatchObject({ actions: [], next: { kind: "settled" } });
});
