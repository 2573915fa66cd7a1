/** The caches of a program, made before they start, and started and ended together; and the way to the API server behind them. */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Logger } from "../../program/logging.ts";
import { Informer, type InformerHealth, type InformerOptions } from "./informer.ts";
import type { RuntimeMetrics } from "./metrics.ts";
import { NamespacedInformers } from "./namespaced-informers.ts";
import type { KubernetesObject } from "./resource-type.ts";
import { KubernetesApi } from "./transport.ts";

/** What begins and ends with the caches. */
export interface Source {
  start(): void;
  stop(): Promise<void>;
  readonly health: InformerHealth | readonly InformerHealth[];
}

export class Watches {
  readonly api: KubernetesApi;
  readonly #sources: Source[] = [];
  readonly #reports: Pick<InformerOptions<KubernetesObject>, "onProblem" | "onHandlerError" | "onState">;

  constructor(kubeConfig: KubeConfig, log: Logger, metrics: RuntimeMetrics) {
    this.#reports = {
      onProblem: ({ informer, error, failures, retryInMs }) => {
        // Once is everyday life: a server that restarts, a watch that ended. Again and again is worth a line.
        log[failures === 1 ? "debug" : "warn"]({ informer, error, failures, retryInMs }, "watch interrupted");
      },
      onHandlerError: (error) => log.error({ error }, "a change handler failed"),
      onState: (health) => metrics.informerSynced(health.informer, health.synced && health.failing === undefined),
    };
    this.api = KubernetesApi.connect(kubeConfig, {
      onCall: ({ target, verb, resource, code, seconds }) =>
        metrics.externalCall(target, resource === "" ? verb : `${verb} ${resource}`, code, seconds),
    });
  }

  get health(): readonly InformerHealth[] {
    return this.#sources.flatMap((source) => source.health);
  }

  informer<T extends KubernetesObject>(options: InformerOptions<T>): Informer<T> {
    const informer = new Informer<T>(this.api, { ...this.#reports, ...options });
    this.add(informer);
    return informer;
  }

  /** Caches that begin and end namespace by namespace, and end with the others at the latest. */
  namespacedInformers<T extends KubernetesObject>(
    options: Omit<InformerOptions<T>, "namespace">,
  ): NamespacedInformers<T> {
    const informers = new NamespacedInformers<T>(this.api, { ...this.#reports, ...options });
    this.add({
      start: () => {},
      stop: () => informers.stop(),
      get health() {
        return informers.health;
      },
    });
    return informers;
  }

  add(source: Source): void {
    this.#sources.push(source);
  }

  start(): void {
    for (const source of this.#sources) source.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.stop()));
    await this.api.close();
  }
}
