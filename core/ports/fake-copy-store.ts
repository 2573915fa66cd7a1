import type { AuditEntry } from "./audit-log.ts";
import type { CopyRecord, CopyStore } from "./copy-store.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { FakeVaultStore } from "./fake-vault-store.ts";
import { Conflict, type Writer } from "./vault-store.ts";

/** Copies in memory, with the contract of the real store. */
export class FakeCopyStore implements CopyStore {
  readonly #database: FakeDatabase;
  readonly #vault: FakeVaultStore;
  readonly #copies = new Map<string, CopyRecord>();

  constructor(database: FakeDatabase, vault: FakeVaultStore) {
    this.#database = database;
    this.#vault = vault;
  }

  async copies(secretIds: readonly string[]): Promise<readonly CopyRecord[]> {
    return [...this.#copies]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, copy]) => copy)
      .filter(({ secretId }) => secretIds.includes(secretId) && this.#exists(secretId));
  }

  async recordCopy(writer: Writer, copy: CopyRecord, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    if (!this.#exists(copy.secretId)) throw new Conflict(copy.secretId);
    this.#copies.set(`${copy.namespaceUid} ${copy.delivery.secretName}`, copy);
    this.#database.record(audit);
  }

  #exists(secretId: string): boolean {
    return this.#vault.records().some(({ id }) => id === secretId);
  }
}
