/**
 * Election by a Lease (coordination.k8s.io/v1), and the fence behind it.
 *
 *   candidate --Lease won--> acquiring epoch --> leading --renewal too late, Fenced, stop--> candidate
 *
 * The Lease alone does not keep a paused process from writing. So each leadership has an epoch in PostgreSQL, which every
 * database write carries, and `assertLeading` compares the time of the last renewal with the clock before each write to
 * Kubernetes. A leader stops writing `leaseDurationMs - renewDeadlineMs` before anybody else may begin.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Fenced } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import { isAlreadyExists, isConflict, isNotFound } from "./api-error.ts";
import type { ResourceType } from "./resource-type.ts";
import type { KubernetesApi } from "./transport.ts";

export interface LeadershipOptions {
  /** Not fenced: the Lease itself is protected by its resourceVersion. */
  readonly api: Pick<KubernetesApi, "get" | "create" | "mergePatch">;
  readonly namespace: string;
  readonly name: string;
  /** Unique to this process, for example host name and a random part. */
  readonly identity: string;
  /** After which others may take a Lease that is not renewed. */
  readonly leaseDurationMs?: number;
  /** After which a leader that could not renew stops. Shorter than the lease. */
  readonly renewDeadlineMs?: number;
  readonly retryPeriodMs?: number;
  /** Takes the next epoch in PostgreSQL, after the Lease is won. When it fails, the Lease is given to others. */
  readonly acquireEpoch: (holder: string) => Promise<bigint>;
  readonly onStartedLeading: (epoch: bigint) => Promise<void> | void;
  /** Everything that writes must have stopped when it resolves: only then is the Lease released. */
  readonly onStoppedLeading: (reason: string) => Promise<void> | void;
  readonly onProblem?: (error: unknown) => void;
  readonly clock?: LeadershipClock;
}

/** Milliseconds. `monotonic` goes on while a process is stopped by a signal; `wall` also while a machine is suspended. */
export interface LeadershipClock {
  readonly monotonic: () => number;
  readonly wall: () => number;
}

const leases: ResourceType = {
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  kind: "Lease",
  namespaced: true,
};

interface LeaseSpec {
  readonly holderIdentity?: string | null;
  readonly leaseDurationSeconds?: number | null;
  readonly acquireTime?: string | null;
  readonly renewTime?: string | null;
  readonly leaseTransitions?: number | null;
}

interface Lease {
  readonly metadata: { readonly resourceVersion: string };
  readonly spec?: LeaseSpec;
}

interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

export class Leadership {
  readonly #options: LeadershipOptions;
  readonly #leaseDurationMs: number;
  readonly #renewDeadlineMs: number;
  readonly #retryPeriodMs: number;
  readonly #clock: LeadershipClock;
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  /** When the request of the last successful renewal was sent. */
  #renewed: Moment | undefined;
  #epoch: bigint | undefined;
  #surrendered: { readonly reason: string } | undefined;
  #wake: (() => void) | undefined;
  #lease: Lease | undefined;
  /** The Lease of another holder, and when we first saw it like that: its times are of a clock that is not ours. */
  #observed: { readonly resourceVersion: string; readonly at: number } | undefined;

  constructor(options: LeadershipOptions) {
    this.#options = options;
    this.#leaseDurationMs = options.leaseDurationMs ?? 15_000;
    this.#renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryPeriodMs = options.retryPeriodMs ?? 2_000;
    this.#clock = options.clock ?? { monotonic: () => performance.now(), wall: () => Date.now() };
    if (this.#renewDeadlineMs >= this.#leaseDurationMs || this.#retryPeriodMs * 2 > this.#renewDeadlineMs) {
      throw new RangeError("leadership needs 2 * retryPeriodMs <= renewDeadlineMs < leaseDurationMs");
    }
  }

  /** Set while leading. */
  get epoch(): bigint | undefined {
    return this.#epoch;
  }

  /** Whether the Lease is ours with certainty now. False at once in a process that was stopped past the deadline. */
  leaseValid(): boolean {
    const renewed = this.#renewed;
    if (renewed === undefined || this.#surrendered !== undefined) return false;
    // The wall clock notices a suspended machine, for which the monotonic clock stands still.
    const elapsed = Math.max(this.#clock.monotonic() - renewed.monotonic, this.#clock.wall() - renewed.wall);
    return elapsed < this.#renewDeadlineMs;
  }

  get leading(): boolean {
    return this.#epoch !== undefined && this.leaseValid();
  }

  /** Throws `Fenced` unless this process leads now. */
  assertLeading(): void {
    if (!this.leading) throw new Fenced(this.#epoch ?? 0n);
  }

  /** Becomes a candidate. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Stops leading, if it leads, and releases the Lease so that another replica takes over at once. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#wake?.();
    await this.#running;
  }

  /** Gives leadership up, for example because PostgreSQL said `Fenced`, and becomes a candidate again. */
  surrender(reason: string): void {
    if (this.#renewed === undefined) return;
    this.#surrendered ??= { reason };
    this.#wake?.();
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        if (await this.#tryAcquire()) await this.#lead();
      } catch (error) {
        if (!signal.aborted) this.#options.onProblem?.(error);
      }
      // Spread, so that candidates do not meet in every attempt.
      await this.#pause(this.#retryPeriodMs * (0.8 + Math.random() * 0.4));
    }
  }

  async #lead(): Promise<void> {
    const { acquireEpoch, identity, onStartedLeading, onStoppedLeading } = this.#options;
    failpoint("leadership.afterLease");
    // Renewing goes on while PostgreSQL and the controllers take their time; once it ends, nothing is written any more.
    const renewing = this.#keepRenewing().then((ended) => {
      this.#surrendered ??= { reason: ended };
      return ended;
    });
    let reason: string;
    try {
      this.#epoch = await Promise.race([acquireEpoch(identity), renewing.then(lostBeforeLeading)]);
      failpoint("leadership.afterEpoch");
      await onStartedLeading(this.#epoch);
      reason = await renewing;
    } catch (error) {
      this.#options.onProblem?.(error);
      reason = "leadership could not be begun";
    }
    const wasLeading = this.#epoch !== undefined;
    this.#surrendered ??= { reason };
    this.#wake?.();
    await renewing;
    try {
      if (wasLeading) await onStoppedLeading(reason);
    } catch (error) {
      this.#options.onProblem?.(error);
    } finally {
      this.#epoch = undefined;
      await this.#release();
      this.#renewed = undefined;
      this.#surrendered = undefined;
    }
  }

  /** Resolves with the reason why it ended. */
  async #keepRenewing(): Promise<string> {
    for (;;) {
      await this.#pause(this.#retryPeriodMs);
      if (this.#abort.signal.aborted) return "the operator is stopping";
      if (this.#surrendered !== undefined) return this.#surrendered.reason;
      if (!this.leaseValid()) return "the Lease could not be renewed in time";
      try {
        if (await this.#renew()) continue;
        return this.#lease === undefined ? "the Lease was deleted" : "another replica holds the Lease";
      } catch (error) {
        this.#options.onProblem?.(error);
      }
    }
  }

  async #tryAcquire(): Promise<boolean> {
    const { api, namespace, name } = this.#options;
    const sent = this.#moment();
    const request = { signal: this.#abort.signal, timeoutMs: this.#retryPeriodMs * 2 };
    try {
      this.#lease = await api.get<Lease>(leases, { namespace, name }, request);
    } catch (error) {
      if (!isNotFound(error, name)) throw error;
      try {
        this.#lease = await api.create<Lease>(
          leases,
          {
            apiVersion: "coordination.k8s.io/v1",
            kind: "Lease",
            metadata: { namespace, name },
            spec: this.#specOf(0, sent.wall),
          },
          request,
        );
      } catch (raced) {
        if (isAlreadyExists(raced)) return false;
        throw raced;
      }
      this.#renewed = sent;
      return true;
    }
    const spec = this.#lease.spec ?? {};
    // One that names us is of an attempt whose answer was lost; waiting until it runs out would be waiting for ourselves.
    const others = spec.holderIdentity && spec.holderIdentity !== this.#options.identity;
    if (others && !this.#expired(this.#lease, spec)) return false;
    return this.#patch(this.#specOf((spec.leaseTransitions ?? 0) + 1, sent.wall), sent);
  }

  /** Judged by our own clock only: the holder is gone when its Lease has not changed for its whole duration. */
  #expired(lease: Lease, spec: LeaseSpec): boolean {
    const { resourceVersion } = lease.metadata;
    const at = this.#clock.monotonic();
    if (this.#observed?.resourceVersion !== resourceVersion) this.#observed = { resourceVersion, at };
    const durationMs = (spec.leaseDurationSeconds ?? this.#leaseDurationMs / 1000) * 1000;
    return at - this.#observed.at >= durationMs;
  }

  #renew(): Promise<boolean> {
    const sent = this.#moment();
    return this.#patch({ renewTime: microTime(sent.wall) }, sent);
  }

  /** False when the Lease is not ours: `#lease` is what there is instead, undefined where there is none. */
  async #patch(spec: Partial<LeaseSpec>, sent: Moment): Promise<boolean> {
    const { api, namespace, name } = this.#options;
    const metadata = { resourceVersion: this.#lease?.metadata.resourceVersion };
    const request = { timeoutMs: this.#retryPeriodMs * 2 };
    try {
      try {
        this.#lease = await api.mergePatch<Lease>(leases, { namespace, name }, { metadata, spec }, request);
      } catch (error) {
        if (!isConflict(error)) throw error;
        // An earlier renewal may have arrived although its answer did not.
        this.#lease = await api.get<Lease>(leases, { namespace, name }, request);
        return this.#renewed !== undefined && this.#lease.spec?.holderIdentity === this.#options.identity;
      }
    } catch (error) {
      if (!isNotFound(error, name)) throw error;
      // Whoever asks next makes a new one, and need not wait for us.
      this.#lease = undefined;
      return false;
    }
    this.#renewed = sent;
    return true;
  }

  async #release(): Promise<void> {
    // What another replica holds by now is not ours to release; its resourceVersion guards the time until we see it.
    const renewed = this.#renewed;
    if (renewed === undefined || this.#lease?.spec?.holderIdentity !== this.#options.identity) return;
    try {
      await this.#patch({ holderIdentity: "", leaseDurationSeconds: 1 }, renewed);
    } catch (error) {
      this.#options.onProblem?.(error);
    }
  }

  #specOf(leaseTransitions: number, wall: number): LeaseSpec {
    const time = microTime(wall);
    return {
      holderIdentity: this.#options.identity,
      leaseDurationSeconds: Math.ceil(this.#leaseDurationMs / 1000),
      acquireTime: time,
      renewTime: time,
      leaseTransitions,
    };
  }

  #moment(): Moment {
    return { monotonic: this.#clock.monotonic(), wall: this.#clock.wall() };
  }

  async #pause(ms: number): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    if (this.#abort.signal.aborted) return;
    await delay(ms, undefined, { signal: woken.signal }).catch(() => {});
  }
}

const lostBeforeLeading = (reason: string): never => {
  throw new Error(reason);
};

/** `metav1.MicroTime`. */
const microTime = (at: number): string => new Date(at).toISOString().replace("Z", "000Z");

/** The same API, whose writes throw `Fenced` instead of going onto the wire when this process does not lead. */
export const fencedWrites = (api: KubernetesApi, leadership: Pick<Leadership, "assertLeading">): KubernetesApi =>
  api.guardingWrites(() => leadership.assertLeading());
