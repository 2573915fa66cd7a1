/**
 * Kubernetes Events (events.k8s.io/v1): deduplicated, few, and never in the way. Recording does not wait, does not throw,
 * and what cannot be sent is dropped, since status says the same.
 */
import type { Resource } from "../../crds/common.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { EventReason, eventReasons } from "../../crds/events.ts";
import type { ResourceType } from "./resource-type.ts";
import type { KubernetesApi } from "./transport.ts";

/** Each is in the reference, with what a person does about it. */
export type EventDescription = (ReadyChanged | { [R in EventReason]: Told<R> }[EventReason]) & {
  /** For people, at most 1 kB; never a value. */
  readonly note: string;
};

interface ReadyChanged {
  readonly type: "Normal" | "Warning";
  /** Of the condition Ready. */
  readonly reason: Reason;
  readonly action: "Reconcile";
}

interface Told<R extends EventReason> {
  readonly type: (typeof eventReasons)[R]["type"];
  readonly reason: R;
  readonly action: (typeof eventReasons)[R]["action"];
}

export interface EventRecorderOptions {
  /** For example `mazevault.io/operator`. */
  readonly component: string;
  /** Of this replica. */
  readonly instance: string;
  readonly onDropped?: (error: unknown) => void;
}

const events: ResourceType = {
  group: "events.k8s.io",
  version: "v1",
  plural: "events",
  kind: "Event",
  namespaced: true,
};

// Bounds like those of client-go's recorder: a burst for each object, then one in five minutes.
const BURST = 10;
const REFILL_MS = 300_000;
const REPEAT_MS = 600_000;
const MAX_QUEUED = 500;
const MAX_REMEMBERED = 5_000;
const MAX_NOTE = 1_024;

interface Series {
  readonly name: string;
  readonly namespace: string;
  firstAt: number;
  count: number;
  reportedCount: number;
}

interface Allowance {
  tokens: number;
  at: number;
}

export class EventRecorder {
  readonly #api: Pick<KubernetesApi, "create" | "mergePatch">;
  readonly #options: EventRecorderOptions;
  readonly #series = new Map<string, Series>();
  readonly #allowances = new Map<string, Allowance>();
  readonly #pending: (() => Promise<unknown>)[] = [];
  #sending: Promise<void> | undefined;
  #closed = false;

  constructor(api: Pick<KubernetesApi, "create" | "mergePatch">, options: EventRecorderOptions) {
    this.#api = api;
    this.#options = options;
  }

  record(regarding: Resource, event: EventDescription): void {
    if (this.#closed) return;
    const identity = `${regarding.metadata.uid} ${event.type} ${event.reason} ${event.note}`;
    const series = this.#series.get(identity);
    const at = Date.now();
    if (series !== undefined && at - series.firstAt < REPEAT_MS) {
      series.count++;
      // The first repetition opens the series; later ones are reported each time the count doubles.
      if (series.count >= 2 * series.reportedCount) this.#report(series);
      return;
    }
    if (!this.#allowed(regarding.metadata.uid, at)) return;
    const namespace = regarding.metadata.namespace ?? "default";
    // Unique like client-go's names: object and time in hexadecimal.
    const name = `${regarding.metadata.name.slice(0, 220)}.${(at * 1_000_000 + this.#series.size).toString(16)}`;
    remember(this.#series, identity, { name, namespace, firstAt: at, count: 1, reportedCount: 1 });
    const { component, instance } = this.#options;
    const { type, reason, action } = event;
    this.#enqueue(() =>
      this.#api.create(
        events,
        {
          apiVersion: "events.k8s.io/v1",
          kind: "Event",
          metadata: { name, namespace },
          eventTime: microTime(at),
          reportingController: component,
          reportingInstance: instance.slice(0, 128),
          type,
          reason: reason.slice(0, 128),
          action,
          note: event.note.slice(0, MAX_NOTE),
          regarding: {
            apiVersion: regarding.apiVersion,
            kind: regarding.kind,
            name: regarding.metadata.name,
            uid: regarding.metadata.uid,
            resourceVersion: regarding.metadata.resourceVersion,
            ...(regarding.metadata.namespace === undefined ? {} : { namespace: regarding.metadata.namespace }),
          },
        },
        { metadataOnly: true },
      ),
    );
  }

  /** Resolves when everything recorded so far was sent or dropped. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  /** Sends what is pending and takes nothing more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#sending;
  }

  #report(series: Series): void {
    const { name, namespace, count } = series;
    series.reportedCount = count;
    const body = { series: { count, lastObservedTime: microTime(Date.now()) } };
    this.#enqueue(() => this.#api.mergePatch(events, { name, namespace }, body, { metadataOnly: true }));
  }

  #allowed(uid: string, at: number): boolean {
    const allowance = this.#allowances.get(uid) ?? { tokens: BURST, at };
    const tokens = Math.min(BURST, allowance.tokens + (at - allowance.at) / REFILL_MS);
    if (tokens < 1) return false;
    remember(this.#allowances, uid, { tokens: tokens - 1, at });
    return true;
  }

  #enqueue(send: () => Promise<unknown>): void {
    if (this.#pending.length >= MAX_QUEUED) this.#pending.shift();
    this.#pending.push(send);
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined;
    });
  }

  // One at a time: Events must not compete with the writes that matter.
  async #send(): Promise<void> {
    for (let send = this.#pending.shift(); send !== undefined; send = this.#pending.shift()) {
      try {
        await send();
      } catch (error) {
        this.#options.onDropped?.(error);
      }
    }
  }
}

/** Newest last; the oldest are forgotten first. */
const remember = <V>(map: Map<string, V>, key: string, value: V): void => {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= MAX_REMEMBERED) break;
    map.delete(oldest);
  }
};

/** `metav1.MicroTime`. */
const microTime = (at: number): string => new Date(at).toISOString().replace("Z", "000Z");
