/** The primary's end of the channel: takes upgrades to a WebSocket over and serves HTTP/2 inside of TLS inside of it. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { CHANNEL_PROTOCOL } from "../../core/fleet/protocol.ts";
import { clientAddress } from "../../core/identity/address.ts";
import { networkOf } from "../../core/identity/throttle.ts";
import { problemJson } from "./answer.ts";
import {
  type ChannelCredentials,
  type ChannelHandler,
  type ChannelLog,
  type Peer,
  ServerSession,
  type SessionState,
} from "./server-session.ts";
import { MAX_MESSAGE_BYTES } from "./web-socket-stream.ts";

export interface ChannelLimits {
  /** At once, of peers with a certificate. */
  readonly sessions: number;
  /**
   * Under way at once, with sessions that are about to end: nobody knows yet who a newcomer is, so it is let in and the oldest of
   * these ends.
   */
  readonly handshakes: number;
  /** At once, of those whose handshake has ended without a certificate. */
  readonly strangers: number;
  /** The same of one address, which may be a proxy's. */
  readonly strangersPerAddress: number;
  /** Of one subject of certificates; the oldest gives way to one that is admitted, since it is most likely one that broke unnoticed. */
  readonly perSubject: number;
  /** From the upgrade to the end of the inner handshake. */
  readonly handshakeMs: number;
  /** How long a session without a certificate may last. */
  readonly strangerMs: number;
  /** Requests at once in one session. */
  readonly streams: number;
  readonly bodyBytes: number;
  /** How long a body may take to arrive. */
  readonly bodyMs: number;
  readonly pingEveryMs: number;
  /** A peer of which nothing came for so long is dead. */
  readonly deadAfterMs: number;
  /** How long requests may take to be answered when the server closes. */
  readonly drainMs: number;
}

export const CHANNEL_LIMITS: ChannelLimits = {
  sessions: 1_024,
  handshakes: 1_024,
  strangers: 256,
  strangersPerAddress: 64,
  perSubject: 2,
  handshakeMs: 10_000,
  strangerMs: 60_000,
  streams: 32,
  // A write with the largest value that REST takes, in base64.
  bodyBytes: 2 * 1024 * 1024,
  bodyMs: 30_000,
  pingEveryMs: 20_000,
  deadAfterMs: 60_000,
  drainMs: 4_000,
};

/** Seconds: a replica that was just started has its certificate soon. */
const AGAIN_S = 5;

export type Judgement =
  /** It gets a session, and may end an older one of the same subject. */
  | { readonly kind: "Admitted" }
  /** It gets a session where there is room for one more of the same subject, and ends no other. */
  | { readonly kind: "Undecided" }
  /** It gets none; the reason is told to it, such as GatewayRevoked. */
  | { readonly kind: "Refused"; readonly reason: string };

export interface ChannelServerParts {
  /** Asked at each upgrade; undefined while the replica has none. */
  readonly credentials: () => ChannelCredentials | undefined;
  readonly handler: ChannelHandler;
  /** Of one with this certificate (DER), which the root has signed; each is admitted when absent. */
  readonly judge?: (certificate: Buffer) => Judgement;
  readonly limits?: Partial<ChannelLimits>;
  readonly log: ChannelLog;
}

export class ChannelServer {
  readonly #parts: ChannelServerParts;
  readonly #limits: ChannelLimits;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => CHANNEL_PROTOCOL,
  });
  /** Oldest first. */
  readonly #sessions = new Set<ServerSession>();
  /** Those of which it could not be told, when they came, whether they are admitted. */
  readonly #undecided = new WeakSet<ServerSession>();
  #closed: Promise<void> | undefined;

  constructor(parts: ChannelServerParts) {
    this.#parts = parts;
    this.#limits = { ...CHANNEL_LIMITS, ...parts.limits };
  }

  /** Takes over an upgrade of an HTTP/1.1 server to the path of the channel, and the socket with it. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Who goes away before it is answered is told by the end of the socket alone.
    socket.on("error", () => {});
    const address = clientAddress(request.socket);
    const credentials = this.#parts.credentials();
    const refusal = this.#refusal(request, credentials);
    if (refusal !== undefined) {
      refuseUpgrade(socket, refusal);
      return;
    }
    if (credentials === undefined) return;
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => this.#begin(webSocket, address, credentials));
  }

  /**
   * Ends the sessions whose peer has such a certificate; requests under way get no answer.
   *
   * @param isMeant gets the serial number: lower-case hex, the content octets of the INTEGER
   * @param reason told to the peer, such as GatewayRevoked
   */
  closeSessions(isMeant: (serialNumber: string) => boolean, reason: string): void {
    for (const session of this.#sessions) {
      if (session.peer !== undefined && isMeant(session.peer.serialNumber)) session.end(reason);
    }
  }

  /** Sessions that are open, also those whose handshake has not ended. */
  get size(): number {
    return this.#sessions.size;
  }

  /** Takes no more sessions and no more requests, lets those under way be answered for a while, and resolves when all are gone. */
  close(): Promise<void> {
    this.#closed ??= this.#drain();
    return this.#closed;
  }

  async #drain(): Promise<void> {
    const sessions = [...this.#sessions];
    const gone = sessions.map((session) => session.closed);
    for (const session of sessions) session.drain("ShuttingDown");
    const timer = setTimeout(() => {
      for (const session of sessions) session.end("ShuttingDown");
    }, this.#limits.drainMs);
    await Promise.all(gone);
    clearTimeout(timer);
  }

  #refusal(request: IncomingMessage, credentials: ChannelCredentials | undefined): UpgradeRefusal | undefined {
    if (this.#closed !== undefined) return busy("ShuttingDown", "this replica ends; another one answers");
    if (!offersProtocol(request)) {
      const detail = `Sec-WebSocket-Protocol must offer ${CHANNEL_PROTOCOL}`;
      return { status: 400, code: "ProtocolUnknown", detail };
    }
    if (credentials === undefined) {
      return busy("CertificateMissing", "this replica has no certificate of the fleet yet, which the leader signs");
    }
    if (this.#in("Known").length >= this.#limits.sessions) {
      return busy("TooManySessions", "this replica has as many sessions as it may");
    }
    return undefined;
  }

  /** Oldest first. */
  #in(...states: readonly SessionState[]): readonly ServerSession[] {
    return [...this.#sessions].filter(({ state }) => states.includes(state));
  }

  #begin(socket: WebSocket, remoteAddress: string, credentials: ChannelCredentials): void {
    const { handler, log } = this.#parts;
    const session = new ServerSession({ socket, remoteAddress, credentials, handler, log, limits: this.#limits });
    this.#sessions.add(session);
    session.onHandshake = (peer) => (peer === undefined ? this.#meet(session) : this.#welcome(session, peer));
    void session.closed.then(() => this.#sessions.delete(session));
    const unsettled = this.#in("Handshake", "Ending");
    for (const older of unsettled.slice(0, Math.max(0, unsettled.length - this.#limits.handshakes))) older.cut();
  }

  /** Strangers are counted only now: before, a gateway behind the same balancer looks as they do. */
  #meet(session: ServerSession): void {
    const { strangers, strangersPerAddress } = this.#limits;
    const all = this.#in("Stranger");
    const network = networkOf(session.remoteAddress);
    const near = all.filter(({ remoteAddress }) => networkOf(remoteAddress) === network);
    if (all.length > strangers || near.length > strangersPerAddress) session.end("TooManySessions");
  }

  #welcome(session: ServerSession, { certificate, subject }: Peer): void {
    const judgement: Judgement = this.#parts.judge?.(certificate) ?? { kind: "Admitted" };
    if (judgement.kind === "Refused") {
      session.end(judgement.reason);
      return;
    }
    if (judgement.kind === "Undecided") this.#undecided.add(session);
    this.#makeRoom(session, subject);
    // Handshakes that were under way together may have taken the last place together.
    if (this.#in("Known").length > this.#limits.sessions) session.end("TooManySessions");
  }

  #makeRoom(session: ServerSession, subject: string): void {
    const same = this.#in("Known").filter(({ peer }) => peer?.subject === subject);
    const excess = Math.max(0, same.length - this.#limits.perSubject);
    if (excess === 0) return;
    // It may show a certificate that was revoked and whose key was stolen.
    if (this.#undecided.has(session)) {
      session.end("TooManySessions");
      return;
    }
    const undecided = same.filter((each) => this.#undecided.has(each));
    const admitted = same.filter((each) => !this.#undecided.has(each));
    for (const older of [...undecided, ...admitted].slice(0, excess)) older.end("Superseded");
  }
}

interface UpgradeRefusal {
  readonly status: 400 | 503;
  readonly code: string;
  readonly detail: string;
  readonly retryAfterSeconds?: number;
}

const busy = (code: string, detail: string): UpgradeRefusal => ({
  status: 503,
  code,
  detail,
  retryAfterSeconds: AGAIN_S,
});

const offersProtocol = ({ headers }: IncomingMessage): boolean =>
  (headers["sec-websocket-protocol"] ?? "").split(",").some((offer) => offer.trim() === CHANNEL_PROTOCOL);

/** Answers an upgrade as a request that is refused, and ends the connection. */
export function refuseUpgrade(
  socket: Duplex,
  { status, code, detail, retryAfterSeconds }: Omit<UpgradeRefusal, "status"> & { readonly status: number },
): void {
  const problem = problemJson(status, code, detail);
  const headers = {
    connection: "close",
    "cache-control": "no-store",
    "content-type": problem.contentType,
    "content-length": String(Buffer.byteLength(problem.text)),
    ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${problem.title}\r\n${lines.join("")}\r\n${problem.text}`);
}
