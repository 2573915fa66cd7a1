import { createSecretKey, randomUUID } from "node:crypto";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeHomeStore } from "../core/ports/fake-home-store.ts";
import type { Binding, HomeRecord } from "../core/ports/home-store.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { bindingEntry, bindingMac, homeEntry, homeMac } from "../core/recovery/home.ts";
import { until } from "../lab/poll.ts";
import { Home } from "./home.ts";

const actor = { kind: "Controller", name: "test" } as const;
const keys = { installationId: randomUUID(), home: createSecretKey(Buffer.alloc(32, 3)) };
const HERE = "here";

let database: FakeDatabase;
let store: FakeHomeStore;
let writer: Writer;
/** UID by name, as the API server has them; undefined: it does not answer. */
let namespaces: Map<string, string> | undefined;
let home: Home;
let logged: string[];
let changes: string[];

beforeEach(async () => {
  database = new FakeDatabase();
  store = new FakeHomeStore(database);
  writer = { epoch: await database.acquireEpoch("test") };
  namespaces = new Map([["kube-system", HERE]]);
  logged = [];
  changes = [];
  const log = (fields: object) => logged.push(JSON.stringify(fields));
  home = new Home({
    store,
    keys,
    api: { list } as never,
    log: { info: log, warn: log, error: log } as never,
    onChanged: (reason) => changes.push(reason),
    lookEveryMs: 5,
  });
});
afterEach(() => home.stop());

async function* list(_type: unknown, { fieldSelector }: { readonly fieldSelector?: string }) {
  if (namespaces === undefined) throw new Error("no answer");
  const items = [...namespaces].map(([name, uid]) => ({ metadata: { name, uid } }));
  yield { items: items.filter(({ metadata: { name } }) => fieldSelector?.endsWith(`=${name}`) ?? true) };
}

const write = async (record: HomeRecord): Promise<void> => {
  const generation = ((await store.home())?.generation ?? 0n) + 1n;
  const entry = homeEntry("ClusterChosen", generation, actor, {});
  await store.writeHome(writer, generation - 1n, record, homeMac(keys, record, generation), [entry]);
};
const bind = (binding: Binding, generation = 1n): Promise<void> =>
  store.writeBindings(
    writer,
    [{ binding, generation, mac: bindingMac(keys, binding, generation) }],
    [bindingEntry(binding, generation, actor)],
  );
const knows = (heldUid: string): void => {
  store.held = [{ kind: "Namespace", namespace: "", namespaceUid: "", name: "shop", heldUid, inUse: true }];
};
const shop = { kind: "Namespace", namespace: "", name: "shop", heldUid: "shop-1" } as const;

/** Waits as long as it says so. */
async function waits(says: RegExp): Promise<{ readonly ended: Promise<unknown> }> {
  const ended = home.belongs().catch((error: unknown) => error);
  await until("it says why it waits", async () => says.test(home.problem ?? ""), { timeoutMs: 5_000, intervalMs: 1 });
  return { ended };
}

test("a new database belongs wherever it is led first", async () => {
  await home.belongs();
  expect(home.problem).toBeUndefined();
  await home.choose(writer, "operator");
  expect(await store.home()).toMatchObject({ record: { clusterUid: HERE, state: "Settled" }, generation: 1n });
  await home.choose(writer, "operator");
  expect(await store.home()).toMatchObject({ generation: 1n });
  expect(changes).toEqual([]);
});

test("that of another cluster is waited for, until it is taken over, and told what to do", async () => {
  await write({ clusterUid: "there", state: "Settled" });
  const { ended } = await waits(
    /belongs to cluster there, and this is here; nothing is written.*mazevault-backup adopt/,
  );
  expect(logged.join()).toContain("mazevault-backup adopt");
  const told = logged.length;
  await expect(home.choose(writer, "operator")).rejects.toThrow(/mazevault-backup adopt/);
  await bind({ ...shop, uid: "shop-2" });
  await write({ clusterUid: HERE, state: "Adopted" });
  await ended;
  // Once, and that it is a recovery.
  expect(logged.length).toBe(told + 1);
  expect(home).toMatchObject({ problem: undefined, recovering: true });
  expect(home.held.of("Namespace", { uid: "shop-2" })).toBe("shop-1");
});

test("so is a copy that was restored into its own cluster", async () => {
  await write({ clusterUid: HERE, state: "Restored" });
  const { ended } = await waits(/was restored from a backup/);
  await write({ clusterUid: HERE, state: "Settled" });
  await ended;
  expect(home.recovering).toBe(false);
});

test.each([
  ["one of its namespaces is here", () => namespaces?.set("shop", "shop-1"), true],
  ["only a namesake is", () => namespaces?.set("shop", "shop-2"), false],
  ["none is", () => undefined, false],
])("a database that does not know its cluster is this one's when %s: %s", async (_what, arrange, belongs) => {
  knows("shop-1");
  arrange();
  if (belongs) await home.belongs();
  else {
    const { ended } = await waits(/namespaces of another cluster, and none of this one/);
    home.stop();
    await ended;
  }
  expect(home.problem === undefined).toBe(belongs);
});

test("silence of the API server is waited out", async () => {
  const answers = namespaces;
  namespaces = undefined;
  const { ended } = await waits(/not known yet/);
  namespaces = answers;
  await ended;
  expect(home.problem).toBeUndefined();
});

test("a row that somebody has written ends the start", async () => {
  await store.writeHome(writer, 0n, { clusterUid: HERE, state: "Settled" }, Buffer.alloc(32), []);
  await expect(home.belongs()).rejects.toMatchObject({ code: "TamperDetected" });
});

describe("while it runs", () => {
  beforeEach(async () => {
    await write({ clusterUid: HERE, state: "Adopted" });
    await bind({ ...shop, uid: undefined });
    await home.belongs();
  });
  const soon = { timeoutMs: 5_000, intervalMs: 1 };

  test("what is bound counts, and is told", async () => {
    const object = { name: "shop", uid: "shop-2" };
    expect(home.held.isAwaited("Namespace", object)).toBe(true);
    await bind({ ...shop, uid: "shop-2" }, 2n);
    await until("it is told", async () => changes.length > 0, soon);
    expect(home.held.isAwaited("Namespace", object)).toBe(false);
    expect(home.held.of("Namespace", object)).toBe("shop-1");
    expect(home.problem).toBeUndefined();
  });

  test("the end of the recovery is noticed", async () => {
    await write({ clusterUid: HERE, state: "Settled" });
    await until("it is noticed", async () => !home.recovering, soon);
    expect(changes).toHaveLength(1);
  });

  test("a database that becomes another cluster's is not used any more", async () => {
    await write({ clusterUid: "there", state: "Settled" });
    await until("it is told", async () => changes.length > 0, soon);
    expect(home.problem).toMatch(/belongs to cluster there/);
  });

  test("an outage changes nothing", async () => {
    store.mark = () => Promise.reject(new Error("away"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(changes).toEqual([]);
    expect(home).toMatchObject({ problem: undefined, recovering: true });
  });
});
