/** Very many Certificates on default settings: how fast they are issued and delivered, and what they take in memory. */
import type { Certificate } from "../../crds/certificate.ts";
import { scrape, total } from "../../e2e/harness.ts";
import { pause, until } from "../../lab/poll.ts";
import { applyCertificates, leafName, makeIssuer, certificates as type } from "../certificates.ts";
import { costOf, residentMiB } from "../cost.ts";
import { range, seconds } from "../in-flight.ts";
import { labCpu, labCpuFigures } from "../lab-cpu.ts";
import type { Figure, Result } from "../result.ts";
import { isReady, type Stage, TENANT } from "../stage.ts";
import { ChangeWatch } from "../watch.ts";

const PURPOSE = "many";
const SETTLE_MS = 20_000;
const LONGEST_MS = 900_000;
/** For each certificate the responder keeps one answer by SHA-1 and one by SHA-256. */
const ANSWERS = 2;

export async function certificates(stage: Stage): Promise<Result> {
  const { many } = stage.sizes;
  const figures = await stage.withOperator({}, async (operator): Promise<Figure[]> => {
    await makeIssuer(stage);
    const before = await costOf(operator);
    const watch = await ChangeWatch.open<Certificate>(stage.api, type, TENANT);
    const delivered = Promise.all(range(many).map((index) => watch.when(leafName(PURPOSE, index), isReady)));
    const cpuBefore = labCpu(stage);
    const started = performance.now();
    await applyCertificates(stage, PURPOSE, many);
    const applied = performance.now();
    const lastReady = Math.max(...(await delivered));
    watch.close();
    const after = await costOf(operator);
    const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
    const servers = labCpuFigures(cpuBefore, labCpu(stage), cpuSeconds);
    await pause(SETTLE_MS);
    const { rssMiB, heapUsedMiB } = await costOf(operator);
    return [
      { what: "applying all of them", value: seconds(started, applied), unit: "s" },
      { what: "last apply acknowledged until last Ready", value: seconds(applied, lastReady), unit: "s" },
      { what: "first apply sent until last Ready", value: seconds(started, lastReady), unit: "s" },
      {
        what: "issued and delivered, serial numbers and keys durable first",
        value: many / seconds(started, lastReady),
        unit: "/s",
      },
      { what: "CPU of the operator for each", value: (cpuSeconds * 1_000) / many, unit: "ms" },
      ...servers,
      { what: "peak RSS of the operator", value: after.peakRssMiB ?? Number.NaN, unit: "MiB" },
      { what: "its RSS when idle afterwards", value: rssMiB, unit: "MiB", aim: { atMost: 400 } },
      { what: "its heap in use then", value: heapUsedMiB, unit: "MiB" },
      { what: "RSS of a responder that answers for all of them", value: await responderMiB(stage), unit: "MiB" },
    ];
  });
  return { name: `certificates-${many}`, figures };
}

/** Resident memory of a responder once it has an answer to every question. */
async function responderMiB(stage: Stage): Promise<number> {
  const responder = await stage.world.mazevault.startOcsp();
  try {
    await until(
      "all answers are kept",
      async () => total(await scrape(responder), "mazevault_ocsp_signatures_total") >= ANSWERS * stage.sizes.many,
      { timeoutMs: LONGEST_MS, intervalMs: 1_000 },
    );
    await pause(SETTLE_MS);
    return residentMiB(await scrape(responder));
  } finally {
    await responder.process.stop();
  }
}
