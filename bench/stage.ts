/** What all measurements play on: one lab that survives its own crash (fsync on), and one operator at a time. */

import { loadKubeConfig } from "../controllers/runtime/kubeconfig.ts";
import { coreSecrets, resourceType } from "../controllers/runtime/resource-type.ts";
import { KubernetesApi } from "../controllers/runtime/transport.ts";
import type { Certificate } from "../crds/certificate.ts";
import { type Secret, secretKind } from "../crds/secret.ts";
import { startWorld, type World } from "../e2e/harness.ts";
import type { Operator, ProgramOptions, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { costOf } from "./cost.ts";
import { inFlight, range } from "./in-flight.ts";
import { databaseSecret, secretName } from "./manifests.ts";
import { RawApi } from "./raw-api.ts";
import { ChangeWatch } from "./watch.ts";

export const mazevaultSecrets = resourceType(secretKind);
export const IN_FLIGHT = 16;

/** The tenant of everything that is not the population. */
export const TENANT = "bench";
/** The tenant of the many secrets that are there while others are measured. */
export const POPULATION = "population";

/** Writes a second, 16 in flight, while nothing else uses the machine. */
export interface RawRates {
  readonly coreSecret: number;
  readonly resource: number;
  readonly status: number;
}

export interface Sizes {
  /** Of what is processed at once. */
  readonly some: number;
  /** Of the population. */
  readonly many: number;
  readonly changes: number;
}

const LONGEST_MS = 900_000;

export class Stage {
  readonly world: World;
  readonly sizes: Sizes;
  /** As cluster administrator, over kept-alive connections. */
  readonly api: KubernetesApi;
  readonly raw: RawApi;
  readonly report: (line: string) => void;
  /** What the API server alone takes, once `raw` has measured it. */
  rawRates: RawRates | undefined;
  #operators = 0;
  #populated = 0;

  private constructor(world: World, sizes: Sizes, api: KubernetesApi, raw: RawApi, report: (line: string) => void) {
    this.world = world;
    this.sizes = sizes;
    this.api = api;
    this.raw = raw;
    this.report = report;
  }

  static async open(sizes: Sizes, report: (line: string) => void): Promise<Stage> {
    const world = await startWorld({ durable: true, report });
    try {
      const config = await loadKubeConfig(world.lab.controlPlane.kubeconfigPath);
      const raw = await RawApi.open(config);
      const stage = new Stage(world, sizes, KubernetesApi.connect(config), raw, report);
      const operator = await stage.startOperator();
      for (const name of [TENANT, POPULATION]) await world.tenant(name);
      await operator.process.stop();
      return stage;
    } catch (error) {
      await world.stop();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.raw.close();
    await this.api.close();
    await this.world.stop();
  }

  /** The caller stops it. */
  startOperator(options: Omit<ProgramOptions, "name"> = {}): Promise<Operator> {
    this.#operators += 1;
    return this.world.mazevault.startOperator({ ...options, name: `operator-${this.#operators}` });
  }

  /** Runs an operator for as long as `use` takes. */
  async withOperator<T>(options: Omit<ProgramOptions, "name">, use: (operator: Operator) => Promise<T>): Promise<T> {
    const operator = await this.startOperator(options);
    try {
      return await use(operator);
    } finally {
      await operator.process.stop();
    }
  }

  /** The same with REST beside it, which has the options. */
  async withRest<T>(
    options: Omit<ProgramOptions, "name">,
    use: (rest: Rest, operator: Operator) => Promise<T>,
  ): Promise<T> {
    return this.withOperator({}, async (operator) => {
      const rest = await this.world.mazevault.startRest({ ...options, name: `rest-${this.#operators}` });
      try {
        return await use(rest, operator);
      } finally {
        await rest.process.stop();
      }
    });
  }

  /** Applies secrets `from` up to `to`, as fast as the API server takes them. */
  async applySecrets(namespace: string, from: number, to: number): Promise<void> {
    await inFlight(IN_FLIGHT, range(to - from), (index) =>
      this.api.create(mazevaultSecrets, databaseSecret(namespace, from + index), { metadataOnly: true }),
    );
  }

  /**
   * Times, as `performance.now()`, at which each of these secrets is delivered: its core Secret is there and it is Ready.
   * Begins to watch at once, before it resolves.
   */
  async watchDelivery(namespace: string, from: number, to: number): Promise<DeliveryWatch> {
    const secrets = await ChangeWatch.open<Secret>(this.api, mazevaultSecrets, namespace);
    const cores = await ChangeWatch.open(this.api, coreSecrets, namespace, { metadataOnly: true });
    const names = range(to - from).map((index) => secretName(from + index));
    const delivered = within(
      LONGEST_MS,
      Promise.all(names.map((name) => Promise.all([cores.when(name, () => true), secrets.when(name, isReady)]))),
    );
    // Whoever waits for it is told; until then a failure must not end the program.
    delivered.catch(() => {});
    return {
      delivered: async () => {
        const times = await delivered;
        return { lastCore: Math.max(...times.map(([core]) => core)), lastReady: Math.max(...times.flat()) };
      },
      close: () => {
        secrets.close();
        cores.close();
      },
    };
  }

  /** Brings the population to its size, delivered, with an operator of its own; does nothing when it is there. */
  async populate(): Promise<void> {
    const { many } = this.sizes;
    if (this.#populated >= many) return;
    this.report(`delivering ${many} secrets to measure with`);
    const watch = await this.watchDelivery(POPULATION, this.#populated, many);
    await this.withOperator({}, async () => {
      await this.applySecrets(POPULATION, this.#populated, many);
      await watch.delivered();
    });
    watch.close();
    this.#populated = many;
  }

  /** Notes that the population was made by a measurement. */
  populated(): void {
    this.#populated = this.sizes.many;
  }

  /** Removes all secrets of a tenant and what was made of them, so that the next measurement meets none. */
  async clear(namespace: string): Promise<void> {
    await this.withOperator({}, async (operator) => {
      // What vanishes before the controller runs is left to a sweep, which is in no hurry.
      await until("the operator is at work", async () => (await costOf(operator)).reconciles > 0, {
        timeoutMs: LONGEST_MS,
      });
      for (const type of [mazevaultSecrets, coreSecrets]) await this.raw.deleteAll(type, namespace);
      await until(
        `no secret of ${namespace} is active`,
        async () => {
          const [left] = await this.world.sql<{ count: string }>(
            "SELECT count(*) FROM secrets WHERE namespace = $1 AND state = 'Active'",
            [namespace],
          );
          return left?.count === "0";
        },
        { timeoutMs: LONGEST_MS, intervalMs: 250 },
      );
    });
  }
}

export interface DeliveryWatch {
  delivered(): Promise<{ readonly lastCore: number; readonly lastReady: number }>;
  close(): void;
}

export const isReady = ({ metadata, status }: Secret | Certificate): boolean =>
  status?.observedGeneration === metadata.generation &&
  status?.conditions?.some(({ type, status: holds }) => type === "Ready" && holds === "True") === true;

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not everything was delivered after ${limitMs / 1_000} s`)), limitMs);
  });
  try {
    return await Promise.race([work, expired]);
  } finally {
    clearTimeout(timer);
  }
}
