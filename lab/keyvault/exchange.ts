import type { IncomingMessage, ServerResponse } from "node:http";

/** An HTTP answer; `body` is sent as JSON, nothing is sent without it. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** A request body beyond what the service reads. */
export class BodyTooLarge extends Error {
  override name = "BodyTooLarge";
}

/**
 * The whole request body.
 * @throws BodyTooLarge beyond `limit` bytes; the rest is read and forgotten, so that the connection can go on
 */
export function readBody(request: IncomingMessage, limit: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length <= limit) {
        chunks.push(chunk);
      } else {
        chunks.length = 0;
      }
    });
    request.on("end", () =>
      length <= limit
        ? resolve(Buffer.concat(chunks).toString("utf8"))
        : reject(new BodyTooLarge(`request body exceeds ${limit} bytes`)),
    );
    request.on("error", reject);
  });
}

export function send(response: ServerResponse, reply: Reply): void {
  if (response.destroyed) {
    return;
  }
  const text = reply.body === undefined ? "" : JSON.stringify(reply.body);
  response.writeHead(reply.status, {
    ...(reply.body === undefined ? {} : { "Content-Type": "application/json; charset=utf-8" }),
    "Content-Length": Buffer.byteLength(text),
    ...reply.headers,
  });
  response.end(text);
}

/** The host that a request names, without its port, in lower case. */
export function requestedHost(request: IncomingMessage): string {
  return (request.headers.host ?? "").replace(/:\d+$/, "").toLowerCase();
}
