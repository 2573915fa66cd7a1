/**
 * The program's life cycle on top of `@dot-i/k8s-operator`: `init`, `start`, `stop`, `watchResource`. The package's own
 * watch loop ends the process on any watch error, and its queue neither retries nor deduplicates, so `watchResource` is
 * overridden with the informers and queues of this folder. Nothing else may import the package.
 */
import base, { type ResourceEvent, type ResourceEventType } from "@dot-i/k8s-operator";
import type { Fenced } from "../../core/errors.ts";
import type { Tracer } from "../../core/ports/tracer.ts";
import type { Resource } from "../../crds/common.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { Logger } from "../../program/logging.ts";
import { Backoff } from "./backoff.ts";
import type { ChangeType } from "./cache.ts";
import type { Controller } from "./controller.ts";
import type { EventRecorder } from "./events.ts";
import type { Informer, InformerHealth, InformerOptions } from "./informer.ts";
import { kubeconfigFiles, restoreTokenFiles } from "./kubeconfig.ts";
import { fencedWrites, Leadership, type LeadershipOptions } from "./leadership.ts";
import { type RuntimeMetrics, silentMetrics } from "./metrics.ts";
import type { NamespacedInformers } from "./namespaced-informers.ts";
import { type AddOptions, KeyedQueue } from "./queue.ts";
import { type KubernetesObject, keyOf, type ResourceType } from "./resource-type.ts";
import { Runner, type RunnerOptions } from "./runner.ts";
import type { KubernetesApi } from "./transport.ts";
import { Watches } from "./watches.ts";

export interface OperatorOptions {
  /** Kubeconfig file; when absent as for kubectl, and in a pod its ServiceAccount. */
  readonly kubeconfig?: string;
  readonly log: Logger;
  readonly metrics?: RuntimeMetrics;
  readonly tracer?: Tracer;
  /** Absent: this is the only replica, and it leads from the start. */
  readonly leadership?: Pick<
    LeadershipOptions,
    "namespace" | "name" | "identity" | "acquireEpoch" | "leaseDurationMs" | "renewDeadlineMs" | "retryPeriodMs"
  >;
  /** How long running reconciles may take to finish when leadership or the program ends. */
  readonly drainMs?: number;
}

export interface OperatorHealth {
  readonly leading: boolean;
  readonly epoch: bigint | undefined;
  readonly informers: readonly InformerHealth[];
}

/** A controller under the operator's life cycle: it runs while this replica leads. */
export interface ControllerHandle {
  /** Without effect while this replica does not lead: the next leader looks at everything anyway. */
  enqueue(key: string, options?: AddOptions): void;
  /** The same for `Runner.endFormer`. */
  endFormer(key: string): void;
  /** The same for `Runner.hasten`. */
  hasten(reasons: readonly Reason[]): void;
}

export type ControlOptions<R extends Resource> = Omit<
  RunnerOptions<R>,
  "api" | "metrics" | "tracer" | "log" | "onFenced" | "events"
> & { readonly events?: Pick<EventRecorder, "record"> };

interface Controlled {
  begin(): void;
  end(drainMs: number): Promise<void>;
}

const eventTypes: Readonly<Record<ChangeType, `${ResourceEventType}`>> = {
  added: "ADDED",
  updated: "MODIFIED",
  deleted: "DELETED",
};

/** The base class loads its kubeconfig from the environment, in its constructor. */
const pointEnvironmentAt = (kubeconfig: string | undefined): void => {
  if (kubeconfig !== undefined) process.env.KUBECONFIG = kubeconfig;
};

export abstract class MazeVaultOperator extends base.default {
  /** Reads, and writes that need no leadership. */
  protected readonly api: KubernetesApi;
  /** Writes throw `Fenced` unless this replica leads. */
  protected readonly fencedApi: KubernetesApi;
  protected readonly log: Logger;
  protected readonly metrics: RuntimeMetrics;
  readonly #tracer: Tracer | undefined;
  readonly #leadership: Leadership | undefined;
  readonly #drainMs: number;
  readonly #watches: Watches;
  readonly #controlled: Controlled[] = [];
  readonly #started = Promise.withResolvers<void>();
  #leading = false;
  #stopped: Promise<void> | undefined;

  constructor(options: OperatorOptions) {
    const { log } = options;
    pointEnvironmentAt(options.kubeconfig);
    super({
      debug: (message) => log.debug(message),
      info: (message) => log.debug(message),
      warn: (message) => log.warn(message),
      error: (message) => log.error(message),
    });
    this.log = log;
    this.metrics = options.metrics ?? silentMetrics;
    this.#tracer = options.tracer;
    this.#drainMs = options.drainMs ?? 10_000;
    this.#watches = new Watches(this.kubeConfig, log, this.metrics);
    this.api = this.#watches.api;
    const { leadership } = options;
    if (leadership === undefined) {
      this.#leadership = undefined;
      this.fencedApi = this.api;
      return;
    }
    const elected = new Leadership({
      ...leadership,
      api: this.api,
      onStartedLeading: (epoch) => this.#begin(epoch),
      onStoppedLeading: (reason) => this.#end(reason),
      onProblem: (error) => log.warn({ error }, "leadership: attempt failed"),
    });
    this.#leadership = elected;
    this.fencedApi = fencedWrites(this.api, elected);
  }

  get health(): OperatorHealth {
    return {
      leading: this.#leadership?.leading ?? this.#leading,
      epoch: this.#leadership?.epoch,
      informers: this.#watches.health,
    };
  }

  /** Whether PostgreSQL and Kubernetes may be written now; the epoch goes into every database write. */
  get leadership(): Pick<Leadership, "leaseValid" | "assertLeading" | "epoch" | "surrender"> | undefined {
    return this.#leadership;
  }

  /** Runs `init`, then the informers, then, as soon as this replica leads, the controllers. */
  override async start(): Promise<void> {
    await restoreTokenFiles(this.kubeConfig, kubeconfigFiles());
    await super.start();
    this.#watches.start();
    this.#started.resolve();
    if (this.#leadership === undefined) await this.#begin(undefined);
    else this.#leadership.start();
  }

  /** Ends everything in order: controllers, Lease, informers, connections. Bounded by the drain time. */
  override stop(): Promise<void> {
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  /** What must happen before the controllers of a term run. */
  protected async startedLeading(_epoch: bigint | undefined): Promise<void> {}

  /** What goes on beside the controllers of a term, which take keys from now on. */
  protected controllersBegan(): void {}

  /** After the controllers of a term have ended. */
  protected async stoppedLeading(_reason: string): Promise<void> {}

  /** A cache that starts and stops with the operator. */
  protected informer<T extends KubernetesObject>(options: InformerOptions<T>): Informer<T> {
    return this.#watches.informer(options);
  }

  /** Caches that begin and end namespace by namespace, and end with the operator at the latest. */
  protected namespacedInformers<T extends KubernetesObject>(
    options: Omit<InformerOptions<T>, "namespace">,
  ): NamespacedInformers<T> {
    return this.#watches.namespacedInformers(options);
  }

  /** Runs a controller while this replica leads. `setUp` is called for each term, to follow further caches. */
  protected control<R extends Resource, O, A extends { readonly kind: string }, Result>(
    controller: Controller<R, O, A, Result>,
    options: ControlOptions<R>,
    setUp: (runner: Runner<R, O, A, Result>) => void = () => {},
  ): ControllerHandle {
    let runner: Runner<R, O, A, Result> | undefined;
    this.#controlled.push({
      begin: () => {
        runner = new Runner(controller, {
          ...options,
          api: this.fencedApi,
          metrics: this.metrics,
          ...(this.#tracer !== undefined && { tracer: this.#tracer }),
          log: this.log,
          onFenced: (error) => this.#fenced(error),
        });
        setUp(runner);
        runner.start();
      },
      end: async (drainMs) => {
        const ending = runner;
        runner = undefined;
        await ending?.stop(drainMs);
      },
    });
    return {
      enqueue: (key, how) => runner?.enqueue(key, how),
      endFormer: (key) => runner?.endFormer(key),
      hasten: (reasons) => runner?.hasten(reasons),
    };
  }

  /**
   * The package's way to watch: `onEvent` gets the latest state of an object, one event at a time for each object, and is
   * called again with growing pauses when it fails. Runs on every replica.
   */
  protected override async watchResource(
    group: string,
    version: string,
    plural: string,
    onEvent: (event: ResourceEvent) => Promise<void>,
    namespace?: string,
  ): Promise<void> {
    const type: ResourceType = { group, version, plural, kind: "", namespaced: true };
    const informer = this.informer<KubernetesObject>({ type, namespace });
    const latest = new Map<string, readonly [ChangeType, KubernetesObject]>();
    const backoff = new Backoff();
    const id = `${plural}.${group ? `${group}/${version}` : version}`;
    const queue = new KeyedQueue({
      name: id,
      metrics: this.metrics,
      run: async (key) => {
        const change = latest.get(key);
        if (change === undefined) return;
        latest.delete(key);
        try {
          await onEvent(resourceEvent(id, ...change));
          backoff.reset(key);
        } catch (error) {
          this.log.warn({ resource: id, object: key, error }, "event handler failed");
          if (!latest.has(key)) latest.set(key, change);
          queue.add(key, { afterMs: backoff.next(key) });
        }
      },
    });
    informer.onChange((change, object) => {
      const key = keyOf(object);
      latest.set(key, [latest.get(key)?.[0] === "added" && change === "updated" ? "added" : change, object]);
      queue.add(key);
    });
    this.#watches.add({ start: () => queue.start(), stop: () => queue.shutdown(this.#drainMs), health: [] });
  }

  async #begin(epoch: bigint | undefined): Promise<void> {
    await this.#started.promise;
    this.log.info({ epoch }, "leading");
    await this.startedLeading(epoch);
    this.#leading = true;
    this.metrics.leading(true);
    for (const controlled of this.#controlled) controlled.begin();
    this.controllersBegan();
  }

  async #end(reason: string): Promise<void> {
    this.#leading = false;
    this.metrics.leading(false);
    this.log.info({ reason }, "not leading any more");
    await Promise.all(this.#controlled.map((controlled) => controlled.end(this.#drainMs)));
    await this.stoppedLeading(reason);
  }

  #fenced(error: Fenced): void {
    this.log.warn({ error }, "a write was refused: another replica leads");
    this.#leadership?.surrender("a write was refused: another replica leads");
  }

  async #shutDown(): Promise<void> {
    if (this.#leadership !== undefined) await this.#leadership.stop();
    else if (this.#leading) await this.#end("the operator is stopping");
    await this.#watches.stop();
  }
}

const resourceEvent = (id: string, change: ChangeType, object: KubernetesObject): ResourceEvent => {
  const { name, namespace, resourceVersion } = object.metadata;
  const { apiVersion = "", kind = "" } = object;
  return {
    type: eventTypes[change] as ResourceEventType,
    object: object as unknown as ResourceEvent["object"],
    meta: { id, name, resourceVersion, apiVersion, kind, ...(namespace === undefined ? {} : { namespace }) },
  };
};
