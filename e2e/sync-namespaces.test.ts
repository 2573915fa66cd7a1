/** Secrets copied into core Secrets of other namespaces, and taken from there: target.kubernetes. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual, promisify } from "node:util";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import type { Death } from "./chaos/deaths.ts";
import { consumerManifest } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const SECRET = "secret.mazevault.io";
const RULE = "syncrule.mazevault.io";
/** The tenant's own namespace and Project; of the same Project for pro; only for dev; and of another tenant. */
const [OWN, JOBS, BATCH, DEV, FOREIGN] = ["pay", "pay-jobs", "pay-batch", "pay-dev", "foreign"];

let world: World;
let operator: Operator;
let surface: Rest;

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  surface = await world.mazevault.startRest();
  await world.tenant(FOREIGN);
  const namespaces = [OWN, JOBS, BATCH, DEV].map((name) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name },
  }));
  await world.apply(...namespaces, project());
  await world.waitReady("project.mazevault.io", OWN);
});

afterAll(() => world?.stop());

const project = (...more: readonly object[]): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: OWN },
  spec: {
    environments: [{ name: "dev" }, { name: "pro" }],
    namespaces: [
      ...[OWN, JOBS, BATCH].map((name) => ({ name, environments: ["pro"] })),
      { name: DEV, environments: ["dev"] },
      ...more,
    ],
  },
});

interface RuleWishes {
  readonly kubernetes?: object;
  readonly [field: string]: unknown;
}

function rule(name: string, { kubernetes = {}, ...spec }: RuleWishes = {}, namespace = OWN): object {
  return {
    apiVersion: "mazevault.io/v1",
    kind: "SyncRule",
    metadata: { name, namespace },
    spec: {
      projectRef: { name: namespace },
      environment: "pro",
      secrets: { names: [name] },
      direction: "Push",
      target: { kubernetes: { namespaces: [JOBS], ...kubernetes } },
      ...spec,
    },
  };
}

const secret = (name: string, password: string, more: object = {}): object =>
  secretManifest(OWN, name, {
    entries: [
      { key: "user", literal: "app" },
      { key: "password", literal: password },
    ],
    ...more,
  });

const coreSecret = (namespace: string, name: string, data: Record<string, string>, metadata: object = {}): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace, ...metadata },
  stringData: data,
});

const remove = (...what: readonly string[]): Promise<string> => world.kubectl("-n", OWN, "delete", ...what);

/** A rule with a Secret of its name, both ready. */
async function copied(name: string, wishes: RuleWishes = {}): Promise<void> {
  await world.apply(secret(name, "first"), rule(name, wishes));
  await world.waitReady(RULE, name, OWN);
}

const has = (name: string, password: string, namespace = JOBS): Promise<KubernetesObject> =>
  world.waitFor("secret", name, namespace, (it) => decoded(it).password === password);

const refusedFor = (name: string, reason: string, namespace = OWN): Promise<KubernetesObject> =>
  world.waitFor(RULE, name, namespace, (it) => conditionOf(it, "Synced")?.reason === reason);

const trigger = async (name: string): Promise<unknown> => {
  const { spec } = await world.get("deployment", "consumer", JOBS);
  const template = spec?.template as { metadata: { annotations?: Record<string, string> } };
  return template.metadata.annotations?.[`restart.mazevault.io/${name}`];
};

describe("Push", () => {
  test("a Secret becomes a core Secret in each namespace, whole and marked, and is on record before and after", async () => {
    await world.apply(consumerManifest(JOBS, "consumer", "from-pay.orders"));
    await copied("orders", {
      kubernetes: {
        namespaces: [JOBS, BATCH],
        secretName: "from-{namespace}.{secret}",
        keys: [{ from: "password", to: "DB_PASSWORD" }],
        labels: { tier: "db" },
        restartConsumers: true,
      },
    });
    for (const namespace of [JOBS, BATCH]) {
      const copy = await world.get("secret", "from-pay.orders", namespace);
      expect(decoded(copy)).toEqual({ DB_PASSWORD: "first" });
      expect(copy.metadata).toMatchObject({
        labels: { tier: "db", "app.kubernetes.io/managed-by": "mazevault" },
        annotations: { "mazevault.io/delivered-from": "pay/orders" },
      });
      expect(copy.metadata.ownerReferences).toBeUndefined();
    }
    const { metadata, status } = await world.get(RULE, "orders", OWN);
    expect(status).toMatchObject({ items: 2, inSync: 2, pending: 0 });
    const rows = await world.sql<{ what: string }>(
      `SELECT action || ' ' || coalesce(details->>'coreSecret', details->>'purpose') AS what FROM audit
       WHERE actor->>'uid' = $1 ORDER BY sequence`,
      [metadata.uid],
    );
    for (const namespace of [JOBS, BATCH]) {
      const of = rows.map(({ what }) => what).filter((what) => what.includes(namespace));
      expect(of).toEqual([
        `SecretRead copy to core Secret ${namespace}/from-pay.orders`,
        `SecretDelivered ${namespace}/from-pay.orders`,
      ]);
    }
  });

  test("a change arrives everywhere and restarts who uses it there, once", async () => {
    expect(await trigger("from-pay.orders")).toBeUndefined();
    await world.apply(secret("orders", "second"));
    for (const namespace of [JOBS, BATCH]) {
      await world.waitFor("secret", "from-pay.orders", namespace, (it) => decoded(it).DB_PASSWORD === "second");
    }
    await until("the consumer is restarted", async () => (await trigger("from-pay.orders")) !== undefined, {
      timeoutMs: 20_000,
    });
    const digest = await trigger("from-pay.orders");
    await world.kubectl("-n", JOBS, "label", "secret", "from-pay.orders", "tier-");
    await world.waitFor("secret", "from-pay.orders", JOBS, ({ metadata }) => metadata.labels?.tier === "db");
    expect(await trigger("from-pay.orders")).toBe(digest);
  });

  test("what is edited or deleted there is as it was before long", async () => {
    await copied("drift");
    const patch = JSON.stringify({ stringData: { password: "edited", more: "x" } });
    await world.kubectl("-n", JOBS, "patch", "secret", "drift", "--type=merge", "-p", patch);
    await world.waitFor("secret", "drift", JOBS, (it) => Object.keys(decoded(it)).length === 2);
    expect(decoded(await has("drift", "first"))).toEqual({ user: "app", password: "first" });
    await world.kubectl("-n", JOBS, "delete", "secret", "drift");
    const back = async () => decoded(await world.get("secret", "drift", JOBS)).password === "first";
    await until("it is made again", () => back().catch(() => false), { timeoutMs: 20_000 });
  });

  test("what leaves the scope stays as it is, and goes on when it comes back", async () => {
    await copied("leaving");
    const before = await world.get("secret", "leaving", JOBS);
    await world.apply(rule("leaving", { secrets: { names: ["nothing"] } }));
    await world.waitFor(RULE, "leaving", OWN, ({ status }) => status?.items === 0);
    await world.apply(rule("leaving", { kubernetes: { namespaces: [BATCH] } }));
    await has("leaving", "first", BATCH);
    await remove(RULE, "leaving");
    await world.apply(secret("leaving", "second"));
    await world.waitFor(SECRET, "leaving", OWN, ({ status }) => status?.version === 2);
    expect(await world.get("secret", "leaving", JOBS)).toEqual(before);
    await world.apply(rule("leaving"));
    await has("leaving", "second");
    await remove(SECRET, "leaving");
    await world.waitFor(RULE, "leaving", OWN, ({ status }) => status?.items === 0);
    expect(decoded(await world.get("secret", "leaving", JOBS)).password).toBe("second");
  });

  test("what is not ours is never written over; equal data may be adopted", async () => {
    await world.apply(coreSecret(JOBS, "theirs", { user: "app", password: "theirs" }), secret("theirs", "ours"));
    const before = await world.get("secret", "theirs", JOBS);
    await world.apply(rule("theirs"));
    const refused = await refusedFor("theirs", "TargetNotOwned");
    expect(conditionOf(refused, "Synced")?.message).toBe(
      "theirs: core Secret theirs exists and is not ours; set spec.target.kubernetes.adopt to take it over, or deliver to another secretName",
    );
    expect(refused.status).toMatchObject({
      pending: 1,
      failures: [{ secret: "theirs", name: `${JOBS}/theirs`, reason: "TargetNotOwned" }],
    });
    await world.apply(rule("theirs", { kubernetes: { adopt: true } }));
    expect(conditionOf(await refusedFor("theirs", "TargetDiffers"), "Synced")?.message).toContain("delete it there");
    expect(await world.get("secret", "theirs", JOBS)).toEqual(before);
    await world.apply(secret("theirs", "theirs"));
    await world.waitReady(RULE, "theirs", OWN);
    const after = await world.get("secret", "theirs", JOBS);
    expect([after.metadata.uid, after.data]).toEqual([before.metadata.uid, before.data]);
    await remove(RULE, "theirs");
  });

  test("each namespace is refused or reached by itself, and what is refused gets nothing", async () => {
    await world.apply(secret("reach", "secret-value"));
    const namespaces = [JOBS, DEV, FOREIGN, "nowhere", OWN];
    await world.apply(rule("reach", { kubernetes: { namespaces } }));
    const seen = await world.waitFor(RULE, "reach", OWN, ({ status }) => status?.inSync === 1);
    expect(seen.status).toMatchObject({ items: 5, pending: 4 });
    expect(conditionOf(seen, "TargetReachable")).toMatchObject({
      status: "False",
      reason: "NamespaceNotAdmitted",
      message: `spec.target.kubernetes.namespaces: ${DEV} is not admitted by Project pay for environment pro; add it to the Project's spec.namespaces, or leave it out here`,
    });
    expect(conditionOf(seen, "Stalled")?.status).toBe("True");
    await has("reach", "secret-value");
    for (const namespace of [DEV, FOREIGN, OWN]) {
      expect((await world.list("secret", namespace)).filter(({ metadata }) => metadata.name === "reach")).toEqual([]);
    }
    // Once the Project admits it, it arrives without a change of the rule.
    await world.apply(project({ name: DEV, environments: ["pro"] }));
    await has("reach", "secret-value", DEV);
    await world.apply(project());
    await world.apply(secret("reach", "later-value"));
    await has("reach", "later-value");
    await world.waitFor(RULE, "reach", OWN, ({ status }) => status?.inSync === 1);
    expect(decoded(await world.get("secret", "reach", DEV)).password).toBe("secret-value");
    await remove(RULE, "reach");
  });

  test("who delivers there itself comes first, and of two rules the older one: told before anything is written", async () => {
    await copied("shared");
    await world.apply(rule("younger", { secrets: { names: ["shared"] } }));
    expect(conditionOf(await refusedFor("younger", "RulesOverlap"), "Synced")?.message).toContain(
      `shared: SyncRule shared writes core Secret shared of namespace ${JOBS} already`,
    );
    await remove(RULE, "shared");
    await world.waitReady(RULE, "younger", OWN);
    const local = secretManifest(JOBS, "local", {
      projectRef: { name: OWN },
      entries: [{ key: "own", literal: "v" }],
      deliver: { secretName: "collide" },
    });
    await world.apply(local, secret("collide", "first"));
    await world.waitReady(SECRET, "local", JOBS);
    await world.apply(rule("collide", { kubernetes: { adopt: true } }));
    expect(conditionOf(await refusedFor("collide", "TargetNameCollision"), "Synced")?.message).toContain(
      `core Secret collide of namespace ${JOBS} is delivered by Secret local there`,
    );
    expect(decoded(await world.get("secret", "collide", JOBS))).toEqual({ own: "v" });
    await remove(RULE, "younger", "collide");
  });

  test("a key that a Secret does not have is named, and holds up no other Secret", async () => {
    await world.apply(
      secret("keyed-one", "v"),
      secretManifest(OWN, "keyed-two", { entries: [{ key: "x", literal: "v" }] }),
    );
    await world.apply(
      rule("keyed", { secrets: { names: ["keyed-*"] }, kubernetes: { keys: [{ from: "password", to: "P" }] } }),
    );
    const seen = await refusedFor("keyed", "TargetKeyUnknown");
    expect(conditionOf(seen, "Synced")?.message).toContain(
      "keyed-two: spec.target.kubernetes.keys: the Secret has no key password",
    );
    await world.waitFor("secret", "keyed-one", JOBS, (it) => decoded(it).P === "v");
    await remove(RULE, "keyed");
  });
});

describe("Pull", () => {
  const partner = secretManifest(OWN, "partner", {
    entries: [
      { key: "token", external: {} },
      { key: "header", template: "Bearer {{ token }}" },
    ],
    deliver: {},
  });
  const pulling = rule("partner", { direction: "Pull", kubernetes: { keys: [{ from: "token", to: "TOKEN" }] } });

  test("nothing is taken that its owner does not let go, and nothing is told of it", async () => {
    await world.apply(partner, pulling);
    const message = (it: KubernetesObject) => conditionOf(it, "Synced")?.message;
    const absent = message(await refusedFor("partner", "TargetMissing"));
    expect(absent).toBe(
      `partner/token: there is no core Secret ${JOBS}/partner with the annotation mazevault.io/allow-pull: pay; create it, or have its owner annotate it`,
    );
    await world.apply(
      coreSecret(JOBS, "partner", { TOKEN: "t1" }, { annotations: { "mazevault.io/allow-pull": "other" } }),
    );
    await world.kubectl("-n", OWN, "annotate", RULE, "partner", "mazevault.io/sync-now=1");
    const seen = await world.waitFor(RULE, "partner", OWN, ({ status }) => status?.lastHandledSyncNow === "1");
    expect(message(seen)).toBe(absent);
    expect(seen.status).toMatchObject({ items: 1, inSync: 0, pending: 1 });
  });

  test("what its owner lets go is taken over, with what is made of it, and each change is one version", async () => {
    await world.kubectl(
      "-n",
      JOBS,
      "annotate",
      "--overwrite",
      "secret",
      "partner",
      "mazevault.io/allow-pull=other, pay",
    );
    await world.waitFor("secret", "partner", OWN, (it) => decoded(it).header === "Bearer t1");
    const { status } = await world.waitReady(SECRET, "partner", OWN);
    await world.waitReady(RULE, "partner", OWN);
    await world.apply(
      coreSecret(JOBS, "partner", { TOKEN: "t2", OTHER: "x" }, { annotations: { "mazevault.io/allow-pull": "pay" } }),
    );
    await world.waitFor("secret", "partner", OWN, (it) => decoded(it).header === "Bearer t2");
    const next = Number(status?.version) + 1;
    await world.waitFor(SECRET, "partner", OWN, (it) => it.status?.version === next);
    const { metadata } = await world.get(RULE, "partner", OWN);
    const rows = await world.sql<{ from: string; entries: string }>(
      `SELECT details->>'from' AS from, details->>'entries' AS entries FROM audit
       WHERE action = 'SecretVersionCreated' AND actor->>'uid' = $1`,
      [metadata.uid],
    );
    expect(rows).toEqual(Array(2).fill({ from: `core Secret ${JOBS}/partner`, entries: "TOKEN" }));
  });

  test("what is deleted there, or no longer let go, keeps its value here", async () => {
    await world.kubectl("-n", JOBS, "annotate", "secret", "partner", "mazevault.io/allow-pull-");
    expect(conditionOf(await refusedFor("partner", "TargetMissing"), "Synced")?.message).toContain(
      "partner/token keeps the value that it had",
    );
    await world.kubectl("-n", JOBS, "delete", "secret", "partner");
    expect(decoded(await world.get("secret", "partner", OWN)).token).toBe("t2");
  });

  test("what MazeVault has delivered there is not taken back, so nothing goes round in circles", async () => {
    await copied("circle", { kubernetes: { secretName: "{secret}-back" } });
    await world.kubectl("-n", JOBS, "annotate", "secret", "circle-back", "mazevault.io/allow-pull=pay");
    const entries = [{ key: "password", external: {} }];
    await world.apply(secretManifest(OWN, "circle-back", { entries }), rule("circle-back", { direction: "Pull" }));
    expect(conditionOf(await refusedFor("circle-back", "TargetNotOwned"), "Synced")?.message).toContain(
      `core Secret ${JOBS}/circle-back was delivered by MazeVault from pay/circle`,
    );
    await remove(RULE, "circle-back");
  });
});

describe("Bidirectional", () => {
  const CONFLICT = "syncconflict.mazevault.io";
  const both = rule("both", {
    direction: "Bidirectional",
    conflictPolicy: "Manual",
    kubernetes: { keys: ["token", "header"].map((key) => ({ from: key, to: key.toUpperCase() })) },
  });
  let client: RestClient;
  let token: string;

  beforeAll(async () => {
    client = RestClient.of(world, surface);
    const { email, password } = await firstAdmin(world);
    token = await client.login(email, password);
    const entries = [
      { key: "user", literal: "app" },
      { key: "token", external: {} },
      { key: "header", template: "{{ user }}:{{ token }}" },
    ];
    await world.apply(secretManifest(OWN, "both", { entries, deliver: {} }), both);
  });

  afterAll(() => client?.close());

  const path = `/api/v1/namespaces/${OWN}/secrets/both/values`;
  const write = async (value: string): Promise<number> => {
    const { status, body } = await client.send("PUT", path, { token, body: { values: { token: value } } });
    expect(status).toBe(200);
    return body.version;
  };
  const valueIn = async (version: number): Promise<string> => {
    const { body } = await client.send("GET", `${path}?key=token&version=${version}`, { token });
    return body.values.token;
  };
  const edit = (value: string) =>
    world.kubectl("-n", JOBS, "patch", "secret", "both", "--type=merge", "-p", `{"stringData":{"TOKEN":"${value}"}}`);
  const suspend = (is: boolean) =>
    world.kubectl("-n", OWN, "patch", RULE, "both", "--type=merge", "-p", `{"spec":{"suspend":${is}}}`);
  const isAt = (version: number) => world.waitFor(SECRET, "both", OWN, ({ status }) => status?.version === version);
  /** Both sides, with what is made of it. */
  async function inStep(value: string): Promise<void> {
    await world.waitFor("secret", "both", OWN, (it) => decoded(it).header === `app:${value}`);
    await world.waitFor("secret", "both", JOBS, (it) =>
      isDeepStrictEqual(decoded(it), { TOKEN: value, HEADER: `app:${value}` }),
    );
    await world.waitReady(RULE, "both", OWN);
  }

  test("what is edited there comes here once its owner lets it go; until then it is written over", async () => {
    const first = await write("first");
    await inStep("first");
    await edit("not let go");
    await inStep("first");
    const seen = await world.get(RULE, "both", OWN);
    expect(conditionOf(seen, "Synced")?.message).toBe(
      `1 core Secrets are in step; edits in ${JOBS}/both are written over, not taken over, until who owns it annotates it with mazevault.io/allow-pull: pay`,
    );
    await world.kubectl("-n", JOBS, "annotate", "secret", "both", "mazevault.io/allow-pull=pay");
    await world.waitFor(RULE, "both", OWN, (it) => conditionOf(it, "Synced")?.message === "1 core Secrets are in step");
    await edit("from there");
    await inStep("from there");
    await isAt(first + 1);
    expect(await write("from here")).toBe(first + 2);
    await inStep("from here");
    await isAt(first + 2);
  });

  test.each([
    ["KeepTarget", "there", ["here", "there"]],
    ["KeepPlatform", "here", ["here", "there", "here"]],
  ] as const)("after both changed, %s by kubectl decides, and both values stay", async (resolution, wins, values) => {
    const value = (side: string) => `${side} ${resolution}`;
    await suspend(true);
    await world.waitFor(RULE, "both", OWN, (it) => conditionOf(it, "Synced")?.reason === "Suspended");
    const before = await write(value("here"));
    await edit(value("there"));
    await suspend(false);
    const seen = await refusedFor("both", "ChangedOnBothSides");
    expect(seen.status).toMatchObject({ items: 1, pending: 1, conflicts: 1 });
    const [conflict, ...others] = await world.list(CONFLICT, OWN);
    expect(others).toEqual([]);
    expect(conflict?.status).toMatchObject({
      secret: "both",
      key: "token",
      name: `${JOBS}/both`,
      platformVersion: before,
    });
    expect(decoded(await world.get("secret", "both", JOBS)).TOKEN).toBe(value("there"));
    const patch = `{"spec":{"resolution":"${resolution}"}}`;
    await world.kubectl("-n", OWN, "patch", CONFLICT, conflict?.metadata.name ?? "", "--type=merge", "-p", patch);
    await inStep(value(wins));
    await until("the conflict is gone", async () => (await world.list(CONFLICT, OWN)).length === 0, {
      timeoutMs: 30_000,
    });
    await isAt(before + values.length - 1);
    const kept = await Promise.all(values.map((_, index) => valueIn(before + index)));
    expect(kept).toEqual(values.map(value));
    expect((await world.get(RULE, "both", OWN)).status?.lastConflict).toMatchObject({
      secret: "both",
      key: "token",
      winner: wins === "here" ? "Platform" : "Target",
    });
  });

  test("what is deleted there is written again", async () => {
    await world.kubectl("-n", JOBS, "delete", "secret", "both");
    await inStep("here KeepPlatform");
  });
});

test("the guide works as it is printed", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "mazevault-copies-"));
  const env = cliEnvironment(world, surface, folder);
  const guide = new URL("../docs/guides/copy-into-other-namespaces.md", import.meta.url);
  const printed: string[] = [];
  try {
    await world.apply(
      ...["shop", "shop-jobs"].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })),
    );
    for (const [, block = ""] of readFileSync(fileURLToPath(guide), "utf8").matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
      const shell = ["--norc", "-euo", "pipefail", "-c", block];
      printed.push((await promisify(execFile)("bash", shell, { cwd: folder, env })).stdout);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  expect(printed).toEqual([
    expect.stringMatching(/condition met\n$/),
    expect.stringMatching(/condition met\n[0-9a-f]{64}\n$/),
    expect.stringMatching(/condition met\nt0ken\n$/),
    expect.stringMatching(/condition met\nfrom-jobs\n$/),
  ]);
});

describe("whoever comes after", () => {
  const state = async () => ({
    cores: (await Promise.all([JOBS, BATCH, OWN].map((namespace) => world.list("secret", namespace))))
      .flat()
      .map(({ metadata: { name, namespace, resourceVersion } }) => `${namespace}/${name} ${resourceVersion}`),
    copies: await world.sql("SELECT *, xmin FROM copies ORDER BY namespace_uid, secret_name"),
    rows: await world.sql("SELECT count(*) FROM audit WHERE action <> 'LeadershipTaken'"),
  });

  let succession: Succession;

  beforeAll(async () => {
    await world.apply(secret("probe", "before"), rule("probe"));
    await world.waitReady(RULE, "probe", OWN);
  });

  test("writes nothing that did not change", async () => {
    const before = await state();
    await operator.process.stop();
    succession = await Succession.begin(world);
    // It has been through every rule when it has seen what each is asked for only now.
    await world.kubectl("-n", OWN, "annotate", RULE, "--all", "--overwrite", "mazevault.io/sync-now=successor");
    for (const { metadata } of await world.list(RULE, OWN)) {
      await world.waitFor(RULE, metadata.name, OWN, ({ status }) => status?.lastHandledSyncNow === "successor");
    }
    expect(await state()).toEqual(before);
  });

  test("goes on where the API server was away", async () => {
    const { apiServer } = world.lab.controlPlane;
    await world.apply(secret("probe", "away"));
    await apiServer.kill();
    await apiServer.ready();
    await has("probe", "away");
  });

  /** Of the steps of a delivery `chaos/failpoints.test.ts` has those beside a Secret. */
  const everyDeath: readonly Death<"copy" | "take" | "exchange">[] = [
    ["delivery.afterDeliver", "copy"],
    ["sync.afterPull", "take"],
    ["sync.afterMeant", "exchange"],
    ["sync.beforeTake", "exchange"],
    ["sync.afterTake", "exchange"],
    ["delivery.afterDeliver", "exchange"],
    ["delivery.beforeDeliver", "copy"],
    ["delivery.afterRecord", "copy"],
    ["delivery.afterWorkloadRestart", "copy"],
    ["delivery.afterRestart", "copy"],
    ["sync.beforePull", "take"],
    ["sync.afterPulled", "take"],
  ];
  const deaths = process.env.CHAOS_FAILPOINTS === "all" ? everyDeath : everyDeath.slice(0, 3);

  test.each(deaths)("of one that died at %s finishes the %s, once", async (failpoint, effect) => {
    const value = `after ${failpoint}`;
    if (effect === "take") {
      const annotations = { "mazevault.io/allow-pull": "pay" };
      const before = Number((await world.get(SECRET, "partner", OWN)).status?.version);
      await succession.dies(failpoint, () =>
        world.apply(coreSecret(JOBS, "partner", { TOKEN: value }, { annotations })),
      );
      await world.waitFor("secret", "partner", OWN, (it) => decoded(it).token === value);
      await world.waitFor(SECRET, "partner", OWN, ({ status }) => status?.version === before + 1);
      return;
    }
    if (effect === "exchange") {
      const before = Number((await world.get(SECRET, "both", OWN)).status?.version);
      const patch = {
        metadata: { annotations: { "mazevault.io/allow-pull": "pay" } },
        stringData: { TOKEN: value },
      };
      await succession.dies(failpoint, () =>
        world.kubectl("-n", JOBS, "patch", "secret", "both", "--type=merge", "-p", JSON.stringify(patch)),
      );
      await world.waitFor("secret", "both", JOBS, (it) => decoded(it).HEADER === `app:${value}`);
      await world.waitFor(SECRET, "both", OWN, ({ status }) => status?.version === before + 1);
      return;
    }
    const versions = async () =>
      (await world.sql("SELECT FROM audit WHERE action = 'SecretVersionCreated' AND subject_name = $1", ["pay/orders"]))
        .length;
    const before = await versions();
    await succession.dies(failpoint, () => world.apply(secret("orders", value)));
    for (const namespace of [JOBS, BATCH]) {
      await world.waitFor("secret", "from-pay.orders", namespace, (it) => decoded(it).DB_PASSWORD === value);
    }
    const pending = () => world.sql("SELECT FROM copies WHERE delivery->>'pendingRestarts' <> '[]'");
    await until("workloads are restarted", async () => (await pending()).length === 0, { timeoutMs: 30_000 });
    expect(await versions()).toBe(before + 1);
  });
});
