/** Versions as they are stored: found, judged and opened. */
import { Unavailable } from "../errors.ts";
import type { Actor } from "../ports/audit-log.ts";
import {
  Conflict,
  type SealedVersion,
  type SecretIdentity,
  type SecretRecord,
  type StoredPointer,
  type VaultStore,
} from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { Digester } from "./fingerprint.ts";
import type { KeyRing, ProjectKeys } from "./keyring.ts";
import type { MadeEntry } from "./material.ts";
import { verifiedRecord } from "./pointer.ts";
import { notActive, storageDiffers } from "./refusals.ts";
import type { StorageOf, ValueStorage } from "./storage.ts";
import { openVersion } from "./version.ts";

/** More than are worked on at once. */
const REMEMBERED = 256;

/** Errors as of `Vault`. What it opens is disposed of by the caller. */
export class StoredVersions {
  readonly #store: VaultStore;
  readonly #keys: KeyRing;
  readonly #storage: StorageOf;
  /** What was just committed, still sealed: its delivery reads it next, and need not ask the store for it. */
  readonly #committed = new Map<string, SealedVersion>();

  constructor(parts: { readonly store: VaultStore; readonly keys: KeyRing; readonly storage: StorageOf }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#storage = parts.storage;
  }

  /** The record, its MAC and its age verified; undefined when the secret was never stored or is purged. */
  async describe(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#verified(identity, await this.#store.find(identity));
  }

  /** The same, to be opened next: its current version comes with it. */
  async describeToOpen(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#verified(identity, await this.#store.findSealed(identity));
  }

  /** The same of many at once, by id: the record, or why it cannot be told; nothing for what is not stored. */
  async describeAllToOpen(ids: readonly string[]): Promise<ReadonlyMap<string, SecretRecord | Error>> {
    const found = await this.#store.findSealedAll(ids);
    const judged = found.map(async (pointer) => {
      const { id, identity } = pointer.record;
      const verified = this.#verified(identity, pointer).catch((error: unknown) => error as Error);
      return [id, await verified] as const;
    });
    return new Map((await Promise.all(judged)).flatMap(([id, told]) => (told === undefined ? [] : [[id, told]])));
  }

  async #verified(identity: SecretIdentity, found: StoredPointer | undefined): Promise<SecretRecord | undefined> {
    if (found === undefined) return undefined;
    const keys = await this.existingKeys(identity);
    return verifiedRecord(keys.pointer, this.#keys.installationId, found);
  }

  /**
   * A version of this record, still sealed.
   *
   * @throws Unavailable SecretNotStored when it is not kept, TamperDetected; Conflict
   */
  async read(record: SecretRecord, version: number): Promise<SealedVersion> {
    const known = record.sealed?.version === version ? record.sealed : this.#recall(record.id, version);
    const sealed = known ?? (await this.#store.readVersion(record.id, version));
    if (sealed !== undefined && (version !== record.currentVersion || sameEntries(record, sealed))) return sealed;
    const name = `version ${version} of secret ${record.identity.namespace}/${record.identity.name}`;
    if (version !== record.currentVersion) throw new Unavailable("SecretNotStored", `${name} is no longer kept`);
    const now = await this.describe(record.identity);
    if (now?.generation !== record.generation) throw new Conflict(record.id);
    throw new Unavailable("TamperDetected", `${name} has lost or exchanged entries; see the runbook`);
  }

  /** The values of a version, wherever they are. */
  async open(
    keys: ProjectKeys,
    record: SecretRecord,
    sealed: SealedVersion,
    only?: readonly string[],
    actor?: Actor,
  ): Promise<ReadonlyMap<string, Sensitive>> {
    const opened = await this.openSealed(keys, record, sealed, only);
    if (record.vaultUrl === undefined) return opened;
    const storage = await this.storageFor(record.identity, record);
    const digester = this.digester(keys, record.identity);
    return storage.read({ record, digester, entries: sealed.entries, sealed: opened, actor });
  }

  /** As `open`, also when its data key is wrapped by a version that another replica has made. */
  async openSealed(
    keys: ProjectKeys,
    { id, identity }: SecretRecord,
    sealed: SealedVersion,
    only?: readonly string[],
  ): Promise<ReadonlyMap<string, Sensitive>> {
    const { installationId } = this.#keys;
    if (keys.has(sealed.projectKeyId)) return openVersion(keys, installationId, identity, sealed, only);
    const known = await this.#keys.reloadProject(identity.project);
    // Unless it has been wrapped anew once more since it was read, and that version is retired.
    const read = known.has(sealed.projectKeyId) ? undefined : await this.#store.readVersion(id, sealed.version);
    return openVersion(known, installationId, identity, read ?? sealed, only);
  }

  /** All entries of the current version of a secret that may be changed. */
  async openCurrent(keys: ProjectKeys, seen: SecretRecord): Promise<readonly MadeEntry[]> {
    if (seen.state !== "Active") throw notActive(seen);
    const sealed = await this.read(seen, seen.currentVersion);
    const values = await this.open(keys, seen, sealed);
    return sealed.entries.flatMap(({ ciphertext: _, ...digest }): MadeEntry[] => {
      const value = values.get(digest.key);
      return value === undefined ? [] : [{ ...digest, value }];
    });
  }

  /** Where the values of a secret are, or shall be; they stay where they are. */
  async storageFor(identity: SecretIdentity, seen: SecretRecord | undefined): Promise<ValueStorage> {
    const storage = await this.#storage(identity);
    if (seen === undefined || seen.vaultUrl === storage.vaultUrl) return storage;
    throw storageDiffers(seen, storage);
  }

  /** It is read next, most likely. */
  remember(id: string, sealed: SealedVersion): void {
    if (this.#committed.size >= REMEMBERED) this.#committed.delete(this.#committed.keys().next().value ?? "");
    this.#committed.set(id, sealed);
  }

  /** Only once, so that nothing is kept for a secret at rest. */
  #recall(id: string, version: number): SealedVersion | undefined {
    const sealed = this.#committed.get(id);
    this.#committed.delete(id);
    return sealed?.version === version ? sealed : undefined;
  }

  /** @throws Unavailable TamperDetected: who has secrets has keys */
  async existingKeys({ project }: SecretIdentity): Promise<ProjectKeys> {
    const keys = await this.#keys.existingProject(project);
    if (keys === undefined) {
      throw new Unavailable("TamperDetected", `the keys of project ${project} are gone although it has secrets`);
    }
    return keys;
  }

  /** Keyed digests bound to this secret. */
  digester(keys: ProjectKeys, identity: SecretIdentity): Digester {
    return new Digester(keys.fingerprint, this.#keys.installationId, identity);
  }
}

/** The digests that came with the pointer and those beside the ciphertexts must tell the same story. */
function sameEntries({ entries }: SecretRecord, { entries: stored }: SealedVersion): boolean {
  const fingerprints = new Map(stored.map(({ key, fingerprint }) => [key, fingerprint]));
  return (
    fingerprints.size === entries.length &&
    entries.every(({ key, fingerprint }) => fingerprints.get(key) === fingerprint)
  );
}
