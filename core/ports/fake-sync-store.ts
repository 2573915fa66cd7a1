import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { FakeVaultStore } from "./fake-vault-store.ts";
import {
  type Ending,
  type ItemKey,
  NameTaken,
  type PulledItem,
  type RuleRecord,
  type SourceEntry,
  type SyncItem,
  type SyncStore,
} from "./sync-store.ts";
import { Conflict, type Writer } from "./vault-store.ts";

/** What was pushed, in memory, with the contract of the real store. */
export class FakeSyncStore implements SyncStore {
  readonly #database: FakeDatabase;
  readonly #vault: FakeVaultStore;
  readonly #items = new Map<string, SyncItem>();
  readonly #pulled = new Map<string, PulledItem>();
  readonly #rules = new Map<string, RuleRecord>();
  /** By item: when what it says of the target was recorded first. */
  readonly #seenAt = new Map<string, number>();
  now: () => number = Date.now;

  constructor(database: FakeDatabase, vault: FakeVaultStore) {
    this.#database = database;
    this.#vault = vault;
  }

  async sources(scope: Parameters<SyncStore["sources"]>[0]): Promise<readonly SourceEntry[]> {
    return this.#vault
      .records()
      .filter(
        ({ state, identity }) =>
          state === "Active" &&
          identity.namespace === scope.namespace &&
          identity.namespaceUid === scope.namespaceUid &&
          identity.environment === scope.environment &&
          identity.project === scope.project &&
          (scope.names === undefined || scope.names.includes(identity.name)),
      )
      .sort((a, b) => (a.identity.name < b.identity.name ? -1 : 1))
      .flatMap(({ id, identity, currentVersion, entries }) =>
        entries.map((digest) => ({ ...digest, secretId: id, secretName: identity.name, version: currentVersion })),
      );
  }

  async items(ruleUid: string): Promise<readonly SyncItem[]> {
    return this.#sorted().filter((item) => item.ruleUid === ruleUid);
  }

  async holders(vaultUrl: string, entryNames: readonly string[]): Promise<readonly SyncItem[]> {
    const names = new Set(entryNames.map((name) => name.toLowerCase()));
    return this.#sorted().filter(
      (item) => item.vaultUrl === vaultUrl && names.has(item.entryName) && this.#exists(item.secretId),
    );
  }

  async recordIntent(writer: Writer, item: SyncItem): Promise<void> {
    this.#database.fence(writer);
    if (item.intent === undefined) throw new RangeError("an intent is what is to be recorded");
    const held = this.#items.get(place(item));
    if (held !== undefined && this.#exists(held.secretId) && !sameSource(held, item))
      throw new NameTaken(item.entryName, held);
    const { outcome: _, taking: __, deletingAt: _ended, ...claim } = item;
    this.#put({ ...claim, ...kept(held, item, "outcome", "taking") });
  }

  async recordTaking(writer: Writer, item: SyncItem): Promise<void> {
    this.#database.fence(writer);
    if (item.taking === undefined) throw new RangeError("a taking is what is to be recorded");
    const held = this.#items.get(place(item));
    if (held !== undefined && this.#exists(held.secretId) && !sameSource(held, item))
      throw new NameTaken(item.entryName, held);
    const { outcome: _, intent: __, deletingAt: _ended, ...claim } = item;
    this.#put({ ...claim, ...kept(held, item, "outcome", "intent") });
  }

  async recordOutcome(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    if (item.outcome === undefined) throw new RangeError("an outcome is what is to be recorded");
    const held = this.#items.get(place(item));
    if (held === undefined || !sameSource(held, item)) throw new Conflict(item.secretId);
    const { intent: _, taking: __, deletingAt: _ended, ...done } = item;
    this.#seenAt.set(place(item), this.now());
    this.#put({ ...done, outcome: { ...item.outcome, ...latest(held, item), settled: false } });
    this.#database.record(audit);
  }

  async recordAgreement(writer: Writer, item: SyncItem, readMsAgo: number | undefined): Promise<void> {
    this.#database.fence(writer);
    const held = this.#items.get(place(item));
    if (held !== undefined && this.#exists(held.secretId) && !sameSource(held, item))
      throw new NameTaken(item.entryName, held);
    const { intent: _, taking: __, deletingAt: _ended, outcome, ...claim } = item;
    if (outcome === undefined) throw new RangeError("an outcome is what is to be recorded");
    const judged = this.#settles(place(item), held?.outcome, outcome, readMsAgo ?? 0);
    const settled = readMsAgo === undefined ? outcome.settled : judged;
    const known = held !== undefined && sameSource(held, item) ? held : undefined;
    this.#put({ ...claim, outcome: { ...outcome, ...latest(known, item), settled } });
  }

  async forget(writer: Writer, ruleUid: string, keys: readonly ItemKey[]): Promise<void> {
    this.#database.fence(writer);
    for (const key of keys) {
      const held = this.#items.get(place(key));
      if (held?.ruleUid === ruleUid && sameSource(held, key)) this.#items.delete(place(key));
    }
  }

  async endings(secretIds: readonly string[]): Promise<readonly Ending[]> {
    const records = new Map(this.#vault.records().map((record) => [record.id, record]));
    return [...new Set(secretIds)].sort().map((secretId): Ending => {
      const record = records.get(secretId);
      const found = this.#vault.tombstonesOf(secretId);
      const secretName = record?.identity.name ?? found[0]?.secretName;
      return {
        secretId,
        ...(secretName !== undefined && { secretName }),
        ...(record !== undefined && { state: record.state }),
        keys: record?.entries.map(({ key }) => key) ?? [],
        tombstones: found
          .toSorted((a, b) => (a.key < b.key ? -1 : 1))
          .map(({ key, age }) => (key === "" ? { age } : { key, age })),
      };
    });
  }

  async recordDeletion(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    const held = this.#items.get(place(item));
    const [ending] = await this.endings([item.secretId]);
    const { state, keys = [], tombstones = [] } = ending ?? {};
    const proven = tombstones.some(({ key }) =>
      key === undefined ? state === undefined || state === "SoftDeleted" : key === item.key && !keys.includes(item.key),
    );
    if (!proven || held === undefined || !sameSource(held, item) || held.ruleUid !== item.ruleUid) {
      throw new Conflict(item.secretId);
    }
    if (held.deletingAt !== undefined) return;
    this.#items.set(place(item), { ...held, deletingAt: new Date(this.now()) });
    this.#database.record(audit);
  }

  async rule(ruleUid: string): Promise<RuleRecord | undefined> {
    return this.#rules.get(ruleUid);
  }

  async recordRule(writer: Writer, ruleUid: string, record: RuleRecord, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    this.#rules.set(ruleUid, record);
    this.#database.record(audit);
  }

  async pulled(ruleUid: string, secretIds: readonly string[]): Promise<readonly PulledItem[]> {
    return [...this.#pulled.values()]
      .filter((item) => this.#exists(item.secretId))
      .filter((item) => item.ruleUid === ruleUid || secretIds.includes(item.secretId))
      .sort((a, b) => (entryOf(a) < entryOf(b) ? -1 : 1));
  }

  async recordPulled(writer: Writer, items: readonly Omit<PulledItem, "settled">[], readMsAgo: number): Promise<void> {
    this.#database.fence(writer);
    for (const item of items) {
      if (!this.#exists(item.secretId)) continue;
      const settled = this.#settles(entryOf(item), this.#pulled.get(entryOf(item)), item, readMsAgo);
      this.#pulled.set(entryOf(item), { ...item, entryName: item.entryName.toLowerCase(), settled });
    }
  }

  #settles(id: string, before: Seen | undefined, now: Seen, readMsAgo: number): boolean {
    const isSame =
      before?.targetVersion === now.targetVersion && before.targetUpdatedOn.getTime() === now.targetUpdatedOn.getTime();
    if (!isSame) this.#seenAt.set(id, this.now());
    return isSame && this.now() - readMsAgo - (this.#seenAt.get(id) ?? this.now()) >= 1_000;
  }

  async forgetPulled(
    writer: Writer,
    ruleUid: string,
    keys: readonly Pick<PulledItem, "secretId" | "key">[],
  ): Promise<void> {
    this.#database.fence(writer);
    for (const key of keys) if (this.#pulled.get(entryOf(key))?.ruleUid === ruleUid) this.#pulled.delete(entryOf(key));
  }

  #put(item: SyncItem): void {
    this.#items.set(place(item), { ...item, entryName: item.entryName.toLowerCase() });
  }

  #exists(secretId: string): boolean {
    return this.#vault.records().some(({ id }) => id === secretId);
  }

  #sorted(): readonly SyncItem[] {
    return [...this.#items.values()].sort((a, b) => (place(a) < place(b) ? -1 : 1));
  }
}

/** What stays of an item when another part of it is recorded. */
function kept(held: SyncItem | undefined, item: SyncItem, ...parts: readonly ("outcome" | "intent" | "taking")[]) {
  if (held === undefined || !sameSource(held, item)) return {};
  return Object.fromEntries(parts.flatMap((part) => (held[part] === undefined ? [] : [[part, held[part]]])));
}

function latest(...items: readonly (SyncItem | undefined)[]): { readonly clock?: number } {
  const clocks = items.map((each) => each?.outcome?.clock).filter((clock) => clock !== undefined);
  return clocks.length === 0 ? {} : { clock: Math.max(...clocks) };
}

type Seen = Pick<PulledItem, "targetVersion" | "targetUpdatedOn">;

const entryOf = ({ secretId, key }: Pick<PulledItem, "secretId" | "key">): string => `${secretId} ${key}`;

const place = ({ vaultUrl, entryName }: ItemKey): string => `${vaultUrl} ${entryName.toLowerCase()}`;

const sameSource = (a: ItemKey, b: ItemKey): boolean => a.secretId === b.secretId && a.key === b.key;
