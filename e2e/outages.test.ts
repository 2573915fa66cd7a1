/**
 * What MazeVault stands on goes away: stopped, killed, frozen, or cut off without a word. The operator stays up, says what
 * it waits for, loses nothing that was acknowledged, and goes on by itself.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import path from "node:path";
import { parse, stringify } from "yaml";
import { TcpProxy } from "../controllers/runtime/testing/tcp-proxy.ts";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type Operator } from "../lab/mazevault.ts";
import { pause, until } from "../lab/poll.ts";
import type { SupervisedProcess } from "../lab/supervised.ts";
import { conditionOf, decoded, scrape, secretManifest, startWorld, total, type World } from "./harness.ts";

const TEAM = "team";
const secrets = "secret.mazevault.io";
/** How long PostgreSQL stays away: the promise names a minute. */
const OUTAGE_MS = 60_000;
/** Growing pauses between attempts and the time-outs of half-dead connections come before anything is Ready again. */
const RECOVERY_MS = 90_000;

let world: World;
let proxy: TcpProxy;
let operator: Operator;
let pid: number | undefined;
/** Of the operator's HTTP, which answers before it is ready. */
let port: number;

interface Answer {
  readonly status: number | undefined;
  readonly body: string;
}

/** Asks the operator over HTTP. */
function ask(where: "/healthz" | "/readyz" | "/metrics"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port, path: where }, async (response) => {
      let body = "";
      for await (const chunk of response.setEncoding("utf8")) body += chunk;
      resolve({ status: response.statusCode, body });
    }).on("error", reject);
  });
}

const readiness = (says: string | RegExp): Promise<unknown> =>
  until(
    `/readyz says ${says}`,
    async () => {
      const { status, body } = await ask("/readyz");
      if (status !== 503 || body.search(says) < 0) throw new Error(`${status} ${body}`);
      return true;
    },
    { timeoutMs: 60_000 },
  );

const isReady = (): Promise<unknown> =>
  until("/readyz is 200", async () => (await ask("/readyz")).status === 200, { timeoutMs: 60_000 });

const apply = (name: string, value: string): Promise<void> =>
  world.apply(secretManifest(TEAM, name, { entries: [{ key: "value", literal: value }], deliver: {} }));

/** The core Secret holds the value, and there are just so many versions: none doubled, none lost. */
async function arrives(name: string, value: string, versions = 1): Promise<void> {
  const { status } = await world.waitReady(secrets, name, TEAM, RECOVERY_MS);
  expect(status?.version).toBe(versions);
  expect(decoded(await world.get("secret", name, TEAM))).toEqual({ value });
  const stored = await world.sql<{ version: number }>(
    "SELECT version FROM versions JOIN secrets ON id = secret_id WHERE name = $1 ORDER BY version",
    [name],
  );
  expect(stored.map(({ version }) => version)).toEqual(Array.from({ length: versions }, (_, index) => index + 1));
}

const failsFor = (name: string, reason: string, kind = secrets): Promise<unknown> =>
  world.waitFor(
    kind,
    name,
    TEAM,
    (object) => conditionOf(object, "Ready")?.status === "False" && conditionOf(object, "Ready")?.reason === reason,
    60_000,
  );

/** Attempts at Secrets that failed because PostgreSQL did not answer. */
const attempts = async (): Promise<number> =>
  total(await scrape(operator), "mazevault_reconcile_errors_total", {
    controller: "secret",
    reason: "DatabaseUnavailable",
  });

/** Until then PostgreSQL is away, and at no moment anybody is told otherwise. */
async function staysAway(end: number): Promise<void> {
  while (Date.now() < end) {
    expect(await ask("/healthz")).toMatchObject({ status: 200 });
    expect(await ask("/readyz")).toMatchObject({ status: 503, body: expect.stringContaining("database: PostgreSQL") });
    await pause(1_000);
  }
}

beforeAll(async () => {
  world = await startWorld({ durable: true });
  const { lab } = world;
  proxy = await TcpProxy.start({ host: "127.0.0.1", port: Number(new URL(lab.controlPlane.url).port) });
  port = await lab.ports.get("operator");
});

afterAll(async () => {
  await world?.stop();
  await proxy?.stop();
});

test("an operator that is there before PostgreSQL and the API server waits for them, and says so", async () => {
  const { controlPlane, postgres } = world.lab;
  await postgres.process.stop();
  await controlPlane.apiServer.stop();
  const starting = world.mazevault.startOperator({
    config: { kubernetes: { kubeconfig: throughProxy(), watchInactivityMs: 5_000 } },
  });
  // Its failure is told below.
  starting.catch(() => {});
  await readiness(/database: .*PostgreSQL/);
  await postgres.process.start();
  await readiness(/home: it is not known yet whether the database belongs to this cluster/);
  await controlPlane.apiServer.start();
  operator = await starting;
  pid = operator.process.pid;
  expect(operator.process.restarts).toBe(0);
  await world.tenant(TEAM);
  await apply("first", "one");
  await arrives("first", "one");
});

async function postgresCalls(): Promise<{ readonly ok: number; readonly error: number }> {
  const samples = await scrape(operator);
  const ended = (code: string) => total(samples, "mazevault_external_calls_total", { target: "postgres", code });
  return { ok: ended("ok"), error: ended("error") };
}

describe("while the operator runs", () => {
  afterEach(async () => {
    await isReady();
    expect(await ask("/healthz")).toMatchObject({ status: 200 });
    expect([operator.process.pid, operator.process.restarts]).toEqual([pid, 0]);
  });

  test("PostgreSQL is away for a minute: those who need it are told, others served, and all is done afterwards", async () => {
    const { process } = world.lab.postgres;
    await process.stop();
    const began = Date.now();
    const before = await attempts();
    await apply("first", "two");
    await apply("during", "one");
    for (const name of ["first", "during"]) await failsFor(name, "DatabaseUnavailable");
    await readiness(/database: PostgreSQL/);
    // What is decided from the caches goes on. A vault is called by nobody: its budget is booked in PostgreSQL.
    await world.apply(readers, ...keyVault());
    await world.waitReady("accesspolicy.mazevault.io", "readers", TEAM);
    await failsFor("vault", "DatabaseUnavailable", "keyvault.mazevault.io");

    await staysAway(began + OUTAGE_MS / 2);
    const early = (await attempts()) - before;
    const counted = await postgresCalls();
    await staysAway(began + OUTAGE_MS);
    // By these MazeVaultDatabaseAway is told, see `deploy/prometheus/`; it is asked each five seconds at the least.
    const { ok, error } = await postgresCalls();
    expect(ok - counted.ok).toBe(0);
    expect(error - counted.error).toBeGreaterThanOrEqual(3);
    const late = (await attempts()) - before - early;
    // Pauses double from at least an eighth of a second on: of two Secrets no more than nine attempts each fit in.
    expect(early + late).toBeLessThanOrEqual(18);
    expect(late).toBeLessThan(early / 2);

    await process.start();
    await arrives("first", "two", 2);
    await arrives("during", "one");
    await world.waitReady("keyvault.mazevault.io", "vault", TEAM, RECOVERY_MS);
  });

  test("PostgreSQL is frozen: nobody waits for it without an end", async () => {
    const { process } = world.lab.postgres;
    process.pause();
    try {
      await apply("frozen", "one");
      await failsFor("frozen", "DatabaseUnavailable");
      await readiness(/database: /);
      expect(await ask("/healthz")).toMatchObject({ status: 200 });
    } finally {
      process.resume();
    }
    await arrives("frozen", "one");
  });

  const servers: readonly {
    title: string;
    of: () => SupervisedProcess;
    end: (process: SupervisedProcess) => Promise<void>;
  }[] = [
    {
      title: "the API server is restarted",
      of: () => world.lab.controlPlane.apiServer,
      end: (process) => process.restart(),
    },
    { title: "the API server is killed", of: () => world.lab.controlPlane.apiServer, end: (process) => process.kill() },
    { title: "etcd is killed", of: () => world.lab.controlPlane.etcd, end: (process) => process.kill() },
    { title: "PostgreSQL is killed", of: () => world.lab.postgres.process, end: (process) => process.kill() },
  ];

  test.each(servers)("$title: what it acknowledged before and after is done", async ({ title, of, end }) => {
    const name = title.toLowerCase().replaceAll(/[^a-z]+/g, "-");
    await apply(`${name}-before`, "one");
    await end(of());
    await of().ready();
    await until("the API server answers", () => world.kubectl("get", "--raw", "/readyz"), { timeoutMs: 60_000 });
    await apply(`${name}-after`, "one");
    await arrives(`${name}-before`, "one");
    await arrives(`${name}-after`, "one");
  });

  test("connections to the API server go dead without being closed: a change arrives all the same", async () => {
    expect(proxy.connections).toBeGreaterThan(0);
    proxy.freeze();
    await apply("half-open", "one");
    await arrives("half-open", "one");
  });
});

const readers = {
  apiVersion: "mazevault.io/v1",
  kind: "AccessPolicy",
  metadata: { name: "readers", namespace: TEAM },
  spec: {
    subjects: [{ serviceAccount: { namespace: TEAM, name: "reader" } }],
    rules: [{ projects: [TEAM], environments: ["dev"], verbs: ["read"] }],
  },
};

/** A vault and the credential for it. */
const keyVault = (): readonly object[] => [
  {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "principal", namespace: TEAM },
    stringData: { secret: world.mazevault.servicePrincipal.secret },
  },
  {
    apiVersion: "mazevault.io/v1",
    kind: "KeyVault",
    metadata: { name: "vault", namespace: TEAM },
    spec: {
      projectRef: { name: TEAM },
      vaultUrl: `https://${azure.vaults[0]}.vault.azure.net/`,
      auth: {
        servicePrincipal: {
          tenantId: azure.tenantId,
          clientId: azure.servicePrincipal,
          clientSecretRef: { name: "principal", key: "secret" },
        },
      },
    },
  },
];

/** The operator's kubeconfig with the proxy's address; TLS goes through it to the API server. */
function throughProxy(): string {
  const dir = path.join(world.lab.dir, "operator");
  const config = parse(readFileSync(path.join(dir, `${SYSTEM_NAMESPACE}-${OPERATOR_ACCOUNT}.kubeconfig`), "utf8")) as {
    clusters: { cluster: { server: string } }[];
  };
  for (const { cluster } of config.clusters) cluster.server = `https://127.0.0.1:${proxy.port}`;
  const file = path.join(dir, "through-proxy.kubeconfig");
  writeFileSync(file, stringify(config), { mode: 0o600 });
  return file;
}
