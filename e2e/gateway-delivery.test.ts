/** A primary whose Secrets become core Secrets in the cluster of a gateway: target.gateway. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator, Program, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { consumerManifest } from "./chaos/manifests.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { found, tables } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const GATEWAY = "gw-npr-primary";
const RULE = "syncrules.mazevault.io";
const TENANT = "pay";
const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const FAILPOINTS = ["gatewayDelivery.beforeTask", "gatewayDelivery.afterTask", "gatewayDelivery.afterRecord"];
const FAILPOINTS_THERE = ["delivery.beforeDeliver", "delivery.afterDeliver", "delivery.afterWorkloadRestart"];
const CANARY = "canary-of-a-value-on-the-way";

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
let rest: RestClient;
let session: string;
let folder: string;

const failpointFile = (world: World): string => path.join(world.lab.dir, "failpoint");

async function startGateway(name: string, token?: string): Promise<void> {
  gateway = await cluster.mazevault.startGateway({
    name,
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      PRIMARY_BACKEND_URL: main.restUrl,
      MAZEVAULT_FAILPOINT_FILE: failpointFile(cluster),
      ...(token !== undefined && { GATEWAY_BOOTSTRAP_TOKEN: token }),
    },
    config: { gateway: { primaryCaFile: primary.lab.pki.caFile } },
  });
}

const namespace = (name: string): object => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });

const project = (name: string, environments: readonly object[]): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name },
  spec: { environments, namespaces: [{ name, environments: ["dev", "pro"] }] },
});

const HERE = [
  { name: "dev", gatewayEnvironment: "NPR" },
  { name: "pro", gatewayEnvironment: "PRO" },
];
const THERE = [{ name: "dev" }, { name: "pro" }];

const secret = (name: string, password: string, environment = "dev"): object =>
  secretManifest(TENANT, name, {
    environment,
    entries: [
      { key: "user", literal: "app" },
      { key: "password", literal: password },
    ],
  });

const rule = (name: string, kubernetes: object = {}, spec: object = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name, namespace: TENANT },
  spec: {
    projectRef: { name: TENANT },
    environment: "dev",
    secrets: { names: [name] },
    direction: "Push",
    target: { gateway: { ref: { name: GATEWAY }, kubernetes: { namespace: TENANT, ...kubernetes } } },
    ...spec,
  },
});

const has = (name: string, password: string): Promise<KubernetesObject> =>
  cluster.waitFor("secret", name, TENANT, (it) => decoded(it).password === password, 60_000);

const told = (name: string, type: string, reason: string): Promise<KubernetesObject> =>
  primary.waitFor(RULE, name, TENANT, (it) => conditionOf(it, type)?.reason === reason, 60_000);

let looks = 0;
async function look(name: string): Promise<KubernetesObject> {
  looks += 1;
  const asked = String(looks);
  await primary.kubectl("-n", TENANT, "annotate", "--overwrite", RULE, name, `mazevault.io/sync-now=${asked}`);
  return primary.waitFor(RULE, name, TENANT, ({ status }) => status?.lastHandledSyncNow === asked, 60_000);
}

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  folder = mkdtempSync(path.join(tmpdir(), "mazevault-gateway-delivery-"));
  operator = await primary.mazevault.startOperator({ env: { MAZEVAULT_FAILPOINT_FILE: failpointFile(primary) } });
  main = await primary.mazevault.startRest();
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await rest.login(email, password);
  const body = { name: GATEWAY, environment: "NPR", role: "primary" };
  const made = await until(
    "a token",
    async () => {
      const answer = await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body });
      return answer.status === 201 && (answer.body as { token: string });
    },
    SOON,
  );
  await startGateway("gateway", (made as { token: string }).token);
  await primary.apply(
    namespace(TENANT),
    { apiVersion: "mazevault.io/v1", kind: "Gateway", metadata: { name: GATEWAY }, spec: {} },
    project(TENANT, HERE),
  );
  await primary.waitReady("projects.mazevault.io", TENANT);
  await primary.waitReady("gateways.mazevault.io", GATEWAY, undefined, 60_000);
});

afterAll(async () => {
  await rest?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

test("until the gateway's own cluster admits it nothing is opened; then the Secret arrives, whole and marked", async () => {
  await primary.apply(secret("orders", CANARY), rule("orders", { restartConsumers: true, labels: { tier: "db" } }));
  await told("orders", "TargetReachable", "NamespaceNotServed");
  // Its replica gets the Secret all the same, which is on record as what it is.
  const opened = await primary.sql(
    "SELECT FROM audit WHERE action = 'SecretRead' AND details->>'purpose' LIKE 'core Secret %'",
  );
  expect(opened).toEqual([]);
  await cluster.apply(namespace(TENANT), project(TENANT, THERE));
  await cluster.waitReady("projects.mazevault.io", TENANT);
  await look("orders");
  await primary.waitReady(RULE, "orders", TENANT, 60_000);
  const copy = await has("orders", CANARY);
  const { metadata, status } = await primary.get(RULE, "orders", TENANT);
  expect(copy.metadata).toMatchObject({
    labels: { tier: "db", "app.kubernetes.io/managed-by": "mazevault" },
    annotations: { "mazevault.io/delivered-from": "pay/orders", "mazevault.io/sync-rule": metadata.uid },
  });
  expect(copy.metadata.ownerReferences).toBeUndefined();
  expect(status).toMatchObject({ items: 1, inSync: 1, pending: 0 });
});

test("it is on record at both ends, and its value is in no table and no log of either", async () => {
  const { metadata } = await primary.get(RULE, "orders", TENANT);
  const here = await primary.sql<{ what: string }>(
    "SELECT action || ' ' || coalesce(details->>'gateway', details->>'purpose') AS what FROM audit WHERE actor->>'uid' = $1 ORDER BY sequence",
    [metadata.uid],
  );
  expect(here.map(({ what }) => what)).toEqual([
    `SecretRead core Secret ${TENANT}/orders in the cluster of Gateway ${GATEWAY} for SyncRule ${TENANT}/orders`,
    `SecretDelivered ${GATEWAY}`,
  ]);
  const there = await cluster.sql<{ rule: string; environment: string }>(
    "SELECT details->>'ruleUid' AS rule, details->>'environment' AS environment FROM audit WHERE action = 'SecretDelivered'",
  );
  expect(there).toEqual([{ rule: metadata.uid, environment: "NPR" }]);
  const surfaces = [
    ...(await tables(primary)),
    ...(await tables(cluster)),
    ...[operator, main].map(({ process }) => [`log of ${process.name}`, readFileSync(process.logFile)] as const),
    ["log of the gateway", readFileSync(gateway.process.logFile)] as const,
  ];
  expect(found(surfaces, new Map([["value", Buffer.from(CANARY)]]))).toEqual([]);
});

test("a change arrives at once and restarts who uses it there, once", async () => {
  await cluster.apply(consumerManifest(TENANT, "consumer", "orders"));
  await primary.apply(secret("orders", "second"));
  await has("orders", "second");
  await primary.waitFor(RULE, "orders", TENANT, ({ status }) => status?.inSync === 1, 60_000);
  const { spec } = await cluster.waitFor("deployment", "consumer", TENANT, ({ spec: each }) =>
    JSON.stringify(each).includes("restart.mazevault.io/orders"),
  );
  await look("orders");
  expect((await cluster.get("deployment", "consumer", TENANT)).spec).toEqual(spec);
});

test("what is changed or deleted there is found and put right", async () => {
  await cluster.kubectl(
    "-n",
    TENANT,
    "patch",
    "secret",
    "orders",
    "--type=merge",
    "-p",
    '{"stringData":{"password":"x"}}',
  );
  await look("orders");
  await has("orders", "second");
  await cluster.kubectl("-n", TENANT, "delete", "secret", "orders");
  await look("orders");
  await has("orders", "second");
});

test("somebody else's core Secret is left alone until adopt says that it is equal", async () => {
  await cluster.kubectl(
    "-n",
    TENANT,
    "create",
    "secret",
    "generic",
    "mail",
    "--from-literal=user=app",
    "--from-literal=password=v",
  );
  await primary.apply(secret("mail", "v"), rule("mail"));
  await told("mail", "Synced", "TargetNotOwned");
  await primary.apply(rule("mail", { adopt: true }));
  await primary.waitReady(RULE, "mail", TENANT, 60_000);
});

test("what is for gateways of PRO does not go through one of NPR", async () => {
  await primary.apply(secret("pro", CANARY, "pro"), rule("pro", {}, { environment: "pro" }));
  const refused = await told("pro", "Synced", "GatewayEnvironmentDiffers");
  expect(conditionOf(refused, "Synced")?.message).toMatch(
    /which works for NPR: .* may go through gateways of PRO only/,
  );
  expect(await cluster.kubectl("-n", TENANT, "get", "secrets", "-o", "name")).not.toContain("secret/pro");
});

test("a gateway that is away is told, and caught up on as soon as it is back", async () => {
  await gateway.process.stop();
  await primary.apply(secret("orders", "third"));
  await told("orders", "TargetReachable", "GatewayUnavailable");
  await startGateway("gateway-again");
  await has("orders", "third");
  await primary.waitReady(RULE, "orders", TENANT, 60_000);
});

/** Whoever comes after a process need not wait until the lease of that one runs out. */
async function goesOn(world: World, { process }: Program): Promise<void> {
  await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await process.ready();
}

async function startsAnew(world: World, program: Program): Promise<void> {
  const { restarts } = program.process;
  await program.process.kill("SIGKILL");
  await until("its end", () => program.process.restarts > restarts, SOON);
  await goesOn(world, program);
}

/** As by kill -9, while a change is on its way; the next process goes on. */
async function diesAt(failpoint: string, world: World, program: Program, value: string): Promise<void> {
  const { process } = program;
  const file = failpointFile(world);
  const { restarts } = process;
  writeFileSync(file, failpoint);
  await process.kill("SIGUSR2");
  await primary.apply(secret("orders", value));
  await until(`death at ${failpoint}`, () => process.restarts > restarts, SOON);
  rmSync(file, { force: true });
  await goesOn(world, program);
  await has("orders", value);
  await primary.waitReady(RULE, "orders", TENANT, 60_000);
}

test.each(FAILPOINTS)("death of the primary at %s is gone on from", async (failpoint) => {
  await diesAt(failpoint, primary, operator, `after ${failpoint}`);
});

test.each(FAILPOINTS_THERE)("death of the gateway at %s is gone on from", async (failpoint) => {
  await diesAt(failpoint, cluster, gateway, `after ${failpoint} there`);
});

test("whoever starts anew writes nothing on either side", async () => {
  await look("orders");
  const state = async () => ({
    cores: (await cluster.list("secret", TENANT)).map(
      ({ metadata: { name, resourceVersion } }) => `${name} ${resourceVersion}`,
    ),
    copies: await primary.sql("SELECT *, xmin FROM gateway_copies ORDER BY secret_name"),
    here: await primary.sql("SELECT count(*) FROM audit WHERE action IN ('SecretRead', 'SecretDelivered')"),
    there: await cluster.sql("SELECT count(*) FROM audit WHERE action IN ('SecretRead', 'SecretDelivered')"),
  });
  const before = await state();
  await startsAnew(primary, operator);
  await startsAnew(cluster, gateway);
  await look("orders");
  expect(await state()).toEqual(before);
});

test("docs/guides/deliver-through-a-gateway.md works as printed", async () => {
  const env = {
    ...cliEnvironment(primary, main, folder),
    GATEWAY_KUBECONFIG: cluster.lab.controlPlane.kubeconfigPath,
  };
  await primary.apply(namespace("checkout"));
  await cluster.apply(namespace("checkout"));
  const guide = new URL("../docs/guides/deliver-through-a-gateway.md", import.meta.url);
  const printed: string[] = [];
  for (const [, block = ""] of readFileSync(fileURLToPath(guide), "utf8").matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    const shell = ["--norc", "-euo", "pipefail", "-c", block];
    printed.push((await promisify(execFile)("bash", shell, { cwd: folder, env })).stdout);
  }
  expect(printed).toEqual([
    expect.stringMatching(/condition met\n$/),
    expect.stringMatching(/condition met\n$/),
    expect.stringMatching(/condition met\n[0-9a-f]{64}\n$/),
  ]);
});
