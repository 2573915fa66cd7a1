/** New values are applied before they are current: no login that was handed out fails, whoever dies when. */
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { consumerManifest } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { cliEnvironment } from "./cli-environment.ts";
import {
  conditionOf,
  decoded,
  difference,
  type KubernetesObject,
  secretManifest,
  startWorld,
  type World,
} from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";
import { endJob, type Pods, readyPods } from "./rotation/pods.ts";
import { type Reconnecting, reconnect } from "./rotation/reconnecting.ts";
import { type TwoRoles, twoRoles } from "./rotation/roles.ts";

const SECRET = "secret.mazevault.io";
const ROLES = "roles";
const OVERLAP_MS = 4_000;
const soon = { timeoutMs: 30_000, intervalMs: 100 };

/** All of it: `ROTATIONS=50 CHAOS_FAILPOINTS=all`. */
const { ROTATIONS = "3", CHAOS_FAILPOINTS } = process.env;
const everyDeath = [
  "apply.afterEffect",
  "apply.afterPromote",
  "apply.afterPropose",
  "apply.afterEnd",
  "apply.beforePropose",
  "apply.beforeConfirm",
  "apply.beforeEnd",
  "delivery.beforeDeliver",
  "delivery.afterDeliver",
  "delivery.afterRestart",
];
const deaths = CHAOS_FAILPOINTS === "all" ? everyDeath : everyDeath.slice(0, 2);

let world: World;
let succession: Succession;
let surface: Rest;
let pods: Pods;

beforeAll(async () => {
  world = await startWorld();
  succession = await Succession.begin(world);
  surface = await world.mazevault.startRest();
  await world.tenant(ROLES, "marker");
  pods = readyPods(world, ROLES);
});

afterAll(async () => {
  await pods?.stop();
  await world?.stop();
});

const ask = (namespace: string, name: string, token: string) =>
  world.kubectl("-n", namespace, "annotate", "--overwrite", SECRET, name, `mazevault.io/rotate=${token}`);

const rotatorManifest = (namespace: string, password: string): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "rotator", namespace },
  stringData: { password },
});

const alternating = (two: TwoRoles, change: object = {}) =>
  secretManifest(ROLES, "orders-db", {
    entries: [
      { key: "username", external: {} },
      { key: "password", generate: { kind: "Password" } },
      { key: "url", template: "postgres://{{ username }}:{{ password | url_encode }}@db/orders" },
    ],
    deliver: { restartConsumers: true },
    retention: { versions: 3 },
    rotation: { every: "720h", overlap: `${OVERLAP_MS / 1_000}s`, apply: { postgres: { ...two.spec, ...change } } },
  });

interface AuditRow extends Record<string, unknown> {
  readonly action: string;
  readonly details: Readonly<Record<string, unknown>>;
}
const auditOf = (name: string, ...actions: string[]) =>
  world.sql<AuditRow>(
    "SELECT action, details FROM audit WHERE subject_name = $1 AND action = ANY($2) ORDER BY sequence",
    [name, actions],
  );

describe("two roles of PostgreSQL", () => {
  let two: TwoRoles;
  const clients: Reconnecting[] = [];

  beforeAll(async () => {
    two = await twoRoles(world, "orders");
    await world.apply(rotatorManifest(ROLES, two.admin.password));
  });
  afterAll(() => Promise.all(clients.map((client) => client.stop())));

  test("get their first password before anything is delivered", async () => {
    await world.apply(alternating(two));
    const { status } = await world.waitReady(SECRET, "orders-db", ROLES);
    expect(status).toMatchObject({ version: 2, lastRotationTime: expect.any(String) });
    expect(status).not.toHaveProperty("pendingVersion");
    const { username, password = "", url } = decoded(await world.get("secret", "orders-db", ROLES));
    expect(username).toBe("orders_a");
    expect(url).toBe(`postgres://orders_a:${encodeURIComponent(password)}@db/orders`);
    expect(await auditOf(`${ROLES}/orders-db`, "SecretVersionCreated", "SecretRotated")).toMatchObject([
      { action: "SecretVersionCreated", details: { version: 1, made: "password" } },
      { action: "SecretVersionCreated", details: { version: 2, pending: true, cause: "First" } },
      { action: "SecretRotated", details: { version: 2, cause: "First", made: "password,username" } },
    ]);
  });

  test(`change ${ROTATIONS} times under clients that log in all the time, though the leader dies over it`, async () => {
    await world.apply({
      ...consumerManifest(ROLES, "orders", "orders-db"),
      spec: { ...(consumerManifest(ROLES, "orders", "orders-db") as { spec: object }).spec, replicas: 1 },
    });
    for (const holdMs of [0, OVERLAP_MS / 4]) {
      const at = { namespace: ROLES, name: "orders-db" };
      clients.push(reconnect(world, at, two.client, { holdMs, overlapMs: OVERLAP_MS }));
    }
    const rotations = Number(ROTATIONS);
    const started = performance.now();
    let version = 2;
    for (let index = 0; index < rotations; index++) {
      const before = decoded(await world.get("secret", "orders-db", ROLES));
      const token = `t${index}`;
      const death = deaths[index];
      if (death === undefined) await ask(ROLES, "orders-db", token);
      else await succession.dies(death, () => ask(ROLES, "orders-db", token));
      const { status } = await world.waitFor(
        SECRET,
        "orders-db",
        ROLES,
        (it) =>
          it.status?.lastHandledRotate === token &&
          it.status.version === version + 1 &&
          conditionOf(it, "Rotated")?.status === "True" &&
          conditionOf(it, "Ready")?.status === "True",
        60_000,
      );
      version += 1;
      expect(status).not.toHaveProperty("pendingVersion");
      const after = decoded(await world.get("secret", "orders-db", ROLES));
      expect(after.username).not.toBe(before.username);
      expect(after.password).not.toBe(before.password);
    }
    const tookMs = performance.now() - started;
    await world.waitFor(SECRET, "orders-db", ROLES, (it) => conditionOf(it, "Rotated")?.reason === "Succeeded", 60_000);
    await Promise.all(clients.map((client) => client.stop()));
    const failed = clients.flatMap(({ logins }) => logins.failed);
    const count = clients.flatMap(({ logins }) => [...logins.succeeded.values()]).reduce((sum, each) => sum + each, 0);
    process.stdout.write(
      `${rotations} rotations, ${Math.min(rotations, deaths.length)} deaths, ${count} logins, ${failed.length} failed, ${Math.round(tookMs / rotations)} ms each\n`,
    );
    expect(failed).toEqual([]);
    for (const { logins } of clients)
      for (const role of two.roles) expect(logins.succeeded.get(role)).toBeGreaterThan(0);

    const rows = await auditOf(
      `${ROLES}/orders-db`,
      "SecretRotated",
      "SecretConsumptionConfirmed",
      "SecretFormerEnded",
    );
    const numbers = (action: string, field: string) =>
      rows.filter((row) => row.action === action).map(({ details }) => details[field]);
    const upTo = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index);
    expect(numbers("SecretRotated", "version")).toEqual(upTo(2, version));
    expect(numbers("SecretConsumptionConfirmed", "former")).toEqual(upTo(1, version - 1));
    expect(numbers("SecretFormerEnded", "former")).toEqual(upTo(2, version - 1));
    const restarts = (await world.get("deployment", "orders", ROLES)).metadata.generation ?? 0;
    expect(restarts).toBe(rotations + 1);
  }, 3_600_000);

  test("leave one role that can log in, and what people say about the other one", async () => {
    const { rows } = await roleRows();
    expect(rows.filter((row) => row.login)).toHaveLength(1);
    expect(rows.find(({ role }) => role === "orders_a")?.comment).toMatch(/^of the orders team \[mazevault \S+\]$/);
  });

  test("are not touched by the next leader, which writes nothing", async () => {
    const before = await written();
    // The one that takes over dies over it, and the third has looked at everything when it takes up what is new.
    await succession.diesAsSuccessor("leadership.afterEpoch", async () => {});
    await world.apply(secretManifest("marker", "marker", { entries: [{ key: "k", literal: "v" }] }));
    await world.waitReady(SECRET, "marker", "marker", 60_000);
    expect(difference(before, await written())).toEqual([]);
  });

  async function roleRows() {
    return withClient(world.lab.postgres.superuser, (client) =>
      client.query<{ role: string; login: boolean; comment: string | null }>(
        `SELECT rolname AS role, rolcanlogin AS login, shobj_description(oid, 'pg_authid') AS comment
         FROM pg_roles WHERE rolname = ANY($1) ORDER BY 1`,
        [[...two.roles]],
      ),
    );
  }

  async function written(): Promise<readonly string[]> {
    const objects = await Promise.all([SECRET, "secret", "deployment"].map((kind) => world.list(kind, ROLES)));
    const { rows } = await roleRows();
    const audit = await world.sql<{ line: string }>(
      `SELECT concat_ws(' ', sequence, action) AS line FROM audit WHERE subject_name = $1 AND action <> 'SecretRead'`,
      [`${ROLES}/orders-db`],
    );
    return [
      ...objects.flat().map(({ kind, metadata }) => `${kind} ${metadata.name} ${metadata.resourceVersion}`),
      ...rows.map((row) => JSON.stringify(row)),
      ...audit.map(({ line }) => line),
    ];
  }
});

const BY_JOB = "by-job";

/** A suspended CronJob that may be used; `allowed` false: or not. */
const cronJobManifest = (namespace: string, allowed: boolean): object => ({
  apiVersion: "batch/v1",
  kind: "CronJob",
  metadata: {
    name: "rotate",
    namespace,
    annotations: { "mazevault.io/rotation": allowed ? "allowed" : "no" },
  },
  spec: {
    schedule: "0 0 1 1 *",
    suspend: true,
    jobTemplate: {
      spec: {
        backoffLimit: 0,
        template: {
          spec: {
            restartPolicy: "Never",
            containers: [{ name: "rotate", image: "rotate", command: ["sh", "-c", "true"] }],
          },
        },
      },
    },
  },
});

const rotationOf = async (namespace: string, name: string) =>
  conditionOf(await world.get(SECRET, name, namespace), "Rotated");

describe("a Job from a CronJob", () => {
  const manifest = secretManifest(BY_JOB, "orders", {
    entries: [
      { key: "user", literal: "orders" },
      { key: "password", generate: { kind: "Password" } },
    ],
    deliver: {},
    rotation: { every: "720h", apply: { job: { cronJobRef: { name: "rotate" } }, timeout: "10m" } },
  });
  const jobs = () => world.list("job", BY_JOB);
  const jobOf = (version: number) => async () =>
    (await jobs()).find(({ metadata }) => metadata.name.endsWith(`-v${version}`));
  const job = (version: number) => until(`the Job of version ${version}`, jobOf(version), soon);

  beforeAll(async () => {
    await world.tenant(BY_JOB);
    await world.apply(manifest);
    await world.waitReady(SECRET, "orders", BY_JOB);
  });

  test("must opt in, and what is missing is told with the time of the next attempt", async () => {
    const before = decoded(await world.get("secret", "orders", BY_JOB));
    await ask(BY_JOB, "orders", "one");
    const failed = (says: string) =>
      world.waitFor(SECRET, "orders", BY_JOB, (it) => conditionOf(it, "Rotated")?.message.includes(says) === true);
    const { status } = await failed("there is no CronJob by-job/rotate");
    expect(status).toMatchObject({ version: 1, lastHandledRotate: "one", nextRotationTime: expect.any(String) });
    expect(await rotationOf(BY_JOB, "orders")).toMatchObject({
      status: "False",
      reason: "ApplyFailed",
      message: expect.stringMatching(
        /^version 2 was not applied, version 1 stays: .*; the next attempt is at 20.*Z, or at once/,
      ),
    });
    await world.apply(cronJobManifest(BY_JOB, false));
    await ask(BY_JOB, "orders", "two");
    await failed("kubectl -n by-job annotate cronjob rotate mazevault.io/rotation=allowed");
    expect(await jobs()).toEqual([]);
    expect(decoded(await world.get("secret", "orders", BY_JOB))).toEqual(before);
  });

  test("gets the new values as files, and when it completes they are current", async () => {
    await world.apply(cronJobManifest(BY_JOB, true));
    const before = decoded(await world.get("secret", "orders", BY_JOB));
    await ask(BY_JOB, "orders", "three");
    const { metadata, spec } = (await job(4)) as KubernetesObject;
    expect(metadata.ownerReferences).toMatchObject([{ kind: "Secret", name: "orders", controller: true }]);
    const [container] = (spec as { template: { spec: { containers: object[]; volumes: object[] } } }).template.spec
      .containers;
    expect(container).toMatchObject({
      env: [
        { name: "MAZEVAULT_SECRET", value: "by-job/orders" },
        { name: "MAZEVAULT_VERSION", value: "4" },
      ],
      volumeMounts: [{ name: "mazevault-pending", mountPath: "/run/mazevault/pending", readOnly: true }],
    });
    expect(spec).toMatchObject({ activeDeadlineSeconds: 600, backoffLimit: 0 });
    const pending = decoded(await world.get("secret", metadata.name, BY_JOB));
    expect(pending).toEqual({ user: "orders", password: expect.any(String) });
    expect(JSON.stringify(spec)).not.toContain(pending.password);
    expect(pending.password).not.toBe(before.password);
    const waiting = await world.waitFor(SECRET, "orders", BY_JOB, ({ status }) => status?.pendingVersion === 4);
    expect(waiting.status).toMatchObject({ version: 1 });
    expect(conditionOf(waiting, "Rotated")).toMatchObject({ status: "False", reason: "Applying" });
    expect(decoded(await world.get("secret", "orders", BY_JOB))).toEqual(before);

    await endJob(world, BY_JOB, metadata.name, "Succeeded");
    const { status } = await world.waitReady(SECRET, "orders", BY_JOB, 60_000);
    expect(status).toMatchObject({ version: 4 });
    expect(status).not.toHaveProperty("pendingVersion");
    expect(decoded(await world.get("secret", "orders", BY_JOB))).toEqual(pending);
    await expect(world.get("secret", metadata.name, BY_JOB)).rejects.toThrow("404");
  });

  test("that fails leaves the values as they are, and is named", async () => {
    const before = decoded(await world.get("secret", "orders", BY_JOB));
    await ask(BY_JOB, "orders", "four");
    const { metadata } = (await job(5)) as KubernetesObject;
    await endJob(world, BY_JOB, metadata.name, "Failed");
    const told = await world.waitFor(
      SECRET,
      "orders",
      BY_JOB,
      (it) => conditionOf(it, "Rotated")?.reason === "ApplyFailed",
      60_000,
    );
    expect(conditionOf(told, "Rotated")?.message).toContain(`Job ${metadata.name} failed (BackoffLimitExceeded`);
    expect(told.status).toMatchObject({ version: 4 });
    expect(decoded(await world.get("secret", "orders", BY_JOB))).toEqual(before);
    await expect(world.get("secret", metadata.name, BY_JOB)).rejects.toThrow("404");
    // Its logs are where the message sends people.
    expect((await job(5))?.metadata.uid).toBe(metadata.uid);
    expect(await auditOf(`${BY_JOB}/orders`, "SecretVersionDiscarded")).toHaveLength(3);
    const client = RestClient.of(world, surface);
    const { email, password } = await firstAdmin(world);
    const token = await client.login(email, password);
    const path = `/api/v1/namespaces/${BY_JOB}/secrets/orders`;
    const { body } = await client.send("GET", `${path}/versions`, { token });
    expect(body.items.map(({ version, state }: { version: number; state: string }) => [version, state])).toEqual([
      [5, "Failed"],
      [4, "Current"],
      [3, "Failed"],
      [2, "Failed"],
      [1, "Kept"],
    ]);
    await client.close();
  });

  test("is made once and ends once, whoever dies over it", async () => {
    const jobDeaths = [
      ["apply.afterDiscard", "Failed"],
      ["apply.afterJob", "Succeeded"],
      ["apply.beforeDiscard", "Failed"],
      ["apply.afterValues", "Succeeded"],
      ["apply.beforeJob", "Succeeded"],
      ["apply.afterValuesDeleted", "Succeeded"],
    ] as const;
    const chosen = CHAOS_FAILPOINTS === "all" ? jobDeaths : jobDeaths.slice(0, 2);
    const passedWhenItEnds: readonly string[] = [
      "apply.afterDiscard",
      "apply.beforeDiscard",
      "apply.afterValuesDeleted",
    ];
    const discarded = async () => (await auditOf(`${BY_JOB}/orders`, "SecretVersionDiscarded")).length;
    let number = 5;
    for (const [failpoint, outcome] of chosen) {
      number += 1;
      const made = number;
      const before = await discarded();
      const end = async () => endJob(world, BY_JOB, ((await job(made)) as KubernetesObject).metadata.name, outcome);
      await succession.dies(failpoint, async () => {
        await ask(BY_JOB, "orders", failpoint);
        if (passedWhenItEnds.includes(failpoint)) await end();
      });
      if (!passedWhenItEnds.includes(failpoint)) await end();
      const isOver = (it: KubernetesObject): boolean =>
        outcome === "Succeeded"
          ? it.status?.version === made
          : it.status?.lastHandledRotate === failpoint && conditionOf(it, "Rotated")?.reason === "ApplyFailed";
      await world.waitFor(SECRET, "orders", BY_JOB, isOver, 90_000);
      expect((await jobs()).filter(({ metadata }) => metadata.name.endsWith(`-v${made}`))).toHaveLength(1);
      expect(await discarded()).toBe(before + (outcome === "Failed" ? 1 : 0));
    }
    await world.waitReady(SECRET, "orders", BY_JOB, 60_000);
  }, 600_000);
});

describe("a webhook", () => {
  const BY_WEBHOOK = "by-webhook";
  const key = "the key of both";
  const received: { readonly headers: IncomingHttpHeaders; readonly body: string }[] = [];
  let answers: number[] = [];
  let server: Server;
  let url: string;

  beforeAll(async () => {
    const { certFile, keyFile } = await world.lab.pki.issue("receiver", { commonName: "receiver", usage: "server" });
    server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, async (request, response) => {
      let body = "";
      for await (const chunk of request.setEncoding("utf8")) body += chunk;
      received.push({ headers: request.headers, body });
      response.writeHead(answers.shift() ?? 204).end();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/rotate`;
    await world.tenant(BY_WEBHOOK);
    await world.apply({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "rotation", namespace: BY_WEBHOOK },
      stringData: { key },
    });
  });
  afterAll(() => server?.close());

  const manifest = (name: string, change: object = {}) =>
    secretManifest(BY_WEBHOOK, name, {
      entries: [{ key: "token", generate: { kind: "Hex" } }],
      deliver: {},
      rotation: {
        every: "720h",
        apply: {
          webhook: {
            url,
            caBundle: readFileSync(world.lab.pki.caFile, "utf8"),
            hmacSecretRef: { name: "rotation", key: "key" },
            ...change,
          },
        },
      },
    });

  test("is told under one id until it answers, signed, and without the values", async () => {
    await world.apply(manifest("plain"));
    await world.waitReady(SECRET, "plain", BY_WEBHOOK);
    answers = [503];
    await ask(BY_WEBHOOK, "plain", "one");
    await world.waitFor(SECRET, "plain", BY_WEBHOOK, ({ status }) => status?.version === 2);
    expect(received).toHaveLength(2);
    const ids = received.map(({ headers }) => headers["webhook-id"]);
    expect(new Set(ids).size).toBe(1);
    for (const { headers, body } of received) {
      const content = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
      const expected = `v1,${createHmac("sha256", key).update(content).digest("base64")}`;
      expect(headers["webhook-signature"]).toBe(expected);
      expect(JSON.parse(body)).toEqual({
        type: "mazevault.rotation",
        installation: expect.any(String),
        id: ids[0],
        namespace: BY_WEBHOOK,
        name: "plain",
        version: 2,
        keys: ["token"],
      });
    }
  });

  test("gets the values where that is asked for, and refuses them with 4xx", async () => {
    received.length = 0;
    await world.apply(manifest("valued", { includeValues: true }));
    await world.waitReady(SECRET, "valued", BY_WEBHOOK);
    answers = [422];
    await ask(BY_WEBHOOK, "valued", "one");
    const told = await world.waitFor(
      SECRET,
      "valued",
      BY_WEBHOOK,
      (it) => conditionOf(it, "Rotated")?.reason === "ApplyFailed",
    );
    expect(conditionOf(told, "Rotated")?.message).toMatch(/127\.0\.0\.1:\d+ answers 422; the next attempt is at/);
    await ask(BY_WEBHOOK, "valued", "two");
    await world.waitFor(SECRET, "valued", BY_WEBHOOK, ({ status }) => status?.version === 3);
    const { token } = decoded(await world.get("secret", "valued", BY_WEBHOOK));
    expect(Buffer.from(JSON.parse(received.at(-1)?.body ?? "{}").values.token, "base64").toString()).toBe(token);
    expect(received).toHaveLength(2);
  });

  test("elsewhere than the installation allows is not told", async () => {
    received.length = 0;
    await world.apply(manifest("elsewhere", { url: url.replace("127.0.0.1", "localhost") }));
    await world.waitReady(SECRET, "elsewhere", BY_WEBHOOK);
    await ask(BY_WEBHOOK, "elsewhere", "one");
    const told = await world.waitFor(
      SECRET,
      "elsewhere",
      BY_WEBHOOK,
      (it) => conditionOf(it, "Rotated")?.reason === "ApplyFailed",
    );
    expect(conditionOf(told, "Rotated")?.message).toContain("host localhost is not allowed");
    expect(received).toEqual([]);
  });
});

test("the guide works as it is printed", async () => {
  const folder = path.join(world.lab.dir, "guide");
  mkdirSync(folder, { recursive: true });
  const { host, port, caFile } = world.lab.postgres.superuser;
  // As the lab has it: a machine need not have psql.
  const root = fileURLToPath(new URL("..", import.meta.url));
  const run = `exec "${process.execPath}" "${root}/lab/psql.ts" --database postgres --dir "${world.lab.dir}" "$2"`;
  const env = {
    ...cliEnvironment(world, surface, folder),
    PGHOST: host,
    PGPORT: String(port),
    PGSSLROOTCERT: caFile,
  };
  writeFileSync(path.join(folder, "psql"), `#!/bin/sh\n${run}\n`, { mode: 0o755 });
  const guide = readFileSync(path.join(root, "docs/guides/rotate-a-database-password.md"), "utf8");
  const printed: string[] = [];
  for (const [, block = ""] of guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    const options = { cwd: folder, env };
    const { stdout } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", block], options);
    printed.push(stdout);
  }
  expect(printed).toHaveLength(5);
  const [, first, rotated, ended, failed] = printed;
  expect(first).toMatch(/till-db condition met\nshop_a\n$/);
  expect(rotated).toMatch(/\nshop_b\nversion 2 counts until 20\S+Z; everything has the new one\n$/);
  expect(ended).toMatch(/shop_a +\| f +\| \[mazevault \S+\/2\] *\n *shop_b +\| t +\| \[mazevault \S+\/3\]/);
  expect(failed).toContain("version 4 was not applied, version 3 stays: 127.0.0.1:");
});
