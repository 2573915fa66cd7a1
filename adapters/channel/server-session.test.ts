/** Peers that keep to HTTP/2 and yet mean harm, over real sockets: each writes its frames itself. */

import { connect, type TLSSocket } from "node:tls";
import { WebSocket } from "ws";
import { CHANNEL_HOST, CHANNEL_PATH, CHANNEL_PROTOCOL } from "../../core/fleet/protocol.ts";
import { until as pollUntil } from "../../lab/poll.ts";
import { type ChannelLimits, ChannelServer } from "./server.ts";
import type { ChannelCredentials, ChannelRequest } from "./server-session.ts";
import { TestFleet, TestPrimary } from "./testing/primary.ts";
import { WebSocketStream } from "./web-socket-stream.ts";

const until = (what: string, holds: () => boolean): Promise<boolean> => pollUntil(what, holds, { timeoutMs: 30_000 });

let fleet: TestFleet;
let outer: { readonly cert: string; readonly key: string };
let replica: ChannelCredentials;
let primary: TestPrimary | undefined;

/** Of each, in the order of their coming. */
const asked: ChannelRequest[] = [];
const told: string[] = [];
const tell = (_fields: object, message: string) => void told.push(message);
const log = { debug: () => {}, warn: tell, error: tell };

beforeAll(async () => {
  fleet = await TestFleet.make();
  outer = await fleet.outer();
  replica = await fleet.replica();
});

afterEach(async () => {
  asked.length = 0;
  told.length = 0;
  await primary?.kill();
  primary = undefined;
});

afterAll(() => fleet.dispose());

async function serve(limits: Partial<ChannelLimits>): Promise<string> {
  const handler = async (request: ChannelRequest) => {
    asked.push(request);
    return { status: 200, body: await request.json() };
  };
  primary = new TestPrimary(outer, new ChannelServer({ credentials: () => replica, handler, limits, log }));
  return primary.listen();
}

const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const END_HEADERS = 4;
const ACK = 1;

/** RFC 9113, 4.1. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** POST / without a length, in the static table of RFC 7541, appendix A; the name of the host is a literal. */
const post = (stream: number): Buffer => {
  const fields = Buffer.concat([
    Buffer.from([0x83, 0x84, 0x87, 0x01, CHANNEL_HOST.length]),
    Buffer.from(CHANNEL_HOST, "latin1"),
  ]);
  return frame(HEADERS, END_HEADERS, stream, fields);
};

const data = (stream: number, bytes: number): Buffer => frame(DATA, 0, stream, Buffer.alloc(bytes, " "));
const resetWithoutError = (stream: number): Buffer => frame(RST_STREAM, 0, stream, Buffer.alloc(4));

class RawPeer {
  readonly #tls: TLSSocket;
  #received = Buffer.alloc(0);
  /** Type, flags and stream of each frame that came. */
  readonly frames: { readonly type: number; readonly flags: number; readonly stream: number }[] = [];

  private constructor(tls: TLSSocket) {
    this.#tls = tls;
    tls.on("data", (chunk: Buffer) => this.#take(chunk));
    tls.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(SETTINGS, 0, 0, Buffer.alloc(0))]));
  }

  static async open(url: string): Promise<RawPeer> {
    const socket = new WebSocket(url + CHANNEL_PATH, CHANNEL_PROTOCOL, { rejectUnauthorized: false });
    socket.on("error", () => {});
    await new Promise((resolve) => socket.once("open", resolve));
    const tls = connect({
      socket: new WebSocketStream(socket),
      servername: CHANNEL_HOST,
      ALPNProtocols: ["h2"],
      rejectUnauthorized: false,
    });
    tls.on("error", () => {});
    await new Promise((resolve) => tls.once("secureConnect", resolve));
    return new RawPeer(tls);
  }

  /** In one message. */
  write(...frames: readonly Buffer[]): void {
    this.#tls.write(Buffer.concat(frames));
  }

  /** Resolves once the primary has dealt with all that was written before. */
  async ping(): Promise<void> {
    const answers = () => this.frames.filter(({ type, flags }) => type === PING && flags === ACK).length;
    const before = answers();
    this.write(frame(PING, 0, 0, Buffer.alloc(8)));
    await until("the ping is answered", () => answers() > before);
  }

  #take(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 9) {
      const end = 9 + this.#received.readUIntBE(0, 3);
      if (this.#received.length < end) return;
      const [type, flags] = [this.#received.readUInt8(3), this.#received.readUInt8(4)];
      this.frames.push({ type, flags, stream: this.#received.readUInt32BE(5) });
      this.#received = this.#received.subarray(end);
    }
  }
}

test("a reset without an error behind a body that is too large ends that stream only", async () => {
  const peer = await RawPeer.open(await serve({ bodyBytes: 10 }));
  peer.write(post(1), data(1, 10));
  await until("the request is served", () => asked.length === 1);
  await peer.ping();
  peer.write(data(1, 1), data(1, 1), resetWithoutError(1));
  await until("the stream is gone", () => asked[0]?.signal.aborted === true);
  await peer.ping();
  expect(peer.frames.filter(({ stream }) => stream === 1)).toEqual([]);
  expect(told).toEqual([]);
});

test("bodies that are refused are let go of once that is answered, while the session lasts", async () => {
  const peer = await RawPeer.open(await serve({ bodyBytes: 10, bodyMs: 100 }));
  peer.write(post(1), data(1, 10), data(1, 1), data(1, 1));
  peer.write(post(3), data(3, 10));
  await until("both are served", () => asked.length === 2);
  await until("both are gone", () => asked.every(({ signal }) => signal.aborted));
  await peer.ping();
  for (const refused of [1, 3]) {
    const answer = peer.frames.filter(({ stream }) => stream === refused).map(({ type }) => type);
    expect(answer).toEqual(expect.arrayContaining([HEADERS, DATA, RST_STREAM]));
  }
  expect(told).toEqual([]);
});
