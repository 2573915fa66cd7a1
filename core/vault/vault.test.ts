import { createSecretKey, randomBytes } from "node:crypto";
import type { SecretEntry } from "../../crds/secret.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import { FakeVaultStore } from "../ports/fake-vault-store.ts";
import type { RootKey } from "../ports/key-store.ts";
import { actor, identity, lifecycle } from "../ports/samples.ts";
import { Conflict, type Lifecycle, type SecretRecord, UNLED, type Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { firstRotation, type RotationCause } from "./due.ts";
import { newReaderKey, sealFor } from "./end-to-end.ts";
import { open, seal as sealEnvelope } from "./envelope.ts";
import { KeyRing } from "./keyring.ts";
import { pointerMac } from "./pointer.ts";
import { planVersion } from "./recipe.ts";
import { readSealingKeyFile, seal, sealingKeyFile } from "./sealing.ts";
import { Vault } from "./vault.ts";

const key = createSecretKey(randomBytes(32));
const root: RootKey = {
  id: "root",
  source: "the root key",
  wrap: async (plaintext, context) => sealEnvelope(key, plaintext, context),
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

describe("what was made or opened to store a version is zeroed", () => {
  const reveal = Sensitive.prototype.reveal;
  const touched = new Set<Sensitive>();
  beforeEach(() => {
    touched.clear();
    Sensitive.prototype.reveal = function () {
      touched.add(this);
      return reveal.call(this);
    };
  });
  afterEach(() => {
    Sensitive.prototype.reveal = reveal;
  });
  /** Texts that still stand in memory, of all values that were looked at. */
  const left = (): readonly string[] =>
    [...touched].map((value) => reveal.call(value).toString("utf8")).filter((text) => /[^\0]/.test(text));
  const broken: SecretEntry = { key: "zz", template: "{{ url | public_key }}" };

  test("when it is stored, and when somebody else was faster", async () => {
    const { record } = await apply(undefined);
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual(["k1"]);
    await apply(record, { api: "k2" });
    touched.clear();
    await expect(apply(record, { api: "k3" })).rejects.toThrow(Conflict);
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual(["k3"]);
  });

  test("when it is rotated, and when somebody else was faster", async () => {
    const { record } = await apply(undefined);
    const cause = { kind: "Request" } as const;
    const request = { entries, keys: ["password"], cause, overlapMs: 0, actor };
    touched.clear();
    await vault.rotate(writer, record, request);
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual([]);
    touched.clear();
    await expect(vault.rotate(writer, record, request)).rejects.toThrow(Conflict);
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual([]);
  });

  test("when a template cannot be rendered, at first and later", async () => {
    await expect(apply(undefined, { entries: [...entries, broken] })).rejects.toMatchObject({ code: "ValueInvalid" });
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual(["k1"]);
    const { record } = await apply(undefined);
    touched.clear();
    await expect(apply(record, { entries: [...entries, broken] })).rejects.toMatchObject({ code: "ValueInvalid" });
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual(["k1"]);
  });

  test("when values that lost are kept", async () => {
    const { record } = await apply(undefined);
    touched.clear();
    const lost = new Map([["password", new Sensitive("from elsewhere")]]);
    await vault.keepBeside(writer, record, { entries, values: lost, actor });
    expect(touched.size).toBeGreaterThan(3);
    expect(left()).toEqual(["from elsewhere"]);
  });

  test("when an external value does not go into a template", async () => {
    const given: readonly SecretEntry[] = [
      { key: "key", external: {} },
      { key: "id", generate: { kind: "UUID" } },
      { key: "both", template: "{{ id }} {{ key }}" },
      { key: "public", template: "{{ key | public_key }}" },
    ];
    const { record } = await apply(undefined, { entries: given });
    touched.clear();
    const request = { identity: identity("one"), seen: record, entries: given, readers: undefined, lifecycle, actor };
    const written = vault.put(UNLED, { ...request, values: new Map([["key", new Sensitive("no key")]]) });
    await expect(written).rejects.toMatchObject({ code: "ValueInvalid" });
    expect(touched.size).toBeGreaterThan(2);
    expect(left()).toEqual(["no key"]);
  });
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

describe("external entries", () => {
  const external: readonly SecretEntry[] = [
    { key: "user", literal: "orders" },
    { key: "password", generate: { kind: "Password" } },
    { key: "partner", external: {} },
    { key: "header", template: "{{ user }}:{{ partner }}" },
  ];
  const longer = { ...lifecycle, keepVersions: 4 };
  const put = (seen: SecretRecord | undefined, partner: string, from = external) =>
    vault.put(UNLED, {
      readers: undefined,
      identity: identity("one"),
      seen,
      entries: from,
      values: new Map([["partner", new Sensitive(partner)]]),
      lifecycle,
      actor,
    });
  const store = (seen: SecretRecord | undefined, from = external) => apply(seen, { entries: from, lifecycle: longer });
  /** As every writer does: looks again when somebody was faster. */
  const until = async <T>(attempt: (seen: SecretRecord | undefined) => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await attempt(await vault.describe(identity("one")));
      } catch (error) {
        if (!(error instanceof Conflict)) throw error;
      }
    }
  };

  test("are left out with what refers to them, until they are written; the rest stays", async () => {
    const { record: first } = await store(undefined);
    expect(first.entries.map(({ key }) => key)).toEqual(["password", "user"]);
    const { record: second, changedKeys } = await put(first, "p1");
    expect(changedKeys).toEqual(["header", "partner"]);
    const { password } = await values(first, 1);
    expect(await values(second)).toEqual({ user: "orders", password, partner: "p1", header: "orders:p1" });
    expect(await store(second)).toMatchObject({ created: false });
    expect(await put(second, "p1")).toEqual({ record: second, created: false, changedKeys: [] });
  });

  test("may be written before anything else; the leader adds the rest", async () => {
    await vault.prepareProject(writer, "payments");
    const { record: first } = await put(undefined, "p1");
    expect(first.entries.map(({ key }) => key)).toEqual(["partner"]);
    const { record: second } = await store(first);
    expect(await values(second)).toMatchObject({ user: "orders", partner: "p1", header: "orders:p1" });
  });

  test("a put by who has not seen the manifest yet makes nothing else anew", async () => {
    const { record: first } = await put((await store(undefined)).record, "p1");
    const stale: readonly SecretEntry[] = [
      { key: "user", literal: "before" },
      { key: "partner", external: {} },
      { key: "gone", generate: { kind: "Hex" } },
    ];
    const { record: second } = await put(first, "p2", stale);
    const [before, after] = [await values(second, 2), await values(second)];
    expect(after).toEqual({ ...before, partner: "p2" });
    expect(await values((await store(second)).record)).toEqual({ ...after, header: "orders:p2" });
  });

  test("a value that is made from now on is another one", async () => {
    const { record } = await put((await store(undefined)).record, "p1");
    const generated = [...external.slice(0, 2), { key: "partner", generate: { kind: "Hex" } } as const];
    const { record: made } = await store(record, generated);
    expect((await values(made)).partner).toMatch(/^[0-9a-f]{64}$/);
    await expect(put(made, "p2", generated)).rejects.toMatchObject({ code: "ValueInvalid" });
  });

  test("who writes what the manifest does not have, nothing, or too much is told", async () => {
    const { record } = await store(undefined);
    const request = { identity: identity("one"), seen: record, entries: external, lifecycle, actor };
    const attempt = (given: readonly (readonly [string, Sensitive])[]) =>
      vault.put(UNLED, { ...request, readers: undefined, values: new Map(given) });
    await expect(attempt([["user", new Sensitive("x")]])).rejects.toThrow("no entry user with external: {}");
    await expect(attempt([])).rejects.toMatchObject({ code: "ValueInvalid" });
    await expect(attempt([["partner", new Sensitive(Buffer.alloc(1_048_577))]])).rejects.toThrow("1048576 bytes");
    const deleted = await vault.softDelete(UNLED, record, actor);
    await expect(put(deleted, "p1")).rejects.toMatchObject({ code: "SecretNotStored" });
    const elsewhere = { ...request, identity: { ...identity("one"), project: "unknown" }, seen: undefined };
    const written = vault.put(UNLED, {
      ...elsewhere,
      readers: undefined,
      values: new Map([["partner", new Sensitive("p")]]),
    });
    await expect(written).rejects.toMatchObject({ code: "KeyUnavailable" });
  });

  test("of many at once, and a leader among them, none is lost and none counts twice", async () => {
    await vault.prepareProject(writer, "payments");
    const keys = Array.from({ length: 15 }, (_, index) => `k${index}`);
    const many: readonly SecretEntry[] = [...external, ...keys.map((key) => ({ key, external: {} }))];
    const puts = keys.map((key) =>
      until((seen) => {
        const given = new Map([[key, new Sensitive(`value of ${key}`)]]);
        return vault.put(UNLED, {
          readers: undefined,
          identity: identity("one"),
          seen,
          entries: many,
          values: given,
          lifecycle,
          actor,
        });
      }),
    );
    const leading = Array.from({ length: 5 }, () => until((seen) => store(seen, many)));
    const written = await Promise.all(puts);
    await Promise.all(leading);
    const versions = written.map(({ record }) => record.currentVersion);
    expect(new Set(versions).size).toBe(keys.length);
    const { record } = await until((seen) => store(seen, many));
    const final = await values(record);
    expect(keys.map((key) => final[key])).toEqual(keys.map((key) => `value of ${key}`));
    expect(record.generation).toBe(BigInt(record.currentVersion));
    const created = database.audit.flatMap(({ entry: { action, details } }) =>
      action === "SecretVersionCreated" ? [details.version] : [],
    );
    expect(created).toEqual(Array.from({ length: record.currentVersion }, (_, index) => index + 1));
  });

  test("rolling back brings made and written values of then, and leaves what follows the manifest", async () => {
    const { record: first } = await put((await store(undefined)).record, "p1");
    const changed: readonly SecretEntry[] = [
      { key: "user", literal: "shop" },
      { key: "password", generate: { kind: "Hex" } },
      ...external.slice(2),
      { key: "new", generate: { kind: "UUID" } },
    ];
    const { record: second } = await put((await store(first, changed)).record, "p2", changed);
    const [then, now] = [await values(second, first.currentVersion), await values(second)];
    const request = { version: first.currentVersion, entries: changed, actor };
    const { record: third, ...rest } = await vault.rollback(UNLED, second, request);
    expect(rest).toEqual({ created: true, changedKeys: ["header", "partner", "password"], kept: ["user"] });
    expect(third.currentVersion).toBe(second.currentVersion + 1);
    expect(await values(third)).toEqual({ ...now, password: then.password, partner: "p1", header: "shop:p1" });
    // The leader finds nothing to correct: else a rolled back password would be made anew.
    expect(await store(third, changed)).toMatchObject({ created: false });
    expect(await vault.rollback(UNLED, third, request)).toMatchObject({ created: false, kept: ["user"] });
    await expect(vault.rollback(UNLED, second, request)).rejects.toThrow(Conflict);
    await expect(vault.rollback(UNLED, third, { ...request, version: 1 })).rejects.toMatchObject({
      code: "SecretNotStored",
    });
    expect((await vault.versions(third)).map(({ version, keys }) => [version, keys.length])).toEqual([
      [5, 5],
      [4, 5],
      [3, 5],
      [2, 4],
    ]);
  });
});

test("with readers, only what is sealed for them is stored, and it comes back as it was", async () => {
  await vault.prepareProject(writer, "payments");
  const { publicKey } = newReaderKey();
  const readers = [{ name: "alice", publicKey }];
  const place = { ...identity("one"), key: "pan" };
  const put = (pan: string) =>
    vault.put(UNLED, {
      identity: identity("one"),
      seen: undefined,
      readers,
      entries: [{ key: "pan", external: {} }],
      values: new Map([["pan", new Sensitive(pan)]]),
      lifecycle,
      actor,
    });
  await expect(put("4111")).rejects.toMatchObject({ code: "ValueInvalid" });
  expect(store.records()).toEqual([]);
  const sealed = await sealFor(readers, place, new Sensitive("4111"));
  expect(await values((await put(sealed)).record)).toEqual({ pan: sealed });
});

describe("sealed entries", () => {
  const place = {
    project: "payments",
    environment: "staging",
    namespace: "payments-staging",
    name: "one",
    key: "licence",
  };
  const sealed = async (value: string, at = place): Promise<SecretEntry> => {
    const { sealingKey } = await vault.prepareProject(writer, "payments");
    return { key: "licence", sealed: await seal(sealingKey, at, new Sensitive(value)) };
  };
  const url: SecretEntry = { key: "url", template: "?l={{ licence }}" };

  test("are opened once, and stay while their text does", async () => {
    const entry = await sealed("l1");
    const { record: first } = await apply(undefined, { entries: [entry, url] });
    expect(await values(first)).toEqual({ licence: "l1", url: "?l=l1" });
    expect(await apply(first, { entries: [entry, url] })).toMatchObject({ created: false });
    const { record: second, changedKeys } = await apply(first, { entries: [entry, url, { key: "a", literal: "b" }] });
    expect(changedKeys).toEqual(["a"]);
    expect(await values(second)).toEqual({ licence: "l1", url: "?l=l1", a: "b" });
    const { record: third } = await apply(second, { entries: [await sealed("l2"), url] });
    expect(await values(third)).toEqual({ licence: "l2", url: "?l=l2" });
    const back = await vault.rollback(UNLED, third, { version: 1, entries: [entry, url], actor });
    expect(back).toMatchObject({ created: false, kept: ["licence"] });
  });

  test("that were sealed for another place make no version", async () => {
    const copied = await sealed("l1", { ...place, name: "two" });
    await expect(apply(undefined, { entries: [copied] })).rejects.toMatchObject({ code: "SealedValueInvalid" });
    expect(store.records()).toEqual([]);
  });

  test("are sealed with a key that the installation vouches for", async () => {
    expect(await vault.sealingKey("payments")).toBeUndefined();
    const { sealingKey } = await vault.prepareProject(writer, "payments");
    const signed = await vault.sealingKey("payments");
    if (signed === undefined) throw new Error("expected a key");
    expect(readSealingKeyFile(sealingKeyFile(signed))).toMatchObject({ ...sealingKey, project: "payments" });
  });
});

test("a value that lost is kept below the one that won, once, and was never current", async () => {
  const { record } = await apply(undefined);
  const before = await values(record);
  const lost = new Map([["password", new Sensitive("from elsewhere")]]);
  const kept = await vault.keepBeside(writer, record, { entries, values: lost, actor });
  expect(kept).toMatchObject({ currentVersion: 3, generation: 3n });
  expect(await vault.describe(identity("one"))).toEqual(kept);
  expect(await values(kept)).toEqual(before);
  expect(await values(kept, 2)).toEqual({ ...before, password: "from elsewhere", url: "orders:from+elsewhere:k1" });
  expect(await vault.keepBeside(writer, kept, { entries, values: lost, actor })).toBe(kept);
  expect(
    (await vault.store(writer, { identity: identity("one"), seen: kept, entries, sources: api(), lifecycle, actor }))
      .created,
  ).toBe(false);
  await expect(
    vault.keepBeside(writer, record, { entries, values: new Map([["password", new Sensitive("x")]]), actor }),
  ).rejects.toThrow(Conflict);
});

test("what lost stays readable for a day, however many versions come above it, and leaves room for rotations", async () => {
  const two = { ...lifecycle, keepVersions: 2 };
  const versions = async () => (await store.listVersions(record.id)).map(({ version }) => version);
  const keep = (value: string) =>
    vault.keepBeside(writer, record, { entries, values: new Map([["password", new Sensitive(value)]]), actor });
  let { record } = await apply(undefined, { lifecycle: two });
  record = await keep("lost 1");
  record = await keep("lost 2");
  ({ record } = await apply(record, { api: "k2", lifecycle: two }));
  expect(await versions()).toEqual([6, 5, 4, 2]);
  expect((await values(record, 2)).password).toBe("lost 1");
  now = new Date(now.getTime() + 86_400_000);
  ({ record } = await apply(record, { api: "k3", lifecycle: two }));
  expect(await versions()).toEqual([7, 6]);
  for (let count = 3; count < 60; count++) record = await keep(`lost ${count}`);
  expect(record.rotation?.held.length).toBe(50);
});

const api = () => new Map([["api", new Sensitive(Buffer.from("k1"))]]);

test("the MAC of a pointer without a rotation is what it was before there were any", () => {
  const pointer = {
    id: "id-1",
    identity: identity("one"),
    state: "Active",
    currentVersion: 3,
    generation: 4n,
  } as const;
  const mac = pointerMac(createSecretKey(Buffer.alloc(32, 7)), "installation", { ...pointer, lifecycle });
  expect(mac.toString("hex")).toBe("e28c0825c574505b903fe194c91424b0603464d3f0e1e1428469ff9ba754f7a3");
});

describe("a rotation", () => {
  const timetable: RotationCause = { kind: "Timetable", timetable: "every 24h", due: new Date("2026-03-01T00:00:00Z") };
  interface Options {
    readonly cause?: RotationCause;
    readonly keys?: readonly string[];
    readonly overlapMs?: number;
    readonly of?: readonly SecretEntry[];
    readonly by?: Writer | typeof UNLED;
  }
  const rotate = (
    seen: SecretRecord,
    { cause = timetable, keys = ["password"], overlapMs = 0, of = entries, by = writer }: Options = {},
  ) => vault.rotate(by, seen, { entries: of, keys, cause, overlapMs, actor });
  const more: readonly SecretEntry[] = [
    ...entries,
    { key: "salt", generate: { kind: "Hex" } },
    { key: "partner", external: {} },
  ];
  const kept = async (record: SecretRecord) => (await vault.versions(record)).map(({ version }) => version);

  test("gives its keys and what is made of them new values, all others stay byte for byte", async () => {
    const { record: first } = await apply(undefined, { entries: more });
    const written = new Map([["partner", new Sensitive(Buffer.from([0, 255, 10]))]]);
    const { record: second } = await vault.put(writer, {
      identity: identity("one"),
      seen: first,
      entries: more,
      readers: undefined,
      values: written,
      lifecycle,
      actor,
    });
    const { record: third, created, changedKeys } = await rotate(second, { of: more });
    expect({ created, changedKeys }).toEqual({ created: true, changedKeys: ["password", "url"] });
    const [before, after] = [await values(third, 2), await values(third)];
    expect(after.password).not.toBe(before.password);
    expect(after.password).toHaveLength(32);
    expect(after).toEqual({
      ...before,
      password: after.password,
      url: `orders:${encodeURIComponent(after.password ?? "")}:k1`,
    });
    // What is read as text above loses bytes that are none.
    const bytes = async (version: number) =>
      (await vault.open(third, { version, keys: ["partner"], actor, purpose: "Test" })).values
        .get("partner")
        ?.reveal()
        .toString("hex");
    expect([await bytes(2), await bytes(3)]).toEqual(["00ff0a", "00ff0a"]);
  });

  test("is no change of the manifest: what is stored next is what it made", async () => {
    const { record } = await apply(undefined);
    const { record: rotated } = await rotate(record);
    expect(await apply(rotated)).toEqual({ record: rotated, created: false, changedKeys: [] });
    const parameters: readonly SecretEntry[] = entries.map((entry) =>
      entry.key === "password" ? { key: "password", generate: { kind: "Hex" } } : entry,
    );
    // A replica may know a manifest that the leader does not: what it made is judged by what it was made from.
    const { record: stale } = await rotate(rotated, { of: parameters });
    expect((await apply(stale, { entries: parameters })).created).toBe(false);
    expect((await apply(stale)).changedKeys).toEqual(["password", "url"]);
  });

  test("stands in the record with its time and cause, and on record", async () => {
    const asked = firstRotation({ rotation: { every: "24h" } }, "zero", now);
    const { record: first } = await vault.store(writer, {
      identity: identity("two"),
      seen: undefined,
      entries: [entries[1] as SecretEntry],
      sources: new Map(),
      lifecycle,
      rotation: asked,
      actor,
    });
    expect(first.rotation).toEqual({ timetable: "every 24h", since: now, request: "zero", held: [] });
    now = new Date("2026-03-02T00:00:05Z");
    const due = new Date("2026-03-02T00:00:00Z");
    const { record: second } = await rotate(first, { cause: { kind: "Timetable", timetable: "every 24h", due } });
    expect(second.rotation).toEqual({ ...first.rotation, at: now });
    now = new Date("2026-03-02T01:00:00Z");
    const { record: third } = await rotate(second, { cause: { kind: "Request", token: "one" } });
    expect(third.rotation).toEqual({ ...second.rotation, at: now, request: "one" });
    expect(await vault.describe(identity("two"))).toEqual(third);
    const rows = database.audit
      .filter(({ entry }) => entry.action === "SecretRotated")
      .map(({ entry }) => entry.details);
    const place = { project: "payments", environment: "staging", made: "password" };
    expect(rows).toEqual([
      { ...place, version: 2, cause: "Timetable", timetable: "every 24h", due: due.toISOString() },
      { ...place, version: 3, cause: "Request", token: "one" },
    ]);
  });

  test("is not before it was due, whatever the clock of who does it says", async () => {
    const { record } = await apply(undefined);
    const due = new Date(now.getTime() + 1_000);
    expect((await rotate(record, { cause: { ...timetable, due } })).record.rotation?.at).toEqual(due);
  });

  test("is done by one of two that saw it due, and by who does not lead on the same condition", async () => {
    const { record } = await apply(undefined);
    await rotate(record);
    await expect(rotate(record)).rejects.toThrow(Conflict);
    await expect(rotate(record, { by: UNLED })).rejects.toThrow(Conflict);
    const current = (await vault.describe(identity("one"))) as SecretRecord;
    expect(current.currentVersion).toBe(2);
    expect((await rotate(current, { by: UNLED, cause: { kind: "Request" } })).record.currentVersion).toBe(3);
  });

  test("stays with the record when something else changes", async () => {
    const { record } = await apply(undefined);
    const { record: rotated } = await rotate(record, { cause: { kind: "Request", token: "one" } });
    const { record: changed } = await apply(rotated, { api: "k2" });
    const deleted = await vault.softDelete(writer, changed, actor);
    const { record: recovered } = await apply(deleted, { api: "k2", lifecycle: { ...lifecycle, keepVersions: 9 } });
    for (const each of [changed, deleted, recovered]) expect(each.rotation).toEqual(rotated.rotation);
    expect(await vault.describe(identity("one"))).toEqual(recovered);
  });

  test("is asked for by another timetable without a new version", async () => {
    const { record } = await apply(undefined);
    const changed = await vault.changeRotation(writer, record, { timetable: "every 1h", since: now, held: [] }, actor);
    expect(changed).toMatchObject({ currentVersion: 1, rotation: { timetable: "every 1h" } });
    expect(await vault.describe(identity("one"))).toEqual(changed);
    expect(database.audit.at(-1)?.entry).toMatchObject({
      action: "SecretRotationChanged",
      details: { timetable: "every 1h" },
    });
  });

  test.each<[string, object, RegExp]>([
    [
      "what is not generated",
      { keys: ["user"] },
      /^entry user cannot be rotated: the manifest has no entry user with generate$/,
    ],
    ["what the manifest does not have", { keys: ["password", "absent"] }, /^entry absent cannot be rotated/],
    ["what has no value yet", { keys: ["salt"], of: more }, /^entry salt cannot be rotated: it has no value yet$/],
    ["nothing", { keys: [] }, /^no entry is generated, so none can be rotated$/],
  ])("of %s is refused", async (_, options, says) => {
    const { record } = await apply(undefined);
    await expect(rotate(record, options)).rejects.toMatchObject({
      code: "ValueInvalid",
      message: expect.stringMatching(says),
    });
    expect(await vault.describe(identity("one"))).toEqual(record);
  });

  test("of a deleted secret is refused", async () => {
    const { record } = await apply(undefined);
    await expect(rotate(await vault.softDelete(writer, record, actor))).rejects.toMatchObject({
      code: "SecretNotStored",
    });
  });

  test("with an overlap leaves the version before readable, though retention would not", async () => {
    const one = { ...lifecycle, keepVersions: 1 };
    const { record: first } = await apply(undefined, { lifecycle: one });
    const before = await values(first);
    const { record: second } = await rotate(first, { overlapMs: 60_000 });
    expect(second.rotation?.held).toEqual([{ version: 1, until: new Date(now.getTime() + 60_000) }]);
    const { record: third } = await apply(second, { api: "k2", lifecycle: one });
    now = new Date(now.getTime() + 59_999);
    const { record: fourth } = await rotate(third, { overlapMs: 60_000 });
    expect(await kept(fourth)).toEqual([4, 3, 1]);
    expect(await values(fourth, 1)).toEqual(before);
    expect(expiries()).toEqual(["2-2"]);
    now = new Date(now.getTime() + 1);
    const { record: fifth } = await apply(fourth, { api: "k3", lifecycle: one });
    expect(await kept(fifth)).toEqual([5, 3]);
    now = new Date(now.getTime() + 60_000);
    const sixth = await vault.softDelete(writer, fifth, actor);
    expect(await kept(sixth)).toEqual([5]);
    expect(expiries()).toEqual(["2-2", "1-1", "4-4", "3-3"]);
    expect(sixth.rotation?.held).toEqual([]);
  });

  test("in a loop does not keep more than a hundred versions for an overlap", async () => {
    let { record } = await apply(undefined, { lifecycle: { ...lifecycle, keepVersions: 1 } });
    for (let count = 0; count < 110; count++) ({ record } = await rotate(record, { overlapMs: 3_600_000 }));
    expect((await kept(record)).length).toBe(101);
  });

  const expiries = () =>
    database.audit
      .filter(({ entry }) => entry.action === "SecretVersionExpired")
      .map(({ entry: { details } }) => `${details.from}-${details.through}`);
});
