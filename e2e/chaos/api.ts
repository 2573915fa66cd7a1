/**
 * A client of the API server that knows what was acknowledged: a write counts when its answer arrived, and is repeated
 * until then. Over one kept connection per request in flight, since a kubectl for each of thousands of writes would
 * keep the machine busier than the product.
 */
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { createInterface } from "node:readline";
import { until } from "../../lab/poll.ts";
import type { KubernetesObject, World } from "../harness.ts";

const REQUEST_TIMEOUT_MS = 5_000;
/** An API server that was killed needs some seconds; one that stays away for so long is lost. */
const OUTAGE_MS = 180_000;
const RETRY_MS = 100;

/** The manifest itself is wrong; no repetition helps. 403 is not among them: an API server that starts answers so. */
const REFUSED = new Set([400, 405, 413, 415, 422]);

export class Refused extends Error {}

export interface WatchEvent {
  readonly type: string;
  readonly object: KubernetesObject;
}

export class ApiClient {
  readonly #url: string;
  readonly #agent: Agent;

  private constructor(url: string, agent: Agent) {
    this.#url = url;
    this.#agent = agent;
  }

  /** As an administrator of the cluster. */
  static async connect({ lab }: World): Promise<ApiClient> {
    const files = await lab.pki.issue("chaos", {
      commonName: "chaos",
      organizations: ["system:masters"],
      usage: "client",
    });
    const agent = new Agent({
      keepAlive: true,
      ca: readFileSync(lab.pki.caFile),
      cert: readFileSync(files.certFile),
      key: readFileSync(files.keyFile),
    });
    return new ApiClient(lab.controlPlane.url, agent);
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Server-side apply. Resolves with the acknowledged object; the same manifest twice changes nothing. */
  async apply(path: string, manifest: object): Promise<KubernetesObject> {
    const query = "?fieldManager=chaos&force=true";
    return until(
      `acknowledgement of ${path}`,
      () => this.#call<KubernetesObject>("PATCH", path + query, JSON.stringify(manifest)),
      { timeoutMs: OUTAGE_MS, intervalMs: RETRY_MS },
    ).then(unlessRefused);
  }

  async list(path: string): Promise<readonly KubernetesObject[]> {
    return (await this.#list(path)).items;
  }

  /**
   * Everything that is there now (as events of type LISTED), and then every change, across any number of outages. Ends
   * when the signal is aborted.
   */
  async watch(path: string, signal: AbortSignal, onEvent: (event: WatchEvent) => void): Promise<void> {
    while (!signal.aborted) {
      try {
        const { items, resourceVersion } = await this.#list(path);
        for (const object of items) onEvent({ type: "LISTED", object });
        await this.#follow(`${path}?watch=1&resourceVersion=${resourceVersion}`, signal, onEvent);
      } catch {
        // The server is away; listing again loses nothing but states in between.
      }
      if (!signal.aborted) await this.#reachable(signal);
    }
  }

  async #reachable(signal: AbortSignal): Promise<void> {
    const ready = async () => (await this.#send("GET", "/readyz", { signal })).statusCode === 200;
    await until("API server", ready, { timeoutMs: OUTAGE_MS, intervalMs: RETRY_MS, signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  async #follow(path: string, signal: AbortSignal, onEvent: (event: WatchEvent) => void): Promise<void> {
    const response = await this.#send("GET", path, { signal, stream: true });
    if (response.statusCode !== 200) {
      response.destroy();
      return;
    }
    for await (const line of createInterface({ input: response })) {
      const event: WatchEvent = JSON.parse(line);
      if (event.type === "ERROR") break;
      onEvent(event);
    }
    response.destroy();
  }

  async #list(path: string): Promise<{ items: KubernetesObject[]; resourceVersion: string }> {
    const answer = await this.#call<{ items: KubernetesObject[]; metadata: { resourceVersion: string } }>("GET", path);
    const { items, metadata } = unlessRefused(answer);
    return { items, resourceVersion: metadata.resourceVersion };
  }

  /** Throws what may pass by itself; what does not is the result, so that `until` ends. */
  async #call<T>(method: string, path: string, body?: string): Promise<T | Refused> {
    const response = await this.#send(method, path, body === undefined ? {} : { body });
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const { statusCode = 0 } = response;
    if (statusCode >= 200 && statusCode < 300) return JSON.parse(text) as T;
    const message = `${method} ${path}: ${statusCode} ${text}`;
    if (REFUSED.has(statusCode)) return new Refused(message);
    throw new Error(message);
  }

  #send(
    method: string,
    path: string,
    options: { readonly body?: string; readonly signal?: AbortSignal; readonly stream?: boolean },
  ): Promise<IncomingMessage> {
    const limits = options.stream ? [] : [AbortSignal.timeout(REQUEST_TIMEOUT_MS)];
    const signal = AbortSignal.any([...limits, ...(options.signal ? [options.signal] : [])]);
    return new Promise((resolve, reject) => {
      const headers = options.body === undefined ? {} : { "content-type": "application/apply-patch+yaml" };
      const outgoing = request(this.#url + path, { agent: this.#agent, method, headers, signal }, resolve);
      outgoing.on("error", reject);
      outgoing.end(options.body);
    });
  }
}

function unlessRefused<T>(answer: T | Refused): T {
  if (answer instanceof Refused) throw answer;
  return answer;
}
