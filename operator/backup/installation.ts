/** What the commands work on: the installation of the operator's settings, opened without making or migrating anything. */
import { readFileSync } from "node:fs";
import { assertUsable } from "../../adapters/postgres/backup.ts";
import type { DatabaseOptions } from "../../adapters/postgres/database.ts";
import { openStores, type Stores } from "../../adapters/postgres/stores.ts";
import { loadKubeConfig } from "../../controllers/runtime/kubeconfig.ts";
import { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { Environments } from "../../core/fleet/environments.ts";
import type { RootKey } from "../../core/ports/key-store.ts";
import { type BackupManifest, BackupUnusable, parseManifest } from "../../core/recovery/manifest.ts";
import { databaseOptions } from "../../program/common-settings.ts";
import { createLogger } from "../../program/logging.ts";
import type { Config } from "../config.ts";
import { openRootKey } from "../database.ts";
import { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";
import { ApiClusterObjects } from "./cluster-objects.ts";

export interface Roots {
  readonly root: RootKey;
  readonly previous: RootKey | undefined;
}

export class Installation {
  readonly #config: Config;
  readonly #secrets: OperationalSecrets;
  #stores: Stores | undefined;
  #api: KubernetesApi | undefined;

  constructor(config: Config) {
    this.#config = config;
    // What it tells of the vault of its own secrets; everything else the commands say themselves.
    const log = createLogger({ level: "warn", destination: process.stderr });
    this.#secrets = new OperationalSecrets(config, log, () => {});
  }

  get config(): Config {
    return this.#config;
  }

  /** @throws ConfigError */
  async database(): Promise<DatabaseOptions> {
    return databaseOptions(this.#config.database, await this.#secrets.kept("database.passwordSecret"));
  }

  /** @throws ConfigError; Unavailable KeyUnavailable */
  async roots(): Promise<Roots> {
    const { keys } = this.#config;
    const root = await openRootKey(keys, this.#secrets.read);
    const previous = keys.previous && (await openRootKey(keys.previous, this.#secrets.read, "keys.previous"));
    return { root, previous };
  }

  /** @throws BackupUnusable where the database is not of this version, or holds nothing; Unavailable */
  async stores(): Promise<Stores> {
    if (this.#stores !== undefined) return this.#stores;
    const { root, previous } = await this.roots();
    const database = await this.database();
    await assertUsable(database);
    this.#stores = await openStores(database, root, previous);
    return this.#stores;
  }

  async environments(): Promise<Environments> {
    const { environments: store, keys } = await this.stores();
    return new Environments({ store, keys });
  }

  async cluster(): Promise<ApiClusterObjects> {
    this.#api ??= KubernetesApi.connect(await loadKubeConfig(this.#config.kubernetes.kubeconfig));
    return new ApiClusterObjects(this.#api);
  }

  async close(): Promise<void> {
    this.#secrets.stop();
    await this.#stores?.close();
    await this.#api?.close();
  }
}

const STDIN = 0;

/** @param file `-` for standard input; @throws BackupUnusable */
export function readManifest(file: string): BackupManifest {
  let text: string;
  try {
    text = readFileSync(file === "-" ? STDIN : file, "utf8");
  } catch (error) {
    throw new BackupUnusable(`the manifest ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  return parseManifest(text);
}
