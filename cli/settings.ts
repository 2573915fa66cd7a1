/** Where the server is and who we are: from flags, the environment, then what `mazevault login` remembered. */
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import type { Environment } from "./environment.ts";
import { UsageError } from "./errors.ts";

const remembered = z.strictObject({
  server: z.url({ protocol: /^https$/ }),
  caFile: z.string().optional(),
  token: z.string().optional(),
  refreshToken: z.string().optional(),
});
export type Remembered = z.infer<typeof remembered>;

export interface Tokens {
  readonly token: string;
  readonly refreshToken: string;
}

/** A process that holds the lock for longer has died: a refresh is one request. */
const LOCK_ENDS_MS = 35_000;
const LOOK_EVERY_MS = 50;

export interface Flags {
  readonly server?: string | undefined;
  readonly caFile?: string | undefined;
}

export class Settings {
  readonly #file: string;
  readonly #env: Environment;
  readonly #flags: Flags;
  #remembered: Remembered | undefined;

  constructor(env: Environment, flags: Flags) {
    const folder = env.XDG_CONFIG_HOME ?? path.join(env.HOME ?? homedir(), ".config");
    this.#file = env.MAZEVAULT_CLI_CONFIG ?? path.join(folder, "mazevault", "login.json");
    this.#env = env;
    this.#flags = flags;
    this.#remembered = read(this.#file);
  }

  /** Of everything that is remembered. */
  get folder(): string {
    return path.dirname(this.#file);
  }

  /** Whether anything says where it is. */
  get hasServer(): boolean {
    return this.#named !== undefined;
  }

  get #named(): string | undefined {
    return this.#flags.server ?? this.#env.MAZEVAULT_SERVER ?? this.#remembered?.server;
  }

  /** Throws `UsageError` when nothing says where it is. */
  get server(): string {
    const server = this.#named;
    if (server === undefined) {
      throw new UsageError("no server", "run mazevault login --server https://HOST:8443, or set MAZEVAULT_SERVER");
    }
    if (!z.url({ protocol: /^https$/ }).safeParse(server).success) {
      throw new UsageError(`--server: ${server} is not an https URL`);
    }
    return server.replace(/\/+$/, "");
  }

  /** PEM of the CA certificates that count for it; the system's when absent. */
  get ca(): Buffer | undefined {
    const file = this.#caFile;
    if (file === undefined) return undefined;
    try {
      return readFileSync(file);
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code;
      throw new UsageError(`--ca-file: ${file} cannot be read (${why})`, "correct --ca-file or MAZEVAULT_CA_FILE");
    }
  }

  /** An API key or token of the environment goes before a login. */
  get token(): string | undefined {
    return this.#env.MAZEVAULT_TOKEN ?? this.#login?.token;
  }

  /** Only of a login: what the environment gives is not ours to renew. */
  get refreshToken(): string | undefined {
    return this.#env.MAZEVAULT_TOKEN === undefined ? this.#login?.refreshToken : undefined;
  }

  /** Whether the token is of the environment, which a new login would not change. */
  get tokenIsGiven(): boolean {
    return this.#env.MAZEVAULT_TOKEN !== undefined;
  }

  /** What is remembered of one server is not for another one. */
  get #login(): Remembered | undefined {
    return this.#remembered?.server === this.server ? this.#remembered : undefined;
  }

  get #caFile(): string | undefined {
    return this.#flags.caFile ?? this.#env.MAZEVAULT_CA_FILE ?? this.#login?.caFile;
  }

  /**
   * Renews the tokens unless another process has just done so: a refresh token that is used twice ends the session, and
   * scripts run commands side by side.
   */
  async renew(refresh: (refreshToken: string) => Promise<Tokens | undefined>): Promise<boolean> {
    const unlock = await lock(`${this.#file}.lock`);
    try {
      const before = this.token;
      this.#remembered = read(this.#file);
      const { token, refreshToken } = this;
      if (token !== before) return token !== undefined;
      const tokens = refreshToken === undefined ? undefined : await refresh(refreshToken);
      if (tokens !== undefined) this.remember(tokens);
      return tokens !== undefined;
    } finally {
      unlock();
    }
  }

  /** Another process never sees half of it, and nobody else may read it. */
  remember(tokens: Tokens): void {
    const caFile = this.#caFile;
    this.#remembered = {
      server: this.server,
      ...(caFile !== undefined && { caFile: path.resolve(caFile) }),
      ...tokens,
    };
    mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 });
    const written = `${this.#file}.${process.pid}`;
    writeFileSync(written, `${JSON.stringify(this.#remembered, null, 2)}\n`, { mode: 0o600 });
    renameSync(written, this.#file);
  }

  forget(): void {
    rmSync(this.#file, { force: true });
    this.#remembered = undefined;
  }
}

/** Resolves, once this process alone holds it, with what gives it back. */
async function lock(file: string): Promise<() => void> {
  for (;;) {
    try {
      closeSync(openSync(file, "wx", 0o600));
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
        throw new UsageError(`${file} cannot be written (${(error as NodeJS.ErrnoException).code})`);
      }
    }
    const since = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - since > LOCK_ENDS_MS) rmSync(file, { force: true });
    else await delay(LOOK_EVERY_MS);
  }
}

function read(file: string): Remembered | undefined {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  try {
    return remembered.parse(JSON.parse(text));
  } catch {
    throw new UsageError(`${file} is damaged; remove it and log in again`);
  }
}
