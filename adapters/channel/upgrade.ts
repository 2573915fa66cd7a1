/** The outer half of the way to the primary: name, TCP, outer TLS, the upgrade to a WebSocket. */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { WebSocket } from "ws";
import { CHANNEL_PATH, CHANNEL_PROTOCOL } from "../../core/fleet/protocol.ts";
import { ChannelError, type ChannelFault, codeOf } from "./errors.ts";
import { MAX_MESSAGE_BYTES } from "./web-socket-stream.ts";

/** What is being done, so that it can be said what failed. */
type Phase = "Name" | "Connection" | "OuterTls" | "Upgrade";

/**
 * @param url https or wss; the path of the channel is added where it is missing
 * @param ca PEM of who signs the outer certificate; undefined: it is not verified
 * @throws ChannelError; the reason of the signal
 */
export function openWebSocket(url: string, ca: string | Buffer | undefined, signal: AbortSignal): Promise<WebSocket> {
  const { target, host } = targetOf(url);
  return new Promise((resolve, reject) => {
    let phase: Phase = "Name";
    const socket = new WebSocket(target, CHANNEL_PROTOCOL, {
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
      followRedirects: false,
      minVersion: "TLSv1.2",
      ...(ca !== undefined && { ca }),
      rejectUnauthorized: ca !== undefined,
      finishRequest: (request: ClientRequest) => {
        request.once("socket", (connection: Socket) => {
          connection.once("lookup", (error: Error | null) => {
            if (error === null) phase = "Connection";
          });
          connection.once("connect", () => {
            phase = "OuterTls";
          });
          connection.once("secureConnect", () => {
            phase = "Upgrade";
          });
        });
        request.end();
      },
    });
    const abort = () => {
      socket.terminate();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    socket.once("open", () => resolve(socket));
    socket.once("unexpected-response", (request, response) => {
      reject(refusedUpgrade(response, host));
      request.destroy();
    });
    // Also after it is open: its stream tells the end.
    socket.on("error", (error) => reject(failed(phase, error, host)));
    socket.once("close", () => reject(failed(phase, { code: "ECONNRESET" }, host)));
    const done = () => signal.removeEventListener("abort", abort);
    socket.once("open", done);
    socket.once("close", done);
  });
}

function targetOf(url: string): { readonly target: URL; readonly host: string } {
  const target = URL.parse(url);
  if (target === null || !["https:", "wss:"].includes(target.protocol) || target.username !== "") {
    const message = "the address of the primary must be such as https://primary.example.com:8443, without a user";
    throw new ChannelError("InvalidUrl", message);
  }
  target.protocol = "wss:";
  target.search = "";
  target.hash = "";
  const base = target.pathname.replace(/\/+$/, "");
  target.pathname = base.endsWith(CHANNEL_PATH) ? base : base + CHANNEL_PATH;
  return { target, host: target.host };
}

function failed(phase: Phase, error: unknown, host: string): ChannelError {
  const code = codeOf(error);
  const [fault, message] = explain(phase, code, host);
  return new ChannelError(fault, message, { cause: error });
}

function explain(phase: Phase, code: string, host: string): readonly [ChannelFault, string] {
  if (["ENOTFOUND", "EAI_AGAIN", "EAI_FAIL", "ENODATA"].includes(code)) {
    return [
      "NameNotResolved",
      `the name in ${host} is not found (${code}): look at the address of the primary and at DNS`,
    ];
  }
  if (code === "ECONNREFUSED") {
    return [
      "ConnectionRefused",
      `${host} refuses the connection: look whether the primary runs and serves REST on that port`,
    ];
  }
  switch (phase) {
    case "Name":
    case "Connection":
      return [
        "ConnectionFailed",
        `no connection with ${host} (${code}): look at routes, firewalls and network policies`,
      ];
    case "OuterTls":
      return [
        "OuterTlsFailed",
        `no TLS with ${host} (${code}): look whether the port serves HTTPS, and whether gateway.primaryCaFile, if set, holds the CA of its certificate`,
      ];
    case "Upgrade":
      return [
        "NotAWebSocket",
        `${host} serves HTTPS but does not open a WebSocket properly (${code}): what is in between must forward upgrades and Sec-WebSocket-Protocol`,
      ];
  }
}

function refusedUpgrade(response: IncomingMessage, host: string): ChannelError {
  const status = response.statusCode ?? 0;
  const seconds = Number(response.headers["retry-after"]);
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
  if (status === 429 || status === 503) {
    const message = `${host} takes no session now (HTTP ${status}); it is tried again`;
    return new ChannelError("PrimaryBusy", message, { status, retryAfterMs });
  }
  const message = `${host} answers HTTP ${status} instead of opening a WebSocket: look at the address of the primary, whether it serves gateways, and whether what is in between forwards upgrades`;
  return new ChannelError("NotAWebSocket", message, { status });
}
