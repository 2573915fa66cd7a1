/** What the programs measure, as their own registries have it. What a program composes elsewhere is missed by `e2e/gateway.test.ts`. */
import type { Registry } from "prom-client";
import { responderMetrics } from "../ocsp/metrics.ts";
import { Register } from "../ocsp/register.ts";
import { newTraffic } from "../ocsp/traffic.ts";
import { taskMetrics } from "../operator/fleet/metrics.ts";
import { gatewayMetrics } from "../operator/gateway/metrics.ts";
import { programMetrics } from "../operator/metrics.ts";

export type Program = "primary" | "gateway" | "OCSP responder";

export interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
}

/** By program; those of Node.js and the process itself, which prom-client brings, are left out. */
export async function allMetrics(): Promise<ReadonlyMap<Program, readonly Metric[]>> {
  const states = {
    vaults: () => [],
    sinks: () => [],
    tamperedAuthorities: () => 0,
    rotation: () => ({ left: 0, stuck: 0 }),
    tracesDropped: () => 0,
    resources: () => undefined,
  };
  const primary = await programMetrics({ ...states, gateways: () => [], environments: () => [] });
  const gateway = await programMetrics(states);
  await taskMetrics(primary.registry);
  await gatewayMetrics(
    gateway.registry,
    () => undefined,
    () => undefined,
  );
  const sources = { register: new Register(), traffic: newTraffic(), tampered: () => 0, now: Date.now };
  const responder = await responderMetrics(sources);
  return new Map([
    ["primary", ownOf(primary.registry)],
    ["gateway", ownOf(gateway.registry)],
    ["OCSP responder", ownOf(responder.registry)],
  ]);
}

const ownOf = (registry: Registry): readonly Metric[] =>
  metricsOf(registry).filter(({ name }) => name.startsWith("mazevault_"));

/** Sorted by name. */
export function metricsOf(registry: Registry): readonly Metric[] {
  // Of no type that prom-client exports.
  const known = registry.getMetricsAsArray() as unknown as readonly (Omit<Metric, "labels"> & {
    readonly labelNames: readonly string[];
  })[];
  return known
    .map(({ name, type, help, labelNames }) => ({ name, type, help, labels: labelNames }))
    .toSorted((one, other) => (one.name < other.name ? -1 : 1));
}

/** Names of what a scrape has of a metric, as rules may use them. */
export const seriesOf = ({ name, type }: Metric): readonly string[] =>
  type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => `${name}${end}`) : [name];
