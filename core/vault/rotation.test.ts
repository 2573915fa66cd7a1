import { createSecretKey, randomBytes } from "node:crypto";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import { FakeVaultStore } from "../ports/fake-vault-store.ts";
import { KeyReplaced, type RootKey } from "../ports/key-store.ts";
import { actor, identity, lifecycle } from "../ports/samples.ts";
import { type SecretRecord, UNLED, type Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { open, seal } from "./envelope.ts";
import { KeyRing } from "./keyring.ts";
import { KeyRotation } from "./rotation.ts";
import { seal as sealFor, unseal } from "./sealing.ts";
import { Vault } from "./vault.ts";

const DAY_MS = 86_400_000;

function rootKey(id: string): RootKey {
  const key = createSecretKey(randomBytes(32));
  return {
    id,
    source: `root key file ${id}`,
    wrap: async (plaintext, context) => seal(key, plaintext, context),
    unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
  };
}

/** What one process has. */
interface Replica {
  readonly keys: KeyRing;
  readonly vault: Vault;
  readonly rotation: KeyRotation;
}

let database: FakeDatabase;
let keyStore: FakeKeyStore;
let store: FakeVaultStore;
let writer: Writer;
let now: Date;
const root = rootKey("one");

const replica = async (current = root, previous?: RootKey): Promise<Replica> => {
  const keys = await KeyRing.open(keyStore, current, previous);
  return {
    keys,
    vault: new Vault({ store, keys, audit: new FakeAuditLog(database) }),
    rotation: new KeyRotation({
      keys,
      store: keyStore,
      vault: store,
      ages: { installationMs: 365 * DAY_MS, projectMs: 90 * DAY_MS },
      now: () => now,
    }),
  };
};

let leader: Replica;

beforeEach(async () => {
  database = new FakeDatabase();
  keyStore = new FakeKeyStore(database);
  store = new FakeVaultStore(database);
  now = new Date();
  leader = await replica();
  writer = { epoch: await database.acquireEpoch("test") };
  await leader.vault.prepareProject(writer, "payments");
});

const put = async ({ vault }: Replica, name: string, value: string): Promise<SecretRecord> => {
  const { record } = await vault.put(UNLED, {
    identity: identity(name),
    seen: await vault.describe(identity(name)),
    entries: [{ key: "k", external: {} }],
    readers: undefined,
    values: new Map([["k", new Sensitive(value)]]),
    lifecycle,
    actor,
  });
  return record;
};
const read = async ({ vault }: Replica, name: string, version?: number): Promise<string | undefined> => {
  const record = await vault.describe(identity(name));
  if (record === undefined) throw new Error(`expected ${name}`);
  const { values } = await vault.open(record, { actor, purpose: "Test", ...(version !== undefined && { version }) });
  return values.get("k")?.reveal().toString();
};
const versions = async (project?: string) =>
  (await leader.rotation.find(project))?.versions.map(({ version }) => version);
const actions = (): string[] =>
  database.audit.map(({ entry }) => entry.action).filter((action) => /^Keys?(Rot|Ret|Rew)/.test(action));

test("a project key is replaced: every version of every secret opens, and nothing but data keys was wrapped anew", async () => {
  const other = await replica();
  for (let n = 0; n < 3; n += 1) await put(other, "one", `v${n}`);
  await put(other, "two", "w");
  const sealingKey = await leader.vault.sealingKey("payments");
  if (sealingKey === undefined) throw new Error("expected a sealing key");
  const place = { project: "payments", environment: "pro", namespace: "n", name: "s", key: "k" };
  const sealed = await sealFor(sealingKey, place, new Sensitive("sealed"));
  const [one] = store.records();
  const before = await Promise.all([1, 2, 3].map((version) => store.readVersion(one?.id ?? "", version)));

  expect(await other.rotation.rotate(UNLED, "payments", actor)).toBe(true);
  expect(await leader.rotation.rotate(writer, "payments", actor)).toBe(false);
  expect(await versions("payments")).toEqual([1, 2]);
  expect(await leader.rotation.advance(writer)).toEqual({ left: 0, stuck: 0, retired: 1 });
  expect(await versions("payments")).toEqual([2]);
  expect(actions()).toEqual(["KeyRotated", "KeyRetired"]);
  const after = await Promise.all([1, 2, 3].map((version) => store.readVersion(one?.id ?? "", version)));
  expect(after.map((version) => version?.entries)).toEqual(before.map((version) => version?.entries));
  expect(after.map((version) => version?.wrappedKey)).not.toEqual(before.map((version) => version?.wrappedKey));

  for (const each of [leader, other, await replica()]) {
    for (let n = 0; n < 3; n += 1) expect(await read(each, "one", n + 1)).toBe(`v${n}`);
    expect(await read(each, "two")).toBe("w");
    const opening = await each.keys.existingSealing("payments");
    expect((await unseal((id) => opening?.byId(id), place, sealed)).reveal().toString()).toBe("sealed");
  }
  expect(await leader.vault.prepareProject(writer, "payments")).toMatchObject({
    version: 2,
    sealingKey: { id: sealingKey.id },
  });
});

test("a replica that has not heard of it writes with the new version all the same, and reads what others wrote", async () => {
  const [first, second] = [await replica(), await replica()];
  await put(first, "one", "before");
  await put(second, "two", "before");
  await leader.rotation.rotate(writer, "payments", actor);
  await put(first, "one", "while");
  expect((await keyStore.replaced())[0]?.left).toBe(3);
  await leader.rotation.advance(writer);
  await put(second, "two", "after");
  await leader.rotation.rotate(writer, "payments", actor);
  await leader.rotation.advance(writer);
  for (const each of [first, second, leader]) {
    expect([await read(each, "one", 1), await read(each, "one", 2)]).toEqual(["before", "while"]);
    expect([await read(each, "two", 1), await read(each, "two", 2)]).toEqual(["before", "after"]);
  }
});

describe("what is wrapped anew twice between reading its row and its key opens all the same:", () => {
  const turn = async () => {
    await leader.rotation.rotate(writer, "payments", actor);
    await leader.rotation.rotate(writer, undefined, actor);
    await leader.rotation.advance(writer);
  };
  let other: Replica;

  beforeEach(async () => {
    await put(leader, "one", "v");
    other = await replica();
  });

  test("a data key", async () => {
    await other.vault.describe(identity("one"));
    await turn();
    const { readVersion } = store;
    store.readVersion = async (...args) => {
      store.readVersion = readVersion;
      const stale = await store.readVersion(...args);
      await turn();
      return stale;
    };
    expect(await read(other, "one")).toBe("v");
    expect(await versions("payments")).toEqual([3]);
  });

  test("a key below the installation key", async () => {
    await turn();
    const { load } = keyStore;
    keyStore.load = async (...args) => {
      keyStore.load = load;
      const stale = await keyStore.load(...args);
      await turn();
      return stale;
    };
    expect(await read(other, "one")).toBe("v");
    expect(await versions()).toEqual([3]);
  });
});

test("the installation key is replaced, and everything that it wraps opens with the new one alone", async () => {
  const other = await replica();
  await put(other, "one", "v");
  const pki = await leader.keys.pki(writer);
  await leader.keys.auditSigning(writer);
  await leader.keys.makeIdentityKey(writer, "Identity", 1);
  await leader.keys.makeIdentityKey(writer, "Token", 1);
  const token = (await leader.keys.identityKeys("Token"))[0]?.key;
  expect(await other.rotation.rotate(UNLED, undefined, actor)).toBe(true);
  // Neither has a replica that has not heard of it to be told.
  await leader.vault.prepareProject(writer, "orders");
  expect(await leader.rotation.advance(writer)).toEqual({ left: 0, stuck: 0, retired: 1 });
  expect(await versions()).toEqual([2]);
  await leader.keys.makeIdentityKey(writer, "Token", 2);
  for (const each of [await replica(), other]) {
    expect(await read(each, "one")).toBe("v");
    expect((await each.keys.pki(writer)).current.id).toBe(pki.current.id);
    expect(await each.keys.auditSigning()).toHaveLength(1);
    const tokens = await each.keys.identityKeys("Token");
    expect(tokens).toHaveLength(2);
    expect(tokens[0]?.key.equals(token ?? randomSecret())).toBe(true);
    expect(await each.keys.existingSigning()).toBeDefined();
    expect(each.keys.auditKey.equals(leader.keys.auditKey)).toBe(true);
  }
  await put(other, "one", "w");
  expect(await read(leader, "one")).toBe("w");
});
const randomSecret = () => createSecretKey(randomBytes(32));

test("what somebody changed stays, is counted, and keeps its key from being retired, but holds up nothing else", async () => {
  const record = await put(leader, "one", "v");
  await put(leader, "two", "w");
  await damage(record);
  await leader.rotation.rotate(writer, "payments", actor);
  expect(await leader.rotation.advance(writer)).toEqual({ left: 1, stuck: 1, retired: 0 });
  expect(leader.rotation.progress).toEqual({ left: 1, stuck: 1 });
  expect(await read(leader, "two")).toBe("w");
  await expect(read(await replica(), "one")).rejects.toMatchObject({ code: "TamperDetected" });
  expect(await versions("payments")).toEqual([1, 2]);
});

/** Exchanges the data key of a version for one that does not open. */
async function damage({ id }: SecretRecord): Promise<void> {
  const sealed = await store.readVersion(id, 1);
  if (sealed === undefined) throw new Error("expected a version");
  const { projectKeyId, wrappedKey: before } = sealed;
  const after = Buffer.from(before);
  after.writeUInt8(after.readUInt8(20) ^ 1, 20);
  await store.rewrapDataKeys(writer, projectKeyId, projectKeyId, [{ id, version: 1, before, after }]);
}

test("what is stuck costs no uses of the newest version, which is replaced all the same once they run out", async () => {
  await damage(await put(leader, "one", "v"));
  await leader.rotation.rotate(writer, "payments", actor);
  const newest = async () => (await leader.rotation.find("payments"))?.versions.at(-1);
  for (let round = 0; round < 20; round += 1) {
    expect(await leader.rotation.advance(writer)).toEqual({ left: 1, stuck: 1, retired: 0 });
    await put(leader, "two", `w${round}`);
  }
  // Of all rounds together, as much as is reserved at a time.
  expect((await newest())?.uses).toBe(65_536n);
  expect(await leader.rotation.rotate(writer, "payments", actor)).toBe(false);
  await keyStore.reserveUses(writer, (await newest())?.id ?? "", 2 ** 30);
  expect(await leader.rotation.rotateDue(writer)).toBe(1);
  expect(await leader.rotation.advance(writer)).toEqual({ left: 1, stuck: 1, retired: 1 });
  expect(await versions("payments")).toEqual([1, 3]);
  expect(await read(await replica(), "two")).toBe("w19");
});

test("keys are replaced by age and by uses, and not twice", async () => {
  expect(await leader.rotation.rotateDue(writer)).toBe(0);
  now = new Date(Date.now() + 91 * DAY_MS);
  expect(await leader.rotation.rotateDue(writer)).toBe(1);
  expect(await leader.rotation.rotateDue(writer)).toBe(0);
  expect(await versions("payments")).toEqual([1, 2]);
  now = new Date();
  await leader.rotation.advance(writer);
  expect(await leader.rotation.rotateDue(writer)).toBe(0);
  const newest = (await leader.rotation.find("payments"))?.versions.at(-1);
  await keyStore.reserveUses(writer, newest?.id ?? "", 2 ** 30);
  expect(await leader.rotation.rotateDue(writer)).toBe(1);
  expect(await versions("payments")).toEqual([2, 3]);
  now = new Date(Date.now() + 366 * DAY_MS);
  await leader.rotation.rotateDue(writer);
  expect(await versions()).toEqual([1, 2]);
});

describe("the root key", () => {
  const two = rootKey("two");

  test("is replaced, and back again; then the one before opens nothing", async () => {
    await put(leader, "one", "v");
    for (const [current, previous] of [
      [two, root],
      [root, two],
    ] as const) {
      const both = await replica(current, previous);
      expect(await both.rotation.root()).toEqual({ id: current.id, complete: false });
      await expect(both.rotation.rotate(UNLED, undefined, actor)).rejects.toMatchObject({ code: "KeyUnavailable" });
      expect(await both.rotation.replaceRoot(writer)).toBe(1);
      expect(await both.rotation.replaceRoot(writer)).toBe(0);
      expect(await both.rotation.root()).toEqual({ id: current.id, complete: true });
      expect(await read(await replica(current), "one")).toBe("v");
      await expect(replica(previous)).rejects.toThrow(
        `wrapped by root key ${current.id}, which is missing: root key file ${previous.id} is ${previous.id}`,
      );
    }
    expect(actions()).toEqual(["KeysRewrapped", "KeysRewrapped"]);
    expect(database.audit.findLast(({ entry }) => entry.action === "KeysRewrapped")?.entry.details).toEqual({
      purpose: "Installation",
      version: 1,
      from: "two",
      to: "one",
    });
  });

  test("is replaced below a rotation of the installation key, and who still has the one before cannot bring it back", async () => {
    await put(leader, "one", "v");
    await leader.rotation.rotate(writer, undefined, actor);
    const both = await replica(two, root);
    expect(await both.rotation.replaceRoot(writer)).toBe(2);
    await both.rotation.advance(writer);
    await expect(leader.rotation.rotate(UNLED, undefined, actor)).rejects.toMatchObject({ code: "KeyUnavailable" });
    expect(await both.rotation.rotate(UNLED, undefined, actor)).toBe(true);
    expect(await read(await replica(two), "one")).toBe("v");
  });

  test("that is not known to the leader yet keeps no project from getting a new key", async () => {
    await (await replica(two, root)).rotation.replaceRoot(writer);
    now = new Date(Date.now() + 366 * DAY_MS);
    await expect(leader.rotation.rotateDue(writer)).rejects.toThrow(KeyReplaced);
    expect(await versions()).toEqual([1]);
    expect(await versions("payments")).toEqual([1, 2]);
  });
});
