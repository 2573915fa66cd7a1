/** The way to PostgreSQL: waits for it at the start, and tells afterwards whether it answers. */
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { DatabaseOptions } from "../adapters/postgres/database.ts";
import { DatabaseIsNewer, MigrationWaits, migrate } from "../adapters/postgres/migrate.ts";
import { openStores, type Stores } from "../adapters/postgres/stores.ts";
import { createRootKeyFile, openRootKeyFile, rootKeyIn } from "../adapters/rootkey/file.ts";
import {
  createScryptParametersFile,
  openPassphrase,
  readScryptParametersFile,
} from "../adapters/rootkey/passphrase.ts";
import { Unavailable } from "../core/errors.ts";
import type { RootKey } from "../core/ports/key-store.ts";
import { databaseOptions } from "../program/common-settings.ts";
import type { Logger } from "../program/logging.ts";
import { ConfigError } from "../program/settings.ts";
import type { Config } from "./config.ts";
import type { KeptSecret } from "./operational-secrets/kept-secret.ts";
import type { OperationalSecrets, SecretReader } from "./operational-secrets/operational-secrets.ts";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5_000;
/** After a migration that did not get its lock: who waits for one holds up all who come after it, so not again and again. */
const MIGRATION_RETRY_MS = 30_000;
/** Of so many attempts that wait for a lock one is patient. */
const PATIENT_EVERY = 3;
const PROBE_EVERY_MS = 5_000;
/** A statement may take longer; who waits for it wants to know why. */
const ANSWER_MS = 3_000;

export class DatabaseConnection {
  readonly #onCall: NonNullable<DatabaseOptions["onCall"]>;
  readonly #config: Config;
  readonly #secrets: OperationalSecrets;
  readonly #log: Logger;
  readonly #stopped = new AbortController();
  #password: KeptSecret | undefined;
  #problem: string | undefined;

  /** Throws `ConfigError` when a setting is missing. */
  constructor(
    config: Config,
    log: Logger,
    onCall: NonNullable<DatabaseOptions["onCall"]>,
    secrets: OperationalSecrets,
  ) {
    this.#config = config;
    this.#log = log;
    this.#secrets = secrets;
    this.#onCall = onCall;
    if (!secrets.names("database.passwordSecret")) databaseOptions(config.database);
    this.#problem = this.#unanswered();
  }

  /** What is wrong, for readiness; undefined while PostgreSQL answers. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** With the password that it has at the moment, once it was opened. */
  get options(): DatabaseOptions {
    return databaseOptions(this.#config.database, this.#password);
  }

  /** Tries until PostgreSQL answers. Throws what waiting cannot mend: a newer schema, a wrong root key. */
  async open(): Promise<Stores> {
    const { keys } = this.#config;
    createRootKey(this.#config, this.#log);
    const { awaited } = this.#secrets;
    const root = await openRootKey(keys, awaited);
    const previous = keys.previous && (await openRootKey(keys.previous, awaited, "keys.previous"));
    this.#password = await this.#secrets.kept("database.passwordSecret");
    const options = { ...this.options, onCall: this.#onCall };
    let waited = 0;
    for (let pauseMs = FIRST_RETRY_MS; ; pauseMs = Math.min(LONGEST_RETRY_MS, pauseMs * 2)) {
      try {
        const { applied, newer } = await migrate(options, { isPatient: waited % PATIENT_EVERY === PATIENT_EVERY - 1 });
        if (applied.length > 0) this.#log.info({ applied }, "database migrated");
        if (newer.length > 0)
          this.#log.warn({ newer }, "the database was migrated by a newer version, with which this one can work");
        const stores = await openStores(options, root, previous);
        this.#problem = undefined;
        void this.#probe(stores);
        return stores;
      } catch (error) {
        const hopeless =
          error instanceof DatabaseIsNewer || (error instanceof Unavailable && error.code !== "DatabaseUnavailable");
        if (hopeless) throw error;
        const waits = error instanceof MigrationWaits;
        if (waits) waited += 1;
        this.#problem = waits ? error.message : this.#unanswered();
        // Replicas that have started together do not come back together.
        const retryInMs = waits ? Math.round(MIGRATION_RETRY_MS * (0.75 + Math.random() / 2)) : pauseMs;
        this.#log.warn({ error, retryInMs }, this.#problem);
        await delay(retryInMs, undefined, { signal: this.#stopped.signal });
      }
    }
  }

  stop(): void {
    this.#stopped.abort();
  }

  async #probe(stores: Stores): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await delay(PROBE_EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      const silence = delay(ANSWER_MS, this.#unanswered(), { ref: false });
      const answer = stores.keyStore.installationId().then(
        () => undefined,
        () => this.#unanswered(),
      );
      const problem = await Promise.race([answer, silence]);
      if (problem !== this.#problem)
        this.#log[problem === undefined ? "info" : "warn"](problem ?? "PostgreSQL answers again");
      this.#problem = problem;
    }
  }

  #unanswered(): string {
    const { host, port } = this.#config.database;
    return `PostgreSQL at ${host}:${port} does not answer`;
  }
}

type RootKeySettings = NonNullable<Config["keys"]["previous"]>;

/** Throws `Unavailable("KeyUnavailable")` that says what is wrong with it, and `ConfigError` that names the setting. */
export async function openRootKey(
  keys: RootKeySettings,
  read: SecretReader,
  setting: "keys" | "keys.previous" = "keys",
): Promise<RootKey> {
  const { provider, file, passphraseFile, rootKeySecret, passphraseSecret } = keys;
  if (provider === "file" && rootKeySecret !== undefined) {
    const text = await read(`${setting}.rootKeySecret`);
    try {
      return rootKeyIn(text.revealText(), `entry ${rootKeySecret} (${setting}.rootKeySecret)`);
    } finally {
      text.dispose();
    }
  }
  if (file === undefined) throw new ConfigError([`${setting}.file: required`]);
  if (provider === "file") return openRootKeyFile(file);
  if (passphraseSecret !== undefined) {
    const passphrase = await read(`${setting}.passphraseSecret`);
    const source = `passphrase in entry ${passphraseSecret} (${setting}.passphraseSecret) with ${file}`;
    try {
      return await openPassphrase(passphrase.revealText(), readScryptParametersFile(file), source);
    } finally {
      passphrase.dispose();
    }
  }
  if (passphraseFile === undefined) {
    throw new ConfigError([`${setting}.passphraseFile: required with ${setting}.provider passphrase`]);
  }
  const passphrase = readFileSync(passphraseFile, "utf8").trimEnd();
  return openPassphrase(passphrase, readScryptParametersFile(file), `passphrase in ${passphraseFile} with ${file}`);
}

/**
 * For a new installation. One that replaces another is brought along: what a replica makes for itself the others do not
 * have, and it may go with the pod when everything is wrapped by it.
 */
function createRootKey({ keys }: Config, log: Logger): void {
  const { provider, file, create, previous } = keys;
  if (!create || previous !== undefined || existsSync(file)) return;
  const [make, what] =
    provider === "file"
      ? ([createRootKeyFile, "a new root key"] as const)
      : ([createScryptParametersFile, "new scrypt parameters"] as const);
  make(file);
  log.warn({ file }, `made ${what}: keep a copy elsewhere, without it every secret is lost`);
}
