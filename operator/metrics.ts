/** The program's own registry; prom-client's default one would be shared with whatever else loads the library. */
import { prometheusMetrics, type RuntimeMetrics } from "../controllers/runtime/metrics.ts";

export interface ProgramMetrics {
  readonly registry: { metrics(): Promise<string> };
  readonly runtime: RuntimeMetrics;
}

export async function programMetrics(): Promise<ProgramMetrics> {
  const { Registry, collectDefaultMetrics } = (await import("prom-client")).default;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return { registry, runtime: await prometheusMetrics(registry) };
}
