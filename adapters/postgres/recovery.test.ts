/** A database is verified as a whole, taken over, and told from what somebody has made of it, on the real stores. */
import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../../core/errors.ts";
import { handledMac } from "../../core/fleet/authenticity.ts";
import { Environments } from "../../core/fleet/environments.ts";
import type { WriteOutcome } from "../../core/fleet/writes.ts";
import { Identities } from "../../core/identity/identities.ts";
import { CHEAP, EMAIL, from, PASSWORD } from "../../core/identity/testing/installation.ts";
import { Authorities } from "../../core/pki/authority.ts";
import { leafRequest, rootSpec } from "../../core/pki/testing/installation.ts";
import type { HomeRecord } from "../../core/ports/home-store.ts";
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import type { SecretRecord, Writer } from "../../core/ports/vault-store.ts";
import { Adoption } from "../../core/recovery/adoption.ts";
import { HeldUids, homeEntry, homeMac, judgedBinding } from "../../core/recovery/home.ts";
import { FakeCluster } from "../../core/recovery/testing/cluster.ts";
import { DatabaseVerification, type VerificationReport } from "../../core/recovery/verification.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import { until } from "../../lab/poll.ts";
import { assertEmpty, assertUsable, isUnmarkedCopy, openSnapshot, RESTORER } from "./backup.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;
let writer: Writer;
let authorities: Authorities;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  const { leadership, pki: store, keys, audit } = installation.stores;
  writer = { epoch: await leadership.acquireEpoch("test") };
  authorities = new Authorities({ store, keys, audit });
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(installation.database, (client) => client.query(text, [...values]));

const store = async (name: string, value: string, seen?: SecretRecord): Promise<SecretRecord> => {
  const entries = [
    { key: "a", literal: value },
    { key: "b", literal: "other" },
  ];
  const request = { identity: identity(name), seen, entries, sources: new Map<string, Sensitive>(), lifecycle, actor };
  return (await installation.vault.store(writer, request)).record;
};

/** As a program of its own, which has nothing in memory. */
async function verify(): Promise<VerificationReport> {
  const { stores } = await openInstallation(installation.database, installation.root);
  try {
    return await new DatabaseVerification(stores).run();
  } finally {
    await stores.close();
  }
}

/** Something of everything that is authenticated. */
async function fill(): Promise<void> {
  await store("one", "first");
  await store("one", "second", await installation.vault.describe(identity("one")));
  await store("two", "first");
  const root = await authorities.ensure(writer, rootSpec("root"));
  const certificate = await authorities.issue(writer, leafRequest(root, "uid"));
  await authorities.revoke(writer, certificate, { reason: "superseded" }, actor);
  const {
    identity: users,
    loginAttempts: attempts,
    keys,
    audit,
    environments,
    handledWrites,
    home,
  } = installation.stores;
  const identities = new Identities({ store: users, attempts, keys, audit, settings: { hashCost: CHEAP } });
  await identities.rotateKeys(writer);
  const { id: ownerId } = await identities.users.create(actor, { email: EMAIL, password: PASSWORD, role: "reader" });
  await identities.login(EMAIL, PASSWORD, from);
  await identities.apiKeys.create(actor, { ownerId, name: "backup", scopes: ["read"] });
  await identities.close();
  await new Environments({ store: environments, keys }).pair(
    writer,
    { environment: "NPR", generation: 0n, record: undefined, at: new Date() },
    { object: "npr", primary: "a", standby: "b" },
    actor,
  );
  const outcome: WriteOutcome = { kind: "Applied", version: 1, changed: ["a"] };
  const write = { environment: "NPR", id: randomUUID(), outcome };
  await handledWrites.record({ ...write, mac: handledMac(keys, write) }, []);
  const record = { clusterUid: "former", state: "Settled" } as const;
  await home.writeHome(writer, 0n, record, homeMac(keys, record, 1n), [homeEntry("ClusterChosen", 1n, actor, {})]);
}

test("a whole database is verified as such, with everything that is in it, and nothing is written", async () => {
  await fill();
  const before = await sql("SELECT count(*) FROM audit");
  const report = await verify();
  expect(report).toMatchObject({ wrong: [], wrongCount: 0, audit: { ok: true } });
  expect(report.checked).toMatchObject({
    secrets: 2,
    versions: 3,
    entries: 6,
    authorities: 1,
    certificates: 2,
    privateKeys: 1,
    users: 1,
    sessions: 1,
    apiKeys: 1,
    environments: 1,
    gatewayWrites: 1,
    bindings: 1,
  });
  expect((await sql("SELECT count(*) FROM audit")).rows).toEqual(before.rows);
});

const flip = (column: string): string => `${column} = set_byte(${column}, 20, get_byte(${column}, 20) # 1)`;

test.each<readonly [string, string, RegExp]>([
  [
    "a value",
    `UPDATE entries SET ${flip("ciphertext")} WHERE version = 1 AND key = 'a'`,
    /version 1 of Secret .*one: entry a/,
  ],
  ["a data key", `UPDATE versions SET ${flip("wrapped_key")} WHERE version = 2`, /the data key of version 2/],
  [
    "a pointer",
    "UPDATE secrets SET keep_versions = 1 WHERE name = 'one'",
    /the pointer of .*one does not match its MAC/,
  ],
  [
    "the current version",
    "DELETE FROM versions WHERE version = 2",
    /version 2 of Secret .*one, the current one, is gone/,
  ],
  ["a project's key", `UPDATE keys SET ${flip("wrapped")} WHERE purpose = 'Fingerprint'`, /the keys of project/],
  ["a CA's key", `UPDATE authority_generations SET ${flip("sealed_key")}`, /key 1 of CA root/],
  ["a CA's certificate", `UPDATE authority_generations SET ${flip("certificate")}`, /key 1 of CA root/],
  [
    "a private key",
    `UPDATE certificates SET ${flip("sealed_key")} WHERE sealed_key IS NOT NULL`,
    /the private key of certificate/,
  ],
  [
    "a revocation",
    "UPDATE certificates SET revoked_at = NULL, revocation_reason = NULL",
    /the status of certificate .* does not match its MAC/,
  ],
  ["a user's role", "UPDATE users SET role = 'admin'", /user .* does not match its MAC/],
  ["a session", "UPDATE sessions SET expires_at = expires_at + interval '1 year'", /session .* does not match its MAC/],
  ["an API key", "UPDATE api_keys SET scopes = '{administer}'", /API key .* does not match its MAC/],
  ["who acts", "UPDATE environments SET active = 'Standby'", /environment NPR does not match its MAC/],
  [
    "a write of a gateway",
    'UPDATE gateway_writes SET outcome = \'{"kind":"Refused","code":"x","detail":"y"}\'',
    /write .* does not match its MAC/,
  ],
  [
    "the cluster",
    "UPDATE home SET cluster_uid = 'mine'",
    /the cluster that the database belongs to does not match its MAC/,
  ],
])("%s that was changed is told by name, and everything else is looked at", async (_what, change, says) => {
  await fill();
  await sql(change);
  const report = await verify();
  expect(report.wrong.join("\n")).toMatch(says);
  expect(report.checked.bindings).toBe(1);
  expect(report.audit.ok).toBe(true);
});

test("a root key that is not the installation's is told as that, and a database without keys too", async () => {
  await fill();
  await expect(openInstallation(installation.database)).rejects.toMatchObject({ code: "KeyUnavailable" });
  await assertUsable(installation.database);
  await sql("DELETE FROM keys WHERE purpose = 'Audit'");
  await expect(assertUsable(installation.database)).rejects.toThrow(/only a part of it was restored/);
  await expect(assertEmpty(installation.database)).rejects.toThrow(/is not empty/);
});

test("a database of another version of the program is told as that", async () => {
  await sql("INSERT INTO migrations (name, run_on) VALUES ('9999_newer', now())");
  await expect(assertUsable(installation.database)).rejects.toThrow(/9999_newer\): take the program version/);
  await sql("DELETE FROM migrations WHERE name IN ('9999_newer', '0037_home')");
  await expect(assertUsable(installation.database)).rejects.toThrow(/lacks .*0037_home; start the operator/);
  await sql("INSERT INTO migrations (name, run_on) VALUES ('0037_home', now())");
});

test("a snapshot tells of one moment, whatever is written meanwhile", async () => {
  await fill();
  const { stores } = installation;
  await stores.audit.link(writer.epoch, 1_000);
  const snapshot = await openSnapshot(installation.database);
  try {
    const head = await stores.audit.head();
    expect(snapshot.facts).toMatchObject({
      installation: stores.keys.installationId,
      rootKeys: [installation.root.id],
      head: { position: head.position, link: head.link },
      epoch: writer.epoch,
      rows: { secrets: 2, versions: 3, entries: 6 },
    });
    await store("three", "later");
    await withConnection(installation.database, async (client) => {
      await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
      await client.query(`SET TRANSACTION SNAPSHOT '${snapshot.id}'`);
      expect((await client.query("SELECT FROM secrets")).rowCount).toBe(2);
      await client.query("ROLLBACK");
    });
  } finally {
    await snapshot.close();
  }
});

test("a copy that nobody has marked as restored is told by what was written since, while nobody uses it", async () => {
  const { database, root } = installation;
  await store("one", "first");
  await installation.stores.audit.link(writer.epoch, 1_000);
  const snapshot = await openSnapshot(database);
  await snapshot.close();
  const { installation: id, rows, head } = snapshot.facts;
  const body = { installation: id, rows, head: { position: `${head.position}`, link: head.link.toString("hex") } };
  await expect(isUnmarkedCopy(database, body)).rejects.toThrow(
    /sessions of MazeVault use it, so that it may be the one/,
  );
  await installation.stores.close();
  const isCopy = async (change: Partial<typeof body> = {}): Promise<boolean> => {
    let found: boolean | undefined;
    // Connections that were closed are over a moment later.
    const look = async () => {
      found = await isUnmarkedCopy(database, { ...body, ...change }).catch(() => undefined);
      return found !== undefined;
    };
    await until("nobody uses it", look, { timeoutMs: 10_000, intervalMs: 10 });
    return found === true;
  };
  const led = async (holder: string) => {
    const { stores } = await openInstallation(database, root);
    await stores.leadership.acquireEpoch(holder);
    await stores.close();
  };
  expect(await isCopy()).toBe(true);
  expect(await isCopy({ installation: randomUUID() })).toBe(false);
  expect(await isCopy({ head: { ...body.head, link: "00".repeat(32) } })).toBe(false);
  // By an attempt that was cut off before it had marked it.
  await led(RESTORER);
  expect(await isCopy()).toBe(true);
  await led("operator");
  expect(await isCopy()).toBe(false);
  installation = await openInstallation(database, root);
});

test("it is taken over: a namespace finds its secrets, a certificate its holder, and rules and sinks their rows", async () => {
  await fill();
  const { home: homes, keys, audit, leadership, environments, pki, vault, sinkCursors } = installation.stores;
  const { namespace, namespaceUid } = identity("one");
  const holder = {
    kind: "Certificate",
    uid: "uid",
    namespace,
    namespaceUid,
    name: "orders",
    deletionPolicy: "Revoke",
  } as const;
  await pki.recordHolder(writer, holder);
  await sinkCursors.open(writer, "sink-1", "file");
  const cluster = new FakeCluster();
  const uid = cluster.add("Namespace", { name: namespace });
  const web = cluster.add("Certificate", { namespace, name: "orders" });
  const sink = cluster.add("AuditSink", { name: "file" });
  await sql("UPDATE certificates SET changed_transaction = '1000000000'");
  const ahead = async () =>
    (await sql("SELECT FROM certificates WHERE changed_transaction > pg_current_xact_id()")).rowCount;
  expect(await ahead()).toBe(2);
  expect((await sql("SELECT renumber_transactions($1, 1) AS some", [writer.epoch])).rows).toEqual([{ some: 1 }]);
  expect(await ahead()).toBe(1);
  const wrapped = (await sql("SELECT wrapped_key FROM versions ORDER BY secret_id, version")).rows;
  const generations = async () =>
    (await homes.heldObjects(undefined, 10)).map(({ kind, heldUid, generation }) => [kind, heldUid, generation]);
  expect(await generations()).toEqual([
    ["Certificate", "uid", 0n],
    ["Namespace", namespaceUid, 0n],
  ]);
  const adoption = new Adoption({
    store: homes,
    cluster,
    keys,
    audit,
    leadership,
    environments: new Environments({ store: environments, keys }),
  });
  expect(await adoption.run({ actor })).toMatchObject({ bound: 2, awaited: [], forked: true });
  const held = new HeldUids();
  held.load((await homes.bindings()).map((each) => judgedBinding(keys, each)));
  expect(held.of("Namespace", { uid })).toBe(namespaceUid);
  expect(held.of("Certificate", { uid: web })).toBe("uid");
  // Also when they are forgotten.
  await sql("DELETE FROM bindings");
  expect(await generations()).toEqual([
    ["Certificate", "uid", 1n],
    ["Namespace", namespaceUid, 1n],
  ]);
  expect(await vault.find(identity("one"))).toBeDefined();
  expect(await sinkCursors.list()).toEqual([{ uid: sink, name: "file" }]);
  // Nothing was encrypted anew.
  expect((await sql("SELECT wrapped_key FROM versions ORDER BY secret_id, version")).rows).toEqual(wrapped);
  expect(await ahead()).toBe(0);
  // In the next epoch nobody acts until what was granted is over.
  expect((await environments.environments()).stored).toMatchObject([{ record: { epoch: 2n } }]);
  expect((await environments.environments()).stored[0]?.record.fencedUntil).toBeUndefined();
  expect(await verify()).toMatchObject({ wrongCount: 0, audit: { ok: true } });
});

test("an audit sink that comes while a recovery is not settled goes on where that of its name was", async () => {
  const { home: homes, keys, leadership, sinkCursors } = installation.stores;
  const cursor = { position: 7n, link: randomBytes(32), checkpoint: 2n };
  await sinkCursors.open(writer, "former", "file");
  await sinkCursors.move(writer, "former", cursor);
  const write = async (before: bigint, state: HomeRecord["state"]) => {
    const record: HomeRecord = { clusterUid: "here", state };
    const entry = homeEntry("ClusterChosen", before + 1n, actor, {});
    await homes.writeHome(writer, before, record, homeMac(keys, record, before + 1n), [entry]);
  };
  await write(0n, "Adopted");
  expect(await sinkCursors.open(writer, "late", "file")).toEqual(cursor);
  expect(await sinkCursors.open(writer, "late", "file")).toEqual(cursor);
  expect(await sinkCursors.open(writer, "new", "another")).toMatchObject({ position: 0n });
  // Made anew later it is another one, and has nothing.
  await write(1n, "Settled");
  expect(await sinkCursors.open(writer, "later", "file")).toMatchObject({ position: 0n });
  expect((await sinkCursors.list()).map(({ uid }) => uid)).toEqual(["new", "later"]);
  await leadership.acquireEpoch("another");
  await expect(sinkCursors.open(writer, "late", "file")).rejects.toThrow(Fenced);
});

test("what the linker finds on a restored server it puts on record once, also where that is there already", async () => {
  const { audit, leadership, home: homes, keys, environments } = installation.stores;
  await store("one", "first");
  const due = { rows: 1, ms: 0 };
  await audit.link(writer.epoch, 100);
  await audit.checkpoint(writer.epoch, due);
  const adoption = new Adoption({
    store: homes,
    cluster: new FakeCluster(),
    keys,
    audit,
    leadership,
    environments: new Environments({ store: environments, keys }),
  });
  const { epoch } = await adoption.run({ actor });
  // As if the server had been another one.
  await sql(
    "CREATE OR REPLACE FUNCTION audit_server() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT 'another/00000001' $$",
  );
  await audit.link(epoch, 100);
  expect(await audit.checkpoint(epoch, due)).toMatchObject({ server: "another/00000001" });
  const forks = await audit.read({ action: "AuditRecordForked" }, undefined, 10);
  expect(forks.map(({ entry }) => entry.subject.id)).toEqual(["home"]);
  expect(await audit.verify()).toMatchObject({ ok: true });
});

test("a binding that somebody wrote gives nobody a namespace of before", async () => {
  const { home: homes, keys } = installation.stores;
  await sql("INSERT INTO bindings VALUES ('Namespace', 'held', '', 'shop', 'mine', 1, $1)", [randomBytes(32)]);
  const [binding] = await homes.bindings();
  expect(() => binding && judgedBinding(keys, binding)).toThrow(/does not match its MAC/);
  expect((await verify()).wrong.join()).toMatch(/binding of Namespace shop does not match its MAC/);
});
