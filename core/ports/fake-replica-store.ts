import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { NewItem, ReplicaChange, ReplicaState, ReplicaStore } from "./replica-store.ts";
import { Conflict, type Writer } from "./vault-store.ts";

interface Held extends NewItem {
  readonly revision: bigint;
}

/** A replica in memory, with the contract of the real store. */
export class FakeReplicaStore implements ReplicaStore {
  readonly #database: FakeDatabase;
  readonly items = new Map<string, Held>();
  state: ReplicaState | undefined;
  #revision = 0n;
  /** Writes so far. */
  writes = 0;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async read(since: bigint) {
    if (this.state === undefined) return undefined;
    const items = [...this.items.values()]
      .filter(({ revision }) => revision > since)
      .map(({ key, body, values }) => ({ key, body, valued: values !== undefined }));
    return { state: this.state, items };
  }

  async values(key: string) {
    const { body, values } = this.items.get(key) ?? {};
    return body === undefined || values === undefined ? undefined : { body, values };
  }

  async revision(): Promise<bigint> {
    return this.#revision;
  }

  async write(
    writer: Writer,
    state: ReplicaState,
    { put, remove }: ReplicaChange,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const { revision } = state;
    if (revision !== this.#revision + 1n) throw new Conflict("replica");
    this.#revision = revision;
    this.writes += 1;
    for (const key of remove) this.items.delete(key);
    for (const item of put) this.items.set(item.key, { ...item, revision });
    this.state = state;
    this.#database.record(audit);
  }

  async wipe(writer: Writer, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    this.items.clear();
    this.state = undefined;
    if (this.#revision > 0n) this.#revision += 1n;
    this.#database.record(audit);
  }
}
