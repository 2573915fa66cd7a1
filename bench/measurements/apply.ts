/** The same secrets, applied while the operator runs. */
import { pause } from "../../lab/poll.ts";
import { costOf } from "../cost.ts";
import { seconds } from "../in-flight.ts";
import { labCpu, labCpuFigures } from "../lab-cpu.ts";
import { floor, type Result } from "../result.ts";
import { type Stage, TENANT } from "../stage.ts";

const SETTLE_MS = 15_000;

export async function apply(stage: Stage): Promise<Result> {
  const { some } = stage.sizes;
  const result = await stage.withOperator({}, async (operator): Promise<Result> => {
    await pause(SETTLE_MS);
    const before = await costOf(operator);
    const watch = await stage.watchDelivery(TENANT, 0, some);
    const cpuBefore = labCpu(stage);
    const started = performance.now();
    await stage.applySecrets(TENANT, 0, some);
    const applied = performance.now();
    const { lastReady } = await watch.delivered();
    watch.close();
    const after = await costOf(operator);
    const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
    const servers = labCpuFigures(cpuBefore, labCpu(stage), cpuSeconds);
    await pause(SETTLE_MS);
    const idle = await costOf(operator);
    return {
      name: `apply-${some}`,
      figures: [
        { what: "applying all of them", value: seconds(started, applied), unit: "s" },
        {
          what: "last apply acknowledged until last Ready",
          value: seconds(applied, lastReady),
          unit: "s",
          aim: { atMost: 3 },
        },
        { what: "first apply sent until last Ready", value: seconds(started, lastReady), unit: "s" },
        ...floor(stage.rawRates, some, true),
        { what: "CPU of the operator", value: cpuSeconds, unit: "s" },
        ...servers,
        { what: "RSS when idle afterwards", value: idle.rssMiB, unit: "MiB", aim: { atMost: 200 } },
      ],
    };
  });
  await stage.clear(TENANT);
  return result;
}
