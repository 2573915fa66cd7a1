/** The gateway's end of the channel. Nothing is sent before the primary has proved that it belongs to the trusted root. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type IncomingHttpHeaders,
} from "node:http2";
import type { Duplex } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { WebSocket } from "ws";
import { CHANNEL_HOST } from "../../core/fleet/protocol.ts";
import { ChannelError, codeOf } from "./errors.ts";
import { HTTP2, INNER_TLS, type Pings, SESSION_WINDOW_BYTES, SETTINGS, watchPeer } from "./session.ts";
import { type PrimaryTrust, verifyPrimary } from "./trust.ts";
import { openWebSocket } from "./upgrade.ts";
import { WebSocketStream } from "./web-socket-stream.ts";

export interface ChannelOptions {
  /** Of the primary, such as https://primary.example.com:8443; the path of the channel is added. */
  readonly url: string;
  /** PEM; when absent the outer certificate is not verified, since nothing depends on it. */
  readonly outerCa?: string | Buffer;
  readonly trust: PrimaryTrust;
  /** PEM; absent in the first session of all, which registers. */
  readonly client?: { readonly key: string | Buffer; readonly certificates: string };
  readonly signal?: AbortSignal;
  readonly limits?: Partial<ClientLimits>;
}

export interface ClientLimits {
  /** From the first look-up of the name to the primary's first word inside the inner TLS. */
  readonly openMs: number;
  /** Of one answer. */
  readonly answerBytes: number;
  readonly pingEveryMs: number;
  readonly deadAfterMs: number;
}

const LIMITS: ClientLimits = {
  openMs: 20_000,
  answerBytes: 32 * 1024 * 1024,
  pingEveryMs: 20_000,
  deadAfterMs: 60_000,
};

const REQUEST_MS = 30_000;
const CLOSING_MS = 5_000;

export interface RequestOptions {
  readonly signal?: AbortSignal;
  /** Until the whole answer is here; 30 seconds when absent. */
  readonly timeoutMs?: number;
  /** W3C Trace Context; goes out inside of the inner TLS alone. */
  readonly traceParent?: string | undefined;
}

export interface ChannelResponse {
  readonly status: number;
  /** JSON; undefined when there was no body. */
  readonly body: unknown;
  /** When the primary said so. */
  readonly retryAfterMs: number | undefined;
}

/** An open session with the primary. */
export interface Channel {
  /**
   * @param body JSON; undefined: none
   * @returns whatever the status is
   * @throws ChannelError Closed, TimedOut, MalformedAnswer; the reason of the signal
   */
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<ChannelResponse>;
  /** Resolves when the session takes no more requests: undefined when this side closed it, else why. */
  readonly closed: Promise<ChannelError | undefined>;
  /** Requests under way may still be answered for some seconds. */
  close(): void;
}

/** @throws ChannelError; the reason of the signal */
export async function openChannel(options: ChannelOptions): Promise<Channel> {
  const { url, outerCa, trust, client } = options;
  const limits = { ...LIMITS, ...options.limits };
  const timeout = AbortSignal.timeout(limits.openMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  signal.throwIfAborted();
  let socket: WebSocket | undefined;
  const aborted = rejectionOf(signal, () => socket?.terminate());
  const open = async (): Promise<Channel> => {
    socket = await openWebSocket(url, outerCa, signal);
    const stream = new WebSocketStream(socket);
    const tls = await Promise.race([innerHandshake(stream, trust, client), aborted.promise]);
    verifyPrimary(tls, trust);
    const pings = { everyMs: limits.pingEveryMs, deadAfterMs: limits.deadAfterMs };
    const channel = new Http2Channel({ socket, stream, tls }, limits.answerBytes, pings);
    await Promise.race([channel.accepted(client !== undefined), aborted.promise]);
    return channel;
  };
  try {
    return await open();
  } catch (error) {
    socket?.terminate();
    if (options.signal?.aborted) throw options.signal.reason;
    if (!timeout.aborted) throw error;
    const message = `the primary did not open a session within ${limits.openMs} ms: look whether it runs, and what is in between`;
    throw new ChannelError("TimedOut", message, { cause: error });
  } finally {
    aborted.forget();
  }
}

function innerHandshake(stream: Duplex, trust: PrimaryTrust, client: ChannelOptions["client"]): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      const message = `no TLS with the primary inside of the WebSocket (${codeOf(error)}): what is in between may change what it forwards, or it is no primary of this version`;
      reject(new ChannelError("InnerTlsFailed", message, { cause: error }));
    };
    const tls = connectTls({
      ...INNER_TLS,
      socket: stream,
      servername: CHANNEL_HOST,
      ...(trust.kind === "Root" && { ca: trust.pem }),
      ...(client !== undefined && { key: client.key, cert: client.certificates }),
      // Judged by `verifyPrimary`, which can tell what is wrong, before anything is sent.
      rejectUnauthorized: false,
    });
    // Afterwards the session over it tells its end.
    tls.on("error", fail);
    stream.once("close", () => fail({ code: "ECONNRESET" }));
    tls.once("secureConnect", () => resolve(tls));
  });
}

interface Layers {
  readonly socket: WebSocket;
  readonly stream: Duplex;
  readonly tls: TLSSocket;
}

class Http2Channel implements Channel {
  readonly closed: Promise<ChannelError | undefined>;
  readonly #session: ClientHttp2Session;
  readonly #answerBytes: number;
  #ending: ((why: ChannelError | undefined) => void) | undefined;
  #why: ChannelError | undefined;

  constructor({ socket, stream, tls }: Layers, answerBytes: number, pings: Pings) {
    this.#answerBytes = answerBytes;
    this.closed = new Promise((resolve) => {
      this.#ending = resolve;
    });
    const session = connectHttp2(`https://${CHANNEL_HOST}`, {
      ...HTTP2,
      settings: SETTINGS,
      createConnection: () => tls,
    });
    this.#session = session;
    session.once("connect", () => session.setLocalWindowSize(SESSION_WINDOW_BYTES));
    // Its streams and its end tell it as well.
    session.on("error", () => {});
    session.on("goaway", (_code, _last, reason) => this.#end(ended(wordOf(reason))));
    session.once("close", () => {
      this.#end(closed("the connection to the primary broke"));
      stream.destroy();
    });
    stream.once("close", () => session.destroy());
    watchPeer(session, socket, pings, () => {
      this.#end(closed(`nothing came from the primary for ${pings.deadAfterMs} ms`));
      socket.terminate();
    });
  }

  /** Resolves with the primary's first word, which it says only to whom it lets in. */
  accepted(withCertificate: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#session.once("remoteSettings", () => resolve());
      void this.closed.then((why) => reject(withCertificate && why?.reason === undefined ? refused() : why));
    });
  }

  async request(method: string, path: string, body?: unknown, options: RequestOptions = {}): Promise<ChannelResponse> {
    const { timeoutMs = REQUEST_MS, traceParent } = options;
    const timeout = AbortSignal.timeout(timeoutMs);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
    signal.throwIfAborted();
    if (this.#ending === undefined || this.#session.closed) throw this.#why ?? closed("this side has closed it");
    const type = body === undefined ? {} : { "content-type": "application/json" };
    const trace = traceParent === undefined ? {} : { traceparent: traceParent };
    const stream = this.#session.request(
      { ":method": method, ":path": path, accept: "application/json", ...type, ...trace },
      { endStream: body === undefined, signal },
    );
    try {
      return await exchange(stream, body, this.#answerBytes);
    } catch (error) {
      stream.destroy();
      if (options.signal?.aborted) throw options.signal.reason;
      if (error instanceof ChannelError) throw error;
      if (timeout.aborted) {
        throw new ChannelError("TimedOut", `the primary did not answer within ${timeoutMs} ms`, { cause: error });
      }
      throw this.#why ?? closed(`the primary ended the request (${codeOf(error)})`, error);
    }
  }

  close(): void {
    this.#end(undefined);
    if (this.#session.destroyed) return;
    const timer = setTimeout(() => this.#session.destroy(), CLOSING_MS);
    this.#session.once("close", () => clearTimeout(timer));
  }

  #end(why: ChannelError | undefined): void {
    if (this.#ending === undefined) return;
    this.#why = why;
    this.#ending(why);
    this.#ending = undefined;
    // After a word of its end: what is under way may still be answered.
    if (!this.#session.destroyed) this.#session.close();
  }
}

async function exchange(stream: ClientHttp2Stream, body: unknown, most: number): Promise<ChannelResponse> {
  let headers: IncomingHttpHeaders = {};
  const chunks: Buffer[] = [];
  let length = 0;
  await new Promise<void>((resolve, reject) => {
    stream.once("response", (received) => {
      headers = received;
    });
    stream.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= most) chunks.push(chunk);
      else reject(new ChannelError("MalformedAnswer", `the primary answered more than ${most} bytes`));
    });
    stream.once("error", reject);
    stream.once("end", resolve);
    // Does nothing when it has ended.
    stream.once("close", () => reject(new Error("no whole answer")));
    if (body !== undefined) stream.end(JSON.stringify(body));
  });
  // A stream that broke off may look as if it had ended.
  if (headers[":status"] === undefined || length !== Number(headers["content-length"] ?? 0)) {
    throw new ChannelError("Closed", "the channel is closed: the answer of the primary broke off");
  }
  const seconds = Number(headers["retry-after"]);
  return {
    status: Number(headers[":status"]),
    body: length === 0 ? undefined : parseAnswer(Buffer.concat(chunks)),
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1_000 : undefined,
  };
}

function parseAnswer(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8")) as unknown;
  } catch {
    // The message of what failed may quote the answer.
    throw new ChannelError("MalformedAnswer", "the primary answered something that is no JSON");
  }
}

const closed = (what: string, cause?: unknown): ChannelError =>
  new ChannelError("Closed", `the channel is closed: ${what}`, { cause });

const ended = (reason: string | undefined): ChannelError =>
  new ChannelError("Closed", `the channel is closed: the primary has ended it (${reason ?? "without a reason"})`, {
    reason,
  });

const refused = (): ChannelError =>
  new ChannelError(
    "CertificateRefused",
    "the primary ended the session when it saw the certificate of this gateway: it has expired, or another fleet's CA has signed it; compare the clocks, or register again with a new bootstrap token",
  );

/** What the primary says as it ends a session; only in the form that its words have. */
const wordOf = (bytes: Uint8Array | undefined): string | undefined =>
  /^[A-Za-z]{1,64}$/.exec(Buffer.from(bytes ?? []).toString("latin1"))?.[0];

/** Rejects when it is aborted, until forgotten. */
function rejectionOf(signal: AbortSignal, also: () => void): { readonly promise: Promise<never>; forget(): void } {
  let abort = (): void => {};
  const promise = new Promise<never>((_resolve, reject) => {
    abort = () => {
      also();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
  });
  promise.catch(() => {});
  return { promise, forget: () => signal.removeEventListener("abort", abort) };
}
