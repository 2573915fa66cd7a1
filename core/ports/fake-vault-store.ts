import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { HandledWrite } from "./handled-writes.ts";
import type { SecretHead, SecretHeads } from "./secret-heads.ts";
import {
  Conflict,
  type DataKey,
  type DataKeyRewrap,
  type DeliveryRecord,
  type KeptVersion,
  type KeptWrite,
  type NewVersion,
  type OutboxPosition,
  type OutboxRow,
  type PointerChange,
  type SealedVersion,
  type SecretIdentity,
  type SecretLocation,
  type SecretRecord,
  type SecretState,
  type StoredPointer,
  type Unled,
  type VaultStore,
  type Writer,
} from "./vault-store.ts";

interface Held {
  record: SecretRecord;
  mac: Buffer;
  readonly versions: Map<number, KeptFake>;
}

interface KeptFake {
  readonly sealed: SealedVersion;
  readonly createdAt: Date;
  /** By key: since when its value has been current without a break. */
  readonly since: ReadonlyMap<string, Date>;
}

interface Handled {
  readonly write: HandledWrite;
  readonly at: number;
}

export const handledKey = ({ environment, id }: Pick<HandledWrite, "environment" | "id">): string =>
  `${environment} ${id}`;

/** Secrets in memory, with the contract of the real store. */
export class FakeVaultStore implements VaultStore, SecretHeads {
  readonly #database: FakeDatabase;
  readonly #secrets = new Map<string, Held>();
  now: () => number = Date.now;
  /** Where values are kept outside; throws when the write was taken over. */
  onWritten: (secretId: string, write: KeptWrite) => void = () => {};
  /** By environment and id. */
  readonly handled = new Map<string, Handled>();
  onState: (secretId: string, state: SecretState | "Purged") => void = () => {};
  /** By id of the secret and key, which is empty where the secret itself was deleted: since when, and its name. */
  readonly #tombstones = new Map<string, { readonly secretName: string; readonly at: number }>();

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

  async findSealedAll(ids: readonly string[]): Promise<readonly StoredPointer[]> {
    const records = ids.flatMap((id) => this.#secrets.get(id)?.record ?? []);
    const found = await Promise.all(records.map(({ identity }) => this.findSealed(identity)));
    return found.flatMap((pointer) => pointer ?? []);
  }

  async position(): Promise<bigint> {
    return BigInt(this.#database.outbox.length);
  }

  async list(after: string | undefined, limit: number): Promise<readonly SecretHead[]> {
    const following = this.records().filter(({ id }) => after === undefined || id > after);
    return following.slice(0, limit).map(headOf);
  }

  async changedSince(position: bigint) {
    const now = await this.position();
    if (position > now) return undefined;
    const changed = new Set(this.#database.outbox.slice(Number(position)).map(({ secretId }) => secretId));
    return {
      position: now,
      heads: this.records()
        .filter(({ id }) => changed.has(id))
        .map(headOf),
    };
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

  async heldForMs(id: string, key: string, fingerprint: string): Promise<number | undefined> {
    const since = sinceWhen(this.#current(id), key, fingerprint);
    return since && this.now() - since.getTime();
  }

  async commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void> {
    // The first is the only one that can be refused: nothing happens in between, and a write ends once.
    for (const { id, handled } of next)
      if (handled !== undefined && this.handled.has(handledKey(handled.write))) throw new Conflict(id);
    // All but the last never are the current one.
    const current = next[0] && this.#current(next[0].id);
    for (const [index, each] of next.entries()) {
      const { write, ...version } = each;
      this.#commit(writer, index === 0 ? each : version, write?.vaultUrl, current);
    }
  }

  async commitVersion(writer: Writer | Unled, next: NewVersion): Promise<void> {
    await this.commitVersions(writer, [next]);
  }

  #commit(writer: Writer | Unled, next: NewVersion, vaultUrl: string | undefined, current: KeptFake | undefined): void {
    this.#database.fenceLed(writer);
    const { id, identity, expected, generation, mac, sealed, lifecycle, rotation, audit } = next;
    const { currentVersion = sealed.version } = next;
    const before = expected === undefined ? undefined : this.#expect(id, expected);
    if (expected === undefined && this.#byIdentity(identity) !== undefined) throw new Conflict(id);
    this.#database.assertNewest(sealed.projectKeyId);
    if (before !== undefined && before.record.state !== "Active") this.onState(id, "Active");
    if (next.write !== undefined) this.onWritten(id, next.write);
    const entries = sealed.entries.map(({ ciphertext: _, ...digest }) => digest);
    const delivery = before?.record.delivery;
    const record: SecretRecord = {
      id,
      identity,
      state: "Active",
      currentVersion,
      generation,
      lifecycle,
      ...(rotation === undefined ? {} : { rotation }),
      entries:
        currentVersion === sealed.version
          ? entries.sort((a, b) => (a.key < b.key ? -1 : 1))
          : (before?.record.entries ?? []),
      ...(delivery === undefined ? {} : { delivery }),
      ...(vaultUrl === undefined ? {} : { vaultUrl }),
    };
    const kept = new Set(entries.map(({ key }) => key));
    for (const { key } of before?.record.entries ?? []) if (!kept.has(key)) this.#bury(before?.record, key);
    for (const key of kept) this.#tombstones.delete(`${id} ${key}`);
    this.#tombstones.delete(`${id} `);
    const versions = before?.versions ?? new Map();
    const createdAt = new Date(this.now());
    const setAt = new Date(this.now() - (next.handled?.ageMs ?? 0));
    const since = new Map(
      entries.map(({ key, fingerprint }) => [key, sinceWhen(current, key, fingerprint) ?? setAt] as const),
    );
    versions.set(sealed.version, { sealed, createdAt, since });
    if (next.handled !== undefined)
      this.handled.set(handledKey(next.handled.write), { write: next.handled.write, at: this.now() });
    this.#put(writer, { record, mac, versions }, audit);
  }

  async changePointer(writer: Writer | Unled, change: PointerChange): Promise<void> {
    this.#database.fenceLed(writer);
    const before = this.#expect(change.id, change.expected);
    const { identity, delivery, vaultUrl } = before.record;
    const entries = digestsOf(before, change.currentVersion);
    if (change.tombstone === true) this.#bury(before.record, "");
    if (change.state === "Active") this.#tombstones.delete(`${change.id} `);
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
      ...(vaultUrl === undefined ? {} : { vaultUrl }),
    };
    if (change.state !== before.record.state) this.onState(change.id, change.state);
    this.#put(writer, { record, mac: change.mac, versions: before.versions }, change.audit);
  }

  async purge(
    writer: Writer,
    id: string,
    expected: bigint,
    audit: readonly AuditEntry[],
    { tombstone = false }: Pick<PointerChange, "tombstone"> = {},
  ): Promise<void> {
    this.#database.fence(writer);
    const { record } = this.#expect(id, expected);
    const { identity } = record;
    if (tombstone) this.#bury(record, "");
    this.#secrets.delete(id);
    this.onState(id, "Purged");
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

  /** As a backup: what it gives brings everything back to as it is now. */
  backup(): () => void {
    const secrets = [...this.#secrets].map(([id, { versions, ...held }]) => [id, held, [...versions]] as const);
    const handled = [...this.handled];
    const audited = this.#database.audit.length;
    return () => {
      this.#secrets.clear();
      for (const [id, held, versions] of secrets) this.#secrets.set(id, { ...held, versions: new Map(versions) });
      this.handled.clear();
      for (const [key, each] of handled) this.handled.set(key, each);
      this.#database.audit.splice(audited);
    };
  }

  idOf(identity: SecretIdentity): string | undefined {
    return this.#byIdentity(identity)?.record.id;
  }

  has(id: string): boolean {
    return this.#secrets.has(id);
  }

  /** All records, ordered by id. */
  records(): readonly SecretRecord[] {
    return [...this.#secrets.values()].map(({ record }) => record).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** See `Ending`. */
  tombstonesOf(id: string): readonly { readonly key: string; readonly secretName: string; readonly age: number }[] {
    const found = [...this.#tombstones].filter(([place]) => place.startsWith(`${id} `));
    return found.map(([place, { secretName, at }]) => ({
      key: place.slice(id.length + 1),
      secretName,
      age: this.now() - at,
    }));
  }

  #bury(record: SecretRecord | undefined, key: string): void {
    if (record === undefined) return;
    this.#tombstones.set(`${record.id} ${key}`, { secretName: record.identity.name, at: this.now() });
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

  #current(id: string): KeptFake | undefined {
    const { record, versions } = this.#secrets.get(id) ?? {};
    return versions?.get(record?.currentVersion ?? 0);
  }

  #expect(id: string, generation: bigint): Held {
    const held = this.#secrets.get(id);
    if (held?.record.generation !== generation) throw new Conflict(id);
    return held;
  }

  #put(writer: Writer | Unled, held: Held, audit: readonly AuditEntry[]): void {
    const { id, identity, currentVersion, lifecycle, rotation } = held.record;
    const kept = new Set([...(rotation?.held ?? []).map(({ version }) => version), rotation?.apply?.pending?.version]);
    const failed = rotation?.apply?.failed ?? [];
    for (const version of held.versions.keys()) {
      const falls =
        version > currentVersion ? !failed.includes(version) : version <= currentVersion - lifecycle.keepVersions;
      if (falls && !kept.has(version)) held.versions.delete(version);
    }
    this.#secrets.set(id, held);
    this.#database.record(audit);
    this.#database.changed(writer, id, identity.namespace, identity.name);
  }
}

function digestsOf({ record, versions }: Held, version: number): SecretRecord["entries"] {
  if (version === record.currentVersion) return record.entries;
  const entries = versions.get(version)?.sealed.entries ?? [];
  return entries.map(({ ciphertext: _, ...digest }) => digest).sort((a, b) => (a.key < b.key ? -1 : 1));
}

const identityText = ({ project, environment, namespace, namespaceUid, name }: SecretIdentity): string =>
  JSON.stringify([project, environment, namespace, namespaceUid, name]);

const headOf = ({ id, identity, state, currentVersion, generation, entries }: SecretRecord): SecretHead => ({
  id,
  identity,
  state,
  currentVersion,
  generation,
  fingerprints: entries.map(({ key, fingerprint }) => ({ key, fingerprint })),
});

function locationOf({ id, identity, state, lifecycle, delivery }: SecretRecord): SecretLocation {
  if (delivery === undefined) return { id, identity, state, lifecycle };
  const { secretName, uid, resourceVersion } = delivery;
  return { id, identity, state, lifecycle, delivery: { secretName, uid, resourceVersion } };
}

/** Undefined when it has another value. */
const sinceWhen = (kept: KeptFake | undefined, key: string, fingerprint: string): Date | undefined =>
  kept?.sealed.entries.some((entry) => entry.key === key && entry.fingerprint === fingerprint)
    ? kept.since.get(key)
    : undefined;
