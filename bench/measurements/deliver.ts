/** Very many secrets on default settings, and what an operator needs for none and for all of them. */
import { pause } from "../../lab/poll.ts";
import { costOf } from "../cost.ts";
import { seconds } from "../in-flight.ts";
import { labCpu, labCpuFigures } from "../lab-cpu.ts";
import { floor, type Result } from "../result.ts";
import { POPULATION, type Stage } from "../stage.ts";

const SETTLE_MS = 20_000;

export async function deliver(stage: Stage): Promise<Result> {
  const { many } = stage.sizes;
  const result = await stage.withOperator({}, async (operator): Promise<Result> => {
    await pause(SETTLE_MS);
    const empty = await costOf(operator);
    const watch = await stage.watchDelivery(POPULATION, 0, many);
    const cpuBefore = labCpu(stage);
    const started = performance.now();
    await stage.applySecrets(POPULATION, 0, many);
    const applied = performance.now();
    const { lastReady } = await watch.delivered();
    watch.close();
    const busy = await costOf(operator);
    const cpuSeconds = busy.cpuSeconds - empty.cpuSeconds;
    const servers = labCpuFigures(cpuBefore, labCpu(stage), cpuSeconds);
    await pause(SETTLE_MS);
    const idle = await costOf(operator);
    return {
      name: `deliver-${many}`,
      figures: [
        { what: "applying all of them", value: seconds(started, applied), unit: "s" },
        {
          what: "last apply acknowledged until last Ready",
          value: seconds(applied, lastReady),
          unit: "s",
          aim: { atMost: 60 },
        },
        ...floor(stage.rawRates, many, true),
        { what: "CPU of the operator", value: cpuSeconds, unit: "s" },
        ...servers,
        { what: "RSS of a fresh operator with nothing", value: empty.rssMiB, unit: "MiB", aim: { atMost: 150 } },
        { what: "heap of a fresh operator with nothing", value: empty.heapUsedMiB, unit: "MiB" },
        { what: "peak RSS", value: busy.peakRssMiB ?? Number.NaN, unit: "MiB" },
        { what: "RSS when idle afterwards", value: idle.rssMiB, unit: "MiB", aim: { atMost: 400 } },
        { what: "heap when idle afterwards", value: idle.heapUsedMiB, unit: "MiB" },
      ],
    };
  });
  stage.populated();
  return result;
}
