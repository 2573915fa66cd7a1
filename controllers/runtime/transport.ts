/**
 * Requests to the Kubernetes API by verb. Values of objects never get into errors, logs or metrics.
 * Reads are tried again on connection errors, 429 and 5xx; writes never: the caller knows what is safe to repeat.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Unavailable } from "../../core/errors.ts";
import { ApiError, apiError } from "./api-error.ts";
import type {
  ApiCall,
  ApiRequest,
  ApiResponse,
  ApplyOptions,
  CallOptions,
  JsonPatch,
  KubernetesApiOptions,
  ListOptions,
  ListPage,
  ObjectKey,
  Preconditions,
  WatchOptions,
  WritableObject,
} from "./api-types.ts";
import { Connection, connectionFailed } from "./connection.ts";
import { type ConfigSource, CredentialSource } from "./credentials.ts";
import { type KubernetesObject, type ResourceType, resourceLabel, resourcePath } from "./resource-type.ts";
import { readLines, type WatchEvent, watchEvent } from "./watch-stream.ts";

export type * from "./api-types.ts";
export type { WatchEvent } from "./watch-stream.ts";

const JSON_TYPE = "application/json";
const PAGE = 500;
const READ_ATTEMPTS = 4;
const MAX_RETRY_AFTER_MS = 10_000;

const accept = (
  metadataOnly: boolean | undefined,
  kind: "PartialObjectMetadata" | "PartialObjectMetadataList",
): string => (metadataOnly ? `application/json;as=${kind};g=meta.k8s.io;v=v1` : JSON_TYPE);

export class KubernetesApi {
  readonly #connection: Connection;
  readonly #onCall: ((call: ApiCall) => void) | undefined;
  readonly #beforeWrite: (() => void) | undefined;

  private constructor(connection: Connection, onCall?: (call: ApiCall) => void, beforeWrite?: () => void) {
    this.#connection = connection;
    this.#onCall = onCall;
    this.#beforeWrite = beforeWrite;
  }

  static connect(config: ConfigSource, options: KubernetesApiOptions = {}): KubernetesApi {
    const { onCall, ...rest } = options;
    return new KubernetesApi(new Connection(new CredentialSource(config), rest), onCall);
  }

  /** The same connections, with a check at the moment when a write would go onto the wire; it throws to prevent it. */
  guardingWrites(check: () => void): KubernetesApi {
    return new KubernetesApi(this.#connection, this.#onCall, check);
  }

  /** Any request. Throws `ApiError` for every answer from 400 on, `Unavailable` when there is none. */
  async request(request: ApiRequest): Promise<ApiResponse> {
    const attempts = request.method === "GET" ? READ_ATTEMPTS : 1;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once(request);
      } catch (error) {
        request.signal?.throwIfAborted();
        const pauseMs = attempt < attempts ? pauseBeforeRetry(error, attempt) : undefined;
        if (pauseMs === undefined) throw error;
        await delay(pauseMs, undefined, request.signal ? { signal: request.signal } : {}).catch(() => {});
        request.signal?.throwIfAborted();
      }
    }
  }

  async get<T = KubernetesObject>(type: ResourceType, key: ObjectKey, options: CallOptions = {}): Promise<T> {
    const { body } = await this.request({
      method: "GET",
      path: resourcePath(type, key),
      accept: accept(options.metadataOnly, "PartialObjectMetadata"),
      verb: "get",
      type,
      ...options,
    });
    return body as T;
  }

  /** Pages of a list. Throws `isGone` when the list took so long that its snapshot was compacted. */
  async *list<T = KubernetesObject>(type: ResourceType, options: ListOptions = {}): AsyncGenerator<ListPage<T>> {
    const { namespace, labelSelector, fieldSelector, limit = PAGE } = options;
    let next: string | undefined;
    do {
      const { body } = await this.request({
        method: "GET",
        path: resourcePath(type, { namespace }),
        query: { labelSelector, fieldSelector, limit: limit === 0 ? undefined : limit, continue: next },
        accept: accept(options.metadataOnly, "PartialObjectMetadataList"),
        verb: "list",
        type,
        signal: options.signal,
        timeoutMs: options.timeoutMs,
      });
      const page = body as ListBody<T>;
      // Lists of core kinds say once what each of their items is.
      for (const item of page.items ?? []) {
        item.apiVersion ??= page.apiVersion;
        item.kind ??= page.kind.replace(/List$/, "");
      }
      yield { items: page.items ?? [], resourceVersion: page.metadata?.resourceVersion ?? "" };
      next = page.metadata?.continue || undefined;
    } while (next !== undefined);
  }

  /** POST: for what is known to be absent. `isAlreadyExists` when it is not. */
  create<T = KubernetesObject>(
    type: ResourceType,
    object: WritableObject,
    options: CallOptions & { readonly fieldManager?: string } = {},
  ): Promise<T> {
    return this.#write<T>(
      "create",
      "POST",
      type,
      { namespace: object.metadata.namespace },
      object,
      JSON_TYPE,
      options,
      {
        fieldManager: options.fieldManager,
      },
    );
  }

  /** Server-side apply: the object is what this manager wants to own of it, all of it. */
  apply<T = KubernetesObject>(type: ResourceType, object: WritableObject, options: ApplyOptions): Promise<T> {
    const at = { namespace: object.metadata.namespace, name: object.metadata.name };
    return this.#write<T>("apply", "PATCH", type, at, object, "application/apply-patch+yaml", options, {
      fieldManager: options.fieldManager,
      force: options.force,
    });
  }

  applyStatus<T = KubernetesObject>(type: ResourceType, object: WritableObject, options: ApplyOptions): Promise<T> {
    const at = { namespace: object.metadata.namespace, name: object.metadata.name, subresource: "status" };
    return this.#write<T>("applyStatus", "PATCH", type, at, object, "application/apply-patch+yaml", options, {
      fieldManager: options.fieldManager,
      force: options.force,
    });
  }

  mergePatch<T = KubernetesObject>(
    type: ResourceType,
    key: ObjectKey,
    patch: unknown,
    options: CallOptions & { readonly fieldManager?: string } = {},
  ): Promise<T> {
    return this.#write<T>("patch", "PATCH", type, key, patch, "application/merge-patch+json", options, {
      fieldManager: options.fieldManager,
    });
  }

  /** Begin with `{op: "test", path: "/metadata/resourceVersion", value}` where a lost update would matter. */
  jsonPatch<T = KubernetesObject>(
    type: ResourceType,
    key: ObjectKey,
    patch: JsonPatch,
    options: CallOptions & { readonly fieldManager?: string } = {},
  ): Promise<T> {
    return this.#write<T>("patch", "PATCH", type, key, patch, "application/json-patch+json", options, {
      fieldManager: options.fieldManager,
    });
  }

  async delete(
    type: ResourceType,
    key: ObjectKey,
    options: CallOptions & {
      readonly preconditions?: Preconditions;
      readonly propagationPolicy?: "Background" | "Foreground" | "Orphan";
    } = {},
  ): Promise<void> {
    const { preconditions, propagationPolicy } = options;
    const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions, propagationPolicy };
    await this.#write("delete", "DELETE", type, key, body, JSON_TYPE, { ...options, metadataOnly: false }, {});
  }

  /**
   * Events until the server ends the watch. Throws `ApiError` (also for an ERROR event, for example `isGone`),
   * `Unavailable` when the connection breaks or stays silent, `SyntaxError` for a line that is no JSON.
   */
  async *watch<T = KubernetesObject>(type: ResourceType, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, timeoutSeconds } = options;
    const initial = resourceVersion === undefined;
    const query = {
      watch: 1,
      sendInitialEvents: initial || undefined,
      resourceVersionMatch: initial ? "NotOlderThan" : undefined,
      allowWatchBookmarks: true,
      labelSelector,
      fieldSelector,
      resourceVersion,
      timeoutSeconds,
    };
    const started = performance.now();
    let code = "error";
    try {
      const { status, headers, chunks } = await this.#connection.stream({
        method: "GET",
        path: resourcePath(type, { namespace }) + queryString(query),
        headers: { accept: accept(options.metadataOnly, "PartialObjectMetadata") },
        signal: options.signal,
        inactivityMs: options.inactivityMs,
      });
      code = String(status);
      if (status >= 400) {
        const parts: Buffer[] = [];
        for await (const chunk of chunks) parts.push(chunk);
        throw apiError({
          status,
          body: parse(Buffer.concat(parts)),
          type,
          operation: "watch",
          retryAfterSeconds: retryAfter(headers),
        });
      }
      options.onOpen?.();
      for await (const line of readLines(chunks)) yield watchEvent<T>(line, type);
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof ApiError || error instanceof SyntaxError || error instanceof Unavailable) throw error;
      throw connectionFailed(error);
    } finally {
      this.#report("watch", type, code, started);
    }
  }

  /** Reads token and certificates again: for callers of `watch` that were answered 401. */
  renewCredentials(): Promise<void> {
    return this.#connection.renewCredentials();
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #write<T>(
    verb: string,
    method: ApiRequest["method"],
    type: ResourceType,
    at: Parameters<typeof resourcePath>[1],
    body: unknown,
    contentType: string,
    options: CallOptions,
    query: NonNullable<ApiRequest["query"]>,
  ): Promise<T> {
    const answer = await this.#once({
      method,
      path: resourcePath(type, at),
      query,
      body,
      contentType,
      accept: accept(options.metadataOnly, "PartialObjectMetadata"),
      verb,
      type,
      signal: options.signal,
      timeoutMs: options.timeoutMs,
    });
    return answer.body as T;
  }

  async #once(request: ApiRequest): Promise<ApiResponse> {
    const { method, type } = request;
    const verb = request.verb ?? method.toLowerCase();
    const started = performance.now();
    let code = "error";
    try {
      const headers: Record<string, string> = { accept: request.accept ?? JSON_TYPE };
      if (request.body !== undefined) headers["content-type"] = request.contentType ?? JSON_TYPE;
      const response = await this.#connection.send({
        method,
        path: request.path + queryString(request.query),
        body: request.body === undefined ? undefined : JSON.stringify(request.body),
        headers,
        signal: request.signal,
        timeoutMs: request.timeoutMs,
        guard: method === "GET" ? undefined : this.#beforeWrite,
      });
      code = String(response.status);
      const body = parse(response.body);
      if (response.status < 400) return { status: response.status, body, headers: response.headers };
      // The next call, or the retry of this one, goes out with what the files say now.
      if (response.status === 401) await this.renewCredentials();
      throw apiError({
        status: response.status,
        body,
        type,
        operation: verb,
        retryAfterSeconds: retryAfter(response.headers),
      });
    } finally {
      this.#report(verb, type, code, started);
    }
  }

  #report(verb: string, type: ResourceType | undefined, code: string, started: number): void {
    this.#onCall?.({
      target: "kubernetes",
      verb,
      resource: type === undefined ? "" : resourceLabel(type),
      code,
      seconds: (performance.now() - started) / 1000,
    });
  }
}

interface ListBody<T> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly items?: (T & { apiVersion?: string; kind?: string })[] | null;
  readonly metadata?: { readonly continue?: string; readonly resourceVersion?: string };
}

/** `undefined`: not worth another attempt. Full jitter, so that many callers do not come back at once. */
const pauseBeforeRetry = (error: unknown, attempt: number): number | undefined => {
  const jitter = Math.random() * Math.min(2_000, 100 * 2 ** attempt);
  if (error instanceof Unavailable) return jitter;
  if (!(error instanceof ApiError)) return undefined;
  if (error.status === 401 && attempt === 1) return 0;
  if (error.status !== 429 && error.status < 500) return undefined;
  if (error.retryAfterSeconds === undefined) return jitter;
  return Math.min(MAX_RETRY_AFTER_MS, error.retryAfterSeconds * 1000) + jitter;
};

const retryAfter = (headers: Readonly<Record<string, string | string[] | undefined>>): number | undefined => {
  const value = headers["retry-after"];
  const seconds = typeof value === "string" ? Number(value) : Number.NaN;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
};

const queryString = (query: ApiRequest["query"]): string => {
  const parts = Object.entries(query ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
};

const parse = (body: Buffer): unknown => {
  if (body.length === 0) return undefined;
  const text = body.toString("utf8");
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};
