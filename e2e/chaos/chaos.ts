/**
 * Secrets are applied and changed, and signing requests applied, approved and denied, while the parts of the installation are killed with SIGKILL, one after the other, at
 * random moments and right after observed events. Afterwards everything must be Ready, nothing that was acknowledged may
 * be lost, and nothing may have happened twice. The seed repeats choices and delays, not the timing of the machine.
 */
import { until } from "../../lab/poll.ts";
import { startWorld, type World } from "../harness.ts";
import { ApiClient } from "./api.ts";
import { Fleet, NAMESPACE } from "./fleet.ts";
import { Killer, type Target } from "./killer.ts";
import { pushManifests } from "./manifests.ts";
import { Observer } from "./observer.ts";
import { Random } from "./random.ts";
import { prepareIssuers, SigningRequests } from "./requests.ts";
import { faultsOf, unfinished } from "./verdict.ts";

export interface ChaosOptions {
  readonly seed: number;
  readonly kills: number;
  readonly secrets: number;
  /** That are to be signed; some that are to be refused come on top. */
  readonly requests: number;
  /** Kill the Key Vault stand-in as well; rules then wait for half a minute. */
  readonly keyVault: boolean;
  readonly report?: (line: string) => void;
}

export interface ChaosResult {
  readonly kills: Readonly<Partial<Record<Target, number>>>;
  /** Changes after the creation that the API server acknowledged. */
  readonly edits: number;
  readonly requests: { readonly accepted: number; readonly refused: number };
  readonly chaosSeconds: number;
  /** From the last kill until nothing was left to do. */
  readonly settleSeconds: number;
  readonly faults: readonly string[];
}

/** A dead operator's Lease must run out before its successor begins; the default of 15 s would make most of the run. */
const LEASE_MS = 4_000;
const CHANGES_PER_SECRET = 3;
const SETTLED_WITHIN_MS = 300_000;

export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const world = await startWorld({ durable: true });
  try {
    return await chaos(world, options);
  } finally {
    await world.stop();
  }
}

async function chaos(world: World, options: ChaosOptions): Promise<ChaosResult> {
  const { report = () => {}, kills } = options;
  const operator = await world.mazevault.startOperator({ config: { kubernetes: { leaseDurationMs: LEASE_MS } } });
  await prepare(world);
  const random = new Random(options.seed);
  const api = await ApiClient.connect(world);
  const fleet = new Fleet(options.secrets, api, random);
  const requests = new SigningRequests(options.requests, api);
  const observer = new Observer(api);
  const killer = new Killer({ world, operator, fleet, observer, random, keyVault: options.keyVault });
  const run = { world, api, fleet, requests, observer };
  const killed: Partial<Record<Target, number>> = {};
  const started = performance.now();
  try {
    const batch = Math.ceil((options.secrets * CHANGES_PER_SECRET) / kills);
    for (let done = 1; done <= kills; done += 1) {
      fleet.release(batch);
      requests.release(Math.ceil(requests.all.length / kills));
      const { target, moment } = await killer.kill();
      killed[target] = (killed[target] ?? 0) + 1;
      report(`kill ${done} of ${kills}: ${target}, ${moment}; ${fleet.acknowledgements} writes acknowledged`);
      await killer.recover();
    }
    fleet.releaseRest();
    requests.releaseRest();
    await Promise.all([fleet.acknowledged(), requests.acknowledged()]);
    await killer.allReady();
    const ended = performance.now();
    report(`${kills} kills, ${fleet.edits} changes; waiting until everything is in step`);
    await settled(() => unfinished(run));
    const settledAt = performance.now();
    await observer.stop();
    return {
      kills: killed,
      edits: fleet.edits,
      requests: { accepted: requests.accepted.length, refused: requests.all.length - requests.accepted.length },
      chaosSeconds: seconds(ended - started),
      settleSeconds: seconds(settledAt - ended),
      faults: await faultsOf(run),
    };
  } finally {
    await observer.stop().catch(() => {});
    api.close();
  }
}

const seconds = (ms: number): number => Math.round(ms / 100) / 10;

async function settled(look: () => Promise<readonly string[]>): Promise<void> {
  let left: readonly string[] = [];
  const done = async () => {
    left = await look();
    return left.length === 0;
  };
  await until("everything in step", done, { timeoutMs: SETTLED_WITHIN_MS, intervalMs: 500 }).catch((cause: unknown) => {
    throw new Error([`${left.length} things are not finished:`, ...left.slice(0, 10)].join("\n  "), { cause });
  });
}

async function prepare(world: World): Promise<void> {
  await world.tenant(NAMESPACE);
  await world.apply(...pushManifests(world.mazevault, NAMESPACE, "10s"));
  await prepareIssuers(world);
  await world.waitReady("keyvault.mazevault.io", NAMESPACE, NAMESPACE);
}
