import type { AddressInfo } from "node:net";
import { connect, createServer, type Server, type TLSSocket } from "node:tls";

/** Who has sent what it may change. */
export type Sender = "gateway" | "primary";

/** Changes bytes of the WebSocket in place; whether it did. */
export type Change = (bytes: Buffer, from: Sender) => boolean;

/** A connection that it has forwarded. */
export interface Forwarded {
  readonly changed: boolean;
  readonly ended: boolean;
}

/** Ends the outer TLS with a certificate of its own, reads all that goes through, and forwards it. */
export class TerminatingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<TLSSocket>();
  readonly #seen: Buffer[] = [];
  readonly #forwarded: { changed: boolean; ended: boolean }[] = [];
  #stalled = false;
  #change: Change = () => false;

  constructor(outer: { readonly cert: string; readonly key: string }, port: number) {
    this.#server = createServer(outer, (client) => {
      const upstream = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
      const forwarded = { changed: false, ended: false, upgraded: false };
      this.#forwarded.push(forwarded);
      this.#forward(client, upstream, "gateway", forwarded);
      this.#forward(upstream, client, "primary", forwarded);
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** All bytes of both directions, without the outer TLS and without the masks of the WebSocket. */
  get seen(): Buffer {
    return Buffer.concat(this.#seen);
  }

  /** Forwards nothing more, and ends nothing. */
  stall(): void {
    this.#stalled = true;
  }

  /** Changes one bit of what the primary sends next. */
  flip(): void {
    this.change((bytes, from) => {
      if (from === "gateway") return false;
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
      this.change(() => false);
      return true;
    });
  }

  /** Asked from now on for all that goes through after an upgrade. */
  change(change: Change): void {
    this.#change = change;
  }

  /** All connections so far. */
  get forwarded(): readonly Forwarded[] {
    return this.#forwarded;
  }

  async close(): Promise<void> {
    const gone = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await gone;
  }

  #forward(
    from: TLSSocket,
    to: TLSSocket,
    sender: Sender,
    forwarded: { changed: boolean; ended: boolean; upgraded: boolean },
  ): void {
    this.#sockets.add(from);
    from.on("error", () => {});
    from.once("close", () => {
      this.#sockets.delete(from);
      forwarded.ended = true;
      if (!this.#stalled) to.destroy();
    });
    const unmask = sender === "primary" ? (bytes: Buffer) => bytes : unmasking();
    from.on("data", (chunk: Buffer) => {
      if (this.#stalled) return;
      this.#seen.push(unmask(chunk));
      // What is said for the upgrade nothing depends on.
      if (forwarded.upgraded && this.#change(chunk, sender)) forwarded.changed = true;
      if (sender === "primary") forwarded.upgraded = true;
      to.write(chunk);
    });
  }
}

/** Takes the masks off the frames that a client sends (RFC 6455, 5.2 and 5.3), after its request. */
function unmasking(): (chunk: Buffer) => Buffer {
  let rest = Buffer.alloc(0);
  let requested = false;
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    const out: Buffer[] = [];
    if (!requested) {
      const end = rest.indexOf("\r\n\r\n");
      if (end < 0) return Buffer.alloc(0);
      requested = true;
      out.push(rest.subarray(0, end + 4));
      rest = rest.subarray(end + 4);
    }
    for (let frame = readFrame(rest); frame !== undefined; frame = readFrame(rest)) {
      out.push(frame.payload);
      rest = rest.subarray(frame.length);
    }
    return Buffer.concat(out);
  };
}

function readFrame(bytes: Buffer): { readonly payload: Buffer; readonly length: number } | undefined {
  if (bytes.length < 14) return undefined;
  const short = bytes.readUInt8(1) & 0x7f;
  const [start, size] =
    short === 127 ? [10, Number(bytes.readBigUInt64BE(2))] : short === 126 ? [4, bytes.readUInt16BE(2)] : [2, short];
  const length = start + 4 + size;
  if (bytes.length < length) return undefined;
  const mask = bytes.subarray(start, start + 4);
  const payload = Buffer.from(bytes.subarray(start + 4, length).map((byte, at) => byte ^ (mask[at % 4] ?? 0)));
  return { payload, length };
}
