/**
 * /healthz: the process works. /readyz: it can do its job; each part that cannot is named with its reason, and whether
 * it leads is told without being judged. /metrics: Prometheus text format. Answers tell states and counts, never names of secrets.
 */
import { createServer, type Server } from "node:http";
import { listen } from "./listening.ts";

/** One part of the program that may be unable to work. */
export interface HealthCheck {
  readonly name: string;
  /** What is wrong, in words for a person; undefined when nothing is. */
  readonly check: () => string | undefined;
}

/** What a person wants to know, and readiness does not depend on. */
export interface HealthNote {
  readonly name: string;
  readonly says: () => string;
}

export interface HealthServerOptions {
  readonly host?: string | undefined;
  readonly port: number;
  readonly live: readonly HealthCheck[];
  readonly ready: readonly HealthCheck[];
  readonly readyNotes: readonly HealthNote[];
  readonly metrics: () => Promise<string>;
}

export class HealthServer {
  readonly #server: Server;
  readonly #options: HealthServerOptions;

  constructor(options: HealthServerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      void this.#answer(request.method ?? "", request.url ?? "").then(({ status, type, body }) => {
        response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body);
      });
    });
  }

  /** Resolves with the port that is listened on. */
  listen(): Promise<number> {
    return listen(this.#server, this.#options);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(method: string, url: string): Promise<{ status: number; type: string; body: string }> {
    const path = url.split("?")[0];
    if (method !== "GET" && method !== "HEAD") return text(405, "only GET is answered here");
    if (path === "/healthz") return verdict(this.#options.live);
    if (path === "/readyz") return verdict(this.#options.ready, this.#options.readyNotes);
    if (path !== "/metrics") return text(404, "see /healthz, /readyz and /metrics");
    return { status: 200, type: "text/plain; version=0.0.4; charset=utf-8", body: await this.#options.metrics() };
  }
}

function verdict(
  checks: readonly HealthCheck[],
  notes: readonly HealthNote[] = [],
): { status: number; type: string; body: string } {
  const results = checks.map(({ name, check }) => ({ name, problem: check() }));
  const lines = [
    ...results.map(({ name, problem }) => `${name}: ${problem ?? "ok"}`),
    ...notes.map(({ name, says }) => `${name}: ${says()}`),
  ];
  return text(results.some(({ problem }) => problem !== undefined) ? 503 : 200, lines.join("\n"));
}

const text = (status: number, body: string) => ({ status, type: "text/plain; charset=utf-8", body: `${body}\n` });
