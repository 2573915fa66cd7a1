/** Single courses of events that a random one would rarely take. */
import { Stalled } from "../errors.ts";
import { FakeTargetVault } from "../ports/fake-target-vault.ts";
import type { ConflictPolicy } from "./comparison.ts";
import { conflictKey } from "./exchange-plan.ts";
import { INSTALLATION_TAG, KEY_TAG, OWNER_TAG, SHARED_TAG } from "./ownership.ts";
import { VAULT_URL } from "./testing/entries.ts";
import { Site } from "./testing/exchange-world.ts";
import { entryNameOf, SECRET } from "./testing/platform.ts";

let vault: FakeTargetVault;
let clock: number;

const siteOf = async (policy: ConflictPolicy, ...keys: string[]): Promise<Site> => {
  clock = Date.parse("2026-01-01T00:00:00Z");
  vault = new FakeTargetVault(VAULT_URL);
  vault.now = () => clock;
  return Site.of("installation-1", { vault, keys, policy });
};
const later = (): void => {
  clock += 5_000;
};
const there = (key: string): string | undefined => vault.versions(entryNameOf(key)).at(-1)?.value;
const tagsOf = (key: string) => vault.versions(entryNameOf(key)).at(-1)?.tags ?? {};
const conflict = (key: string): string => conflictKey({ secretName: SECRET, key });

test("a write of ours that arrives after a later one is not taken for a person's", async () => {
  const site = await siteOf("TargetWins", "a");
  for (const value of ["one", "two", "three"]) {
    later();
    await site.platform.write("a", value);
    await site.reconcile();
  }
  later();
  // The service carried out what it had answered with a time-out.
  vault.put(entryNameOf("a"), "two", vault.versions(entryNameOf("a"))[1]?.tags);
  await site.reconcile();
  expect([await site.platform.value("a"), there("a")]).toEqual(["three", "three"]);
  expect(await site.platform.history("a")).toEqual(["one", "two", "three"]);
});

test("what is pushed beside what is taken over is of the version that was decided on", async () => {
  const site = await siteOf("TargetWins", "a", "b");
  await site.platform.write("a", "a1");
  await site.platform.write("b", "b1");
  await site.reconcile();
  later();
  await site.platform.write("a", "a2");
  vault.put(entryNameOf("b"), "b2");
  const { exchange: planned } = await site.plan(true);
  expect(planned).toHaveLength(2);
  await site.platform.write("a", "a3");
  await site.perform(planned, await site.lead());
  await site.platform.write("a", "a2");
  later();
  await site.reconcile();
  expect([await site.platform.value("a"), there("a")]).toEqual(["a2", "a2"]);
  expect([await site.platform.value("b"), there("b")]).toEqual(["b2", "b2"]);
});

describe("a resolution", () => {
  const planted = async (): Promise<Site> => {
    const site = await siteOf("Manual", "a", "other");
    await site.platform.write("a", "base");
    await site.reconcile();
    later();
    await site.platform.write("a", "here");
    vault.put(entryNameOf("a"), "there", tagsOf("a"));
    await site.reconcile();
    expect([...site.conflicts.keys()]).toEqual([conflict("a")]);
    later();
    return site;
  };

  test("holds although another entry of the Secret was written since", async () => {
    const site = await planted();
    await site.platform.write("other", "value");
    site.resolve("a", "KeepTarget");
    await site.reconcile();
    expect([await site.platform.value("a"), there("a")]).toEqual(["there", "there"]);
  });

  test.each(["here", "there"] as const)("is asked for again when the value %s has moved since", async (side) => {
    const site = await planted();
    if (side === "here") await site.platform.write("a", "newer");
    else vault.put(entryNameOf("a"), "newer");
    site.resolve("a", side === "here" ? "KeepTarget" : "KeepPlatform");
    await site.reconcile();
    const expected = side === "here" ? ["newer", "there"] : ["here", "newer"];
    expect([await site.platform.value("a"), there("a")]).toEqual(expected);
    expect(site.conflicts.get(conflict("a"))?.resolution).toBeUndefined();
  });
});

test("an entry of another secret is neither taken over nor written", async () => {
  const site = await siteOf("TargetWins", "a");
  const foreign = { [INSTALLATION_TAG]: "installation-1", [OWNER_TAG]: "another", [KEY_TAG]: "a" };
  vault.put(entryNameOf("a"), "theirs", foreign);
  expect(await site.reconcile()).toMatchObject({ failed: 1, failures: [{ reason: "TargetNotOwned" }] });
  await site.platform.write("a", "ours");
  expect(await site.reconcile()).toMatchObject({ failed: 1, failures: [{ reason: "TargetNotOwned" }] });
  expect([await site.platform.history("a"), there("a")]).toEqual([["ours"], "theirs"]);
});

test("what another platform only pushes is taken over and not written, until it shares", async () => {
  const site = await siteOf("PlatformWins", "a");
  const pushed = { [INSTALLATION_TAG]: "elsewhere", [OWNER_TAG]: "theirs", [KEY_TAG]: "a" };
  vault.put(entryNameOf("a"), "theirs", pushed);
  await site.reconcile();
  expect(await site.platform.value("a")).toBe("theirs");
  await site.platform.write("a", "ours");
  expect(await site.reconcile()).toMatchObject({ failures: [{ reason: "TargetNotOwned" }] });
  later();
  vault.edit(entryNameOf("a"), { tags: { ...pushed, [SHARED_TAG]: "true" } });
  await site.reconcile();
  expect(there("a")).toBe("ours");
});

describe("under NewestWins", () => {
  const second = async (policy: ConflictPolicy): Promise<Site> =>
    Site.of("installation-2", { vault, keys: ["a"], policy });

  test("who had seen a value and changed it wins over what is older than that, whatever the clocks say", async () => {
    const one = await siteOf("NewestWins", "a");
    const two = await second("NewestWins");
    await one.platform.write("a", "base");
    await one.reconcile();
    later();
    await two.reconcile();
    later();
    await two.platform.write("a", "older");
    later();
    vault.put(entryNameOf("a"), "seen");
    later();
    await one.reconcile();
    // From here on its clock is wrong by an hour: what it sets next seems to be as old as that.
    await one.platform.write("a", "by who had seen it");
    one.skewMs = 3_600_000;
    await one.reconcile();
    later();
    await two.reconcile();
    expect([await two.platform.value("a"), there("a")]).toEqual(["by who had seen it", "by who had seen it"]);
    expect(await two.platform.history("a")).toContain("older");
  });

  test("what came late to the vault is as old as it was set", async () => {
    const one = await siteOf("NewestWins", "a");
    const two = await second("NewestWins");
    await one.platform.write("a", "base");
    await one.reconcile();
    later();
    await two.reconcile();
    await one.platform.write("a", "set first");
    later();
    await two.platform.write("a", "set last");
    later();
    await one.reconcile();
    await two.reconcile();
    expect(there("a")).toBe("set last");
    later();
    await one.reconcile();
    expect(await one.platform.value("a")).toBe("set last");
  });

  test("another tag makes no value newer", async () => {
    const site = await siteOf("NewestWins", "a");
    await site.platform.write("a", "base");
    await site.reconcile();
    later();
    vault.put(entryNameOf("a"), "there", tagsOf("a"));
    later();
    await site.platform.write("a", "here");
    later();
    vault.edit(entryNameOf("a"), { tags: { ...tagsOf("a"), owner: "alice" } });
    const { decided } = await site.reconcile();
    expect(decided).toMatchObject([{ winner: "Platform", policy: "NewestWins" }]);
    expect([await site.platform.value("a"), there("a")]).toEqual(["here", "here"]);
    expect(await site.platform.history("a")).toContain("there");
  });

  test("without the vault's time nothing is decided, and nothing written", async () => {
    const site = await siteOf("NewestWins", "a");
    await site.platform.write("a", "base");
    await site.reconcile();
    later();
    await site.platform.write("a", "here");
    vault.put(entryNameOf("a"), "there");
    vault.tellsTime = false;
    expect(await site.reconcile()).toMatchObject({ failures: [{ reason: "VaultTimeUnknown" }] });
    expect([await site.platform.value("a"), there("a")]).toEqual(["here", "there"]);
    vault.tellsTime = true;
    expect(await site.reconcile()).toMatchObject({ written: 1 });
  });
});

test.each<ConflictPolicy>(["NewestWins", "PlatformWins", "TargetWins", "Manual"])(
  "what somebody sets between our look and our write is kept as a version (%s)",
  async (policy) => {
    const site = await siteOf(policy, "a");
    await site.platform.write("a", "base");
    await site.reconcile();
    later();
    await site.platform.write("a", "here");
    vault.disturb = (operation, name) => {
      if (operation === "set") vault.put(name, "in between", tagsOf("a"));
      return undefined;
    };
    await site.reconcile();
    vault.disturb = () => undefined;
    expect([await site.platform.value("a"), there("a")]).toEqual(["here", "here"]);
    expect(await site.platform.history("a")).toEqual(["base", "here", "in between", "here"]);
    later();
    await site.reconcile();
    const before = [vault.calls, await site.platform.versions()];
    await site.reconcile();
    expect([vault.calls, await site.platform.versions()]).toEqual([Number(before[0]) + 1, before[1]]);
  },
);

describe("what was decided is on record", () => {
  const decisions = (site: Site) => site.audited.filter(({ action }) => action === "SyncConflictDecided").length;
  const conflicting = async (policy: ConflictPolicy): Promise<Site> => {
    const site = await siteOf(policy, "a");
    await site.platform.write("a", "base");
    await site.reconcile();
    later();
    await site.platform.write("a", "here");
    // A person leaves our tags out.
    vault.put(entryNameOf("a"), "there");
    later();
    return site;
  };

  test("once while its write keeps failing, and anew when something else loses", async () => {
    const site = await conflicting("PlatformWins");
    vault.disturb = (operation) => (operation === "set" ? new Error("gone") : undefined);
    for (let pass = 0; pass < 3; pass += 1) await site.reconcile().catch(() => undefined);
    expect([there("a"), decisions(site)]).toEqual(["there", 1]);
    later();
    vault.put(entryNameOf("a"), "newer there");
    for (let pass = 0; pass < 3; pass += 1) await site.reconcile().catch(() => undefined);
    expect(decisions(site)).toBe(2);
    vault.disturb = () => undefined;
    await site.reconcile();
    expect([there("a"), decisions(site)]).toEqual(["here", 2]);
  });

  test("once while it cannot be taken over", async () => {
    const site = await conflicting("TargetWins");
    const put = site.platform.put.bind(site.platform);
    site.platform.put = () => Promise.reject(new Stalled("ValueInvalid", "it does not fit"));
    for (let pass = 0; pass < 3; pass += 1) await site.reconcile().catch(() => undefined);
    expect(decisions(site)).toBe(1);
    site.platform.put = put;
    await site.reconcile();
    expect([await site.platform.value("a"), decisions(site)]).toEqual(["there", 1]);
  });
});
