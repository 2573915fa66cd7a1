import { randomBytes } from "node:crypto";
import type { VaultConfiguration } from "../config.ts";
import {
  conflict,
  deletedSecretNotFound,
  isBeingDeleted,
  isBeingRecovered,
  isDeletedButRecoverable,
  KeyVaultError,
  secretNotFound,
} from "../errors.ts";
import type { Settings } from "../settings.ts";
import { apply, type Phase, type Secret, type SecretVersion, type VaultEvent, type VaultState } from "./state.ts";

const DAY = 86_400_000;

/** What a caller may set on a version; what is left out stays as it is, or takes the service's default. */
export interface SecretProperties {
  readonly contentType?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly enabled?: boolean;
  readonly nbf?: number;
  readonly exp?: number;
  readonly managed?: boolean;
}

/** A secret together with one of its versions. */
export interface SecretAt {
  readonly name: string;
  readonly version: SecretVersion;
}

export interface DeletedSecret extends SecretAt {
  /** Milliseconds of the soft-delete clock. */
  readonly deletedAt: number;
  readonly purgeAt: number;
}

export interface VaultDependencies {
  transitions(): Settings["transitions"];
  /** Resolves when the event is durable. */
  record(event: VaultEvent): Promise<void>;
  /** How far the soft-delete clock is ahead of the wall clock, in milliseconds. */
  softDeleteLead(): number;
}

/**
 * One key vault's secrets and their life: versions, soft delete, recovery and purge with the moments in between that
 * "Azure Key Vault soft-delete overview" describes. A change is visible at once and its promise resolves when durable.
 */
export class Vault {
  readonly configuration: VaultConfiguration;
  readonly #state: VaultState = new Map();
  readonly #dependencies: VaultDependencies;
  #names: readonly string[] | undefined;

  constructor(configuration: VaultConfiguration, dependencies: VaultDependencies) {
    this.configuration = configuration;
    this.#dependencies = dependencies;
  }

  get name(): string {
    return this.configuration.name;
  }

  /** Applies a recorded event on start. */
  restoreEvent(event: VaultEvent): void {
    const before = this.#state.size;
    apply(this.#state, event);
    if (this.#state.size !== before) {
      this.#names = undefined;
    }
  }

  /** The content as the shortest list of events. */
  *snapshot(): Iterable<VaultEvent> {
    for (const secret of this.#state.values()) {
      yield { type: "secret", secret };
    }
  }

  async set(name: string, value: string, properties: SecretProperties): Promise<SecretAt> {
    const secret = this.#settled(name);
    this.#assertWritable(secret, name);
    const now = seconds(Date.now());
    const version: SecretVersion = {
      ...properties,
      version: randomBytes(16).toString("hex"),
      value,
      enabled: properties.enabled ?? true,
      created: now,
      updated: now,
    };
    // A name whose secret was purged by the clock starts anew, in the journal too.
    await this.#commit(
      secret === undefined
        ? { type: "secret", secret: { name, versions: [version], phase: { kind: "active" } } }
        : { type: "version", name, version },
    );
    return { name: secret?.name ?? name, version };
  }

  async update(name: string, versionId: string | undefined, properties: SecretProperties): Promise<SecretAt> {
    const { name: spelled, version } = this.get(name, versionId);
    assertNotManaged(version, "update");
    const updated: SecretVersion = { ...version, ...properties, updated: seconds(Date.now()) };
    await this.#commit({ type: "update", name, version: updated });
    return { name: spelled, version: updated };
  }

  /** @throws KeyVaultError SecretNotFound, also while the secret is being deleted or recovered */
  get(name: string, versionId?: string): SecretAt {
    const secret = this.#visible(name);
    const version = versionId === undefined ? secret?.versions.at(-1) : find(secret, versionId);
    if (secret === undefined || version === undefined) {
      throw secretNotFound(name, versionId);
    }
    return { name: secret.name, version };
  }

  async delete(name: string): Promise<DeletedSecret> {
    const { name: spelled, version } = this.get(name);
    assertNotManaged(version, "delete");
    const deletedAt = this.#softDeleteNow();
    const purgeAt = deletedAt + this.configuration.softDeleteRetentionDays * DAY;
    const until = Date.now() + this.#dependencies.transitions().deleting;
    await this.#commit({ type: "phase", name, phase: { kind: "deleted", since: deletedAt, until, purgeAt } });
    return { name: spelled, version, deletedAt, purgeAt };
  }

  /** @throws KeyVaultError SecretNotFound until the deletion has gone through */
  getDeleted(name: string): DeletedSecret {
    const secret = this.#settled(name);
    const deleted = secret === undefined ? undefined : asDeleted(secret);
    if (deleted === undefined) {
      throw deletedSecretNotFound(name);
    }
    return deleted;
  }

  async recover(name: string): Promise<SecretAt> {
    this.#assertNotChanging(name);
    const { name: spelled, version } = this.getDeleted(name);
    const { recovering, settling } = this.#dependencies.transitions();
    const visibleAt = Date.now() + recovering;
    await this.#commit({ type: "phase", name, phase: { kind: "recovering", visibleAt, until: visibleAt + settling } });
    return { name: spelled, version };
  }

  async purge(name: string): Promise<void> {
    this.#assertNotChanging(name);
    this.getDeleted(name);
    if (this.configuration.purgeProtection) {
      throw new KeyVaultError(
        403,
        "Forbidden",
        `Operation "purge" is not allowed on this vault: purge protection is on.`,
        {
          innerCode: "PurgeNotAllowed",
        },
      );
    }
    const { purging } = this.#dependencies.transitions();
    await this.#commit(
      purging === 0
        ? { type: "gone", name }
        : { type: "phase", name, phase: { kind: "purging", until: Date.now() + purging } },
    );
  }

  /** All versions of a live secret, oldest first. */
  backup(name: string): { name: string; versions: readonly SecretVersion[] } {
    const secret = this.#visible(name);
    if (secret === undefined) {
      throw secretNotFound(name);
    }
    return { name: secret.name, versions: secret.versions };
  }

  async restore(name: string, versions: readonly SecretVersion[]): Promise<SecretAt> {
    const version = versions.at(-1);
    const existing = this.#settled(name);
    this.#assertWritable(existing, name);
    if (existing !== undefined || version === undefined) {
      throw conflict(
        "SecretAlreadyExists",
        `Secret ${name} already exists; a backup can only be restored as a new secret.`,
      );
    }
    await this.#commit({ type: "secret", secret: { name, versions, phase: { kind: "active" } } });
    return { name, version };
  }

  /** Current versions of live secrets in name order, which does not move while a list is being read. */
  *list(after = ""): Iterable<SecretAt> {
    for (const secret of this.secrets(after)) {
      const version = secret.versions.at(-1);
      if (version !== undefined && isVisible(secret.phase)) {
        yield { name: secret.name, version };
      }
    }
  }

  /** All versions of a live secret; none for an unknown name. No promise is made on the order: it is by version id. */
  *listVersions(name: string, after = ""): Iterable<SecretAt> {
    const secret = this.#visible(name);
    const versions = (secret?.versions ?? []).filter((each) => each.version > after);
    for (const version of versions.sort((left, right) => (left.version < right.version ? -1 : 1))) {
      yield { name: secret?.name ?? name, version };
    }
  }

  *listDeleted(after = ""): Iterable<DeletedSecret> {
    for (const secret of this.secrets(after)) {
      const deleted = asDeleted(secret);
      if (deleted !== undefined) {
        yield deleted;
      }
    }
  }

  /** Everything that is stored, in name order, transitions finished as far as time allows. */
  *secrets(after = ""): Iterable<Secret> {
    this.#names ??= [...this.#state.keys()].sort();
    const names = this.#names;
    const key = after.toLowerCase();
    for (let index = after === "" ? 0 : firstAfter(names, key); index < names.length; index++) {
      const secret = this.#settled(names[index] ?? "");
      if (secret !== undefined) {
        yield secret;
      }
    }
  }

  #commit(event: VaultEvent): Promise<void> {
    this.restoreEvent(event);
    return this.#dependencies.record(event);
  }

  #softDeleteNow(): number {
    return Date.now() + this.#dependencies.softDeleteLead();
  }

  /** The secret after every transition whose time has come. */
  #settled(name: string): Secret | undefined {
    const key = name.toLowerCase();
    const secret = this.#state.get(key);
    if (secret === undefined) {
      return undefined;
    }
    const { phase } = secret;
    const purged = phase.kind === "deleted" && phase.purgeAt <= this.#softDeleteNow();
    if (purged || (phase.kind === "purging" && phase.until <= Date.now())) {
      // Not journalled: the recorded times lead to the same end after a restart.
      this.#state.delete(key);
      this.#names = undefined;
      return undefined;
    }
    return phase.kind === "recovering" && phase.until <= Date.now() ? this.#activate(key, secret) : secret;
  }

  #activate(key: string, secret: Secret): Secret {
    const active: Secret = { ...secret, phase: { kind: "active" } };
    this.#state.set(key, active);
    return active;
  }

  #visible(name: string): Secret | undefined {
    const secret = this.#settled(name);
    return secret !== undefined && isVisible(secret.phase) ? secret : undefined;
  }

  #assertWritable(secret: Secret | undefined, name: string): void {
    assertNotManaged(secret?.versions.at(-1), "set");
    if (secret?.phase.kind === "recovering") {
      throw isBeingRecovered(name);
    }
    if (secret?.phase.kind === "purging" || (secret?.phase.kind === "deleted" && secret.phase.until > Date.now())) {
      throw isBeingDeleted(name);
    }
    if (secret?.phase.kind === "deleted") {
      throw isDeletedButRecoverable(name);
    }
  }

  #assertNotChanging(name: string): void {
    const phase = this.#settled(name)?.phase;
    if (phase?.kind === "purging" || (phase?.kind === "deleted" && phase.until > Date.now())) {
      throw isBeingDeleted();
    }
    if (phase?.kind === "recovering") {
      throw isBeingRecovered(name);
    }
  }
}

function assertNotManaged(version: SecretVersion | undefined, operation: string): void {
  if (version?.managed === true) {
    throw new KeyVaultError(403, "Forbidden", `Operation ${operation} is not allowed on a managed secret.`, {
      innerCode: "OperationNotAllowedOnManagedSecret",
    });
  }
}

function isVisible(phase: Phase): boolean {
  return phase.kind === "active" || (phase.kind === "recovering" && phase.visibleAt <= Date.now());
}

function asDeleted(secret: Secret): DeletedSecret | undefined {
  const version = secret.versions.at(-1);
  const { phase } = secret;
  return version !== undefined && phase.kind === "deleted" && phase.until <= Date.now()
    ? { name: secret.name, version, deletedAt: phase.since, purgeAt: phase.purgeAt }
    : undefined;
}

function find(secret: Secret | undefined, versionId: string): SecretVersion | undefined {
  return secret?.versions.find((version) => version.version === versionId);
}

/** Index of the first of the ordered names that comes after the given one. */
function firstAfter(names: readonly string[], name: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((names[middle] ?? "") <= name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** Whole seconds since 1970, the unit of every time on the wire. */
export function seconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}
