import type { FakeDatabase } from "./fake-database.ts";
import type { FakeVaultStore } from "./fake-vault-store.ts";
import { type EntryName, EntryTaken, type EntryWrite, type KeptEntries, type KeptEntry } from "./kept-entries.ts";
import { Conflict, type KeptWrite, type SecretState, type Unled, type Writer } from "./vault-store.ts";

interface Held {
  entry: Omit<KeptEntry, "writeId">;
  settled: boolean;
  write: { readonly id: string; readonly epoch: bigint | undefined; until: number } | undefined;
}

/** Kept entries in memory, with the contract of the real store. */
export class FakeKeptEntries implements KeptEntries {
  readonly #database: FakeDatabase;
  readonly #store: FakeVaultStore;
  readonly #held = new Map<string, Held>();
  now: () => number = Date.now;

  constructor(database: FakeDatabase, store: FakeVaultStore) {
    this.#database = database;
    this.#store = store;
    store.onWritten = (secretId, write) => this.#written(secretId, write);
    store.onState = (secretId, state) => this.#wanted(secretId, state);
  }

  async begin(writer: Writer | Unled, { entries, leaseMs, ...write }: EntryWrite): Promise<void> {
    this.#database.fenceLed(writer);
    const { id, secretId, owner, vaultUrl, identity } = write;
    for (const each of entries) {
      const held = this.#held.get(placeOf(vaultUrl, each));
      if (held !== undefined && (held.entry.owner !== owner || held.entry.key !== each.key)) {
        throw new EntryTaken(held.entry.entryName, held.entry);
      }
    }
    const mine = [...this.#held.values()].filter(({ entry }) => entry.owner === owner);
    if (mine.some((held) => held.write?.id !== id && this.#isLive(held, writer))) throw new Conflict(secretId);
    if ((this.#store.idOf(identity) ?? secretId) !== secretId) throw new Conflict(secretId);
    for (const { key, entryName } of entries) {
      const before = this.#held.get(placeOf(vaultUrl, { entryName }));
      const { settled = true, entry } = before ?? {};
      const { wanted = "Kept" } = entry ?? {};
      this.#held.set(placeOf(vaultUrl, { entryName }), {
        entry: { ...entry, key, entryName: entry?.entryName ?? entryName, vaultUrl, owner, secretId, identity, wanted },
        settled,
        write: { id, epoch: writer.epoch, until: this.now() + leaseMs },
      });
    }
  }

  async release(writeId: string, touched: boolean): Promise<void> {
    for (const [place, held] of this.#held) {
      if (held.write?.id !== writeId) continue;
      const stored = this.#store.has(held.entry.secretId);
      const wasStored = held.entry.targetVersion !== undefined;
      if (!touched && held.settled && !stored && !wasStored) {
        this.#held.delete(place);
        continue;
      }
      if (!stored && wasStored) {
        held.entry = { ...held.entry, wanted: "Purged" };
        held.settled = false;
      }
      if (touched) held.write.until = this.now();
      else held.write = undefined;
    }
  }

  async unsettled(writer: Writer, limit: number, except: readonly string[] = []): Promise<readonly KeptEntry[]> {
    const due = [...this.#held.values()].filter(
      (held) =>
        (!held.settled || held.write !== undefined) &&
        !this.#isLive(held, writer) &&
        !except.includes(held.entry.vaultUrl),
    );
    const turns = Map.groupBy(due, ({ entry }) => entry.vaultUrl);
    const turnOf = (held: Held): number => turns.get(held.entry.vaultUrl)?.indexOf(held) ?? 0;
    return due
      .toSorted((one, other) => turnOf(one) - turnOf(other))
      .slice(0, limit)
      .map(({ entry, write }) => ({ ...entry, ...(write !== undefined && { writeId: write.id }) }));
  }

  async take(writer: Writer, entry: KeptEntry, takeId: string, leaseMs: number): Promise<boolean> {
    this.#database.fence(writer);
    const held = this.#held.get(placeOf(entry.vaultUrl, entry));
    if (held === undefined || this.#isLive(held, writer)) return false;
    held.write = { id: takeId, epoch: writer.epoch, until: this.now() + leaseMs };
    return true;
  }

  async settled(writer: Writer, { vaultUrl, entryName, wanted }: KeptEntry, takeId: string): Promise<void> {
    this.#database.fence(writer);
    const held = this.#held.get(placeOf(vaultUrl, { entryName }));
    if (held?.write?.id !== takeId) return;
    held.write = undefined;
    held.settled ||= held.entry.wanted === wanted;
    if (wanted === "Purged" && !this.#store.has(held.entry.secretId))
      this.#held.delete(placeOf(vaultUrl, { entryName }));
  }

  #written(secretId: string, { id, versions }: KeptWrite): void {
    if (id === undefined) return;
    const written = [...this.#held.values()].filter(
      ({ entry, write }) => entry.secretId === secretId && write?.id === id,
    );
    if (written.length === 0) throw new Conflict(secretId);
    for (const held of written) {
      held.write = undefined;
      held.settled = true;
      const targetVersion = versions.get(held.entry.key) ?? held.entry.targetVersion;
      held.entry = { ...held.entry, wanted: "Kept", ...(targetVersion !== undefined && { targetVersion }) };
    }
  }

  #wanted(secretId: string, state: SecretState | "Purged"): void {
    const wanted = state === "Purged" ? "Purged" : state === "SoftDeleted" ? "Deleted" : "Kept";
    for (const held of this.#held.values()) {
      if (held.entry.secretId !== secretId) continue;
      held.entry = { ...held.entry, wanted };
      held.settled = false;
    }
  }

  #isLive({ write }: Held, { epoch }: Writer | Unled): boolean {
    if (write === undefined || write.until <= this.now()) return false;
    return !(write.epoch !== undefined && epoch !== undefined && write.epoch < epoch);
  }
}

const placeOf = (vaultUrl: string, { entryName }: Pick<EntryName, "entryName">): string =>
  `${vaultUrl}${entryName.toLowerCase()}`;
