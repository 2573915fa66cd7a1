import { FENCE_MS, fenced, paired, settled, switched } from "../../core/fleet/environment.ts";
import type { EnvironmentRecord } from "../../core/ports/environment-store.ts";
import type { GatewayRecord } from "../../core/ports/fleet-store.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { Failover, FailoverSpec, FailoverStatus } from "../../crds/failover.ts";
import { decide, EXPIRES_MS, type Observed } from "./decide.ts";

const now = new Date("2026-03-01T12:00:00Z");
const at = (ms: number): Date => new Date(now.getTime() + ms);
const pair = { object: "npr", primary: "gw-1", standby: "gw-2" };
const mine = { uid: "uid-f", name: "npr-f" };
const other = { uid: "uid-o", name: "npr-o" };

const failover = (
  spec: Partial<FailoverSpec> = {},
  { status, madeAt = now }: { status?: FailoverStatus; madeAt?: Date } = {},
): Failover => ({
  apiVersion: API_VERSION,
  kind: "Failover",
  metadata: { ...mine, resourceVersion: "1", creationTimestamp: madeAt.toISOString() },
  spec: { environmentRef: { name: "npr" }, activate: "Standby", ...spec },
  ...(status && { status }),
});

const record = (name: string, change: Partial<GatewayRecord> = {}, queueLength = 0): GatewayRecord => ({
  id: name,
  name,
  environment: "NPR",
  role: "primary",
  registeredAt: at(-9_000_000),
  confirmedAt: at(-9_000_000),
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: {
    version: "1.5.0",
    problems: [],
    queueLength,
    certificateNotAfter: at(9_000_000_000).toISOString(),
    at: at(-30_000),
  },
  ...change,
});
const records = { Primary: record("gw-1"), Standby: record("gw-2") };
const silent = (name: string): GatewayRecord => {
  const { heartbeat, ...rest } = record(name);
  return { ...rest, heartbeat: heartbeat && { ...heartbeat, at: at(-200_000) } };
};

const made = paired("NPR", undefined, pair, at(-9_000_000));
const onStandby = settled(fenced(switched(made, "Standby", other, at(-900_000)), at(-900_000)));
const switching = switched(made, "Standby", mine, at(-10));

function decided(given: Failover, stored: EnvironmentRecord | undefined, seen: Partial<Observed> = {}) {
  const state = { environment: "NPR", generation: 1n, record: stored, at: now };
  const plan = decide(given, { state, records, remembered: 0n, newer: undefined, refusal: undefined, ...seen }, now);
  const condition = (type: string) => plan.status.conditions.find((each) => each.type === type);
  return { ...plan, kinds: plan.actions.map(({ kind }) => kind), outcome: plan.status.fields?.outcome, condition };
}

const back = failover({ activate: "Primary" });

describe("what is done:", () => {
  test.each<[string, Failover, EnvironmentRecord | undefined, Partial<Observed>, string[], string | undefined]>([
    ["DR is activated", failover(), made, {}, ["Switch"], undefined],
    [
      "whatever the primary does",
      failover(),
      made,
      { records: { ...records, Primary: undefined } },
      ["Switch"],
      undefined,
    ],
    [
      "not with a standby that is silent",
      failover(),
      made,
      { records: { ...records, Standby: silent("gw-2") } },
      ["Refuse"],
      undefined,
    ],
    [
      "nor one that has not registered",
      failover(),
      made,
      { records: { ...records, Standby: undefined } },
      ["Refuse"],
      undefined,
    ],
    [
      "nor one that was revoked",
      failover(),
      made,
      { records: { ...records, Standby: record("gw-2", { revokedAt: now }) } },
      ["Refuse"],
      undefined,
    ],
    [
      "unless it is forced",
      failover({ force: true }),
      made,
      { records: { ...records, Standby: silent("gw-2") } },
      ["Switch"],
      undefined,
    ],
    ["it is active already", failover(), onStandby, {}, [], "Completed"],
    ["back to the primary", back, onStandby, {}, ["Switch"], undefined],
    ["not while it is silent", back, onStandby, { records: { ...records, Primary: silent("gw-1") } }, [], undefined],
    [
      "nor while writes wait",
      back,
      onStandby,
      { records: { ...records, Standby: record("gw-2", {}, 3) } },
      [],
      undefined,
    ],
    [
      "nor while it is not known whether they do",
      back,
      onStandby,
      { records: { ...records, Standby: silent("gw-2") } },
      [],
      undefined,
    ],
    [
      "unless it is forced",
      failover({ activate: "Primary", force: true }),
      onStandby,
      { records: { Primary: undefined, Standby: undefined } },
      ["Switch"],
      undefined,
    ],
    ["a newer one came first", failover(), made, { newer: "npr-o" }, [], "Superseded"],
    ["another switch is under way", back, { ...switching, failover: other }, {}, [], undefined],
    ["its own is under way, also when a newer one waits", failover(), switching, { newer: "npr-o" }, [], undefined],
    ["its own is over", failover(), settled(fenced(switching, at(-FENCE_MS))), { newer: "npr-o" }, [], "Completed"],
    ["its environment is not there yet", failover(), undefined, { state: undefined }, [], undefined],
    ["its environment is not paired", failover(), { ...made, pair: undefined }, {}, [], undefined],
    [
      "its refusal is on record",
      failover(),
      made,
      { refusal: { reason: "GatewayNotHeardOf", message: "silent" } },
      [],
      "Refused",
    ],
  ])("%s", (_, given, stored, seen, kinds, outcome) => {
    const plan = decided(given, stored, seen);
    expect([plan.kinds, plan.outcome]).toEqual([kinds, outcome]);
  });

  test("what was not begun after ten minutes is not done any more", () => {
    const late = (age: number) => decided(failover({}, { madeAt: at(-age) }), undefined, { state: undefined });
    expect(late(EXPIRES_MS).kinds).toEqual([]);
    expect(late(EXPIRES_MS + 1).actions).toMatchObject([{ kind: "Refuse", why: { reason: "RequestExpired" } }]);
  });

  test("nor is it when nothing keeps it from being done", () => {
    const old = { madeAt: at(-EXPIRES_MS - 1) };
    const expired = [{ kind: "Refuse", why: { reason: "RequestExpired" } }];
    expect(decided(failover({}, old), made).actions).toMatchObject(expired);
    expect(decided(failover({ force: true }, old), made).actions).toMatchObject(expired);
    expect(decided(failover({ activate: "Primary" }, old), onStandby).actions).toMatchObject(expired);
    expect(decided(failover({}, old), onStandby).outcome).toBe("Completed");
  });

  test("nothing is begun, and nothing told as done, on what the store said before it was put back", () => {
    for (const given of [failover(), back, failover({}, { status: { epoch: 2 } })]) {
      const { kinds, outcome, next } = decided(given, onStandby, { remembered: 3n });
      expect([kinds, outcome, next.kind]).toEqual([[], undefined, "recheckAt"]);
    }
  });

  test("what was accepted waits without an end", () => {
    const conditions = [
      { type: "Accepted", status: "True", reason: "Succeeded", message: "", lastTransitionTime: now.toISOString() },
    ] as const;
    const given = failover(
      { activate: "Primary" },
      { status: { conditions: [...conditions] }, madeAt: at(-9 * EXPIRES_MS) },
    );
    const { kinds, outcome } = decided(given, { ...switching, failover: other });
    expect([kinds, outcome]).toEqual([[], undefined]);
  });
});

describe("what is told:", () => {
  test("a way back that waits says for what, and is looked at again soon", () => {
    const { condition, next } = decided(back, onStandby, { records: { ...records, Standby: record("gw-2", {}, 3) } });
    expect(condition("Accepted")).toMatchObject({ status: "True" });
    for (const type of ["Fenced", "Completed"]) {
      expect(condition(type)).toMatchObject({ status: "False", reason: "QueueNotEmpty" });
      expect(condition(type)?.message).toMatch(/3 writes wait at gw-2/);
    }
    expect(next).toEqual({ kind: "recheckAt", at: at(5_000) });
  });

  test("while it is fenced: until when", () => {
    const { condition, status, next } = decided(failover(), fenced(switching, now));
    expect(condition("Fenced")).toMatchObject({ status: "False", reason: "Fencing" });
    expect(condition("Fenced")?.message).toContain(at(FENCE_MS).toISOString());
    expect(status.fields).toEqual({ epoch: 2 });
    expect(next).toEqual({ kind: "recheckAt", at: at(FENCE_MS) });
  });

  test("a refusal says what to do, and waits for nothing", () => {
    const why = { reason: "GatewayNotHeardOf", message: "gateway gw-2 has not registered" } as const;
    expect(decided(failover(), made, { refusal: why }).next).toEqual({ kind: "stalled", ...why });
  });

  test("what has ended says what it said, whatever has come since", () => {
    const { status, next } = decided(failover(), settled(fenced(switching, at(-FENCE_MS))));
    const written = status.conditions.map((each) => ({ ...each, lastTransitionTime: now.toISOString() }));
    const ended = failover({}, { status: { ...status.fields, conditions: written } as FailoverStatus });
    const again = decided(ended, made, { state: undefined });
    expect(again.status).toEqual(status);
    expect(again.next).toEqual(next);
  });

  test("a switch that was made, and lost with what the store said, is not told as done", () => {
    const lost: EnvironmentRecord = { ...onStandby, active: "Primary", epoch: 3n, failover: undefined };
    expect(decided(failover({}, { status: { epoch: 2 } }), lost)).toMatchObject({ kinds: [], outcome: "Superseded" });
  });

  test("a switch that was made, and followed by another one before it was told, is told as done", () => {
    const given = failover({}, { status: { epoch: 2 } });
    const later = switched(settled(fenced(switching, at(-90_000))), "Primary", other, now);
    expect(decided(given, later)).toMatchObject({ kinds: [], outcome: "Completed" });
  });
});
