/** Times of changes, taken from one watch: nothing is asked for repeatedly, so measuring costs next to nothing. */
import type { KubernetesObject, ResourceType } from "../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";

interface Waiter<T> {
  readonly holds: (object: T) => boolean;
  readonly resolve: (at: number) => void;
  readonly reject: (error: unknown) => void;
}

const WATCH_SECONDS = 3_600;
const SILENCE_MS = 180_000;

export class ChangeWatch<T extends KubernetesObject> {
  readonly #abort = new AbortController();
  readonly #waiting = new Map<string, Waiter<T>[]>();

  private constructor() {}

  /** From now on; what happened before it resolves is not seen. */
  static async open<T extends KubernetesObject>(
    api: KubernetesApi,
    type: ResourceType,
    namespace: string,
    options: { readonly metadataOnly?: boolean } = {},
  ): Promise<ChangeWatch<T>> {
    let resourceVersion = "";
    for await (const page of api.list(type, { namespace, limit: 1 })) {
      resourceVersion = page.resourceVersion;
      break;
    }
    const watch = new ChangeWatch<T>();
    void watch.#follow(api, type, {
      namespace,
      resourceVersion,
      metadataOnly: options.metadataOnly ?? false,
      timeoutSeconds: WATCH_SECONDS,
      inactivityMs: SILENCE_MS,
      signal: watch.#abort.signal,
    });
    return watch;
  }

  /** When an object of that name first is as asked, as `performance.now()`. Call it before what brings it about. */
  when(name: string, holds: (object: T) => boolean): Promise<number> {
    return new Promise((resolve, reject) => {
      const waiters = this.#waiting.get(name);
      const waiter = { holds, resolve, reject };
      if (waiters === undefined) this.#waiting.set(name, [waiter]);
      else waiters.push(waiter);
    });
  }

  close(): void {
    this.#abort.abort();
  }

  async #follow(api: KubernetesApi, type: ResourceType, options: Parameters<KubernetesApi["watch"]>[1]): Promise<void> {
    let { resourceVersion } = options;
    try {
      // The API server ends the watch of whoever reads too slowly, as on a busy machine everybody may.
      for (;;) {
        for await (const event of api.watch<T>(type, { ...options, resourceVersion })) {
          resourceVersion = event.object.metadata.resourceVersion;
          if (event.type === "ADDED" || event.type === "MODIFIED") this.#seen(event.object, performance.now());
        }
      }
    } catch (error) {
      for (const { reject } of [...this.#waiting.values()].flat()) reject(error);
    }
  }

  #seen(object: T, at: number): void {
    const { name } = object.metadata;
    const waiters = this.#waiting.get(name);
    if (waiters === undefined) return;
    const left = waiters.filter(({ holds, resolve }) => {
      if (!holds(object)) return true;
      resolve(at);
      return false;
    });
    if (left.length > 0) this.#waiting.set(name, left);
    else this.#waiting.delete(name);
  }
}
