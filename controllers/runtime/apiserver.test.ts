/** What only a real API server can tell: its watch cache, its answers, its admission of tokens, its restart. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Resource } from "../../crds/common.ts";
import { type Lab, startLab } from "../../lab/lab.ts";
import { until } from "../../lab/poll.ts";
import { createLogger } from "../../program/logging.ts";
import { ApiError, isAlreadyExists, isConflict, isNotFound } from "./api-error.ts";
import type { Controller } from "./controller.ts";
import { Informer, type InformerOptions } from "./informer.ts";
import { loadKubeConfig } from "./kubeconfig.ts";
import { type ControllerHandle, MazeVaultOperator, type OperatorOptions } from "./operator.ts";
import { coreSecrets, type KubernetesObject, keyOf, type ResourceType } from "./resource-type.ts";
import { TcpProxy } from "./testing/tcp-proxy.ts";
import { KubernetesApi, type KubernetesApiOptions } from "./transport.ts";

const crds: ResourceType = {
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  kind: "CustomResourceDefinition",
  namespaced: false,
};
const widgets: ResourceType = {
  group: "example.test",
  version: "v1",
  plural: "widgets",
  kind: "Widget",
  namespaced: true,
};
const configMaps: ResourceType = { ...coreSecrets, plural: "configmaps", kind: "ConfigMap" };

type Widget = Resource<
  { readonly size: number },
  { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
>;

let dir: string;
let lab: Lab;
let admin: KubernetesApi;
const cleanups: (() => unknown)[] = [];

const eventually = (condition: () => boolean | Promise<boolean>): Promise<boolean> =>
  until(condition.toString(), condition, { timeoutMs: 30_000, intervalMs: 20 });

const connect = async (
  options: KubernetesApiOptions = {},
  kubeconfig = lab.controlPlane.kubeconfigPath,
): Promise<KubernetesApi> => {
  const api = KubernetesApi.connect(await loadKubeConfig(kubeconfig), options);
  cleanups.push(() => api.close());
  return api;
};

const inform = <T extends KubernetesObject>(api: KubernetesApi, options: InformerOptions<T>) => {
  const seen: string[] = [];
  const informer = new Informer<T>(api, { maxBackoffMs: 200, ...options });
  informer.onChange((type, object) => seen.push(`${type} ${object.metadata.name}`));
  cleanups.push(() => informer.stop());
  informer.start();
  return { informer, seen };
};

const widget = (name: string, size = 1) => ({
  apiVersion: "example.test/v1",
  kind: "Widget",
  metadata: { namespace: "default", name },
  spec: { size },
});
const configMap = (name: string) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { namespace: "default", name },
});

const failure = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
};

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "runtime-"));
  lab = await startLab({ dir, durable: false });
  admin = KubernetesApi.connect(await loadKubeConfig(lab.controlPlane.kubeconfigPath));
});

afterAll(async () => {
  await admin?.close();
  await lab?.stop();
  rmSync(dir, { recursive: true, force: true });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

test("a missing kind does not look like a missing object; the informer waits for it", async () => {
  const missingKind = await failure(admin.get(widgets, { namespace: "default", name: "w" }));
  expect(missingKind).toMatchObject({ status: 404 });
  expect(isNotFound(missingKind, "w")).toBe(false);

  const { informer, seen } = inform<Widget>(await connect(), { type: widgets });
  await eventually(() => informer.health.failing === "404");
  await admin.create(crds, widgetDefinition);
  await informer.whenSynced();
  await eventually(async () => {
    await admin.create(widgets, widget("w"));
    return true;
  });
  await eventually(() => seen.includes("added w"));
  expect(isNotFound(await failure(admin.get(widgets, { namespace: "default", name: "other" })), "other")).toBe(true);
});

test("what the API server refuses of a core Secret is not quoted", async () => {
  const secret = (data: unknown) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { namespace: "default", name: "refused" },
    ...(data as object),
  });
  const bad = [
    { stringData: { "bad key": "c4n4ry" } },
    { data: { key: "c4n4ry is no base64 !" } },
    { stringData: { a: { nested: "c4n4ry" } } },
    { type: "kubernetes.io/dockerconfigjson", stringData: { ".dockerconfigjson": "c4n4ry" } },
  ];
  for (const data of bad) {
    for (const attempt of [
      () => admin.create(coreSecrets, secret(data)),
      () => admin.apply(coreSecrets, secret(data), { fieldManager: "test", force: true }),
    ]) {
      const error = await failure(attempt());
      expect(error).toBeInstanceOf(ApiError);
      expect(JSON.stringify(error) + (error as Error).stack).not.toContain("c4n4ry");
    }
  }
});

test("creating, applying, preconditions and deleting tell conflicts from existing objects", async () => {
  const created = await admin.create(configMaps, configMap("c"));
  expect(isAlreadyExists(await failure(admin.create(configMaps, configMap("c"))))).toBe(true);
  const stale = { ...configMap("c"), metadata: { ...configMap("c").metadata, resourceVersion: "1" }, data: { a: "b" } };
  const apply = (object: typeof stale) => admin.apply(configMaps, object, { fieldManager: "test", force: true });
  expect(isConflict(await failure(apply(stale)))).toBe(true);
  const at = { namespace: "default", name: "c" };
  const wrong = { preconditions: { uid: "00000000-0000-0000-0000-000000000000" } };
  expect(isConflict(await failure(admin.delete(configMaps, at, wrong)))).toBe(true);
  const metadata = await admin.get(configMaps, at, { metadataOnly: true });
  expect(metadata).not.toHaveProperty("data");
  await admin.delete(configMaps, at, { preconditions: { uid: created.metadata.uid } });
  expect(isNotFound(await failure(admin.get(configMaps, at)), "c")).toBe(true);
});

test("a cache of metadata only never sees the values of core Secrets", async () => {
  const { informer } = inform(await connect(), { type: coreSecrets, namespace: "default", metadataOnly: true });
  await informer.whenSynced();
  await admin.create(coreSecrets, {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { namespace: "default", name: "valued" },
    stringData: { key: "c4n4ry" },
  });
  await eventually(() => informer.get("default/valued") !== undefined);
  const cached = informer.get("default/valued");
  expect(cached).toMatchObject({ apiVersion: "v1", kind: "Secret" });
  expect(cached).not.toHaveProperty("data");
});

test("an idle watch that the server ends goes on without a list", async () => {
  const calls: string[] = [];
  const api = await connect({ onCall: ({ verb, code }) => calls.push(`${verb} ${code}`) });
  const abort = new AbortController();
  const { resourceVersion } = await firstPage(api, configMaps);
  const events: string[] = [];
  const options = { resourceVersion, timeoutSeconds: 1, inactivityMs: 30_000, signal: abort.signal };
  for await (const { type } of api.watch(configMaps, options)) events.push(type);
  expect(calls).toEqual(["list 200", "watch 200"]);
  expect(events.filter((type) => type !== "BOOKMARK")).toEqual([]);
});

test("a half-open connection to the API server is noticed by its silence", async () => {
  const { hostname, port } = new URL(lab.controlPlane.url);
  const proxy = await TcpProxy.start({ host: hostname, port: Number(port) });
  cleanups.push(() => proxy.stop());
  const config = await loadKubeConfig(lab.controlPlane.kubeconfigPath);
  config.clusters = config.clusters.map((cluster) => ({ ...cluster, server: `https://127.0.0.1:${proxy.port}` }));
  const api = KubernetesApi.connect(config);
  cleanups.push(() => api.close());
  const { informer, seen } = inform(api, { type: configMaps, namespace: "default", inactivityMs: 1_000 });
  await informer.whenSynced();
  await eventually(() => informer.state === "watching");
  proxy.freeze();
  await admin.create(configMaps, configMap("behind-the-freeze"));
  await eventually(() => seen.includes("added behind-the-freeze"));
});

test("a ServiceAccount token, named by tokenFile, that becomes invalid and is replaced", async () => {
  await lab.controlPlane.kubectl(["create", "serviceaccount", "reader"]);
  await lab.controlPlane.kubectl([
    "create",
    "rolebinding",
    "reader",
    "--clusterrole=view",
    "--serviceaccount=default:reader",
  ]);
  const kubeconfig = await lab.controlPlane.serviceAccountKubeconfig({ namespace: "default", name: "reader", dir });
  const api = await connect({}, kubeconfig);
  await eventually(async () => {
    await firstPage(api, configMaps, "default");
    return true;
  });
  expect(await failure(firstPage(api, configMaps))).toMatchObject({ status: 403, reason: "Forbidden" });
  const tokenFile = path.join(dir, "default-reader.token");
  const token = readFileSync(tokenFile);
  writeFileSync(tokenFile, "not-a-token");
  await eventually(async () => {
    const refused = await failureOrNothing(firstPage(api, configMaps, "default"));
    return refused instanceof ApiError && refused.status === 401;
  });
  writeFileSync(tokenFile, token);
  await firstPage(api, configMaps, "default");
});

test("rights that come later: the informer begins by itself", async () => {
  await lab.controlPlane.kubectl(["create", "serviceaccount", "later"]);
  const kubeconfig = await lab.controlPlane.serviceAccountKubeconfig({ namespace: "default", name: "later", dir });
  const { informer } = inform(await connect({}, kubeconfig), { type: configMaps, namespace: "default" });
  await eventually(() => informer.health.failing === "403");
  await lab.controlPlane.kubectl([
    "create",
    "rolebinding",
    "later",
    "--clusterrole=view",
    "--serviceaccount=default:later",
  ]);
  await informer.whenSynced();
  expect(informer.size).toBeGreaterThan(0);
});

/** Two replicas of a small operator: one ConfigMap for each Widget. */
class WidgetOperator extends MazeVaultOperator {
  readonly terms: string[] = [];
  readonly events: string[] = [];
  handle: ControllerHandle | undefined;

  protected override async init(): Promise<void> {
    const cache = this.informer<Widget>({ type: widgets });
    const owned = this.informer<KubernetesObject>({ type: configMaps, namespace: "default", metadataOnly: true });
    const controller: Controller<
      Widget,
      { readonly present: boolean },
      { readonly kind: "create"; readonly name: string }
    > = {
      name: "widgets",
      fieldManager: "widgets",
      resource: widgets,
      observe: async (resource) => ({ present: owned.get(keyOf(resource)) !== undefined }),
      decide: (resource, { present }) => ({
        actions: present ? [] : [{ kind: "create", name: resource.metadata.name }],
        status: {
          conditions: [
            present
              ? { type: "Delivered", status: "True", reason: "Succeeded", message: "it is there" }
              : { type: "Delivered", status: "False", reason: "Progressing", message: "it is not there" },
          ],
        },
        next: { kind: "settled" },
      }),
      perform: async ({ name }, signal) => {
        try {
          await this.fencedApi.create(configMaps, configMap(name), { signal, metadataOnly: true });
        } catch (error) {
          // A cache that lags behind our own write plans it once more: an effect is idempotent, see `Controller`.
          if (!isAlreadyExists(error)) throw error;
        }
      },
      learn: () => ({ present: true }),
    };
    this.handle = this.control(controller, { cache, needs: [owned] }, (runner) => {
      runner.follow(owned, (object, _old, type) => (type === "deleted" ? [keyOf(object)] : []));
    });
    await this.watchResource("example.test", "v1", "widgets", async ({ type, meta }) => {
      this.events.push(`${type} ${meta.name}`);
    });
  }

  protected override async startedLeading(epoch: bigint | undefined): Promise<void> {
    this.terms.push(`began ${epoch}`);
  }

  protected override async stoppedLeading(reason: string): Promise<void> {
    this.terms.push(`ended: ${reason}`);
  }
}

test("two replicas: one leads and converges, the other takes over, and neither writes what is there already", async () => {
  let epoch = 0n;
  const log = createLogger({ level: "silent" });
  const replica = (identity: string): WidgetOperator => {
    const leadership: OperatorOptions["leadership"] = {
      namespace: "default",
      name: "widget-operator",
      identity,
      acquireEpoch: async () => ++epoch,
      retryPeriodMs: 100,
    };
    const operator = new WidgetOperator({ kubeconfig: lab.controlPlane.kubeconfigPath, log, leadership });
    cleanups.push(() => operator.stop());
    return operator;
  };
  const names = Array.from({ length: 20 }, (_, i) => `many-${i}`);
  await Promise.all(names.map((name) => admin.create(widgets, widget(name))));
  const first = replica("first");
  await first.start();
  const ready = async (name: string): Promise<boolean> => {
    const { status } = await admin.get<Widget>(widgets, { namespace: "default", name });
    return status?.conditions?.some((each) => each.type === "Ready" && each.status === "True") ?? false;
  };
  for (const name of names) await eventually(() => ready(name));
  await eventually(() => first.events.filter((event) => event.startsWith("ADDED many-")).length === 20);
  const versions = async (): Promise<(string | undefined)[]> => {
    const { items } = await firstPage(admin, widgets, "default");
    return items.map(({ metadata }) => `${metadata.name} ${metadata.resourceVersion}`);
  };
  const before = await versions();

  const second = replica("second");
  await second.start();
  await first.stop();
  await eventually(() => second.health.leading);
  expect(first.terms).toEqual(["began 1", "ended: the operator is stopping"]);
  expect(second.terms).toEqual(["began 2"]);
  // The second one works: drift is repaired, and nothing else was touched.
  await admin.delete(configMaps, { namespace: "default", name: "many-3" });
  await eventually(
    async () => (await failureOrNothing(admin.get(configMaps, { namespace: "default", name: "many-3" }))) === undefined,
  );
  expect(await versions()).toEqual(before);
});

test("an API server that restarts: the informer goes on, with what changed meanwhile", async () => {
  const { informer, seen } = inform<Widget>(await connect(), { type: widgets });
  await informer.whenSynced();
  await lab.controlPlane.apiServer.restart();
  await eventually(async () => {
    await admin.create(widgets, widget("after-the-restart"));
    return true;
  });
  await eventually(() => seen.includes("added after-the-restart"));
  await eventually(() => informer.health.failing === undefined && informer.state === "watching");
});

const failureOrNothing = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error) => error,
  );

const firstPage = async (api: KubernetesApi, type: ResourceType, namespace?: string) => {
  for await (const page of api.list(type, { namespace })) return page;
  throw new Error("a list has at least one page");
};

const widgetDefinition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "widgets.example.test" },
  spec: {
    group: "example.test",
    scope: "Namespaced",
    names: { kind: "Widget", plural: "widgets", singular: "widget" },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
        },
      },
    ],
  },
};
