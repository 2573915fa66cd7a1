import { createSecretKey, randomBytes, randomUUID } from "node:crypto";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import type { RootKey } from "../ports/key-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { keyContext, open, seal } from "./envelope.ts";
import { KeyRing } from "./keyring.ts";
import { MOST_USES, WrappingKey } from "./wrapping-key.ts";

function rootKey(id = "root"): RootKey {
  const key = createSecretKey(randomBytes(32));
  return {
    id,
    source: `root key file ${id}.key`,
    wrap: async (plaintext, context) => seal(key, plaintext, context),
    unwrap: async (wrapped, context) => {
      const plaintext = open(key, wrapped, context);
      if (plaintext === undefined) throw new Error("not the key that wrapped");
      return plaintext;
    },
  };
}

let database: FakeDatabase;
let store: FakeKeyStore;
let writer: Writer;
const root = rootKey();

beforeEach(() => {
  database = new FakeDatabase();
  store = new FakeKeyStore(database);
});
const lead = async () => {
  writer = { epoch: await database.acquireEpoch("test") };
};

test("keys are made once and found again after a restart", async () => {
  const first = await KeyRing.open(store, root);
  expect(first.created.map(({ subject }) => subject.name)).toEqual(["Installation", "Audit"]);
  await lead();
  const made = await first.project(writer, "payments");
  const second = await KeyRing.open(store, root);
  expect(second.created).toEqual([]);
  const found = await second.project(writer, "payments");
  expect(found.current.id).toBe(made.current.id);
  expect(found.pointer.equals(made.pointer)).toBe(true);
  expect(found.fingerprint.equals(made.fingerprint)).toBe(true);
  expect(found.byId(made.current.id).equals(made.byId(made.current.id))).toBe(true);
  expect(second.auditKey.equals(first.auditKey)).toBe(true);
  expect(second.pkiFingerprint.equals(first.pkiFingerprint)).toBe(true);
  const project = [made.pointer, made.fingerprint, made.byId(made.current.id)];
  const keys = [...project, first.auditKey, first.pkiFingerprint].map((key) => key.export().toString("hex"));
  expect(new Set(keys).size).toBe(5);
});

test("replicas that start at once end with the same keys", async () => {
  const rings = await Promise.all(Array.from({ length: 5 }, () => KeyRing.open(store, root)));
  await lead();
  const projects = await Promise.all(rings.map((ring) => ring.project(writer, "payments")));
  expect(new Set(projects.map(({ current }) => current.id)).size).toBe(1);
  expect(new Set(rings.map(({ auditKey }) => auditKey.export().toString("hex"))).size).toBe(1);
  expect(rings.flatMap(({ created }) => created)).toHaveLength(2);
});

test("a project without keys has none until something is written", async () => {
  const ring = await KeyRing.open(store, root);
  await lead();
  expect(await ring.existingProject("payments")).toBeUndefined();
  await ring.project(writer, "payments");
  expect(await ring.existingProject("payments")).toBeDefined();
});

test("many first uses at once make one set of keys, on record once each", async () => {
  const ring = await KeyRing.open(store, root);
  await lead();
  const made = await Promise.all(Array.from({ length: 20 }, () => ring.project(writer, "payments")));
  expect(new Set(made.map(({ current }) => current.id)).size).toBe(1);
  expect(database.audit.filter(({ entry }) => entry.action === "KeyCreated")).toHaveLength(3);
});

test("the PKI has one key for the installation, made at first use and found again", async () => {
  const ring = await KeyRing.open(store, root);
  await expect(ring.pki({ epoch: 99n })).rejects.toThrow("epoch 99 is over");
  await lead();
  const made = await Promise.all(Array.from({ length: 20 }, () => ring.pki(writer)));
  const found = await (await KeyRing.open(store, root)).pki(writer);
  expect(new Set([...made, found].map(({ current }) => current.id)).size).toBe(1);
  const [first] = made;
  expect(first?.byId(found.current.id).equals(found.byId(found.current.id))).toBe(true);
  expect(() => found.byId("another")).toThrow("there is no Pki key another");
  expect(await store.load("Pki", "")).toHaveLength(1);
});

test("a failed creation is not remembered", async () => {
  const ring = await KeyRing.open(store, root);
  await lead();
  await expect(ring.project({ epoch: 99n }, "payments")).rejects.toThrow("epoch 99 is over");
  expect(await ring.project(writer, "payments")).toBeDefined();
});

test("another root key is named, with what to check", async () => {
  await KeyRing.open(store, root);
  const opening = KeyRing.open(store, rootKey("another"));
  await expect(opening).rejects.toMatchObject({ code: "KeyUnavailable" });
  await expect(opening).rejects.toThrow(
    /wrapped by root key root, which is missing: root key file another.key is another; check/,
  );
});

test("a key refuses to wrap more often than AES-GCM allows, and counts over restarts", async () => {
  await KeyRing.open(store, root);
  await lead();
  const [installation] = await store.load("Installation", "");
  if (installation === undefined) throw new Error("expected an installation key");
  const key = createSecretKey(randomBytes(32));
  const context = Buffer.from("context");
  const wrapped = await new WrappingKey(installation.id, key, store).wrap(writer, Buffer.from("k"), context);
  expect(open(key, wrapped, context)).toEqual(Buffer.from("k"));
  await store.reserveUses(writer, installation.id, Number(MOST_USES) - 3 * 65_536);
  const last = new WrappingKey(installation.id, key, store);
  await Promise.all(Array.from({ length: 10 }, () => last.wrap(writer, Buffer.from("k"), context)));
  await expect(
    new WrappingKey(installation.id, key, store).wrap(writer, Buffer.from("k"), context),
  ).rejects.toMatchObject({ code: "KeyUnavailable" });
});

test("keys do not print", async () => {
  const ring = await KeyRing.open(store, root);
  expect(JSON.stringify(ring)).not.toContain(ring.auditKey.export().toString("base64"));
  expect(JSON.stringify(ring.auditKey)).toBe("{}");
});

test("a project's sealing keys add up, and are found again by another replica", async () => {
  const ring = await KeyRing.open(store, root);
  await lead();
  expect(await ring.existingSealing("payments")).toBeUndefined();
  const made = await Promise.all(Array.from({ length: 5 }, () => ring.sealing(writer, "payments")));
  const [first] = made;
  if (first === undefined) throw new Error("expected a key");
  expect(new Set(made.map(({ current }) => current.id)).size).toBe(1);
  const project = await ring.project(writer, "payments");
  const [stored] = await store.load("Sealing", "payments");
  expect(stored).toMatchObject({ version: 1, wrappedBy: project.current.id });

  const added = {
    id: randomUUID(),
    purpose: "Sealing",
    scope: "payments",
    version: 2,
    wrappedBy: project.current.id,
  } as const;
  const wrapped = await project.current.wrap(writer, randomBytes(32), keyContext(ring.installationId, added));
  await store.insert(writer, { ...added, wrapped, createdAt: new Date() }, []);
  const other = await (await KeyRing.open(store, root)).existingSealing("payments");
  expect(other?.current.id).toBe(added.id);
  expect(other?.byId(first.current.id)?.publicKey).toBe(first.current.publicKey);
  expect(other?.byId(randomUUID())).toBeUndefined();
});

test("the installation signs with one key", async () => {
  const ring = await KeyRing.open(store, root);
  await lead();
  expect(await ring.existingSigning()).toBeUndefined();
  const made = await ring.signing(writer);
  const found = await (await KeyRing.open(store, root)).existingSigning();
  expect(found?.equals(made)).toBe(true);
  expect(made.asymmetricKeyType).toBe("ed25519");
});
