/** One session of a gateway with this replica: the inner handshake, then requests until one side ends it. */
import { constants as crypto } from "node:crypto";
import {
  constants as http2,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { Duplex } from "node:stream";
import { createServer, type TLSSocket } from "node:tls";
import type { WebSocket } from "ws";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { problemJson } from "./answer.ts";
import { codeOf } from "./errors.ts";
import type { ChannelLimits } from "./server.ts";
import { HTTP2, INNER_TLS, SESSION_WINDOW_BYTES, SETTINGS, watchPeer } from "./session.ts";
import { WebSocketStream } from "./web-socket-stream.ts";

export interface ChannelCredentials {
  /** PEM. */
  readonly key: string | Buffer;
  /** PEM: the replica's own first, the root last, by which a gateway without a certificate knows the primary. */
  readonly certificates: string;
  /** PEM: who signs the certificates of gateways. */
  readonly root: string;
}

export interface ChannelRequest {
  readonly method: string;
  /** As it was sent, with a query if there is one. */
  readonly path: string;
  /**
   * The body, read now and once; undefined when there is none.
   *
   * @throws BodyRefused
   */
  readonly json: () => Promise<unknown>;
  /** DER of the certificate that the peer has proved to have the key of; it was valid at the handshake. */
  readonly peer: Buffer | undefined;
  /** Of the caller, or of the last proxy. */
  readonly remoteAddress: string;
  /** In whose trace the caller asks, as it says (W3C Trace Context). */
  readonly traceParent?: string | undefined;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

export interface ChannelAnswer {
  readonly status: number;
  /** JSON; no body when undefined. */
  readonly body?: unknown;
  /** `application/json` when absent. */
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Ends the session once this was sent, and tells the peer why, such as GatewayRevoked. */
  readonly endsSession?: string;
}

export type ChannelHandler = (request: ChannelRequest) => Promise<ChannelAnswer>;

export interface ChannelLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** A handler that lets it pass has it answered as it should be. */
export class BodyRefused extends Error {
  readonly status: 400 | 408 | 413;
  readonly code: "InvalidRequest" | "BodyTooSlow" | "BodyTooLarge";
  constructor(status: 400 | 408 | 413, code: BodyRefused["code"], message: string) {
    super(message);
    this.name = "BodyRefused";
    this.status = status;
    this.code = code;
  }
}

export interface Peer {
  /** DER. */
  readonly certificate: Buffer;
  /** Lower-case hex, the content octets of the INTEGER. */
  readonly serialNumber: string;
  /** DER of the name, as hex: equal for all certificates of a gateway. */
  readonly subject: string;
  readonly notAfter: Date;
}

export type SessionState =
  /** Nobody knows yet whose it is. */
  | "Handshake"
  /** The peer has no certificate. */
  | "Stranger"
  /** The peer has one that the fleet's CA has signed. */
  | "Known"
  /** Told to end; it is gone once the peer has read that, or has had its time. */
  | "Ending";

interface ServerSessionParts {
  readonly socket: WebSocket;
  readonly remoteAddress: string;
  readonly credentials: ChannelCredentials;
  readonly handler: ChannelHandler;
  readonly limits: ChannelLimits;
  readonly log: ChannelLog;
}

/** How long the last answer and the reason of an end may take to go out. */
const GOODBYE_MS = 1_000;

export class ServerSession {
  readonly #parts: ServerSessionParts;
  readonly remoteAddress: string;
  /** Resolves once the WebSocket is gone. */
  readonly closed: Promise<void>;
  /** Called once, when the handshake has ended, and before the first request; with nothing for one who came without a certificate. */
  onHandshake: (peer: Peer | undefined) => void = () => {};
  #peer: Peer | undefined;
  #ending = false;
  #http: ServerHttp2Session | undefined;

  constructor(parts: ServerSessionParts) {
    this.#parts = parts;
    this.remoteAddress = parts.remoteAddress;
    const { socket, log } = parts;
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    this.#begin().catch((error: unknown) => {
      log.debug({ remoteAddress: this.remoteAddress, code: codeOf(error) }, "no session of the channel came about");
      socket.terminate();
    });
  }

  /** Undefined until the handshake has ended, and of one who came without. */
  get peer(): Peer | undefined {
    return this.#peer;
  }

  get state(): SessionState {
    if (this.#ending) return "Ending";
    if (this.#http === undefined) return "Handshake";
    return this.#peer === undefined ? "Stranger" : "Known";
  }

  /** Without a word, such as a handshake that makes room. */
  cut(): void {
    this.#ending = true;
    this.#parts.socket.terminate();
  }

  /** No more requests; those under way are answered. */
  drain(reason: string): void {
    if (this.#http === undefined) this.cut();
    else {
      this.#ending = true;
      sayGoodbye(this.#http, http2.NGHTTP2_NO_ERROR, reason);
      this.#http.close();
    }
  }

  /** At once; requests under way get no answer. */
  end(reason: string): void {
    const session = this.#http;
    if (session === undefined) {
      this.cut();
      return;
    }
    this.#ending = true;
    sayGoodbye(session, http2.NGHTTP2_CANCEL, reason);
    // What is said last must be written before all is torn down, and a peer that does not read it must not hold that up.
    setImmediate(() => session.destroy());
  }

  async #begin(): Promise<void> {
    const { socket, credentials, limits } = this.#parts;
    const timer = setTimeout(() => socket.terminate(), limits.handshakeMs);
    socket.once("close", () => clearTimeout(timer));
    const stream = new WebSocketStream(socket);
    const tls = await acceptTls(stream, credentials, limits.handshakeMs);
    clearTimeout(timer);
    // What had come before it was cut may still end the handshake.
    if (this.#ending) return;
    this.#peer = peerOf(tls);
    this.#serve(tls, stream);
    if (this.#peer === undefined) this.#endLater(limits.strangerMs);
    this.onHandshake(this.#peer);
  }

  #endLater(ms: number): void {
    const timer = setTimeout(() => this.end("CertificateRequired"), ms);
    this.#parts.socket.once("close", () => clearTimeout(timer));
  }

  #serve(tls: TLSSocket, stream: Duplex): void {
    const { socket, limits } = this.#parts;
    const settings = { ...SETTINGS, maxConcurrentStreams: limits.streams };
    const session = performServerHandshake(tls, { ...HTTP2, settings });
    this.#http = session;
    session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    // Its streams and its end tell it as well.
    session.on("error", () => {});
    session.on("stream", (asked, headers) => {
      // Whatever a peer does to one stream, it must never end the process.
      this.#answer(asked, headers).catch((error: unknown) => {
        this.#parts.log.debug({ code: codeOf(error) }, "an answer of the channel could not be sent");
        asked.destroy();
      });
    });
    session.once("close", () => stream.destroy());
    stream.once("close", () => session.destroy());
    watchPeer(session, socket, { everyMs: limits.pingEveryMs, deadAfterMs: limits.deadAfterMs }, () =>
      socket.terminate(),
    );
  }

  async #answer(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const { log } = this.#parts;
    const abort = new AbortController();
    stream.once("close", () => abort.abort());
    stream.on("error", () => {});
    const answer = await this.#ask(stream, headers, abort.signal).catch((error: unknown) => {
      if (abort.signal.aborted) return undefined;
      if (error instanceof BodyRefused) return failure(error.status, error.code, error.message);
      log.error({ path: headers[":path"], error }, "a request of the channel failed");
      return failure(500, "InternalError", "this is a defect; the log of the primary has more");
    });
    if (answer === undefined || stream.destroyed) return;
    // A peer that resets with NO_ERROR closes a stream whose body nobody reads, and it is destroyed by us only.
    if (stream.closed) {
      stream.destroy();
      return;
    }
    const { endsSession } = answer;
    if (endsSession !== undefined) this.#endAfter(stream, endsSession);
    this.#send(stream, answer);
  }

  #send(stream: ServerHttp2Stream, answer: ChannelAnswer): void {
    try {
      send(stream, answer);
    } catch (error) {
      this.#parts.log.debug({ code: codeOf(error) }, "an answer of the channel could not be sent");
      stream.destroy();
    }
  }

  async #ask(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, signal: AbortSignal): Promise<ChannelAnswer> {
    const { handler, limits } = this.#parts;
    const peer = this.#peer;
    if (peer !== undefined && peer.notAfter.getTime() <= Date.now()) {
      const problem = failure(401, "CertificateExpired", "the certificate has ended since the session began");
      return { ...problem, endsSession: "CertificateExpired" };
    }
    return handler({
      method: headers[":method"] ?? "",
      path: headers[":path"] ?? "",
      json: () => readJson(stream, headers, limits),
      peer: peer?.certificate,
      remoteAddress: this.remoteAddress,
      traceParent: typeof headers.traceparent === "string" ? headers.traceparent : undefined,
      signal,
    });
  }

  #endAfter(stream: ServerHttp2Stream, reason: string): void {
    const end = () => this.end(reason);
    const timer = setTimeout(end, GOODBYE_MS);
    stream.once("close", () => {
      clearTimeout(timer);
      end();
    });
  }
}

/**
 * Each has a server of its own, which never listens: so it is known which connection a handshake belongs to.
 * A certificate that does not verify ends it; none does not.
 */
function acceptTls(
  stream: Duplex,
  { key, certificates, root }: ChannelCredentials,
  handshakeTimeout: number,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const server = createServer({
      ...INNER_TLS,
      key,
      cert: certificates,
      ca: root,
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout,
      // Nothing is resumed: each session proves anew who it is of.
      secureOptions: crypto.SSL_OP_NO_TICKET,
    });
    server.once("tlsClientError", reject);
    server.once("secureConnection", (socket: TLSSocket) => {
      // The session over it tells its end.
      socket.on("error", () => {});
      const problem = socket.getPeerX509Certificate() === undefined || socket.authorized ? undefined : socket;
      if (problem === undefined && socket.alpnProtocol === "h2") resolve(socket);
      else reject(Object.assign(new Error("not accepted"), { code: socket.authorizationError ?? "no h2" }));
    });
    stream.once("close", () => reject(Object.assign(new Error("closed"), { code: "ECONNRESET" })));
    server.emit("connection", stream);
  });
}

function peerOf(socket: TLSSocket): Peer | undefined {
  const certificate = socket.getPeerX509Certificate()?.raw;
  if (certificate === undefined) return undefined;
  const { serialNumber, subjectDer, notAfter } = parseCertificate(certificate);
  return { certificate, serialNumber: serialNumber.toString("hex"), subject: subjectDer.toString("hex"), notAfter };
}

function sayGoodbye(session: ServerHttp2Session, code: number, reason: string): void {
  if (!session.destroyed) session.goaway(code, 0, Buffer.from(reason));
}

const failure = (status: number, code: string, detail: string): ChannelAnswer => {
  const { contentType, text } = problemJson(status, code, detail);
  return { status, contentType, body: JSON.parse(text) as unknown };
};

function send(stream: ServerHttp2Stream, { status, body, contentType, headers }: ChannelAnswer): void {
  const text = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  // By its length the peer sees whether it has all of it.
  const about =
    text === undefined ? {} : { "content-type": contentType ?? "application/json", "content-length": text.length };
  stream.respond({ ":status": status, ...about, ...headers }, { endStream: text === undefined });
  if (text !== undefined) stream.end(text);
  stream.once("finish", () => {
    // Who still sends a body that nobody reads is told to stop (RFC 9113, 8.1).
    stream.close(http2.NGHTTP2_NO_ERROR);
    // A paused stream would keep what has come, at most one window, until the session ends.
    stream.resume();
  });
}

async function readJson(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { bodyBytes, bodyMs }: ChannelLimits,
): Promise<unknown> {
  const bytes = await readBody(stream, Number(headers["content-length"] ?? 0), bodyBytes, bodyMs);
  if (bytes.length === 0) return undefined;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch {
    // The message of what failed may quote the body.
    throw new BodyRefused(400, "InvalidRequest", "body: must be JSON in UTF-8");
  }
}

function readBody(stream: ServerHttp2Stream, announced: number, most: number, withinMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const stop = () => {
      clearTimeout(timer);
      stream.off("data", take).off("end", complete).off("close", givenUp);
    };
    const refuse = (error: BodyRefused) => {
      stop();
      // The stream may last until its answer is read, and what came of the body must not.
      chunks.length = 0;
      stream.pause();
      reject(error);
    };
    const tooLarge = () => refuse(new BodyRefused(413, "BodyTooLarge", `the body may have ${most} bytes at most`));
    const take = (chunk: Buffer) => {
      length += chunk.length;
      if (length > most) tooLarge();
      else chunks.push(chunk);
    };
    const complete = () => {
      stop();
      resolve(Buffer.concat(chunks));
    };
    const givenUp = () => {
      stop();
      reject(new Error("the request was given up"));
    };
    const timer = setTimeout(
      () => refuse(new BodyRefused(408, "BodyTooSlow", `the body did not arrive within ${withinMs} ms`)),
      withinMs,
    );
    stream.once("end", complete).once("close", givenUp);
    if (announced > most) tooLarge();
    else stream.on("data", take);
  });
}
