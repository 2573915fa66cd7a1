/** What keeping 10,000 secrets in step with 20 Key Vaults costs, and how soon a change is on the other side. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { coreSecrets, type KubernetesObject } from "../../controllers/runtime/resource-type.ts";
import type { WritableObject } from "../../controllers/runtime/transport.ts";
import { secretManifest } from "../../e2e/harness.ts";
import { RestClient } from "../../e2e/rest-client.ts";
import type { VaultCounters } from "../../lab/keyvault/counters.ts";
import { azure, type Operator, type Rest } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { costOf } from "../cost.ts";
import { inFlight, percentile, range, seconds } from "../in-flight.ts";
import type { Figure, Result } from "../result.ts";
import { IN_FLIGHT, mazevaultSecrets, type Stage, TENANT } from "../stage.ts";
import { ChangeWatch } from "../watch.ts";

const VAULTS = [...azure.vaults, ...azure.moreVaults];
const KEYS = 10;
const DEFAULT_BUDGET = 400;
const WIDE_BUDGET = 4_000;
const CALLS_PER_CHANGE = 2;
const STORM_MS = 60_000;
const CPU_MS = 30_000;
const LONGEST_MS = 1_200_000;
const BY_EVENT = 12;
const BY_LOOK = 3;
/** A rule looks once in this time, however many events come. */
const EVENTS_APART_MS = 5_500;
const TOKEN = "be".repeat(32);

const SECRET = "secret.mazevault.io";
const RULE = "syncrule.mazevault.io";
const KEY_VAULT = "keyvault.mazevault.io";

interface CoreSecret extends KubernetesObject {
  readonly data?: Readonly<Record<string, string>>;
}

export async function sync(stage: Stage): Promise<Result> {
  const { many, changes } = stage.sizes;
  const perVault = Math.max(1, Math.round(many / KEYS / VAULTS.length));
  const bench = new SyncBench(stage, perVault);
  const eventTokensFile = path.join(stage.world.lab.dir, "event-tokens");
  writeFileSync(eventTokensFile, `${TOKEN}\n`);
  const figures: Figure[] = [];
  await stage.withOperator({}, async (operator) => {
    const started = performance.now();
    await bench.build();
    figures.push({ what: `pushing ${bench.entries} entries`, value: seconds(started), unit: "s" });
    stage.report("sync: an idle cycle");
    figures.push(...(await bench.idleCycle()), ...(await bench.cost(operator)));
    await bench.budget(DEFAULT_BUDGET);
    stage.report("sync: single changes");
    figures.push(...spread("idle", await bench.singleChanges(changes)));
    stage.report("sync: a thousand changes");
    figures.push(...(await bench.thousand()));
    stage.report("sync: a minute of 429");
    figures.push(...(await bench.storm()));
  });
  // Every rule looks all the time, and every Secret is looked at again all the time.
  stage.report("sync: single changes under load");
  await bench.interval("10s");
  await stage.withOperator({ config: { controllers: { resyncMs: 1_000 } } }, async () => {
    await bench.allInStep();
    figures.push(...spread("loaded", await bench.singleChanges(changes), { atMost: 2_000 }));
  });
  stage.report("sync: from the vault to here");
  await bench.interval("1h");
  await stage.withRest({ config: { rest: { eventTokensFile } } }, async (rest) => {
    await bench.allInStep();
    for (const direction of ["Pull", "Bidirectional"] as const) figures.push(...(await bench.back(rest, direction)));
  });
  await stage.world.kubectl("delete", "syncrules.mazevault.io,keyvaults.mazevault.io", "--all", "-n", TENANT);
  await stage.clear(TENANT);
  return { name: `sync-${bench.entries}`, figures };
}

class SyncBench {
  readonly #stage: Stage;
  readonly #perVault: number;
  #round = 0;

  constructor(stage: Stage, perVault: number) {
    this.#stage = stage;
    this.#perVault = perVault;
  }

  get entries(): number {
    return this.#perVault * KEYS * VAULTS.length;
  }

  get #world() {
    return this.#stage.world;
  }

  get #control() {
    return this.#world.mazevault.keyVault.control;
  }

  async build(): Promise<void> {
    await inFlight(IN_FLIGHT, range(VAULTS.length * this.#perVault), (index) =>
      this.#stage.api.create(mazevaultSecrets, this.#secret(index, "first"), { metadataOnly: true }),
    );
    const { secret } = this.#world.mazevault.servicePrincipal;
    await this.#world.apply({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "principal", namespace: TENANT },
      stringData: { secret },
    });
    for (const at of range(VAULTS.length)) {
      await this.#world.apply(keyVault(at), rule(`v${at}`, at, { vault: `v${at}` }, { direction: "Push" }));
    }
    await this.allInStep();
  }

  /** Secrets go round the vaults. */
  #secret(index: number, value: string): WritableObject {
    const entries = range(KEYS).map((key) => ({ key: `k${key}`, literal: `${value}-${index}-${key}` }));
    const manifest = secretManifest(TENANT, `s-${index}`, { entries }) as WritableObject;
    return { ...manifest, metadata: { ...manifest.metadata, labels: { vault: `v${index % VAULTS.length}` } } };
  }

  async allInStep(): Promise<void> {
    const entries = this.#perVault * KEYS;
    for (const at of range(VAULTS.length)) {
      await this.#world.waitFor(
        RULE,
        `v${at}`,
        TENANT,
        ({ metadata, status }) => status?.inSync === entries && status.observedGeneration === metadata.generation,
        LONGEST_MS,
      );
    }
  }

  async idleCycle(): Promise<Figure[]> {
    await this.#look();
    await this.#control.resetCounters();
    await this.#look();
    const counted = await this.#counted();
    // A look lists whatever is in the vault, also what a measurement before has left there.
    const held = await Promise.all(VAULTS.map((vault) => this.#control.secrets(vault)));
    const pages = held.reduce((all, entries) => all + Math.ceil(entries.length / 25), 0);
    return [
      {
        what: `idle cycle over ${VAULTS.length} vaults: calls`,
        value: sum(counted, ({ calls }) => calls),
        unit: "calls",
        aim: { atMost: pages + VAULTS.length },
      },
      { what: "idle cycle: values read", value: sum(counted, (each) => each.valueReads), unit: "", aim: { atMost: 0 } },
      { what: "idle cycle: writes", value: sum(counted, ({ writes }) => writes), unit: "", aim: { atMost: 0 } },
    ];
  }

  async #look(): Promise<void> {
    this.#round += 1;
    const token = String(this.#round);
    await this.#world.kubectl("-n", TENANT, "annotate", "--overwrite", RULE, "--all", `mazevault.io/sync-now=${token}`);
    for (const at of range(VAULTS.length)) {
      await this.#world.waitFor(
        RULE,
        `v${at}`,
        TENANT,
        ({ status }) => status?.lastHandledSyncNow === token,
        LONGEST_MS,
      );
    }
  }

  async cost(operator: Operator): Promise<Figure[]> {
    const before = await costOf(operator);
    const started = performance.now();
    await pause(CPU_MS);
    const after = await costOf(operator);
    const share = (after.cpuSeconds - before.cpuSeconds) / seconds(started);
    return [
      { what: "operator: CPU seconds in a second, idle", value: share, unit: "s" },
      { what: "operator: resident memory", value: after.rssMiB, unit: "MiB" },
    ];
  }

  async budget(callsPer10Seconds: number): Promise<void> {
    const patch = JSON.stringify({ spec: { budget: { callsPer10Seconds } } });
    for (const at of range(VAULTS.length)) {
      await this.#world.kubectl("-n", TENANT, "patch", KEY_VAULT, `v${at}`, "--type=merge", "-p", patch);
      await this.#world.waitReady(KEY_VAULT, `v${at}`, TENANT, 60_000);
    }
  }

  async interval(interval: string): Promise<void> {
    const patch = JSON.stringify({ spec: { interval } });
    for (const at of range(VAULTS.length)) {
      await this.#world.kubectl("-n", TENANT, "patch", RULE, `v${at}`, "--type=merge", "-p", patch);
    }
  }

  /** Milliseconds from the acknowledgement of each change until the vault has written it, one after the other. */
  async singleChanges(count: number): Promise<number[]> {
    const times: number[] = [];
    for (const turn of range(count)) {
      const index = Math.floor((turn * VAULTS.length * this.#perVault) / count);
      const vault = VAULTS[index % VAULTS.length] ?? "";
      const { writes } = await this.#countedAt(vault);
      this.#round += 1;
      const { spec = {} } = await this.#world.get(SECRET, `s-${index}`, TENANT);
      const [, ...others] = spec.entries as object[];
      const patch = { spec: { entries: [{ key: "k0", literal: `r${this.#round}` }, ...others] } };
      await this.#stage.api.mergePatch(mazevaultSecrets, { namespace: TENANT, name: `s-${index}` }, patch);
      const acknowledged = performance.now();
      await until("the change is written", async () => (await this.#countedAt(vault)).writes > writes, {
        timeoutMs: LONGEST_MS,
        intervalMs: 5,
      });
      times.push(performance.now() - acknowledged);
    }
    return times;
  }

  /** As many in two vaults as make a thousand, or all that there are. */
  async thousand(): Promise<Figure[]> {
    const secrets = range(VAULTS.length * this.#perVault).filter((index) => index % VAULTS.length < 2);
    const changed = secrets.slice(0, 1_000 / KEYS);
    const [one = 0, other = 0] = [0, 1].map(
      (at) => changed.filter((index) => index % VAULTS.length === at).length * KEYS,
    );
    const calls = Math.max(one, other) * CALLS_PER_CHANGE;
    await pause(11_000);
    await this.#control.resetCounters();
    const started = performance.now();
    await this.#change(changed);
    await this.#written(changed.length * KEYS);
    const took = seconds(started);
    const counted = await this.#counted();
    return [
      { what: `${changed.length * KEYS} changed entries in two vaults: pushed`, value: took, unit: "s" },
      {
        what: "what the budget makes of it at the least",
        value: Math.max(0, Math.ceil(calls / DEFAULT_BUDGET) - 1) * 10,
        unit: "s",
      },
      peak(counted, "1,000 changed"),
    ];
  }

  async storm(): Promise<Figure[]> {
    await pause(11_000);
    await this.#control.resetCounters();
    await this.#control.setFaults([{ effect: { kind: "status", status: 429 } }]);
    const changed = range(VAULTS.length);
    await this.#change(changed);
    await pause(STORM_MS);
    const refused = sum(await this.#counted(), ({ calls }) => calls);
    await this.#control.setFaults([]);
    const started = performance.now();
    await this.#written(changed.length * KEYS);
    return [
      { what: "60 s of 429: calls to all vaults meanwhile", value: refused, unit: "calls" },
      { what: "60 s of 429: all in place afterwards", value: seconds(started), unit: "s", aim: { atMost: 30 } },
      peak(await this.#counted(), "60 s of 429"),
    ];
  }

  async #change(indexes: readonly number[]): Promise<void> {
    this.#round += 1;
    await inFlight(IN_FLIGHT, indexes, (index) => {
      const { spec } = this.#secret(index, `r${this.#round}`) as WritableObject & { spec: object };
      return this.#stage.api.mergePatch(mazevaultSecrets, { namespace: TENANT, name: `s-${index}` }, { spec });
    });
  }

  async #written(writes: number): Promise<void> {
    await until("all are written", async () => sum(await this.#counted(), (each) => each.writes) >= writes, {
      timeoutMs: LONGEST_MS,
      intervalMs: 20,
    });
  }

  /** From the vault to the core Secret, by looking and by event. */
  async back(surface: Rest, direction: "Pull" | "Bidirectional"): Promise<Figure[]> {
    const vault = VAULTS.at(-1) ?? "";
    const name = `back-${direction.toLowerCase()}`;
    const entry = `${name}--token`;
    await this.#control.setSecret(vault, entry, "first");
    const policy = direction === "Bidirectional" ? { conflictPolicy: "TargetWins" } : {};
    const manifest = secretManifest(TENANT, name, { entries: [{ key: "token", external: {} }], deliver: {} });
    await this.#world.apply(
      manifest,
      rule(name, VAULTS.length - 1, undefined, { direction, ...policy, secrets: { names: [name] }, interval: "1h" }),
    );
    await this.#world.waitReady(RULE, name, TENANT, 60_000);
    const rest = RestClient.of(this.#world, surface);
    const told = { headers: { "x-mazevault-event-token": TOKEN } };
    const event = [{ eventType: "Microsoft.KeyVault.SecretNewVersionCreated", data: { VaultName: vault } }];
    const byEvent = await this.#backTimes(vault, name, BY_EVENT, EVENTS_APART_MS, async () => {
      await rest.send("POST", "/api/v1/events/key-vault", { ...told, body: event });
    });
    await rest.close();
    await this.#world.kubectl("-n", TENANT, "patch", RULE, name, "--type=merge", "-p", '{"spec":{"interval":"10s"}}');
    const byLook = await this.#backTimes(vault, name, BY_LOOK, 0, async () => {});
    await this.#world.kubectl("-n", TENANT, "delete", RULE, name);
    return [
      {
        what: `${direction}: changed in the vault until here, by event, p50`,
        value: percentile(byEvent, 0.5),
        unit: "ms",
      },
      { what: `${direction}: by event, the longest of ${BY_EVENT}`, value: Math.max(...byEvent), unit: "ms" },
      { what: `${direction}: by look each 10 s, the longest of ${BY_LOOK}`, value: Math.max(...byLook), unit: "ms" },
    ];
  }

  async #backTimes(
    vault: string,
    name: string,
    count: number,
    apartMs: number,
    tell: () => Promise<void>,
  ): Promise<number[]> {
    const cores = await ChangeWatch.open<CoreSecret>(this.#stage.api, coreSecrets, TENANT);
    const times: number[] = [];
    for (const _ of range(count)) {
      await pause(apartMs);
      this.#round += 1;
      const value = `back-${this.#round}`;
      const data = Buffer.from(value).toString("base64");
      const here = cores.when(name, (object) => object.data?.token === data);
      await this.#control.setSecret(vault, `${name}--token`, value);
      const changed = performance.now();
      await tell();
      times.push(Math.max(0, (await here) - changed));
    }
    cores.close();
    return times;
  }

  async #counted(): Promise<readonly VaultCounters[]> {
    return Object.values((await this.#control.counters()).vaults);
  }

  async #countedAt(vault: string): Promise<Pick<VaultCounters, "writes">> {
    return (await this.#control.counters()).vaults[vault] ?? { writes: 0 };
  }
}

const keyVault = (at: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name: `v${at}`, namespace: TENANT },
  spec: {
    projectRef: { name: TENANT },
    vaultUrl: `https://${VAULTS[at]}.vault.azure.net/`,
    auth: {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
    budget: { callsPer10Seconds: WIDE_BUDGET },
  },
});

const rule = (
  name: string,
  at: number,
  labels: Readonly<Record<string, string>> | undefined,
  spec: object,
): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name, namespace: TENANT },
  spec: {
    projectRef: { name: TENANT },
    environment: "pro",
    ...(labels && { secrets: { selector: { matchLabels: labels } } }),
    target: { keyVault: { ref: { name: `v${at}` } } },
    interval: "1h",
    ...spec,
  },
});

const sum = (counted: readonly VaultCounters[], of: (each: VaultCounters) => number): number =>
  counted.reduce((all, each) => all + of(each), 0);

const peak = (counted: readonly VaultCounters[], what: string): Figure => ({
  what: `${what}: most calls to one vault in 10 s`,
  value: Math.max(0, ...counted.map((each) => each.peakCallsIn10Seconds)),
  unit: "calls",
  aim: { atMost: DEFAULT_BUDGET },
});

const spread = (label: string, times: readonly number[], aim?: Figure["aim"]): Figure[] => [
  { what: `${label}: single changes`, value: times.length, unit: "" },
  { what: `${label}: applied until in the vault, p50`, value: percentile(times, 0.5), unit: "ms" },
  {
    what: `${label}: applied until in the vault, p99`,
    value: percentile(times, 0.99),
    unit: "ms",
    ...(aim && { aim }),
  },
];
