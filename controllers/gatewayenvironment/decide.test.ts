import { FENCE_MS, fenced, paired, settled, switched } from "../../core/fleet/environment.ts";
import type { EnvironmentRecord } from "../../core/ports/environment-store.ts";
import type { GatewayRecord } from "../../core/ports/fleet-store.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { Gateway, GatewaySpec } from "../../crds/gateway.ts";
import type { GatewayEnvironment, GatewayEnvironmentStatus } from "../../crds/gatewayenvironment.ts";
import { CALM_MS, decide, type Observed, type Referred } from "./decide.ts";
import { olderThan } from "./index.ts";

const now = new Date("2026-03-01T12:00:00Z");
const MINUTE = 60_000;
const at = (ms: number): Date => new Date(now.getTime() + ms);
const pair = { object: "npr", primary: "gw-1", standby: "gw-2" };
const by = { uid: "uid-f", name: "npr-f" };

const object = (
  status?: GatewayEnvironmentStatus,
  automaticFailover?: { missedHeartbeats: number },
): GatewayEnvironment => ({
  apiVersion: API_VERSION,
  kind: "GatewayEnvironment",
  metadata: { name: "npr", uid: "uid-1", resourceVersion: "1", creationTimestamp: at(-MINUTE).toISOString() },
  spec: {
    environment: "NPR",
    primaryRef: { name: "gw-1" },
    standbyRef: { name: "gw-2" },
    ...(automaticFailover && { automaticFailover }),
  },
  ...(status && { status }),
});

const gateway = (name: string, spec: GatewaySpec): Gateway => ({
  apiVersion: API_VERSION,
  kind: "Gateway",
  metadata: { name, uid: `uid-${name}`, resourceVersion: "1" },
  spec,
});

const record = (name: string, beatMs: number, change: Partial<GatewayRecord> = {}): GatewayRecord => ({
  id: name,
  name,
  environment: "NPR",
  role: "primary",
  registeredAt: at(-100 * MINUTE),
  confirmedAt: at(-100 * MINUTE),
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: {
    version: "1.5.0",
    problems: [],
    queueLength: 0,
    certificateNotAfter: at(80 * 24 * 60 * MINUTE).toISOString(),
    at: at(beatMs),
  },
  ...change,
});

const referred = (name: string, role: "primary" | "dr-standby", beatMs = -30_000): Referred => ({
  object: gateway(name, { environment: "NPR", role }),
  record: record(name, beatMs, { role }),
});
const both = { Primary: referred("gw-1", "primary"), Standby: referred("gw-2", "dr-standby") };
const made = paired("NPR", undefined, pair, at(-60 * MINUTE));
const switching = switched(made, "Standby", by, at(-1_000));
const onStandby = settled(fenced(switched(made, "Standby", by, at(-60 * MINUTE)), at(-60 * MINUTE)));

function decided(stored: EnvironmentRecord | undefined, seen: Partial<Observed> = {}, given = object()) {
  const state = { environment: "NPR", generation: stored === undefined ? 0n : 1n, record: stored, at: now };
  const observed: Observed = {
    older: undefined,
    state,
    gateways: both,
    watchingSince: at(-60 * MINUTE),
    standbyAlone: 60,
    lastRequestedAt: undefined,
    ...seen,
  };
  const plan = decide(given, observed, now);
  const condition = (type: string) => plan.status.conditions.find((each) => each.type === type);
  return { ...plan, kinds: plan.actions.map(({ kind }) => kind), condition };
}

describe("what is done:", () => {
  const remembered = { active: "Standby", epoch: 4 } as const;
  test.each<[string, EnvironmentRecord | undefined, GatewayEnvironmentStatus | undefined, string[]]>([
    ["nothing is known yet: it is paired", undefined, undefined, ["Pair"]],
    ["it was released before", { ...made, pair: undefined }, undefined, ["Pair"]],
    ["the pair is of an object before this one", { ...made, pair: { ...pair, object: "old" } }, undefined, ["Pair"]],
    ["everything stands as it should", made, undefined, []],
    ["it was switched, and nobody acts", switching, undefined, ["Fence"]],
    ["the fence is not over", fenced(switching, at(-FENCE_MS + 1)), undefined, []],
    ["the fence is over", fenced(switching, at(-FENCE_MS)), undefined, ["Settle"]],
    ["the store says less than status", made, remembered, ["Restore"]],
    ["the store says nothing, and status does", undefined, remembered, ["Restore"]],
    ["the store says more than status", onStandby, { active: "Primary", epoch: 1 }, []],
  ])("%s", (_, stored, status, kinds) => {
    expect(decided(stored, {}, object(status)).kinds).toEqual(kinds);
  });

  test("status says who acts only where the store says nothing, or something older, of this pair", () => {
    const status = { active: "Standby", epoch: 5 } as const;
    const actsAfter = (stored: EnvironmentRecord | undefined) => decided(stored, {}, object(status)).actions;
    for (const stored of [undefined, made])
      expect(actsAfter(stored)).toMatchObject([{ kind: "Restore", remembered: { active: "Standby", epoch: 5n } }]);
    for (const other of [undefined, { ...pair, standby: "gw-3" }]) {
      const expected = [{ kind: "Restore", remembered: { active: "Primary", epoch: 5n } }];
      expect(actsAfter({ ...made, pair: other })).toMatchObject(expected);
    }
  });

  const telling = (name: string, role: "primary" | "dr-standby", environmentEpoch: string, change = {}): Referred => {
    const { object: of, record: known } = referred(name, role);
    const beat = known?.heartbeat && { ...known.heartbeat, environmentEpoch };
    return { object: of, record: known && { ...known, heartbeat: beat, ...change } };
  };

  test.each<[string, EnvironmentRecord | undefined, Referred, string[], object]>([
    [
      "than the store says",
      onStandby,
      telling("gw-2", "dr-standby", "7"),
      ["Restore"],
      { active: "Standby", epoch: 7n },
    ],
    [
      "than a store says that says nothing",
      undefined,
      telling("gw-2", "dr-standby", "7"),
      ["Restore"],
      { active: "Primary", epoch: 7n },
    ],
    [
      "than of a pair that ended",
      { ...onStandby, pair: undefined },
      telling("gw-2", "dr-standby", "7"),
      ["Restore"],
      { active: "Primary", epoch: 7n },
    ],
    ["as the store says", onStandby, telling("gw-2", "dr-standby", "2"), [], {}],
    ["as each is told of which nothing was written", undefined, telling("gw-2", "dr-standby", "1"), ["Pair"], {}],
    ["than any store has told", onStandby, telling("gw-2", "dr-standby", "9".repeat(19)), [], {}],
    ["and was revoked", onStandby, telling("gw-2", "dr-standby", "7", { revokedAt: now }), [], {}],
    ["and is of another environment", onStandby, telling("gw-2", "dr-standby", "7", { environment: "PRO" }), [], {}],
    [
      "and told it before it registered anew",
      onStandby,
      telling("gw-2", "dr-standby", "7", { registeredAt: now }),
      [],
      {},
    ],
  ])("a gateway knows of an epoch as new, or newer, %s", (_, stored, Standby, kinds, remembered) => {
    const { kinds: done, actions } = decided(stored, { gateways: { ...both, Standby } });
    expect(done).toEqual(kinds);
    if (kinds.includes("Restore")) expect(actions).toMatchObject([{ remembered }]);
  });

  test("what status says of who acts comes before what gateways say of the epoch", () => {
    const gateways = { ...both, Standby: telling("gw-2", "dr-standby", "7") };
    const { actions } = decided(made, { gateways }, object({ active: "Standby", epoch: 5 }));
    expect(actions).toMatchObject([{ kind: "Restore", remembered: { active: "Standby", epoch: 5n } }]);
  });

  test("an epoch that no store can have forgotten is not taken over from status", () => {
    const { actions, condition } = decided(made, {}, object({ active: "Standby", epoch: Number.MAX_SAFE_INTEGER }));
    expect(actions).toEqual([]);
    expect(condition("Paired")).toMatchObject({ status: "False", reason: "TamperDetected" });
  });

  test("what status says of the epoch stays while it cannot be written", () => {
    const status = { active: "Standby", activeGateway: "gw-2", epoch: 4, since: now.toISOString() } as const;
    for (const stored of [undefined, made, { ...switching, epoch: 4n }]) {
      expect(decided(stored, {}, object(status)).status.fields).toMatchObject(status);
    }
  });
});

describe("what is told:", () => {
  test("the primary acts: all is well, and it is looked at again soon", () => {
    const { condition, status, next } = decided(made);
    expect(condition("Paired")).toMatchObject({ status: "True" });
    expect(condition("Acting")).toMatchObject({ status: "True", reason: "Available" });
    expect(condition("FailoverActive")).toMatchObject({ status: "False", reason: "PrimaryActive" });
    expect(status.fields).toEqual({
      active: "Primary",
      activeGateway: "gw-1",
      epoch: 1,
      since: at(-60 * MINUTE).toISOString(),
    });
    expect(next).toEqual({ kind: "recheckAt", at: at(5_000) });
  });

  test("DR is active: how to go back", () => {
    const { condition, status } = decided(onStandby);
    expect(condition("FailoverActive")).toMatchObject({ status: "True", reason: "StandbyActive" });
    expect(condition("FailoverActive")?.message).toMatch(/gw-2 is in charge.*mazevault failover failback NPR/);
    expect(status.fields).toMatchObject({ active: "Standby", activeGateway: "gw-2", epoch: 2 });
  });

  test("the fence is not over: when it is, and it is looked at again then", () => {
    const { condition, next } = decided(fenced(switching, at(-10_000)));
    expect(condition("Acting")).toMatchObject({ status: "False", reason: "Fencing" });
    expect(condition("Acting")?.message).toContain(`over at ${at(FENCE_MS - 10_000).toISOString()}; gw-2 acts`);
    expect(next).toEqual({ kind: "recheckAt", at: at(FENCE_MS - 10_000 + 50) });
  });

  test("the one in charge is silent: what to do, and nothing is done by itself", () => {
    const gateways = { ...both, Primary: referred("gw-1", "primary", -4 * MINUTE) };
    const { condition, kinds } = decided(made, { gateways });
    expect(condition("Acting")).toMatchObject({ status: "False", reason: "GatewayNotHeardOf" });
    expect(condition("Acting")?.message).toMatch(/gw-1 are missing.*mazevault failover activate-dr NPR/);
    expect(kinds).toEqual([]);
  });

  test("an older object is for the same environment: this one stalls, says so, and remembers nothing", () => {
    const { next, status } = decided(made, { older: "first" }, object({ active: "Primary", epoch: 1 }));
    expect(next).toMatchObject({ kind: "stalled", reason: "EnvironmentTaken" });
    expect(next).toMatchObject({
      message: expect.stringMatching(/spec.environment: GatewayEnvironment first is older/),
    });
    expect(status.fields).toEqual({});
  });

  test.each<[string, Partial<Record<"Primary" | "Standby", Referred>>, RegExp, string]>([
    [
      "there is no such gateway",
      { Primary: { object: undefined, record: undefined } },
      /spec.primaryRef: there is no Gateway gw-1 yet; apply it/,
      "recheckAt",
    ],
    [
      "it is for another environment",
      { Standby: { object: gateway("gw-2", { environment: "PRO", role: "dr-standby" }), record: undefined } },
      /spec.standbyRef: Gateway gw-2 is for environment PRO, and this is NPR/,
      "stalled",
    ],
    [
      "it has the other role",
      { Standby: { object: gateway("gw-2", { environment: "NPR", role: "primary" }), record: undefined } },
      /spec.standbyRef: Gateway gw-2 has role primary, and dr-standby is needed/,
      "stalled",
    ],
    [
      "it does not say yet what it is",
      { Primary: { object: gateway("gw-1", {}), record: undefined } },
      /spec.primaryRef: Gateway gw-1 says neither .* set spec.environment and spec.role, or let it register/,
      "recheckAt",
    ],
  ])("%s: it is not paired", (_, change, message, kind) => {
    const { kinds, next, condition } = decided(undefined, { gateways: { ...both, ...change } });
    expect(kinds).toEqual([]);
    expect(next).toMatchObject({ kind });
    expect(condition("Paired")).toMatchObject({ status: "False", message: expect.stringMatching(message) });
  });

  test("a pair whose gateway disappeared stays, and says so", () => {
    const gateways = { ...both, Standby: { object: undefined, record: undefined } };
    const { kinds, condition, status } = decided(made, { gateways });
    expect(kinds).toEqual([]);
    expect(condition("Paired")).toMatchObject({ status: "False", reason: "GatewayNotFound" });
    expect(status.fields).toMatchObject({ active: "Primary", epoch: 1 });
  });
});

describe("it fails over by itself", () => {
  const automatic = object(undefined, { missedHeartbeats: 3 });
  const silent = { ...both, Primary: referred("gw-1", "primary", -200_000) };
  const kinds = (stored: EnvironmentRecord, seen: Partial<Observed> = {}) =>
    decided(stored, { gateways: silent, ...seen }, automatic).kinds;

  test("when the primary is silent and the standby is not", () => {
    expect(decided(made, { gateways: silent }, automatic).actions).toEqual([
      { kind: "FailOver", object: automatic, missed: 3, epoch: 1n, lastRequestedAt: undefined, at: now },
    ]);
  });

  test.each<[string, EnvironmentRecord, Partial<Observed>]>([
    ["the primary is heard of", made, { gateways: both }],
    ["too few are missing", made, { gateways: { ...both, Primary: referred("gw-1", "primary", -179_000) } }],
    ["DR is active already", onStandby, {}],
    ["it is being switched", fenced(switching, at(-1_000)), {}],
    ["it changed within the last ten minutes", { ...made, since: at(-CALM_MS + 1) }, {}],
    ["a Failover was made within the last ten minutes", made, { lastRequestedAt: at(-CALM_MS + 1) }],
    ["the standby is silent too", made, { gateways: { ...silent, Standby: referred("gw-2", "dr-standby", -200_000) } }],
    [
      "the standby has missed two heartbeats as well",
      made,
      { gateways: { ...silent, Standby: referred("gw-2", "dr-standby", -130_000) } },
    ],
    ["this replica has just begun to lead", made, { watchingSince: at(-179_000) }],
    ["the standby was not heard as often without it", made, { standbyAlone: 2 }],
    [
      "the primary was put out",
      made,
      { gateways: { ...both, Primary: { ...silent.Primary, record: record("gw-1", -200_000, { revokedAt: now }) } } },
    ],
    ["there is no standby", made, { gateways: { ...silent, Standby: { ...both.Standby, record: undefined } } }],
  ])("not when %s", (_, stored, seen) => {
    expect(kinds(stored, seen)).toEqual([]);
  });

  test("not when it was not asked for", () => {
    expect(decided(made, { gateways: silent }).kinds).toEqual([]);
  });
});

test("of two for one environment the older one counts", () => {
  const other = (name: string, seconds: number, environment = "NPR"): GatewayEnvironment => {
    const one = object();
    const metadata = {
      ...one.metadata,
      name,
      uid: `uid-${name}`,
      creationTimestamp: at(seconds * 1_000).toISOString(),
    };
    return { ...one, metadata, spec: { ...one.spec, environment } };
  };
  const [first, second, third] = [other("a", 0), other("b", 1), other("c", -9, "PRO")];
  expect(olderThan(first, [first, second, third])).toBeUndefined();
  expect(olderThan(second, [first, second, third])).toBe("a");
  const same = [other("x", 5), other("y", 5)] as const;
  expect([olderThan(same[0], same), olderThan(same[1], same)]).toEqual([undefined, "x"]);
});
