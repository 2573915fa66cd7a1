/** Each surprise that could delete something in a vault, and what is deleted on purpose. */
import { Stalled } from "../../core/errors.ts";
import type { Secret } from "../../crds/secret.ts";
import { NAMESPACE, projectOf, RuleWorld, URLS } from "./testing/rule-world.ts";

const [ONE, TWO] = URLS;
const KEYS = ["a", "b"];

let world: RuleWorld;

const vault = (url: string = ONE) => world.vaults.get(url) as NonNullable<ReturnType<typeof world.vaults.get>>;
const present = async (url: string = ONE): Promise<readonly string[]> => {
  const names: string[] = [];
  for await (const page of vault(url).list(new AbortController().signal)) names.push(...page.map(({ name }) => name));
  return names.sort();
};
const remove = async (name: string): Promise<void> => {
  world.secrets.delete(name);
  await world.storeSecret(name);
};
const audited = (action: string) => world.database.audit.filter(({ entry }) => entry.action === action).length;

beforeEach(async () => {
  world = await RuleWorld.of();
  world.apply("orders", KEYS, { labels: { tier: "db" } });
  world.apply("users", KEYS, { labels: { tier: "db" } });
  await world.settle();
  expect(await present()).toEqual(["orders--a", "orders--b", "users--a", "users--b"]);
});

describe("deleted is", () => {
  it("what a person deleted, once it is quiet, so that it can be recovered", async () => {
    await remove("orders");
    await world.pass();
    expect(await present()).toHaveLength(4);
    world.wait(5_000);
    await world.pass({ look: false });
    expect(await present()).toEqual(["users--a", "users--b"]);
    expect(vault().isDeleted("orders--a")).toBe(true);
    expect(world.condition("Synced")).toMatchObject({ status: "True" });
    expect(audited("VaultEntryDeleted")).toBe(2);
    expect((await world.store.items("uid-rule")).map(({ entryName }) => entryName)).toEqual(["users--a", "users--b"]);
  });

  it("a key that was taken out of a Secret", async () => {
    world.apply("orders", ["a"], { labels: { tier: "db" } });
    await world.settle();
    expect(await present()).toEqual(["orders--a", "users--a", "users--b"]);
  });

  it("what was deleted while its purge came first, or while nobody could reach the vault", async () => {
    world.apply("orders", KEYS, { deletionPolicy: "Purge" });
    await world.settle();
    await remove("orders");
    await world.restart();
    await world.settle();
    expect(await present()).toEqual(["users--a", "users--b"]);
  });

  it("what was deleted under another name as soon as it was, also after a change of the rule", async () => {
    world.change({ mappings: [{ secret: "orders", key: "a", name: "Mapped" }] });
    await world.settle();
    await remove("orders");
    await world.settle();
    // The name from before belongs to a reference that was changed, and stays.
    expect(await present()).toEqual(["orders--a", "users--a", "users--b"]);
  });

  it("also with direction Bidirectional", async () => {
    world.change({ direction: "Bidirectional", conflictPolicy: "PlatformWins" });
    world.apply("orders", ["a", "generated"], {
      entries: [{ key: "generated", generate: { kind: "Hex" } }],
      labels: { tier: "db" },
    });
    await world.settle();
    expect(await present()).toContain("orders--generated");
    await remove("orders");
    await world.settle();
    expect(await present()).toEqual(["orders--a", "orders--b", "users--a", "users--b"].slice(2));
  });
});

describe("nothing is deleted", () => {
  const surprises: readonly (readonly [string, () => Promise<void> | void])[] = [
    ["with the policy Retain", () => world.change({ deletionPolicy: undefined })],
    [
      "when the Secret asks to be retained",
      async () => {
        world.apply("orders", KEYS, { deletionPolicy: "Retain" });
        await world.storeSecret("orders");
      },
    ],
    ["when the scope changes in the same breath", () => world.change({ secrets: { names: ["orders", "users"] } })],
    ["when the vault becomes another one", () => world.change({ target: { keyVault: { ref: { name: "two" } } } })],
    [
      "when the name pattern changes",
      () => world.change({ target: { keyVault: { ref: { name: "one" }, name: "x-{secret}--{key}" } } }),
    ],
    [
      "when the Project is gone",
      () => {
        world.project = undefined;
      },
    ],
    [
      "when the Project no longer admits the namespace",
      () => {
        world.project = projectOf({ admits: false });
      },
    ],
    ["while the rule is suspended", () => world.change({ suspend: true })],
    ["while the rule is only tried", () => world.change({ dryRun: true })],
    [
      "while the namespace is being deleted",
      () => {
        world.namespace = { ...world.namespace, deletionTimestamp: "2026-01-01T00:00:00Z" };
      },
    ],
  ];
  it.each(surprises)("%s, even of what a person deletes then", async (_, surprise) => {
    await surprise();
    await remove("orders");
    await world.settle();
    expect(await present()).toEqual(expect.arrayContaining(["orders--a", "orders--b", "users--a", "users--b"]));
    expect(audited("VaultEntryDeleted")).toBe(0);
  });

  it.each<readonly [string, () => void]>([
    ["a label is removed", () => world.apply("orders", KEYS)],
    ["the scope becomes empty", () => world.change({ secrets: { names: ["nothing"] } })],
    ["the selector matches nothing", () => world.change({ secrets: { selector: { matchLabels: { tier: "x" } } } })],
    ["an entry gets another name", () => world.change({ mappings: [{ secret: "orders", key: "a", name: "Other" }] })],
    [
      "the Secret is made anew in another project",
      () => {
        world.secrets.delete("orders");
        world.apply("orders", KEYS, { projectRef: { name: "other" }, labels: { tier: "db" } });
      },
    ],
    [
      "the namespace was made anew",
      () => {
        world.namespace = { uid: "uid-shop-2" };
        world.secrets.clear();
      },
    ],
  ])("when %s", async (_, change) => {
    world.change({ secrets: { selector: { matchLabels: { tier: "db" } } } });
    await world.settle();
    change();
    await world.settle();
    expect(await present()).toEqual(expect.arrayContaining(["orders--a", "orders--b", "users--a", "users--b"]));
    expect(audited("VaultEntryDeleted")).toBe(0);
  });

  it("of a Secret that left the scope before it was deleted", async () => {
    world.change({ secrets: { selector: { matchLabels: { tier: "db" } } } });
    await world.settle();
    world.apply("orders", KEYS);
    await world.settle();
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(4);
  });

  it("when it is only missing, before the deletion is proven", async () => {
    world.secrets.delete("orders");
    await world.pass();
    world.wait(60_000);
    await world.pass();
    expect(await present()).toHaveLength(4);
    await world.settle();
    expect(await present()).toHaveLength(2);
  });

  it("when it comes back in time", async () => {
    const orders = world.secrets.get("orders") as Secret;
    await remove("orders");
    await world.pass();
    world.secrets.set("orders", orders);
    await world.settle();
    expect(await present()).toHaveLength(4);
    expect(audited("VaultEntryDeleted")).toBe(0);
  });

  it.each(["Push", "Bidirectional"] as const)(
    "of what a person changed over there, and it is told (%s)",
    async (direction) => {
      if (direction === "Bidirectional") world.change({ direction, conflictPolicy: "PlatformWins" });
      await world.settle();
      world.wait(5_000);
      vault().put("orders--a", "a person's", vault().versions("orders--a").at(-1)?.tags);
      vault().put("orders--b", "a person's");
      await remove("orders");
      for (let pass = 0; pass < 3; pass += 1) {
        world.wait(6_000);
        await world.pass();
      }
      expect(await present()).toEqual(["orders--a", "orders--b", "users--a", "users--b"]);
      expect(world.condition("Synced")).toMatchObject({ status: "False", reason: "ChangedInTarget" });
      expect(world.status.failures?.map(({ name }) => name)).toEqual(["orders--a", "orders--b"]);
      vault().remove("orders--a");
      vault().remove("orders--b");
      await world.pass();
      expect(world.condition("Synced")).toMatchObject({ status: "True" });
    },
  );

  it.each(["Push", "Bidirectional"] as const)(
    "of what was changed over there, which is told without looking until it is time, direction %s",
    async (direction) => {
      if (direction === "Bidirectional") world.change({ direction, conflictPolicy: "PlatformWins" });
      await world.settle();
      vault().put("orders--a", "a person's");
      await remove("orders");
      world.wait(6_000);
      // It is found by the deletion, which looks, and what else is to be deleted is.
      for (let pass = 0; pass < 3; pass += 1) await world.pass({ look: false });
      const edited = { status: "False", reason: "ChangedInTarget" };
      expect(await present()).toEqual(["orders--a", "users--a", "users--b"]);
      expect(world.condition("Synced")).toMatchObject(edited);
      let lists = 0;
      vault().disturb = (operation) => {
        if (operation === "list") lists += 1;
        return undefined;
      };
      for (let pass = 0; pass < 5; pass += 1) await world.pass({ look: false });
      expect(lists).toBe(0);
      expect(world.condition("Synced")).toMatchObject(edited);
      expect(world.status.failures?.map(({ name }) => name)).toEqual(["orders--a"]);
      // Another deletion looks at once, and the time for it brings both to their end.
      await remove("users");
      world.wait(6_000);
      await world.pass({ look: false });
      expect(lists).toBe(1);
      vault().disturb = () => undefined;
      expect(await present()).toEqual(["orders--a"]);
      vault().remove("orders--a");
      await world.pass();
      expect(world.condition("Synced")).toMatchObject({ status: "True" });
    },
  );

  it("of what was disabled over there", async () => {
    vault().edit("orders--a", { enabled: false });
    await remove("orders");
    await world.settle();
    expect(vault().isDeleted("orders--a")).toBe(false);
    expect(world.condition("Synced")).toMatchObject({ reason: "ChangedInTarget" });
  });

  it("of what another owns by its tags, or wants by its name", async () => {
    const tags = vault().versions("orders--a").at(-1)?.tags ?? {};
    vault().edit("orders--a", { tags: { ...tags, "mazevault-owner": "another", "mazevault-secret": "another" } });
    const other = { ...world.rule, metadata: { ...world.rule.metadata, name: "other", uid: "uid-other" } };
    world.apply("reports", ["b"]);
    const mappings = [{ secret: "reports", key: "b", name: "orders--b" }];
    world.otherRules.push({ ...other, spec: { ...other.spec, mappings } });
    await remove("orders");
    await world.settle();
    expect(vault().isDeleted("orders--a")).toBe(false);
    expect(vault().isDeleted("orders--b")).toBe(false);
  });

  it.each(["Push", "Bidirectional"] as const)(
    "of what another Secret wants by its name, although that waits for a value (%s)",
    async (direction) => {
      if (direction === "Bidirectional") world.change({ direction, conflictPolicy: "PlatformWins" });
      world.apply("orders.db", ["a"]);
      await world.settle();
      expect(await present()).toContain("orders-db--a");
      world.secrets.delete("orders.db");
      world.apply("orders-db", [], {
        entries: [
          { key: "a", literal: "a" },
          { key: "b", external: {} },
        ],
      });
      await world.settle();
      expect(await present()).toContain("orders-db--a");
      expect(audited("VaultEntryDeleted")).toBe(0);
    },
  );

  it("in a vault of the same name that knows nothing of what was written", async () => {
    const before = new Map(["orders--a", "orders--b"].map((name) => [name, vault().versions(name).at(-1)?.tags]));
    vault().replace();
    for (const name of ["orders--a", "orders--b"]) vault().put(name, "restored", before.get(name));
    await remove("orders");
    world.wait(6_000);
    await world.pass();
    expect(await present()).toEqual(expect.arrayContaining(["orders--a", "orders--b"]));
    expect(world.condition("Synced")).toMatchObject({ status: "False", reason: "VaultReplaced" });
    await world.settle();
    expect(await present()).toEqual(["orders--a", "orders--b", "users--a", "users--b"]);
    expect(world.condition("Synced")).toMatchObject({ reason: "ChangedInTarget" });
  });

  it("while the list cannot be read", async () => {
    vault().disturb = (operation) => (operation === "list" ? new (class extends Error {})() : undefined);
    await remove("orders");
    world.wait(6_000);
    await expect(world.pass()).rejects.toThrow();
    vault().disturb = () => undefined;
    expect(await present()).toHaveLength(4);
  });

  it("where the identity may not, which is told of the entries and tried again", async () => {
    const denied = new Stalled("AccessDenied", "delete at the vault: 403; grant the role");
    vault().disturb = (operation) => (operation === "delete" ? denied : undefined);
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(4);
    expect(world.condition("TargetReachable")).toMatchObject({ status: "True" });
    expect(world.condition("Synced")).toMatchObject({ status: "False", reason: "AccessDenied" });
    expect(world.condition("Synced")?.message).toMatch(/^orders\/a: delete at the vault: 403; grant the role/);
    vault().disturb = () => undefined;
    await world.settle();
    expect(await present()).toHaveLength(2);
  });

  it("by a rule that was deleted and made anew", async () => {
    const { metadata } = world.rule;
    world.rule = { ...world.rule, metadata: { ...metadata, uid: "uid-rule-2" } };
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(4);
    expect(await present(TWO)).toEqual([]);
    expect(NAMESPACE).toBe("shop");
  });
});

describe("after it was deleted", () => {
  it("what comes back is recovered, on record, and written", async () => {
    const orders = world.secrets.get("orders") as Secret;
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(2);
    world.secrets.set("orders", orders);
    await world.settle();
    expect(await present()).toHaveLength(4);
    expect(audited("VaultEntryRecovered")).toBe(2);
    expect(world.condition("Synced")).toMatchObject({ status: "True" });
    // The deletion of before is over: it would be on record again.
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(2);
    expect(audited("VaultEntryDeleted")).toBe(4);
  });

  it("an entry in the middle of deletion or recovery is waited for", async () => {
    await remove("orders");
    vault().suspend("orders--a");
    await world.settle();
    expect(vault().isDeleted("orders--a")).toBe(false);
    vault().resume("orders--a");
    await world.settle();
    expect(await present()).toEqual(["orders--a", "users--a", "users--b"]);
  });

  it.each(["before", "after"])("a crash %s the deletion is made up for, and it is on record once", async (when) => {
    await remove("orders");
    world.wait(6_000);
    const { store } = world;
    if (when === "before") vault().disturb = (operation) => (operation === "delete" ? new Error("gone") : undefined);
    else store.forget = () => Promise.reject(new Error("gone"));
    await world.pass().catch(() => undefined);
    vault().disturb = () => undefined;
    Reflect.deleteProperty(store, "forget");
    await world.restart();
    await world.settle();
    expect(await present()).toEqual(["users--a", "users--b"]);
    expect(audited("VaultEntryDeleted")).toBe(2);
    expect(await store.items("uid-rule")).toHaveLength(2);
  });
});

describe("limits", () => {
  const MANY = Array.from({ length: 12 }, (_, at) => `key-${at}`);
  const releaseOf = () => world.status.planHash ?? "";

  beforeEach(async () => {
    world.apply("many", MANY);
    await world.settle();
    expect(await present()).toHaveLength(16);
  });

  it("a plan over them does nothing of its kind, says so, and all else goes on", async () => {
    await remove("many");
    world.apply("fresh", KEYS);
    await world.settle();
    expect(await present()).toHaveLength(18);
    expect(world.condition("LimitExceeded")).toMatchObject({ status: "True", reason: "TooManyDeletions" });
    expect(world.condition("Synced")).toMatchObject({ status: "False", reason: "TooManyDeletions" });
    const message = world.condition("LimitExceeded")?.message ?? "";
    expect(message).toContain(
      "12 deletions at once, 10 may be (spec.limits): nothing is deleted, everything else goes on",
    );
    expect(message).toContain(
      `kubectl -n shop annotate --overwrite syncrules.mazevault.io rule mazevault.io/release=${releaseOf()}`,
    );
    expect(world.status).toMatchObject({ planTotal: 12 });
    expect(world.status.plan).toHaveLength(12);
    expect(world.status.plan?.[0]).toEqual({ action: "Delete", secret: "many", key: "key-0", target: "many--key-0" });
    const before = world.rule.status;
    await world.restart();
    await world.pass({ look: false });
    expect(world.rule.status).toEqual(before);
  });

  it("a release lets exactly that plan run, once", async () => {
    const many = world.secrets.get("many") as Secret;
    await remove("many");
    await world.settle();
    const hash = releaseOf();
    world.annotate({ "mazevault.io/release": "another" });
    await world.settle();
    expect(await present()).toHaveLength(16);
    world.annotate({ "mazevault.io/release": hash });
    await world.settle();
    expect(await present()).toHaveLength(4);
    expect(world.status.lastHandledRelease).toBe(hash);
    expect(world.condition("LimitExceeded")).toBeUndefined();
    expect(world.status.plan).toBeUndefined();
    expect(audited("SyncPlanReleased")).toBe(1);
    // The same plan once more has another hash.
    world.secrets.set("many", many);
    await world.settle();
    await remove("many");
    await world.settle();
    expect(await present()).toHaveLength(16);
    expect(releaseOf()).not.toBe(hash);
    expect(world.condition("LimitExceeded")).toMatchObject({ status: "True" });
  });

  it("what grew since needs another release", async () => {
    await remove("many");
    await world.settle();
    const hash = releaseOf();
    await remove("users");
    await world.settle();
    world.annotate({ "mazevault.io/release": hash });
    await world.settle();
    expect(await present()).toHaveLength(16);
    expect(world.status).toMatchObject({ planTotal: 14 });
  });

  it("a released plan goes on after a crash in its middle, and what comes on top is counted anew", async () => {
    await remove("many");
    await world.settle();
    let deletions = 0;
    vault().disturb = (operation) => {
      if (operation !== "delete") return undefined;
      deletions += 1;
      return deletions > 5 ? new Error("gone") : undefined;
    };
    world.annotate({ "mazevault.io/release": releaseOf() });
    await world.pass().catch(() => undefined);
    await world.restart();
    vault().disturb = () => undefined;
    await world.settle();
    expect(await present()).toHaveLength(4);
  });

  it("what is deleted piece by piece within seconds is one plan", async () => {
    for (const left of [9, 6, 3]) {
      world.apply("many", MANY.slice(0, left));
      await world.storeSecret("many");
      world.wait(4_000);
      await world.pass();
    }
    await remove("many");
    await world.settle();
    expect(await present()).toHaveLength(16);
    expect(world.status).toMatchObject({ planTotal: 12 });
  });

  it("changes beyond them stand still, new entries are made", async () => {
    world.change({ limits: { changes: "50%" } });
    await world.settle();
    const before = vault().versions("many--key-0").length;
    world.secrets.delete("many");
    world.apply("many", MANY);
    world.apply("fresh", KEYS);
    await world.settle();
    expect(vault().versions("many--key-0")).toHaveLength(before);
    expect(await present()).toHaveLength(18);
    expect(world.condition("LimitExceeded")).toMatchObject({ reason: "TooManyChanges" });
    expect(world.condition("LimitExceeded")?.message).toContain("12 changes at once, 9 may be");
    world.annotate({ "mazevault.io/release": releaseOf() });
    await world.settle();
    expect(vault().versions("many--key-0")).toHaveLength(before + 1);
    expect(world.condition("Synced")).toMatchObject({ status: "True" });
  });

  it.each(["Push", "Bidirectional"] as const)(
    "what was begun before is finished, and not counted (%s)",
    async (direction) => {
      if (direction === "Bidirectional") world.change({ direction, conflictPolicy: "PlatformWins" });
      await world.settle();
      world.secrets.delete("many");
      world.apply("many", MANY);
      await world.storeSecret("many");
      // Meant, and never written.
      vault().disturb = (operation) => (operation === "set" ? new Error("gone") : undefined);
      await world.pass().catch(() => undefined);
      vault().disturb = () => undefined;
      const intents = (await world.store.items("uid-rule")).filter(({ intent }) => intent !== undefined);
      expect(intents.length).toBeGreaterThan(0);
      world.change({ limits: { changes: `${12 - intents.length}` } });
      await world.restart();
      await world.settle();
      expect(world.condition("LimitExceeded")).toBeUndefined();
      expect(world.condition("Synced")).toMatchObject({ status: "True" });
    },
  );

  it("in a protected environment fewer need no release", async () => {
    world.project = projectOf({ isProtected: true });
    world.change({ limits: { deletions: 100 } });
    await remove("orders");
    await world.settle();
    expect(await present()).toHaveLength(14);
    await remove("users");
    world.apply("many", MANY.slice(2));
    await world.settle();
    expect(await present()).toHaveLength(14);
    expect(world.condition("LimitExceeded")).toMatchObject({ reason: "ProtectedEnvironment" });
  });

  it("a rule that is only tried writes nothing and tells what it would do", async () => {
    world.change({ dryRun: true });
    await world.settle();
    await remove("orders");
    world.apply("fresh", ["a"]);
    world.apply("users", KEYS, { entries: [{ key: "a", literal: "other" }], labels: { tier: "db" } });
    await world.settle();
    const calls = vault().calls;
    const items = await world.store.items("uid-rule");
    await world.pass();
    expect(vault().calls - calls).toBe(1);
    expect(await world.store.items("uid-rule")).toEqual(items);
    expect(await present()).toHaveLength(16);
    expect(world.condition("Synced")).toMatchObject({ status: "Unknown", reason: "DryRun" });
    expect(world.status.plan).toEqual([
      { action: "Delete", secret: "orders", key: "a", target: "orders--a" },
      { action: "Delete", secret: "orders", key: "b", target: "orders--b" },
      { action: "Delete", secret: "users", key: "b", target: "users--b" },
      { action: "Update", secret: "users", key: "a", target: "users--a" },
      { action: "Create", secret: "fresh", key: "a", target: "fresh--a" },
    ]);
    world.change({ dryRun: false });
    await world.settle();
    expect(await present()).toHaveLength(14);
  });
});

test("what stands still by a limit goes on doing so when healing gives way in the same pass", async () => {
  world.change({ limits: { changes: "1" } });
  vault().put("users--a", "a person's");
  vault().put("users--b", "a person's");
  vault().erase("orders--a");
  const list = vault().list.bind(vault());
  vault().list = async function* (signal) {
    yield* list(signal);
    world.hurry();
  };
  await world.pass();
  expect(world.condition("LimitExceeded")).toMatchObject({ status: "True" });
  expect(await present()).not.toContain("orders--a");
  vault().list = list;
  // Another value for b alone: by itself that is within the limit.
  world.apply("orders", ["a"], { labels: { tier: "db" } });
  world.apply("orders", KEYS, { labels: { tier: "db" } });
  await world.storeSecret("orders");
  await world.pass({ look: false });
  expect(world.condition("LimitExceeded")).toMatchObject({ status: "True" });
  expect(vault().versions("orders--b")).toHaveLength(1);
});

describe("healing goes on until everything is healed, and what is left is told, also", () => {
  const lost = async (keys: readonly string[]): Promise<void> => {
    world.apply("many", keys);
    await world.settle();
    for (const key of keys) vault().erase(`many--${key}`);
  };

  it("of more than one pass heals", async () => {
    const keys = Array.from({ length: 501 }, (_, at) => `key-${at}`);
    await lost(keys);
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 504, pending: 1 });
    expect(world.condition("Synced")).toMatchObject({ status: "False" });
    await world.pass({ look: false });
    expect(world.status).toMatchObject({ inSync: 505, pending: 0 });
    expect(await present()).toHaveLength(505);
  });

  it("after it was stopped", async () => {
    // More than are under way at once: those have left intents, which are found without a look.
    await lost(Array.from({ length: 60 }, (_, at) => `key-${at}`));
    const set = vault().set.bind(vault());
    vault().set = async () => {
      throw new Stalled("AccessDenied", "no");
    };
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 4, pending: 60 });
    vault().set = set;
    await world.pass({ look: false });
    expect(world.status).toMatchObject({ inSync: 64, pending: 0 });
    expect(await present()).toHaveLength(64);
  });
});
