import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { FakeVaultStore } from "./fake-vault-store.ts";
import type { GatewayCopyOwners, GatewayCopyRecord, GatewayCopyStore } from "./gateway-copy-store.ts";
import type { Writer } from "./vault-store.ts";

/** Copies through gateways in memory, with the contract of the real store. */
export class FakeGatewayCopyStore implements GatewayCopyStore {
  readonly #database: FakeDatabase;
  readonly #vault: FakeVaultStore;
  readonly #copies = new Map<string, GatewayCopyRecord>();
  /** Which made it last, by the same. */
  readonly #rules = new Map<string, string>();

  constructor(database: FakeDatabase, vault: FakeVaultStore) {
    this.#database = database;
    this.#vault = vault;
  }

  get size(): number {
    return this.#copies.size;
  }

  async gatewayCopies(gateway: string, secretIds: readonly string[]): Promise<readonly GatewayCopyRecord[]> {
    return [...this.#copies]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, copy]) => copy)
      .filter((copy) => copy.gateway === gateway && secretIds.includes(copy.secretId) && this.#exists(copy.secretId));
  }

  async recordGatewayCopies(
    writer: Writer,
    rule: string,
    copies: readonly GatewayCopyRecord[],
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    for (const copy of copies.filter(({ secretId }) => this.#exists(secretId))) {
      const place = `${copy.gateway} ${copy.namespace} ${copy.delivery.secretName}`;
      this.#copies.set(place, copy);
      this.#rules.set(place, rule);
    }
    this.#database.record(audit);
  }

  async gatewayCopyOwners(): Promise<readonly GatewayCopyOwners[]> {
    const pairs = [...this.#copies].map(([place, { gateway }]) => ({ gateway, rule: this.#rules.get(place) ?? "" }));
    return [...new Map(pairs.map((pair) => [`${pair.gateway} ${pair.rule}`, pair])).values()];
  }

  async forgetGatewayCopies(writer: Writer, of: Parameters<GatewayCopyStore["forgetGatewayCopies"]>[1]): Promise<void> {
    this.#database.fence(writer);
    for (const [place, { gateway }] of this.#copies)
      if ("rule" in of ? this.#rules.get(place) === of.rule : gateway === of.gateway) this.#copies.delete(place);
  }

  #exists(secretId: string): boolean {
    return this.#vault.records().some(({ id }) => id === secretId);
  }
}
