import { randomBytes } from "node:crypto";
import { Fenced, Stalled, Unavailable, Waiting } from "../errors.ts";
import type { FakeVersion } from "../ports/fake-target-vault.ts";
import { NameTaken } from "../ports/sync-store.ts";
import { Throttled } from "../ports/target-vault.ts";
import { Sensitive } from "../sensitive.ts";
import { INTENT_TAG } from "./ownership.ts";
import { type PushContext, push } from "./push.ts";
import { Crash, live, nameOf, ourTags, World } from "./testing/world.ts";

const KEY = "password";
const NAME = nameOf(KEY);

let world: World;
beforeEach(() => {
  world = new World();
  world.keep(KEY, "one");
});

const current = (name = NAME): FakeVersion | undefined => world.vault.versions(name).at(-1);
const many = (count: number) => {
  for (let at = 0; at < count; at += 1) world.keep(`key-${String(at).padStart(2, "0")}`, `value-${at}`);
};
/** Pushes without looking first, as a change does. */
const pushNow = async (change: Partial<PushContext> & { concurrency?: number; giveWay?: () => boolean } = {}) => {
  const plan = await world.plan(false);
  return push(plan.push, { ...(await world.process()), ...change });
};

describe("pushing one entry", () => {
  it("writes an absent entry once, with our tags, an outcome and an audit row", async () => {
    expect(await pushNow()).toMatchObject({ written: 1, confirmed: 0, failed: 0, untried: 0 });
    expect(current()).toMatchObject({ value: "one", tags: ourTags(world.entry(KEY), current()?.tags[INTENT_TAG]) });
    expect((await world.plan(true)).inSync).toBe(1);
    expect(world.audited()).toEqual(new Set([current()?.id]));
    const row = world.database.audit.find(({ entry }) => entry.action === "VaultEntryWritten");
    expect(JSON.stringify(row?.entry)).not.toContain("one");
  });

  it("confirms an entry of ours that has the value, without a version and without an audit row", async () => {
    world.vault.put(NAME, "one", ourTags(world.entry(KEY)));
    expect(await pushNow()).toMatchObject({ written: 0, confirmed: 1 });
    expect(world.vault.versions(NAME)).toHaveLength(1);
    expect(world.audited().size).toBe(0);
  });

  it("writes a new version over ours and keeps tags of others and the content type", async () => {
    world.vault.put(NAME, "old", { ...ourTags(world.entry(KEY)), team: "payments" }, "text/plain");
    expect(await pushNow()).toMatchObject({ written: 1 });
    expect(current()).toMatchObject({ value: "one", tags: { team: "payments" }, contentType: "text/plain" });
  });

  it("writes over what its own record of before it was purged had written", async () => {
    world.vault.put(NAME, "before", { ...ourTags(world.entry(KEY)), "mazevault-secret": "id-purged" });
    expect(await pushNow()).toMatchObject({ written: 1 });
    expect(world.vault.versions(NAME).map(({ value }) => value)).toEqual(["before", "one"]);
    expect(current()?.tags).toMatchObject(ourTags(world.entry(KEY), current()?.tags[INTENT_TAG]));
  });

  it.each([
    ["of nobody", {}, /was not written by MazeVault and is left alone; delete it there, or add a mapping/],
    ["of another installation", { "mazevault-installation": "other" }, /another MazeVault installation \(other\)/],
    [
      "of another secret of ours",
      { "mazevault-installation": "installation-1", "mazevault-secret": "s", "mazevault-key": "k" },
      /another secret \(id s, key k\)/,
    ],
  ])("leaves an entry %s alone, even when it has the value", async (_, tags, message) => {
    world.vault.put(NAME, "one", tags);
    const { failures, written } = await pushNow();
    expect(written).toBe(0);
    expect(failures).toMatchObject([{ name: NAME, reason: "TargetNotOwned" }]);
    expect(failures[0]?.message).toMatch(message);
    expect(world.vault.versions(NAME)).toHaveLength(1);
  });

  it("repairs what somebody wrote by hand over our entry, tags and all", async () => {
    await pushNow();
    world.vault.put(NAME, "by hand", { note: "urgent" });
    expect(await world.reconcile()).toMatchObject({ written: 1 });
    expect(current()).toMatchObject({ value: "one", tags: { note: "urgent", "mazevault-key": KEY } });
  });

  it("restores the tags when somebody wrote the same value without them", async () => {
    await pushNow();
    world.vault.put(NAME, "one");
    expect(await world.reconcile()).toMatchObject({ written: 1 });
    expect((await world.plan(true)).inSync).toBe(1);
  });

  it("leaves an entry alone that somebody made anew under the name of ours", async () => {
    await pushNow();
    world.vault.erase(NAME);
    world.vault.put(NAME, "theirs");
    expect(await world.reconcile()).toMatchObject({ written: 0, failures: [{ reason: "TargetNotOwned" }] });
  });

  it("does not touch a disabled entry", async () => {
    world.vault.put(NAME, "old", ourTags(world.entry(KEY)));
    world.vault.edit(NAME, { enabled: false });
    expect(await pushNow()).toMatchObject({ failures: [{ reason: "TargetDisabled" }] });
  });

  it("recovers a deleted entry of ours, with an audit row, and writes the value when it is back", async () => {
    await pushNow();
    world.vault.remove(NAME);
    world.keep(KEY, "two");
    expect(await world.reconcile()).toMatchObject({ waiting: 1, retryAfterMs: 2_000 });
    expect(world.database.audit.map(({ entry }) => entry.action)).toContain("VaultEntryRecovered");
    expect(await world.reconcile()).toMatchObject({ written: 1 });
    expect(world.vault.versions(NAME).map(({ value }) => value)).toEqual(["one", "two"]);
  });

  it("makes no version when a recovered entry has the value already", async () => {
    await pushNow();
    world.vault.remove(NAME);
    await world.reconcile();
    expect(await world.reconcile()).toMatchObject({ confirmed: 1 });
    expect(world.vault.versions(NAME)).toHaveLength(1);
  });

  it("does not recover a deleted entry of others, and names the way out", async () => {
    world.vault.put(NAME, "theirs");
    world.vault.remove(NAME);
    const { failures } = await pushNow();
    expect(failures).toMatchObject([{ reason: "TargetNotOwned" }]);
    expect(failures[0]?.message).toMatch(/purge it there, or add a mapping/);
    expect(world.vault.isDeleted(NAME)).toBe(true);
  });

  it("waits while the vault still deletes or recovers the entry", async () => {
    world.vault.put(NAME, "old", ourTags(world.entry(KEY)));
    world.vault.suspend(NAME);
    expect(await pushNow()).toMatchObject({ waiting: 1, failed: 0 });
  });

  it("finds its own write after an answer was lost, and makes no second version", async () => {
    world.vault.disturb = (operation) => (operation === "set" ? "carriedOut" : undefined);
    expect(await pushNow()).toMatchObject({ written: 1 });
    expect(world.vault.versions(NAME)).toHaveLength(1);
    expect(world.audited()).toEqual(new Set([current()?.id]));
  });

  it("does not repeat a lost write in the same run, and writes once in the next", async () => {
    world.vault.disturb = (operation) => (operation === "set" ? "lost" : undefined);
    expect(await pushNow()).toMatchObject({ failed: 1, stopped: { code: "VaultUnreachable" } });
    world.vault.disturb = () => undefined;
    expect(await pushNow()).toMatchObject({ written: 1 });
    expect(world.vault.versions(NAME)).toHaveLength(1);
  });

  it("settles an earlier write that nobody saw before it writes the next value", async () => {
    const plan = await world.plan(false);
    await push(plan.push, await world.process({ atEffect: 3, carriedOut: true }));
    const [first] = world.vault.versions(NAME);
    expect(world.audited().size).toBe(0);
    world.keep(KEY, "two");
    expect(await pushNow()).toMatchObject({ written: 1 });
    expect(world.vault.versions(NAME).map(({ value }) => value)).toEqual(["one", "two"]);
    expect(world.audited()).toEqual(new Set([first?.id, current()?.id]));
  });

  it("refuses a value over 25 KB before it is sent", async () => {
    world.keep(KEY, "x".repeat(25 * 1024 + 1));
    expect(await pushNow()).toMatchObject({ failures: [{ reason: "ValueTooLarge" }] });
    world.keep(KEY, "x".repeat(25 * 1024));
    expect(await pushNow()).toMatchObject({ written: 1 });
  });

  it("refuses a value that is not text", async () => {
    const open = async () => new Sensitive(Buffer.concat([randomBytes(8), Buffer.from([0xff])]));
    expect(await pushNow({ open })).toMatchObject({ failures: [{ reason: "ValueInvalid" }] });
  });

  it("refuses rather than drops tags of others when there is no room for ours", async () => {
    const foreign = Object.fromEntries(Array.from({ length: 12 }, (_, at) => [`tag-${at}`, "x"]));
    const tags = { ...ourTags(world.entry(KEY)), ...foreign };
    world.vault.put(NAME, "old", tags);
    const { failures } = await pushNow();
    expect(failures[0]?.message).toMatch(/no room for ours \(Key Vault accepts 15\); remove 2 of them/);
    expect(current()?.tags).toEqual(tags);
  });

  it("reports a name that another secret claimed in the meantime", async () => {
    const { store } = await world.process();
    const recordIntent = async () => {
      throw new NameTaken(NAME, { secretId: "other", key: "k", ruleUid: "rule-2" });
    };
    const result = await pushNow({ store: { ...store, recordIntent } });
    expect(result).toMatchObject({ failures: [{ reason: "TargetNameCollision" }] });
    expect(world.vault.calls).toBe(0);
  });

  it("disposes of every value that it saw", async () => {
    world.vault.put(NAME, "old", ourTags(world.entry(KEY)));
    const opened = Buffer.from("one");
    await pushNow({ open: async () => new Sensitive(opened) });
    expect(opened).toEqual(Buffer.alloc(3));
    expect(current()?.value).toBe("one");
  });
});

describe("pushing many entries", () => {
  it("goes on when one fails", async () => {
    many(20);
    world.vault.put(nameOf("key-03"), "theirs");
    expect(await pushNow()).toMatchObject({ written: 20, failed: 1, untried: 0 });
  });

  it("lists no more than 10 failures and counts all", async () => {
    many(15);
    for (const entry of world.entries()) world.vault.put(entry.entryName, "theirs");
    const result = await pushNow();
    expect(result.failed).toBe(16);
    expect(result.failures).toHaveLength(10);
  });

  it("works on no more than so many at a time", async () => {
    many(20);
    const context = await world.process();
    let underWay = 0;
    let most = 0;
    const open: PushContext["open"] = async (...call) => {
      underWay += 1;
      most = Math.max(most, underWay);
      await new Promise(setImmediate);
      underWay -= 1;
      return context.open(...call);
    };
    await pushNow({ open, concurrency: 3 });
    expect(most).toBe(3);
  });

  it.each([
    new Throttled(7_000),
    new Unavailable("BudgetExhausted", "budget"),
    new Unavailable("IdentityUnavailable", "no token"),
    new Stalled("AccessDenied", "403"),
    new Stalled("CredentialInvalid", "401"),
  ])("stops at once when the vault as a whole says %s", async (error) => {
    many(50);
    world.vault.disturb = () => error;
    const result = await pushNow();
    expect(result).toMatchObject({ written: 0, failed: 0, stopped: error, untried: 51 });
    expect(result.retryAfterMs).toBe(error instanceof Throttled ? 7_000 : undefined);
    expect(world.vault.calls).toBeLessThanOrEqual(8);
  });

  it("goes on when single entries get no answer, and stops after three in a row", async () => {
    many(50);
    const down = new Unavailable("VaultUnreachable", "503");
    world.vault.disturb = (_, name) => (name.endsWith("7") ? down : undefined);
    expect(await pushNow({ concurrency: 1 })).toMatchObject({ written: 46, failed: 5, stopped: down, untried: 0 });
    world = new World();
    many(50);
    world.vault.disturb = () => down;
    expect(await pushNow({ concurrency: 1 })).toMatchObject({ failed: 3, stopped: down, untried: 47 });
  });

  it("waits for a value that is not there yet, and goes on with the others", async () => {
    many(1);
    const context = await world.process();
    const open: PushContext["open"] = async (id, version, key) => {
      if (key === KEY) throw new Waiting("SecretNotStored", "not yet", 4_000);
      return context.open(id, version, key);
    };
    expect(await pushNow({ open })).toMatchObject({ written: 1, waiting: 1, retryAfterMs: 4_000 });
  });

  it("makes no further call to the vault once it no longer leads", async () => {
    many(20);
    const assertLeading = () => {
      throw new Fenced(1n);
    };
    await expect(pushNow({ assertLeading })).rejects.toBeInstanceOf(Fenced);
    expect(world.vault.calls).toBe(0);
  });

  it("asks for the leadership before each single call", async () => {
    let asked = 0;
    world.vault.put(NAME, "old", ourTags(world.entry(KEY)));
    const assertLeading = () => {
      asked += 1;
    };
    await pushNow({ assertLeading });
    expect(asked).toBe(world.vault.calls);
  });

  it("rejects with the reason of the signal, and tells no failures", async () => {
    const controller = new AbortController();
    const reason = new Error("shutting down");
    world.vault.disturb = () => void controller.abort(reason);
    many(5);
    await expect(pushNow({ signal: controller.signal })).rejects.toBe(reason);
  });

  it("shows only the name of an error it does not know, and hands it on for the log", async () => {
    const { store } = await world.process();
    const recordOutcome = async () => {
      throw new Crash("with a value: one");
    };
    const result = await pushNow({ store: { ...store, recordOutcome } });
    expect(result.failures).toMatchObject([{ reason: "Failed" }]);
    expect(result.failures[0]?.message).not.toContain("value");
    expect(result.unexpected).toBeInstanceOf(Crash);
    expect(live.aborted).toBe(false);
  });
});

describe("what gives way", () => {
  it("begins nothing more, finishes what it began, and tells how much is left", async () => {
    many(20);
    let asked = 0;
    const result = await pushNow({
      concurrency: 1,
      giveWay: () => {
        asked += 1;
        return asked > 5;
      },
    });
    expect(result).toMatchObject({ written: 5, untried: 16, gaveWay: true, failed: 0 });
    expect(result.stopped).toBeUndefined();
    expect(await pushNow()).toMatchObject({ written: 16, untried: 0 });
  });

  it("is not said to have given way when all of it was begun", async () => {
    const result = await pushNow({ giveWay: () => false });
    expect(result.gaveWay).toBeUndefined();
  });
});
