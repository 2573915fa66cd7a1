import type { SecretEntry } from "../../crds/secret.ts";
import { Fenced, Unavailable } from "../errors.ts";
import type { Actor, AuditLog } from "../ports/audit-log.ts";
import type {
  KeptVersion,
  RotationRecord,
  SecretIdentity,
  SecretRecord,
  Unled,
  VaultStore,
  Writer,
} from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { AppliedVersions } from "./applied-versions.ts";
import { secretEntry } from "./audit-entries.ts";
import { active, Commits } from "./commits.ts";
import type { Digester } from "./fingerprint.ts";
import { generate } from "./generate.ts";
import type { KeyRing, ProjectKeys } from "./keyring.ts";
import { type MadeEntry, makeEntries, replaceEntries } from "./material.ts";
import { planVersion } from "./recipe.ts";
import { assertAccepted, assertWasCurrent, rotated } from "./refusals.ts";
import type {
  Evidence,
  Opened,
  OpenOptions,
  PreparedProject,
  PutRequest,
  RollbackRequest,
  RolledBack,
  RotateRequest,
  Stored,
  StoreRequest,
} from "./requests.ts";
import { nextNumber, withHeld, withLoser } from "./retention.ts";
import { type SignedSealingKey, signSealingKey, unseal } from "./sealing.ts";
import { type StorageOf, sealedStorage } from "./storage.ts";
import { StoredVersions } from "./stored-versions.ts";

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
  readonly #versions: StoredVersions;
  readonly #commits: Commits;
  /** Versions that are applied elsewhere before they are current. */
  readonly applied: AppliedVersions;

  constructor(parts: {
    readonly store: VaultStore;
    readonly keys: KeyRing;
    readonly audit: AuditLog;
    readonly now?: () => Date;
    /** PostgreSQL for every secret when absent. */
    readonly storage?: StorageOf;
  }) {
    this.#store = parts.store;
    this.#keys = parts.keys;
    this.#audit = parts.audit;
    this.#now = parts.now ?? (() => new Date());
    const { storage = async () => sealedStorage } = parts;
    const common = { store: this.#store, keys: this.#keys, now: this.#now };
    const versions = new StoredVersions({ ...common, storage });
    const commits = new Commits({ ...common, versions });
    this.#versions = versions;
    this.#commits = commits;
    this.applied = new AppliedVersions({ versions, commits, now: this.#now });
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
    return this.#versions.digester(await this.#keys.project(writer, identity.project), identity);
  }

  /** The record, its MAC and its age verified; undefined when the secret was never stored or is purged. */
  async describe(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#versions.describe(identity);
  }

  /** The same, to be opened next: its current version comes with it. */
  async describeToOpen(identity: SecretIdentity): Promise<SecretRecord | undefined> {
    return this.#versions.describeToOpen(identity);
  }

  /** The same of many at once, by id: the record, or why it cannot be told; nothing for what is not stored. */
  async describeAllToOpen(ids: readonly string[]): Promise<ReadonlyMap<string, SecretRecord | Error>> {
    return this.#versions.describeAllToOpen(ids);
  }

  /**
   * Makes a new version when an entry changed, recovers a secret that is not Active, records a changed lifecycle; all in
   * one transaction, and nothing at all when nothing changed.
   *
   * @throws Stalled TemplateInvalid, TemplateCycle, ValueInvalid, SealedValueInvalid; Waiting SourceNotFound
   */
  async store(writer: Writer, request: StoreRequest): Promise<Stored> {
    const { identity, entries, sources, keeps, lifecycle, rotation, actor } = request;
    const seen = await this.#awake(writer, request);
    const keys = await this.#keys.project(writer, identity.project);
    const digester = this.#versions.digester(keys, identity);
    const fingerprints = new Map([...sources].map(([key, value]) => [key, digester.fingerprint(key, value)]));
    const plan = planVersion(digester, entries, seen?.entries ?? [], fingerprints, keeps);
    if (plan.kind === "Unchanged") {
      if (seen === undefined) throw new RangeError("a secret needs at least one value");
      return { record: await this.#commits.settle(writer, seen, lifecycle, actor), created: false, changedKeys: [] };
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
      const record = await this.#commits.commit(writer, keys, [
        { identity, seen, lifecycle, rotation, actor, material, made },
      ]);
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
    const { values, readers: _, alsoGenerated: __, ...change } = request;
    assertAccepted(request);
    const { project } = change.identity;
    const keys =
      change.seen === undefined
        ? await this.#keys.existingProject(project)
        : await this.#versions.existingKeys(change.identity);
    if (keys === undefined) {
      throw new Unavailable("KeyUnavailable", `project ${project} has no keys yet: they are made when it is applied`);
    }
    return this.#commits.replace(writer, keys, { ...change, replaced: values });
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
    const keys = await this.#versions.existingKeys(seen.identity);
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
      return await this.#commits.replace(writer, keys, {
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
    return this.#commits.move(writer, seen, { ...seen, rotation }, actor, ["SecretRotationChanged"], {
      timetable: rotation.timetable ?? "none",
    });
  }

  /**
   * Keeps values that lost against the current ones as a version of their own, directly below a new one that has the
   * current ones again: at no moment are they current. It is held for a day, however few versions are kept. Does nothing
   * for those that a kept version has already. For whoever does not lead, too.
   */
  async keepBeside(
    writer: Writer | Unled,
    record: SecretRecord,
    request: Pick<PutRequest, "entries" | "values" | "actor" | "details" | "handled">,
  ): Promise<SecretRecord> {
    const { entries, values, actor, details, handled } = request;
    const keys = await this.#versions.existingKeys(record.identity);
    const digester = this.#versions.digester(keys, record.identity);
    const lost = new Map<string, Sensitive>();
    for (const [key, value] of values) {
      if (!(await this.#store.keeps(record.id, key, digester.fingerprint(key, value)))) lost.set(key, value);
    }
    if (lost.size === 0) return record;
    const current = await this.#versions.openCurrent(keys, record);
    let beside: readonly MadeEntry[] = [];
    try {
      beside = await replaceEntries(digester, entries, current, lost);
      const made = [...lost.keys()];
      const { identity, lifecycle } = record;
      const rotation = withLoser(record.rotation, nextNumber(record), this.#now());
      const next = { identity, lifecycle, rotation, actor, made };
      return await this.#commits.commit(writer, keys, [
        { ...next, seen: record, material: beside, details: { ...details, lost: true }, handled },
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
   * @throws Stalled SecretNotStored when it is not Active, Applying or ApplyFailed when the version never was current;
   *   Unavailable SecretNotStored when the version is not kept
   */
  async rollback(writer: Writer | Unled, record: SecretRecord, request: RollbackRequest): Promise<RolledBack> {
    const { version, entries, actor } = request;
    assertWasCurrent(record, version);
    const keys = await this.#versions.existingKeys(record.identity);
    const sealed = await this.#versions.read(record, version);
    const present = new Map(record.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const others = new Set(
      sealed.entries.filter(({ key, fingerprint }) => present.get(key) !== fingerprint).map(({ key }) => key),
    );
    const differing = entries.filter(({ key, template }) => template === undefined && others.has(key));
    const isKept = ({ generate, external }: SecretEntry) => generate !== undefined || external !== undefined;
    const restored = differing.filter(isKept).map(({ key }) => key);
    const kept = differing.filter((entry) => !isKept(entry)).map(({ key }) => key);
    const replaced = await this.#versions.open(keys, record, sealed, restored);
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
      return { ...(await this.#commits.replace(writer, keys, change)), kept };
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

  /** See `VaultStore.heldForMs`. */
  heldForMs(id: string, key: string, fingerprint: string): Promise<number | undefined> {
    return this.#store.heldForMs(id, key, fingerprint);
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
    const keys = await this.#versions.existingKeys(identity);
    const sealed = await this.#versions.read(record, version);
    const values = await this.#versions.open(keys, record, sealed, options.keys, options.actor);
    const read = secretEntry("SecretRead", record, options.actor, {
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

  /**
   * Decrypts the current versions of records that `describeAllToOpen` returned, by id; what cannot be opened comes as its error.
   * All reads are on record before this resolves.
   */
  async openAll(
    records: readonly SecretRecord[],
    { actor, purpose }: Pick<OpenOptions, "actor" | "purpose">,
  ): Promise<ReadonlyMap<string, Opened | Error>> {
    const opened = await Promise.all(
      records.map(async (record) => {
        const values = await this.#openCurrent(record, actor).catch((error: unknown) => error as Error);
        return { record, values };
      }),
    );
    const reads = opened.flatMap(({ record, values }) =>
      values instanceof Error
        ? []
        : secretEntry("SecretRead", record, actor, {
            version: record.currentVersion,
            purpose,
            keys: [...values.keys()].join(","),
          }),
    );
    try {
      await this.#audit.append(reads);
    } catch (error) {
      for (const { values } of opened)
        if (!(values instanceof Error)) for (const value of values.values()) value.dispose();
      throw error;
    }
    return new Map(
      opened.map(({ record, values }) => [
        record.id,
        values instanceof Error ? values : { version: record.currentVersion, values },
      ]),
    );
  }

  async #openCurrent(record: SecretRecord, actor: Actor): Promise<ReadonlyMap<string, Sensitive>> {
    const keys = await this.#versions.existingKeys(record.identity);
    const sealed = await this.#versions.read(record, record.currentVersion);
    return this.#versions.open(keys, record, sealed, undefined, actor);
  }

  /** It can be recovered until `lifecycle.softDeleteMs` from now have passed. */
  async softDelete(
    writer: Writer | Unled,
    record: SecretRecord,
    actor: Actor,
    evidence: Evidence = {},
  ): Promise<SecretRecord> {
    const deletedAt = this.#now();
    const purgeAfter = new Date(deletedAt.getTime() + record.lifecycle.softDeleteMs);
    const to: SecretRecord = { ...active(record), state: "SoftDeleted", deletedAt, purgeAfter };
    return this.#commits.move(writer, record, to, actor, ["SecretSoftDeleted"], {}, evidence);
  }

  /** The object is gone, and everything stays. */
  async retain(writer: Writer, record: SecretRecord, actor: Actor): Promise<SecretRecord> {
    return this.#commits.move(writer, record, { ...active(record), state: "Retained", deletedAt: this.#now() }, actor, [
      "SecretRetained",
    ]);
  }

  /** Makes a soft-deleted or retained secret Active again, its current version as it was. */
  async recover(writer: Writer | Unled, record: SecretRecord, actor: Actor): Promise<SecretRecord> {
    return this.#commits.settle(writer, record, record.lifecycle, actor);
  }

  /** Deletes all versions for good; only the audit rows stay. */
  async purge(writer: Writer, record: SecretRecord, actor: Actor, evidence: Evidence = {}): Promise<void> {
    const next = { ...record, generation: record.generation + 1n };
    const audit = [secretEntry("SecretPurged", next, actor, {})];
    await this.#store.purge(writer, record.id, record.generation, audit, evidence);
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

  /** Where a Key Vault has the values they come back first, or what is to be written would be deleted there again. */
  async #awake(writer: Writer, { seen, lifecycle, actor }: StoreRequest): Promise<SecretRecord | undefined> {
    if (seen?.vaultUrl === undefined || seen.state === "Active") return seen;
    return this.#commits.settle(writer, seen, lifecycle, actor);
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
    const sealed = await this.#versions.read(seen, seen.currentVersion);
    const names = wanted.map(({ key }) => key);
    return this.#versions.open(keys, seen, sealed, names);
  }
}
