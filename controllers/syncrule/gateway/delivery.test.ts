/** A primary's rule and what its gateways make of it in the API server of their cluster. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Unavailable } from "../../../core/errors.ts";
import { deliverSecrets } from "../../../core/fleet/delivery-tasks.ts";
import { GatewayAway } from "../../../core/fleet/tasks.ts";
import { Ambiguous } from "../../../core/ports/target-vault.ts";
import { type Lab, startLab } from "../../../lab/lab.ts";
import type { CoreSecret } from "../../delivery/core-secret.ts";
import { isNotFound } from "../../runtime/api-error.ts";
import { loadKubeConfig } from "../../runtime/kubeconfig.ts";
import { coreSecrets, type ResourceType } from "../../runtime/resource-type.ts";
import { KubernetesApi } from "../../runtime/transport.ts";
import { passing, recordOf, TwoClusters } from "./testing/two-clusters.ts";

const namespaces: ResourceType = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
};
const deployments: ResourceType = {
  group: "apps",
  version: "v1",
  plural: "deployments",
  kind: "Deployment",
  namespaced: true,
};

let dir: string;
let lab: Lab;
let api: KubernetesApi;
let world: TwoClusters;
let namespace: string;
let count = 0;

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-gateway-delivery-"));
  lab = await startLab({ dir, durable: false });
  api = KubernetesApi.connect(await loadKubeConfig(lab.controlPlane.kubeconfigPath), {});
}, 600_000);

afterAll(async () => {
  await api?.close();
  await lab?.stop();
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  count += 1;
  namespace = `there-${count}`;
  await api.create(namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  world = await TwoClusters.of(api, namespace);
});

const read = async (name: string): Promise<CoreSecret | undefined> => {
  try {
    return await api.get<CoreSecret>(coreSecrets, { namespace, name });
  } catch (error) {
    if (isNotFound(error, name)) return undefined;
    throw error;
  }
};

const dataOf = async (name: string): Promise<Record<string, string>> =>
  Object.fromEntries(
    Object.entries((await read(name))?.data ?? {}).map(([key, value]) => [
      key,
      Buffer.from(value, "base64").toString(),
    ]),
  );

const make = (name: string, data: Record<string, string>, metadata: object = {}, more: object = {}): Promise<unknown> =>
  api.create(coreSecrets, {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, ...metadata },
    type: "Opaque",
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")])),
    ...more,
  });

const edit = (name: string, patch: object): Promise<unknown> =>
  api.mergePatch(coreSecrets, { namespace, name }, patch, { fieldManager: "somebody" });

const base64 = (value: string): string => Buffer.from(value).toString("base64");

const workload = (name: string, secretName: string): Promise<unknown> => {
  const labels = { app: name };
  const containers = [{ name, image: "none", envFrom: [{ secretRef: { name: secretName } }] }];
  const spec = { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: { containers } } };
  return api.create(deployments, {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace },
    spec,
  } as never);
};

const trigger = async (name: string, secretName: string): Promise<string | undefined> => {
  const { spec } = await api.get<{
    metadata: never;
    spec: { template: { metadata: { annotations?: Record<string, string> } } };
  }>(deployments, { namespace, name });
  return spec.template.metadata.annotations?.[`restart.mazevault.io/${secretName}`];
};

describe("delivering", () => {
  test("a Secret becomes a core Secret there, whole and marked, and is on record on both sides", async () => {
    world.change({
      secretName: "from-{secret}",
      keys: [{ from: "password", to: "DB_PASSWORD" }],
      labels: { tier: "db" },
    });
    await world.write("db", { user: "app", password: "first" });
    await world.pass();
    const there = await read("from-db");
    expect(await dataOf("from-db")).toEqual({ DB_PASSWORD: "first" });
    expect(there?.metadata).toMatchObject({
      labels: { tier: "db", "app.kubernetes.io/managed-by": "mazevault" },
      annotations: {
        "mazevault.io/delivered-from": "pay/db",
        "mazevault.io/installation": "primary",
        "mazevault.io/sync-rule": "uid-pay-r",
      },
    });
    expect(there?.metadata.ownerReferences).toBeUndefined();
    expect(world.status).toMatchObject({ items: 1, inSync: 1, pending: 0 });
    expect(world.condition("TargetReachable")?.status).toBe("True");
    expect(world.condition("Synced")?.status).toBe("True");
    const ours = world.audited.filter(({ actor }) => actor.kind === "Object");
    expect(ours.map(({ action, details }) => [action, details.purpose ?? details.gateway])).toEqual([
      ["SecretRead", `core Secret ${namespace}/from-db in the cluster of Gateway gw-pro for SyncRule pay/r`],
      ["SecretDelivered", "gw-pro"],
    ]);
    expect(world.there.audited).toEqual([
      expect.objectContaining({
        action: "SecretDelivered",
        subject: { kind: "Secret", id: "uid-pay-db", name: "pay/db" },
        details: expect.objectContaining({
          coreSecret: `${namespace}/from-db`,
          installation: "primary",
          ruleUid: "uid-pay-r",
          environment: "PRO",
        }),
      }),
    ]);
  });

  test("a change arrives at once, restarts who uses it there, once, and a repaired value restarts nothing", async () => {
    await workload("app", "db");
    world.change({ restartConsumers: true });
    await world.write("db", { password: "first" });
    await world.pass();
    expect(await trigger("app", "db")).toBeUndefined();
    await world.write("db", { password: "second" });
    await world.pass({ look: false });
    expect(await dataOf("db")).toEqual({ password: "second" });
    const restarted = await trigger("app", "db");
    expect(restarted).toMatch(/^[0-9a-f]{64}$/);
    await edit("db", { data: { password: base64("somebody's") } });
    await world.pass();
    expect(await dataOf("db")).toEqual({ password: "second" });
    expect(await trigger("app", "db")).toBe(restarted);
  });

  test("what another gateway has made in its own cluster is brought up to date there, and who has read it is restarted", async () => {
    await workload("app", "db");
    world.change({ restartConsumers: true });
    await world.write("db", { password: "second" });
    await world.pass();
    // As it stands in the cluster of the one that acts from now on, which has missed a change.
    const annotations = (await read("db"))?.metadata.annotations;
    await api.delete(coreSecrets, { namespace, name: "db" });
    await make("db", { password: "first" }, { annotations });
    await world.pass();
    expect(await dataOf("db")).toEqual({ password: "second" });
    expect(await trigger("app", "db")).toMatch(/^[0-9a-f]{64}$/);
    const { length } = world.delivered;
    await world.pass();
    expect(world.delivered).toHaveLength(length);
  });

  test("whoever starts anew looks, and neither writes nor opens anything", async () => {
    await world.write("db", { password: "first" });
    await world.write("mail", { token: "t" });
    await world.pass();
    const [rows, audited, there] = [world.changes, world.there.audited.length, await read("db")];
    await world.restart();
    await world.pass({ look: false });
    expect(world.sent.at(-1)?.kind).toBe("LookAtSecrets");
    expect(JSON.stringify(world.sent.at(-1)?.body)).not.toContain("data");
    expect(world.changes).toBe(rows);
    expect(world.there.audited.length).toBe(audited);
    expect((await read("db"))?.metadata.resourceVersion).toBe(there?.metadata.resourceVersion);
    expect(world.status).toMatchObject({ items: 2, inSync: 2 });
  });

  test("what is looked at only when it is time is otherwise not asked about", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    const tasks = world.sent.length;
    await world.pass({ look: false });
    expect(world.sent.length).toBe(tasks);
    world.annotate({ "mazevault.io/sync-now": "1" });
    await world.pass({ look: false });
    expect(world.sent.length).toBe(tasks + 1);
    expect(world.status.lastHandledSyncNow).toBe("1");
  });

  test("what is known of core Secrets goes with the rule that made them", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    expect(world.copies.size).toBe(1);
    await world.ruleGone();
    expect(world.copies.size).toBe(0);
  });

  test("what a gateway answers while another one takes over does not count as a look", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    world.onTask = () => world.gatewayChanged();
    await world.pass();
    world.onTask = () => {};
    const tasks = world.sent.length;
    await world.pass({ look: false });
    expect(world.sent.length).toBe(tasks + 1);
    await world.pass({ look: false });
    expect(world.sent.length).toBe(tasks + 1);
  });

  test("drift is found without values: data is repaired, a deletion undone, foreign labels stay and cost nothing", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    await edit("db", { metadata: { labels: { theirs: "yes" } } });
    const touched = (await read("db"))?.metadata.resourceVersion;
    await world.pass();
    expect(world.delivered).toEqual(["gw-pro db"]);
    expect((await read("db"))?.metadata.resourceVersion).toBe(touched);
    await world.pass();
    expect(world.delivered).toEqual(["gw-pro db"]);
    await edit("db", { data: { password: base64("other"), more: base64("x") } });
    await world.pass();
    expect(await dataOf("db")).toEqual({ password: "first" });
    expect((await read("db"))?.metadata.labels).toMatchObject({ theirs: "yes" });
    await edit("db", { metadata: { annotations: { "mazevault.io/delivered-from": null } } });
    await world.pass();
    expect((await read("db"))?.metadata.annotations).toMatchObject({ "mazevault.io/delivered-from": "pay/db" });
    await api.delete(coreSecrets, { namespace, name: "db" });
    await world.pass();
    expect(await dataOf("db")).toEqual({ password: "first" });
  });

  test("what is no longer covered stays as it is", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    world.change({}, { secrets: { names: ["other"] } });
    await world.pass();
    expect(await dataOf("db")).toEqual({ password: "first" });
    expect(world.status).toMatchObject({ items: 0, inSync: 0 });
  });

  test("many go in few tasks, each with no more values than it may have", async () => {
    for (let index = 0; index < 120; index++) await world.write(`s-${index}`, { password: `v${index}` });
    await world.write("large", { blob: "x".repeat(300_000) });
    await world.pass();
    expect(world.status).toMatchObject({ items: 121, inSync: 121, pending: 0 });
    const kinds = world.sent.map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === "LookAtSecrets")).toHaveLength(1);
    const tasks = kinds.filter((kind) => kind === "DeliverSecrets").length;
    expect(tasks).toBeLessThanOrEqual(4);
    // Before values are opened, and before they leave; and by each round of the pass.
    expect(world.asked).toBeLessThanOrEqual(2 * tasks + 4);
    expect(await dataOf("s-119")).toEqual({ password: "v119" });
  });

  test("a look asks about no more than its answer holds", async () => {
    const keys = Array.from({ length: 100 }, (_, at) => [`${at}-`.padEnd(250, "k"), "v"]);
    for (let index = 0; index < 10; index++) await world.write(`s-${index}`, Object.fromEntries(keys));
    await world.pass();
    expect(world.status).toMatchObject({ items: 10, inSync: 10, pending: 0 });
    const looks = world.sent.filter(({ kind }) => kind === "LookAtSecrets");
    expect(looks.length).toBeGreaterThan(1);
    expect(Math.max(...looks.map(({ body }) => JSON.stringify(body).length))).toBeLessThan(410_000);
  });
});

describe("whose a core Secret is", () => {
  test("somebody else's is left alone, without a value being opened, until adopt says that it is equal", async () => {
    await make("db", { password: "theirs" });
    await world.write("db", { password: "first" });
    await world.pass();
    expect(world.reasons).toEqual(["TargetNotOwned"]);
    expect(world.status.failures?.[0]?.message).toContain("set spec.target.gateway.kubernetes.adopt to take it over");
    expect(world.delivered).toEqual([]);
    world.change({ adopt: true });
    await world.pass();
    expect(world.reasons).toEqual(["TargetDiffers"]);
    // Until one of both changes nothing is opened for it again.
    await world.pass();
    await world.pass();
    expect(world.delivered).toEqual(["gw-pro db"]);
    expect(world.reasons).toEqual(["TargetDiffers"]);
    expect(await dataOf("db")).toEqual({ password: "theirs" });
    await edit("db", { data: { password: base64("first") } });
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 1, pending: 0 });
    expect((await read("db"))?.metadata.annotations).toMatchObject({ "mazevault.io/installation": "primary" });
  });

  test("another primary's is somebody else's", async () => {
    await make(
      "db",
      { password: "first" },
      {
        annotations: { "mazevault.io/delivered-from": "pay/db", "mazevault.io/installation": "another" },
      },
    );
    await world.write("db", { password: "first" });
    await world.pass();
    expect(world.reasons).toEqual(["TargetNotOwned"]);
  });

  test("what the gateway's own cluster delivers or copies comes first", async () => {
    await world.write("db", { password: "first" });
    world.there.tenants.secrets = [
      {
        metadata: { name: "local", namespace, uid: "l", resourceVersion: "1" },
        spec: { deliver: { secretName: "db" } },
      } as never,
    ];
    await world.pass();
    expect(world.reasons).toEqual(["TargetNameCollision"]);
    expect(await read("db")).toBeUndefined();
  });

  test("of two rules through one gateway the older one writes", async () => {
    const other = passing("a-older", namespace);
    world.tenants.rules = [other, world.rule];
    await world.write("db", { password: "first" });
    await world.pass();
    expect(world.reasons).toEqual(["RulesOverlap"]);
    expect(world.status.failures?.[0]?.message).toContain("SyncRule a-older writes core Secret db");
    world.tenants.rules = [world.rule];
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 1 });
  });

  test("where one gateway acts for another, two rules that meet do not write in turn", async () => {
    const other = passing("dr", namespace);
    const through = { ref: { name: "gw-dr" }, kubernetes: { namespace, labels: { by: "dr" } } };
    const second = { ...other, spec: { ...other.spec, target: { gateway: through } } };
    world.join("gw-dr", "PRO", world.there);
    world.tenants.pairs.push(["gw-pro", "gw-dr"]);
    // Through gateways that never act for this one, however many.
    const apart = Array.from({ length: 100 }, (_, at) => {
      const rule = passing(`apart-${at}`, namespace);
      return { ...rule, spec: { ...rule.spec, target: { gateway: { ...through, ref: { name: `gw-${at}` } } } } };
    });
    world.tenants.rules = [world.rule, ...apart, second];
    await world.write("db", { password: "first" });
    // What the other one has made there while it acted.
    const mark = { "mazevault.io/delivered-from": "pay/db", "mazevault.io/installation": "primary" };
    await make(
      "db",
      { password: "first" },
      { annotations: { ...mark, "mazevault.io/sync-rule": second.metadata.uid } },
    );
    await world.pass();
    expect(world.reasons).toEqual(["RulesOverlap"]);
    expect(world.delivered).toEqual([]);
    expect(world.sent.at(-1)?.body.secrets).toMatchObject([{ rivals: [second.metadata.uid] }]);
    world.tenants.rules = [world.rule];
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 1 });
  });

  test("another type, an immutable one and what an object controls are told for what they are", async () => {
    await make("typed", { password: "v" }, {}, { type: "example.com/own" });
    const owner = { apiVersion: "v1", kind: "ExternalSecret", name: "x", uid: "u", controller: true };
    await make("owned", { password: "v" }, { ownerReferences: [owner] });
    world.change({ adopt: true });
    await world.write("typed", { password: "v" });
    await world.write("owned", { password: "v" });
    await world.write("frozen", { password: "v" });
    await world.pass();
    await edit("frozen", { immutable: true });
    await world.write("frozen", { password: "w" });
    await world.pass();
    const failures = Object.fromEntries((world.status.failures ?? []).map(({ secret, reason }) => [secret, reason]));
    expect(failures).toEqual({ typed: "TargetTypeDiffers", owned: "TargetNotOwned", frozen: "TargetDiffers" });
  });

  test("what is sealed for its readers, or named as Kubernetes cannot, is refused here", async () => {
    await world.write("sealed", { password: "v" }, { protection: "EndToEnd" });
    await world.pass();
    expect(world.reasons).toEqual(["EndToEndProtected"]);
    world.change({ keys: [{ from: "none", to: "X" }] });
    await world.write("db", { password: "v" });
    await world.pass();
    expect(world.reasons).toEqual(["EndToEndProtected", "TargetKeyUnknown"]);
    expect(world.status.failures?.[1]?.message).toContain("spec.target.gateway.kubernetes.keys");
    expect(world.sent).toEqual([]);
  });
});

describe("where it may be written", () => {
  test.each([
    [
      "no Project of that name is there",
      () => world.there.tenants.admissions.delete("pay"),
      "NamespaceNotServed",
      /apply a Project pay to that cluster/,
    ],
    [
      "the Project there does not admit it",
      () => world.there.tenants.admissions.get("pay")?.clear(),
      "NamespaceNotAdmitted",
      /add it to spec.namespaces of that Project there/,
    ],
    [
      "the namespace is not there",
      () => world.there.tenants.existing.clear(),
      "TargetNamespaceNotFound",
      /does not exist yet; create it/,
    ],
    [
      "the gateway has no access there yet",
      () => world.there.tenants.withoutRights.add(namespace),
      "NamespaceNotOnboarded",
      /no access to namespace/,
    ],
  ] as const)("%s: nothing is opened", async (_title, act, reason, says) => {
    await world.write("db", { password: "first" });
    act();
    await world.pass();
    expect(world.condition("TargetReachable")).toMatchObject({ status: "False", reason });
    expect(world.condition("TargetReachable")?.message).toMatch(says);
    expect(world.condition("Synced")?.status).toBe("False");
    expect(world.delivered).toEqual([]);
    expect(await read("db")).toBeUndefined();
  });
});

describe("environments never mix", () => {
  const NPR = "gw-pro is of NPR";

  test.each<[string, () => void]>([
    [NPR, () => void world.records.set("gw-pro", recordOf("gw-pro", "NPR"))],
    [
      "its object says so",
      () => {
        const gateway = world.tenants.gateways.get("gw-pro");
        if (gateway !== undefined) world.tenants.gateways.set("gw-pro", { ...gateway, spec: { environment: "NPR" } });
      },
    ],
    [
      "its status says so",
      () => {
        const gateway = world.tenants.gateways.get("gw-pro");
        const status = { environment: "NPR", conditions: [] } as never;
        if (gateway !== undefined) world.tenants.gateways.set("gw-pro", { ...gateway, status });
      },
    ],
    ["the Project names no environment of gateways", () => void world.tenants.gatewayEnvironments.delete("pro")],
    ["the Project names another one", () => void world.tenants.gatewayEnvironments.set("pro", "NPR")],
  ])("%s: the rule is refused, and nothing is sent", async (_title, act) => {
    await world.write("db", { password: "first" });
    act();
    expect(await world.pass()).toBe("GatewayEnvironmentDiffers");
    expect(world.sent).toEqual([]);
  });

  test("a record that changes between look and value keeps the value here", async () => {
    await world.write("db", { password: "first" });
    const look = world.records.get("gw-pro");
    let asked = 0;
    world.records.get = (name: string) => {
      asked += 1;
      return asked === 1 ? look : recordOf(name, "NPR");
    };
    await world.pass();
    expect(world.delivered).toEqual([]);
    expect(world.reasons).toEqual(["GatewayEnvironmentDiffers"]);
    expect(world.audited.map(({ action }) => action)).not.toContain("SecretRead");
  });

  test("a gateway refuses what is for another environment, whoever sends it and however it came", async () => {
    const npr = world.join("gw-npr", "NPR");
    await world.write("db", { password: "first" });
    await world.pass();
    const body = world.sent.find(({ kind }) => kind === "DeliverSecrets")?.body;
    await api.delete(coreSecrets, { namespace, name: "db" });
    await expect(world.performAt(npr, deliverSecrets, body as never)).rejects.toMatchObject({
      code: "GatewayEnvironmentDiffers",
    });
    npr.tenants.gatewayEnvironments.set("pro", "PRO");
    const disguised = { ...body, environment: "NPR" };
    await expect(world.performAt(npr, deliverSecrets, disguised as never)).rejects.toMatchObject({
      code: "GatewayEnvironmentDiffers",
    });
    expect(await read("db")).toBeUndefined();
    expect(npr.audited).toEqual([]);
  });

  test("what one would deliver of an environment that the rule does not cover is not even looked at", async () => {
    await world.write("db", { password: "first" }, { environment: "dev" });
    await world.pass();
    expect(world.sent).toEqual([]);
    expect(world.status).toMatchObject({ items: 0 });
  });
});

describe("what fails", () => {
  test("no Gateway of that name, or one that has not registered, is waited for", async () => {
    await world.write("db", { password: "first" });
    world.records.delete("gw-pro");
    expect(await world.pass()).toBe("AwaitingRegistration");
    world.records.set("gw-pro", { ...recordOf("gw-pro", "PRO"), revokedAt: new Date() });
    expect(await world.pass()).toBe("AwaitingRegistration");
    world.tenants.gateways.clear();
    expect(await world.pass()).toBe("GatewayNotFound");
  });

  test("a gateway that is away is told, asked by one at a time, and caught up on when it is back", async () => {
    await world.write("db", { password: "first" });
    world.lost.push({
      kind: "LookAtSecrets",
      when: "Before",
      error: new GatewayAway("gw-pro", "nobody took it"),
    });
    await world.pass();
    expect(world.condition("TargetReachable")).toMatchObject({ status: "False", reason: "GatewayUnavailable" });
    expect(world.condition("Synced")).toMatchObject({ status: "False", reason: "GatewayUnavailable" });
    const tasks = world.sent.length;
    await world.pass({ look: false });
    expect(world.sent.length).toBe(tasks);
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 1 });
    expect(world.condition("TargetReachable")?.status).toBe("True");
  });

  test("what was in step stays so in the status while the gateway is away", async () => {
    await world.write("db", { password: "first" });
    await world.pass();
    world.lost.push({
      kind: "LookAtSecrets",
      when: "Before",
      error: new GatewayAway("gw-pro", "nobody took it"),
    });
    await world.pass();
    expect(world.status).toMatchObject({ inSync: 1, pending: 0 });
    expect(world.condition("TargetReachable")?.status).toBe("False");
    expect(world.condition("Synced")?.status).toBe("True");
  });

  test.each(["answer lost", "primary died"])(
    "done there and not known here (%s): it is done once, restart included",
    async (how) => {
      await workload("app", "db");
      world.change({ restartConsumers: true });
      await world.write("db", { password: "first" });
      await world.pass();
      await world.write("db", { password: "second" });
      const error = new Ambiguous("DeliverSecrets", "the connection ended");
      world.lost.push({ kind: "DeliverSecrets", when: "After", error });
      await world.pass();
      expect(world.condition("TargetReachable")).toMatchObject({ status: "False", reason: "GatewayUnavailable" });
      expect(await dataOf("db")).toEqual({ password: "second" });
      const [version, restarted] = [(await read("db"))?.metadata.resourceVersion, await trigger("app", "db")];
      if (how === "primary died") await world.restart();
      await world.pass();
      expect(world.status).toMatchObject({ inSync: 1, pending: 0 });
      expect((await read("db"))?.metadata.resourceVersion).toBe(version);
      expect(await trigger("app", "db")).toBe(restarted);
    },
  );

  test("a gateway that may not act any more writes nothing", async () => {
    await world.write("db", { password: "first" });
    world.there.acts = false;
    await world.pass();
    expect(world.condition("TargetReachable")).toMatchObject({ status: "False", reason: "GatewayFenced" });
    expect(await read("db")).toBeUndefined();
    expect(world.there.audited).toEqual([]);
  });

  test("a gateway that is too old says so", async () => {
    await world.write("db", { password: "first" });
    world.lost.push({ kind: "LookAtSecrets", when: "Before", error: new Unavailable("GatewayTaskUnknown", "too old") });
    await world.pass();
    expect(world.condition("TargetReachable")).toMatchObject({ status: "False", reason: "GatewayTaskUnknown" });
  });

  test("a value that its type does not take holds up no other, and is not sent again", async () => {
    world.change({ type: "kubernetes.io/dockerconfigjson" });
    await world.write("wrong", { ".dockerconfigjson": "no json" });
    await world.write("right", { ".dockerconfigjson": "{}" });
    await world.pass();
    expect(world.reasons).toEqual(["ValueInvalid"]);
    expect(world.status).toMatchObject({ inSync: 1, pending: 1 });
    const sent = world.delivered.length;
    await world.pass();
    expect(world.delivered.length).toBe(sent);
    expect(JSON.stringify(world.status)).not.toContain("no json");
  });

  test("a suspended rule does nothing", async () => {
    await world.write("db", { password: "first" });
    world.change({}, { suspend: true });
    await world.pass();
    expect(world.sent).toEqual([]);
    expect(world.condition("Synced")?.reason).toBe("Suspended");
  });
});

afterEach(() => expect(world.errors).toEqual([]));
