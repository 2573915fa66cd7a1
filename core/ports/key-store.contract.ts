import { randomBytes, randomUUID } from "node:crypto";
import { Fenced, Unavailable } from "../errors.ts";
import type { KeyPurpose, KeyStore, WrappedKey } from "./key-store.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";
import { UNLED, type Writer } from "./vault-store.ts";

const wrappedKey = (purpose: KeyPurpose, scope: string, version = 1): WrappedKey => ({
  id: randomUUID(),
  purpose,
  scope,
  version,
  wrappedBy: "root",
  wrapped: randomBytes(60),
  createdAt: new Date(),
});

/** What every key store does. `start` gives one that nobody leads yet. */
export function keyStoreContract(start: () => Promise<{ store: KeyStore; leadership: Leadership }>): void {
  let store: KeyStore;
  let leadership: Leadership;
  let writer: Writer;

  beforeEach(async () => {
    ({ store, leadership } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  test("the installation has one id", async () => {
    expect(await store.installationId()).toMatch(/^[0-9a-f-]{36}$/);
    expect(await store.installationId()).toBe(await store.installationId());
  });

  test("keys are found by purpose and scope, oldest version first", async () => {
    const [second, first] = [wrappedKey("Project", "payments", 2), wrappedKey("Project", "payments", 1)];
    await store.insert(writer, second, [auditEntry(second.id)]);
    await store.insert(writer, first, []);
    await store.insert(writer, wrappedKey("Project", "orders"), []);
    await store.insert(writer, wrappedKey("Fingerprint", "payments"), []);
    const loaded = await store.load("Project", "payments");
    expect(loaded.map(({ createdAt: _, ...key }) => key)).toEqual(
      [first, second].map(({ createdAt: _, ...key }) => key),
    );
    expect(await store.load("Project", "absent")).toEqual([]);
  });

  test("of many who insert at once one wins, and all get the winner's key", async () => {
    const keys = Array.from({ length: 8 }, () => wrappedKey("Pointer", "payments"));
    const standing = await Promise.all(keys.map((key) => store.insert(writer, key, [])));
    expect(new Set(standing.map(({ id }) => id)).size).toBe(1);
    expect(await store.load("Pointer", "payments")).toHaveLength(1);
  });

  test("uses add up", async () => {
    const key = await store.insert(writer, wrappedKey("Project", "payments"), []);
    expect(await store.reserveUses(writer, key.id, 1_000)).toBe(1_000n);
    expect(await store.reserveUses(writer, key.id, 500)).toBe(1_500n);
    expect(await store.reserveUses(UNLED, key.id, 500)).toBe(2_000n);
    await expect(store.reserveUses(writer, randomUUID(), 1)).rejects.toThrow(Unavailable);
  });

  test("a stale writer neither inserts nor reserves", async () => {
    const key = await store.insert(writer, wrappedKey("Project", "payments"), []);
    await leadership.acquireEpoch("another");
    await expect(store.insert(writer, wrappedKey("Project", "orders"), [])).rejects.toThrow(Fenced);
    await expect(store.reserveUses(writer, key.id, 1)).rejects.toThrow(Fenced);
    expect(await store.load("Project", "orders")).toEqual([]);
  });
}
