/**
 * Runs one controller over one cache. Written once, so that every kind has the same crash order, the same status rules
 * and the same answer to each type of error; see `controller.ts` for the steps.
 */
import { isDeepStrictEqual } from "node:util";
import { Fenced } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import type { TraceParent, Tracer } from "../../core/ports/tracer.ts";
import type { Condition, Resource } from "../../crds/common.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { Logger } from "../../program/logging.ts";
import { isNotFound } from "./api-error.ts";
import { Backoff, type BackoffOptions } from "./backoff.ts";
import type { ChangeType, ObjectCache } from "./cache.ts";
import { type ComputedStatus, failedStatus, sameStatus, settledStatus } from "./conditions.ts";
import { type Controller, MAX_ROUNDS, type Next, type OwnedStatus } from "./controller.ts";
import type { EventRecorder } from "./events.ts";
import { type Verdict, verdictOf } from "./failure.ts";
import { type ReconcileOutcome, type RuntimeMetrics, silentMetrics } from "./metrics.ts";
import { type AddOptions, KeyedQueue, type Priority } from "./queue.ts";
import { apiVersionOf, type KubernetesObject, keyOf } from "./resource-type.ts";
import type { KubernetesApi } from "./transport.ts";

export interface RunnerOptions<R extends Resource> {
  /** Fenced where replicas compete, see `fencedWrites`. */
  readonly api: Pick<KubernetesApi, "applyStatus" | "jsonPatch">;
  readonly cache: ObjectCache<R>;
  /** Further caches that the controller reads. A key waits until all of them cover it. */
  readonly needs?: readonly Pick<ObjectCache<KubernetesObject>, "covers" | "onSynced">[];
  readonly concurrency?: number;
  /** Each key is looked at about so often when nothing else happens; spread by a quarter to both sides. */
  readonly resyncPeriodMs?: number;
  readonly backoff?: BackoffOptions;
  readonly metrics?: RuntimeMetrics;
  readonly tracer?: Tracer;
  readonly log?: Pick<Logger, "info" | "warn" | "error" | "debug">;
  readonly events?: Pick<EventRecorder, "record">;
  /** While it is so, what is stored of an object that is gone stays: it may still come. The next term finds it. */
  readonly keepsFormer?: () => boolean;
  /** This replica does not lead any more: stop everything. */
  readonly onFenced?: (error: Fenced) => void;
  readonly now?: () => Date;
}

const RESYNC_MS = 3_600_000;
const SOON_MS = 20;
const OVERDUE_MS = 1_000;

export class Runner<R extends Resource, Observed, Action extends { readonly kind: string }, Outcome = void> {
  readonly controller: Controller<R, Observed, Action, Outcome>;
  readonly #options: RunnerOptions<R>;
  readonly #metrics: RuntimeMetrics;
  readonly #queue: KeyedQueue;
  readonly #backoff: Backoff;
  readonly #stopFollowing: (() => void)[] = [];
  /** Keys whose caches do not cover them yet. */
  readonly #parked = new Set<string>();
  /** Why the last attempt failed, of keys that are tried again after a pause that grows. */
  readonly #failed = new Map<string, string>();
  /** Keys under which something is stored of an object that is gone. */
  readonly #former = new Set<string>();

  constructor(controller: Controller<R, Observed, Action, Outcome>, options: RunnerOptions<R>) {
    this.controller = controller;
    this.#options = options;
    this.#metrics = options.metrics ?? silentMetrics;
    this.#backoff = new Backoff(options.backoff);
    this.#queue = new KeyedQueue({
      name: controller.name,
      run: (key, signal, cause) => this.#run(key, signal, cause),
      metrics: this.#metrics,
      ...(options.tracer === undefined ? {} : { tracer: options.tracer }),
      ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
    });
  }

  /** Begins to work on what the cache holds. */
  start(): void {
    this.#stopFollowing.push(this.#options.cache.onChange((type, object, old) => this.#changed(type, object, old)));
    for (const cache of [this.#options.cache, ...(this.#options.needs ?? [])]) {
      this.#stopFollowing.push(cache.onSynced(() => this.#unpark()));
    }
    this.#queue.start();
  }

  /** Lets running reconciles finish for `drainMs`, then aborts them. */
  async stop(drainMs?: number): Promise<void> {
    for (const stop of this.#stopFollowing.splice(0)) stop();
    await this.#queue.shutdown(drainMs);
  }

  enqueue(key: string, options: AddOptions = {}): void {
    this.#queue.add(key, options);
  }

  /** What was away is back: what failed for one of these reasons is tried now, and not after its pause. */
  hasten(reasons: readonly Reason[]): void {
    for (const [key, reason] of this.#failed) {
      if (!reasons.some((each) => each === reason)) continue;
      this.#backoff.reset(key);
      this.#queue.add(key);
    }
  }

  /**
   * Has `absent` end what is stored under this key of an object that is gone, whether or not there is another one of that
   * name; again and again until it succeeds, and never while the key is worked on.
   */
  endFormer(key: string): void {
    this.#former.add(key);
    this.#queue.add(key, { priority: "high" });
  }

  /**
   * Looks at `keys` again when another object changes. What a controller wrote itself comes back here too: give no key
   * for it where that can be told, or the second look is for nothing.
   */
  follow<T extends KubernetesObject>(
    cache: ObjectCache<T>,
    keys: (object: T, old: T | undefined, type: ChangeType) => Iterable<string>,
    priority: Priority = "normal",
  ): void {
    this.#stopFollowing.push(
      cache.onChange((type, object, old) => {
        for (const key of keys(object, old, type)) this.#queue.add(key, { priority });
      }),
    );
  }

  /** True when nothing is due or running; what waits for a later time does not count. */
  get idle(): boolean {
    return this.#queue.idle();
  }

  #changed(type: ChangeType, object: R, old: R | undefined): void {
    const key = keyOf(object);
    if (type === "updated" && old !== undefined && this.#isOwnStatusWrite(object, old)) return;
    // What a person has just done, or what was never looked at, goes before what only a restart brings up again.
    const settled = type === "added" && observedGeneration(object) === object.metadata.generation;
    this.#queue.add(key, { priority: settled ? "low" : "high" });
  }

  async #run(key: string, signal: AbortSignal, cause: TraceParent | undefined): Promise<void> {
    const started = performance.now();
    const outcome = await this.#traced(key, signal, cause);
    if (outcome !== undefined) {
      this.#metrics.reconciled(this.controller.name, outcome, (performance.now() - started) / 1000);
    }
  }

  #traced(key: string, signal: AbortSignal, cause: TraceParent | undefined): Promise<ReconcileOutcome | undefined> {
    const { tracer, cache } = this.#options;
    if (tracer === undefined) return this.#reconcile(key, signal);
    const { kind } = this.controller.resource;
    const attributes = {
      "mazevault.controller": this.controller.name,
      "mazevault.kind": kind,
      "mazevault.namespace": namespaceOf(key),
      "mazevault.name": keyName(key),
      "mazevault.generation": cache.get(key)?.metadata.generation,
    };
    return tracer.trace(`reconcile ${kind}`, { kind: "internal", attributes, cause }, async () => {
      const outcome = await this.#reconcile(key, signal);
      tracer.note({ "mazevault.outcome": outcome ?? "deferred" });
      return outcome;
    });
  }

  async #reconcile(key: string, signal: AbortSignal): Promise<ReconcileOutcome | undefined> {
    this.#failed.delete(key);
    const { cache, needs = [] } = this.#options;
    const resource = cache.get(key);
    // What a cache does not cover it says nothing about: absence there must never look like a deletion.
    if ((resource === undefined && !cache.covers(key)) || !needs.every((needed) => needed.covers(key))) {
      this.#parked.add(key);
      return undefined;
    }
    if (resource === undefined) return this.#gone(key, signal);
    if (this.#former.has(key)) {
      // What fails here is tried again, and must not keep the object waiting that there is now.
      const outcome = await this.#gone(key, signal);
      if (outcome === "fenced" || outcome === "aborted") return outcome;
    }
    try {
      if (resource.metadata.deletionTimestamp !== undefined) return await this.#deleting(key, resource, signal);
      const { finalizer } = this.controller;
      if (finalizer !== undefined && !resource.metadata.finalizers?.includes(finalizer.name)) {
        // The watch brings the object back with the finalizer; nothing may be done before it is there.
        await this.#addFinalizer(resource, finalizer.name, signal);
        return undefined;
      }
      return await this.#converge(key, resource, signal);
    } catch (error) {
      // It was deleted while it was worked on; the watch tells, and the key comes back as absent.
      if (isNotFound(error, keyName(key)) && !signal.aborted) return "success";
      return this.#retryWithoutStatus(key, error, signal);
    }
  }

  async #converge(key: string, resource: R, signal: AbortSignal): Promise<ReconcileOutcome> {
    const { controller } = this;
    const ours = this.#ours(resource);
    let action: Action | undefined;
    let known: OwnedStatus | undefined;
    try {
      let seen: Observed = await controller.observe(resource, signal);
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const plan = controller.decide(resource, seen, this.#now());
        known = plan.status;
        if (plan.actions.length === 0) {
          await this.#writeStatus(ours, settledStatus(ours, plan.status, plan.next, this.#now()), signal);
          this.#backoff.reset(key);
          this.#requeue(key, plan.next);
          return plan.next.kind === "stalled" ? "stalled" : "success";
        }
        for (action of plan.actions) {
          signal.throwIfAborted();
          seen = controller.learn(seen, action, await controller.perform(action, signal));
        }
        action = undefined;
        known = undefined;
      }
      throw new Error(`${controller.name} still plans actions after ${MAX_ROUNDS} rounds`);
    } catch (error) {
      if (signal.aborted && !(error instanceof Fenced)) return "aborted";
      const verdict = verdictOf(error);
      if (verdict.retry === "never" || verdict.retry === "soon") return this.#retryWithoutStatus(key, error, signal);
      this.#log("warn", key, error, verdict.reason);
      this.#metrics.reconcileFailed(controller.name, verdict.reason);
      await this.#writeStatus(
        ours,
        failedStatus(
          ours,
          known,
          {
            kind: verdict.retry === "onChange" ? "stalled" : "retrying",
            reason: verdict.reason,
            message: verdict.message,
            condition: controller.conditionFor?.(action),
            known: action !== undefined || verdict.retry !== "backoff",
          },
          this.#now(),
        ),
        signal,
      );
      this.#retry(key, verdict);
      return verdict.outcome;
    }
  }

  /** Other than a change of a foreign condition, a status write is ours. */
  #isOwnStatusWrite(object: R, old: R): boolean {
    const foreign = (one: R) => conditionsOf(one).filter((condition) => this.#isForeign(condition));
    return isStatusWrite(object, old) && isDeepStrictEqual(foreign(object), foreign(old));
  }

  #isForeign({ type }: Condition): boolean {
    return this.controller.foreignConditions?.some((foreign) => foreign === type) === true;
  }

  /** The object without what others say in its status: that is not to be compared, and never to be applied as ours. */
  #ours(resource: R): R {
    if (this.controller.foreignConditions === undefined || resource.status === undefined) return resource;
    const conditions = conditionsOf(resource).filter((condition) => !this.#isForeign(condition));
    return { ...resource, status: { ...resource.status, conditions } };
  }

  /** Failures where status cannot or need not tell: no object, a lost race, or the status write itself. */
  #retryWithoutStatus(key: string, error: unknown, signal: AbortSignal, effort = key): ReconcileOutcome {
    if (signal.aborted && !(error instanceof Fenced)) return "aborted";
    const verdict = verdictOf(error);
    if (verdict.retry === "never") {
      this.#options.onFenced?.(verdict.error);
      return "fenced";
    }
    if (verdict.retry !== "soon") {
      this.#log("warn", key, error, verdict.reason);
      this.#metrics.reconcileFailed(this.controller.name, verdict.reason);
    }
    this.#retry(key, verdict, effort);
    return verdict.outcome;
  }

  /** `effort` is what failures are counted for. */
  #retry(key: string, verdict: Verdict, effort = key): void {
    const reason = "reason" in verdict ? verdict.reason : undefined;
    this.#options.tracer?.note({
      "mazevault.next": verdict.retry,
      "mazevault.reason": reason,
      "error.type": verdict.retry === "backoff" ? reason : undefined,
    });
    switch (verdict.retry) {
      case "onChange":
        this.#backoff.reset(effort);
        this.#resync(key);
        break;
      case "after":
        this.#backoff.reset(effort);
        this.#queue.add(key, { afterMs: verdict.afterMs });
        break;
      case "backoff":
        this.#failed.set(key, verdict.reason);
        this.#queue.add(key, { afterMs: Math.max(this.#backoff.next(effort), verdict.atLeastMs) });
        break;
      case "soon":
        // The cache may lag behind what the conflict was about; repeated conflicts back off like failures.
        this.#queue.add(key, { afterMs: Math.max(SOON_MS, this.#backoff.next(effort) / 10) });
        break;
      case "never":
        break;
    }
  }

  #requeue(key: string, next: Next): void {
    this.#options.tracer?.note({
      "mazevault.next": next.kind,
      "mazevault.reason": next.kind === "stalled" ? next.reason : undefined,
    });
    this.#resync(key);
    if (next.kind === "recheckAt") {
      const afterMs = next.at.getTime() - this.#now().getTime();
      // A plan that names a time which has passed again and again must not keep a worker busy.
      this.#queue.add(key, { afterMs: afterMs > 0 ? afterMs : OVERDUE_MS });
    }
  }

  #resync(key: string): void {
    const period = this.#options.resyncPeriodMs ?? RESYNC_MS;
    this.#queue.add(key, { priority: "low", afterMs: period * (0.75 + Math.random() / 2) });
  }

  #unpark(): void {
    const keys = [...this.#parked];
    this.#parked.clear();
    for (const key of keys) this.#queue.add(key);
  }

  async #gone(key: string, signal: AbortSignal): Promise<ReconcileOutcome> {
    const effort = `former ${key}`;
    // Before it begins: what is found meanwhile is another reason to look.
    this.#former.delete(key);
    if (this.#options.keepsFormer?.() === true) return "success";
    try {
      await this.controller.absent?.(key, signal);
    } catch (error) {
      this.#former.add(key);
      return this.#retryWithoutStatus(key, error, signal, effort);
    }
    this.#backoff.reset(effort);
    this.#backoff.reset(key);
    return "success";
  }

  async #deleting(key: string, resource: R, signal: AbortSignal): Promise<ReconcileOutcome | undefined> {
    const { finalizer } = this.controller;
    const index = finalizer === undefined ? -1 : (resource.metadata.finalizers ?? []).indexOf(finalizer.name);
    if (finalizer === undefined || index < 0) return undefined;
    await finalizer.finalize(resource, signal);
    await this.#options.api.jsonPatch(
      this.controller.resource,
      resource.metadata,
      [
        { op: "test", path: "/metadata/resourceVersion", value: resource.metadata.resourceVersion },
        { op: "remove", path: `/metadata/finalizers/${index}` },
      ],
      { signal, metadataOnly: true },
    );
    this.#backoff.reset(key);
    return "success";
  }

  async #addFinalizer(resource: R, name: string, signal: AbortSignal): Promise<void> {
    const present = resource.metadata.finalizers ?? [];
    await this.#options.api.jsonPatch(
      this.controller.resource,
      resource.metadata,
      [
        { op: "test", path: "/metadata/resourceVersion", value: resource.metadata.resourceVersion },
        { op: "add", path: "/metadata/finalizers", value: [...present, name] },
      ],
      { signal, metadataOnly: true },
    );
  }

  async #writeStatus(resource: R, status: ComputedStatus, signal: AbortSignal): Promise<void> {
    if (sameStatus(resource.status, status)) return;
    const { name, namespace, uid, resourceVersion } = resource.metadata;
    const { name: controller, resource: type, fieldManager } = this.controller;
    failpoint(`${controller}.beforeStatus`);
    const written = await this.#options.api.applyStatus<R>(
      type,
      {
        apiVersion: apiVersionOf(type),
        kind: type.kind,
        // The uid keeps it from a namesake, the version from an object that changed since it was looked at.
        metadata: { name, uid, resourceVersion, ...(namespace === undefined ? {} : { namespace }) },
        status,
      },
      { fieldManager, force: true, signal },
    );
    failpoint(`${controller}.afterStatus`);
    this.#options.cache.absorb(written);
    this.#announce(resource, status);
  }

  /** Events for what a person would want to know: a failure that is new, and the recovery from one. */
  #announce(resource: R, status: ComputedStatus): void {
    const before = readyOf((resource.status as { conditions?: readonly Condition[] } | undefined)?.conditions);
    const after = readyOf(status.conditions);
    if (after === undefined || (before?.status === after.status && before.reason === after.reason)) return;
    const { message: note } = after;
    // Computed a moment ago, from reasons that we know.
    const reason = after.reason as Reason;
    const action = "Reconcile";
    if (after.status === "False") this.#options.events?.record(resource, { type: "Warning", reason, action, note });
    else if (before?.status === "False")
      this.#options.events?.record(resource, { type: "Normal", reason, action, note });
  }

  #log(level: "warn" | "error", key: string, error: unknown, reason: string): void {
    this.#options.log?.[level]({ controller: this.controller.name, object: key, reason, error }, "reconcile failed");
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }
}

const readyOf = (conditions: readonly Condition[] | undefined): Condition | undefined =>
  conditions?.find(({ type }) => type === "Ready");

const namespaceOf = (key: string): string | undefined =>
  key.includes("/") ? key.slice(0, key.indexOf("/")) : undefined;

const keyName = (key: string): string => key.slice(key.indexOf("/") + 1);

const observedGeneration = (object: Resource): number | undefined =>
  (object.status as { observedGeneration?: number } | undefined)?.observedGeneration;

const conditionsOf = ({ status }: Resource): readonly Condition[] =>
  (status as { conditions?: readonly Condition[] } | undefined)?.conditions ?? [];

/** Only status and resourceVersion differ. */
const isStatusWrite = (object: Resource, old: Resource): boolean => {
  const { resourceVersion: _a, ...now } = object.metadata;
  const { resourceVersion: _b, ...before } = old.metadata;
  return now.generation !== undefined && isDeepStrictEqual(now, before);
};
