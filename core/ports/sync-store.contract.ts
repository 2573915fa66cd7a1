import { randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry, digest, identity, nextVersion, softDeletion } from "./samples.ts";
import { NameTaken, type PulledItem, type SyncItem, type SyncStore } from "./sync-store.ts";
import { Conflict, type SecretRecord, type VaultStore, type Writer } from "./vault-store.ts";

const vaultUrl = "https://payments.vault.azure.net/";
/** As if it were read in two seconds. */
const LATER = -2_000;

export interface SyncStoreUnderTest {
  readonly sync: SyncStore;
  readonly vault: VaultStore;
  readonly leadership: Leadership;
}

/** What every sync store does. `start` gives an empty one. */
export function syncStoreContract(start: () => Promise<SyncStoreUnderTest>): void {
  let sync: SyncStore;
  let vault: VaultStore;
  let leadership: Leadership;
  let writer: Writer;

  beforeEach(async () => {
    ({ sync, vault, leadership } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const commit = async (name: string, namespaceUid = "uid-of-namespace"): Promise<SecretRecord> => {
    const of = { ...identity(name), namespaceUid };
    await vault.commitVersion(writer, nextVersion(of));
    const found = await vault.find(of);
    if (found === undefined) throw new Error("expected a stored secret");
    return found.record;
  };
  const intended = (secretId: string, entryName: string, ruleUid = "rule"): SyncItem => ({
    secretId,
    key: "password",
    vaultUrl,
    entryName,
    ruleUid,
    intent: { id: randomUUID(), version: 1, fingerprint: digest(), at: new Date("2026-03-01T10:00:00.123Z") },
  });
  const settled = ({ intent: _, ...item }: SyncItem): SyncItem => ({
    ...item,
    outcome: {
      version: 1,
      fingerprint: digest(),
      targetVersion: randomUUID().replaceAll("-", ""),
      targetUpdatedOn: new Date("2026-03-01T10:00:01Z"),
      settled: false,
    },
  });

  const pulledItem = (secretId: string, change: Partial<PulledItem> = {}): PulledItem => ({
    secretId,
    key: "password",
    ruleUid: "rule",
    vaultUrl,
    entryName: "one-password",
    fingerprint: "f".repeat(64),
    targetVersion: "1".repeat(32),
    targetUpdatedOn: new Date("2026-03-01T10:00:01Z"),
    settled: false,
    ...change,
  });

  test("sources are the entries of active secrets of exactly that namespace", async () => {
    const one = await commit("one");
    await commit("two");
    await commit("one", "of-a-recreated-namespace");
    const deleted = await commit("deleted");
    await vault.changePointer(writer, softDeletion(deleted, new Date(), new Date()));
    const { name: _, ...scope } = identity("");
    const all = await sync.sources(scope);
    expect(all.map(({ secretName, key }) => `${secretName}/${key}`)).toEqual([
      "one/password",
      "one/username",
      "two/password",
      "two/username",
    ]);
    expect(all[0]).toEqual({ ...one.entries[0], secretId: one.id, secretName: "one", version: 1 });
    expect(await sync.sources({ ...scope, names: ["two", "absent"] })).toHaveLength(2);
    expect(await sync.sources({ ...scope, names: [] })).toEqual([]);
    expect(await sync.sources({ ...scope, project: "other" })).toEqual([]);
  });

  test("an intent becomes an outcome", async () => {
    const { id } = await commit("one");
    const item = intended(id, "one-password");
    await sync.recordIntent(writer, item);
    expect(await sync.items("rule")).toEqual([item]);
    const done = settled(item);
    await sync.recordOutcome(writer, done, [auditEntry(id, undefined, "VaultEntryWritten")]);
    expect(await sync.items("rule")).toEqual([done]);
    const again = intended(id, "one-password");
    await sync.recordIntent(writer, again);
    expect(await sync.items("rule")).toEqual([{ ...again, outcome: done.outcome }]);
  });

  test("an agreement claims the name, ends an intent, and leaves what another holds", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    const agreed = settled(intended(one.id, "shared"));
    await sync.recordAgreement(writer, agreed, 0);
    expect(await sync.items("rule")).toEqual([agreed]);
    await sync.recordIntent(writer, intended(one.id, "shared"));
    const later = { ...settled(intended(one.id, "shared")), ruleUid: "successor" };
    await sync.recordAgreement(writer, later, 0);
    expect(await sync.items("successor")).toEqual([later]);
    const taken = sync.recordAgreement(writer, settled(intended(two.id, "SHARED")), 0);
    await expect(taken).rejects.toThrow(NameTaken);
    expect(await sync.holders(vaultUrl, ["shared"])).toEqual([later]);
  });

  test("what is about to be taken over is told until there is an outcome", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    const { intent: _, ...place } = intended(one.id, "shared");
    const taking = { fingerprint: digest(), clock: 1_767_225_600_123 };
    await sync.recordTaking(writer, { ...place, taking });
    expect(await sync.items("rule")).toEqual([{ ...place, taking }]);
    const meant = intended(one.id, "shared");
    await sync.recordIntent(writer, meant);
    expect(await sync.items("rule")).toEqual([{ ...meant, taking }]);
    const done = settled(meant);
    await sync.recordOutcome(writer, done, []);
    expect(await sync.items("rule")).toEqual([done]);
    await sync.recordTaking(writer, { ...place, taking });
    expect(await sync.items("rule")).toEqual([{ ...done, taking }]);
    await sync.recordAgreement(writer, done, 0);
    expect(await sync.items("rule")).toEqual([done]);
    const taken = sync.recordTaking(writer, { ...place, secretId: two.id, taking });
    await expect(taken).rejects.toThrow(NameTaken);
  });

  test("the clock of an item never goes back", async () => {
    const { id } = await commit("one");
    const clockOf = async () => (await sync.items("rule"))[0]?.outcome?.clock;
    const agreed = settled(intended(id, "one"));
    const at = (clock?: number): SyncItem => ({
      ...agreed,
      ...(agreed.outcome && { outcome: { ...agreed.outcome, ...(clock !== undefined && { clock }) } }),
    });
    await sync.recordAgreement(writer, at(), 0);
    expect(await clockOf()).toBeUndefined();
    const [first, later] = [1_767_225_600_123, 1_767_225_700_000];
    await sync.recordAgreement(writer, at(first), 0);
    expect(await clockOf()).toBe(first);
    await sync.recordAgreement(writer, at(), 0);
    await sync.recordAgreement(writer, at(first - 1), 0);
    expect(await clockOf()).toBe(first);
    await sync.recordIntent(writer, intended(id, "one"));
    expect(await clockOf()).toBe(first);
    await sync.recordOutcome(writer, at(later), []);
    expect(await clockOf()).toBe(later);
    await sync.recordIntent(writer, intended(id, "one"));
    await sync.recordOutcome(writer, at(first), []);
    expect(await clockOf()).toBe(later);
  });

  test("what was read again, unchanged, a second after it was recorded is settled, and nothing else", async () => {
    const { id } = await commit("one");
    const agreed = settled(intended(id, "one"));
    const [item] = [pulledItem(id)];
    const isSettled = async () => [
      (await sync.items("rule"))[0]?.outcome?.settled,
      (await sync.pulled("rule", []))[0]?.settled,
    ];
    const record = async (readMsAgo: number, targetVersion = "1".repeat(32)) => {
      const outcome = agreed.outcome && { ...agreed.outcome, targetVersion };
      await sync.recordAgreement(writer, { ...agreed, ...(outcome && { outcome }) }, readMsAgo);
      await sync.recordPulled(writer, [{ ...item, targetVersion }], readMsAgo);
    };
    await record(LATER);
    expect(await isSettled()).toEqual([false, false]);
    await record(0);
    expect(await isSettled()).toEqual([false, false]);
    await record(LATER);
    expect(await isSettled()).toEqual([true, true]);
    await record(LATER, "2".repeat(32));
    expect(await isSettled()).toEqual([false, false]);
    // By the target's own clock.
    for (const said of [true, false]) {
      const outcome = agreed.outcome && { ...agreed.outcome, settled: said };
      await sync.recordAgreement(writer, { ...agreed, ...(outcome && { outcome }) }, undefined);
      expect((await isSettled())[0]).toBe(said);
    }
  });

  test("a name belongs to one secret and key, whatever its case", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    await sync.recordIntent(writer, intended(one.id, "Shared"));
    const taken = sync.recordIntent(writer, intended(two.id, "SHARED", "other-rule"));
    await expect(taken).rejects.toThrow(NameTaken);
    await expect(taken).rejects.toMatchObject({ holder: { secretId: one.id, key: "password", ruleUid: "rule" } });
    expect(await sync.holders(vaultUrl, ["sHared", "absent"])).toMatchObject([{ secretId: one.id }]);
    expect(await sync.holders("https://other.vault.azure.net/", ["shared"])).toEqual([]);
  });

  test("a rule takes over what another rule wrote for the same secret and key", async () => {
    const { id } = await commit("one");
    const done = settled(intended(id, "one-password"));
    await sync.recordIntent(writer, intended(id, "one-password"));
    await sync.recordOutcome(writer, done, []);
    await sync.recordIntent(writer, intended(id, "one-password", "successor"));
    expect(await sync.items("rule")).toEqual([]);
    expect(await sync.items("successor")).toMatchObject([{ outcome: done.outcome }]);
  });

  test("the claim of a purged secret is void, and what it wrote is forgotten", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    await sync.recordIntent(writer, intended(one.id, "shared"));
    await sync.recordOutcome(writer, settled(intended(one.id, "shared")), []);
    await vault.purge(writer, one.id, one.generation, []);
    expect(await sync.holders(vaultUrl, ["shared"])).toEqual([]);
    const item = intended(two.id, "shared");
    await sync.recordIntent(writer, item);
    expect(await sync.holders(vaultUrl, ["shared"])).toEqual([item]);
  });

  test("an outcome without the claim is a conflict", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    await expect(sync.recordOutcome(writer, settled(intended(one.id, "one")), [])).rejects.toThrow(Conflict);
    await sync.recordIntent(writer, intended(one.id, "one"));
    await expect(sync.recordOutcome(writer, settled(intended(two.id, "one")), [])).rejects.toThrow(Conflict);
  });

  test("a rule forgets only its own items", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    const [mine, theirs] = [intended(one.id, "one"), intended(two.id, "two", "other-rule")];
    await sync.recordIntent(writer, mine);
    await sync.recordIntent(writer, theirs);
    await sync.forget(writer, "rule", [mine, theirs]);
    expect(await sync.items("rule")).toEqual([]);
    expect(await sync.items("other-rule")).toEqual([theirs]);
  });

  test("what was pulled is remembered for each entry once, whichever rule it was", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    const [mine, theirs] = [pulledItem(one.id), pulledItem(two.id, { ruleUid: "other-rule" })];
    await sync.recordPulled(writer, [mine, theirs], 0);
    expect(await sync.pulled("rule", [])).toEqual([mine]);
    expect(await sync.pulled("rule", [two.id])).toEqual(
      [mine, theirs].sort((a, b) => (a.secretId < b.secretId ? -1 : 1)),
    );
    const newer = { ...mine, fingerprint: digest(), targetVersion: "2".repeat(32) };
    await sync.recordPulled(writer, [newer], 0);
    expect(await sync.pulled("rule", [])).toEqual([newer]);
    await sync.recordPulled(writer, [{ ...newer, ruleUid: "successor" }], 0);
    expect(await sync.pulled("rule", [])).toEqual([]);
    await sync.forgetPulled(writer, "rule", [mine, theirs]);
    await sync.forgetPulled(writer, "successor", [mine]);
    expect(await sync.pulled("successor", [one.id, two.id])).toEqual([theirs]);
  });

  test("nothing is remembered of a secret that was purged", async () => {
    const [one, two] = [await commit("one"), await commit("two")];
    await sync.recordPulled(writer, [pulledItem(one.id)], 0);
    await vault.purge(writer, one.id, one.generation, []);
    await sync.recordPulled(writer, [pulledItem(one.id), pulledItem(two.id)], 0);
    expect(await sync.pulled("rule", [one.id])).toEqual([pulledItem(two.id)]);
  });

  describe("evidence of deletion", () => {
    /** A secret of which a rule remembers the entry `password` in a vault. */
    const remembered = async (name: string): Promise<{ readonly record: SecretRecord; readonly item: SyncItem }> => {
      const record = await commit(name);
      await sync.recordIntent(writer, intended(record.id, name));
      const item = settled(intended(record.id, name));
      await sync.recordOutcome(writer, item, []);
      return { record, item };
    };
    const next = async (record: SecretRecord, keys: readonly string[]): Promise<SecretRecord> => {
      const version = nextVersion(record.identity, record);
      const [sample] = version.sealed.entries;
      if (sample === undefined) throw new Error("expected an entry");
      const entries = keys.map((key) => ({ ...sample, key }));
      await vault.commitVersion(writer, { ...version, sealed: { ...version.sealed, entries } });
      const found = await vault.find(record.identity);
      if (found === undefined) throw new Error("expected a stored secret");
      return found.record;
    };
    const remove = async (record: SecretRecord, tombstone: boolean): Promise<SecretRecord> => {
      await vault.changePointer(writer, { ...softDeletion(record, new Date(), new Date()), tombstone });
      const found = await vault.find(record.identity);
      if (found === undefined) throw new Error("expected a soft-deleted secret");
      return found.record;
    };
    const evidence = async ({ id }: SecretRecord) =>
      (await sync.endings([id])).flatMap(({ tombstones }) => tombstones.map(({ key = "the Secret" }) => key));
    const deletion = (item: SyncItem) => sync.recordDeletion(writer, item, [auditEntry(item.secretId)]);

    test("a secret that stands has none", async () => {
      const { record, item } = await remembered("one");
      expect(await sync.endings([record.id, record.id])).toEqual([
        {
          secretId: record.id,
          secretName: "one",
          state: "Active",
          keys: ["password", "username"],
          tombstones: [],
        },
      ]);
      await expect(deletion(item)).rejects.toThrow(Conflict);
      expect(await sync.endings([])).toEqual([]);
    });

    test("one that a person deleted has it, also when it is purged later or at once", async () => {
      const [one, two] = [await remembered("one"), await remembered("two")];
      const gone = await remove(one.record, true);
      expect(await sync.endings([one.record.id])).toMatchObject([{ state: "SoftDeleted", secretName: "one" }]);
      await deletion(one.item);
      await vault.purge(writer, gone.id, gone.generation, []);
      await vault.purge(writer, two.record.id, two.record.generation, [], { tombstone: true });
      for (const { record, item } of [one, two]) {
        const [ending] = await sync.endings([record.id]);
        expect(ending).toEqual({
          secretId: record.id,
          secretName: record.identity.name,
          keys: [],
          tombstones: [{ age: expect.any(Number) }],
        });
        await deletion(item);
      }
    });

    test("one that went for another reason has none", async () => {
      const { record, item } = await remembered("one");
      const gone = await remove(record, false);
      expect(await evidence(record)).toEqual([]);
      await expect(deletion(item)).rejects.toThrow(Conflict);
      await vault.purge(writer, gone.id, gone.generation, []);
      expect(await sync.endings([record.id])).toEqual([{ secretId: record.id, keys: [], tombstones: [] }]);
      await expect(deletion(item)).rejects.toThrow(Conflict);
    });

    test("coming back refutes it, with a new version or without", async () => {
      const { record, item } = await remembered("one");
      const again = await next(await remove(record, true), ["password", "username"]);
      expect(await evidence(record)).toEqual([]);
      const gone = await remove(again, true);
      expect(await evidence(record)).toEqual(["the Secret"]);
      const back = { ...softDeletion(gone, new Date(), new Date()), state: "Active" as const };
      const { deletedAt: _, purgeAfter: _never, ...change } = back;
      await vault.changePointer(writer, change);
      expect(await evidence(record)).toEqual([]);
      await expect(deletion(item)).rejects.toThrow(Conflict);
    });

    test("a key that a version no longer has leaves it, until one has it again", async () => {
      const { record, item } = await remembered("one");
      const without = await next(record, ["username"]);
      expect(await sync.endings([record.id])).toMatchObject([
        { keys: ["username"], tombstones: [{ key: "password" }] },
      ]);
      await deletion(item);
      const still = await next(without, ["username"]);
      expect(await evidence(record)).toEqual(["password"]);
      await next(still, ["password", "username"]);
      expect(await evidence(record)).toEqual([]);
      await expect(deletion(item)).rejects.toThrow(Conflict);
    });

    test("that an entry is being deleted is known once, and ends when it is written or forgotten", async () => {
      const { record, item } = await remembered("one");
      const without = await next(record, ["username"]);
      await expect(deletion({ ...item, ruleUid: "other-rule" })).rejects.toThrow(Conflict);
      await deletion(item);
      const [begun] = await sync.items("rule");
      expect(begun).toEqual({ ...item, deletingAt: expect.any(Date) });
      await deletion(item);
      expect(await sync.items("rule")).toEqual([begun]);
      await next(without, ["password"]);
      const again = intended(record.id, "one");
      await sync.recordIntent(writer, again);
      expect(await sync.items("rule")).toEqual([{ ...again, outcome: item.outcome }]);
      await sync.forget(writer, "rule", [item]);
      expect(await sync.items("rule")).toEqual([]);
    });

    test("what is remembered of a rule is what was recorded last", async () => {
      expect(await sync.rule("rule")).toBeUndefined();
      await sync.recordRule(writer, "rule", { scope: "a", approved: [] }, []);
      expect(await sync.rule("rule")).toEqual({ scope: "a", approved: [] });
      const record = { scope: "b", release: "c", approved: ["d e/f g"] };
      await sync.recordRule(writer, "rule", record, [auditEntry("any")]);
      expect(await sync.rule("rule")).toEqual(record);
      expect(await sync.rule("other-rule")).toBeUndefined();
    });

    test("a stale writer records none of it", async () => {
      const { record, item } = await remembered("one");
      await next(record, ["username"]);
      await leadership.acquireEpoch("another");
      await expect(deletion(item)).rejects.toThrow(Fenced);
      await expect(sync.recordRule(writer, "rule", { scope: "a", approved: [] }, [])).rejects.toThrow(Fenced);
      expect(await sync.items("rule")).toEqual([item]);
      expect(await sync.rule("rule")).toBeUndefined();
    });
  });

  test("a stale writer changes nothing", async () => {
    const { id } = await commit("one");
    const item = intended(id, "one");
    await sync.recordPulled(writer, [pulledItem(id)], 0);
    await sync.recordIntent(writer, item);
    await leadership.acquireEpoch("another");
    await expect(sync.recordIntent(writer, intended(id, "two"))).rejects.toThrow(Fenced);
    await expect(sync.recordAgreement(writer, settled(intended(id, "two")), 0)).rejects.toThrow(Fenced);
    const taking = { fingerprint: digest(), clock: 1 };
    await expect(sync.recordTaking(writer, { ...settled(intended(id, "two")), taking })).rejects.toThrow(Fenced);
    await expect(sync.recordPulled(writer, [pulledItem(id, { fingerprint: "e".repeat(64) })], 0)).rejects.toThrow(
      Fenced,
    );
    await expect(sync.forgetPulled(writer, "rule", [pulledItem(id)])).rejects.toThrow(Fenced);
    expect(await sync.pulled("rule", [])).toEqual([pulledItem(id)]);
    await expect(sync.recordOutcome(writer, settled(item), [])).rejects.toThrow(Fenced);
    await expect(sync.forget(writer, "rule", [item])).rejects.toThrow(Fenced);
    expect(await sync.items("rule")).toEqual([item]);
  });
}
