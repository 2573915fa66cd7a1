/** Where the server is and who we are: from flags, the environment, then what `mazevault login` remembered. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { z } from "zod";
import { UsageError } from "./errors.ts";

const remembered = z.strictObject({
  server: z.url({ protocol: /^https$/ }),
  caFile: z.string().optional(),
  token: z.string().optional(),
  refreshToken: z.string().optional(),
});
export type Remembered = z.infer<typeof remembered>;

export interface Flags {
  readonly server?: string | undefined;
  readonly caFile?: string | undefined;
}

export class Settings {
  readonly #file: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #flags: Flags;
  #remembered: Remembered | undefined;

  constructor(env: NodeJS.ProcessEnv, flags: Flags) {
    const folder = env.XDG_CONFIG_HOME ?? path.join(env.HOME ?? homedir(), ".config");
    this.#file = env.MAZEVAULT_CLI_CONFIG ?? path.join(folder, "mazevault", "login.json");
    this.#env = env;
    this.#flags = flags;
    this.#remembered = read(this.#file);
  }

  /** Throws `UsageError` when nothing says where it is. */
  get server(): string {
    const server = this.#flags.server ?? this.#env.MAZEVAULT_SERVER ?? this.#remembered?.server;
    if (server === undefined) {
      throw new UsageError("no server: run mazevault login --server https://HOST:8443, or set MAZEVAULT_SERVER");
    }
    if (!z.url({ protocol: /^https$/ }).safeParse(server).success) {
      throw new UsageError(`--server: ${server} is not an https URL`);
    }
    return server.replace(/\/+$/, "");
  }

  /** PEM of CA certificates beside the system's. */
  get ca(): Buffer | undefined {
    const file = this.#flags.caFile ?? this.#env.MAZEVAULT_CA_FILE ?? this.#remembered?.caFile;
    if (file === undefined) return undefined;
    try {
      return readFileSync(file);
    } catch (error) {
      throw new UsageError(`--ca-file: ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
  }

  /** An API key or token of the environment goes before a login. */
  get token(): string | undefined {
    return this.#env.MAZEVAULT_TOKEN ?? this.#remembered?.token;
  }

  /** Only of a login: what the environment gives is not ours to renew. */
  get refreshToken(): string | undefined {
    return this.#env.MAZEVAULT_TOKEN === undefined ? this.#remembered?.refreshToken : undefined;
  }

  /** Another process never sees half of it, and nobody else may read it. */
  remember(tokens: { readonly token: string; readonly refreshToken: string }): void {
    const caFile = this.#flags.caFile ?? this.#env.MAZEVAULT_CA_FILE ?? this.#remembered?.caFile;
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
