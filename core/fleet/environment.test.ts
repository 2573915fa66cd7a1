import type { EnvironmentRecord } from "../ports/environment-store.ts";
import { FENCE_MS, fenced, isOpen, paired, released, restored, settled, standingOn, switched } from "./environment.ts";
import { LEASE_MS } from "./standing.ts";

const now = new Date("2026-03-01T12:00:00Z");
const at = (ms: number): Date => new Date(now.getTime() + ms);
const pair = { object: "npr", primary: "gw-1", standby: "gw-2" };
const made = paired("NPR", undefined, pair, now);
const by = { uid: "uid-f", name: "npr-f" };
const onStandby = settled(fenced(switched(made, "Standby", by, now), now));

const one = { name: "gw-1", role: "primary" } as const;
const two = { name: "gw-2", role: "dr-standby" } as const;
const alone = { name: "gw-9", role: "primary" } as const;
const spare = { name: "gw-8", role: "dr-standby" } as const;

const granted = (record: EnvironmentRecord | undefined, member: typeof one | typeof two | typeof alone, ms = 0) =>
  standingOn(record, { succeededAt: undefined, at: at(ms) }, member as typeof one).actsFor;

describe("who acts:", () => {
  const switching = switched(made, "Standby", by, now);
  test.each<[string, EnvironmentRecord | undefined, object, number, readonly string[]]>([
    ["without a pair, by role: a primary", undefined, one, 0, ["gw-1"]],
    ["without a pair, by role: a standby", undefined, two, 0, []],
    ["of a pair, the primary at first, for both", made, one, 0, ["gw-1", "gw-2"]],
    ["of a pair, not the standby at first", made, two, 0, []],
    ["beside a pair, by role", made, alone, 0, ["gw-9"]],
    ["beside a pair, by role: a standby", made, spare, 0, []],
    ["while it is switched, not the one of before", switching, one, 0, []],
    ["while it is switched, not the next one, however late it is", switching, two, 900_000, []],
    ["while it is switched, who is beside the pair", switching, alone, 0, ["gw-9"]],
    ["before the fence is over, not the next one", fenced(switching, now), two, FENCE_MS - 1, []],
    ["when the fence is over, the next one, for both", fenced(switching, now), two, FENCE_MS, ["gw-2", "gw-1"]],
    ["when the fence is over, not the one of before", fenced(switching, now), one, FENCE_MS, []],
    ["whose name is in the pair and whose role is another one: nobody", made, { ...one, role: "dr-standby" }, 0, []],
    ["nor where the standby came back as a primary", onStandby, { ...two, role: "primary" }, FENCE_MS, []],
    ["after the release of DR, nobody at once", released(onStandby, now), one, 900_000, []],
    ["after its fence, the primary by its role", fenced(released(onStandby, now), now), one, FENCE_MS, ["gw-1"]],
    ["and never the standby", fenced(released(onStandby, now), now), two, FENCE_MS, []],
    ["a release while the primary acts interrupts nothing", released(made, now), one, 0, ["gw-1"]],
  ])("%s", (_, record, member, ms, names) => {
    expect(granted(record, member as typeof one, ms)).toEqual(names);
  });

  test("a grant says epoch and length", () => {
    expect(standingOn(onStandby, { succeededAt: undefined, at: at(FENCE_MS) }, two)).toEqual({
      active: true,
      environmentEpoch: 2n,
      leaseMs: LEASE_MS,
      actsFor: ["gw-2", "gw-1"],
    });
  });

  test("a process that took the name of another one over waits until that one cannot act any more", () => {
    const standing = (ms: number) => standingOn(made, { succeededAt: now, at: at(ms) }, one).active;
    expect([standing(0), standing(LEASE_MS), standing(LEASE_MS + 9_999), standing(LEASE_MS + 10_000)]).toEqual([
      false,
      false,
      false,
      true,
    ]);
    expect(standingOn(undefined, { succeededAt: now, at: now }, alone).active).toBe(false);
  });
});

describe("what is written:", () => {
  test("a pair that is the same but for its object changes nothing", () => {
    const renamed = { ...pair, object: "npr-2" };
    expect(paired("NPR", onStandby, renamed, at(1))).toEqual({ ...onStandby, pair: renamed });
  });

  test("another pair begins with its primary, in another epoch, when nobody acts any more", () => {
    const other = paired("NPR", onStandby, { ...pair, standby: "gw-3" }, at(1));
    expect(other).toMatchObject({ active: "Primary", epoch: 3n, fencedUntil: undefined, settled: false, since: at(1) });
  });

  test.each([
    ["the primary acted", { ...onStandby, active: "Primary" as const }],
    ["the standby acted", onStandby],
  ])("a pair after a release waits for a fence of its own, where %s", (_what, before) => {
    const alone = fenced(released(before, now), now);
    const next = paired("NPR", alone, pair, at(1));
    expect(next).toMatchObject({ pair, active: "Primary", epoch: alone.epoch + 1n, fencedUntil: undefined });
    expect(next).toMatchObject({ settled: false, since: at(1) });
  });

  test("nor does a pair let anybody in at once where only a primary acted by its role", () => {
    const switchedAlone: EnvironmentRecord = { ...onStandby, pair: undefined };
    expect(granted(switchedAlone, one, FENCE_MS)).toEqual(["gw-1"]);
    const next = paired("NPR", switchedAlone, pair, at(FENCE_MS));
    expect([granted(next, one, FENCE_MS), granted(next, two, FENCE_MS)]).toEqual([[], []]);
  });

  test("what was forgotten goes on where it was remembered, in an epoch that nobody has heard of", () => {
    const remembered = { active: "Standby", epoch: 7n } as const;
    for (const record of [undefined, made]) {
      const again = restored("NPR", record, pair, remembered, at(1));
      expect(again).toMatchObject({ active: "Standby", epoch: 8n, pair, fencedUntil: undefined, settled: false });
      expect(isOpen(again, at(900_000))).toBe(false);
    }
  });
});
