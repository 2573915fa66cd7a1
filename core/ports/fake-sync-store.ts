import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { FakeVaultStore } from "./fake-vault-store.ts";
import {
  type ItemKey,
  NameTaken,
  type PulledItem,
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
    const { outcome: _, ...claim } = item;
    const known = held !== undefined && sameSource(held, item) && held.outcome !== undefined;
    this.#put(known ? { ...claim, outcome: held.outcome } : claim);
  }

  async recordOutcome(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    if (item.outcome === undefined) throw new RangeError("an outcome is what is to be recorded");
    const held = this.#items.get(place(item));
    if (held === undefined || !sameSource(held, item)) throw new Conflict(item.secretId);
    const { intent: _, ...done } = item;
    this.#seenAt.set(place(item), this.now());
    this.#put({ ...done, outcome: { ...item.outcome, settled: false } });
    this.#database.record(audit);
  }

  async recordAgreement(writer: Writer, item: SyncItem, readMsAgo: number): Promise<void> {
    this.#database.fence(writer);
    const held = this.#items.get(place(item));
    if (held !== undefined && this.#exists(held.secretId) && !sameSource(held, item))
      throw new NameTaken(item.entryName, held);
    const { intent: _, outcome, ...claim } = item;
    if (outcome === undefined) throw new RangeError("an outcome is what is to be recorded");
    const settled = this.#settles(place(item), held?.outcome, outcome, readMsAgo);
    this.#put({ ...claim, outcome: { ...outcome, settled } });
  }

  async forget(writer: Writer, ruleUid: string, keys: readonly ItemKey[]): Promise<void> {
    this.#database.fence(writer);
    for (const key of keys) {
      const held = this.#items.get(place(key));
      if (held?.ruleUid === ruleUid && sameSource(held, key)) this.#items.delete(place(key));
    }
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

type Seen = Pick<PulledItem, "targetVersion" | "targetUpdatedOn">;

const entryOf = ({ secretId, key }: Pick<PulledItem, "secretId" | "key">): string => `${secretId} ${key}`;

const place = ({ vaultUrl, entryName }: ItemKey): string => `${vaultUrl} ${entryName.toLowerCase()}`;

const sameSource = (a: ItemKey, b: ItemKey): boolean => a.secretId === b.secretId && a.key === b.key;
