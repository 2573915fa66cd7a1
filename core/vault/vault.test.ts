import { createSecretKey, randomBytes } from "node:crypto";
import type { SecretEntry } from "../../crds/secret.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import { FakeVaultStore } from "../ports/fake-vault-store.ts";
import type { RootKey } from "../ports/key-store.ts";
import { actor, identity, lifecycle } from "../ports/samples.ts";
import { Conflict, type Lifecycle, type SecretRecord, type Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { open, seal } from "./envelope.ts";
import { KeyRing } from "./keyring.ts";
import { planVersion } from "./recipe.ts";
import { Vault } from "./vault.ts";

const key = createSecretKey(randomBytes(32));
const root: RootKey = {
  id: "root",
  wrap: async (plaintext, context) => seal(key, plaintext, context),
  unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
};

let database: FakeDatabase;
let store: FakeVaultStore;
let vault: Vault;
let writer: Writer;
let now: Date;

beforeEach(async () => {
  database = new FakeDatabase();
  store = new FakeVaultStore(database);
  now = new Date("2026-03-01T00:00:00Z");
  const keys = await KeyRing.open(new FakeKeyStore(database), root);
  vault = new Vault({ store, keys, audit: new FakeAuditLog(database), now: () => now });
  writer = { epoch: await database.acquireEpoch("test") };
});

const entries: readonly SecretEntry[] = [
  { key: "user", literal: "orders" },
  { key: "password", generate: { kind: "Password" } },
  { key: "api", secretRef: { name: "partner", key: "key" } },
  { key: "url", template: "{{ user }}:{{ password | url_encode }}:{{ api }}" },
];

interface Given {
  readonly entries?: readonly SecretEntry[];
  readonly api?: string;
  readonly lifecycle?: Lifecycle;
}
const apply = (seen: SecretRecord | undefined, given: Given = {}) =>
  vault.store(writer, {
    identity: identity("one"),
    seen,
    entries: given.entries ?? entries,
    sources: new Map([["api", new Sensitive(Buffer.from(given.api ?? "k1"))]]),
    lifecycle: given.lifecycle ?? lifecycle,
    actor,
  });
const values = async (record: SecretRecord, version?: number): Promise<Record<string, string>> => {
  const options = { actor, purpose: "Test", ...(version === undefined ? {} : { version }) };
  const opened = await vault.open(record, options);
  return Object.fromEntries([...opened.values].map(([name, value]) => [name, value.reveal().toString("utf8")]));
};
const actions = () => database.audit.map(({ entry }) => entry.action).filter((action) => action.startsWith("Secret"));

test("what is stored can be described and opened", async () => {
  const { record, created, changedKeys } = await apply(undefined);
  expect(created).toBe(true);
  expect([...changedKeys].sort()).toEqual(["api", "password", "url", "user"]);
  expect(await vault.describe(identity("one"))).toEqual(record);
  const { user, password, api, url } = await values(record);
  expect({ user, api, url }).toEqual({
    user: "orders",
    api: "k1",
    // Liquid's url_encode is that of encodeURIComponent, with + for a blank.
    url: `orders:${encodeURIComponent(password ?? "")}:k1`,
  });
  expect(actions()).toEqual(["SecretVersionCreated", "SecretRead"]);
});

test("storing the same again writes nothing", async () => {
  const { record } = await apply(undefined);
  const before = database.audit.length;
  expect(await apply(record)).toEqual({ record, created: false, changedKeys: [] });
  expect(database.audit).toHaveLength(before);
  expect(database.outbox).toHaveLength(1);
});

test("the pure plan says what storing would make", async () => {
  const { record } = await apply(undefined);
  const digester = await vault.digester(writer, identity("one"));
  const sources = new Map([["api", digester.fingerprint("api", "k2")]]);
  expect(planVersion(digester, entries, record.entries, sources)).toEqual({
    kind: "Changed",
    made: ["api", "url"],
    removed: [],
  });
});

test("a changed source makes one version and keeps what was generated", async () => {
  const { record: first } = await apply(undefined);
  const { record: second, changedKeys } = await apply(first, { api: "k2" });
  expect(changedKeys).toEqual(["api", "url"]);
  expect(second).toMatchObject({ id: first.id, currentVersion: 2, generation: 2n });
  const [before, after] = [await values(second, 1), await values(second)];
  expect(after).toEqual({ ...before, api: "k2", url: before.url?.replace(/k1$/, "k2") });
});

test("only the keys asked for are opened", async () => {
  const { record } = await apply(undefined);
  const opened = await vault.open(record, { keys: ["user", "absent"], actor, purpose: "Test" });
  expect([...opened.values.keys()]).toEqual(["user"]);
  expect(database.audit.at(-1)?.entry.details).toMatchObject({ keys: "user", purpose: "Test", version: 1 });
});

test("the sources remain the caller's", async () => {
  const source = new Sensitive(Buffer.from("k1"));
  const request = { identity: identity("one"), seen: undefined, entries, lifecycle, actor };
  await vault.store(writer, { ...request, sources: new Map([["api", source]]) });
  expect(source.reveal().toString()).toBe("k1");
});

test("old versions go when there are too many, and a shorter retention takes effect without a new version", async () => {
  let { record } = await apply(undefined);
  for (const api of ["k2", "k3", "k4"]) ({ record } = await apply(record, { api }));
  expect((await store.listVersions(record.id)).map(({ version }) => version)).toEqual([4, 3, 2]);
  await expect(vault.open(record, { version: 1, actor, purpose: "Test" })).rejects.toMatchObject({
    code: "SecretNotStored",
  });
  const shorter = { ...lifecycle, keepVersions: 1 };
  const { record: settled, created } = await apply(record, { api: "k4", lifecycle: shorter });
  expect([created, settled.currentVersion, settled.lifecycle]).toEqual([false, 4, shorter]);
  expect((await store.listVersions(record.id)).map(({ version }) => version)).toEqual([4]);
  expect(actions().slice(-3)).toEqual(["SecretVersionExpired", "SecretLifecycleChanged", "SecretVersionExpired"]);
});

test("a soft-deleted secret is recovered by applying it again, and its versions go on", async () => {
  const { record } = await apply(undefined);
  const deleted = await vault.softDelete(writer, record, actor);
  expect(deleted).toMatchObject({
    state: "SoftDeleted",
    deletedAt: now,
    purgeAfter: new Date(now.getTime() + lifecycle.softDeleteMs),
  });
  expect(await vault.describe(identity("one"))).toEqual(deleted);
  const { record: recovered, created } = await apply(deleted);
  expect([created, recovered.state, recovered.currentVersion]).toEqual([false, "Active", 1]);
  expect(await values(recovered)).toEqual(await values(record));
  const again = await vault.softDelete(writer, recovered, actor);
  const { record: changed } = await apply(again, { api: "k2" });
  expect(changed).toMatchObject({ state: "Active", currentVersion: 2 });
  expect(await vault.describe(identity("one"))).toEqual(changed);
  expect(actions().filter((action) => action === "SecretRecovered")).toHaveLength(2);
});

test("a retained secret never expires, and is recovered in the same way", async () => {
  const { record } = await apply(undefined);
  const retained = await vault.retain(writer, record, actor);
  expect(retained.state).toBe("Retained");
  now = new Date("2099-01-01T00:00:00Z");
  expect(await vault.purgeExpired(writer, actor, 10)).toBe(0);
  expect((await vault.recover(writer, retained, actor)).state).toBe("Active");
});

test("a soft-deleted secret is purged when its time is over, not before", async () => {
  const { record } = await apply(undefined);
  await vault.softDelete(writer, record, actor);
  now = new Date(now.getTime() + lifecycle.softDeleteMs - 1);
  expect(await vault.purgeExpired(writer, actor, 10)).toBe(0);
  now = new Date(now.getTime() + 1);
  expect(await vault.purgeExpired(writer, actor, 10)).toBe(1);
  expect(await vault.describe(identity("one"))).toBeUndefined();
  expect(actions().at(-1)).toBe("SecretPurged");
});

test("one that cannot be purged does not hold up the others", async () => {
  const requests = ["one", "two", "three"].map((name) => ({
    identity: identity(name),
    seen: undefined,
    entries: [{ key: "user", literal: "orders" }],
    sources: new Map(),
    lifecycle,
    actor,
  }));
  for (const request of requests) await vault.softDelete(writer, (await vault.store(writer, request)).record, actor);
  const [broken] = store.records();
  if (broken === undefined) throw new Error("expected records");
  const generation = broken.generation + 1n;
  const change = {
    ...broken,
    purgeAfter: now,
    expected: broken.generation,
    generation,
    mac: randomBytes(32),
    audit: [],
  };
  await store.changePointer(writer, change);
  now = new Date(now.getTime() + lifecycle.softDeleteMs);
  await expect(vault.purgeExpired(writer, actor, 10)).rejects.toMatchObject({ code: "TamperDetected" });
  expect(store.records().map(({ id }) => id)).toEqual([broken.id]);
});

test("of two that saw the same record one gets a conflict", async () => {
  const { record } = await apply(undefined);
  const attempts = await Promise.allSettled([apply(record, { api: "k2" }), apply(record, { api: "k3" })]);
  expect(attempts.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  await expect(vault.open(record, { actor, purpose: "Test" })).resolves.toMatchObject({ version: 1 });
  await expect(vault.softDelete(writer, record, actor)).rejects.toThrow(Conflict);
});

test("a current version that retention removed meanwhile is a conflict, not tampering", async () => {
  const { record } = await apply(undefined, { lifecycle: { ...lifecycle, keepVersions: 1 } });
  await apply(record, { api: "k2", lifecycle: { ...lifecycle, keepVersions: 1 } });
  await expect(vault.open(record, { actor, purpose: "Test" })).rejects.toThrow(Conflict);
});

test("values, records and errors do not print values", async () => {
  const { record } = await apply(undefined);
  const opened = await vault.open(record, { actor, purpose: "Test" });
  expect(JSON.stringify({ record: { ...record, generation: 0 }, values: [...opened.values] })).not.toContain('orders"');
});
