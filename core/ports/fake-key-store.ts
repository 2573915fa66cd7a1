import { randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { KeyPurpose, KeyStore, WrappedKey } from "./key-store.ts";
import type { Unled, Writer } from "./vault-store.ts";

/** Wrapped keys in memory, with the contract of the real store. */
export class FakeKeyStore implements KeyStore {
  readonly #database: FakeDatabase;
  readonly #installationId = randomUUID();
  readonly #keys: WrappedKey[] = [];
  readonly #uses = new Map<string, bigint>();

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async installationId(): Promise<string> {
    return this.#installationId;
  }

  async load(purpose: KeyPurpose, scope: string): Promise<readonly WrappedKey[]> {
    return this.#keys
      .filter((key) => key.purpose === purpose && key.scope === scope)
      .sort((a, b) => a.version - b.version);
  }

  async insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey> {
    this.#database.fence(writer);
    const standing = this.#keys.find(
      ({ purpose, scope, version }) => purpose === key.purpose && scope === key.scope && version === key.version,
    );
    if (standing !== undefined) return standing;
    this.#keys.push(key);
    this.#database.record(audit);
    return key;
  }

  async reserveUses(writer: Writer | Unled, id: string, count: number): Promise<bigint> {
    this.#database.fenceLed(writer);
    if (!this.#keys.some((key) => key.id === id)) throw new Unavailable("TamperDetected", `key ${id} disappeared`);
    const total = (this.#uses.get(id) ?? 0n) + BigInt(count);
    this.#uses.set(id, total);
    return total;
  }
}
