/** Secrets that nobody has processed yet are there, and the operator starts. */
import { pause } from "../../lab/poll.ts";
import { type Cost, costOf } from "../cost.ts";
import { seconds } from "../in-flight.ts";
import { labCpu, labCpuFigures } from "../lab-cpu.ts";
import { profiling, summarizeProfile } from "../profile.ts";
import { type Figure, floor, type Result, tally } from "../result.ts";
import { type Stage, TENANT } from "../stage.ts";

const SETTLE_MS = 15_000;

export async function start(stage: Stage): Promise<Result> {
  const { some } = stage.sizes;
  const run = await once(stage, []);
  // A run of its own, as the profiler slows what it watches.
  stage.report("the same under the profiler");
  const { dir, nodeArgs } = profiling(`start-${some}`);
  await once(stage, nodeArgs);
  return {
    name: `start-${some}`,
    figures: [
      { what: "until the operator is ready", value: run.ready, unit: "s" },
      { what: "until the last core Secret is there", value: run.lastCore, unit: "s" },
      { what: "until the last is Ready too", value: run.lastReady, unit: "s", aim: { atMost: 5 } },
      ...floor(stage.rawRates, some, false),
      { what: "CPU of the operator until then", value: run.cost.cpuSeconds, unit: "s" },
      ...run.servers,
      { what: "peak RSS", value: run.cost.peakRssMiB ?? Number.NaN, unit: "MiB" },
      { what: "RSS when idle afterwards", value: run.idle.rssMiB, unit: "MiB", aim: { atMost: 200 } },
      ...tally("API server:", run.cost.kubernetesCalls, "calls"),
    ],
    details: { postgresCalls: run.cost.postgresCalls, profile: summarizeProfile(dir) },
  };
}

interface Run {
  /** Seconds since the process was started. */
  readonly ready: number;
  readonly lastCore: number;
  readonly lastReady: number;
  readonly servers: readonly Figure[];
  readonly cost: Cost;
  readonly idle: Cost;
}

async function once(stage: Stage, nodeArgs: readonly string[]): Promise<Run> {
  const { some } = stage.sizes;
  await stage.applySecrets(TENANT, 0, some);
  const watch = await stage.watchDelivery(TENANT, 0, some);
  const before = labCpu(stage);
  const started = performance.now();
  const run = await stage.withOperator({ nodeArgs }, async (operator) => {
    const ready = seconds(started);
    const { lastCore, lastReady } = await watch.delivered();
    const cost = await costOf(operator);
    const servers = labCpuFigures(before, labCpu(stage), cost.cpuSeconds);
    if (nodeArgs.length === 0) await pause(SETTLE_MS);
    const times = { ready, lastCore: seconds(started, lastCore), lastReady: seconds(started, lastReady) };
    return { ...times, servers, cost, idle: await costOf(operator) };
  });
  watch.close();
  await stage.clear(TENANT);
  return run;
}
