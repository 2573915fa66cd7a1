/**
 * What is written at a gateway reaches its primary: at once while that is there, later when it was away, and once, whoever dies over it.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { asOne, type Part } from "../lab/supervised.ts";
import { scrape, secretManifest, startWorld, total, type World } from "./harness.ts";
import { found, type Surface, tables } from "./leaks.ts";
import { firstAdmin, type RestAnswer, RestClient } from "./rest-client.ts";

const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const NAME = "gw-npr-queue";
const CANARY = "canary-of-the-queue-51be0c77";
const PATH = (name: string) => `/api/v1/namespaces/shop/secrets/${name}/values`;
const WRITES = "/api/v1/gateway/writes";
const AT_GATEWAY = [
  "writequeue.afterAccept",
  "writequeue.beforeSend",
  "writequeue.afterSend",
  "writequeue.afterSettle",
];
const AT_PRIMARY = ["gatewaywrites.beforeCommit", "gatewaywrites.afterCommit"];

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
/** What the primary is: its operator and REST. */
let whole: Part;
let ofPrimary: RestClient;
let ofGateway: RestClient;
let session: string;
/** Of the ServiceAccount shop/app in the gateway's cluster, which the grants of the primary name. */
let app: string;
let stranger: string;
const failpoints = { gateway: "", primary: "" };

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  const folder = path.join(primary.lab.dir, "queue");
  mkdirSync(folder, { recursive: true });
  failpoints.gateway = path.join(folder, "failpoint");
  failpoints.primary = path.join(folder, "failpoint-of-primary");
  operator = await primary.mazevault.startOperator();
  main = await primary.mazevault.startRest({ env: { MAZEVAULT_FAILPOINT_FILE: failpoints.primary } });
  whole = asOne(operator.process, main.process);
  ofPrimary = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await ofPrimary.login(email, password);
  const made = await ofPrimary.send("POST", "/api/v1/gateways/bootstrap", { token: session, body: { name: NAME } });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  for (const name of ["app", "stranger"]) {
    await cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: "shop" } });
  }
  await startGateway("gateway", { GATEWAY_BOOTSTRAP_TOKEN: made.body.token as string });
  [app = "", stranger = ""] = await Promise.all(
    ["app", "stranger"].map(async (name) =>
      (await cluster.kubectl("-n", "shop", "create", "token", name, "--audience=mazevault")).trim(),
    ),
  );
  await primary.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
    {
      apiVersion: "mazevault.io/v1",
      kind: "Project",
      metadata: { name: "shop" },
      spec: {
        environments: [{ name: "dev", gatewayEnvironment: "NPR" }],
        namespaces: [{ name: "shop", environments: ["dev"] }],
      },
    },
  );
  await primary.waitReady("project.mazevault.io", "shop");
  await primary.apply(
    {
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "app", namespace: "shop" },
      spec: {
        subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
        rules: [{ projects: ["shop"], environments: ["dev"], role: "operator" }],
      },
    },
    secretManifest("shop", "orders", {
      environment: "dev",
      retention: { versions: 50 },
      entries: [{ key: "password", external: {} }],
    }),
  );
  await until("it is written", async () => (await atPrimary("first")).status === 200, SOON);
  await until("the gateway has it", async () => (await atGateway(undefined, app, "GET")).status === 200, SOON);
});

afterAll(async () => {
  await ofPrimary?.close();
  await ofGateway?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

async function startGateway(name: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  await ofGateway?.close();
  gateway = await cluster.mazevault.startGateway({
    name,
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      PRIMARY_BACKEND_URL: main.restUrl,
      MAZEVAULT_FAILPOINT_FILE: failpoints.gateway,
      ...env,
    },
  });
  ofGateway = RestClient.of(cluster, gateway);
  const inTouch = async () => (await health()).channel.state === "Open";
  await until("the channel is open", inTouch, SOON);
}

const health = async () => (await ofGateway.send("GET", "/api/v1/health")).body.gateway;
const body = (password: string) => ({ values: { password } });
const atPrimary = (password: string): Promise<RestAnswer> =>
  ofPrimary.send("PUT", PATH("orders"), { token: session, body: body(password) });
const atGateway = (
  password: string | undefined,
  token = app,
  method = "PUT",
  headers: Readonly<Record<string, string>> = {},
): Promise<RestAnswer> =>
  ofGateway.send(method, PATH("orders"), { token, headers, ...(password !== undefined && { body: body(password) }) });

/** Every value that the primary has kept, oldest first. */
async function history(): Promise<readonly string[]> {
  const { body: listed } = await ofPrimary.send("GET", "/api/v1/namespaces/shop/secrets/orders/versions", {
    token: session,
  });
  const versions = (listed.items as { version: number }[]).map(({ version }) => version).toSorted((a, b) => a - b);
  const values: string[] = [];
  for (const version of versions) {
    const answer = await ofPrimary.send("GET", `${PATH("orders")}?version=${version}`, { token: session });
    values.push(answer.body.values.password as string);
  }
  return values;
}

const outcome = (id: string, state: string): Promise<RestAnswer> =>
  until(
    `write ${id} is ${state}`,
    async () => {
      const answer = await ofGateway.send("GET", `${WRITES}/${id}`, { token: app });
      if (answer.body?.state === state) return answer;
      throw new Error(answer.text);
    },
    SOON,
  );

test("while the primary is there, a write is answered as the primary would", async () => {
  const answer = await atGateway("second");
  expect([answer.status, answer.body]).toEqual([200, { version: 2, changed: ["password"] }]);
  expect(await history()).toEqual(["first", "second"]);
  const again = await atGateway("second");
  expect([again.status, again.body]).toEqual([200, { version: 2, changed: [] }]);
  const rows = await primary.sql<{ row: string }>(
    "SELECT concat(actor::text, details::text) AS row FROM audit WHERE action = 'SecretVersionCreated' AND subject_name = 'shop/orders'",
  );
  expect(rows.at(-1)?.row).toMatch(/Gateway gw-npr-queue.*ServiceAccount shop\/app/);
});

test("what may not be, or cannot be written is refused", async () => {
  expect((await atGateway("x", stranger)).status).toBe(403);
  const user = await ofGateway.send("PUT", PATH("orders"), { token: app, body: { values: { user: "other" } } });
  expect([user.status, user.body.code]).toEqual([409, "ValueInvalid"]);
  expect((await atGateway("x", app, "PUT", { "if-match": '"1"' })).status).toBe(412);
  // What could only be refused was not even kept.
  expect((await ofGateway.send("GET", `${WRITES}?state=Refused`, { token: app })).body.items).toEqual([]);
  const applied = await ofGateway.send("GET", `${WRITES}?state=Applied`, { token: app });
  expect(applied.body.length).toBe(0);
  expect(applied.body.items[0]).toMatchObject({ state: "Applied", by: "ServiceAccount shop/app" });
  expect((await ofGateway.send("GET", WRITES, { token: stranger })).body.items).toEqual([]);
  const { id } = applied.body.items[0] as { id: string };
  expect((await ofGateway.send("GET", `${WRITES}/${id}`, { token: stranger })).status).toBe(404);
  expect((await ofPrimary.send("GET", WRITES, { token: session })).body).toMatchObject({
    status: 409,
    code: "NotGateway",
  });
});

test("while it is away writes wait, also over a restart of the gateway, and reach it in order and once", async () => {
  await whole.stop();
  const key = { "idempotency-key": '"one of a kind"' };
  const first = await atGateway("third", app, "PUT", key);
  expect([first.status, first.body.queued]).toEqual([202, true]);
  const id = first.body.id as string;
  expect(first.headers.location).toBe(`${WRITES}/${id}`);
  expect((await atGateway("third", app, "PUT", key)).body.id).toBe(id);
  const second = (await atGateway("fourth")).body.id as string;
  await until("the queue is told", async () => (await health()).writeQueue.length === 2, SOON);
  expect(total(await scrape(gateway), "mazevault_gateway_write_queue_length")).toBe(2);
  await gateway.process.kill("SIGKILL");
  await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await gateway.process.ready();
  await whole.start();
  await whole.ready();
  expect((await outcome(id, "Applied")).body.version).toBe(3);
  expect((await outcome(second, "Applied")).body.version).toBe(4);
  expect(await history()).toEqual(["first", "second", "third", "fourth"]);
  await until("the queue is empty", async () => (await health()).writeQueue.length === 0, SOON);
});

test("over the bound a write is refused, and says what to do", async () => {
  await gateway.process.stop();
  await startGateway("gateway-bounded", { MAZEVAULT_GATEWAY_WRITE_QUEUE_LIMIT: "1" });
  await until("it serves", async () => (await atGateway(undefined, app, "GET")).status === 200, SOON);
  await whole.stop();
  const kept = await atGateway("fifth");
  expect(kept.status).toBe(202);
  const refused = await atGateway("lost?");
  expect(refused.status).toBe(503);
  expect(refused.body).toMatchObject({
    code: "WriteQueueFull",
    detail: expect.stringContaining("gateway.writeQueueLimit"),
  });
  await whole.start();
  await whole.ready();
  await outcome(kept.body.id as string, "Applied");
  expect((await history()).slice(4)).toEqual(["fifth"]);
});

test("whoever dies over it, each write is done once", async () => {
  const written: string[] = [];
  const dying = async (who: "gateway" | "primary", failpoint: string): Promise<void> => {
    const { process } = who === "gateway" ? gateway : main;
    const { restarts } = process;
    writeFileSync(failpoints[who], failpoint);
    await process.kill("SIGUSR2");
    const value = `over ${failpoint}`;
    // The gateway may die before it has answered.
    const answer = await atGateway(value).catch(() => undefined);
    written.push(value);
    await until(`death at ${failpoint}`, () => process.restarts > restarts, SOON);
    expect(process.lastEnd).toBe("died of SIGKILL");
    rmSync(failpoints[who], { force: true });
    // REST has no lease.
    if (who === "gateway")
      await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await process.ready();
    await until("it has arrived", async () => (await history()).includes(value), SOON);
    if (answer !== undefined) expect([200, 202]).toContain(answer.status);
    await until("nothing waits", async () => (await health()).writeQueue.length === 0, SOON);
  };
  for (const failpoint of AT_GATEWAY) await dying("gateway", failpoint);
  for (const failpoint of AT_PRIMARY) await dying("primary", failpoint);
  expect((await history()).slice(5)).toEqual(written);
});

test("no value stands in tables or logs of either", async () => {
  await until("it is written", async () => (await atGateway(CANARY)).status === 200, SOON);
  const logs = ["gateway", "gateway-bounded"].map((name): Surface => {
    const file = path.join(path.dirname(gateway.process.logFile), `${name}.log`);
    return [`log of ${name}`, readFileSync(file)];
  });
  const surfaces = [
    ...(await tables(cluster)),
    ...(await tables(primary)),
    ...logs,
    ...[operator, main].map(({ process }): Surface => [`log of ${process.name}`, readFileSync(process.logFile)]),
  ];
  expect(found(surfaces, new Map([["canary", Buffer.from(CANARY)]]))).toEqual([]);
});
