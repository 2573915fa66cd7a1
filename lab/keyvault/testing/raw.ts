import type { IncomingHttpHeaders } from "node:http";
import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import type { MappedClient } from "./connect-to.ts";

export const API_VERSION = "2026-04-01";

export interface RawRequest {
  readonly method?: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly token?: string;
  readonly body?: string | object;
}

export interface RawResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; `{}` when it is empty. */
  readonly body: Record<string, unknown>;
}

/** One request without the SDK, over a mapped connection. Rejects when the connection breaks. */
export function raw(transport: MappedClient, asked: RawRequest): Promise<RawResponse> {
  const agent = transport.agent(asked.url);
  const send = asked.url.startsWith("https:") ? tlsRequest : plainRequest;
  return new Promise((resolve, reject) => {
    const request = send(
      asked.url,
      {
        method: asked.method ?? "GET",
        headers: {
          ...(asked.token === undefined ? {} : { Authorization: `Bearer ${asked.token}` }),
          ...(typeof asked.body === "object" ? { "Content-Type": "application/json" } : {}),
          ...asked.headers,
        },
        ...(agent === undefined ? {} : { agent }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          const json = response.headers["content-type"]?.startsWith("application/json") === true && text !== "";
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            body: json ? (JSON.parse(text) as Record<string, unknown>) : {},
          });
        });
      },
    );
    request.on("error", reject);
    request.end(typeof asked.body === "object" ? JSON.stringify(asked.body) : asked.body);
  });
}
