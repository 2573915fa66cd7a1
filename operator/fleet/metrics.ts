import type { Registry } from "prom-client";
import type { TaskExchangeParts } from "../../core/fleet/task-exchange.ts";

export type TaskEnded = NonNullable<TaskExchangeParts["onEnded"]>;

/** Figures of what this process has gateways do. */
export async function taskMetrics(registry: Registry): Promise<TaskEnded> {
  const { Counter, Histogram } = (await import("prom-client")).default;
  const registers = [registry];
  const total = new Counter({
    name: "mazevault_gateway_tasks_total",
    help: "Tasks of gateways that have ended, by environment and status: Succeeded, Failed, Interrupted or Withdrawn.",
    labelNames: ["environment", "status"] as const,
    registers,
  });
  const duration = new Histogram({
    name: "mazevault_gateway_task_duration_seconds",
    help: "Time from when a task is made until it has ended, whatever came of it.",
    labelNames: ["environment"] as const,
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25],
    registers,
  });
  return ({ environment, status, seconds }) => {
    total.inc({ environment, status });
    duration.observe({ environment }, seconds);
  };
}
