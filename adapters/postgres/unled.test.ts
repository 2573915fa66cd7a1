/** Writers that do not lead beside the one that does, on one database. */
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import { Conflict, type SecretRecord, UNLED } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { SecretEntry } from "../../crds/secret.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let leader: TestInstallation;
let replicas: readonly TestInstallation[];

beforeAll(async () => {
  server = await startServer();
  const database = await server.database();
  leader = await openInstallation(database);
  replicas = await Promise.all([1, 2].map(() => openInstallation(database, leader.root)));
});
afterAll(async () => {
  for (const { stores } of [leader, ...replicas]) await stores.close();
  await server.stop();
});

/** As every writer does: looks again when somebody was faster. */
async function untilWritten<T>(vault: Vault, attempt: (seen: SecretRecord | undefined) => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt(await vault.describe(identity("one")));
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
    }
  }
}

test("of fifty puts at once, while the leader stores and changes, no version is lost or made twice", async () => {
  let epoch = await leader.stores.leadership.acquireEpoch("first");
  await leader.vault.prepareProject({ epoch }, "payments");
  const keys = Array.from({ length: 50 }, (_, index) => `k${index}`);
  const entries = (user: string): readonly SecretEntry[] => [
    { key: "user", literal: user },
    { key: "password", generate: { kind: "Password" } },
    ...keys.map((key) => ({ key, external: {} })),
    { key: "both", template: "{{ k0 }}:{{ k49 }}" },
  ];
  const request = {
    identity: identity("one"),
    entries: entries("before"),
    lifecycle: { ...lifecycle, keepVersions: 1_000 },
    actor,
  };
  const store = (user: string) =>
    untilWritten(leader.vault, (seen) =>
      leader.vault.store({ epoch }, { ...request, entries: entries(user), seen, sources: new Map() }),
    );
  await store("before");

  const puts = keys.map((key, index) => {
    const vault = (replicas[index % 2] ?? leader).vault;
    const values = new Map([[key, new Sensitive(`value of ${key}`)]]);
    return untilWritten(vault, (seen) => vault.put(UNLED, { ...request, readers: undefined, seen, values }));
  });
  // Another leader takes over meanwhile, and acts on a manifest that the others have not seen: they notice neither.
  epoch = await leader.stores.leadership.acquireEpoch("second");
  const written = await Promise.all([...puts, store("after")]);

  const record = await leader.vault.describe(identity("one"));
  if (record === undefined) throw new Error("expected a record");
  expect(new Set(written.slice(0, 50).map((each) => each.record.currentVersion)).size).toBe(50);
  expect([record.currentVersion, record.generation]).toEqual([52, 52n]);
  const { values } = await leader.vault.open(record, { actor, purpose: "Test" });
  expect(keys.map((key) => values.get(key)?.revealText())).toEqual(keys.map((key) => `value of ${key}`));
  expect(values.get("user")?.revealText()).toBe("after");
  expect(values.get("both")?.revealText()).toBe("value of k0:value of k49");
  const versions = await leader.vault.versions(record);
  expect(versions.map(({ version }) => version)).toEqual(Array.from({ length: 52 }, (_, index) => 52 - index));
  const outbox = await leader.stores.vault.readOutbox(undefined, 100);
  expect([outbox.length, outbox.filter(({ unled }) => unled).length]).toEqual([52, 50]);
  expect(await leader.stores.audit.verify()).toMatchObject({ ok: true });
});
