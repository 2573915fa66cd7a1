/**
 * A plain HTTP server that speaks list and watch of one collection, for faults of the protocol that a real API server
 * does not produce on demand. What the API server means is tested against a real one.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { ConfigSource } from "../credentials.ts";
import type { ResourceType } from "../resource-type.ts";

export interface FakeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: unknown;
}

interface Change {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: FakeObject;
}

export const fakeThings: ResourceType = {
  group: "example.test",
  version: "v1",
  plural: "things",
  kind: "Thing",
  namespaced: true,
};

/** Answers a request itself by returning true. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

export class FakeApiServer {
  readonly requests: { readonly method: string; readonly url: URL; readonly headers: IncomingMessage["headers"] }[] =
    [];
  /** Asked before each request is answered. */
  fault: Fault | undefined;
  /** Objects per page at most, whatever the client asks for. */
  pageSize = 500;
  /** Whether a watch may begin with the initial state. */
  streaming = true;
  readonly #server: Server;
  readonly #objects = new Map<string, FakeObject>();
  readonly #watches = new Set<ServerResponse>();
  #changes: Change[] = [];
  #version = 10;
  #compacted = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<FakeApiServer> {
    const server = createServer();
    const fake = new FakeApiServer(server);
    server.on("request", (request, response) => fake.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return fake;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** A kubeconfig for this server, or for another port in front of it. */
  config(options: { readonly port?: number; readonly tokenFile?: string } = {}): ConfigSource {
    const { tokenFile } = options;
    return {
      getCurrentCluster: () => ({
        name: "fake",
        server: `http://127.0.0.1:${options.port ?? this.port}`,
        skipTLSVerify: true,
      }),
      getCurrentUser: () => ({
        name: "test",
        ...(tokenFile === undefined ? {} : { authProvider: { name: "tokenFile", config: { tokenFile } } }),
      }),
      applyToHTTPSOptions: async () => {},
    };
  }

  get watches(): number {
    return this.#watches.size;
  }

  /** Requests for everything there is, by either way. */
  get fullReads(): number {
    return this.requests.filter(({ url: { searchParams } }) => !searchParams.has("watch") || isInitial(searchParams))
      .length;
  }

  put(name: string, spec: unknown = {}, uid = `uid-${name}`): FakeObject {
    const version = ++this.#version;
    const old = this.#objects.get(name);
    const object: FakeObject = {
      apiVersion: "example.test/v1",
      kind: "Thing",
      metadata: { name, namespace: "team", uid, resourceVersion: String(version) },
      spec,
    };
    this.#objects.set(name, object);
    this.#publish({ version, type: old === undefined ? "ADDED" : "MODIFIED", object });
    return object;
  }

  remove(name: string): void {
    const old = this.#objects.get(name);
    if (old === undefined) return;
    this.#objects.delete(name);
    const version = ++this.#version;
    const object = { ...old, metadata: { ...old.metadata, resourceVersion: String(version) } };
    this.#publish({ version, type: "DELETED", object });
  }

  bookmark(): void {
    const version = ++this.#version;
    const object = { kind: "Thing", apiVersion: "example.test/v1", metadata: { resourceVersion: String(version) } };
    this.raw(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
  }

  /** To every open watch, as it is. */
  raw(text: string | Buffer): void {
    for (const watch of this.#watches) watch.write(text);
  }

  /** What the API server does when a watch has lasted long enough. */
  endWatches(): void {
    for (const watch of this.#watches) watch.end();
    this.#watches.clear();
  }

  breakWatches(): void {
    for (const watch of this.#watches) watch.destroy();
    this.#watches.clear();
  }

  /** Forgets history: a watch from before now is answered with 410. */
  compact(): void {
    this.#changes = [];
    this.#compacted = this.#version;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  #publish(change: Change): void {
    this.#changes.push(change);
    this.raw(line(change));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://fake");
    this.requests.push({ method: request.method ?? "", url, headers: request.headers });
    if (this.fault?.(request, response)) return;
    if (isInitial(url.searchParams)) this.#streamInitial(response);
    else if (url.searchParams.has("watch")) this.#watch(Number(url.searchParams.get("resourceVersion")), response);
    else this.#list(url, response);
  }

  #list(url: URL, response: ServerResponse): void {
    const start = Number(url.searchParams.get("continue") ?? 0);
    const limit = Math.min(this.pageSize, Number(url.searchParams.get("limit") ?? this.pageSize));
    const all = [...this.#objects.values()];
    const items = all.slice(start, start + limit);
    const more = start + limit < all.length;
    reply(response, 200, {
      kind: "ThingList",
      apiVersion: "example.test/v1",
      metadata: { resourceVersion: String(this.#version), ...(more ? { continue: String(start + limit) } : {}) },
      items,
    });
  }

  #streamInitial(response: ServerResponse): void {
    if (!this.streaming) {
      reply(response, 422, status(422, "Invalid"));
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    for (const object of this.#objects.values()) response.write(line({ version: 0, type: "ADDED", object }));
    const metadata = { resourceVersion: String(this.#version), annotations: { "k8s.io/initial-events-end": "true" } };
    response.write(`${JSON.stringify({ type: "BOOKMARK", object: { kind: "Thing", metadata } })}\n`);
    this.#keep(response);
  }

  #keep(response: ServerResponse): void {
    this.#watches.add(response);
    response.on("close", () => this.#watches.delete(response));
  }

  #watch(from: number, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "application/json" });
    if (from < this.#compacted) {
      response.end(`${JSON.stringify({ type: "ERROR", object: status(410, "Expired") })}\n`);
      return;
    }
    response.flushHeaders();
    this.#keep(response);
    for (const change of this.#changes) if (change.version > from) response.write(line(change));
  }
}

const isInitial = (query: URLSearchParams): boolean => query.get("sendInitialEvents") === "true";

const line = ({ type, object }: Change): string => `${JSON.stringify({ type, object })}\n`;

export const reply = (
  response: ServerResponse,
  code: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void => {
  response.writeHead(code, { "content-type": "application/json", ...headers });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
};

/** A `metav1.Status` that refuses. */
export const status = (code: number, reason: string, more: Readonly<Record<string, unknown>> = {}): object => ({
  kind: "Status",
  apiVersion: "v1",
  metadata: {},
  status: "Failure",
  code,
  reason,
  message: reason,
  ...more,
});
