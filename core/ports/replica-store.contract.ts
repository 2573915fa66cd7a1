import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import type { NewItem, ReplicaState, ReplicaStore } from "./replica-store.ts";
import { auditEntry } from "./samples.ts";
import { Conflict, type Writer } from "./vault-store.ts";

export interface ReplicaStoreUnderTest {
  readonly replica: ReplicaStore;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

/** What every replica store does. `start` gives an empty one. */
export function replicaStoreContract(start: () => Promise<ReplicaStoreUnderTest>): void {
  let store: ReplicaStore;
  let leadership: Leadership;
  let audit: ReplicaStoreUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ replica: store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const stateOf = (revision: bigint, change: Partial<ReplicaState> = {}): ReplicaState => ({
    revision,
    gatewayId: randomUUID(),
    environment: "NPR",
    digest: randomBytes(32),
    syncedAt: undefined,
    mac: randomBytes(32),
    ...change,
  });
  const valued = (key: string): NewItem => ({
    key,
    body: JSON.stringify({ key, "': \n": "ü" }),
    values: { wrappedKey: randomBytes(60), keyId: randomUUID(), ciphertext: randomBytes(150) },
  });
  const grant: NewItem = { key: "project/payments", body: "{}" };
  const reads = async () =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;

  test("there is nothing, until something is written; it comes back as it was written, with its audit row", async () => {
    expect(await store.read(0n)).toBeUndefined();
    expect(await store.revision()).toBe(0n);
    const secret = valued("secret/payments/orders");
    const state = stateOf(1n, { syncedAt: new Date("2026-03-19T10:00:00.123Z") });
    await store.write(writer, state, { put: [secret, grant], remove: [] }, [auditEntry(randomUUID())]);
    const read = await store.read(0n);
    expect(read?.state).toEqual(state);
    expect([...(read?.items ?? [])].sort((a, b) => (a.key < b.key ? -1 : 1))).toEqual([
      { key: grant.key, body: "{}", valued: false },
      { key: secret.key, body: secret.body, valued: true },
    ]);
    expect(await store.values(secret.key)).toEqual({ body: secret.body, values: secret.values });
    expect(await store.values(grant.key)).toBeUndefined();
    expect(await store.values("secret/payments/other")).toBeUndefined();
    expect(await reads()).toBe(1);
  });

  test("only what was written since is told, and nothing of what is gone", async () => {
    const [one, two, three] = [valued("secret/n/one"), valued("secret/n/two"), valued("secret/n/three")];
    await store.write(writer, stateOf(1n), { put: [one, two, three], remove: [] }, []);
    const { values: _, ...without } = one;
    const state = stateOf(2n);
    await store.write(writer, state, { put: [without], remove: [two.key, "secret/n/none"] }, []);
    expect(await store.read(1n)).toEqual({ state, items: [{ key: one.key, body: one.body, valued: false }] });
    expect((await store.read(2n))?.items).toEqual([]);
    expect((await store.read(0n))?.items.map(({ key }) => key).sort()).toEqual([one.key, three.key]);
    expect(await store.values(one.key)).toBeUndefined();
    expect(await store.values(two.key)).toBeUndefined();
  });

  test("what does not follow the state that stands there changes nothing, and nothing is put on record", async () => {
    const state = stateOf(1n);
    await store.write(writer, state, { put: [grant], remove: [] }, []);
    for (const revision of [1n, 3n]) {
      const late = store.write(writer, stateOf(revision), { put: [valued("secret/n/late")], remove: [grant.key] }, [
        auditEntry(randomUUID()),
      ]);
      await expect(late).rejects.toThrow(Conflict);
    }
    expect(await store.read(0n)).toEqual({ state, items: [{ ...grant, valued: false }] });
    expect(await reads()).toBe(0);
  });

  test("a wipe leaves nothing but the number of the next revision", async () => {
    await store.write(writer, stateOf(1n), { put: [valued("secret/n/one"), grant], remove: [] }, []);
    await store.wipe(writer, [auditEntry(randomUUID())]);
    expect(await store.read(0n)).toBeUndefined();
    expect(await store.values("secret/n/one")).toBeUndefined();
    expect(await reads()).toBe(1);
    expect(await store.revision()).toBe(2n);
    const state = stateOf(3n);
    await store.write(writer, state, { put: [], remove: [] }, []);
    expect(await store.read(0n)).toEqual({ state, items: [] });
  });

  test("who does not lead any more neither writes nor wipes", async () => {
    const state = stateOf(1n);
    await store.write(writer, state, { put: [grant], remove: [] }, []);
    await leadership.acquireEpoch("next");
    await expect(store.write(writer, stateOf(2n), { put: [], remove: [grant.key] }, [])).rejects.toThrow(Fenced);
    await expect(store.wipe(writer, [])).rejects.toThrow(Fenced);
    expect(await store.read(0n)).toEqual({ state, items: [{ ...grant, valued: false }] });
  });
}
