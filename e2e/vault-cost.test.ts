/**
 * What a Key Vault is called, by the counters of the stand-in: next to nothing while nothing changes, never more than the
 * budget, a person's change before everything that can wait, and across a change of leaders.
 */
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { conditionOf, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";

const TEAM = "cost";
const SECRETS = 20;
const KEYS = 50;
const ENTRIES = SECRETS * KEYS;
const [vault, other] = azure.vaults;
/** `npm run test:chaos` has a minute. */
const STORM_S = Number(process.env.STORM_SECONDS ?? 5);

const KEY_VAULT = "keyvault.mazevault.io";
const RULE = "syncrule.mazevault.io";
const api = "mazevault.io/v1";

let world: World;
let operator: Operator;
let round = 0;
let looks = 0;

const control = () => world.mazevault.keyVault.control;
const counters = async (name: string = vault) =>
  (await control().counters()).vaults[name] ?? { calls: 0, valueReads: 0, writes: 0, peakCallsIn10Seconds: 0 };

const keyVault = (name: string, callsPer10Seconds: number, of: string = vault): object => ({
  apiVersion: api,
  kind: "KeyVault",
  metadata: { name, namespace: TEAM },
  spec: {
    projectRef: { name: TEAM },
    vaultUrl: `https://${of}.vault.azure.net/`,
    auth: {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
    budget: { callsPer10Seconds },
  },
});

const rule = (name: string, direction: string, labels: object, interval = "1h"): object => ({
  apiVersion: api,
  kind: "SyncRule",
  metadata: { name, namespace: TEAM },
  spec: {
    projectRef: { name: TEAM },
    environment: "pro",
    direction,
    ...(direction === "Bidirectional" && { conflictPolicy: "PlatformWins" }),
    secrets: { selector: { matchLabels: labels } },
    target: { keyVault: { ref: { name } } },
    interval,
  },
});

const keys = Array.from({ length: KEYS }, (_, index) => `k${index}`);
const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
const labelled = (name: string, side: string, entries: object[]): object => {
  const manifest = secretManifest(TEAM, name, { entries }) as { metadata: object };
  return { ...manifest, metadata: { ...manifest.metadata, labels: { side } } };
};

/** Changes every entry of these Secrets. */
async function change(secrets: readonly string[] = names("s", SECRETS)): Promise<void> {
  round += 1;
  const entries = keys.map((key) => ({ key, literal: `round ${round}` }));
  for (const name of secrets) await world.apply(labelled(name, "push", entries));
}

const inVault = async (prefix: string) =>
  (await control().secrets(vault))
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ versions }) => versions.at(-1)?.value);

async function inPlace(prefix = "s-"): Promise<boolean> {
  const values = await inVault(prefix);
  return values.length > 0 && values.every((value) => value === `round ${round}`);
}

const setBudget = async (name: string, calls: number): Promise<void> => {
  const patch = JSON.stringify({ spec: { budget: { callsPer10Seconds: calls } } });
  await world.kubectl("-n", TEAM, "patch", KEY_VAULT, name, "--type=merge", "-p", patch);
  await world.waitReady(KEY_VAULT, name, TEAM);
};

async function look(name: string): Promise<KubernetesObject> {
  looks += 1;
  const token = String(looks);
  await world.kubectl("-n", TEAM, "annotate", "--overwrite", RULE, name, `mazevault.io/sync-now=${token}`);
  return world.waitFor(RULE, name, TEAM, ({ status }) => status?.lastHandledSyncNow === token, 60_000);
}

/** What one look costs, once what was just written is settled. */
async function idleLook(name: string, of: string, entries: number) {
  await until(
    "an idle look",
    async () => {
      await control().resetCounters();
      await look(name);
      return (await counters(of)).calls <= entries / 25 + 1;
    },
    { timeoutMs: 40_000 },
  );
  const { calls, valueReads, writes } = await counters(of);
  // The service adds an empty page now and then.
  return { pages: Math.min(calls, entries / 25), valueReads, writes };
}

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  await world.tenant(TEAM);
  await world.apply(
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "principal", namespace: TEAM },
      stringData: { secret: world.mazevault.servicePrincipal.secret },
    },
    keyVault("push", 2_000),
    keyVault("both", 4_000, other),
  );
});

afterAll(() => world?.stop());

test("a thousand changes are pushed within the budget", async () => {
  await world.apply(rule("push", "Push", { side: "push" }));
  await change();
  await until("the thousand in place", async () => (await inVault("s-")).length === ENTRIES && inPlace(), {
    timeoutMs: 90_000,
  });
  expect((await counters()).peakCallsIn10Seconds).toBeLessThanOrEqual(2_000);
});

test("an idle look at a thousand entries lists 40 pages, and neither reads a value nor writes", async () => {
  await world.waitReady(RULE, "push", TEAM);
  expect(await idleLook("push", vault, ENTRIES)).toEqual({ pages: 40, valueReads: 0, writes: 0 });
});

test.each([
  { direction: "Bidirectional", entry: { generate: { kind: "Hex" } } },
  { direction: "Pull", entry: { external: {} } },
])("so it is with direction $direction", async ({ direction, entry }) => {
  const both = names("b", 4);
  for (const name of both)
    await world.apply(
      labelled(
        name,
        "both",
        keys.map((key) => ({ key, ...entry })),
      ),
    );
  await world.apply(rule("both", direction, { side: "both" }));
  await world.waitReady(RULE, "both", TEAM, 60_000);
  expect(await idleLook("both", other, 4 * KEYS)).toEqual({ pages: 8, valueReads: 0, writes: 0 });
  await world.kubectl("-n", TEAM, "delete", RULE, "both");
});

test("a KeyVault tells what it costs, and warns when that is more than its budget", async () => {
  const told = await world.waitFor(KEY_VAULT, "push", TEAM, ({ status }) => status?.secrets === ENTRIES);
  expect(told.status?.forecastCallsPerDay).toBe(40 * 24 + 288);
  expect(conditionOf(told, "Affordable")?.status).toBe("True");
  const { resourceVersion } = told.metadata;
  await look("push");
  expect((await world.get(KEY_VAULT, "push", TEAM)).metadata.resourceVersion).toBe(resourceVersion);
  await setBudget("push", 39);
  await world.apply(rule("push", "Push", { side: "push" }, "10s"));
  const warned = await world.waitFor(
    KEY_VAULT,
    "push",
    TEAM,
    (it) => conditionOf(it, "Affordable")?.reason === "ForecastExceedsBudget",
  );
  expect(conditionOf(warned, "Ready")?.status).toBe("True");
  await world.apply(rule("push", "Push", { side: "push" }));
  await setBudget("push", 500);
  await world.waitFor(KEY_VAULT, "push", TEAM, (it) => conditionOf(it, "Affordable")?.status === "True");
});

test("a person's change is written while hundreds of entries wait to be healed", async () => {
  const drifted = names("s", 6).flatMap((secret) => keys.map((key) => `${secret}--${key}`));
  for (const name of drifted) await control().setSecret(vault, name, "by hand");
  await setBudget("push", 200);
  looks += 1;
  await world.kubectl("-n", TEAM, "annotate", "--overwrite", RULE, "push", `mazevault.io/sync-now=${looks}`);
  const byHand = async () => (await inVault("s-")).filter((value) => value === "by hand").length;
  await until("healing begins", async () => (await byHand()) < drifted.length, { timeoutMs: 30_000 });
  const entries = keys.map((key) => ({ key, literal: key === "k49" ? "urgent" : `round ${round}` }));
  await world.apply(labelled("s-19", "push", entries));
  const written = async () => (await inVault("s-19--k49")).includes("urgent");
  await until("the change is written", written, { timeoutMs: 60_000, intervalMs: 50 });
  expect(await byHand()).toBeGreaterThan(drifted.length / 2);
  await setBudget("push", 2_000);
  await until("everything is healed", async () => (await byHand()) === 0, { timeoutMs: 60_000 });
});

test("a vault that throttles every call gets nothing, and all is in place soon after", async () => {
  await control().resetCounters();
  await control().setFaults([{ vault, effect: { kind: "status", status: 429 } }]);
  const stormEnds = Date.now() + STORM_S * 1_000;
  await change(["s-0", "s-1"]);
  await until("the storm is over", async () => Date.now() >= stormEnds, { timeoutMs: STORM_S * 1_000 + 10_000 });
  expect((await counters()).writes).toBe(0);
  await control().setFaults([]);
  const healed = async () => (await inPlace("s-0--")) && (await inPlace("s-1--"));
  await until("all is in place", healed, { timeoutMs: 90_000 });
  expect((await counters()).peakCallsIn10Seconds).toBeLessThanOrEqual(2_000);
});

test("whoever takes over goes on with what the one before has left of the budget", async () => {
  await world.waitReady(RULE, "push", TEAM, 60_000);
  await setBudget("push", 120);
  // Of the time before it was lowered.
  await until(
    "the window is empty",
    async () => (await world.sql("SELECT FROM vault_calls WHERE until > now()")).length === 0,
    {
      timeoutMs: 30_000,
    },
  );
  await control().resetCounters();
  await change(["s-0"]);
  await until("most of a window is spent", async () => (await counters()).calls >= 80, { timeoutMs: 30_000 });
  // It hands the lease over at once, with most of its calls still counting.
  await operator.process.stop();
  operator = await world.mazevault.startOperator({ name: "successor" });
  await until("all is in place", () => inPlace("s-0--"), { timeoutMs: 90_000 });
  expect((await counters()).peakCallsIn10Seconds).toBeLessThanOrEqual(120);
});
