/** What a Key Vault is asked in one cycle while nothing changes. */

import type { WritableObject } from "../../controllers/runtime/transport.ts";
import { secretManifest } from "../../e2e/harness.ts";
import type { VaultCounters } from "../../lab/keyvault/counters.ts";
import { azure } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import { type Figure, type Result, tally } from "../result.ts";
import { IN_FLIGHT, mazevaultSecrets, type Stage, TENANT } from "../stage.ts";

const SECRETS = 250;
const KEYS = 4;
const ENTRIES = SECRETS * KEYS;
const INTERVAL_S = 20;
const QUIET_MS = 3_000;
type Direction = "Push" | "Pull" | "Bidirectional";
const vaults: Readonly<Record<Direction, string>> = {
  Push: azure.vaults[0],
  Pull: azure.vaults[1],
  Bidirectional: azure.moreVaults[0] ?? "",
};

export async function vaultIdle(stage: Stage): Promise<Result> {
  const figures: Figure[] = [];
  await stage.withOperator({}, async () => {
    const { secret } = stage.world.mazevault.servicePrincipal;
    const metadata = { name: "principal", namespace: TENANT };
    await stage.world.apply({ apiVersion: "v1", kind: "Secret", metadata, stringData: { secret } });
    for (const direction of ["Push", "Pull", "Bidirectional"] as const) figures.push(...(await idle(stage, direction)));
  });
  await stage.world.kubectl("delete", "syncrules.mazevault.io,keyvaults.mazevault.io", "--all", "-n", TENANT);
  await stage.clear(TENANT);
  return { name: `vault-idle-${ENTRIES}`, figures };
}

async function idle(stage: Stage, direction: Direction): Promise<Figure[]> {
  const vault = vaults[direction];
  const { control } = stage.world.mazevault.keyVault;
  const calls = async (): Promise<VaultCounters | undefined> => (await control.counters()).vaults[vault];
  if (direction === "Pull") {
    const names = range(SECRETS).flatMap((index) =>
      range(KEYS).map((key) => `${nameOf(direction, index)}--key-${key}`),
    );
    await inFlight(IN_FLIGHT, names, (name) => control.setSecret(vault, name, name));
  }
  await inFlight(IN_FLIGHT, range(SECRETS), (index) =>
    stage.api.create(mazevaultSecrets, secret(direction, index), { metadataOnly: true }),
  );
  const started = performance.now();
  await applyRule(stage, direction);
  await stage.world.waitFor(
    "syncrule.mazevault.io",
    direction.toLowerCase(),
    TENANT,
    ({ status }) => status?.inSync === ENTRIES,
    600_000,
  );
  const took = seconds(started);
  const nextCycle = async (): Promise<VaultCounters | undefined> => {
    await control.resetCounters();
    await until("the next cycle", async () => (await calls())?.calls ?? 0, { timeoutMs: 120_000 });
    await quiet(calls);
    return calls();
  };
  await quiet(calls);
  // Key Vault's times have seconds: what was written in the second of a look is read once more by the next one.
  const again = await nextCycle();
  const cycle = await nextCycle();
  const operations = Object.fromEntries(
    Object.entries(cycle?.operations ?? {}).map(([operation, codes]) => [
      operation,
      Object.values(codes).reduce((sum, count) => sum + count, 0),
    ]),
  );
  return [
    { what: `${direction}: until all are in step`, value: took, unit: "s" },
    { what: `${direction}: values read by the cycle after that`, value: again?.valueReads ?? Number.NaN, unit: "" },
    {
      what: `${direction}: calls in one idle cycle`,
      value: cycle?.calls ?? Number.NaN,
      unit: "calls",
      aim: { atMost: 41 },
    },
    { what: `${direction}: values read`, value: cycle?.valueReads ?? Number.NaN, unit: "", aim: { atMost: 0 } },
    { what: `${direction}: writes`, value: cycle?.writes ?? Number.NaN, unit: "", aim: { atMost: 0 } },
    ...tally(`${direction}:`, operations, "calls"),
  ];
}

const nameOf = (direction: Direction, index: number): string => `${direction.toLowerCase()}-${index}`;

const secret = (direction: Direction, index: number): WritableObject => {
  const content = {
    Push: (key: number) => ({ literal: `value-${index}-${key}` }),
    Pull: () => ({ external: {} }),
    Bidirectional: () => ({ generate: { kind: "Hex" } }),
  }[direction];
  const entries = range(KEYS).map((key) => ({ key: `key-${key}`, ...content(key) }));
  return secretManifest(TENANT, nameOf(direction, index), { entries }) as WritableObject;
};

async function applyRule({ world }: Stage, direction: Direction): Promise<void> {
  const name = direction.toLowerCase();
  const common = { apiVersion: "mazevault.io/v1", metadata: { name, namespace: TENANT } };
  const project = { projectRef: { name: TENANT } };
  await world.apply(
    {
      ...common,
      kind: "KeyVault",
      spec: {
        ...project,
        vaultUrl: `https://${vaults[direction]}.vault.azure.net/`,
        auth: {
          servicePrincipal: {
            tenantId: azure.tenantId,
            clientId: azure.servicePrincipal,
            clientSecretRef: { name: "principal", key: "secret" },
          },
        },
        budget: { callsPer10Seconds: 4_000 },
      },
    },
    {
      ...common,
      kind: "SyncRule",
      spec: {
        ...project,
        environment: "pro",
        direction,
        secrets: { names: [`${name}-*`] },
        interval: `${INTERVAL_S}s`,
        ...(direction === "Bidirectional" && { conflictPolicy: "PlatformWins" }),
        target: { keyVault: { ref: { name } } },
      },
    },
  );
}

/** Waits until the vault was not called for a while: between two cycles. */
async function quiet(counted: () => Promise<VaultCounters | undefined>): Promise<void> {
  for (let before = -1, calls = 0; before !== calls; ) {
    before = calls;
    await pause(QUIET_MS);
    calls = (await counted())?.calls ?? 0;
  }
}
