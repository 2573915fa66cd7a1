import { randomUUID } from "node:crypto";
import type { GeneratorSpec, ReaderSpec, SecretEntry } from "../../crds/secret.ts";
import { Fenced, Stalled, Unavailable } from "../errors.ts";
import type { Actor, AuditAction, AuditEntry, AuditLog } from "../ports/audit-log.ts";
import { KeyReplaced } from "../ports/key-store.ts";
import {
  Conflict,
  type KeptVersion,
  type Lifecycle,
  type NewVersion,
  type RotationRecord,
  type SealedVersion,
  type SecretIdentity,
  type SecretRecord,
  type SecretState,
  type StoredPointer,
  type Unled,
  type VaultStore,
  type Writer,
} from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { RotationCause } from "./due.ts";
import { assertSealedFor } from "./end-to-end.ts";
import { Digester } from "./fingerprint.ts";
import { generate } from "./generate.ts";
import type { KeyRing, ProjectKeys } from "./keyring.ts";
import { type MadeEntry, makeEntries, replaceEntries } from "./material.ts";
import { type Pointer, pointerMac, sameLifecycle, verifiedRecord } from "./pointer.ts";
import { planVersion } from "./recipe.ts";
import { expired, standing, withHeld } from "./retention.ts";
import { type SealingKey, type SignedSealingKey, signSealingKey, unseal } from "./sealing.ts";
import { openVersion, sealVersion } from "./version.ts";

export interface PreparedProject {
  /** Of the project key in use. */
  readonly version: number;
  readonly sealingKey: SealingKey;
}

export interface StoreRequest {
  readonly identity: SecretIdentity;
  /** What `describe` returned; the write is conditional on its generation. */
  readonly seen: SecretRecord | undefined;
  readonly entries: readonly SecretEntry[];
  /** Values of the entries with a secretRef, by entry key. */
  readonly sources: ReadonlyMap<string, Sensitive>;
  readonly lifecycle: Lifecycle;
  /** Of a secret that was never stored, see `firstRotation`; of any other the one that it has stays. */
  readonly rotation?: RotationRecord | undefined;
  readonly actor: Actor;
}

export interface RotateRequest {
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  /** Of generated entries that the current version has. */
  readonly keys: readonly string[];
  readonly cause: RotationCause;
  /** How long the version before stays readable, in milliseconds, whatever retention says. */
  readonly overlapMs: number;
  readonly actor: Actor;
}

export interface Stored {
  readonly record: SecretRecord;
  /** Whether there is a new version. */
  readonly created: boolean;
  /** Keys whose value was made anew. */
  readonly changedKeys: readonly string[];
}

/** Writes external entries; everything else of the current version stays as it is, but for templates over them. */
export interface PutRequest {
  readonly identity: SecretIdentity;
  /** What `describe` returned; the write is conditional on its generation. */
  readonly seen: SecretRecord | undefined;
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  /** With protection EndToEnd, as the manifest has them: each value must be sealed for them. */
  readonly readers: readonly ReaderSpec[] | undefined;
  /** By entry key; each must be external, or also generated where `alsoGenerated` says so. */
  readonly values: ReadonlyMap<string, Sensitive>;
  /** For values that another side made where ours would have. */
  readonly alsoGenerated?: boolean;
  /** What else the audit row says, such as where they come from. */
  readonly details?: AuditEntry["details"];
  /** Of a secret that was never stored; of any other the one that it has stays. */
  readonly lifecycle: Lifecycle;
  readonly actor: Actor;
}

export interface RollbackRequest {
  /** One that is kept. */
  readonly version: number;
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  readonly actor: Actor;
}

export interface RolledBack extends Stored {
  /** Keys that the version has with another value, which follows its source instead: the manifest or a core Secret. */
  readonly kept: readonly string[];
}

export interface OpenOptions {
  /** The current version when absent. */
  readonly version?: number;
  /** All entries when absent. */
  readonly keys?: readonly string[];
  readonly actor: Actor;
  /** Why it is read, for the audit record: `Delivery`, `Push`. */
  readonly purpose: string;
}

export interface Opened {
  readonly version: number;
  readonly values: ReadonlyMap<string, Sensitive>;
}

/** What becomes a version. */
interface NextVersion {
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
}

/** What a core Secret can hold. */
const LARGEST_VALUE = 1_048_576;

/** More than are worked on at once. */
const REMEMBERED = 256;

/**
 * The vault: encrypted, immutable versions of secrets, and the pointer to the current one.
 *
 * Errors, common to all methods: `Conflict` when somebody else moved the pointer since it was read; `Fenced`;
 * `Unavailable` with DatabaseUnavailable, KeyUnavailable, TamperDetected.
 */
export class Vault {
  readonly #store: VaultStore;
  readonly #keys: KeyRing;
  readonly #audit: AuditLog;
  readonly #now: () => Date;
  /** What was just committed, still sealed: its delivery reads it next, and need not ask the store for it. */
  readonly #committed = new Map<string, SealedVersion>();

  constructor(parts: {
    readonly store: VaultStore;
    readonly keys: KeyRing;
    readonly audit: AuditLog;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#audit = parts.audit;
    this.#now = parts.now ?? (() => new Date());
  }

  /** Makes the project's keys, and what signs the public ones, on first use, else unwraps them. */
  async prepareProject(writer: Writer, project: string): Promise<PreparedProject> {
    const { version } = await this.#keys.project(writer, project);
    const { current } = await this.#keys.sealing(writer, project);
    await this.#keys.signing(writer);
    return { version, sealingKey: { id: current.id, publicKey: current.publicKey } };
  }

  /** The key to seal values of this project for, signed by the installation; undefined while there is none. */
  async sealingKey(project: string): Promise<SignedSealingKey | undefined> {
    const [keys, signer] = await Promise.all([this.#keys.existingSealing(project), this.#keys.existingSigning()]);
    if (keys === undefined || signer === undefined) return undefined;
    const { id, publicKey } = keys.current;
    return signSealingKey(signer, { id, publicKey, project, installation: this.#keys.installationId });
  }

  /** Keyed digests bound to this secret, to decide with and to recognise what was delivered. */
  async digester(writer: Writer, identity: SecretIdentity): Promise<Digester> {
    return this.#digester(await this.#keys.project(writer, identity.project), identity);
  }

  /** The record, its MAC and its age verified; undefined when the secret was never stored or is purged. */
  async describe(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#verified(identity, await this.#store.find(identity));
  }

  /** The same, to be opened next: its current version comes with it. */
  async describeToOpen(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#verified(identity, await this.#store.findSealed(identity));
  }

  async #verified(identity: SecretIdentity, found: StoredPointer | undefined): Promise<SecretRecord | undefined> {
    if (found === undefined) return undefined;
    const keys = await this.#existingKeys(identity);
    return verifiedRecord(keys.pointer, this.#keys.installationId, found);
  }

  /**
   * Makes a new version when an entry changed, recovers a secret that is not Active, records a changed lifecycle; all in
   * one transaction, and nothing at all when nothing changed.
   *
   * @throws Stalled TemplateInvalid, TemplateCycle, ValueInvalid, SealedValueInvalid; Waiting SourceNotFound
   */
  async store(writer: Writer, request: StoreRequest): Promise<Stored> {
    const { identity, seen, entries, sources, lifecycle, rotation, actor } = request;
    const keys = await this.#keys.project(writer, identity.project);
    const digester = this.#digester(keys, identity);
    const fingerprints = new Map([...sources].map(([key, value]) => [key, digester.fingerprint(key, value)]));
    const plan = planVersion(digester, entries, seen?.entries ?? [], fingerprints);
    if (plan.kind === "Unchanged") {
      if (seen === undefined) throw new RangeError("a secret needs at least one value");
      return { record: await this.#settle(writer, seen, lifecycle, actor), created: false, changedKeys: [] };
    }
    const { made } = plan;
    // Opened here, and so disposed of here; sources are the caller's.
    const own: Sensitive[] = [];
    try {
      const opened = await this.#unseal(
        writer,
        identity,
        entries.filter(({ key }) => made.includes(key)),
      );
      own.push(...opened.values());
      const kept = await this.#keptValues(keys, seen, entries, new Set(made));
      own.push(...kept.values());
      const material = await makeEntries(digester, entries, new Map([...sources, ...opened]), kept);
      const given = new Set(sources.values());
      own.push(...material.flatMap(({ value }) => (given.has(value) ? [] : [value])));
      const record = await this.#commit(writer, keys, [{ identity, seen, lifecycle, rotation, actor, material, made }]);
      return { record, created: true, changedKeys: made };
    } finally {
      for (const value of own) value.dispose();
    }
  }

  /**
   * Makes a new version with these values, unless it has them already. For whoever does not lead, too: the leader hears
   * of it through the outbox, delivers it, and makes what may still be missing.
   *
   * @throws Stalled ValueInvalid, TemplateInvalid, TemplateCycle, SecretNotStored when it is not Active
   */
  async put(writer: Writer | Unled, request: PutRequest): Promise<Stored> {
    const { values, readers, alsoGenerated = false, ...change } = request;
    assertWritable(change.entries, values, alsoGenerated);
    if (readers !== undefined) for (const [key, value] of values) assertSealedFor(readers, key, value);
    const { project } = change.identity;
    const keys =
      change.seen === undefined ? await this.#keys.existingProject(project) : await this.#existingKeys(change.identity);
    if (keys === undefined) {
      throw new Unavailable("KeyUnavailable", `project ${project} has no keys yet: they are made when it is applied`);
    }
    return this.#replace(writer, keys, { ...change, replaced: values });
  }

  /**
   * Makes a new version in which these generated entries have new values, and templates that refer to them; all others
   * stay as they are. That it was done, for what, is part of the version: whoever sees the record sees both or neither.
   *
   * @throws Stalled ValueInvalid, TemplateInvalid, TemplateCycle, SecretNotStored when it is not Active
   */
  async rotate(writer: Writer | Unled, seen: SecretRecord, request: RotateRequest): Promise<Stored> {
    const { entries, keys: names, cause, overlapMs, actor } = request;
    const generators = rotated(entries, seen, names);
    const keys = await this.#existingKeys(seen.identity);
    const replaced = new Map<string, Sensitive>();
    try {
      for (const { key, generate: parameters } of generators) replaced.set(key, await generate(key, parameters));
      const now = this.#now();
      const { identity, lifecycle, rotation = { since: now, held: [] } } = seen;
      const at = cause.kind === "Timetable" && cause.due > now ? cause.due : now;
      const next: RotationRecord = {
        ...withHeld(rotation, seen.currentVersion, new Date(now.getTime() + overlapMs), now),
        at,
        ...(cause.kind === "Request" && cause.token !== undefined && { request: cause.token }),
      };
      return await this.#replace(writer, keys, {
        identity,
        seen,
        entries,
        replaced,
        lifecycle,
        rotation: next,
        cause,
        actor,
      });
    } finally {
      for (const value of replaced.values()) value.dispose();
    }
  }

  /** Records what the manifest asks for now; no value changes. */
  async changeRotation(
    writer: Writer,
    seen: SecretRecord,
    rotation: RotationRecord,
    actor: Actor,
  ): Promise<SecretRecord> {
    return this.#move(writer, seen, { ...seen, rotation }, actor, ["SecretRotationChanged"], {
      timetable: rotation.timetable ?? "none",
    });
  }

  /**
   * Keeps values that lost against the current ones as a version of their own, directly below a new one that has the
   * current ones again: at no moment are they current. Does nothing for those that a kept version has already.
   */
  async keepBeside(
    writer: Writer,
    record: SecretRecord,
    request: Pick<PutRequest, "entries" | "values" | "actor" | "details">,
  ): Promise<SecretRecord> {
    const { entries, values, actor, details } = request;
    const keys = await this.#existingKeys(record.identity);
    const digester = this.#digester(keys, record.identity);
    const lost = new Map<string, Sensitive>();
    for (const [key, value] of values) {
      if (!(await this.#store.keeps(record.id, key, digester.fingerprint(key, value)))) lost.set(key, value);
    }
    if (lost.size === 0) return record;
    const current = await this.#openCurrent(keys, record);
    let beside: readonly MadeEntry[] = [];
    try {
      beside = await replaceEntries(digester, entries, current, lost);
      const made = [...lost.keys()];
      const { identity, lifecycle } = record;
      const next = { identity, lifecycle, actor, made };
      return await this.#commit(writer, keys, [
        { ...next, seen: record, material: beside, details: { ...details, lost: true } },
        { ...next, material: current },
      ]);
    } finally {
      const given = new Set(values.values());
      for (const { value } of [...current, ...beside]) if (!given.has(value)) value.dispose();
    }
  }

  /**
   * Makes a new version in which generated and external entries have their values of an older one. What follows the
   * manifest or a core Secret keeps its present value; templates are rendered anew.
   *
   * @throws Stalled SecretNotStored when it is not Active; Unavailable SecretNotStored when the version is not kept
   */
  async rollback(writer: Writer | Unled, record: SecretRecord, request: RollbackRequest): Promise<RolledBack> {
    const { version, entries, actor } = request;
    const keys = await this.#existingKeys(record.identity);
    const sealed = await this.#readVersion(record, version);
    const present = new Map(record.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const others = new Set(
      sealed.entries.filter(({ key, fingerprint }) => present.get(key) !== fingerprint).map(({ key }) => key),
    );
    const differing = entries.filter(({ key, template }) => template === undefined && others.has(key));
    const isKept = ({ generate, external }: SecretEntry) => generate !== undefined || external !== undefined;
    const restored = differing.filter(isKept).map(({ key }) => key);
    const kept = differing.filter((entry) => !isKept(entry)).map(({ key }) => key);
    const replaced = await this.#openVersion(keys, record, sealed, restored);
    try {
      const { identity, lifecycle } = record;
      const change = {
        identity,
        seen: record,
        entries,
        replaced,
        lifecycle,
        actor,
        details: { rolledBackTo: version },
      };
      return { ...(await this.#replace(writer, keys, change)), kept };
    } finally {
      for (const value of replaced.values()) value.dispose();
    }
  }

  /** The versions that are kept, newest first. */
  async versions(record: SecretRecord): Promise<readonly KeptVersion[]> {
    return this.#store.listVersions(record.id);
  }

  /** Whether a version that is kept has a value of this fingerprint under this key. */
  keeps(id: string, key: string, fingerprint: string): Promise<boolean> {
    return this.#store.keeps(id, key, fingerprint);
  }

  /** The fingerprint of an entry in a version; undefined when it is not kept, or has no such entry. */
  async fingerprintIn(record: SecretRecord, version: number, key: string): Promise<string | undefined> {
    const sealed = await this.#store.readVersion(record.id, version);
    return sealed?.entries.find((entry) => entry.key === key)?.fingerprint;
  }

  /** Decrypts a version of a record that `describe` or `store` returned. The read is on record before this resolves. */
  async open(record: SecretRecord, options: OpenOptions): Promise<Opened> {
    const { identity } = record;
    const version = options.version ?? record.currentVersion;
    const keys = await this.#existingKeys(identity);
    const sealed = await this.#readVersion(record, version);
    const values = await this.#openVersion(keys, record, sealed, options.keys);
    const read = this.#entry("SecretRead", record, options.actor, {
      version,
      purpose: options.purpose,
      keys: [...values.keys()].join(","),
    });
    try {
      await this.#audit.append([read]);
    } catch (error) {
      for (const value of values.values()) value.dispose();
      throw error;
    }
    return { version, values };
  }

  /** It can be recovered until `lifecycle.softDeleteMs` from now have passed. */
  async softDelete(writer: Writer | Unled, record: SecretRecord, actor: Actor): Promise<SecretRecord> {
    const deletedAt = this.#now();
    const purgeAfter = new Date(deletedAt.getTime() + record.lifecycle.softDeleteMs);
    return this.#move(writer, record, { ...active(record), state: "SoftDeleted", deletedAt, purgeAfter }, actor, [
      "SecretSoftDeleted",
    ]);
  }

  /** The object is gone, and everything stays. */
  async retain(writer: Writer, record: SecretRecord, actor: Actor): Promise<SecretRecord> {
    return this.#move(writer, record, { ...active(record), state: "Retained", deletedAt: this.#now() }, actor, [
      "SecretRetained",
    ]);
  }

  /** Makes a soft-deleted or retained secret Active again, its current version as it was. */
  async recover(writer: Writer | Unled, record: SecretRecord, actor: Actor): Promise<SecretRecord> {
    return this.#settle(writer, record, record.lifecycle, actor);
  }

  /** Deletes all versions for good; only the audit rows stay. */
  async purge(writer: Writer, record: SecretRecord, actor: Actor): Promise<void> {
    const next = { ...record, generation: record.generation + 1n };
    await this.#store.purge(writer, record.id, record.generation, [this.#entry("SecretPurged", next, actor, {})]);
  }

  /**
   * Purges soft-deleted secrets whose time is over, looking at no more than `limit`; returns how many. One that cannot
   * be purged does not hold up the others: its error is thrown when all had their turn.
   */
  async purgeExpired(writer: Writer, actor: Actor, limit: number): Promise<number> {
    const now = this.#now();
    const failures: unknown[] = [];
    let purged = 0;
    for (const { identity } of await this.#store.listExpired(now, limit)) {
      try {
        // The list is not authenticated: what is deleted for good is judged by the verified record.
        const record = await this.describe(identity);
        if (record?.state !== "SoftDeleted" || record.purgeAfter === undefined || record.purgeAfter > now) continue;
        await this.purge(writer, record, actor);
        purged += 1;
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return purged;
  }

  async #replace(
    writer: Writer | Unled,
    keys: ProjectKeys,
    change: Omit<NextVersion, "material" | "made"> &
      Pick<PutRequest, "entries"> & { readonly replaced: PutRequest["values"] },
  ): Promise<Stored> {
    const { entries, replaced, ...next } = change;
    const { identity, seen } = next;
    const current = seen === undefined ? [] : await this.#openCurrent(keys, seen);
    let material: readonly MadeEntry[] = current;
    try {
      const digester = this.#digester(keys, identity);
      material = await replaceEntries(digester, entries, current, replaced, next.cause !== undefined);
      const before = new Map(current.map(({ key, fingerprint }) => [key, fingerprint]));
      const made = material.filter(({ key, fingerprint }) => before.get(key) !== fingerprint).map(({ key }) => key);
      if (seen !== undefined && made.length === 0) return { record: seen, created: false, changedKeys: [] };
      const lifecycle = seen?.lifecycle ?? next.lifecycle;
      const record = await this.#commit(writer, keys, [{ ...next, lifecycle, material, made }]);
      return { record, created: true, changedKeys: made };
    } finally {
      const given = new Set(replaced.values());
      for (const { value } of [...current, ...material]) if (!given.has(value)) value.dispose();
    }
  }

  /** All entries of the current version of a secret that may be changed. */
  async #openCurrent(keys: ProjectKeys, seen: SecretRecord): Promise<readonly MadeEntry[]> {
    if (seen.state !== "Active") throw notActive(seen);
    const sealed = await this.#readVersion(seen, seen.currentVersion);
    const values = await this.#openVersion(keys, seen, sealed);
    return sealed.entries.flatMap(({ ciphertext: _, ...digest }): MadeEntry[] => {
      const value = values.get(digest.key);
      return value === undefined ? [] : [{ ...digest, value }];
    });
  }

  /**
   * Makes versions, each seeing the one before; all of them, or none. Under the newest version of the project key, of
   * which this replica may not have heard.
   */
  async #commit(
    writer: Writer | Unled,
    keys: ProjectKeys,
    next: readonly [NextVersion, ...Omit<NextVersion, "seen">[]],
  ): Promise<SecretRecord> {
    try {
      return await this.#commitWith(writer, keys, next);
    } catch (error) {
      if (!(error instanceof KeyReplaced)) throw error;
      return this.#commitWith(writer, await this.#keys.reloadProject(next[0].identity.project), next);
    }
  }

  async #commitWith(
    writer: Writer | Unled,
    keys: ProjectKeys,
    next: readonly [NextVersion, ...Omit<NextVersion, "seen">[]],
  ): Promise<SecretRecord> {
    let last = await this.#prepare(writer, keys, next[0]);
    const prepared = [last];
    for (const each of next.slice(1)) {
      last = await this.#prepare(writer, keys, { ...each, seen: last.record });
      prepared.push(last);
    }
    const versions = prepared.map(({ version }) => version);
    const [first, ...others] = versions;
    if (first !== undefined && others.length === 0) await this.#store.commitVersion(writer, first);
    else await this.#store.commitVersions(writer, versions);
    this.#remember(last.record.id, last.version.sealed);
    return last.record;
  }

  async #prepare(
    writer: Writer | Unled,
    keys: ProjectKeys,
    { identity, seen, lifecycle, rotation, actor, material, made, details = {}, cause }: NextVersion,
  ): Promise<{ readonly record: SecretRecord; readonly version: NewVersion }> {
    const version = (seen?.currentVersion ?? 0) + 1;
    const sealed = await sealVersion(writer, keys, this.#keys.installationId, identity, version, material);
    const record: SecretRecord = {
      ...(seen?.delivery === undefined ? {} : { delivery: seen.delivery }),
      id: seen?.id ?? randomUUID(),
      identity,
      state: "Active",
      currentVersion: version,
      generation: (seen?.generation ?? 0n) + 1n,
      lifecycle,
      ...standing(rotation ?? seen?.rotation, this.#now()),
      entries: sealed.entries.map(({ key, recipe, fingerprint }) => ({ key, recipe, fingerprint })),
    };
    const madeKeys = [...made].sort().join(",");
    const audit = [
      this.#entry("SecretVersionCreated", record, actor, { version, made: madeKeys, ...details }),
      ...(cause === undefined
        ? []
        : [this.#entry("SecretRotated", record, actor, { version, made: madeKeys, ...causeDetails(cause) })]),
      ...(seen === undefined || seen.state === "Active"
        ? []
        : [this.#entry("SecretRecovered", record, actor, { version })]),
      ...this.#expiry(seen, record, actor),
    ];
    const { id, generation } = record;
    const mac = pointerMac(keys.pointer, this.#keys.installationId, record);
    const expected = seen?.generation;
    const rotated = record.rotation === undefined ? {} : { rotation: record.rotation };
    return { record, version: { id, identity, expected, generation, mac, sealed, lifecycle, ...rotated, audit } };
  }

  /** Values of the sealed ones among these entries. */
  async #unseal(
    writer: Writer,
    { project, environment, namespace, name }: SecretIdentity,
    entries: readonly SecretEntry[],
  ): Promise<ReadonlyMap<string, Sensitive>> {
    const values = new Map<string, Sensitive>();
    const wanted = entries.filter(({ sealed }) => sealed !== undefined);
    if (wanted.length === 0) return values;
    const { byId } = await this.#keys.sealing(writer, project);
    try {
      for (const { key, sealed = "" } of wanted) {
        values.set(key, await unseal(byId, { project, environment, namespace, name, key }, sealed));
      }
      return values;
    } catch (error) {
      for (const value of values.values()) value.dispose();
      throw error;
    }
  }

  /** Values that are taken from the current version: external ones, and all that stay and do not stand in the manifest. */
  async #keptValues(
    keys: ProjectKeys,
    seen: SecretRecord | undefined,
    entries: readonly SecretEntry[],
    made: ReadonlySet<string>,
  ): Promise<ReadonlyMap<string, Sensitive>> {
    const wanted = entries.filter(
      ({ key, external, literal, secretRef }) =>
        external !== undefined || (!made.has(key) && literal === undefined && secretRef === undefined),
    );
    if (seen === undefined || wanted.length === 0) return new Map();
    const sealed = await this.#readVersion(seen, seen.currentVersion);
    const names = wanted.map(({ key }) => key);
    return this.#openVersion(keys, seen, sealed, names);
  }

  /** Brings state and lifecycle to what they should be without a new version. */
  async #settle(writer: Writer | Unled, seen: SecretRecord, lifecycle: Lifecycle, actor: Actor): Promise<SecretRecord> {
    const actions: AuditAction[] = [];
    if (seen.state !== "Active") actions.push("SecretRecovered");
    if (!sameLifecycle(seen.lifecycle, lifecycle)) actions.push("SecretLifecycleChanged");
    if (actions.length === 0) return seen;
    return this.#move(writer, seen, { ...active(seen), lifecycle }, actor, actions);
  }

  async #move(
    writer: Writer | Unled,
    seen: SecretRecord,
    wanted: SecretRecord,
    actor: Actor,
    actions: readonly AuditAction[],
    more: AuditEntry["details"] = {},
  ): Promise<SecretRecord> {
    const keys = await this.#existingKeys(seen.identity);
    const { rotation, ...moved } = wanted;
    const record = { ...moved, ...standing(rotation, this.#now()), generation: seen.generation + 1n };
    const details = { state: record.state, version: record.currentVersion, ...more };
    const audit = [
      ...actions.map((action) => this.#entry(action, record, actor, details)),
      ...this.#expiry(seen, record, actor),
    ];
    const mac = pointerMac(keys.pointer, this.#keys.installationId, record);
    await this.#store.changePointer(writer, { ...pointerOf(record), expected: seen.generation, mac, audit });
    return record;
  }

  /** One row for each range of versions that the store deletes along with this change. */
  #expiry(before: SecretRecord | undefined, after: SecretRecord, actor: Actor): readonly AuditEntry[] {
    if (before === undefined) return [];
    return expired(before, after).map((range) => this.#entry("SecretVersionExpired", after, actor, range));
  }

  #remember(id: string, sealed: SealedVersion): void {
    if (this.#committed.size >= REMEMBERED) this.#committed.delete(this.#committed.keys().next().value ?? "");
    this.#committed.set(id, sealed);
  }

  /** Only once, so that nothing is kept for a secret at rest. */
  #recall(id: string, version: number): SealedVersion | undefined {
    const sealed = this.#committed.get(id);
    this.#committed.delete(id);
    return sealed?.version === version ? sealed : undefined;
  }

  async #readVersion(record: SecretRecord, version: number): Promise<SealedVersion> {
    const known = record.sealed?.version === version ? record.sealed : this.#recall(record.id, version);
    const sealed = known ?? (await this.#store.readVersion(record.id, version));
    if (sealed !== undefined && (version !== record.currentVersion || sameEntries(record, sealed))) return sealed;
    const name = `version ${version} of secret ${record.identity.namespace}/${record.identity.name}`;
    if (version !== record.currentVersion) throw new Unavailable("SecretNotStored", `${name} is no longer kept`);
    const now = await this.describe(record.identity);
    if (now?.generation !== record.generation) throw new Conflict(record.id);
    throw new Unavailable("TamperDetected", `${name} has lost or exchanged entries; see the runbook`);
  }

  /** As `openVersion`, also when its data key is wrapped by a version that another replica has made. */
  async #openVersion(
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

  async #existingKeys({ project }: SecretIdentity): Promise<ProjectKeys> {
    const keys = await this.#keys.existingProject(project);
    if (keys === undefined) {
      throw new Unavailable("TamperDetected", `the keys of project ${project} are gone although it has secrets`);
    }
    return keys;
  }

  #digester(keys: ProjectKeys, identity: SecretIdentity): Digester {
    return new Digester(keys.fingerprint, this.#keys.installationId, identity);
  }

  #entry(
    action: AuditAction,
    { id, identity, generation }: SecretRecord,
    actor: Actor,
    details: AuditEntry["details"],
  ): AuditEntry {
    const { project, environment, namespace, name } = identity;
    // A read does not move the pointer, so it says nothing about the generation.
    const anchored = action === "SecretRead" ? {} : { generation };
    return {
      action,
      actor,
      subject: { kind: "Secret", id, ...anchored, name: `${namespace}/${name}` },
      outcome: "Success",
      details: { project, environment, ...details },
    };
  }
}

const causeDetails = (cause: RotationCause): AuditEntry["details"] =>
  cause.kind === "Timetable"
    ? { cause: cause.kind, timetable: cause.timetable, due: cause.due.toISOString() }
    : { cause: cause.kind, ...(cause.token !== undefined && { token: cause.token }) };

/**
 * The entries that get new values.
 *
 * @throws Stalled ValueInvalid
 */
function rotated(
  entries: readonly SecretEntry[],
  { entries: stored }: SecretRecord,
  keys: readonly string[],
): readonly (SecretEntry & { readonly generate: GeneratorSpec })[] {
  if (keys.length === 0) throw new Stalled("ValueInvalid", "no entry is generated, so none can be rotated");
  return [...new Set(keys)].map((key) => {
    const entry = entries.find((each) => each.key === key);
    if (entry?.generate === undefined) {
      throw new Stalled(
        "ValueInvalid",
        `entry ${key} cannot be rotated: the manifest has no entry ${key} with generate`,
      );
    }
    if (!stored.some((each) => each.key === key)) {
      throw new Stalled("ValueInvalid", `entry ${key} cannot be rotated: it has no value yet`);
    }
    return { ...entry, generate: entry.generate };
  });
}

/**
 * @throws Stalled ValueInvalid
 */
function assertWritable(
  entries: readonly SecretEntry[],
  values: ReadonlyMap<string, Sensitive>,
  alsoGenerated: boolean,
): void {
  const isWritable = ({ external, generate }: SecretEntry) =>
    external !== undefined || (alsoGenerated && generate !== undefined);
  const writable = new Set(entries.filter(isWritable).map(({ key }) => key));
  if (values.size === 0) throw new Stalled("ValueInvalid", "no value was given");
  for (const [key, value] of values) {
    if (!writable.has(key)) {
      throw new Stalled(
        "ValueInvalid",
        `entry ${key} cannot be written: the manifest has no entry ${key} with external: {}`,
      );
    }
    if (value.byteLength > LARGEST_VALUE) {
      throw new Stalled("ValueInvalid", `entry ${key}: the value is longer than ${LARGEST_VALUE} bytes`);
    }
  }
}

const notActive = ({ identity: { namespace, name } }: SecretRecord): Stalled =>
  new Stalled("SecretNotStored", `secret ${namespace}/${name} was deleted; recover it before it is changed`);

function active({ deletedAt: _, purgeAfter: __, ...record }: SecretRecord): SecretRecord {
  return { ...record, state: "Active" satisfies SecretState };
}

function pointerOf({
  id,
  identity,
  state,
  currentVersion,
  generation,
  deletedAt,
  purgeAfter,
  lifecycle,
  rotation,
}: SecretRecord) {
  return {
    id,
    identity,
    state,
    currentVersion,
    generation,
    lifecycle,
    ...(deletedAt === undefined ? {} : { deletedAt }),
    ...(purgeAfter === undefined ? {} : { purgeAfter }),
    ...(rotation === undefined ? {} : { rotation }),
  } satisfies Pointer;
}

/** The digests that came with the pointer and those beside the ciphertexts must tell the same story. */
function sameEntries({ entries }: SecretRecord, { entries: stored }: SealedVersion): boolean {
  const fingerprints = new Map(stored.map(({ key, fingerprint }) => [key, fingerprint]));
  return (
    fingerprints.size === entries.length &&
    entries.every(({ key, fingerprint }) => fingerprints.get(key) === fingerprint)
  );
}
