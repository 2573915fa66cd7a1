import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import { type FakeVaultStore, handledKey } from "./fake-vault-store.ts";
import type { HandledWrite, HandledWrites } from "./handled-writes.ts";

/** Handled writes in memory, with the contract of the real store. */
export class FakeHandledWrites implements HandledWrites {
  readonly #database: FakeDatabase;
  readonly #vault: FakeVaultStore;

  constructor(database: FakeDatabase, vault: FakeVaultStore) {
    this.#database = database;
    this.#vault = vault;
  }

  async find(environment: string, ids: readonly string[]): Promise<readonly HandledWrite[]> {
    return ids.flatMap((id) => this.#vault.handled.get(handledKey({ environment, id }))?.write ?? []);
  }

  async list(
    after: Pick<HandledWrite, "environment" | "id"> | undefined,
    limit: number,
  ): Promise<readonly HandledWrite[]> {
    return [...this.#vault.handled]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .filter(([key]) => after === undefined || key > handledKey(after))
      .slice(0, limit)
      .map(([, { write }]) => write);
  }

  async record(write: HandledWrite, audit: readonly AuditEntry[]): Promise<boolean> {
    const { handled } = this.#vault;
    if (handled.has(handledKey(write))) return false;
    handled.set(handledKey(write), { write, at: this.#vault.now() });
    this.#database.record(audit);
    return true;
  }

  async forget(olderThanMs: number, limit: number): Promise<number> {
    const { handled } = this.#vault;
    const old = [...handled].filter(([, { at }]) => at < this.#vault.now() - olderThanMs).slice(0, limit);
    for (const [key] of old) handled.delete(key);
    return old.length;
  }
}
