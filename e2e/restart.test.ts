/** An operator that starts again finds everything done and writes nothing; what changed meanwhile it catches up with. */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { compareSync } from "bcryptjs";
import { parse } from "yaml";
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import {
  conditionOf,
  decoded,
  difference,
  type KubernetesObject,
  scrape,
  secretManifest,
  startWorld,
  total,
  type World,
} from "./harness.ts";

const SECRETS = 100;
const secret = "secret.mazevault.io";
const nameOf = (index: number): string => `s-${String(index).padStart(3, "0")}`;
const [vault] = azure.vaults;

/** The manifest of docs/generators.md: of each sort of value one, and what is derived from them. */
const page = readFileSync(path.join(import.meta.dirname, "../docs/generators.md"), "utf8");
const { entries } = parse(/^```yaml\n(.*?)^```$/ms.exec(page)?.[1] ?? "").spec;
const generated = secretManifest("steady", "generated", { entries, deliver: {} });

let world: World;
let operator: Operator;

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config: { kubernetes: { leaseDurationMs: 9_000 } } });
  for (const namespace of ["steady", "reborn", "marker"]) await world.tenant(namespace);
  await world.apply(
    core("steady", "handover", { token: "from-a-partner" }),
    core("steady", "principal", { secret: world.mazevault.servicePrincipal.secret }),
    deployment("steady", "orders", nameOf(0)),
    secretManifest("steady", "from-source", {
      entries: [{ key: "token", secretRef: { name: "handover", key: "token" } }],
      deliver: {},
    }),
    ...Array.from({ length: SECRETS }, (_, index) => password("steady", nameOf(index), index < 20)),
    generated,
    password("reborn", "again"),
    password("reborn", "gone"),
    keyVault("steady"),
    syncRule("steady"),
  );
  for (const name of ["again", "gone"]) await world.waitReady(secret, name, "reborn");
  await until("everything is Ready", async () => (await notReady("steady")).length === 0, { timeoutMs: 60_000 });
  await world.waitFor("syncrule.mazevault.io", "all", "steady", ({ status }) => status?.inSync === 60);
  // How many entries the vault has is known from looking at it, and it was empty then.
  await world.kubectl("-n", "steady", "annotate", "syncrules.mazevault.io", "all", "mazevault.io/sync-now=once");
  await world.waitFor("syncrule.mazevault.io", "all", "steady", ({ status }) => status?.lastHandledSyncNow === "once");
  await world.waitFor("keyvault.mazevault.io", "vault", "steady", ({ status }) => status?.secrets === 60);
});

afterAll(() => world?.stop());

const endings = {
  SIGTERM: (process: Operator["process"]) => process.restart(),
  "kill -9": async (process: Operator["process"]) => {
    await process.kill();
    await process.ready();
  },
};

test.each(Object.entries(endings))(
  "a restart by %s writes nothing but the Lease and the epoch",
  async (name, restart) => {
    const before = await everything();
    const epoch = await epochs();
    await world.mazevault.keyVault.control.resetCounters();
    await restart(operator.process);

    // Every object was looked at, and the vault too.
    const reconciled = "mazevault_reconcile_duration_seconds_count";
    const expected = { project: 3, secret: SECRETS + 4, keyvault: 1, syncrule: 1 };
    await until(
      "every object was looked at",
      async () => {
        const samples = await scrape(operator);
        return Object.entries(expected).every(
          ([controller, least]) => total(samples, reconciled, { controller }) >= least,
        );
      },
      { timeoutMs: 30_000 },
    );
    expect(await kubernetesWrites()).toEqual(["patch leases.coordination.k8s.io"]);
    const { vaults } = await world.mazevault.keyVault.control.counters();
    expect(vaults[vault]).toMatchObject({ valueReads: 0, writes: 0 });
    expect(vaults[vault]?.operations).not.toEqual({});

    // Events leave in the order in which they were recorded: when the marker's is there, no other is on its way.
    const marker = `after-${name.replace(/\W+/g, "-").toLowerCase()}`;
    await world.apply(
      secretManifest("marker", marker, { entries: [{ key: "a", secretRef: { name: "missing", key: "a" } }] }),
    );
    await until("the marker's Event", async () => (await events("marker")).some((event) => event.includes(marker)), {
      timeoutMs: 10_000,
    });
    expect(difference(before, await everything())).toEqual([]);
    expect(await epochs()).toEqual([...epoch, "LeadershipTaken"]);
  },
);

test("what was generated and derived is still the first version after that, and after it was applied again", async () => {
  const delivered = async () => (await world.get("secret", "generated", "steady")).metadata.resourceVersion;
  const before = await delivered();
  const made = decoded(await world.get("secret", "generated", "steady"));
  expect(Object.keys(made).toSorted()).toEqual(entries.map(({ key }: { key: string }) => key).toSorted());
  const publicKey = createPublicKey(createPrivateKey(made["signing.pem"] ?? ""));
  expect(createPublicKey(made["signing.pub"] ?? "").equals(publicKey)).toBe(true);
  expect(made.auth).toMatch(/^admin:\$2y\$10\$/);
  expect(compareSync(made.password ?? "", made.auth?.slice("admin:".length) ?? "")).toBe(true);
  expect(made.recovery).toMatch(/^([a-z]+-){5}[a-z]+$/);
  expect(made["deploy.pub"]).toMatch(/^ssh-ed25519 \S{68} deploy@shop$/);

  // Keeping another number of versions makes the operator look again; what it is made of is the same.
  for (const keep of [20, 21]) {
    await world.apply(generated);
    await world.apply(secretManifest("steady", "generated", { entries, deliver: {}, retention: { versions: keep } }));
    await world.waitFor(secret, "generated", "steady", ({ metadata, status }) => {
      return status?.observedGeneration === metadata.generation;
    });
  }
  expect(await versions()).toContain("generated 1");
  expect(await versions()).not.toContain("generated 2");
  expect(decoded(await world.get("secret", "generated", "steady"))).toEqual(made);
  expect(await delivered()).toBe(before);
});

test("what changed while the operator was away is caught up with, and only that", async () => {
  const rows = await versions();
  const untouched = await world.get("secret", nameOf(50), "steady");
  const lost = decoded(await world.get("secret", "again", "reborn"));
  const kept = decoded(await world.get("secret", nameOf(4), "steady"));
  const template = async () => (await world.get("deployment", "orders", "steady")).metadata.generation;
  const generation = await template();
  await operator.process.stop();

  await world.kubectl("delete", "namespace", "reborn");
  await world.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "reborn" } }, password("reborn", "again"));
  await world.apply(password("steady", "applied"), password("steady", nameOf(1), false, "changed"));
  await world.kubectl("-n", "steady", "delete", secret, nameOf(2));
  await patch("secret", nameOf(3), { stringData: { password: "edited by somebody" } });
  await world.kubectl("-n", "steady", "delete", "secret", nameOf(4));
  await patch("secret", "handover", { stringData: { token: "another" } });
  await patch("secret", nameOf(0), { metadata: { labels: { "app.kubernetes.io/managed-by": "somebody" } } });
  await operator.process.start();

  await world.waitReady(secret, "applied", "steady");
  expect(decoded(await world.get("secret", "applied", "steady")).password).toHaveLength(32);

  await world.waitFor(secret, nameOf(1), "steady", at(2));
  expect(decoded(await world.get("secret", nameOf(1), "steady")).user).toBe("changed");

  await until(
    "the deleted one is soft-deleted",
    async () => (await stateOf("steady", nameOf(2))) === "SoftDeleted",
    wait,
  );
  await gone("secret", nameOf(2), "steady");

  const password3 = async () => decoded(await world.get("secret", nameOf(3), "steady")).password;
  await until("the edited one is repaired", async () => (await password3())?.length === 32, wait);
  await until("the deleted core Secret is back", () => world.get("secret", nameOf(4), "steady"), wait);
  expect(decoded(await world.get("secret", nameOf(4), "steady"))).toEqual(kept);

  await world.waitFor(secret, "from-source", "steady", at(2));
  expect(decoded(await world.get("secret", "from-source", "steady")).token).toBe("another");

  const managedBy = async () =>
    (await world.get("secret", nameOf(0), "steady")).metadata.labels?.["app.kubernetes.io/managed-by"];
  await until("the label is repaired", async () => (await managedBy()) === "mazevault", wait);
  expect(await template()).toBe(generation);

  // A namespace of the same name is another one: it inherits nothing, and what the former had goes the way of a deletion.
  await world.waitReady(secret, "again", "reborn");
  const found = decoded(await world.get("secret", "again", "reborn"));
  expect(found.password).toHaveLength(32);
  expect(found.password).not.toBe(lost.password);
  for (const name of ["again", "gone"]) {
    await until(
      `${name} of the former namespace is soft-deleted`,
      async () => (await statesOf("reborn", name)).includes("SoftDeleted"),
      wait,
    );
  }
  expect((await statesOf("reborn", "again")).toSorted()).toEqual(["Active", "SoftDeleted"]);
  expect(await statesOf("reborn", "gone")).toEqual(["SoftDeleted"]);

  expect((await world.get("secret", nameOf(50), "steady")).metadata.resourceVersion).toBe(
    untouched.metadata.resourceVersion,
  );
  const added = (await versions()).filter((row) => !rows.includes(row));
  expect(added.toSorted()).toEqual(["applied 1", "from-source 2", `${nameOf(1)} 2`]);
});

const wait = { timeoutMs: 20_000, intervalMs: 100 };

const at =
  (version: number) =>
  (object: KubernetesObject): boolean =>
    object.status?.version === version && conditionOf(object, "Ready")?.status === "True";

const core = (namespace: string, name: string, stringData: Record<string, string>): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace },
  stringData,
});

const password = (namespace: string, name: string, pushed = false, user = "app"): object => {
  const manifest = secretManifest(namespace, name, {
    entries: [
      { key: "user", literal: user },
      { key: "password", generate: { kind: "Password", length: 32 } },
      { key: "url", template: "db://{{ user }}:{{ password | url_encode }}@db" },
    ],
    deliver: { restartConsumers: true },
  });
  return { ...manifest, metadata: { name, namespace, labels: { pushed: String(pushed) } } };
};

const deployment = (namespace: string, name: string, secretName: string): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name, image: "example/app:1", envFrom: [{ secretRef: { name: secretName } }] }] },
    },
  },
});

const keyVault = (namespace: string): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name: "vault", namespace },
  spec: {
    projectRef: { name: namespace },
    vaultUrl: `https://${vault}.vault.azure.net/`,
    auth: {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
  },
});

const syncRule = (namespace: string): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: "all", namespace },
  spec: {
    projectRef: { name: namespace },
    environment: "pro",
    direction: "Push",
    secrets: { selector: { matchLabels: { pushed: "true" } } },
    target: { keyVault: { ref: { name: "vault" } } },
  },
});

const patch = (resource: string, name: string, change: object): Promise<string> =>
  world.kubectl("-n", "steady", "patch", resource, name, "--type=merge", "-p", JSON.stringify(change));

const notReady = async (namespace: string): Promise<readonly KubernetesObject[]> =>
  (await world.list("secrets.mazevault.io,keyvaults.mazevault.io,syncrules.mazevault.io", namespace)).filter(
    (object) => conditionOf(object, "Ready")?.status !== "True",
  );

const gone = (resource: string, name: string, namespace: string): Promise<boolean> =>
  until(
    `${resource} ${name} is gone`,
    async () => (await world.lab.controlPlane.kubectl(["-n", namespace, "get", resource, name])).code !== 0,
    // The garbage collector looks for new kinds, as ours are to it, once in 30 seconds.
    { ...wait, timeoutMs: 60_000 },
  );

/** Writes of this operator to the API server since it started, by verb and resource. */
async function kubernetesWrites(): Promise<readonly string[]> {
  const calls = (await scrape(operator)).filter(({ name }) => name === "mazevault_external_calls_total");
  const operations = calls.filter(({ labels }) => labels.target === "kubernetes").map(({ labels }) => labels.operation);
  return [...new Set(operations)].flatMap((operation = "") =>
    /^(get|list|watch)\b/.test(operation) ? [] : [operation],
  );
}

/** Events of this product, with the object that they are about. */
async function events(namespace?: string): Promise<readonly string[]> {
  const found = await world.list("events.events.k8s.io", namespace);
  return found
    .map((event) => event as KubernetesObject & { reportingController?: string; regarding?: { name: string } })
    .filter(({ reportingController }) => reportingController?.startsWith("mazevault.io/"))
    .map(
      ({ metadata, regarding }) =>
        `${metadata.namespace}/${regarding?.name} ${metadata.name} ${metadata.resourceVersion}`,
    );
}

/** All that the operator could have written, with the versions that tell it; without the marker's namespace. */
async function everything(): Promise<readonly string[]> {
  const kinds =
    "projects.mazevault.io,secrets.mazevault.io,keyvaults.mazevault.io,syncrules.mazevault.io,secrets,rolebindings,namespaces";
  const objects = (await world.list(kinds))
    .filter(({ metadata }) => metadata.namespace !== "marker")
    .map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name} ${metadata.resourceVersion}`);
  // Their status is the cluster's, their template would be ours.
  const workloads = (await world.list("deployments")).map(({ metadata }) => `${metadata.name} ${metadata.generation}`);
  // Calls to vaults are booked for seconds: looking at one is no change of anything.
  const tables = await world.sql<{ name: string }>(
    `SELECT tablename AS name FROM pg_tables
     WHERE schemaname = 'mazevault' AND tablename NOT IN ('leadership', 'audit', 'audit_head', 'vault_calls')`,
  );
  const rows: string[] = [];
  for (const { name } of tables) {
    const found = await world.sql<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
    rows.push(...found.map(({ row }) => `${name} ${row}`));
  }
  return [...objects, ...workloads, ...rows, ...(await events()).filter((event) => !event.startsWith("marker/"))];
}

/** What was audited since the first leader, in order. */
const epochs = async (): Promise<readonly string[]> =>
  (await world.sql<{ action: string }>("SELECT action FROM audit ORDER BY sequence")).map(({ action }) => action);

const versions = async (): Promise<readonly string[]> =>
  (
    await world.sql<{ row: string }>(
      "SELECT name || ' ' || version AS row FROM versions JOIN secrets ON id = secret_id WHERE namespace = 'steady'",
    )
  ).map(({ row }) => row);

const statesOf = async (namespace: string, name: string): Promise<readonly string[]> =>
  (
    await world.sql<{ state: string }>("SELECT state FROM secrets WHERE namespace = $1 AND name = $2", [
      namespace,
      name,
    ])
  ).map(({ state }) => state);

const stateOf = async (namespace: string, name: string): Promise<string | undefined> =>
  (await statesOf(namespace, name))[0];
