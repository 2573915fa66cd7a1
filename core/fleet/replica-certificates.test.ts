import { createPrivateKey, X509Certificate } from "node:crypto";
import { until } from "../../lab/poll.ts";
import type { Authenticated } from "../access/subject.ts";
import { parsePem } from "../pki/pem.ts";
import type { FakeReplicaStore } from "../ports/fake-replica-store.ts";
import { actor } from "../ports/samples.ts";
import { GatewayWithReplica, memberOf, PrimaryOfReplicas } from "./testing/replica-world.ts";

const SOON = { timeoutMs: 5_000, intervalMs: 5 };
const signal = new AbortController().signal;
const PLACE = { namespace: "shop", name: "web" };
const KEY = "certificate/shop/web";

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

/** Private keys by place; what is told comes a moment after it happened. */
const holds = (gateway: GatewayWithReplica, wanted: Readonly<Record<string, string>>) =>
  until(
    `it holds the keys of ${Object.keys(wanted).join() || "none"}`,
    async () => {
      await gateway.settle();
      const held = await gateway.keysHeld();
      if (JSON.stringify(Object.entries(held).sort()) === JSON.stringify(Object.entries(wanted).sort())) return true;
      throw new Error(`it holds those of ${Object.keys(held).join() || "none"}`);
    },
    SOON,
  );

const theHeld = async (gateway: GatewayWithReplica) => {
  const held = await gateway.replica.findCertificate(PLACE);
  if (held === undefined) throw new Error("it is held");
  return held;
};

const digestOf = (environment: string) => primary.feed.item(environment, KEY)?.digest.toString("hex") ?? "0".repeat(64);

const ask = (environment: string, digest: string) =>
  primary.values.handOut(memberOf(environment), "192.0.2.7", { items: [{ key: KEY, digest }] });

describe("a certificate at a gateway", () => {
  test("has its chain and its private key; the next one takes its place, and a deletion takes it away", async () => {
    const first = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": first });
    const { chain, privateKey } = await npr.replica.openCertificate(await theHeld(npr), { actor, purpose: "test" });
    const [leaf, root] = parsePem(chain, "chain").map(({ der }) => new X509Certificate(der));
    expect(leaf?.checkPrivateKey(createPrivateKey(privateKey?.revealText() ?? ""))).toBe(true);
    expect(root !== undefined && leaf?.checkIssued(root)).toBe(true);
    expect((await npr.replica.chain(await theHeld(npr))).chain).toBe(chain);
    const second = await primary.issue("shop", "web", "NPR", 2);
    expect(second).not.toBe(first);
    await holds(npr, { "shop/web": second });
    primary.removeCertificate("shop", "web");
    await holds(npr, {});
    expect((npr.store as FakeReplicaStore).items.has(KEY)).toBe(false);
  });

  test("comes beside secrets, in one batch", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await primary.put("shop", "web", "shop", "dev", "1");
    await primary.put("shop", "zeta", "shop", "dev", "2");
    await holds(npr, { "shop/web": key });
    await until(
      "the secrets came",
      async () => {
        await npr.settle();
        return JSON.stringify(await npr.held()) === '{"shop/web dev":"1","shop/zeta dev":"2"}';
      },
      SOON,
    );
    expect(npr.replica.figures.secrets).toBe(2);
  });

  test("goes as soon as its revocation is asked for, however the serial number is written", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": key });
    const serial = primary.certificate("shop", "web")?.status?.serialNumber ?? "";
    const gateways = { environment: "NPR" };
    for (const serialNumber of [serial, serial.toUpperCase(), serial.replaceAll(":", "")]) {
      primary.setCertificate("shop", "web", { gateways, revocations: [{ serialNumber, reason: "keyCompromise" }] });
      await holds(npr, {});
      primary.setCertificate("shop", "web", { gateways });
      await holds(npr, { "shop/web": key });
    }
    primary.setCertificate("shop", "web", { gateways, revocations: [{ serialNumber: "3f:0a", reason: "superseded" }] });
    await holds(npr, { "shop/web": key });
  });

  test("that is revoked in the store is not handed out, and holds nothing else up", async () => {
    await primary.issue("shop", "web", "NPR");
    const { pki } = primary;
    const [record] = await pki.store.certificatesOf("uid of certificate web", 1);
    if (record === undefined) throw new Error("it is issued");
    await pki.authorities.revoke(pki.writer, record, { reason: "keyCompromise" }, actor);
    const other = await primary.issue("shop", "other", "NPR");
    await holds(npr, { "shop/web": "(none)", "shop/other": other });
    await expect(npr.replica.chain(await theHeld(npr))).rejects.toMatchObject({ code: "SecretNotReplicated" });
  });

  test("that its status tells of and the store lacks holds nothing else up either", async () => {
    const gateways = { environment: "NPR" };
    primary.setCertificate("shop", "web", { gateways }, { revision: 1, serialNumber: "3f:0a:77" });
    await primary.put("shop", "one", "shop", "dev", "1");
    await holds(npr, { "shop/web": "(none)" });
    expect(await npr.held()).toEqual({ "shop/one dev": "1" });
    expect(npr.directory.state?.syncedAt).toBeDefined();
  });

  test("does not come before it is issued, nor while one of another CA is in use", async () => {
    const gateways = { environment: "NPR" };
    primary.setCertificate("shop", "web", { gateways }, {});
    primary.setCertificate("shop", "foreign", { gateways }, { serialNumber: "3f:0a:77" });
    await primary.put("shop", "one", "shop", "dev", "1");
    await until(
      "others came",
      async () => {
        await npr.settle();
        return (await npr.held())["shop/one dev"] === "1";
      },
      SOON,
    );
    expect(await npr.replica.listCertificates()).toEqual([]);
  });

  test("is on record on both sides, by whom, whenever its key leaves, and not when its chain does", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    const reads = (database: GatewayWithReplica["database"]) =>
      database.audit.filter(({ entry }) => entry.action === "CertificateKeyRead").map(({ entry }) => entry);
    const before = reads(primary.pki.database).length;
    await holds(npr, { "shop/web": key });
    expect(reads(primary.pki.database).slice(before)).toEqual([
      expect.objectContaining({
        actor: expect.objectContaining({ subject: "Gateway gw-npr", session: "01", address: "192.0.2.7" }),
        details: expect.objectContaining({ purpose: "Replica" }),
      }),
    ]);
    const opened = reads(npr.database);
    expect(opened.at(-1)).toMatchObject({ actor, details: { replica: true }, subject: { name: "shop/web" } });
    await npr.replica.chain(await theHeld(npr));
    expect(reads(npr.database)).toHaveLength(opened.length);
  });

  test("is served until the limit, and is wiped where the gateway is revoked", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": key });
    npr.now = new Date("2026-03-20T10:00:00.001Z");
    await expect(npr.replica.chain(await theHeld(npr))).rejects.toMatchObject({ code: "OfflineLimitReached" });
    await expect(npr.keysHeld()).rejects.toMatchObject({ code: "OfflineLimitReached" });
    await holds(npr, { "shop/web": key });
    npr.status = { ...npr.status, state: "Revoked" };
    expect(await npr.replica.findCertificate(PLACE)).toBeUndefined();
    await npr.turn();
    expect((npr.store as FakeReplicaStore).items.size).toBe(0);
  });

  test("opens with no other's values, nor with its own of before", async () => {
    const first = await primary.issue("shop", "web", "NPR");
    const other = await primary.issue("shop", "other", "NPR");
    await holds(npr, { "shop/web": first, "shop/other": other });
    const { items } = npr.store as FakeReplicaStore;
    const item = (key: string) => {
      const found = items.get(key);
      if (found === undefined) throw new Error("it is there");
      return found;
    };
    const before = item(KEY);
    items.set(KEY, { ...before, ...item("certificate/shop/other"), key: KEY, body: before.body });
    await expect(npr.keysHeld()).rejects.toMatchObject({ code: "TamperDetected" });
    items.set(KEY, before);
    const second = await primary.issue("shop", "web", "NPR", 2);
    await holds(npr, { "shop/web": second, "shop/other": other });
    items.set(KEY, { ...item(KEY), ...(before.values && { values: before.values }) });
    await expect(npr.keysHeld()).rejects.toMatchObject({ code: "TamperDetected" });
  });
});

describe("no certificate of one environment reaches a gateway of another", () => {
  test("not one that says nothing, though its namespace is admitted for both", async () => {
    await primary.issue("shop", "silent", undefined);
    const loud = await primary.issue("shop", "web", "PRO");
    await holds(pro, { "shop/web": loud });
    await holds(npr, {});
  });

  test("not one that names an environment for which no Project admits its namespace", async () => {
    primary.setProject("shop", { dev: "NPR", live: "PRO" }, { namespaces: [{ name: "shop", environments: ["dev"] }] });
    await primary.issue("shop", "web", "PRO");
    const fits = await primary.issue("shop", "fits", "NPR");
    await holds(npr, { "shop/fits": fits });
    await holds(pro, {});
    expect(await ask("PRO", digestOf("PRO"))).toEqual([{ kind: "Gone" }]);
  });

  test("not the key of a CA, nor one that is being deleted", async () => {
    await primary.issue("shop", "web", "NPR");
    primary.setCertificate("shop", "web", { gateways: { environment: "NPR" }, isCA: true });
    const going = await primary.issue("shop", "going", "NPR");
    await holds(npr, { "shop/going": going });
    const object = primary.certificate("shop", "going");
    if (object === undefined) throw new Error("it is there");
    const metadata = { ...object.metadata, deletionTimestamp: "2026-03-19T10:00:00Z" };
    primary.certificatesByKey.set("shop/going", { ...object, metadata });
    primary.feed.certificateChanged(object);
    await holds(npr, {});
  });

  test("not by asking for its values with the right digest, nor by a page or a sequence of the other one", async () => {
    const key = await primary.issue("shop", "web", "PRO");
    await holds(pro, { "shop/web": key });
    const digest = digestOf("PRO");
    expect(await ask("NPR", digest)).toEqual([{ kind: "Gone" }]);
    expect(await ask("PR", digest)).toEqual([{ kind: "Gone" }]);
    expect(await ask("PRO", "0".repeat(64))).toEqual([{ kind: "Moved" }]);
    expect(await ask("PRO", digest)).toEqual([expect.objectContaining({ kind: "Values" })]);
    const nothing = { digest: "0".repeat(64), waitMs: 0 };
    const { instance, sequence } = await primary.feed.changes("PRO", nothing, signal);
    for (const question of [{ after: "certificate/" }, { instance, sequence }, { instance, sequence: 0 }]) {
      const told = await primary.feed.changes("NPR", { ...question, ...nothing }, signal);
      expect(JSON.stringify(told)).not.toMatch(/web/);
    }
  });

  test("not from an index that is behind: where keys are handed out it is judged anew", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": key });
    const digest = digestOf("NPR");
    const gone = async () => expect(await ask("NPR", digest)).toEqual([{ kind: "Gone" }]);
    const reads = () => primary.pki.actions.filter((action) => action === "CertificateKeyRead").length;
    const before = reads();
    // The index hears of it in a moment, and has not yet.
    primary.setProject("shop", { dev: "PRO", live: "PRO" });
    await gone();
    primary.setProject("shop", { dev: undefined });
    await gone();
    primary.setProject("shop", { dev: "NPR" }, { namespaces: [] });
    await gone();
    primary.setProject("shop", { dev: "NPR" });
    for (const change of [{}, { gateways: { environment: "PRO" } }, { gateways: { environment: "NPR" }, isCA: true }]) {
      primary.setCertificate("shop", "web", change);
      await gone();
    }
    primary.setCertificate("shop", "web", { gateways: { environment: "NPR" } });
    primary.setNamespace("shop", { uid: "another one" });
    expect(await ask("NPR", digest)).toEqual([{ kind: "Moved" }]);
    expect(reads()).toBe(before);
  });

  test("not the one of a namespace that is gone, by a status that was put on the object of the next", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": key });
    primary.setNamespace("shop", { uid: "another one" });
    await holds(npr, { "shop/web": "(none)" });
  });

  test("not another object's, by a status that tells of its serial number", async () => {
    await primary.issue("shop", "live", "PRO");
    const { status } = primary.certificate("shop", "live") ?? {};
    primary.setCertificate("shop", "thief", { gateways: { environment: "NPR" } }, status);
    await holds(npr, { "shop/thief": "(none)" });
  });

  test("when it, its namespace or the Project's environment goes to another one, it is wiped there", async () => {
    const key = await primary.issue("shop", "web", "NPR");
    await holds(npr, { "shop/web": key });
    primary.setCertificate("shop", "web", { gateways: { environment: "PRO" } });
    await holds(npr, {});
    await holds(pro, { "shop/web": key });
    primary.setProject("shop", { dev: "PRO", live: "NPR" }, { namespaces: [{ name: "shop", environments: ["live"] }] });
    await holds(pro, {});
    await holds(npr, {});
    primary.setProject(
      "shop",
      { dev: "PRO", live: undefined },
      { namespaces: [{ name: "shop", environments: ["dev"] }] },
    );
    await holds(pro, { "shop/web": key });
    await holds(npr, {});
  });
});

test("who may read it is decided by the grants of the environment that it names", async () => {
  const key = await primary.issue("shop", "web", "NPR");
  await holds(npr, { "shop/web": key });
  const app: Authenticated = {
    subject: { kind: "ServiceAccount", namespace: "shop", name: "app", uid: "u" },
    via: "ServiceAccountToken",
    id: "t",
  };
  const { namespaceUid } = (await theHeld(npr)).certificate;
  const target = { kind: "Certificate", ...PLACE, namespaceUid } as const;
  const may = async (verb: "read" | "list" | "revoke") => {
    await npr.settle();
    await npr.replica.listCertificates();
    return npr.replica.decide(app, verb, target).allowed;
  };
  const grant = (environments: string[], certificates?: string[]) =>
    primary.setPolicy("shop", "apps", {
      subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
      rules: [{ projects: ["shop"], environments, role: "reader", ...(certificates && { certificates }) }],
    });
  expect(await may("read")).toBe(false);
  grant(["dev"], ["we*"]);
  await until("the grant came", () => may("read"), SOON);
  expect(await may("list")).toBe(true);
  expect(await may("revoke")).toBe(false);
  expect(npr.replica.decide(app, "read", { ...target, name: "other" }).allowed).toBe(false);
  grant(["live", "local"]);
  await until("it was taken away", async () => !(await may("read")), SOON);
});
