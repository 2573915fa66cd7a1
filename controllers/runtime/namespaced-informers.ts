/**
 * Informers of one resource type, one for each namespace that the operator may see. It gets its rights namespace by
 * namespace, so one watch over all of them would be refused.
 */
import type { ChangeHandler, ObjectCache } from "./cache.ts";
import { Informer, type InformerHealth, type InformerOptions } from "./informer.ts";
import { type KubernetesObject, splitKey } from "./resource-type.ts";
import type { KubernetesApi } from "./transport.ts";

export class NamespacedInformers<T extends KubernetesObject> implements ObjectCache<T> {
  readonly #api: Pick<KubernetesApi, "list" | "watch" | "renewCredentials">;
  readonly #options: Omit<InformerOptions<T>, "namespace">;
  readonly #informers = new Map<string, Informer<T>>();
  readonly #handlers = new Set<ChangeHandler<T>>();
  readonly #syncHandlers = new Set<() => void>();

  constructor(
    api: Pick<KubernetesApi, "list" | "watch" | "renewCredentials">,
    options: Omit<InformerOptions<T>, "namespace">,
  ) {
    this.#api = api;
    this.#options = options;
  }

  get namespaces(): Iterable<string> {
    return this.#informers.keys();
  }

  get health(): readonly InformerHealth[] {
    return [...this.#informers.values()].map((informer) => informer.health);
  }

  /** Every watched namespace is synced. */
  get synced(): boolean {
    return [...this.#informers.values()].every((informer) => informer.synced);
  }

  get size(): number {
    return [...this.#informers.values()].reduce((sum, informer) => sum + informer.size, 0);
  }

  /** Begins with a namespace; nothing happens when it is watched already. */
  watch(namespace: string): Informer<T> {
    const present = this.#informers.get(namespace);
    if (present !== undefined) return present;
    const informer = new Informer<T>(this.#api, { ...this.#options, namespace });
    this.#informers.set(namespace, informer);
    informer.onChange((type, object, old) => {
      for (const handler of this.#handlers) this.#call(handler, type, object, old);
    });
    informer.onSynced(() => {
      for (const handler of this.#syncHandlers) handler();
    });
    informer.start();
    return informer;
  }

  /** Ends with a namespace. Its objects leave the cache without `deleted`: they are not gone, only out of sight. */
  async unwatch(namespace: string): Promise<void> {
    const informer = this.#informers.get(namespace);
    this.#informers.delete(namespace);
    await informer?.stop();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#informers.keys()].map((namespace) => this.unwatch(namespace)));
  }

  get(key: string): T | undefined {
    return this.#of(key)?.get(key);
  }

  *values(): Iterable<T> {
    for (const informer of this.#informers.values()) yield* informer.values();
  }

  byIndex(index: string, value: string): readonly T[] {
    return [...this.#informers.values()].flatMap((informer) => informer.byIndex(index, value));
  }

  covers(key: string): boolean {
    return this.#of(key)?.synced ?? false;
  }

  onChange(handler: ChangeHandler<T>): () => void {
    this.#handlers.add(handler);
    for (const object of this.values()) this.#call(handler, "added", object, undefined);
    return () => this.#handlers.delete(handler);
  }

  onSynced(handler: () => void): () => void {
    this.#syncHandlers.add(handler);
    return () => this.#syncHandlers.delete(handler);
  }

  absorb(object: T): void {
    const { namespace } = object.metadata;
    if (namespace !== undefined) this.#informers.get(namespace)?.absorb(object);
  }

  #of(key: string): Informer<T> | undefined {
    const { namespace } = splitKey(key);
    return namespace === undefined ? undefined : this.#informers.get(namespace);
  }

  #call(handler: ChangeHandler<T>, ...args: Parameters<ChangeHandler<T>>): void {
    try {
      handler(...args);
    } catch (error) {
      this.#options.onHandlerError?.(error);
    }
  }
}
