/** Single courses of events that a random one would rarely take. */
import { FakeTargetVault } from "../ports/fake-target-vault.ts";
import type { ConflictPolicy } from "./exchange.ts";
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
  await site.perform(planned);
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
