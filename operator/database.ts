/** The way to PostgreSQL: waits for it at the start, and tells afterwards whether it answers. */
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { DatabaseOptions } from "../adapters/postgres/database.ts";
import { DatabaseIsNewer, migrate } from "../adapters/postgres/migrate.ts";
import { openStores, type Stores } from "../adapters/postgres/stores.ts";
import { createRootKeyFile, openRootKeyFile } from "../adapters/rootkey/file.ts";
import { openPassphrase, scryptParametersFile } from "../adapters/rootkey/passphrase.ts";
import { Unavailable } from "../core/errors.ts";
import type { RootKey } from "../core/ports/key-store.ts";
import { databaseOptions } from "../program/common-settings.ts";
import type { Logger } from "../program/logging.ts";
import { ConfigError } from "../program/settings.ts";
import type { Config } from "./config.ts";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5_000;
const PROBE_EVERY_MS = 5_000;
/** A statement may take longer; who waits for it wants to know why. */
const ANSWER_MS = 3_000;

export class DatabaseConnection {
  readonly #options: DatabaseOptions;
  readonly #config: Config;
  readonly #log: Logger;
  readonly #stopped = new AbortController();
  #problem: string | undefined;

  /** Throws `ConfigError` when a setting is missing. */
  constructor(config: Config, log: Logger, onCall: NonNullable<DatabaseOptions["onCall"]>) {
    this.#config = config;
    this.#log = log;
    this.#options = { ...databaseOptions(config.database), onCall };
    this.#problem = this.#unanswered();
  }

  /** What is wrong, for readiness; undefined while PostgreSQL answers. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Tries until PostgreSQL answers. Throws what waiting cannot mend: a newer schema, a wrong root key. */
  async open(): Promise<Stores> {
    const { keys } = this.#config;
    createRootKey(this.#config, this.#log);
    const root = await openRootKey(keys);
    const previous = keys.previous && (await openRootKey({ ...keys.previous, isPrevious: true }));
    for (let pauseMs = FIRST_RETRY_MS; ; pauseMs = Math.min(LONGEST_RETRY_MS, pauseMs * 2)) {
      try {
        const applied = await migrate(this.#options);
        if (applied.length > 0) this.#log.info({ applied }, "database migrated");
        const stores = await openStores(this.#options, root, previous);
        this.#problem = undefined;
        void this.#probe(stores);
        return stores;
      } catch (error) {
        const hopeless =
          error instanceof DatabaseIsNewer || (error instanceof Unavailable && error.code !== "DatabaseUnavailable");
        if (hopeless) throw error;
        this.#log.warn({ error, retryInMs: pauseMs }, this.#unanswered());
        await delay(pauseMs, undefined, { signal: this.#stopped.signal });
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
    return `PostgreSQL at ${this.#options.host}:${this.#options.port} does not answer`;
  }
}

interface RootKeySettings extends Pick<Config["keys"], "provider" | "file" | "passphraseFile"> {
  /** It is being replaced, so there is nothing to be made for it. */
  readonly isPrevious?: boolean;
}

/** Throws `Unavailable("KeyUnavailable")` that says what is wrong with it, and `ConfigError` that names the setting. */
export async function openRootKey(keys: RootKeySettings): Promise<RootKey> {
  const { provider, file, passphraseFile, isPrevious = false } = keys;
  if (provider === "file") return openRootKeyFile(file);
  if (passphraseFile === undefined) {
    const setting = isPrevious ? "keys.previous" : "keys";
    throw new ConfigError([`${setting}.passphraseFile: required with ${setting}.provider passphrase`]);
  }
  const passphrase = readFileSync(passphraseFile, "utf8").trimEnd();
  const parameters = scryptParametersFile(file, !isPrevious);
  return openPassphrase(passphrase, parameters, `passphrase in ${passphraseFile} with ${file}`);
}

function createRootKey({ keys }: Config, log: Logger): void {
  if (keys.provider !== "file" || !keys.create || existsSync(keys.file)) return;
  createRootKeyFile(keys.file);
  log.warn({ file: keys.file }, "made a new root key: keep a copy elsewhere, without it every secret is lost");
}
