/**
 * A primary whose Key Vault is called by a gateway. Each has a stand-in for Azure of its own, so that of the one that only the
 * gateway reaches the log proves who called.
 */
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type Operator, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { asOne } from "../lab/supervised.ts";
import { ruleManifest } from "./chaos/manifests.ts";
import {
  conditionOf,
  decoded,
  type KubernetesObject,
  scrape,
  secretManifest,
  startWorld,
  total,
  type World,
} from "./harness.ts";
import { found, tables } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const GATEWAY = "gw-npr-primary";
const PUSH = "pushed";
const BOTH = "both";
const KEPT = "kept";
const TENANTS = [PUSH, BOTH, KEPT] as const;
const RULE = "syncrules.mazevault.io";
const KEY_VAULT = "keyvaults.mazevault.io";
const [VAULT, STORE] = azure.vaults;
const SOON = { timeoutMs: 60_000, intervalMs: 100 };

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
let rest: RestClient;
let session: string;
let looks = 0;

const url = (vault: string) => `https://${vault}.vault.azure.net/`;
/** Of the gateway's side: what the primary cannot reach. */
const there = () => cluster.mazevault.keyVault.control;

const keyVaultManifest = (namespace: string, name: string, vault: string, ref = GATEWAY): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name, namespace },
  spec: {
    projectRef: { name: namespace },
    vaultUrl: url(vault),
    auth: { gateway: { ref: { name: ref }, clientId: azure.managedIdentity } },
  },
});

const projectManifest = (name: string, spec: object): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name },
  spec: {
    keyVaults: [url(VAULT), url(STORE)],
    environments: [
      { name: "dev", gatewayEnvironment: "NPR" },
      { name: "pro", gatewayEnvironment: "PRO" },
      { name: "lab" },
    ],
    namespaces: [{ name, environments: ["dev", "pro", "lab"] }],
    ...spec,
  },
});

const secretOf = (namespace: string, name: string, entries: readonly object[]): object =>
  secretManifest(namespace, name, { environment: "dev", entries, deliver: {} });

async function startGateway(name: string, token?: string): Promise<void> {
  gateway = await cluster.mazevault.startGateway({
    name,
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      PRIMARY_BACKEND_URL: main.restUrl,
      ...(token !== undefined && { GATEWAY_BOOTSTRAP_TOKEN: token }),
    },
    config: { gateway: { primaryCaFile: primary.lab.pki.caFile } },
  });
}

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  operator = await primary.mazevault.startOperator();
  main = await primary.mazevault.startRest();
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await rest.login(email, password);
  const body = { name: GATEWAY, environment: "NPR" };
  const made = await until(
    "a token",
    async () => {
      const answer = await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body });
      return answer.status === 201 && (answer.body as { token: string });
    },
    SOON,
  );
  await startGateway("gateway", (made as { token: string }).token);
  for (const name of TENANTS) {
    await primary.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
    const environments = [{ name: "dev", gatewayEnvironment: "NPR", keyVault: { namespace: name, name: "store" } }];
    const namespaces = [{ name, environments: ["dev"] }];
    await primary.apply(
      projectManifest(name, name === KEPT ? { storage: "Orchestrator", environments, namespaces } : {}),
    );
    await primary.waitReady("projects.mazevault.io", name);
  }
});

afterAll(async () => {
  await rest?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

/** Values of each version of an entry, oldest first. */
async function versions(vault: string, name: string): Promise<readonly string[]> {
  return (await there().secrets(vault)).find((each) => each.name === name)?.versions.map(({ value }) => value) ?? [];
}

async function look(tenant: string): Promise<KubernetesObject> {
  looks += 1;
  const asked = String(looks);
  await primary.kubectl("-n", tenant, "annotate", "--overwrite", RULE, tenant, `mazevault.io/sync-now=${asked}`);
  return primary.waitFor(RULE, tenant, tenant, ({ status }) => status?.lastHandledSyncNow === asked, 60_000);
}

async function write(tenant: string, secret: string, values: Record<string, string>): Promise<void> {
  const path = `/api/v1/namespaces/${tenant}/secrets/${secret}/values`;
  const { status } = await rest.send("PUT", path, { token: session, body: { values } });
  expect(status).toBe(200);
}

/** The primary's side of Azure heard nothing at all. */
async function primaryCalledNobody(): Promise<void> {
  const { vaults, tokens } = await primary.mazevault.keyVault.control.counters();
  expect(Object.values(vaults).reduce((sum, { calls }) => sum + calls, 0)).toBe(0);
  expect(tokens).toEqual({});
}

test("a rule pushes through the gateway, which gets in with its managed identity", async () => {
  await primary.apply(
    keyVaultManifest(PUSH, PUSH, VAULT),
    ruleManifest(PUSH, {
      direction: "Push",
      environment: "dev",
      interval: "1h",
      target: { keyVault: { ref: { name: PUSH }, name: `${PUSH}-{secret}--{key}` } },
    }),
    secretOf(PUSH, "orders", [
      { key: "user", literal: "shop" },
      { key: "token", literal: "canary-of-a-pushed-value" },
    ]),
  );
  await primary.waitReady(KEY_VAULT, PUSH, PUSH, 60_000);
  await until("it is there", async () => (await versions(VAULT, `${PUSH}-orders--token`)).length > 0, SOON);
  await primary.waitReady(RULE, PUSH, PUSH);
  expect(await versions(VAULT, `${PUSH}-orders--token`)).toEqual(["canary-of-a-pushed-value"]);
  expect(await versions(VAULT, `${PUSH}-orders--user`)).toEqual(["shop"]);
  const { tokens } = await there().counters();
  expect(Object.keys(tokens)).toEqual(["instance-metadata"]);
  await primaryCalledNobody();
  const figures = await scrape(operator);
  expect(
    total(figures, "mazevault_gateway_tasks_total", { environment: "NPR", status: "Succeeded" }),
  ).toBeGreaterThanOrEqual(3);
  expect(total(figures, "mazevault_gateway_task_duration_seconds_count", { environment: "NPR" })).toBeGreaterThan(0);
});

/** Calls of the gateway to its side of Azure since the counters were reset, by operation. */
async function callsThere(vault: string): Promise<Readonly<Record<string, number>>> {
  const { operations = {} } = (await there().counters()).vaults[vault] ?? {};
  const sum = (answers: Readonly<Record<string, number>>) =>
    Object.values(answers).reduce((all, each) => all + each, 0);
  return Object.fromEntries(Object.entries(operations).map(([operation, answers]) => [operation, sum(answers)]));
}

async function costOfLook(): Promise<Readonly<Record<string, number>>> {
  await there().resetCounters();
  await look(PUSH);
  return callsThere(VAULT);
}

test("an idle cycle costs what it costs without a gateway: a list of each 25 entries, and no value", async () => {
  // What the first test began may still be on its way: the Key Vault itself is tried again when a rule begins to use it.
  await until("what a look costs", async () => isDeepStrictEqual(await costOfLook(), { SecretList: 1 }), SOON);
  for (let at = 0; at < 60; at += 1) await there().setSecret(VAULT, `of-others-${at}`, "value");
  expect(await costOfLook()).toEqual({ SecretList: 3 });
  expect((await there().counters()).vaults[VAULT]).toMatchObject({ valueReads: 0, writes: 0 });
});

test("both sides may change a value", async () => {
  await there().setSecret(VAULT, `${BOTH}-orders--token`, "from there");
  await primary.apply(
    keyVaultManifest(BOTH, BOTH, VAULT),
    ruleManifest(BOTH, {
      direction: "Bidirectional",
      conflictPolicy: "PlatformWins",
      environment: "dev",
      interval: "1h",
      target: { keyVault: { ref: { name: BOTH }, name: `${BOTH}-{secret}--{key}` } },
    }),
    secretOf(BOTH, "orders", [
      { key: "user", literal: "shop" },
      { key: "token", external: {} },
    ]),
  );
  const delivered = (value: string) => primary.waitFor("secret", "orders", BOTH, (it) => decoded(it).token === value);
  await delivered("from there");
  await primary.waitReady(RULE, BOTH, BOTH);
  await there().setSecret(VAULT, `${BOTH}-orders--token`, "changed there");
  await look(BOTH);
  await delivered("changed there");
  await write(BOTH, "orders", { token: "changed here" });
  await until(
    "it is there",
    async () => (await versions(VAULT, `${BOTH}-orders--token`)).at(-1) === "changed here",
    SOON,
  );
  expect(await versions(VAULT, `${BOTH}-orders--token`)).toEqual(["from there", "changed there", "changed here"]);
  await primaryCalledNobody();
});

test("storage Orchestrator has its values in a vault that only the gateway reaches", async () => {
  await primary.apply(
    keyVaultManifest(KEPT, "store", STORE),
    secretOf(KEPT, "orders", [
      { key: "user", literal: "shop" },
      { key: "token", external: {} },
    ]),
  );
  await primary.waitReady(KEY_VAULT, "store", KEPT, 60_000);
  // Until its controller has seen it nothing can be written to it.
  await primary.waitFor(
    "secrets.mazevault.io",
    "orders",
    KEPT,
    (it) => conditionOf(it, "Ready")?.reason === "ValueMissing",
    60_000,
  );
  await write(KEPT, "orders", { token: "canary-of-a-kept-value" });
  await primary.waitReady("secrets.mazevault.io", "orders", KEPT, 60_000);
  const path = `/api/v1/namespaces/${KEPT}/secrets/orders/values?key=token`;
  const { status, body } = await rest.send("GET", path, { token: session });
  expect([status, body.values]).toEqual([200, { token: "canary-of-a-kept-value" }]);
  const kept = (await there().secrets(STORE)).flatMap(({ versions: all }) => all.map(({ value }) => value));
  expect(kept).toContain("canary-of-a-kept-value");
  await primaryCalledNobody();
});

test.each([
  ["pro", "gateway gw-npr-primary works for NPR, and this is of PRO"],
  ["lab", "has no gatewayEnvironment for environment lab"],
])("nothing of environment %s goes through a gateway of NPR", async (environment, says) => {
  const name = `${environment}-through-npr`;
  const target = { keyVault: { ref: { name: PUSH }, name: `${name}-{secret}--{key}` } };
  const { metadata, ...rule } = ruleManifest(PUSH, { direction: "Push", environment, target }) as { metadata: object };
  await primary.apply(
    secretManifest(PUSH, name, { environment, entries: [{ key: "token", literal: `canary-of-${environment}` }] }),
    { ...rule, metadata: { ...metadata, name } },
  );
  const refused = await primary.waitFor(
    RULE,
    name,
    PUSH,
    (it) => conditionOf(it, "Ready")?.reason === "GatewayEnvironmentDiffers",
  );
  expect(conditionOf(refused, "Ready")?.message).toContain(says);
  await primary.kubectl("-n", PUSH, "delete", RULE, name);
  const canaries = new Map([[environment, Buffer.from(`canary-of-${environment}`)]]);
  const values = (await there().secrets(VAULT)).flatMap(({ versions: all }) => all.map(({ value }) => value));
  expect(found([["the vault", Buffer.from(values.join("\n"))], ...(await tables(cluster))], canaries)).toEqual([]);
});

test("a KeyVault of a project that has no gateway environment is refused", async () => {
  await primary.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "without" } });
  await primary.apply(
    projectManifest("without", {
      environments: [{ name: "dev" }],
      namespaces: [{ name: "without", environments: ["dev"] }],
    }),
  );
  await primary.waitReady("projects.mazevault.io", "without");
  await primary.apply(keyVaultManifest("without", "vault", VAULT));
  await primary.waitFor(
    KEY_VAULT,
    "vault",
    "without",
    (it) => conditionOf(it, "Ready")?.reason === "GatewayEnvironmentDiffers",
  );
  await primary.apply(keyVaultManifest(PUSH, "unknown", VAULT, "gw-unknown"));
  await primary.waitFor(
    KEY_VAULT,
    "unknown",
    PUSH,
    (it) => conditionOf(it, "Reachable")?.reason === "GatewayUnavailable",
  );
});

describe("in the middle of a push", () => {
  const entry = `${PUSH}-orders--token`;
  let round = 0;

  /** Changes the value; resolves when the gateway's call is under way at the vault, which lets it wait. */
  async function changeAndWaitForTheCall(
    milliseconds: number,
  ): Promise<{ readonly before: readonly string[]; readonly value: string }> {
    round += 1;
    const before = await versions(VAULT, entry);
    const value = `canary-of-round-${round}`;
    await there().setFaults([{ vault: VAULT, operation: "SecretSet", effect: { kind: "latency", milliseconds } }]);
    await primary.apply(
      secretOf(PUSH, "orders", [
        { key: "user", literal: "shop" },
        { key: "token", literal: value },
      ]),
    );
    await until("the call is under way", async () => (await calledRows()).length > 0, SOON);
    return { before, value };
  }

  const calledRows = () =>
    cluster.sql(
      "SELECT FROM audit WHERE action = 'VaultCallRequested' AND details ->> 'operation' = 'set' AND at > $1",
      [startedAt],
    );
  let startedAt: Date;

  beforeEach(async () => {
    const [row] = await cluster.sql<{ now: Date }>("SELECT clock_timestamp() AS now");
    startedAt = row?.now ?? new Date();
  });
  afterEach(() => there().setFaults([]));

  async function converges({
    before,
    value,
  }: {
    readonly before: readonly string[];
    readonly value: string;
  }): Promise<void> {
    await there().setFaults([]);
    await until("it is there", async () => (await versions(VAULT, entry)).at(-1) === value, {
      ...SOON,
      timeoutMs: 120_000,
    });
    await primary.waitReady(RULE, PUSH, PUSH, 120_000);
    await look(PUSH);
    await primary.waitReady(RULE, PUSH, PUSH);
    expect(await versions(VAULT, entry)).toEqual([...before, value]);
  }

  test("the primary dies: no version is doubled", async () => {
    const change = await changeAndWaitForTheCall(3_000);
    await asOne(operator.process, main.process).kill();
    await primary.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await converges(change);
  });

  test("the gateway dies: no version is doubled", async () => {
    const change = await changeAndWaitForTheCall(3_000);
    await gateway.process.kill();
    await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await converges(change);
  });

  test("the gateway stands still until its lease is over, and goes on: nothing is written twice, and no value was to be read", async () => {
    const interrupted = async () =>
      total(await scrape(operator), "mazevault_gateway_tasks_total", { status: "Interrupted" });
    const before = await interrupted();
    const change = await changeAndWaitForTheCall(2_000);
    gateway.process.pause();
    const waiting = await primary.sql("SELECT FROM tasks WHERE state = 'Claimed'");
    const atRest = await tables(primary);
    try {
      await until("the primary gives the task up", async () => (await interrupted()) > before, SOON);
    } finally {
      gateway.process.resume();
    }
    expect(waiting.length).toBeGreaterThan(0);
    const tasks = atRest.filter(([name]) => name === "table tasks");
    expect(tasks.map(([, content]) => content.includes("KeyVaultCall"))).toEqual([true]);
    expect(found(tasks, new Map([["the value", Buffer.from(change.value)]]))).toEqual([]);
    await converges(change);
  });

  test("a gateway that is away is told of, and what waits for it follows when it is back", async () => {
    await gateway.process.stop();
    const before = await versions(VAULT, entry);
    await primary.apply(
      secretOf(PUSH, "orders", [
        { key: "user", literal: "shop" },
        { key: "token", literal: "while it was away" },
      ]),
    );
    await primary.waitFor(
      RULE,
      PUSH,
      PUSH,
      (it) => conditionOf(it, "TargetReachable")?.reason === "GatewayUnavailable",
      60_000,
    );
    await gateway.process.start();
    await until("it is there", async () => (await versions(VAULT, entry)).length > before.length, {
      ...SOON,
      timeoutMs: 120_000,
    });
    expect(await versions(VAULT, entry)).toEqual([...before, "while it was away"]);
  });
});

test("no value is in a table or a log of either, nor is any task left", async () => {
  const canaries = new Map(["pushed-value", "kept-value"].map((name) => [name, Buffer.from(`canary-of-a-${name}`)]));
  for (const at of [1, 2, 3]) canaries.set(`round-${at}`, Buffer.from(`canary-of-round-${at}`));
  const surfaces = [
    ...(await tables(primary)),
    ...(await tables(cluster)),
    ...[operator, main].map(({ process }) => [`log of ${process.name}`, readFileSync(process.logFile)] as const),
    ["log of the gateway", readFileSync(gateway.process.logFile)] as const,
  ];
  expect(found(surfaces, canaries)).toEqual([]);
  // Of a primary that died a task stays for a minute and a half.
  const gone = async () => (await primary.sql("SELECT FROM tasks")).length === 0;
  await until("no task is left", gone, { timeoutMs: 150_000, intervalMs: 500 });
});
