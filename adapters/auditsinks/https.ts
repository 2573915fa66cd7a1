/** POST over HTTPS, as sinks do it: one connection, no redirect, bounded in time and in what is read of an answer. */
import { getCACertificates } from "node:tls";
import type { Agent } from "undici";
import { Unavailable, Waiting } from "../../core/errors.ts";
import type { SinkTls } from "../../core/ports/audit-sink.ts";
import { unreachable } from "./failure.ts";

const ANSWER_BYTES = 65_536;
const LONGEST_PAUSE_MS = 300_000;

export interface HttpsOptions {
  /** Label of metrics: what is told; audit sinks when absent. */
  readonly target?: string;
  readonly timeoutMs: number;
  /** For metrics. */
  readonly onCall?: (call: { target: string; operation: string; code: string; seconds: number }) => void;
}

export class HttpsPost {
  readonly #url: URL;
  readonly #tls: SinkTls;
  readonly #options: HttpsOptions;
  #agent: Agent | undefined;

  constructor(url: string, tls: SinkTls, options: HttpsOptions) {
    this.#url = new URL(url);
    this.#tls = tls;
    this.#options = options;
  }

  /** The body of an answer of 2xx. Throws `Unavailable` or `Waiting` with SinkUnreachable or SinkRefused. */
  async send(headers: Readonly<Record<string, string>>, body: string, signal: AbortSignal): Promise<string> {
    const { timeoutMs, onCall, target = "auditsink" } = this.#options;
    const started = performance.now();
    let code = "error";
    try {
      const { request } = (await import("undici")).default;
      const {
        statusCode,
        headers: answered,
        body: content,
      } = await request(this.#url, {
        method: "POST",
        headers: { "content-type": "application/json", "user-agent": "mazevault", ...headers },
        body,
        dispatcher: await this.#connection(),
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      });
      code = String(statusCode);
      const text = await start(content);
      if (statusCode < 200 || statusCode > 299) throw this.#refused(statusCode, answered["retry-after"]);
      return text;
    } catch (error) {
      if (error instanceof Unavailable || error instanceof Waiting) throw error;
      throw unreachable(`${this.#url.host} does not answer`, error);
    } finally {
      onCall?.({ target, operation: "POST", code, seconds: (performance.now() - started) / 1000 });
    }
  }

  async close(): Promise<void> {
    await this.#agent?.destroy();
  }

  async #connection(): Promise<Agent> {
    const { Agent } = (await import("undici")).default;
    const { ca, client } = this.#tls;
    this.#agent ??= new Agent({
      connections: 1,
      connect: {
        timeout: this.#options.timeoutMs,
        ...(ca !== undefined && { ca: [...getCACertificates("default"), ca] }),
        ...(client && { cert: client.certificate, key: client.key.reveal() }),
      },
    });
    return this.#agent;
  }

  #refused(status: number, retryAfter: string | string[] | undefined): Unavailable | Waiting {
    const passing = status === 408 || status === 429 || status >= 500;
    const reason = passing ? "SinkUnreachable" : "SinkRefused";
    const message = `${this.#url.host} answers ${status}`;
    const seconds = Number(retryAfter);
    return passing && seconds > 0
      ? new Waiting(reason, message, Math.min(LONGEST_PAUSE_MS, seconds * 1_000))
      : new Unavailable(reason, message);
  }
}

/** As much of an answer as anybody needs; the rest is not waited for. */
async function start(body: AsyncIterable<Buffer> & { destroy(): void }): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > ANSWER_BYTES) {
      body.destroy();
      break;
    }
  }
  return Buffer.concat(chunks).toString("utf8");
}
