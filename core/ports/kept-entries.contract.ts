import { randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import { EntryTaken, type EntryWrite, type KeptEntries, type KeptEntry } from "./kept-entries.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry, identity, nextVersion, softDeletion } from "./samples.ts";
import { Conflict, type NewVersion, type SecretRecord, UNLED, type VaultStore, type Writer } from "./vault-store.ts";

export interface KeptEntriesUnderTest {
  readonly entries: KeptEntries;
  readonly store: VaultStore;
  readonly leadership: Leadership;
}

const VAULT = "https://kept.vault.azure.net/";
const LONG_MS = 600_000;
const versions = new Map([["password", "1".repeat(32)]]);

/** What every store of kept entries does, beside the vault store that it stands with. */
export function keptEntriesContract(start: () => Promise<KeptEntriesUnderTest>): void {
  let entries: KeptEntries;
  let store: VaultStore;
  let leadership: Leadership;
  let writer: Writer;

  beforeEach(async () => {
    ({ entries, store, leadership } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const writeOf = (next: Pick<NewVersion, "id">, name: string, change: Partial<EntryWrite> = {}): EntryWrite => ({
    id: randomUUID(),
    secretId: next.id,
    identity: identity(name),
    owner: `owner of ${name}`,
    vaultUrl: VAULT,
    entries: [
      { key: "password", entryName: `${name}--Password` },
      { key: "username", entryName: `${name}--username` },
    ],
    leaseMs: LONG_MS,
    ...change,
  });
  const find = async (name: string): Promise<SecretRecord> => {
    const found = await store.find(identity(name));
    if (found === undefined) throw new Error("expected a stored secret");
    return found.record;
  };
  /** Stores a version of which the vault has the values. */
  const keep = async (name: string, seen?: SecretRecord): Promise<SecretRecord> => {
    const next = nextVersion(identity(name), seen);
    const write = writeOf(next, name);
    await entries.begin(writer, write);
    await store.commitVersion(writer, { ...next, write: { id: write.id, vaultUrl: VAULT, versions } });
    return find(name);
  };
  const unsettled = async (): Promise<readonly KeptEntry[]> => entries.unsettled(writer, 100);
  const wanted = async () => (await unsettled()).map(({ entryName, wanted: want }) => `${want} ${entryName}`).sort();
  const settleAll = async (): Promise<void> => {
    for (const entry of await unsettled()) {
      const takeId = randomUUID();
      expect(await entries.take(writer, entry, takeId, LONG_MS)).toBe(true);
      await entries.settled(writer, entry, takeId);
    }
  };

  test("a committed write is over, and the record says which vault has the values, for ever", async () => {
    const first = await keep("one");
    expect(first.vaultUrl).toBe(VAULT);
    expect(await unsettled()).toEqual([]);
    expect((await keep("one", first)).vaultUrl).toBe(VAULT);
    const several = nextVersion(identity("one"), await find("one"));
    await store.commitVersions(writer, [{ ...several, write: { id: undefined, vaultUrl: VAULT, versions } }]);
    expect((await find("one")).vaultUrl).toBe(VAULT);
  });

  test("a secret whose values are in PostgreSQL names no vault", async () => {
    await store.commitVersion(writer, nextVersion(identity("plain")));
    expect(await find("plain")).not.toHaveProperty("vaultUrl");
  });

  test("a name belongs to one secret and key, whatever its case", async () => {
    await keep("one");
    const other = nextVersion(identity("two"));
    const taken = (entryName: string, key = "password") =>
      entries.begin(writer, writeOf(other, "two", { entries: [{ key, entryName }] })).catch((error: unknown) => error);
    const refused = await taken("ONE--password");
    expect(refused).toBeInstanceOf(EntryTaken);
    expect(refused).toMatchObject({ holder: { key: "password", secretId: (await find("one")).id } });
    const { id } = await find("one");
    const otherKey = writeOf({ id }, "one", { entries: [{ key: "pass.word", entryName: "one--password" }] });
    await expect(entries.begin(writer, otherKey)).rejects.toBeInstanceOf(EntryTaken);
    expect(await taken("two--password")).toBeUndefined();
    const elsewhere = writeOf(nextVersion(identity("three")), "three", {
      vaultUrl: "https://other.vault.azure.net/",
      entries: [{ key: "password", entryName: "one--password" }],
    });
    await entries.begin(writer, elsewhere);
  });

  test("nobody else writes meanwhile, but for a leader after another one", async () => {
    const next = nextVersion(identity("one"));
    const write = writeOf(next, "one");
    await entries.begin(writer, write);
    const other = { ...writeOf(next, "one"), entries: [{ key: "more", entryName: "one--more" }] };
    await expect(entries.begin(writer, other)).rejects.toBeInstanceOf(Conflict);
    await expect(entries.begin(UNLED, other)).rejects.toBeInstanceOf(Conflict);
    expect(await unsettled()).toEqual([]);
    const successor = { epoch: await leadership.acquireEpoch("successor") };
    await expect(entries.begin(writer, writeOf(next, "one"))).rejects.toBeInstanceOf(Fenced);
    const taken = writeOf(next, "one");
    await entries.begin(successor, taken);
    await expect(
      store.commitVersion(UNLED, { ...next, write: { id: write.id, vaultUrl: VAULT, versions } }),
    ).rejects.toBeInstanceOf(Conflict);
    expect(await store.find(identity("one"))).toBeUndefined();
    await store.commitVersion(successor, { ...next, write: { id: taken.id, vaultUrl: VAULT, versions } });
    expect((await find("one")).currentVersion).toBe(1);
  });

  test("a leader waits for the end of what somebody writes who does not lead", async () => {
    const seen = await keep("one");
    const unled = writeOf(seen, "one");
    await entries.begin(UNLED, unled);
    await expect(entries.begin(writer, writeOf(seen, "one"))).rejects.toBeInstanceOf(Conflict);
    const successor = { epoch: await leadership.acquireEpoch("successor") };
    await expect(entries.begin(successor, writeOf(seen, "one"))).rejects.toBeInstanceOf(Conflict);
    await entries.release(unled.id, false);
    await entries.begin(successor, writeOf(seen, "one"));
  });

  test("what was given up is free, and on record where the vault may have been changed", async () => {
    const never = nextVersion(identity("never"));
    const first = writeOf(never, "never");
    await entries.begin(writer, first);
    await entries.release(first.id, false);
    expect(await unsettled()).toEqual([]);
    const stranger = { ...writeOf(nextVersion(identity("x")), "x"), entries: first.entries };
    await entries.begin(writer, stranger);
    await entries.release(stranger.id, true);
    expect(await unsettled()).toMatchObject(
      first.entries.map((entry) => ({ ...entry, writeId: stranger.id, wanted: "Kept", identity: identity("x") })),
    );
    const again = writeOf(nextVersion(identity("x")), "x", { entries: first.entries });
    await entries.begin(UNLED, again);
    expect(await unsettled()).toEqual([]);
  });

  const purge = async (name: string): Promise<void> => {
    const { id, generation } = await find(name);
    await store.purge(writer, id, generation, [auditEntry(id, generation + 1n, "SecretPurged")]);
  };

  test("one that is stored anew leaves to be purged what it does not have itself", async () => {
    await keep("one");
    await purge("one");
    const next = nextVersion(identity("one"));
    const write = writeOf(next, "one", { entries: [{ key: "password", entryName: "one--Password" }] });
    await entries.begin(writer, write);
    expect(await wanted()).toEqual(["Purged one--username"]);
    await store.commitVersion(writer, { ...next, write: { id: write.id, vaultUrl: VAULT, versions } });
    expect(await wanted()).toEqual(["Purged one--username"]);
    await settleAll();
    expect(await wanted()).toEqual([]);
    await purge("one");
    expect(await wanted()).toEqual(["Purged one--Password"]);
  });

  test.each([false, true])("a purge outlives one stored anew that was given up (touched: %s)", async (touched) => {
    await keep("one");
    await purge("one");
    const write = writeOf(nextVersion(identity("one")), "one");
    await entries.begin(writer, write);
    await entries.release(write.id, touched);
    expect(await wanted()).toEqual(["Purged one--Password", "Purged one--username"]);
    await settleAll();
    const free = { entries: [{ key: "k", entryName: "one--password" }] };
    await entries.begin(writer, writeOf(nextVersion(identity("two")), "two", free));
  });

  test("of two that store a first version the second claims nothing", async () => {
    await keep("one");
    const late = writeOf(nextVersion(identity("one")), "one", { entries: [{ key: "more", entryName: "one--more" }] });
    await expect(entries.begin(UNLED, late)).rejects.toBeInstanceOf(Conflict);
    await expect(entries.begin(writer, writeOf(nextVersion(identity("one")), "one"))).rejects.toBeInstanceOf(Conflict);
    await entries.release(late.id, false);
    expect(await unsettled()).toEqual([]);
    await entries.begin(writer, writeOf(nextVersion(identity("two")), "two", { entries: late.entries }));
    await purge("one");
    expect(await wanted()).toEqual(["Purged one--Password", "Purged one--username"]);
  });

  test("the state of the secret says what is wanted of its entries", async () => {
    const both = (want: string) => [`${want} one--Password`, `${want} one--username`];
    const seen = await keep("one");
    await store.changePointer(writer, softDeletion(seen, new Date(), new Date()));
    expect(await wanted()).toEqual(both("Deleted"));
    expect((await unsettled()).map(({ key, targetVersion }) => [key, targetVersion]).sort()).toEqual([
      ["password", "1".repeat(32)],
      ["username", undefined],
    ]);
    await settleAll();
    expect(await wanted()).toEqual([]);
    const deleted = await find("one");
    expect(deleted.vaultUrl).toBe(VAULT);
    const { purgeAfter: _, deletedAt: __, ...recovery } = softDeletion(deleted, new Date(), new Date());
    await store.changePointer(writer, { ...recovery, state: "Active" });
    expect(await wanted()).toEqual(both("Kept"));
    await settleAll();
    const recovered = await find("one");
    const audit = [auditEntry(recovered.id, recovered.generation + 1n, "SecretPurged")];
    await store.purge(writer, recovered.id, recovered.generation, audit);
    expect(await wanted()).toEqual(both("Purged"));
    await settleAll();
    const free = { entries: [{ key: "k", entryName: "one--password" }] };
    await entries.begin(writer, writeOf(nextVersion(identity("two")), "two", free));
  });

  test("every vault has its turn, and what is excepted has none", async () => {
    const other = "https://another.vault.azure.net/";
    for (const [name, vaultUrl] of [
      ["one", VAULT],
      ["two", VAULT],
      ["three", other],
    ] as const) {
      const write = writeOf(nextVersion(identity(name)), name, { vaultUrl });
      await entries.begin(writer, write);
      await entries.release(write.id, true);
    }
    const vaults = (await entries.unsettled(writer, 2)).map(({ vaultUrl }) => vaultUrl);
    expect(vaults.sort()).toEqual([other, VAULT].sort());
    const left = await entries.unsettled(writer, 100, [VAULT]);
    expect(left.map(({ vaultUrl }) => vaultUrl)).toEqual([other, other]);
  });

  test("what is taken is left alone by others, and what changed meanwhile is settled another time", async () => {
    const seen = await keep("one");
    await store.changePointer(writer, softDeletion(seen, new Date(), new Date()));
    const [entry] = await unsettled();
    if (entry === undefined) throw new Error("nothing is unsettled");
    const takeId = randomUUID();
    expect(await entries.take(writer, entry, takeId, LONG_MS)).toBe(true);
    expect(await entries.take(writer, entry, randomUUID(), LONG_MS)).toBe(false);
    await expect(entries.begin(UNLED, writeOf(seen, "one"))).rejects.toBeInstanceOf(Conflict);
    const deleted = await find("one");
    const audit = [auditEntry(deleted.id, deleted.generation + 1n, "SecretPurged")];
    await store.purge(writer, deleted.id, deleted.generation, audit);
    await entries.settled(writer, entry, takeId);
    expect(await wanted()).toEqual(["Purged one--Password", "Purged one--username"]);
    const stale = writer;
    await leadership.acquireEpoch("successor");
    await expect(entries.take(stale, entry, randomUUID(), LONG_MS)).rejects.toBeInstanceOf(Fenced);
  });

  test("of those who come at the same moment, to write and to settle, one has the right", async () => {
    const seen = await keep("one");
    await store.changePointer(writer, softDeletion(seen, new Date(), new Date()));
    const [entry] = await unsettled();
    if (entry === undefined) throw new Error("nothing is unsettled");
    for (let round = 0; round < 40; round += 1) {
      const takeId = randomUUID();
      const write = writeOf(seen, "one");
      const [begun, taken] = await Promise.allSettled([
        entries.begin(UNLED, write),
        entries.take(writer, entry, takeId, LONG_MS),
      ]);
      expect(begun.status === "fulfilled").toBe(taken.status === "fulfilled" && !taken.value);
      await entries.release(write.id, true);
      await entries.release(takeId, true);
    }
  });
}
