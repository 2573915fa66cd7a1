import { Duplex } from "node:stream";
import type { RawData, WebSocket } from "ws";

/** Longest message that is taken; what is sent stays well below. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;
const MESSAGE_BYTES = 64 * 1024;
/** So long a peer may take to read the last bytes and to close its side. */
const LINGER_MS = 2_000;

/**
 * The bytes in the binary messages of a WebSocket. It ends with the WebSocket, and the WebSocket with it. The stream of `ws` sends
 * each chunk as one message however long it is, and those of TLS may be many megabytes.
 */
export class WebSocketStream extends Duplex {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    // Small, so that what is sent waits in the streams of HTTP/2, where a heartbeat passes by a long answer.
    super({ highWaterMark: MESSAGE_BYTES });
    this.#socket = socket;
    socket.on("message", (data: RawData, isBinary: boolean) => this.#take(data, isBinary));
    socket.once("close", () => this.destroy());
    // Both end with it, and whoever uses them is told by that.
    socket.on("error", () => {});
    this.on("error", () => {});
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    for (let at = 0; at < chunk.length; at += MESSAGE_BYTES) {
      const isLast = at + MESSAGE_BYTES >= chunk.length;
      this.#socket.send(chunk.subarray(at, at + MESSAGE_BYTES), isLast ? done : undefined);
    }
    if (chunk.length === 0) done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    endSlowly(this.#socket);
    done(error);
  }

  #take(data: RawData, isBinary: boolean): void {
    if (!isBinary || !Buffer.isBuffer(data)) this.destroy();
    else if (!this.push(data)) this.#socket.pause();
  }
}

/** Lets what was written last go out, for a while. */
function endSlowly(socket: WebSocket): void {
  if (socket.readyState !== socket.OPEN) {
    socket.terminate();
    return;
  }
  const timer = setTimeout(() => socket.terminate(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
  // A peer's close must not wait behind what nobody reads any more.
  socket.resume();
  socket.close();
}
