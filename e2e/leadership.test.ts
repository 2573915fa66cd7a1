/** Two operators, one leader: what a stale one does has no effect, and another takes over when the leader is gone. */
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import {
  conditionOf,
  difference,
  type KubernetesObject,
  leaderOf,
  scrape,
  secretManifest,
  startWorld,
  total,
  type World,
} from "./harness.ts";

const SECRETS = 120;
/** A busy machine must not cost the leader its Lease. */
const LEASE_MS = 9_000;
const secret = "secret.mazevault.io";
const rule = "syncrule.mazevault.io";
const [vault] = azure.vaults;
const wait = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let operators: Operator[];

beforeAll(async () => {
  world = await startWorld();
  const config = { kubernetes: { leaseDurationMs: LEASE_MS } };
  operators = [];
  for (const name of ["first", "second"]) operators.push(await world.mazevault.startOperator({ name, config }));
  await world.tenant("marker");
});

afterAll(() => world?.stop());

test("a leader that is stopped in the middle of work and wakes up changes nothing", async () => {
  const stale = await leader();
  const successor = otherThan(stale);
  const { epoch, writer } = await leadership();

  // Nothing can be done for them until their Project is there, and then all of them are due at once.
  await world.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "busy" } },
    principal(),
    keyVault,
    syncRule,
    ...secrets("first"),
  );
  const waits = ({ status }: KubernetesObject) => status?.conditions?.[0]?.reason === "ProjectNotFound";
  await until("all are known", async () => (await world.list(secret, "busy")).filter(waits).length === SECRETS, wait);
  await world.apply(project);
  await until("the leader is in the middle of it", async () => (await stored(1)) >= SECRETS / 10, {
    ...wait,
    intervalMs: 1,
  });
  stale.process.pause();
  const done = await stored(1);
  expect(done).toBeLessThan(SECRETS);

  await until("the other one leads", async () => (await leader()) === successor, wait);
  await until("it has the next epoch", async () => (await leadership()).epoch === epoch + 1, wait);
  await everythingInStep(1);
  // What the stale leader has in hand and in its cache is now wrong.
  await world.apply(...secrets("second"));
  await everythingInStep(2);

  const before = await everything(writer);
  stale.process.resume();
  await until("it is a follower", async () => total(await scrape(stale), "mazevault_leader") === 0, wait);
  // It asks for the Lease as a candidate: of its term as a leader nothing runs any more.
  const asked = async () =>
    total(await scrape(stale), "mazevault_external_calls_total", {
      operation: "get leases.coordination.k8s.io",
      code: "200",
    });
  const askedBefore = await asked();
  await until("it is a candidate again", async () => (await asked()) >= askedBefore + 4, wait);
  expect(await readiness(stale)).toEqual({ status: 200, leadership: "standby" });
  expect(await readiness(successor)).toEqual({ status: 200, leadership: "leading" });
  // Which vaults are still in use it cannot know any more.
  expect(total(await scrape(successor), "mazevault_keyvault_vaults")).toBe(1);
  expect(total(await scrape(stale), "mazevault_keyvault_vaults")).toBe(0);
  expect(stale.process.restarts).toBe(0);

  // The successor is undisturbed, and everything is as it left it.
  await world.apply(marker("woken"));
  await world.waitReady(secret, "woken", "marker");
  expect(difference(before, await everything(writer))).toEqual([]);
  expect(await leadership()).toMatchObject({ epoch: epoch + 1 });
  expect(await leader()).toBe(successor);

  // Each change made exactly one version, in PostgreSQL and in the vault.
  expect([await stored(1), await stored(2), await stored(3)]).toEqual([SECRETS, SECRETS, 0]);
  const entries = await world.mazevault.keyVault.control.secrets(vault);
  expect(entries).toHaveLength(2 * pushed);
  for (const { name, versions } of entries) {
    const values = versions.map(({ value }) => value);
    if (name.startsWith("user-")) expect([name, values]).toEqual([name, ["first", "second"]]);
    else expect([name, values.length]).toEqual([name, 1]);
  }
});

test("when the leader is killed the other one takes over, not before the Lease has run out", async () => {
  const killed = await leader();
  const { epoch } = await leadership();
  killed.process.autoRestart = false;
  await killed.process.kill();
  const left = await lease();
  await world.apply(marker("killed"));
  await world.waitReady(secret, "killed", "marker");
  expect(await leader()).toBe(otherThan(killed));
  expect(await leadership()).toMatchObject({ epoch: epoch + 1 });
  const { spec } = await lease();
  const since = Date.parse(String(spec?.acquireTime)) - Date.parse(String(left.spec?.renewTime));
  expect(since).toBeGreaterThanOrEqual(LEASE_MS - CLOCK_ROUNDING_MS);
  await killed.process.start();
});

test("a leader that ends on SIGTERM hands over at once", async () => {
  for (const { process } of operators) await process.stop();
  const { epoch } = await leadership();
  // Waiting for this Lease to run out would exceed every limit of this test.
  const patient = await world.mazevault.startOperator({
    name: "patient",
    config: { kubernetes: { leaseDurationMs: 3_600_000 } },
  });
  operators.push(patient);
  await until("it leads", async () => (await leader()) === patient, wait);
  // It holds the Lease before it takes the epoch.
  await until("it has the next epoch", async () => (await leadership()).epoch === epoch + 1, wait);
  const [first] = operators;
  await first?.process.start();

  await patient.process.stop();
  await until("the other one leads", async () => (await leader()) === first, wait);
  await until("it has the epoch after that", async () => (await leadership()).epoch === epoch + 2, wait);
  await world.apply(marker("terminated"));
  await world.waitReady(secret, "terminated", "marker");
});

/** Times in the Lease are of the sender's clock at sending. */
const CLOCK_ROUNDING_MS = 5;
/** Every tenth goes to the vault. */
const pushed = SECRETS / 10;

const password = (index: number, user: string): object => ({
  ...secretManifest("busy", `s-${index}`, {
    entries: [
      { key: "user", literal: user },
      { key: "password", generate: { kind: "Password" } },
    ],
    deliver: {},
  }),
  metadata: { namespace: "busy", name: `s-${index}`, labels: { pushed: String(index % 10 === 0) } },
});

const marker = (name: string): object =>
  secretManifest("marker", name, { entries: [{ key: "a", literal: "b" }], deliver: {} });

const secrets = (user: string): readonly object[] =>
  Array.from({ length: SECRETS }, (_, index) => password(index, user));

const project = {
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: "busy" },
  spec: { environments: [{ name: "pro" }], namespaces: [{ name: "busy", environments: ["pro"] }] },
};

const principal = (): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "principal", namespace: "busy" },
  stringData: { secret: world.mazevault.servicePrincipal.secret },
});

const keyVault = {
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name: "vault", namespace: "busy" },
  spec: {
    projectRef: { name: "busy" },
    vaultUrl: `https://${vault}.vault.azure.net/`,
    auth: {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
  },
};

const syncRule = {
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: "all", namespace: "busy" },
  spec: {
    projectRef: { name: "busy" },
    environment: "pro",
    direction: "Push",
    secrets: { selector: { matchLabels: { pushed: "true" } } },
    mappings: Array.from({ length: pushed }, (_, n) => ({
      secret: `s-${n * 10}`,
      key: "user",
      name: `user-${n * 10}`,
    })),
    target: { keyVault: { ref: { name: "vault" } } },
  },
};

const lease = () => world.get("lease", "mazevault-operator", SYSTEM_NAMESPACE);

const leader = () => until("somebody leads", () => leaderOf(world, operators), wait);

async function readiness({ httpPort }: Operator): Promise<{ status: number; leadership: string | undefined }> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
  return { status: response.status, leadership: /^leadership: (.*)$/m.exec(await response.text())?.[1] };
}

function otherThan(one: Operator): Operator {
  const other = operators.find((operator) => operator !== one);
  if (other === undefined) throw new Error("there is only one operator");
  return other;
}

/** The epoch in PostgreSQL, and who writes in it. */
async function leadership(): Promise<{ readonly epoch: number; readonly writer: string }> {
  const [row] = await world.sql<{ epoch: string; writer: string }>(
    `SELECT epoch, writer_id AS writer FROM leadership JOIN audit ON action = 'LeadershipTaken'
     WHERE details ->> 'epoch' = epoch::text`,
  );
  return { epoch: Number(row?.epoch), writer: row?.writer ?? "" };
}

/** How many secrets have this version. */
async function stored(version: number): Promise<number> {
  const [row] = await world.sql<{ n: string }>(
    "SELECT count(*) AS n FROM versions JOIN secrets ON id = secret_id WHERE namespace = 'busy' AND version = $1",
    [version],
  );
  return Number(row?.n);
}

async function everythingInStep(version: number): Promise<void> {
  const late = async () =>
    (await world.list(secret, "busy")).filter(
      (object) => object.status?.version !== version || conditionOf(object, "Ready")?.status !== "True",
    );
  await until(
    "every Secret is Ready",
    async () => (await world.list(secret, "busy")).length === SECRETS && (await late()).length === 0,
    wait,
  );
  await world.waitFor(rule, "all", "busy", ({ status }) => status?.inSync === 2 * pushed, wait.timeoutMs);
}

/** What the stale leader could have changed; of its audit rows all but reads, which stay true whoever leads. */
async function everything(writer: string): Promise<readonly string[]> {
  const kinds =
    "projects.mazevault.io,secrets.mazevault.io,keyvaults.mazevault.io,syncrules.mazevault.io,secrets,rolebindings";
  const objects = (await world.list(kinds))
    .filter(({ metadata }) => metadata.namespace !== "marker")
    .map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name} ${metadata.resourceVersion}`);
  const rows = async (table: string, where = "true"): Promise<readonly string[]> => {
    const found = await world.sql<{ row: string }>(`SELECT t::text AS row FROM ${table} t WHERE ${where}`);
    return found.map(({ row }) => `${table} ${row}`);
  };
  const audit = await world.sql<{ row: string }>(
    "SELECT sequence || ' ' || action AS row FROM audit WHERE writer_id = $1 AND action <> 'SecretRead'",
    [writer],
  );
  const entries = await world.mazevault.keyVault.control.secrets(vault);
  return [
    ...objects,
    ...(await rows("secrets", "namespace <> 'marker'")),
    ...(await rows("versions", "secret_id IN (SELECT id FROM secrets WHERE namespace <> 'marker')")),
    ...(await rows("sync_items")),
    ...audit.map(({ row }) => `audit ${row}`),
    ...entries.flatMap(({ name, versions }) => versions.map((version) => `entry ${name} ${JSON.stringify(version)}`)),
  ];
}
