/**
 * A cache of one resource type that never dies silently. It begins with a watch that streams all objects first (ten
 * times cheaper for the API server than pages of a list, and nothing large is held on either side).
 *
 *   listing --> watching --(server ended it, connection broke, silence)--> watching again from the last version
 *      ^           |
 *      |           +--(410 Gone, unreadable line)--> listing: the difference to the cache becomes events
 *      +--(any failure: backoff with full jitter)
 */
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, isGone } from "./api-error.ts";
import type { ChangeHandler, ChangeType, ObjectCache } from "./cache.ts";
import { type Indexer, ObjectStore } from "./object-store.ts";
import { type KubernetesObject, keyOf, type ResourceType, resourceLabel } from "./resource-type.ts";
import type { KubernetesApi, WatchOptions } from "./transport.ts";
import { trim } from "./trim.ts";

export interface InformerOptions<T extends KubernetesObject> {
  readonly type: ResourceType;
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** Cache metadata only; the values of such objects never reach this process. */
  readonly metadataOnly?: boolean;
  /** Trims an object before it is cached. managedFields and kubectl's last-applied annotation are dropped anyway. */
  readonly transform?: (object: T) => T;
  readonly indexers?: Readonly<Record<string, Indexer<T>>>;
  /** Silence after which a watch is taken for half-open; the API server sends bookmarks about each minute. */
  readonly inactivityMs?: number;
  readonly maxBackoffMs?: number;
  readonly onProblem?: (problem: InformerProblem) => void;
  /** After each change of state. */
  readonly onState?: (health: InformerHealth) => void;
  /** A handler threw; it is a programming error, and the others are called all the same. */
  readonly onHandlerError?: (error: unknown) => void;
}

export type InformerState = "idle" | "listing" | "watching" | "backoff" | "stopped";

export interface InformerProblem {
  readonly informer: string;
  readonly error: unknown;
  /** Failures in a row; 1 for the first. */
  readonly failures: number;
  readonly retryInMs: number;
}

/** What readiness reports. Times are milliseconds since the epoch. */
export interface InformerHealth {
  readonly informer: string;
  readonly state: InformerState;
  readonly synced: boolean;
  readonly size: number;
  /** Up to which everything has been seen; absent before the first list and after 410. */
  readonly resourceVersion: string | undefined;
  readonly lastActivity: number | undefined;
  /** Status code or error name of the last failure, as long as it lasts. */
  readonly failing: string | undefined;
}

const BACKOFF_BASE_MS = 200;
const DEFAULT_MAX_BACKOFF_MS = 30_000;
// Bookmarks come about each 60 s, the first one sometimes after 120 s. A false alarm costs one more watch request.
const DEFAULT_INACTIVITY_MS = 150_000;
// A watch that ends sooner than this did not work, whatever the server's reason.
const HEALTHY_WATCH_MS = 5_000;

export class Informer<T extends KubernetesObject> implements ObjectCache<T> {
  readonly name: string;
  readonly #api: Pick<KubernetesApi, "list" | "watch" | "renewCredentials">;
  readonly #options: InformerOptions<T>;
  readonly #store: ObjectStore<T>;
  readonly #handlers = new Set<ChangeHandler<T>>();
  readonly #syncHandlers = new Set<() => void>();
  readonly #abort = new AbortController();
  #resourceVersion: string | undefined;
  /** Whether the API server sends the initial state as events (KEP-3157); otherwise it is listed in pages. */
  #streaming = true;
  #state: InformerState = "idle";
  #synced = false;
  #failures = 0;
  #failing: string | undefined;
  #lastActivity: number | undefined;
  #running: Promise<void> | undefined;
  #firstSync = Promise.withResolvers<void>();
  #entered = Promise.withResolvers<void>();
  #endPause: () => void = () => {};

  constructor(api: Pick<KubernetesApi, "list" | "watch" | "renewCredentials">, options: InformerOptions<T>) {
    this.#api = api;
    this.#options = options;
    this.#store = new ObjectStore(options.indexers ?? {});
    this.name = resourceLabel(options.type) + (options.namespace === undefined ? "" : `@${options.namespace}`);
    // Nobody may be waiting when the informer is stopped before its first list.
    this.#firstSync.promise.catch(() => {});
  }

  get state(): InformerState {
    return this.#state;
  }

  get synced(): boolean {
    return this.#synced;
  }

  get size(): number {
    return this.#store.size;
  }

  get health(): InformerHealth {
    return {
      informer: this.name,
      state: this.#state,
      synced: this.#synced,
      size: this.#store.size,
      resourceVersion: this.#resourceVersion,
      lastActivity: this.#lastActivity,
      failing: this.#failing,
    };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when nothing of it runs any more. The cache stays readable. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#firstSync.reject(new Error(`${this.name} was stopped`));
    await this.#running;
    this.#synced = false;
    this.#enter("stopped");
  }

  /** Resolves after the first complete list; rejects when stopped before. */
  whenSynced(): Promise<void> {
    return this.#firstSync.promise;
  }

  /**
   * Resolves when it follows what happens. Where the connection is broken it does not wait until the next attempt is due,
   * and lists: who begins to act on the cache must not act on what was true some seconds ago.
   */
  async whenFollowing(): Promise<void> {
    const isOver = (): boolean => this.#state === "watching" || this.#abort.signal.aborted;
    if (isOver()) return;
    this.#resourceVersion = undefined;
    this.#endPause();
    while (!isOver()) await this.#entered.promise;
  }

  get(key: string): T | undefined {
    return this.#store.get(key);
  }

  values(): Iterable<T> {
    return this.#store.values();
  }

  byIndex(index: string, value: string): readonly T[] {
    return this.#store.byIndex(index, value);
  }

  covers(_key: string): boolean {
    return this.#synced;
  }

  onChange(handler: ChangeHandler<T>): () => void {
    this.#handlers.add(handler);
    for (const object of this.#store.values()) this.#call(handler, "added", object, undefined);
    return () => this.#handlers.delete(handler);
  }

  onSynced(handler: () => void): () => void {
    this.#syncHandlers.add(handler);
    return () => this.#syncHandlers.delete(handler);
  }

  absorb(object: T): void {
    const cached = this.#store.get(keyOf(object));
    if (cached === undefined || cached.metadata.uid !== object.metadata.uid) return;
    if (isNewer(object.metadata.resourceVersion, cached.metadata.resourceVersion)) this.#put(object);
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        if (this.#resourceVersion === undefined && !this.#streaming) await this.#list();
        else await this.#watch(this.#resourceVersion);
      } catch (error) {
        if (signal.aborted) break;
        await this.#recover(error);
      }
    }
  }

  async #list(): Promise<void> {
    this.#enter("listing");
    const seen = new Set<string>();
    let resourceVersion = "";
    // A snapshot that was compacted between two pages is asked for in one piece (the second attempt).
    const limit = this.#failing === "410" ? 0 : 500;
    const { type, namespace, labelSelector, fieldSelector, metadataOnly } = this.#options;
    const pages = this.#api.list<T>(type, {
      namespace,
      labelSelector,
      fieldSelector,
      limit,
      metadataOnly: metadataOnly ?? false,
      signal: this.#abort.signal,
    });
    for await (const page of pages) {
      this.#lastActivity = Date.now();
      resourceVersion = page.resourceVersion;
      for (const object of page.items) {
        seen.add(keyOf(object));
        this.#put(object);
      }
    }
    this.#complete(seen, resourceVersion);
  }

  /** Everything that exists has been seen: what is in the cache beside that was deleted. */
  #complete(seen: ReadonlySet<string>, resourceVersion: string): void {
    for (const key of [...this.#store.keys()]) if (!seen.has(key)) this.#remove(key);
    this.#resourceVersion = resourceVersion;
    this.#streaming = true;
    this.#failures = 0;
    this.#failing = undefined;
    if (this.#synced) return;
    this.#synced = true;
    this.#firstSync.resolve();
    for (const handler of this.#syncHandlers) handler();
  }

  /** Without a version it begins with all objects, which end with a marked bookmark. */
  async #watch(from: string | undefined): Promise<void> {
    const { type, namespace, labelSelector, fieldSelector, metadataOnly, inactivityMs } = this.#options;
    let initial = from === undefined ? new Set<string>() : undefined;
    if (initial !== undefined) this.#enter("listing");
    const options: WatchOptions = {
      namespace,
      labelSelector,
      fieldSelector,
      metadataOnly: metadataOnly ?? false,
      resourceVersion: from,
      // Spread, so that many informers do not come back in the same second.
      timeoutSeconds: Math.round(300 + Math.random() * 300),
      inactivityMs: inactivityMs ?? DEFAULT_INACTIVITY_MS,
      signal: this.#abort.signal,
      onOpen: () => {
        this.#lastActivity = Date.now();
        this.#failing = undefined;
        if (initial === undefined) this.#enter("watching");
      },
    };
    const started = performance.now();
    let events = 0;
    for await (const { type: kind, object } of this.#api.watch<T>(type, options)) {
      events++;
      this.#lastActivity = Date.now();
      if (kind === "DELETED") this.#remove(keyOf(object), object);
      else if (kind !== "BOOKMARK") this.#put(object);
      if (initial === undefined) {
        this.#failures = 0;
        this.#resourceVersion = object.metadata.resourceVersion;
      } else if (kind !== "BOOKMARK") {
        initial.add(keyOf(object));
      } else if (object.metadata.annotations?.[INITIAL_EVENTS_END] === "true") {
        this.#complete(initial, object.metadata.resourceVersion);
        initial = undefined;
        this.#enter("watching");
      } else break;
    }
    // An API server from before KEP-3157 ignores the parameter: the mark never comes.
    if (initial !== undefined) this.#streaming = false;
    if (events === 0 && performance.now() - started < HEALTHY_WATCH_MS) throw new WatchEndedEarly();
  }

  async #recover(error: unknown): Promise<void> {
    // What came before an unreadable line may be lost, as with a compacted version: only a list tells.
    if (isGone(error) || error instanceof SyntaxError) this.#resourceVersion = undefined;
    // An API server that does not stream the initial state says that the parameter is not valid.
    if (error instanceof ApiError && error.status === 422 && this.#streaming) {
      this.#streaming = false;
      return;
    }
    this.#failures++;
    this.#failing = error instanceof ApiError ? String(error.status) : nameOf(error);
    const ceiling = Math.min(
      this.#options.maxBackoffMs ?? DEFAULT_MAX_BACKOFF_MS,
      BACKOFF_BASE_MS * 2 ** Math.min(this.#failures - 1, 16),
    );
    const asked = error instanceof ApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0;
    const retryInMs = Math.round(Math.min(asked, DEFAULT_MAX_BACKOFF_MS) + Math.random() * ceiling);
    this.#enter("backoff");
    this.#options.onProblem?.({ informer: this.name, error, failures: this.#failures, retryInMs });
    const pause = new AbortController();
    this.#endPause = () => pause.abort();
    try {
      if (error instanceof ApiError && error.status === 401) await this.#api.renewCredentials();
      await delay(retryInMs, undefined, { signal: AbortSignal.any([this.#abort.signal, pause.signal]) });
    } catch {
      // Stopped, wanted at once, or the credentials cannot be read now either: the next attempt finds out.
    }
  }

  #put(received: T): void {
    const key = keyOf(received);
    const old = this.#store.get(key);
    // A list or a replayed event brings what is known already, or what `absorb` has overtaken.
    if (
      old !== undefined &&
      old.metadata.uid === received.metadata.uid &&
      !isNewer(received.metadata.resourceVersion, old.metadata.resourceVersion)
    ) {
      return;
    }
    const object = trim(received, this.#options);
    this.#store.set(key, object);
    this.#emit(old === undefined ? "added" : "updated", object, old);
  }

  #remove(key: string, last?: T): void {
    const old = this.#store.get(key);
    if (old === undefined) return;
    this.#store.delete(key);
    this.#emit("deleted", last === undefined ? old : trim(last, this.#options), old);
  }

  #emit(type: ChangeType, object: T, old: T | undefined): void {
    for (const handler of this.#handlers) this.#call(handler, type, object, old);
  }

  #call(handler: ChangeHandler<T>, type: ChangeType, object: T, old: T | undefined): void {
    try {
      handler(type, object, old);
    } catch (error) {
      this.#options.onHandlerError?.(error);
    }
  }

  #enter(state: InformerState): void {
    this.#state = state;
    this.#entered.resolve();
    this.#entered = Promise.withResolvers();
    this.#options.onState?.(this.health);
  }
}

const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

class WatchEndedEarly extends Error {
  constructor() {
    super("the watch ended before anything came");
    this.name = "WatchEndedEarly";
  }
}

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : typeof error);

/**
 * Versions of one resource type can be compared as numbers (KEP-5504, and true of every etcd-backed server before).
 * What is no number counts as newer, so that nothing is missed.
 */
const isNewer = (candidate: string, known: string): boolean => {
  if (candidate === known) return false;
  const [a, b] = [Number(candidate), Number(known)];
  return Number.isSafeInteger(a) && Number.isSafeInteger(b) ? a > b : true;
};
