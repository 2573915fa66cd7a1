/**
 * Two hundred gateways at one primary: what it costs to have them registered, in touch and back again after the primary died. In
 * pairs for 100 environments, as they are meant to be. They send a heartbeat each minute by themselves; those that are
 * timed come on top, one a second from each.
 */

import type { WritableObject } from "../../controllers/runtime/transport.ts";
import type { ReplicaDirectory } from "../../core/fleet/replica-directory.ts";
import { scrape, secretManifest, total } from "../../e2e/harness.ts";
import { firstAdmin, RestClient } from "../../e2e/rest-client.ts";
import type { Operator, Rest } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { asOne } from "../../lab/supervised.ts";
import { costOf } from "../cost.ts";
import { inFlight, percentile, range, seconds } from "../in-flight.ts";
import { type LabCpu, labCpu } from "../lab-cpu.ts";
import { manyAddresses } from "../many-addresses.ts";
import { askForTasks, holdReplica } from "../pursuits.ts";
import type { Figure, Result } from "../result.ts";
import { type GatewayPlace, SimulatedGateway } from "../simulated-gateway.ts";
import { IN_FLIGHT, mazevaultSecrets, type Stage, TENANT } from "../stage.ts";

const GATEWAYS = 200;
const PAIRS = GATEWAYS / 2;
const IDLE_MS = 20_000;
const LOAD_MS = 15_000;
const LONGEST = { timeoutMs: 60_000, intervalMs: 20 };
/** All of them come from one address here. */
const UNLIMITED = { requestsPerAddress: 1_000_000, requestsPerSubject: 1_000_000 };

/** What each gateway asks of its primary, over and over. */
interface Exchange {
  readonly what: string;
  /** By one gateway. */
  readonly everyMs: number;
  readonly once: (gateway: SimulatedGateway) => Promise<void>;
}

const EXCHANGES: readonly Exchange[] = [{ what: "heartbeat", everyMs: 1_000, once: (gateway) => gateway.heartbeat() }];

export async function gateways(stage: Stage): Promise<Result> {
  const figures = await stage.withRest({ config: { rest: UNLIMITED } }, async (rest, operator) => {
    const bench = new GatewaysBench(stage, operator, rest);
    try {
      await bench.populate();
      const found = await bench.register();
      found.push(...(await bench.idle()));
      for (const exchange of EXCHANGES) found.push(...(await bench.exchange(exchange)));
      for (const end of ["stopped", "killed"] as const) found.push(...(await bench.restart(end)));
      return found;
    } finally {
      await bench.end();
    }
  });
  return { name: `gateways-${GATEWAYS}-${stage.sizes.many}`, figures };
}

const projectOf = (pair: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: `fleet-${pair}` },
  spec: {
    environments: [{ name: "pro", gatewayEnvironment: `E${pair}` }],
    namespaces: [{ name: TENANT, environments: ["pro"] }],
  },
});

const secretOf = (index: number): WritableObject =>
  secretManifest(TENANT, `fleet-${index}`, {
    projectRef: { name: `fleet-${index % PAIRS}` },
    entries: [{ key: "password", generate: { kind: "Password", length: 32 } }],
  }) as WritableObject;

const placeOf = (index: number): GatewayPlace => ({
  name: `gw-${index}`,
  environment: `E${Math.floor(index / 2)}`,
  role: index % 2 === 0 ? "primary" : "dr-standby",
});

class GatewaysBench {
  readonly #stage: Stage;
  /** What the primary is. */
  readonly #operator: Operator;
  readonly #rest: Rest;
  #gateways: readonly SimulatedGateway[] = [];
  /** What each gateway holds of the secrets. */
  readonly #held: ReplicaDirectory[] = [];

  constructor(stage: Stage, operator: Operator, rest: Rest) {
    this.#stage = stage;
    this.#operator = operator;
    this.#rest = rest;
  }

  /** The secrets of each pair of gateways are those of one project; nothing delivers them. */
  async populate(): Promise<void> {
    const { world, api, sizes, report } = this.#stage;
    report(`${sizes.many} secrets in ${PAIRS} projects`);
    await world.apply(...range(PAIRS).map(projectOf));
    await inFlight(IN_FLIGHT, range(sizes.many), (index) =>
      api.create(mazevaultSecrets, secretOf(index), { metadataOnly: true }),
    );
    await until(
      "all secrets have a version",
      async () => {
        const [stored] = await world.sql<{ count: string }>(
          "SELECT count(*) FROM secrets WHERE namespace = $1 AND project LIKE 'fleet-%'",
          [TENANT],
        );
        return Number(stored?.count) >= sizes.many;
      },
      { timeoutMs: 300_000, intervalMs: 500 },
    );
  }

  /** All of them, at all gateways. */
  async #inStep(): Promise<void> {
    const each = this.#stage.sizes.many / PAIRS;
    await until(
      "all gateways hold their secrets",
      () => {
        const behind = this.#held.filter(
          (directory) => directory.secrets < each || directory.state?.syncedAt === undefined,
        );
        if (behind.length === 0) return true;
        throw new Error(`${behind.length} do not; one has ${behind[0]?.secrets} of ${each}`);
      },
      { timeoutMs: 120_000, intervalMs: 50 },
    );
  }

  async register(): Promise<Figure[]> {
    const { world, report } = this.#stage;
    const before = await this.#cost();
    report(`registering ${GATEWAYS} gateways`);
    const tokens = await this.#tokens();
    const started = performance.now();
    const startedAt = Date.now();
    const url = this.#rest.restUrl;
    const relay = await manyAddresses(Number(new URL(url).port));
    const address = { url, strangersUrl: `https://127.0.0.1:${relay.port}`, caFile: world.lab.pki.caFile };
    this.#gateways = await Promise.all(
      tokens.map((token, index) =>
        SimulatedGateway.start(placeOf(index), token, address, [askForTasks, holdReplica(this.#held)]),
      ),
    );
    await this.#backSince(startedAt, GATEWAYS);
    const took = seconds(started);
    await this.#inStep();
    const synced = seconds(started);
    relay.close();
    const after = await this.#cost();
    return [
      { what: `${GATEWAYS} gateways at once: until all are registered and in touch`, value: took, unit: "s" },
      { what: `until each holds ${this.#stage.sizes.many / PAIRS} secrets`, value: synced, unit: "s" },
      {
        what: "CPU of the primary for all this, tokens included",
        value: after.cpuSeconds - before.cpuSeconds,
        unit: "s",
      },
      { what: "resident memory of the primary without gateways", value: before.rssMiB, unit: "MiB" },
      { what: "resident memory with all in session", value: after.rssMiB, unit: "MiB" },
      { what: "the same for each session", value: (after.rssMiB - before.rssMiB) / GATEWAYS, unit: "MiB" },
    ];
  }

  async #tokens(): Promise<readonly string[]> {
    const { world } = this.#stage;
    const client = RestClient.of(world, this.#rest);
    const { email, password } = await firstAdmin(world);
    const token = await client.login(email, password);
    const tokens: string[] = [];
    await inFlight(8, range(GATEWAYS), async (index) => {
      const answer = await client.send("POST", "/api/v1/gateways/bootstrap", { token, body: placeOf(index) });
      if (answer.status !== 201) throw new Error(`no token for ${placeOf(index).name}: ${answer.text}`);
      tokens[index] = answer.body.token as string;
    });
    await client.close();
    return tokens;
  }

  async #backSince(at: number, count: number): Promise<void> {
    await until(
      `${count} gateways are in touch`,
      () => {
        const apart = this.#gateways.filter((gateway) => !gateway.isBackSince(at));
        if (GATEWAYS - apart.length >= count) return true;
        throw new Error(`${apart.length} are not: ${JSON.stringify(apart[0]?.status)}`);
      },
      LONGEST,
    );
  }

  /** With the heartbeats that they send by themselves, one a minute. */
  async idle(): Promise<Figure[]> {
    this.#stage.report("nothing but their own heartbeats");
    // What registering has left to do is not counted.
    await pause(5_000);
    const { operator, lab } = await this.#spent(() => pause(IDLE_MS));
    const share = (cpuSeconds: number): number => cpuSeconds / (IDLE_MS / 1_000);
    return [
      {
        what: "primary: CPU seconds in a second, long polls and a heartbeat a minute from each",
        value: share(operator),
        unit: "s",
      },
      { what: "PostgreSQL: the same", value: share(lab.PostgreSQL ?? Number.NaN), unit: "s" },
      { what: "kube-apiserver: the same", value: share(lab["kube-apiserver"] ?? Number.NaN), unit: "s" },
    ];
  }

  async exchange({ what, everyMs, once }: Exchange): Promise<Figure[]> {
    this.#stage.report(`${what}: ${(GATEWAYS * 1_000) / everyMs} a second`);
    const times: number[] = [];
    const began = performance.now();
    const { operator, lab } = await this.#spent(async () => {
      await Promise.all(
        this.#gateways.map(async (gateway, index) => {
          // Spread evenly over the interval.
          for (let at = began + (index * everyMs) / GATEWAYS; at < began + LOAD_MS; at += everyMs) {
            await pause(Math.max(0, at - performance.now()));
            const sent = performance.now();
            await once(gateway);
            times.push(performance.now() - sent);
          }
        }),
      );
    });
    const each = (cpuSeconds: number): number => (cpuSeconds / times.length) * 1_000;
    return [
      { what: `${what}s in a second, from all`, value: times.length / seconds(began), unit: "/s" },
      { what: `${what}: answered, p50`, value: percentile(times, 0.5), unit: "ms" },
      { what: `${what}: answered, p99`, value: percentile(times, 0.99), unit: "ms" },
      { what: `${what}: the longest`, value: Math.max(...times), unit: "ms" },
      { what: `${what}: CPU of the primary for each`, value: each(operator), unit: "ms" },
      { what: `${what}: CPU of PostgreSQL for each`, value: each(lab.PostgreSQL ?? Number.NaN), unit: "ms" },
    ];
  }

  /**
   * A primary of one replica, the worst case. One that is stopped gives its Lease back; one that is killed has it for 15 seconds
   * more, and until somebody leads nobody signs the certificate that the new process shows to gateways.
   */
  async restart(end: "stopped" | "killed"): Promise<Figure[]> {
    this.#stage.report(`the primary is ${end}, and starts again`);
    const { process } = this.#rest;
    const primary = asOne(this.#operator.process, process);
    const began = performance.now();
    const beganAt = Date.now();
    if (end === "stopped") {
      await primary.stop();
      await primary.start();
    } else {
      const { restarts } = process;
      await primary.kill("SIGKILL");
      await until("it is started again", () => process.restarts > restarts, LONGEST);
      await primary.ready();
    }
    const ready = performance.now();
    const leads = until("it leads", async () => total(await scrape(this.#operator), "mazevault_leader") === 1, LONGEST);
    const led = leads.then(() => performance.now());
    const back = (count: number) => this.#backSince(beganAt, count).then(() => performance.now());
    const [leading, half, all] = await Promise.all([led, back(GATEWAYS / 2), back(GATEWAYS)]);
    const { cpuSeconds, rssMiB } = await this.#cost();
    return [
      { what: `the primary is ${end}: until it is ready again`, value: seconds(began, ready), unit: "s" },
      { what: `${end}: until it leads`, value: seconds(began, leading), unit: "s" },
      { what: `${end}: until half of the gateways are in touch`, value: seconds(began, half), unit: "s" },
      { what: `${end}: until all are`, value: seconds(began, all), unit: "s" },
      { what: `${end}: CPU of the primary until then, its start included`, value: cpuSeconds, unit: "s" },
      { what: `${end}: its resident memory then`, value: rssMiB, unit: "MiB" },
    ];
  }

  async end(): Promise<void> {
    await Promise.all(this.#gateways.map((gateway) => gateway.stop()));
    await this.#stage.world.kubectl("delete", "gateways.mazevault.io", "--all", "--wait=false");
  }

  /** Of both together. */
  async #cost(): Promise<{ readonly cpuSeconds: number; readonly rssMiB: number }> {
    const [one, other] = await Promise.all([costOf(this.#operator), costOf(this.#rest)]);
    return { cpuSeconds: one.cpuSeconds + other.cpuSeconds, rssMiB: one.rssMiB + other.rssMiB };
  }

  /** CPU seconds of the primary, and of what it works with, while `work` runs. */
  async #spent(work: () => Promise<void>): Promise<{ readonly operator: number; readonly lab: LabCpu }> {
    const [before, labBefore] = [await this.#cost(), labCpu(this.#stage)];
    await work();
    const [after, labAfter] = [await this.#cost(), labCpu(this.#stage)];
    const lab = Object.fromEntries(
      Object.entries(labAfter).map(([server, value]) => [server, value - (labBefore[server] ?? 0)]),
    );
    return { operator: after.cpuSeconds - before.cpuSeconds, lab };
  }
}
