import { createSecretKey, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeHomeStore } from "../ports/fake-home-store.ts";
import type { HomeRecord } from "../ports/home-store.ts";
import { Adoption, type AdoptionReport, type AdoptionRequest } from "./adoption.ts";
import { HeldUids, homeEntry, homeMac, judgedBinding } from "./home.ts";
import { type BackupBody, BackupUnusable, parseManifest, signedManifest } from "./manifest.ts";
import { settleRecovery } from "./settlement.ts";
import { FakeCluster } from "./testing/cluster.ts";

const actor = { kind: "Controller", name: "test" } as const;
const installation = randomUUID();

let database: FakeDatabase;
let store: FakeHomeStore;
let cluster: FakeCluster;
const keys = {
  installationId: installation,
  home: createSecretKey(Buffer.alloc(32, 3)),
  auditSigning: async () => database.signingKeys,
};

beforeEach(() => {
  database = new FakeDatabase();
  store = new FakeHomeStore(database);
  cluster = new FakeCluster();
});

const adoption = () =>
  new Adoption({
    store,
    cluster,
    keys,
    audit: new FakeAuditLog(database),
    leadership: database,
    environments: { list: async () => [], restore: () => Promise.reject(new Error("there are none")) },
  });
const adopt = (request: Partial<AdoptionRequest> = {}): Promise<AdoptionReport> =>
  adoption().run({ actor, ...request });

type Held = FakeHomeStore["held"][number];
const namespace = (name: string, heldUid: string, inUse = true): Held => ({
  kind: "Namespace",
  namespace: "",
  namespaceUid: "",
  name,
  heldUid,
  inUse,
});
const certificate = (name: string, heldUid: string, namespaceUid: string, of = "shop"): Held => ({
  kind: "Certificate",
  namespace: of,
  namespaceUid,
  name,
  heldUid,
  inUse: true,
});

/** As the database was left in the cluster of before. */
async function belongsElsewhere(state: HomeRecord["state"] = "Settled"): Promise<void> {
  const writer = { epoch: await database.acquireEpoch("former") };
  const record: HomeRecord = { clusterUid: "former", state };
  await store.writeHome(writer, 0n, record, homeMac(keys, record, 1n), [homeEntry("ClusterChosen", 1n, actor, {})]);
}
const held = async (recovering = false): Promise<HeldUids> => {
  const uids = new HeldUids();
  uids.load(
    (await store.bindings()).map((each) => judgedBinding(keys, each)),
    recovering,
  );
  return uids;
};
const recorded = (action: string) => database.audit.filter(({ entry }) => entry.action === action);

test("a namespace of the name of one of before takes its place, on record", async () => {
  await belongsElsewhere();
  store.held = [namespace("shop", "shop-1")];
  const uid = cluster.add("Namespace", { name: "shop" });
  const other = cluster.add("Namespace", { name: "other" });
  const report = await adopt();
  expect(report).toMatchObject({
    formerClusterUid: "former",
    clusterUid: cluster.uid,
    bound: 1,
    awaited: [],
    forked: true,
  });
  expect((await held()).of("Namespace", { uid })).toBe("shop-1");
  expect((await held()).of("Namespace", { uid: other })).toBe(other);
  expect(recorded("ObjectRebound")).toMatchObject([
    { entry: { subject: { name: "Namespace shop" }, details: { heldUid: "shop-1", uid } } },
  ]);
  expect(await store.home()).toMatchObject({ record: { clusterUid: cluster.uid, state: "Adopted" }, generation: 2n });
});

test("the fork stands on record once, with where the database ended", async () => {
  await belongsElsewhere();
  await new FakeAuditLog(database).link(database.epoch, 100);
  const { position, link } = database.head;
  await adopt();
  expect(recorded("AuditRecordForked")).toMatchObject([
    {
      entry: {
        details: {
          position: Number(position),
          link: link.toString("hex"),
          clusterBefore: "former",
          cluster: cluster.uid,
        },
      },
    },
  ]);
  expect(await adopt()).toMatchObject({ forked: false, bound: 0 });
  expect(recorded("AuditRecordForked")).toHaveLength(1);
});

test("what is not here is awaited, and takes its place when it has come", async () => {
  await belongsElsewhere();
  store.held = [namespace("shop", "shop-1"), certificate("web", "web-1", "shop-1")];
  cluster.add("Namespace", { name: "shop" });
  expect((await adopt()).awaited).toEqual([{ kind: "Certificate", namespace: "shop", name: "web" }]);
  const web = { namespace: "shop", name: "web", uid: "web-2" };
  expect((await held()).isAwaited("Certificate", web)).toBe(true);
  cluster.add("Certificate", { namespace: "shop", name: "web" }, "web-2");
  expect(await adopt()).toMatchObject({ bound: 1, awaited: [], forked: false });
  expect((await held()).isAwaited("Certificate", web)).toBe(false);
  expect((await held()).of("Certificate", web)).toBe("web-1");
});

test("what was interrupted goes on where it ended, and binds nothing twice", async () => {
  await belongsElsewhere();
  const names = Array.from({ length: 450 }, (_, index) => `c${index}`);
  store.held = [namespace("shop", "shop-1"), ...names.map((name) => certificate(name, `held-${name}`, "shop-1"))];
  cluster.add("Namespace", { name: "shop" });
  for (const name of names) cluster.add("Certificate", { namespace: "shop", name });
  const write = store.writeBindings.bind(store);
  let batches = 0;
  store.writeBindings = async (...args) => {
    batches += 1;
    if (batches === 2) throw new Error("killed");
    await write(...args);
  };
  await expect(adopt()).rejects.toThrow("killed");
  expect(await store.home()).toMatchObject({ record: { clusterUid: "former" } });
  const before = (await store.bindings()).length;
  expect(before).toBeGreaterThan(0);
  store.writeBindings = write;
  expect(await adopt()).toMatchObject({ bound: 451 - before, forked: true });
  expect(recorded("ObjectRebound")).toHaveLength(451);
  expect((await store.bindings()).every(({ generation }) => generation === 1n)).toBe(true);
});

test("of two that adopt at once one is fenced", async () => {
  await belongsElsewhere();
  store.held = [namespace("shop", "shop-1")];
  cluster.add("Namespace", { name: "shop" });
  const write = store.writeBindings.bind(store);
  store.writeBindings = async (...args) => {
    store.writeBindings = write;
    await adopt();
    await write(...args);
  };
  await expect(adopt()).rejects.toThrow(Fenced);
  expect(recorded("AuditRecordForked")).toHaveLength(1);
  expect(recorded("ObjectRebound")).toHaveLength(1);
});

test("what was forgotten goes on from the generation that is on record", async () => {
  await belongsElsewhere();
  store.held = [namespace("shop", "shop-1")];
  const uid = cluster.add("Namespace", { name: "shop" });
  await adopt();
  cluster.remove("Namespace", "shop");
  expect(await adopt()).toMatchObject({ awaited: [{ name: "shop" }] });
  await settleRecovery({ store, keys, cluster, leadership: database }, [], actor);
  expect(await store.bindings()).toEqual([]);
  cluster.add("Namespace", { name: "shop" }, uid);
  expect(await adopt({ sameCluster: true })).toMatchObject({ bound: 1 });
  expect(await store.bindings()).toMatchObject([{ generation: 3n, auditedGeneration: 3n }]);
  expect((await held()).of("Namespace", { uid })).toBe("shop-1");
});

describe("an object whose place another one had taken", () => {
  const web = { namespace: "shop", name: "web" };
  const waits = async (uid: string, webUid: string) => {
    const uids = await held(true);
    return [uids.isAwaited("Namespace", { name: "shop", uid }), uids.isAwaited("Certificate", { ...web, uid: webUid })];
  };
  /** Both are deleted and applied again. */
  const makeAnew = (): [namespace: string, certificate: string] => {
    cluster.remove("Namespace", "shop");
    cluster.remove("Certificate", "web");
    return [cluster.add("Namespace", { name: "shop" }), cluster.add("Certificate", web)];
  };

  beforeEach(async () => {
    await belongsElsewhere();
    store.held = [namespace("shop", "shop-1"), certificate("web", "web-1", "shop-1")];
    makeAnew();
    await adopt();
  });

  test("takes it in the same recovery", async () => {
    const [uid, webUid] = makeAnew();
    expect(await waits(uid, webUid)).toEqual([true, true]);
    expect(await adopt()).toMatchObject({ bound: 2 });
    expect(await waits(uid, webUid)).toEqual([false, false]);
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
    expect((await held()).of("Certificate", { uid: webUid })).toBe("web-1");
  });

  test.each([
    [
      "with rows of its own",
      (uid: string, webUid: string) => [namespace("shop", uid), certificate("web", webUid, uid)],
    ],
    ["that has none yet", () => []],
    ["the first of its namespace", (uid: string) => [namespace("shop", uid), certificate("web", "web-1", "shop-1")]],
  ])("in an earlier recovery is itself in the next one: %s", async (_what, rows) => {
    await settleRecovery({ store, keys, cluster, leadership: database }, [], actor);
    const [uid, webUid] = makeAnew();
    store.held = rows(uid, webUid);
    expect(await adopt({ sameCluster: true })).toMatchObject({ bound: 0, awaited: [] });
    expect(await waits(uid, webUid)).toEqual([false, false]);
    expect((await held()).of("Namespace", { uid })).toBe(uid);
    expect((await held()).of("Certificate", { uid: webUid })).toBe(webUid);
    // Repeated it writes nothing, and made anew once more in this recovery it waits again.
    const before = await store.bindings();
    await adopt();
    expect(await store.bindings()).toEqual(before);
    expect(await waits(...makeAnew())).toEqual([true, true]);
  });
});

describe("of several objects of one place", () => {
  const web = { namespace: "shop", name: "web" };

  beforeEach(async () => {
    await belongsElsewhere();
    store.held = [namespace("shop", "shop-1")];
    cluster.add("Namespace", { name: "shop" });
  });

  test("that all came since it was taken over the one that is there counts, and none where all are gone", async () => {
    await adopt();
    store.held = [
      namespace("shop", "shop-1"),
      namespace("late", "late-1"),
      certificate("web", "web-1", "shop-1"),
      certificate("web", "web-2", "shop-1"),
    ];
    cluster.add("Certificate", web, "web-2");
    const late = cluster.add("Namespace", { name: "late" });
    expect(await adopt()).toMatchObject({ bound: 1, awaited: [] });
    expect((await held()).of("Namespace", { uid: late })).toBe("late-1");
    expect((await held(true)).of("Certificate", { uid: "web-2" })).toBe("web-2");
    cluster.remove("Certificate", "web");
    expect(await adopt()).toMatchObject({ bound: 0, awaited: [] });
    const uid = cluster.add("Certificate", web);
    expect((await held(true)).isAwaited("Certificate", { ...web, uid })).toBe(false);
  });

  test("that were there before the manifest has to say which, whether one is there or not", async () => {
    store.held = [...store.held, certificate("web", "web-1", "shop-1"), certificate("web", "web-2", "shop-1")];
    await expect(adopt()).rejects.toThrow(/adopt with the manifest/);
    cluster.add("Certificate", web);
    await expect(adopt()).rejects.toThrow(/adopt with the manifest/);
    expect(await store.bindings()).toEqual([]);
  });
});

describe("of several namespaces of one name", () => {
  test("the one that is in use is taken over, with what belongs to it alone", async () => {
    await belongsElsewhere();
    store.held = [
      namespace("shop", "shop-1", false),
      namespace("shop", "shop-2"),
      certificate("web", "web-1", "shop-1"),
      certificate("web", "web-2", "shop-2"),
    ];
    const uid = cluster.add("Namespace", { name: "shop" });
    const web = cluster.add("Certificate", { namespace: "shop", name: "web" });
    await adopt();
    expect((await held()).of("Namespace", { uid })).toBe("shop-2");
    expect((await held()).of("Certificate", { uid: web })).toBe("web-2");
  });

  test("somebody has to say which, where several are", async () => {
    await belongsElsewhere();
    store.held = [namespace("shop", "shop-1"), namespace("shop", "shop-2")];
    const uid = cluster.add("Namespace", { name: "shop" });
    await expect(adopt()).rejects.toThrow(/--namespace shop=UID/);
    expect(await store.bindings()).toEqual([]);
    expect(database.epoch).toBe(1n);
    await adopt({ namespaces: new Map([["shop", "shop-1"]]) });
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
  });

  test("what was said wrongly can be corrected, also to the one that was here all the time", async () => {
    await belongsElsewhere();
    const uid = cluster.add("Namespace", { name: "shop" });
    store.held = [namespace("shop", "shop-1"), namespace("shop", "shop-2"), namespace("shop", uid)];
    for (const heldUid of ["shop-1", "shop-2", uid, "shop-2"]) {
      await adopt({ namespaces: new Map([["shop", heldUid]]) });
      expect((await held()).of("Namespace", { uid })).toBe(heldUid);
      expect((await held()).isAwaited("Namespace", { name: "shop", uid })).toBe(false);
    }
  });

  test("somebody may say one that is not in use, and none that is not there", async () => {
    await belongsElsewhere();
    store.held = [namespace("shop", "shop-1", false), namespace("shop", "shop-2")];
    const uid = cluster.add("Namespace", { name: "shop" });
    await expect(adopt({ namespaces: new Map([["shop", "shop-3"]]) })).rejects.toThrow(
      /--namespace shop=shop-3: .* have UIDs shop-1, shop-2/,
    );
    await expect(adopt({ namespaces: new Map([["shpo", "shop-1"]]) })).rejects.toThrow(/nor of any other/);
    expect(await store.bindings()).toEqual([]);
    await adopt({ namespaces: new Map([["shop", "shop-1"]]) });
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
  });
});

test("a database of this cluster is left alone, unless somebody says that it was set back", async () => {
  const writer = { epoch: await database.acquireEpoch("operator") };
  const record: HomeRecord = { clusterUid: cluster.uid, state: "Settled" };
  await store.writeHome(writer, 0n, record, homeMac(keys, record, 1n), [homeEntry("ClusterChosen", 1n, actor, {})]);
  store.held = [namespace("shop", "shop-1")];
  cluster.add("Namespace", { name: "shop" }, "shop-1");
  await expect(adopt()).rejects.toThrow(/--same-cluster/);
  expect(database.epoch).toBe(1n);
  expect(await adopt({ sameCluster: true })).toMatchObject({ bound: 0, forked: true });
  expect(await store.bindings()).toEqual([]);
});

test("a home that somebody wrote is not believed", async () => {
  const writer = { epoch: await database.acquireEpoch("operator") };
  await store.writeHome(writer, 0n, { clusterUid: "former", state: "Settled" }, Buffer.alloc(32), []);
  await expect(adopt()).rejects.toMatchObject({ code: "TamperDetected" });
});

describe("the manifest of the backup", () => {
  const body = (change: Partial<BackupBody> = {}): BackupBody => ({
    format: 1,
    installation,
    takenAt: "2026-01-01T00:00:00.000Z",
    version: "0.1.0",
    schema: "0037_home",
    server: { version: "18.4", id: "1/1" },
    cluster: "former",
    rootKeys: ["root"],
    head: { position: database.head.position.toString(), link: database.head.link.toString("hex") },
    epoch: "1",
    rows: {},
    objects: [],
    ...change,
  });
  const signed = (change: Partial<BackupBody> = {}) => {
    const [key] = database.signingKeys;
    if (key === undefined) throw new Error("there is no key");
    return signedManifest(body(change), key);
  };

  beforeEach(async () => {
    await belongsElsewhere();
    await new FakeAuditLog(database).link(database.epoch, 100);
  });

  test("says which namespace was there last, and what rules and sinks were called by", async () => {
    store.held = [namespace("shop", "shop-1"), namespace("shop", "shop-2")];
    const uid = cluster.add("Namespace", { name: "shop" });
    const rule = cluster.add("SyncRule", { namespace: "shop", name: "push" });
    const sink = cluster.add("AuditSink", { name: "file" });
    const objects: BackupBody["objects"] = [
      { kind: "Namespace", namespace: "", name: "shop", heldUid: "shop-1" },
      { kind: "SyncRule", namespace: "shop", name: "push", heldUid: "rule-1" },
      { kind: "SyncRule", namespace: "shop", name: "gone", heldUid: "rule-2" },
    ];
    await adopt({ manifest: parseManifest(signed({ objects })) });
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
    expect(store.renamedRules).toEqual(new Map([["rule-1", rule]]));
    expect(store.renamedSinks).toEqual(new Map([["file", sink]]));
    const details = { takenAt: "2026-01-01T00:00:00.000Z", position: Number(database.head.position) };
    expect(recorded("AuditRecordForked")).toMatchObject([{ entry: { details } }]);
  });

  const had = (name: string, heldUid: string) => ({ kind: "Namespace", namespace: "", name, heldUid }) as const;

  test.each([
    ["another one of its name", [had("shop", "shop-2")]],
    ["none of its name", []],
  ])("a namespace inherits nothing that is over where there was %s", async (_what, objects) => {
    store.held = [namespace("shop", "shop-1", false)];
    const uid = cluster.add("Namespace", { name: "shop" });
    await adopt({ manifest: parseManifest(signed({ objects })) });
    expect((await held()).of("Namespace", { uid })).toBe(uid);
    // Without it nothing says so.
    await adopt();
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
  });

  test("nobody takes what is in use of another namespace than was there, unless somebody says so", async () => {
    store.held = [namespace("shop", "shop-1")];
    const uid = cluster.add("Namespace", { name: "shop" });
    const manifest = parseManifest(signed({ objects: [had("shop", "shop-2")] }));
    await expect(adopt({ manifest })).rejects.toThrow(/by UID shop-2, and what is in use is of UID shop-1: say with/);
    expect(database.epoch).toBe(1n);
    await adopt({ manifest, namespaces: new Map([["shop", "shop-1"]]) });
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
  });

  test("what a namespace has had since it is here is its own", async () => {
    const uid = cluster.add("Namespace", { name: "shop" });
    const manifest = parseManifest(signed({ objects: [had("shop", "shop-1")] }));
    await adopt({ manifest });
    store.held = [namespace("shop", uid)];
    expect(await adopt({ manifest })).toMatchObject({ bound: 0 });
    expect(await store.bindings()).toEqual([]);
  });

  test("of what came after it the one that is in use counts, and nobody is given a certificate of a request before", async () => {
    const request: Held = { ...certificate("job", "job-1", "shop-1"), kind: "CertificateRequest", inUse: false };
    store.held = [namespace("shop", "shop-1"), certificate("web", "web-1", "shop-1"), request];
    cluster.add("Namespace", { name: "shop" });
    const web = cluster.add("Certificate", { namespace: "shop", name: "web" });
    const job = cluster.add("CertificateRequest", { namespace: "shop", name: "job" });
    const objects: BackupBody["objects"] = [
      had("shop", "shop-1"),
      { kind: "Certificate", namespace: "shop", name: "web", heldUid: "web-0" },
      { kind: "CertificateRequest", namespace: "shop", name: "job", heldUid: "job-2" },
    ];
    await adopt({ manifest: parseManifest(signed({ objects })) });
    expect((await held()).of("Certificate", { uid: web })).toBe("web-1");
    expect((await held()).of("CertificateRequest", { uid: job })).toBe(job);
  });

  test("of several that it does not have the one that is there counts, and none where all are gone", async () => {
    const ofWeb = [certificate("web", "web-1", "shop-1"), certificate("web", "web-2", "shop-1")];
    store.held = [namespace("shop", "shop-1"), ...ofWeb];
    const uid = cluster.add("Namespace", { name: "shop" });
    const manifest = parseManifest(signed({ objects: [had("shop", "shop-1")] }));
    expect(await adopt({ manifest })).toMatchObject({ bound: 1, awaited: [] });
    expect((await held()).of("Namespace", { uid })).toBe("shop-1");
    cluster.add("Certificate", { namespace: "shop", name: "web" }, "web-2");
    expect(await adopt({ manifest })).toMatchObject({ bound: 0, awaited: [] });
    expect(await store.bindings()).toHaveLength(1);
  });

  test.each<readonly [string, () => string, RegExp]>([
    [
      "of another installation",
      () => signed({ installation: randomUUID() }),
      /of installation .*, and the database of/,
    ],
    [
      "of a later moment than the database",
      () => signed({ head: { position: "9", link: "00".repeat(32) } }),
      /older copy was restored/,
    ],
    [
      "of another history",
      () => signed({ head: { position: database.head.position.toString(), link: "00".repeat(32) } }),
      /is not that of the backup/,
    ],
    ["changed", () => signed().replace("0037_home", "0036_home"), /does not match its signature/],
    [
      "signed by a key that is not there",
      () => signed().replace('"keyVersion": 1', '"keyVersion": 2'),
      /version 2 of the audit signing key/,
    ],
  ])("%s is refused, and nothing is written", async (_what, manifest, says) => {
    const refused = adopt({ manifest: parseManifest(manifest()) });
    await expect(refused).rejects.toThrow(BackupUnusable);
    await expect(refused).rejects.toThrow(says);
    expect(database.epoch).toBe(1n);
  });

  test.each([
    ["cut off", () => signed().slice(0, 100), /not JSON/],
    ["of another form", () => signed().replace('"format": 1', '"format": 2'), /body\.format/],
  ])("%s is told as what it is", (_what, manifest, says) => {
    expect(() => parseManifest(manifest())).toThrow(says);
  });
});

describe("the end of a recovery", () => {
  const settle = (missing: Parameters<typeof settleRecovery>[1] = []) =>
    settleRecovery({ store, keys, cluster, leadership: database }, missing, actor);

  test("is on record, begins an epoch, and forgets what did not come", async () => {
    await belongsElsewhere();
    store.held = [namespace("shop", "shop-1"), namespace("gone", "gone-1")];
    cluster.add("Namespace", { name: "shop" });
    await adopt();
    const { epoch } = database;
    expect(await settle([{ kind: "Secret", namespace: "gone", name: "db" }])).toBe(true);
    expect(database.epoch).toBe(epoch + 1n);
    expect(await store.bindings()).toMatchObject([{ binding: { name: "shop" } }]);
    expect(recorded("RecoverySettled")).toMatchObject([{ entry: { details: { missing: 1 } } }]);
    expect(await settle()).toBe(false);
    expect(database.epoch).toBe(epoch + 1n);
  });

  test.each(["Settled", "Restored"] as const)("does not come before the database is taken over (%s)", async (state) => {
    await belongsElsewhere(state);
    if (state === "Settled") expect(await settle()).toBe(false);
    else await expect(settle()).rejects.toThrow(/adopt comes first/);
    expect(await store.home()).toMatchObject({ record: { clusterUid: "former", state } });
  });
});
