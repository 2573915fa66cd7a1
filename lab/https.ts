import { request } from "node:https";

export interface HttpsIdentity {
  /** PEM */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** One HTTPS request with a client certificate; for the lab's own few calls, not for throughput. */
export function httpsRequest(
  url: string,
  identity: HttpsIdentity,
  options: { method?: string; body?: unknown; timeoutMs?: number } = {},
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        ...identity,
        method: options.method ?? "GET",
        headers: options.body === undefined ? {} : { "content-type": "application/json" },
        signal: AbortSignal.timeout(options.timeoutMs ?? 5_000),
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(options.body === undefined ? undefined : JSON.stringify(options.body));
  });
}
