/**
 * HTTP to one API server over kept-alive connections: one pool for requests, bounded, and one for watches, which each
 * occupy a connection for minutes. Knows nothing of Kubernetes.
 */
import type { Dispatcher } from "undici";
import { Unavailable } from "../../core/errors.ts";
import type { CredentialSource, Credentials } from "./credentials.ts";

export interface ConnectionOptions {
  /** Connections for requests; further requests queue. */
  readonly connections?: number;
  readonly connectTimeoutMs?: number;
  /** Until the first byte of an answer, and between two chunks of it. */
  readonly timeoutMs?: number;
  readonly allowH2?: boolean;
}

export interface HttpRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With the query string. */
  readonly path: string;
  readonly body?: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  /** Called at the moment when the request would go onto the wire, after any queueing; throwing prevents that. */
  readonly guard?: (() => void) | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface HttpStream {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly chunks: AsyncIterable<Buffer>;
}

// With the ten probes, a second apart, that Node asks for, a dead peer is noticed within half a minute.
const TCP_KEEP_ALIVE_MS = 15_000;
// Shorter than the API server's own limit of 90 s, so that a request does not meet a connection about to close.
const IDLE_CONNECTION_MS = 60_000;

interface Pools {
  readonly version: number;
  readonly requests: Dispatcher;
  readonly watches: Dispatcher;
}

const networkCode = (error: unknown): string => {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "connection failed";
};

/** Failures below HTTP: the request may or may not have been carried out. */
export const connectionFailed = (error: unknown): Unavailable =>
  new Unavailable("ApiServerUnavailable", `the API server does not answer (${networkCode(error)})`, { cause: error });

export class Connection {
  readonly #source: CredentialSource;
  readonly #options: Required<ConnectionOptions>;
  #pools: Pools | undefined;
  #closed = false;

  constructor(source: CredentialSource, options: ConnectionOptions = {}) {
    this.#source = source;
    this.#options = { connections: 32, connectTimeoutMs: 10_000, timeoutMs: 30_000, allowH2: false, ...options };
  }

  async send(request: HttpRequest): Promise<HttpResponse> {
    const credentials = await this.#source.current();
    const pools = this.#pools?.version === credentials.connectionVersion ? this.#pools : await this.#open(credentials);
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs;
    return exchange(pools.requests, request, {
      path: prefix(credentials) + request.path,
      method: request.method,
      body: request.body ?? null,
      headers: { ...credentials.headers, ...request.headers },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    });
  }

  /** A streamed answer. `inactivityMs` without a byte end it with an error, which also finds half-open sockets. */
  async stream(request: HttpRequest & { readonly inactivityMs: number }): Promise<HttpStream> {
    const credentials = await this.#source.current();
    const pools = this.#pools?.version === credentials.connectionVersion ? this.#pools : await this.#open(credentials);
    try {
      const { statusCode, headers, body } = await pools.watches.request({
        origin: credentials.server.origin,
        path: prefix(credentials) + request.path,
        method: request.method,
        headers: { ...credentials.headers, ...request.headers },
        headersTimeout: request.timeoutMs ?? this.#options.timeoutMs,
        bodyTimeout: request.inactivityMs,
        signal: request.signal ?? null,
      });
      return { status: statusCode, headers, chunks: body };
    } catch (error) {
      request.signal?.throwIfAborted();
      throw connectionFailed(error);
    }
  }

  /** Reads the credentials again: the API server did not accept them. */
  async renewCredentials(): Promise<void> {
    await this.#source.renew();
  }

  /** Ends idle connections at once and waits for running requests. Watches must have been aborted before. */
  async close(): Promise<void> {
    this.#closed = true;
    const pools = this.#pools;
    this.#pools = undefined;
    await Promise.all([pools?.requests.close(), pools?.watches.destroy()]);
  }

  async #open(credentials: Credentials): Promise<Pools> {
    const { Pool, ProxyAgent } = (await import("undici")).default;
    if (this.#closed) throw new Error("the connection to the API server was closed");
    const newer = this.#pools;
    if (newer?.version === credentials.connectionVersion) return newer;
    const { connections, connectTimeoutMs, allowH2 } = this.#options;
    const connect = {
      ...credentials.tls,
      timeout: connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
    };
    const common = { connect, allowH2, keepAliveTimeout: IDLE_CONNECTION_MS, pipelining: 1 };
    const make = (limit: number | null): Dispatcher => {
      if (credentials.proxy === undefined)
        return new Pool(credentials.server.origin, { ...common, connections: limit });
      if (!credentials.proxy.startsWith("http"))
        throw new TypeError("only http(s) proxies to the API server are supported");
      return new ProxyAgent({ uri: credentials.proxy, requestTls: connect, ...common, connections: limit });
    };
    this.#pools = {
      version: credentials.connectionVersion,
      requests: make(connections),
      watches: make(null),
    };
    // What runs on the old connections may finish there; the API server ends watches within minutes.
    void newer?.requests.close();
    void newer?.watches.close();
    return this.#pools;
  }
}

const prefix = (credentials: Credentials): string =>
  credentials.server.pathname === "/" ? "" : credentials.server.pathname.replace(/\/$/, "");

/** One request and its whole answer; a handler of our own costs half of undici's `request` and sees the start. */
const exchange = (
  dispatcher: Dispatcher,
  request: HttpRequest,
  options: Dispatcher.DispatchOptions,
): Promise<HttpResponse> =>
  new Promise((resolve, reject) => {
    const { signal } = request;
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    let status = 0;
    let headers: HttpResponse["headers"] = {};
    const chunks: Buffer[] = [];
    let controller: Dispatcher.DispatchController | undefined;
    let settled = false;
    const settle = (finish: () => void): void => {
      if (settled) return;
      settled = true;
      signal?.removeEventListener("abort", onAbort);
      finish();
    };
    const onAbort = (): void => {
      settle(() => reject(signal?.reason));
      controller?.abort(new Error("aborted"));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    dispatcher.dispatch(options, {
      onRequestStart(started) {
        controller = started;
        if (settled) {
          started.abort(new Error("aborted before it was sent"));
          return;
        }
        try {
          request.guard?.();
        } catch (error) {
          settle(() => reject(error));
          started.abort(error instanceof Error ? error : new Error("refused before it was sent"));
        }
      },
      onResponseStart(_controller, code, received) {
        status = code;
        headers = received;
      },
      onResponseData(_controller, chunk) {
        chunks.push(chunk);
      },
      onResponseEnd() {
        settle(() =>
          resolve({ status, headers, body: chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks) }),
        );
      },
      onResponseError(_controller, error) {
        settle(() => reject(connectionFailed(error)));
      },
    });
  });
