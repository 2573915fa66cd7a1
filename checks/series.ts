/** Every series that a scrape of the programs has, for checks of rules and dashboards. */
import { collectDefaultMetrics, Registry } from "prom-client";
import { allMetrics, type Metric, metricsOf, seriesOf } from "./metrics.ts";
import type { Series } from "./promql.ts";

/** Labels over all programs that tell it. */
export async function knownSeries(): Promise<ReadonlyMap<string, Series>> {
  const found = new Map<string, Series>();
  for (const metric of [...[...(await allMetrics()).values()].flat(), ...ofTheProcess()]) {
    for (const name of seriesOf(metric)) {
      const isBucket = name.endsWith("_bucket");
      const labels = new Set([...metric.labels, ...(isBucket ? ["le"] : [])]);
      const type = isBucket ? "bucket" : metric.type === "gauge" ? "gauge" : "counter";
      found.set(name, { type, labels: labels.union(found.get(name)?.labels ?? new Set()) });
    }
  }
  return found;
}

/** Of Node.js and the process, as prom-client brings them. */
function ofTheProcess(): readonly Metric[] {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return metricsOf(registry);
}
