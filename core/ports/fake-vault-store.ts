import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import {
  Conflict,
  type DataKey,
  type DataKeyRewrap,
  type DeliveryRecord,
  type KeptVersion,
  type NewVersion,
  type OutboxPosition,
  type OutboxRow,
  type PointerChange,
  type SealedVersion,
  type SecretIdentity,
  type SecretLocation,
  type SecretRecord,
  type StoredPointer,
  type Unled,
  type VaultStore,
  type Writer,
} from "./vault-store.ts";

interface Held {
  record: SecretRecord;
  mac: Buffer;
  readonly versions: Map<number, { readonly sealed: SealedVersion; readonly createdAt: Date }>;
}

/** Secrets in memory, with the contract of the real store. */
export class FakeVaultStore implements VaultStore {
  readonly #database: FakeDatabase;
  readonly #secrets = new Map<string, Held>();

  constructor(database: FakeDatabase) {
    this.#database = database;
    database.wrapCounts.push((keyId) => this.#dataKeys(keyId).length);
  }

  async find(identity: SecretIdentity): Promise<StoredPointer | undefined> {
    const held = this.#byIdentity(identity);
    if (held === undefined) return undefined;
    return { record: held.record, mac: held.mac, auditedGeneration: this.#database.auditedGeneration(held.record.id) };
  }

  async findSealed(identity: SecretIdentity): Promise<StoredPointer | undefined> {
    const found = await this.find(identity);
    const sealed = found && (await this.readVersion(found.record.id, found.record.currentVersion));
    return found && { ...found, record: { ...found.record, ...(sealed && { sealed }) } };
  }

  async readVersion(id: string, version: number): Promise<SealedVersion | undefined> {
    return this.#secrets.get(id)?.versions.get(version)?.sealed;
  }

  async listVersions(id: string): Promise<readonly KeptVersion[]> {
    const versions = [...(this.#secrets.get(id)?.versions ?? [])];
    const kept = versions.map(([version, { sealed, createdAt }]) => ({
      version,
      createdAt,
      keys: sealed.entries.map(({ key }) => key).sort(),
    }));
    return kept.reverse();
  }

  async keeps(id: string, key: string, fingerprint: string): Promise<boolean> {
    const versions = [...(this.#secrets.get(id)?.versions.values() ?? [])];
    return versions.some(({ sealed }) =>
      sealed.entries.some((entry) => entry.key === key && entry.fingerprint === fingerprint),
    );
  }

  async commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void> {
    // The first is the only one that can be refused: nothing happens in between.
    for (const each of next) await this.commitVersion(writer, each);
  }

  async commitVersion(writer: Writer | Unled, next: NewVersion): Promise<void> {
    this.#database.fenceLed(writer);
    const { id, identity, expected, generation, mac, sealed, lifecycle, rotation, audit } = next;
    const before = expected === undefined ? undefined : this.#expect(id, expected);
    if (expected === undefined && this.#byIdentity(identity) !== undefined) throw new Conflict(id);
    this.#database.assertNewest(sealed.projectKeyId);
    const entries = sealed.entries.map(({ ciphertext: _, ...digest }) => digest);
    const delivery = before?.record.delivery;
    const record: SecretRecord = {
      id,
      identity,
      state: "Active",
      currentVersion: sealed.version,
      generation,
      lifecycle,
      ...(rotation === undefined ? {} : { rotation }),
      entries: entries.sort((a, b) => (a.key < b.key ? -1 : 1)),
      ...(delivery === undefined ? {} : { delivery }),
    };
    const versions = before?.versions ?? new Map();
    versions.set(sealed.version, { sealed, createdAt: new Date() });
    this.#put(writer, { record, mac, versions }, audit);
  }

  async changePointer(writer: Writer | Unled, change: PointerChange): Promise<void> {
    this.#database.fenceLed(writer);
    const before = this.#expect(change.id, change.expected);
    const { identity, entries, delivery } = before.record;
    const record: SecretRecord = {
      id: change.id,
      identity,
      state: change.state,
      currentVersion: change.currentVersion,
      generation: change.generation,
      lifecycle: change.lifecycle,
      ...(change.rotation === undefined ? {} : { rotation: change.rotation }),
      entries,
      ...(change.deletedAt === undefined ? {} : { deletedAt: change.deletedAt }),
      ...(change.purgeAfter === undefined ? {} : { purgeAfter: change.purgeAfter }),
      ...(delivery === undefined ? {} : { delivery }),
    };
    this.#put(writer, { record, mac: change.mac, versions: before.versions }, change.audit);
  }

  async purge(writer: Writer, id: string, expected: bigint, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    const { identity } = this.#expect(id, expected).record;
    this.#secrets.delete(id);
    this.#database.record(audit);
    this.#database.changed(writer, id, identity.namespace, identity.name);
  }

  async recordDelivery(
    writer: Writer,
    id: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const held = this.#secrets.get(id);
    if (held === undefined) throw new Conflict(id);
    const { delivery: _, ...record } = held.record;
    held.record = delivery === undefined ? record : { ...record, delivery };
    this.#database.record(audit);
  }

  async locate(namespace: string, name: string): Promise<readonly SecretLocation[]> {
    const named = this.records().filter(({ identity }) => identity.namespace === namespace && identity.name === name);
    return named.map(locationOf);
  }

  async listLocations(after: string | undefined, limit: number): Promise<readonly SecretLocation[]> {
    const following = this.records().filter(({ id }) => after === undefined || id > after);
    return following.slice(0, limit).map(locationOf);
  }

  async listExpired(now: Date, limit: number) {
    return this.records()
      .filter(({ state, purgeAfter }) => state === "SoftDeleted" && purgeAfter !== undefined && purgeAfter <= now)
      .slice(0, limit)
      .map(({ id, generation, identity }) => ({ id, generation, identity }));
  }

  async readOutbox(after: OutboxPosition | undefined, limit: number): Promise<readonly OutboxRow[]> {
    return this.#database.outbox.filter(({ position }) => position.id > (after?.id ?? 0n)).slice(0, limit);
  }

  async listDataKeys(
    projectKeyId: string,
    after: Pick<DataKey, "id" | "version"> | undefined,
    limit: number,
  ): Promise<readonly DataKey[]> {
    const following = this.#dataKeys(projectKeyId).filter(
      ({ id, version }) => after === undefined || id > after.id || (id === after.id && version > after.version),
    );
    return following.slice(0, limit);
  }

  async rewrapDataKeys(writer: Writer, from: string, to: string, keys: readonly DataKeyRewrap[]): Promise<number> {
    this.#database.fence(writer);
    this.#database.assertNewest(to);
    let changed = 0;
    for (const { id, version, before, after } of keys) {
      const versions = this.#secrets.get(id)?.versions;
      const standing = versions?.get(version);
      if (standing?.sealed.projectKeyId !== from || !standing.sealed.wrappedKey.equals(before)) continue;
      versions?.set(version, { ...standing, sealed: { ...standing.sealed, wrappedKey: after, projectKeyId: to } });
      changed += 1;
    }
    return changed;
  }

  /** All records, ordered by id. */
  records(): readonly SecretRecord[] {
    return [...this.#secrets.values()].map(({ record }) => record).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  #dataKeys(projectKeyId: string): readonly DataKey[] {
    return this.records().flatMap(({ id, identity }) =>
      [...(this.#secrets.get(id)?.versions.values() ?? [])]
        .filter(({ sealed }) => sealed.projectKeyId === projectKeyId)
        .map(({ sealed: { version, wrappedKey } }) => ({ id, identity, version, wrappedKey })),
    );
  }

  #byIdentity(identity: SecretIdentity): Held | undefined {
    const text = identityText(identity);
    return [...this.#secrets.values()].find(({ record }) => identityText(record.identity) === text);
  }

  #expect(id: string, generation: bigint): Held {
    const held = this.#secrets.get(id);
    if (held?.record.generation !== generation) throw new Conflict(id);
    return held;
  }

  #put(writer: Writer | Unled, held: Held, audit: readonly AuditEntry[]): void {
    const { id, identity, currentVersion, lifecycle, rotation } = held.record;
    const kept = new Set(rotation?.held.map(({ version }) => version));
    for (const version of held.versions.keys()) {
      if (version <= currentVersion - lifecycle.keepVersions && !kept.has(version)) held.versions.delete(version);
    }
    this.#secrets.set(id, held);
    this.#database.record(audit);
    this.#database.changed(writer, id, identity.namespace, identity.name);
  }
}

const identityText = ({ project, environment, namespace, namespaceUid, name }: SecretIdentity): string =>
  JSON.stringify([project, environment, namespace, namespaceUid, name]);

function locationOf({ id, identity, state, lifecycle, delivery }: SecretRecord): SecretLocation {
  if (delivery === undefined) return { id, identity, state, lifecycle };
  const { secretName, uid, resourceVersion } = delivery;
  return { id, identity, state, lifecycle, delivery: { secretName, uid, resourceVersion } };
}
