import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import {
  KeyReplaced,
  type KeyStore,
  type KeyVersion,
  MANY_USES,
  type RotatedPurpose,
  type WrappedKey,
} from "../ports/key-store.ts";
import type { DataKey, Unled, VaultStore, Writer } from "../ports/vault-store.ts";
import { type KeyRing, keyEntry } from "./keyring.ts";
import { rewrapDataKey } from "./version.ts";

/** A key that is rotated; without a project the installation's. */
export interface RotatedKey {
  readonly project?: string;
  /** Those that are not retired, newest last. */
  readonly versions: readonly KeyVersion[];
}

/** What is still to be done for the versions that were replaced. */
export interface RotationProgress {
  /** Keys to be wrapped by a newer version. */
  readonly left: number;
  /** Those among them that do not open: somebody changed them. The version that wrapped them stays. */
  readonly stuck: number;
}

/** Which root key this process would wrap the installation key with, and whether it does. */
export interface RootKeyState {
  readonly id: string;
  /** False while another root key is still needed. */
  readonly complete: boolean;
}

/** When a key is replaced without being told to. */
export interface RotationAges {
  readonly installationMs: number;
  readonly projectMs: number;
}

/** Wrapped anew in one transaction. */
const BATCH = 500;
const DUE_AT_A_TIME = 100;

/**
 * Rotation of the installation key and of project keys. A new version wraps everything new at once; what the one before
 * wraps is wrapped anew in batches, and then that one is forgotten. All that is known of it stands in the keys and in what
 * they wrap, so whoever leads next goes on where this one ended.
 */
export class KeyRotation {
  readonly #keys: KeyRing;
  readonly #store: KeyStore;
  readonly #vault: Pick<VaultStore, "listDataKeys" | "rewrapDataKeys">;
  readonly #ages: RotationAges;
  readonly #now: () => Date;
  readonly #onReplaced: (project: string) => void;
  #progress: RotationProgress = { left: 0, stuck: 0 };

  constructor(parts: {
    readonly keys: KeyRing;
    readonly store: KeyStore;
    readonly vault: Pick<VaultStore, "listDataKeys" | "rewrapDataKeys">;
    readonly ages: RotationAges;
    /** Told of each project whose key `advance` finds replaced. */
    readonly onReplaced?: (project: string) => void;
    readonly now?: () => Date;
  }) {
    this.#keys = parts.keys;
    this.#store = parts.store;
    this.#vault = parts.vault;
    this.#ages = parts.ages;
    this.#onReplaced = parts.onReplaced ?? (() => {});
    this.#now = parts.now ?? (() => new Date());
  }

  /** Wraps the installation key by the root key in use; returns how many versions were wrapped by the one before. */
  async replaceRoot(writer: Writer): Promise<number> {
    return (await this.#keys.replaceRoot(writer)).length;
  }

  async root(): Promise<RootKeyState> {
    const { rootId: id } = this.#keys;
    const versions = await this.#store.versions("Installation", "");
    return { id, complete: versions.every(({ wrappedBy }) => wrappedBy === id) };
  }

  /** As `advance` saw it last. */
  get progress(): RotationProgress {
    return this.#progress;
  }

  /** The installation's key when no project is named; undefined when the project has none. */
  async find(project?: string): Promise<RotatedKey | undefined> {
    const versions = await this.#store.versions(project === undefined ? "Installation" : "Project", project ?? "");
    return versions.length === 0 ? undefined : keyOf(versions);
  }

  /** Keys of projects, by name. */
  async list(after: string | undefined, limit: number): Promise<readonly RotatedKey[]> {
    const versions = await this.#store.projectVersions(after, limit);
    return [...Map.groupBy(versions, ({ scope }) => scope).values()].map(keyOf);
  }

  /**
   * Makes a new version; false while the rotation before is not finished, unless its version is about to be used up. For
   * whoever does not lead, too.
   */
  async rotate(writer: Writer | Unled, project: string | undefined, actor: Actor): Promise<boolean> {
    return project === undefined
      ? this.#keys.rotateInstallation(writer, actor)
      : this.#keys.rotateProject(writer, project, actor);
  }

  /** Begins the rotation of what is old enough, or was used often enough; returns how many. */
  async rotateDue(writer: Writer): Promise<number> {
    const { installationMs, projectMs } = this.#ages;
    const due = [...(await this.#due("Installation", installationMs)), ...(await this.#due("Project", projectMs))];
    const failures: unknown[] = [];
    for (const { purpose, scope } of due) {
      const project = purpose === "Project" ? scope : undefined;
      await this.rotate(writer, project, { kind: "Controller", name: "rotation" }).catch((error: unknown) => {
        // A leader with the settings from before a root key was replaced can rotate every key but the installation's.
        if (!isTampered(error) && !(error instanceof KeyReplaced)) throw error;
        failures.push(error);
      });
    }
    if (failures.length > 0) throw failures[0];
    return due.length;
  }

  /**
   * Wraps anew what versions that were replaced still wrap, and retires those that wrap nothing any more; returns what is
   * left. A key that does not open stays as it is, and holds up nothing but the retirement of what wraps it. Those of a
   * project whose own keys do not open count as such.
   */
  async advance(writer: Writer, signal?: AbortSignal): Promise<RotationProgress & { readonly retired: number }> {
    let retired = 0;
    const replaced = await this.#store.replaced();
    this.#progress = { left: replaced.reduce((sum, { left = 0 }) => sum + left, 0), stuck: 0 };
    for (const version of replaced) {
      const rewrap =
        version.purpose === "Installation"
          ? this.#rewrapInstallation(writer, version, signal)
          : this.#rewrapProject(writer, version, signal);
      await rewrap.catch((error: unknown) => {
        if (!isTampered(error)) throw error;
        this.#stuck(version.left ?? 0);
      });
      if (signal?.aborted) break;
      if (await this.#store.retire(writer, version.id, [keyEntry("KeyRetired", version)])) retired += 1;
      failpoint("rotation.afterRetire");
    }
    return { ...this.#progress, retired };
  }

  #due(purpose: RotatedPurpose, ageMs: number): Promise<readonly KeyVersion[]> {
    return this.#store.due(purpose, new Date(this.#now().getTime() - ageMs), MANY_USES, DUE_AT_A_TIME);
  }

  async #rewrapInstallation(writer: Writer, { id }: KeyVersion, signal: AbortSignal | undefined): Promise<void> {
    const to = await this.#keys.newestInstallation();
    const from = await this.#keys.installationKey(id);
    await this.#batches({
      list: (after: WrappedKey | undefined) => this.#store.wrappedBy(id, after?.id, BATCH),
      wrap: (key) => this.#keys.rewrapped(writer, key, from, to),
      write: (keys) => this.#store.rewrap(writer, id, to.id, keys, []),
      signal,
    });
  }

  async #rewrapProject(writer: Writer, { id, scope }: KeyVersion, signal: AbortSignal | undefined): Promise<void> {
    const keys = await this.#keys.reloadProject(scope);
    this.#onReplaced(scope);
    await this.#batches({
      list: (after: WrappedKey | undefined) => this.#store.wrappedBy(id, after?.id, BATCH),
      wrap: (key) => this.#keys.rewrapped(writer, key, keys.byId(id), keys.current),
      write: (rewraps) => this.#store.rewrap(writer, id, keys.current.id, rewraps, []),
      signal,
    });
    await this.#batches({
      list: (after: DataKey | undefined) => this.#vault.listDataKeys(id, after, BATCH),
      wrap: async (key) => ({
        id: key.id,
        version: key.version,
        before: key.wrappedKey,
        after: await rewrapDataKey(writer, keys, this.#keys.installationId, id, key),
      }),
      write: (rewraps) => this.#vault.rewrapDataKeys(writer, id, keys.current.id, rewraps),
      signal,
    });
  }

  #stuck(keys: number): void {
    this.#progress = { ...this.#progress, stuck: this.#progress.stuck + keys };
  }

  /** Each key that is listed has its turn once. */
  async #batches<Key, Rewrap>({ list, wrap, write, signal }: Batches<Key, Rewrap>): Promise<void> {
    let last: Key | undefined;
    do {
      const keys = await list(last);
      last = keys.length === BATCH ? keys.at(-1) : undefined;
      const rewraps: Rewrap[] = [];
      for (const key of keys) {
        try {
          rewraps.push(await wrap(key));
        } catch (error) {
          if (!isTampered(error)) throw error;
          this.#stuck(1);
        }
      }
      if (rewraps.length === 0) continue;
      const written = await write(rewraps);
      this.#progress = { ...this.#progress, left: Math.max(0, this.#progress.left - written) };
      failpoint("rotation.afterBatch");
    } while (last !== undefined && signal?.aborted !== true);
  }
}

interface Batches<Key, Rewrap> {
  readonly list: (after: Key | undefined) => Promise<readonly Key[]>;
  readonly wrap: (key: Key) => Promise<Rewrap>;
  readonly write: (rewraps: readonly Rewrap[]) => Promise<number>;
  readonly signal: AbortSignal | undefined;
}

function keyOf(versions: readonly KeyVersion[]): RotatedKey {
  const [first] = versions;
  return { versions, ...(first?.purpose === "Project" && { project: first.scope }) };
}

const isTampered = (error: unknown): boolean => error instanceof Unavailable && error.code === "TamperDetected";
