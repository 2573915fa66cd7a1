/** Makes versions, and changes what stands beside them; each with its audit rows, in one transaction. */
import { randomUUID } from "node:crypto";
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import { KeyReplaced } from "../ports/key-store.ts";
import type {
  Lifecycle,
  NewVersion,
  RotationRecord,
  SecretIdentity,
  SecretRecord,
  SecretState,
  Unled,
  VaultStore,
  Writer,
} from "../ports/vault-store.ts";
import { causeDetails, secretEntry } from "./audit-entries.ts";
import type { RotationCause } from "./due.ts";
import type { KeyRing, ProjectKeys } from "./keyring.ts";
import { type MadeEntry, replaceEntries } from "./material.ts";
import { pointerMac, pointerOf, sameLifecycle } from "./pointer.ts";
import type { Evidence, Handling, PutRequest, Stored } from "./requests.ts";
import { expired, nextNumber, standing } from "./retention.ts";
import type { StoredValues } from "./storage.ts";
import type { StoredVersions } from "./stored-versions.ts";
import { sealVersion } from "./version.ts";

/** What becomes a version. */
export interface NextVersion {
  readonly identity: SecretIdentity;
  readonly seen: SecretRecord | undefined;
  readonly lifecycle: Lifecycle;
  /** The one that it has when absent. */
  readonly rotation?: RotationRecord | undefined;
  readonly actor: Actor;
  readonly material: readonly MadeEntry[];
  /** Keys whose value was made anew. */
  readonly made: readonly string[];
  /** What else the audit row says. */
  readonly details?: AuditEntry["details"];
  /** Why its values were made, where they were rotated. */
  readonly cause?: RotationCause;
  /** It does not become current yet. */
  readonly pending?: boolean;
  /** See `PutRequest`. */
  readonly handled?: Handling | undefined;
}

interface Prepared {
  readonly record: SecretRecord;
  readonly version: NewVersion;
}

/** Errors as of `Vault`. */
export class Commits {
  readonly #store: VaultStore;
  readonly #keys: KeyRing;
  readonly #versions: StoredVersions;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: VaultStore;
    readonly keys: KeyRing;
    readonly versions: StoredVersions;
    readonly now: () => Date;
  }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#versions = parts.versions;
    this.#now = parts.now;
  }

  /** A version in which these entries have other values, and what is made of them; none where all have them already. */
  async replace(
    writer: Writer | Unled,
    keys: ProjectKeys,
    change: Omit<NextVersion, "material" | "made"> &
      Pick<PutRequest, "entries"> & { readonly replaced: PutRequest["values"] },
  ): Promise<Stored> {
    const { entries, replaced, ...next } = change;
    const { identity, seen } = next;
    const current = seen === undefined ? [] : await this.#versions.openCurrent(keys, seen);
    let material: readonly MadeEntry[] = current;
    try {
      const digester = this.#versions.digester(keys, identity);
      material = await replaceEntries(digester, entries, current, replaced, next.cause !== undefined);
      const before = new Map(current.map(({ key, fingerprint }) => [key, fingerprint]));
      const made = material.filter(({ key, fingerprint }) => before.get(key) !== fingerprint).map(({ key }) => key);
      if (seen !== undefined && made.length === 0) return { record: seen, created: false, changedKeys: [] };
      const lifecycle = seen?.lifecycle ?? next.lifecycle;
      const record = await this.commit(writer, keys, [{ ...next, lifecycle, material, made }]);
      return { record, created: true, changedKeys: made };
    } finally {
      const given = new Set(replaced.values());
      for (const { value } of [...current, ...material]) if (!given.has(value)) value.dispose();
    }
  }

  /**
   * Makes versions, each seeing the one before; all of them, or none. Under the newest version of the project key, of
   * which this replica may not have heard.
   */
  async commit(
    writer: Writer | Unled,
    keys: ProjectKeys,
    next: readonly [NextVersion, ...Omit<NextVersion, "seen">[]],
  ): Promise<SecretRecord> {
    const { identity, seen, actor } = next[0];
    const id = seen?.id ?? randomUUID();
    const storage = await this.#versions.storageFor(identity, seen);
    const stored = await storage.store(writer, {
      id,
      identity,
      seen,
      versions: next.map(({ material }) => material),
      sealed: async () =>
        seen === undefined
          ? new Map()
          : this.#versions.openSealed(keys, seen, await this.#versions.read(seen, seen.currentVersion)),
      actor,
    });
    try {
      return await this.#commitWith(writer, keys, id, next, stored).catch(async (error: unknown) => {
        if (!(error instanceof KeyReplaced)) throw error;
        return this.#commitWith(writer, await this.#keys.reloadProject(identity.project), id, next, stored);
      });
    } catch (error) {
      await stored.release();
      throw error;
    }
  }

  /** Brings state and lifecycle to what they should be without a new version. */
  async settle(writer: Writer | Unled, seen: SecretRecord, lifecycle: Lifecycle, actor: Actor): Promise<SecretRecord> {
    const actions: AuditAction[] = [];
    if (seen.state !== "Active") actions.push("SecretRecovered");
    if (!sameLifecycle(seen.lifecycle, lifecycle)) actions.push("SecretLifecycleChanged");
    if (actions.length === 0) return seen;
    return this.move(writer, seen, { ...active(seen), lifecycle }, actor, actions);
  }

  /** Changes the pointer without a new version. */
  async move(
    writer: Writer | Unled,
    seen: SecretRecord,
    wanted: SecretRecord,
    actor: Actor,
    actions: readonly AuditAction[],
    more: AuditEntry["details"] = {},
    evidence: Evidence = {},
  ): Promise<SecretRecord> {
    const keys = await this.#versions.existingKeys(seen.identity);
    const { rotation, ...moved } = wanted;
    const record = { ...moved, ...standing(rotation, this.#now()), generation: seen.generation + 1n };
    const details = { state: record.state, version: record.currentVersion, ...more };
    const audit = [
      ...actions.map((action) => secretEntry(action, record, actor, details)),
      ...this.#expiry(seen, record, actor),
    ];
    const mac = pointerMac(keys.pointer, this.#keys.installationId, record);
    const change = { ...pointerOf(record), expected: seen.generation, mac, audit };
    await this.#store.changePointer(writer, { ...change, ...evidence });
    return record;
  }

  async #commitWith(
    writer: Writer | Unled,
    keys: ProjectKeys,
    id: string,
    next: readonly [NextVersion, ...Omit<NextVersion, "seen">[]],
    stored: StoredValues,
  ): Promise<SecretRecord> {
    const prepared: Prepared[] = [];
    let seen = next[0].seen;
    for (const [index, each] of next.entries()) {
      const material = stored.versions[index] ?? [];
      const made = await this.#prepare(writer, keys, id, { ...each, seen, material }, stored);
      seen = made.record;
      prepared.push(made);
    }
    const last = prepared.at(-1);
    if (last === undefined) throw new RangeError("there is no version to commit");
    const versions = prepared.map(({ version }) => version);
    const [first, ...others] = versions;
    if (first !== undefined && others.length === 0) await this.#store.commitVersion(writer, first);
    else await this.#store.commitVersions(writer, versions);
    this.#versions.remember(last.record.id, last.version.sealed);
    return last.record;
  }

  async #prepare(
    writer: Writer | Unled,
    keys: ProjectKeys,
    id: string,
    {
      identity,
      seen,
      lifecycle,
      rotation,
      actor,
      material,
      made,
      details = {},
      cause,
      pending = false,
      handled,
    }: NextVersion,
    { write, audit: written }: Pick<StoredValues, "write" | "audit">,
  ): Promise<Prepared> {
    const version = nextNumber(seen);
    const sealed = await sealVersion(writer, keys, this.#keys.installationId, identity, version, material);
    const record: SecretRecord = {
      ...(seen?.delivery === undefined ? {} : { delivery: seen.delivery }),
      id,
      identity,
      state: "Active",
      currentVersion: pending ? (seen?.currentVersion ?? version) : version,
      generation: (seen?.generation ?? 0n) + 1n,
      lifecycle,
      ...standing(rotation ?? seen?.rotation, this.#now()),
      ...(write !== undefined && { vaultUrl: write.vaultUrl }),
      entries:
        pending && seen !== undefined
          ? seen.entries
          : sealed.entries.map(({ key, recipe, fingerprint }) => ({ key, recipe, fingerprint })),
    };
    const madeKeys = [...made].sort().join(",");
    const more = pending && cause !== undefined ? { pending, ...causeDetails(cause), ...details } : details;
    const audit = [
      secretEntry("SecretVersionCreated", record, actor, { version, made: madeKeys, ...more }),
      ...(cause === undefined || pending
        ? []
        : [secretEntry("SecretRotated", record, actor, { version, made: madeKeys, ...causeDetails(cause) })]),
      ...(seen === undefined || seen.state === "Active"
        ? []
        : [secretEntry("SecretRecovered", record, actor, { version })]),
      ...this.#expiry(seen, record, actor),
      ...written,
    ];
    const { generation } = record;
    const mac = pointerMac(keys.pointer, this.#keys.installationId, record);
    const expected = seen?.generation;
    const { currentVersion } = record;
    const rotated = record.rotation === undefined ? {} : { rotation: record.rotation };
    const kept = write === undefined ? {} : { write };
    const settled = handled === undefined ? {} : { handled: handled(version, [...made].sort()) };
    const own = { ...rotated, ...kept, ...settled };
    const next = { id, identity, expected, generation, mac, sealed, currentVersion, lifecycle, ...own };
    return { record, version: { ...next, audit } };
  }

  /** One row for each range of versions that the store deletes along with this change. */
  #expiry(before: SecretRecord | undefined, after: SecretRecord, actor: Actor): readonly AuditEntry[] {
    if (before === undefined) return [];
    return expired(before, after).map((range) => secretEntry("SecretVersionExpired", after, actor, range));
  }
}

export function active({ deletedAt: _, purgeAfter: __, ...record }: SecretRecord): SecretRecord {
  return { ...record, state: "Active" satisfies SecretState };
}
