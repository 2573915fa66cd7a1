import { randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import {
  type KeyPurpose,
  KeyReplaced,
  type KeyStore,
  type KeyVersion,
  MANY_USES,
  type Rewrap,
  type RotatedPurpose,
  type WrappedKey,
} from "./key-store.ts";
import type { Unled, Writer } from "./vault-store.ts";

/** Wrapped keys in memory, with the contract of the real store. */
export class FakeKeyStore implements KeyStore {
  readonly #database: FakeDatabase;
  readonly #installationId = randomUUID();
  /** Those that are not retired. */
  #keys: WrappedKey[] = [];
  readonly #uses = new Map<string, bigint>();

  constructor(database: FakeDatabase) {
    this.#database = database;
    database.wrapCounts.push((keyId) => this.#keys.filter(({ wrappedBy }) => wrappedBy === keyId).length);
  }

  async installationId(): Promise<string> {
    return this.#installationId;
  }

  async load(purpose: KeyPurpose, scope: string): Promise<readonly WrappedKey[]> {
    return this.#of(purpose, scope);
  }

  async insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey> {
    this.#database.fence(writer);
    this.#database.assertNewest(key.wrappedBy);
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
    if (!this.#keys.some((key) => key.id === id)) {
      this.#database.assertNewest(id);
      throw new Unavailable("TamperDetected", `key ${id} disappeared`);
    }
    const total = this.#usesOf(id) + BigInt(count);
    this.#uses.set(id, total);
    return total;
  }

  async rotate(writer: Writer | Unled, key: WrappedKey, audit: readonly AuditEntry[]): Promise<boolean> {
    this.#database.fenceLed(writer);
    const [newest, older] = this.#of(key.purpose, key.scope).toReversed();
    if (newest?.version !== key.version - 1) return false;
    if (older !== undefined && this.#usesOf(newest.id) < MANY_USES) return false;
    if (key.purpose === "Installation" && newest.wrappedBy !== key.wrappedBy) throw new KeyReplaced();
    this.#database.assertNewest(key.wrappedBy);
    this.#keys.push(key);
    this.#database.replacedKeys.add(newest.id);
    this.#database.record(audit);
    return true;
  }

  async versions(purpose: RotatedPurpose, scope: string): Promise<readonly KeyVersion[]> {
    return this.#versions().filter((key) => key.purpose === purpose && key.scope === scope);
  }

  async projectVersions(after: string | undefined, limit: number): Promise<readonly KeyVersion[]> {
    const found = this.#versions().filter(
      ({ purpose, scope }) => purpose === "Project" && (after === undefined || scope > after),
    );
    const scopes = [...new Set(found.map(({ scope }) => scope))].slice(0, limit);
    return found.filter(({ scope }) => scopes.includes(scope));
  }

  async replaced(): Promise<readonly KeyVersion[]> {
    return this.#versions().filter(({ id }) => this.#database.replacedKeys.has(id));
  }

  async due(purpose: RotatedPurpose, madeBefore: Date, uses: bigint, limit: number): Promise<readonly KeyVersion[]> {
    const all = this.#versions().filter((key) => key.purpose === purpose);
    const alone = ({ scope }: KeyVersion) => all.filter((other) => other.scope === scope).length === 1;
    return all
      .filter(({ id }) => !this.#database.replacedKeys.has(id))
      .filter((key) => key.uses >= uses || (key.createdAt < madeBefore && alone(key)))
      .slice(0, limit);
  }

  async wrappedBy(id: string, after: string | undefined, limit: number): Promise<readonly WrappedKey[]> {
    return this.#keys
      .filter((key) => key.wrappedBy === id && (after === undefined || key.id > after))
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .slice(0, limit);
  }

  async rewrap(
    writer: Writer,
    from: string,
    to: string,
    keys: readonly Rewrap[],
    audit: readonly AuditEntry[],
  ): Promise<number> {
    this.#database.fence(writer);
    this.#database.assertNewest(to);
    let changed = 0;
    for (const { id, before, after } of keys) {
      const at = this.#keys.findIndex((key) => key.id === id && key.wrappedBy === from && key.wrapped.equals(before));
      const key = this.#keys[at];
      if (key === undefined) continue;
      this.#keys[at] = { ...key, wrappedBy: to, wrapped: after };
      changed += 1;
    }
    if (changed > 0) this.#database.record(audit);
    return changed;
  }

  async retire(writer: Writer, id: string, audit: readonly AuditEntry[]): Promise<boolean> {
    this.#database.fence(writer);
    const standing = this.#keys.some((key) => key.id === id);
    if (!standing || !this.#database.replacedKeys.has(id) || this.#database.wraps(id) > 0) return false;
    this.#keys = this.#keys.filter((key) => key.id !== id);
    this.#database.record(audit);
    return true;
  }

  #of(purpose: KeyPurpose, scope: string): readonly WrappedKey[] {
    return this.#keys
      .filter((key) => key.purpose === purpose && key.scope === scope)
      .sort((a, b) => a.version - b.version);
  }

  #usesOf(id: string): bigint {
    return this.#uses.get(id) ?? 0n;
  }

  #versions(): readonly KeyVersion[] {
    const rotated = (purpose: KeyPurpose): purpose is RotatedPurpose =>
      purpose === "Installation" || purpose === "Project";
    return this.#keys
      .flatMap(({ id, purpose, scope, version, wrappedBy, createdAt }): KeyVersion[] => {
        if (!rotated(purpose)) return [];
        const left = this.#database.replacedKeys.has(id) ? { left: this.#database.wraps(id) } : {};
        return [{ id, purpose, scope, version, wrappedBy, createdAt, uses: this.#usesOf(id), ...left }];
      })
      .sort((a, b) => (a.scope === b.scope ? a.version - b.version : a.scope < b.scope ? -1 : 1));
  }
}
