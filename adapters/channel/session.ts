/** What both ends of the channel have in common: TLS 1.3 and in it HTTP/2, both in the messages of a WebSocket. */
import type { Http2Session, ServerOptions, Settings } from "node:http2";
import type { TlsOptions } from "node:tls";
import type { WebSocket } from "ws";

export const INNER_TLS = {
  minVersion: "TLSv1.3",
  ALPNProtocols: ["h2"],
} as const satisfies TlsOptions;

/** One stream fills a line of 80 Mbit/s and 100 ms. */
export const SETTINGS: Settings = { initialWindowSize: 1024 * 1024, maxHeaderListSize: 16 * 1024, enablePush: false };
/** Of all streams of a session together. */
export const SESSION_WINDOW_BYTES = 4 * 1024 * 1024;
/** Megabytes that may wait to be sent: else some long answers at once end the session. */
const MAX_MEMORY_MB = 64;
export const HTTP2 = {
  maxHeaderListPairs: 32,
  maxOutstandingPings: 16,
  maxSessionMemory: MAX_MEMORY_MB,
} as const satisfies ServerOptions;

export interface Pings {
  readonly everyMs: number;
  readonly deadAfterMs: number;
}

/**
 * Asks the peer regularly, inside the inner TLS where nobody in between can answer for it, and calls `dead` once nothing has
 * come for too long. Anything that comes is a sign of life, since an answer to a ping may have to wait behind it.
 */
export function watchPeer(
  session: Http2Session,
  socket: WebSocket,
  { everyMs, deadAfterMs }: Pings,
  dead: () => void,
): void {
  const deadline = setTimeout(dead, deadAfterMs);
  const pinging = setInterval(() => {
    if (!session.destroyed) session.ping(() => {});
  }, everyMs);
  const heard = () => void deadline.refresh();
  socket.on("message", heard);
  session.once("close", () => {
    clearTimeout(deadline);
    clearInterval(pinging);
    socket.off("message", heard);
  });
}
