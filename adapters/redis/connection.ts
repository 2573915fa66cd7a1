/** One way to Redis: never waits for long, says what is wrong, and heals by itself. */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";

/** Who tells which Redis is the primary; reached as that is, with TLS or without. */
export interface Sentinels {
  /** `host:port`; one that answers is enough. */
  readonly addresses: readonly string[];
  /** As `passwordFile`, for the Sentinels. */
  readonly passwordFile?: string;
}

export interface RedisPassword {
  readonly latest: string;
  /** Redis did not take it: another one may be there for a later connection. */
  refused(): void;
}

export interface RedisOptions {
  /** `redis://host:port/database`, or `rediss://` for TLS; with Sentinels the host is their name for the primary. */
  readonly url: string;
  readonly sentinels?: Sentinels;
  readonly username?: string;
  /** Read again for each connection, so that a rotated password is taken up. */
  readonly passwordFile?: string;
  /** Instead of a file. */
  readonly password?: RedisPassword;
  /** PEM of the authority of the server's certificate; the system's otherwise. */
  readonly caFile?: string;
  /** Longest wait for an answer, in milliseconds. */
  readonly timeoutMs: number;
  /** Of every key and channel, so that several installations can share a server. */
  readonly prefix: string;
  readonly onCall?: (call: {
    readonly target: "redis";
    readonly operation: string;
    readonly code: string;
    readonly seconds: number;
  }) => void;
  /** Told when it answers no more, and when it does again. */
  readonly onChange?: (problem: string | undefined) => void;
}

const PASSWORD_REFUSED: ReadonlySet<string> = new Set(["WRONGPASS", "NOAUTH"]);
const CONNECT_TIMEOUT_MS = 2_000;
const LONGEST_RETRY_MS = 2_000;
/** After all of them were asked in vain. */
const SENTINELS_AGAIN_MS = 500;
/** Who does not answer is not asked by every request, but by this. */
export const PROBE_EVERY_MS = 1_000;
/** What goes dead without a word would only be noticed by the kernel, after many minutes: after so many of them it is given up. */
const PROBES_UNANSWERED = 3;

/** It was not asked, or did not answer as it should. */
export class RedisUnavailable extends Error {
  constructor(problem: string, options?: ErrorOptions) {
    super(problem, options);
    this.name = "RedisUnavailable";
  }
}

export class RedisConnection {
  readonly options: RedisOptions;
  readonly #client: Redis;
  readonly #stopped = new AbortController();
  #problem: string | undefined = "Redis was not connected to yet";
  /** What the connection died of, or was not made for. */
  #broken = "error";

  constructor(options: RedisOptions) {
    this.options = options;
    this.#client = newClient(options);
    this.#client.on("error", (error) => {
      this.#broken = codeOf(error);
      if (PASSWORD_REFUSED.has(this.#broken)) options.password?.refused();
    });
    void this.#probe();
  }

  /** What is wrong; undefined while it answers. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** A client of its own, for subscriptions; it has to be asked something each `PROBE_EVERY_MS`, to notice that it is dead. */
  duplicate(): Redis {
    return newClient(this.options);
  }

  /** Lua that runs as a whole; the server keeps its text. */
  define(name: string, script: { readonly numberOfKeys?: number; readonly lua: string }): void {
    this.#client.defineCommand(name, script);
  }

  /** @throws RedisUnavailable at once while it is known not to answer, else within the time that is set */
  async ask<T>(operation: string, command: (client: Redis) => Promise<T>): Promise<T> {
    if (this.#problem !== undefined) throw new RedisUnavailable(this.#problem);
    return this.#call(operation, command);
  }

  async close(): Promise<void> {
    this.#stopped.abort();
    this.#client.disconnect();
  }

  async #call<T>(operation: string, command: (client: Redis) => Promise<T>): Promise<T> {
    const started = performance.now();
    let code = "ok";
    try {
      const answer = await command(this.#client);
      this.#become(undefined);
      return answer;
    } catch (error) {
      // Without a connection nothing is sent, and a command only says that.
      code = this.#client.status === "ready" ? codeOf(error) : this.#broken;
      // Its own words may quote what it was sent.
      const problem = `Redis at ${new URL(this.options.url).host} does not answer as it should (${code})`;
      this.#become(problem);
      throw new RedisUnavailable(problem, { cause: error });
    } finally {
      this.options.onCall?.({ target: "redis", operation, code, seconds: (performance.now() - started) / 1000 });
    }
  }

  /** A server that may only be read answers to a ping as well. */
  #write(client: Redis): Promise<unknown> {
    return client.set(`${this.options.prefix}probe`, "1", "PX", PROBE_EVERY_MS * 10);
  }

  #become(problem: string | undefined): void {
    if (problem === this.#problem || this.#stopped.signal.aborted) return;
    this.#problem = problem;
    this.options.onChange?.(problem);
  }

  /** The first connects; those after it notice that it is away without any traffic, and that it is back. */
  async #probe(): Promise<void> {
    const { signal } = this.#stopped;
    // While no Sentinel answers that does not end.
    const wait = delay(CONNECT_TIMEOUT_MS, undefined, { signal, ref: false });
    await Promise.race([this.#client.connect(), wait]).catch(() => {});
    while (!signal.aborted) {
      await this.#call("probe", (client) => this.#write(client)).catch(() => {});
      await delay(PROBE_EVERY_MS, undefined, { signal, ref: false }).catch(() => {});
    }
  }
}

function newClient({ url, sentinels, username, passwordFile, password, caFile, timeoutMs }: RedisOptions): Redis {
  const passwords = () => ({
    ...(passwordFile !== undefined && { password: secretIn(passwordFile) }),
    ...(password !== undefined && { password: password.latest }),
    ...(sentinels?.passwordFile !== undefined && { sentinelPassword: secretIn(sentinels.passwordFile) }),
  });
  const tls = url.startsWith("rediss:") ? { ...(caFile !== undefined && { ca: readFileSync(caFile) }) } : undefined;
  const client = new Redis(url, {
    lazyConnect: true,
    ...(username !== undefined && { username }),
    ...passwords(),
    ...(tls !== undefined && { tls }),
    ...(sentinels !== undefined && {
      sentinels: sentinels.addresses.map(endpoint),
      name: new URL(url).hostname,
      ...(tls !== undefined && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
      sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
      sentinelRetryStrategy: () => SENTINELS_AGAIN_MS,
    }),
    connectionName: "mazevault",
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: timeoutMs,
    socketTimeout: PROBES_UNANSWERED * (PROBE_EVERY_MS + timeoutMs),
    // What it is checked by is forbidden to who may not administer the server.
    enableReadyCheck: false,
    // What cannot be sent now must not come later, when nobody waits for it.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => {
      Object.assign(client.options, orNothing(passwords));
      return Math.min(LONGEST_RETRY_MS, 50 * 2 ** Math.min(times, 10));
    },
    // A replica after a failover: the name leads to the new primary by now.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  });
  // Each command says so itself.
  client.on("error", () => {});
  return client;
}

const secretIn = (file: string): string => readFileSync(file, "utf8").trimEnd();

/** `host:port`, and `[host]:port` where the host is an IPv6 address. */
function endpoint(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(":");
  return { host: address.slice(0, at).replace(/^\[(.*)\]$/, "$1"), port: Number(address.slice(at + 1)) };
}

/** A file that is being replaced is read the next time. */
function orNothing<T extends object>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The first word of an answer, such as NOAUTH, or what the connection died of. */
function codeOf(error: unknown): string {
  const { message, code } = error as { readonly message?: string; readonly code?: unknown };
  if (message === "Command timed out") return "timeout";
  if (message?.startsWith("All sentinels are unreachable") === true) return "no Sentinel lets us in";
  const [word] = /^[A-Z]{2,16}\b/.exec(message ?? "") ?? [];
  return word ?? (typeof code === "string" ? code : "error");
}
