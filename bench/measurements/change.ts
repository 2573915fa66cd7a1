/** One change, alone and while every other secret is being looked at again. */
import { coreSecrets, type KubernetesObject } from "../../controllers/runtime/resource-type.ts";
import type { Secret } from "../../crds/secret.ts";
import { scrape, total } from "../../e2e/harness.ts";
import type { Operator } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { costOf, isCaughtUp } from "../cost.ts";
import { percentile, range, seconds } from "../in-flight.ts";
import { databaseSecret, secretName } from "../manifests.ts";
import type { Figure, Result } from "../result.ts";
import { isReady, mazevaultSecrets, POPULATION, type Stage } from "../stage.ts";
import { ChangeWatch } from "../watch.ts";

/** Much shorter than one round over all secrets takes, so that all of them are always due. */
const CONSTANT_RESYNC_MS = 1_000;
const CATCH_UP_MS = 600_000;

interface CoreSecret extends KubernetesObject {
  readonly data?: Readonly<Record<string, string>>;
}

export async function change(stage: Stage): Promise<Result> {
  const { many } = stage.sizes;
  await stage.populate();
  const idle = await stage.withOperator({}, async (operator) => {
    await caughtUp(operator, many);
    return changes(stage, "idle");
  });
  const config = { controllers: { resyncMs: CONSTANT_RESYNC_MS } };
  const loaded = await stage.withOperator({ config }, async (operator) => {
    await until("all are due again", async () => (await costOf(operator)).reconciles > many, {
      timeoutMs: CATCH_UP_MS,
      intervalMs: 500,
    });
    const before = await costOf(operator);
    const started = performance.now();
    const times = await changes(stage, "loaded");
    const depth = total(await scrape(operator), "mazevault_queue_depth", { queue: "secret" });
    const reconciles = (await costOf(operator)).reconciles - before.reconciles;
    return { times, depth, rate: reconciles / seconds(started) };
  });
  return {
    name: `change-under-load-${many}`,
    figures: [
      ...spread("idle", idle),
      ...spread("loaded", loaded.times, { atMost: 2_000 }),
      { what: "loaded: secrets waiting in the queue", value: loaded.depth, unit: "" },
      { what: "loaded: secrets looked at", value: loaded.rate, unit: "/s" },
    ],
    details: { idleMs: idle.map(Math.round), loadedMs: loaded.times.map(Math.round) },
  };
}

async function caughtUp(operator: Operator, secrets: number): Promise<void> {
  await until("the operator has caught up", () => isCaughtUp(operator, secrets), {
    timeoutMs: CATCH_UP_MS,
    intervalMs: 500,
  });
}

/** Milliseconds from the acknowledgement of each change until core Secret and status tell it, one after the other. */
async function changes(stage: Stage, label: string): Promise<number[]> {
  const { many, changes: count } = stage.sizes;
  const secrets = await ChangeWatch.open<Secret>(stage.api, mazevaultSecrets, POPULATION);
  const cores = await ChangeWatch.open<CoreSecret>(stage.api, coreSecrets, POPULATION);
  const times: number[] = [];
  for (const turn of range(count)) {
    // Spread over the whole population.
    const index = Math.floor((turn * many) / count);
    const name = secretName(index);
    const username = `${label}-${turn}`;
    const data = Buffer.from(username).toString("base64");
    const core = cores.when(name, (object) => object.data?.username === data);
    const status = secrets.when(name, (object) => object.spec.entries[0]?.literal === username && isReady(object));
    const { spec } = databaseSecret(POPULATION, index) as unknown as Secret;
    const [, ...others] = spec.entries;
    const patch = { spec: { entries: [{ key: "username", literal: username }, ...others] } };
    await stage.api.mergePatch(mazevaultSecrets, { namespace: POPULATION, name }, patch);
    const acknowledged = performance.now();
    times.push(Math.max(0, ...(await Promise.all([core, status])).map((at) => at - acknowledged)));
  }
  secrets.close();
  cores.close();
  return times;
}

const spread = (label: string, times: readonly number[], aim?: Figure["aim"]): Figure[] => [
  { what: `${label}: changes`, value: times.length, unit: "" },
  { what: `${label}: applied until delivered, p50`, value: percentile(times, 0.5), unit: "ms" },
  { what: `${label}: applied until delivered, p99`, value: percentile(times, 0.99), unit: "ms", ...(aim && { aim }) },
];
