/** What a Key Vault is asked in one cycle while nothing changes. */

import type { WritableObject } from "../../controllers/runtime/transport.ts";
import { secretManifest } from "../../e2e/harness.ts";
import type { VaultCounters } from "../../lab/keyvault/counters.ts";
import { azure } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import { type Result, tally } from "../result.ts";
import { IN_FLIGHT, mazevaultSecrets, type Stage, TENANT } from "../stage.ts";

const SECRETS = 250;
const KEYS = 4;
const ENTRIES = SECRETS * KEYS;
const INTERVAL_S = 20;
const QUIET_MS = 3_000;
const [VAULT] = azure.vaults;

export async function vaultIdle(stage: Stage): Promise<Result> {
  const result = await stage.withOperator({}, async (): Promise<Result> => {
    await inFlight(IN_FLIGHT, range(SECRETS), (index) =>
      stage.api.create(mazevaultSecrets, pushedSecret(index), { metadataOnly: true }),
    );
    const started = performance.now();
    await applyRule(stage);
    await stage.world.waitFor(
      "syncrule.mazevault.io",
      "bench",
      TENANT,
      ({ status }) => status?.inSync === ENTRIES,
      600_000,
    );
    const pushed = seconds(started);
    await quiet(stage);
    await stage.world.mazevault.keyVault.control.resetCounters();
    await until("the next cycle", async () => (await counters(stage))?.calls ?? 0, { timeoutMs: 120_000 });
    await quiet(stage);
    const cycle = await counters(stage);
    const operations = Object.fromEntries(
      Object.entries(cycle?.operations ?? {}).map(([operation, codes]) => [
        operation,
        Object.values(codes).reduce((sum, count) => sum + count, 0),
      ]),
    );
    return {
      name: `vault-idle-${ENTRIES}`,
      figures: [
        { what: "pushing all entries", value: pushed, unit: "s" },
        { what: "calls in one idle cycle", value: cycle?.calls ?? Number.NaN, unit: "calls", aim: { atMost: 41 } },
        { what: "values read", value: cycle?.valueReads ?? Number.NaN, unit: "", aim: { atMost: 0 } },
        { what: "writes", value: cycle?.writes ?? Number.NaN, unit: "", aim: { atMost: 0 } },
        ...tally("Key Vault:", operations, "calls"),
      ],
    };
  });
  await stage.world.kubectl("delete", "syncrules.mazevault.io,keyvaults.mazevault.io", "--all", "-n", TENANT);
  await stage.clear(TENANT);
  return result;
}

const pushedSecret = (index: number): WritableObject =>
  secretManifest(TENANT, `pushed-${index}`, {
    entries: range(KEYS).map((key) => ({ key: `key-${key}`, literal: `value-${index}-${key}` })),
  }) as WritableObject;

async function applyRule({ world }: Stage): Promise<void> {
  const { secret } = world.mazevault.servicePrincipal;
  const common = { apiVersion: "mazevault.io/v1", metadata: { name: "bench", namespace: TENANT } };
  const project = { projectRef: { name: TENANT } };
  await world.apply(
    { apiVersion: "v1", kind: "Secret", metadata: { name: "principal", namespace: TENANT }, stringData: { secret } },
    {
      ...common,
      kind: "KeyVault",
      spec: {
        ...project,
        vaultUrl: `https://${VAULT}.vault.azure.net/`,
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
        direction: "Push",
        interval: `${INTERVAL_S}s`,
        target: { keyVault: { ref: { name: "bench" } } },
      },
    },
  );
}

async function counters({ world }: Stage): Promise<VaultCounters | undefined> {
  return (await world.mazevault.keyVault.control.counters()).vaults[VAULT];
}

/** Waits until the vault was not called for a while: between two cycles. */
async function quiet(stage: Stage): Promise<void> {
  for (let before = -1, calls = 0; before !== calls; ) {
    before = calls;
    await pause(QUIET_MS);
    calls = (await counters(stage))?.calls ?? 0;
  }
}
