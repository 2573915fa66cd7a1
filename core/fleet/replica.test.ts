import { until } from "../../lab/poll.ts";
import type { Authenticated } from "../access/subject.ts";
import { Unavailable } from "../errors.ts";
import type { FakeReplicaStore } from "../ports/fake-replica-store.ts";
import { actor } from "../ports/samples.ts";
import { ReplicaDirectory } from "./replica-directory.ts";
import { digested, isValuedKey, noDigest } from "./replica-item.ts";
import { REPLICA, REPLICA_VALUES, replicaRequest, replicaValuesRequest } from "./replica-protocol.ts";
import { GatewayWithReplica, memberOf, PrimaryOfReplicas } from "./testing/replica-world.ts";

const SOON = { timeoutMs: 5_000, intervalMs: 5 };

let primary: PrimaryOfReplicas;
let npr: GatewayWithReplica;
let pro: GatewayWithReplica;

beforeEach(async () => {
  primary = await PrimaryOfReplicas.start();
  primary.setNamespace("shop");
  primary.setProject("shop", { dev: "NPR", live: "PRO", local: undefined });
  npr = await GatewayWithReplica.start(primary, memberOf("NPR"));
  pro = await GatewayWithReplica.start(primary, memberOf("PRO"));
});
afterEach(() => primary.feed.stop());

/** What is told comes a moment after it happened. */
const holds = (gateway: GatewayWithReplica, wanted: Readonly<Record<string, string>>) =>
  until(
    `it holds ${JSON.stringify(wanted)}`,
    async () => {
      await gateway.settle();
      const held = await gateway.held();
      if (JSON.stringify(Object.entries(held).sort()) === JSON.stringify(Object.entries(wanted).sort())) return true;
      throw new Error(JSON.stringify(held));
    },
    SOON,
  );

const stored = (gateway: GatewayWithReplica) => gateway.store as FakeReplicaStore;
const signal = new AbortController().signal;
const app: Authenticated = {
  subject: { kind: "ServiceAccount", namespace: "shop", name: "app", uid: "u" },
  via: "ServiceAccountToken",
  id: "t",
};

/** Another cluster, in which nothing is applied yet, on the database of before. */
async function recover(): Promise<void> {
  primary.secretsByKey.clear();
  primary.projectsByName.clear();
  primary.recovering = true;
  await primary.restart();
}

describe("of a primary that was restored and is not settled, a replica", () => {
  beforeEach(async () => {
    primary.setPolicy("shop", "app", {
      subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
      rules: [{ projects: ["shop"], environments: ["dev"], verbs: ["read"] }],
    });
    await primary.put("shop", "one", "shop", "dev", "1");
    await primary.put("shop", "two", "shop", "dev", "2");
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
    await recover();
  });

  test("loses nothing that is not applied yet, and is confirmed; what changes comes", async () => {
    const grants = () =>
      [...npr.directory.items()].filter(([key]) => !isValuedKey(key)).map(([, { item }]) => item.body);
    const granted = grants();
    expect(granted).toHaveLength(2);
    npr.restart();
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
    expect(npr.pull.syncedAt).toEqual(npr.now);
    // Its namespace is not admitted yet, which takes no grant away either.
    primary.setProject("shop", { dev: "NPR" }, { namespaces: [] });
    const toNewcomers = { digest: noDigest().toString("hex"), waitMs: 0 };
    await until(
      "the primary has it so",
      async () => /namespaces[^a-z]*\[\]/.test(JSON.stringify(await primary.feed.changes("NPR", toNewcomers, signal))),
      SOON,
    );
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
    expect(grants()).toEqual(granted);
    primary.setProject("shop", { dev: "NPR" });
    await primary.put("shop", "one", "shop", "dev", "1b");
    await holds(npr, { "shop/one dev": "1b", "shop/two dev": "2" });
  });

  test("that has nothing gets what is there", async () => {
    const anew = await GatewayWithReplica.start(primary, memberOf("NPR"));
    primary.setProject("shop", { dev: "NPR" });
    await primary.put("shop", "one", "shop", "dev", "1b");
    await holds(anew, { "shop/one dev": "1b" });
  });

  test("loses what is missing when the recovery is settled", async () => {
    primary.setProject("shop", { dev: "NPR" });
    await primary.put("shop", "one", "shop", "dev", "1b");
    await holds(npr, { "shop/one dev": "1b", "shop/two dev": "2" });
    primary.recovering = false;
    await holds(npr, { "shop/one dev": "1b" });
  });
});

describe("a replica", () => {
  test("has what its environment may have, as it is now", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await primary.put("shop", "two", "shop", "live", "2");
    await primary.put("shop", "three", "shop", "local", "3");
    await holds(npr, { "shop/one dev": "1" });
    await holds(pro, { "shop/two live": "2" });
    await primary.put("shop", "one", "shop", "dev", "1b");
    await holds(npr, { "shop/one dev": "1b" });
    primary.remove("shop", "one");
    await holds(npr, {});
    await primary.put("shop", "one", "shop", "dev", "1c");
    await holds(npr, { "shop/one dev": "1c" });
  });

  test("is told of one change alone, however much it has", async () => {
    for (let at = 0; at < 50; at += 1) await primary.put("shop", `s${at}`, "shop", "dev", "v");
    await holds(npr, Object.fromEntries(Array.from({ length: 50 }, (_, at) => [`shop/s${at} dev`, "v"])));
    npr.asked = [];
    await primary.put("shop", "s7", "shop", "dev", "w");
    await until(
      "it came",
      async () => {
        await npr.settle();
        return (await npr.held())["shop/s7 dev"] === "w";
      },
      SOON,
    );
    const told = npr.asked.filter(({ answer }) => (answer.body as { kind?: string }).kind !== "Same");
    expect(told.map(({ path }) => path)).toEqual([REPLICA, REPLICA_VALUES]);
    expect(JSON.stringify(told.map(({ answer }) => answer.body)).length).toBeLessThan(2_000);
  });

  test("at rest writes nothing, also after restarts of either side", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const { writes } = stored(npr);
    const rows = npr.database.audit.length;
    npr.restart();
    await npr.settle();
    await primary.restart();
    await until(
      "the primary is there",
      async () => {
        npr.asked = [];
        await npr.turn();
        return npr.asked.at(-1)?.answer.status === 200;
      },
      SOON,
    );
    await npr.settle();
    expect(new Set(npr.asked.map(({ path }) => path))).toEqual(new Set([REPLICA]));
    expect(stored(npr).writes).toBe(writes);
    expect(npr.database.audit.length).toBe(rows);
  });

  test("says since when, seldom: at most once a minute, and not at a start", async () => {
    await holds(npr, {});
    const synced = () => npr.directory.state?.syncedAt?.toISOString();
    expect(synced()).toBe("2026-03-19T10:00:00.000Z");
    npr.now = new Date("2026-03-19T10:00:59.000Z");
    await npr.settle();
    expect(synced()).toBe("2026-03-19T10:00:00.000Z");
    npr.now = new Date("2026-03-19T10:01:01.000Z");
    await npr.settle();
    expect(synced()).toBe("2026-03-19T10:01:01.000Z");
    npr.now = new Date("2026-03-19T11:00:00.000Z");
    npr.restart();
    await npr.settle();
    expect(synced()).toBe("2026-03-19T10:01:01.000Z");
    npr.now = new Date("2026-03-19T11:01:01.000Z");
    await npr.settle();
    expect(synced()).toBe("2026-03-19T11:01:01.000Z");
    // One that would be refused otherwise.
    npr.now = new Date("2026-03-20T12:00:00.000Z");
    npr.restart();
    await npr.settle();
    expect(synced()).toBe("2026-03-20T12:00:00.000Z");
  });

  test("is confirmed well within the limit, however short that is", async () => {
    npr.offlineLimitMs = 5_000;
    npr.restart();
    await holds(npr, {});
    npr.asked = [];
    await npr.settle();
    expect(npr.asked.at(-1)?.body).toMatchObject({ waitMs: 1_000 });
    const synced = () => npr.directory.state?.syncedAt?.getTime() ?? 0;
    for (let passed = 0; passed < 20; passed += 1) {
      npr.now = new Date(npr.now.getTime() + 1_000);
      await npr.settle();
      // What is asked now is confirmed a wait later, and the next time another one after that.
      expect(npr.now.getTime() - synced()).toBeLessThan(5_000 - 2 * 1_000);
    }
  });

  test("is served until the limit, and again when the primary answers", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    npr.now = new Date("2026-03-20T10:00:00.000Z");
    expect(await npr.held()).toEqual({ "shop/one dev": "1" });
    npr.now = new Date("2026-03-20T10:00:00.001Z");
    await expect(npr.held()).rejects.toMatchObject({
      code: "OfflineLimitReached",
      message: expect.stringContaining("away since 2026-03-19T10:00:00.000Z"),
    });
    await npr.settle();
    expect(await npr.held()).toEqual({ "shop/one dev": "1" });
  });

  test("is not emptied by a primary that does not know yet what there is", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    primary.unready = "caches";
    await primary.restart();
    for (let turn = 0; turn < 5; turn += 1) await npr.turn();
    expect(npr.asked.at(-1)?.answer).toEqual({ status: 503, body: { code: "ReplicaNotReady" } });
    expect(await npr.held()).toEqual({ "shop/one dev": "1" });
  });

  test("has no value of a version that the primary cannot open, until it can; all others come", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    primary.closed.add("one");
    await primary.put("shop", "one", "shop", "dev", "1b");
    await primary.put("shop", "two", "shop", "dev", "2");
    await holds(npr, { "shop/one dev": "(none)", "shop/two dev": "2" });
    const held = (await npr.replica.list()).find(({ secret }) => secret.name === "one");
    if (held === undefined) throw new Error("it is known");
    const opening = npr.replica.open(held, { actor, purpose: "test" });
    await expect(opening).rejects.toMatchObject({ code: "SecretNotReplicated" });
    primary.closed.clear();
    npr.restart();
    await holds(npr, { "shop/one dev": "1b", "shop/two dev": "2" });
  });

  test("is confirmed also by changes, when they are all that there are", async () => {
    await holds(npr, {});
    await primary.put("shop", "one", "shop", "dev", "1");
    await until(
      "the change came",
      async () => {
        npr.now = new Date(npr.now.getTime() + 1_000);
        npr.asked = [];
        await npr.turn();
        return npr.asked.some(({ answer }) => (answer.body as { kind?: string }).kind === "Changes");
      },
      SOON,
    );
    expect(npr.pull.syncedAt).toEqual(npr.now);
  });

  test("does not ask all the time for values that the primary does not give", async () => {
    primary.closed.add("one");
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "(none)" });
    primary.values = {
      handOut: async (_member: unknown, _from: unknown, { items }: { items: readonly object[] }) =>
        items.map(() => ({ kind: "Gone" })),
    } as never;
    npr.now = new Date(npr.now.getTime() + 60_000);
    npr.asked = [];
    for (let turns = 0; turns < 5; turns += 1) await npr.turn();
    expect(npr.asked.filter(({ path }) => path === REPLICA_VALUES)).toHaveLength(1);
  });

  test("is served while it is read anew", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await primary.put("shop", "two", "shop", "dev", "2");
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
    const [reads, goesOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isSlow = false;
    const slow: Pick<FakeReplicaStore, "read"> = {
      async read(since) {
        if (isSlow && since === 0n) reads.resolve();
        if (isSlow && since === 0n) await goesOn.promise;
        return stored(npr).read(since);
      },
    };
    const directory = new ReplicaDirectory(slow, npr.keys);
    await directory.look();
    primary.remove("shop", "one");
    await holds(npr, { "shop/two dev": "2" });
    isSlow = true;
    const looking = directory.look();
    await reads.promise;
    expect([directory.secrets, directory.state === undefined]).toEqual([2, false]);
    goesOn.resolve();
    await looking;
    expect(directory.secrets).toBe(1);
  });

  test("of a gateway that is revoked, or registered anew as another one, is wiped", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const { status } = npr;
    npr.status = { ...status, state: "Revoked" };
    expect(await npr.replica.find({ namespace: "shop", name: "one" })).toBeUndefined();
    await npr.turn();
    await npr.turn();
    expect(stored(npr).items.size).toBe(0);
    expect(npr.database.audit.filter(({ entry }) => entry.action === "ReplicaWiped")).toHaveLength(1);
    npr.status = status;
    await holds(npr, { "shop/one dev": "1" });
    const identity = status.identity && { ...status.identity, gatewayId: "00000000-0000-4000-8000-000000000001" };
    npr.status = { state: "Confirmed", identity };
    expect(await npr.replica.list()).toEqual([]);
    await holds(npr, { "shop/one dev": "1" });
    expect(npr.database.audit.filter(({ entry }) => entry.action === "ReplicaWiped")).toHaveLength(2);
  });

  test("each read is on record on both sides, by whom", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const reads = (of: { database: PrimaryOfReplicas["database"] }) =>
      of.database.audit.filter(({ entry }) => entry.action === "SecretRead").map(({ entry }) => entry);
    expect(reads(primary)).toEqual([
      expect.objectContaining({
        actor: expect.objectContaining({ subject: "Gateway gw-npr", session: "01" }),
        details: expect.objectContaining({ purpose: "Replica", keys: "password" }),
      }),
    ]);
    expect(reads(npr).at(-1)).toMatchObject({ actor, details: { replica: true, keys: "password" } });
  });
});

describe("no secret of one environment reaches a gateway of another", () => {
  test("not by asking for its values with the right digest", async () => {
    await primary.put("shop", "two", "shop", "live", "2");
    await holds(pro, { "shop/two live": "2" });
    const item = primary.feed.item("PRO", "secret/shop/two");
    const digest = item?.digest.toString("hex") ?? "";
    const ask = (environment: string) =>
      primary.values.handOut(memberOf(environment), "192.0.2.7", { items: [{ key: "secret/shop/two", digest }] });
    expect(await ask("NPR")).toEqual([{ kind: "Gone" }]);
    expect(await ask("PR")).toEqual([{ kind: "Gone" }]);
    expect(await ask("PRO")).toEqual([{ kind: "Values", values: { password: "Mg==" } }]);
  });

  test("not by saying another environment than the certificate does", () => {
    const asked = { digest: "0".repeat(64), waitMs: 0 };
    expect(replicaRequest.parse({ ...asked, environment: "PRO" })).toEqual(asked);
    const item = { key: "secret/shop/two", digest: asked.digest };
    const told = { items: [{ ...item, environment: "PRO" }], environment: "PRO" };
    expect(replicaValuesRequest.parse(told)).toEqual({ items: [item] });
  });

  test("not by a page of an index, or changes behind a sequence, of the other one", async () => {
    await primary.put("shop", "two", "shop", "live", "2");
    await holds(pro, { "shop/two live": "2" });
    const { instance, sequence } = await primary.feed.changes("PRO", { digest: "0".repeat(64), waitMs: 0 }, signal);
    const questions = [
      { after: "secret/shop/" },
      { instance, sequence },
      { instance, sequence: 0 },
      { instance, sequence: sequence - 1 },
    ];
    for (const question of questions) {
      const told = await primary.feed.changes("NPR", { ...question, digest: "0".repeat(64), waitMs: 0 }, signal);
      expect(JSON.stringify(told)).not.toMatch(/two|live/);
    }
  });

  test("not from an index that is behind: where values are handed out it is judged anew", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const digest = primary.feed.item("NPR", "secret/shop/one")?.digest.toString("hex") ?? "";
    const request = { items: [{ key: "secret/shop/one", digest }] };
    const ask = () => primary.values.handOut(npr.member, "192.0.2.7", request);
    expect(await ask()).toEqual([expect.objectContaining({ kind: "Values" })]);
    const reads = () => primary.database.audit.filter(({ entry }) => entry.action === "SecretRead").length;
    const before = reads();
    // The index hears of it in a moment, and has not yet.
    primary.setProject("shop", { dev: "PRO", live: "PRO" });
    expect(await ask()).toEqual([{ kind: "Gone" }]);
    primary.setProject("shop", { dev: undefined });
    expect(await ask()).toEqual([{ kind: "Gone" }]);
    primary.setProject("shop", { live: "NPR" });
    expect(await ask()).toEqual([{ kind: "Gone" }]);
    primary.setProject("shop", { dev: "NPR" }, { namespaces: [] });
    expect(await ask()).toEqual([{ kind: "Gone" }]);
    primary.setProject("shop", { dev: "NPR" });
    primary.setNamespace("shop", { uid: "another one" });
    expect((await ask()).map(({ kind }) => kind)).toEqual(["Gone"]);
    expect(reads()).toBe(before);
  });

  test("not when its project, its environment or its namespace goes to another one", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    primary.setProject("shop", { dev: "PRO", live: "PRO" });
    await holds(npr, {});
    await holds(pro, { "shop/one dev": "1" });
    primary.setProject("shop", { dev: undefined });
    await holds(pro, {});
    await holds(npr, {});
    expect(npr.directory.items().size + pro.directory.items().size).toBe(0);
  });

  test("not when another object takes its place", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    primary.remove("shop", "one");
    await primary.put("shop", "one", "shop", "live", "secret of live");
    await holds(npr, {});
    await holds(pro, { "shop/one live": "secret of live" });
  });

  test("nor is anything said of it: names, grants, other environments", async () => {
    primary.setProject(
      "shop",
      { dev: "NPR", live: "PRO" },
      {
        access: [
          { subjects: [{ localUser: { id: "of-live" } }], environments: ["live"], role: "admin" },
          { subjects: [{ localUser: { id: "of-both" } }], environments: ["dev", "live"], role: "reader" },
        ],
      },
    );
    primary.setPolicy("shop", "live-only", {
      subjects: [{ localUser: { id: "of-live" } }],
      rules: [{ projects: ["shop"], environments: ["live"], role: "reader" }],
    });
    await primary.put("shop", "two", "shop", "live", "2");
    await holds(pro, { "shop/two live": "2" });
    await holds(npr, {});
    const said = JSON.stringify([...npr.directory.items().values()].map(({ item }) => item.body));
    expect(said).toContain("of-both");
    expect(said).not.toMatch(/live|two/);
  });

  test("and a gateway whose settings name another environment serves nothing of what it holds", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const { store, database, keys, writer } = npr;
    const moved = await GatewayWithReplica.start(primary, memberOf("PRO"), { store, database, keys, writer });
    expect(await moved.replica.find({ namespace: "shop", name: "one" })).toBeUndefined();
    await holds(moved, {});
    expect(stored(npr).items.has("secret/shop/one")).toBe(false);
  });
});

describe("who may read is decided", () => {
  const target = { kind: "Secret", project: "shop", environment: "dev", namespace: "shop", name: "one" } as const;
  const decide = async (who: Authenticated) => {
    await npr.replica.list();
    return npr.replica.decide(who, "read", target);
  };

  test("by the policies and projects of the primary, under the names that they have there", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    expect((await decide(app)).allowed).toBe(false);
    primary.setPolicy("shop", "apps", {
      subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
      rules: [
        { projects: ["shop"], environments: ["live"], role: "admin" },
        { projects: ["shop"], environments: ["dev", "live"], role: "reader", secrets: ["on*"] },
      ],
    });
    await until(
      "the grant came",
      async () => {
        await npr.settle();
        return (await decide(app)).allowed;
      },
      SOON,
    );
    expect((await decide(app)).grant).toBe("AccessPolicy shop/apps rules[1]");
    expect(npr.replica.decide(app, "read", { ...target, name: "two" }).allowed).toBe(false);
    expect(npr.replica.decide(app, "write", target).allowed).toBe(false);
    expect(npr.replica.decide(app, "read", { ...target, environment: "live" }).allowed).toBe(false);
    primary.policies.clear();
    primary.feed.grantsChanged();
    await until(
      "it was taken away",
      async () => {
        await npr.settle();
        return !(await decide(app)).allowed;
      },
      SOON,
    );
  });

  test("not by a role in the gateway's own installation", async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/one dev": "1" });
    const admin: Authenticated = {
      subject: { kind: "LocalUser", id: "u", email: "admin@example.com", role: "admin" },
      via: "Token",
      id: "t",
    };
    expect((await decide(admin)).allowed).toBe(false);
    expect(npr.replica.grantsNothing(admin)).toBe(true);
  });
});

describe("tampering with what is stored", () => {
  beforeEach(async () => {
    await primary.put("shop", "one", "shop", "dev", "1");
    await primary.put("shop", "two", "shop", "dev", "2");
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
  });

  const noticed = async (tamper: (store: FakeReplicaStore) => void) => {
    tamper(stored(npr));
    npr.restart();
    await expect(npr.held()).rejects.toMatchObject({ code: "TamperDetected" });
    await expect(npr.held()).rejects.toThrow(Unavailable);
    // It is no replica any more; another one is pulled.
    await holds(npr, { "shop/one dev": "1", "shop/two dev": "2" });
    expect(npr.warnings).toEqual(["the replica was tampered with; it is wiped, and pulled anew"]);
  };
  const item = (store: FakeReplicaStore, name: string) => {
    const found = store.items.get(`secret/shop/${name}`);
    if (found === undefined) throw new Error("it is there");
    return found;
  };
  const state = (store: FakeReplicaStore) => {
    if (store.state === undefined) throw new Error("it is there");
    return store.state;
  };

  test("an item that is taken out is noticed", () => noticed((store) => store.items.delete("secret/shop/one")));
  test("an item that is changed is noticed", () =>
    noticed((store) => store.items.set("project/shop", { key: "project/shop", body: "{}", revision: 1n })));
  test("an item that is added is noticed", () =>
    noticed((store) => store.items.set("policy/shop/x", { key: "policy/shop/x", body: "{}", revision: 1n })));
  test("a later time is noticed", () =>
    noticed((store) => {
      store.state = { ...state(store), syncedAt: new Date("2026-03-20T10:00:00Z") };
    }));
  test("another environment is noticed", () =>
    noticed((store) => {
      store.state = { ...state(store), environment: "PRO" };
    }));

  test("values of another item, and of an older version, do not open", async () => {
    const store = stored(npr);
    const open = async () => {
      const held = await npr.replica.find({ namespace: "shop", name: "one" });
      if (held === undefined) throw new Error("it is held");
      return npr.replica.open(held, { actor, purpose: "test" });
    };
    const before = item(store, "one");
    const { values } = item(store, "two");
    store.items.set(before.key, { ...before, ...(values && { values }) });
    await expect(open()).rejects.toMatchObject({ code: "TamperDetected" });
    store.items.set(before.key, before);
    await primary.put("shop", "one", "shop", "dev", "1b");
    await holds(npr, { "shop/one dev": "1b", "shop/two dev": "2" });
    const now = item(store, "one");
    store.items.set(now.key, { ...now, ...(before.values && { values: before.values }) });
    await expect(open()).rejects.toMatchObject({ code: "TamperDetected" });
    store.items.set(now.key, { ...now, body: before.body, ...(before.values && { values: before.values }) });
    await expect(open()).rejects.toMatchObject({ code: "TamperDetected" });
    expect(digested(now.key, now.body).digest).not.toEqual(digested(now.key, before.body).digest);
  });
});

test("a question that waits is answered when something changes, and when nobody waits any more", async () => {
  await primary.put("shop", "one", "shop", "dev", "1");
  await holds(npr, { "shop/one dev": "1" });
  const { digest } = npr.directory.state ?? {};
  const request = { digest: digest?.toString("hex") ?? "", waitMs: 10_000 };
  const told = primary.feed.changes("NPR", request, signal);
  await primary.put("shop", "one", "shop", "dev", "2");
  expect(await told).toMatchObject({ kind: "Changes", changed: [{ key: "secret/shop/one" }], removed: [] });
  const gone = new AbortController();
  const waiting = primary.feed.changes("PRO", { digest: "0".repeat(64), waitMs: 10_000 }, gone.signal);
  gone.abort();
  expect((await waiting).kind).toMatch(/Same|Index/);
});
