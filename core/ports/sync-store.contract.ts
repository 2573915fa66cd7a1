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

  test("a stale writer changes nothing", async () => {
    const { id } = await commit("one");
    const item = intended(id, "one");
    await sync.recordPulled(writer, [pulledItem(id)], 0);
    await sync.recordIntent(writer, item);
    await leadership.acquireEpoch("another");
    await expect(sync.recordIntent(writer, intended(id, "two"))).rejects.toThrow(Fenced);
    await expect(sync.recordAgreement(writer, settled(intended(id, "two")), 0)).rejects.toThrow(Fenced);
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
