/** The figures that the runtime reports. An interface, so that what reports does not load prom-client. */
import type { Registry } from "prom-client";

export type ReconcileOutcome = "success" | "waiting" | "stalled" | "conflict" | "error" | "fenced" | "aborted";

export interface RuntimeMetrics {
  reconciled(controller: string, outcome: ReconcileOutcome, seconds: number): void;
  reconcileFailed(controller: string, reason: string): void;
  /** Keys that are due and wait for a free worker. */
  queueDepth(queue: string, depth: number): void;
  /** From due to begun. */
  queueLatency(queue: string, seconds: number): void;
  /** A call to anything outside; `code` is a status code or `error`. */
  externalCall(target: string, operation: string, code: string, seconds: number): void;
  informerSynced(informer: string, synced: boolean): void;
  leading(leading: boolean): void;
}

export const silentMetrics: RuntimeMetrics = {
  reconciled() {},
  reconcileFailed() {},
  queueDepth() {},
  queueLatency() {},
  externalCall() {},
  informerSynced() {},
  leading() {},
};

/** Metrics in a registry of the caller's; prom-client is loaded here and nowhere else. */
export const prometheusMetrics = async (registry: Registry): Promise<RuntimeMetrics> => {
  const { Counter, Gauge, Histogram } = (await import("prom-client")).default;
  const registers = [registry];
  const reconcileDuration = new Histogram({
    name: "mazevault_reconcile_duration_seconds",
    help: "Duration of one reconcile, from observing to writing status.",
    labelNames: ["controller", "outcome"] as const,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });
  const reconcileErrors = new Counter({
    name: "mazevault_reconcile_errors_total",
    help: "Reconciles that failed, by the reason shown in status.",
    labelNames: ["controller", "reason"] as const,
    registers,
  });
  const depth = new Gauge({
    name: "mazevault_queue_depth",
    help: "Keys that are due and wait for a free worker.",
    labelNames: ["queue"] as const,
    registers,
  });
  const latency = new Histogram({
    name: "mazevault_queue_latency_seconds",
    help: "Time between a key being due and its reconcile beginning.",
    labelNames: ["queue"] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    registers,
  });
  const calls = new Counter({
    name: "mazevault_external_calls_total",
    help: "Calls to PostgreSQL, Kubernetes, Key Vault and other things outside; code is a status code or error.",
    labelNames: ["target", "operation", "code"] as const,
    registers,
  });
  const callDuration = new Histogram({
    name: "mazevault_external_call_duration_seconds",
    help: "Duration of calls to things outside.",
    labelNames: ["target", "operation"] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers,
  });
  const synced = new Gauge({
    name: "mazevault_informer_synced",
    help: "1 while the cache of a resource type is complete and its watch is alive.",
    labelNames: ["informer"] as const,
    registers,
  });
  const leader = new Gauge({ name: "mazevault_leader", help: "1 while this replica leads.", registers });
  leader.set(0);

  return {
    reconciled: (controller, outcome, seconds) => reconcileDuration.observe({ controller, outcome }, seconds),
    reconcileFailed: (controller, reason) => reconcileErrors.inc({ controller, reason }),
    queueDepth: (queue, value) => depth.set({ queue }, value),
    queueLatency: (queue, seconds) => latency.observe({ queue }, seconds),
    externalCall: (target, operation, code, seconds) => {
      calls.inc({ target, operation, code });
      callDuration.observe({ target, operation }, seconds);
    },
    informerSynced: (informer, value) => synced.set({ informer }, value ? 1 : 0),
    leading: (value) => leader.set(value ? 1 : 0),
  };
};
