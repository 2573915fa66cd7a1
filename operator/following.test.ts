import type { ObjectCache } from "../controllers/runtime/cache.ts";
import type { KubernetesObject } from "../controllers/runtime/resource-type.ts";
import type { Gateway } from "../crds/gateway.ts";
import type { GatewayEnvironment } from "../crds/gatewayenvironment.ts";
import type { Caches } from "./caches.ts";
import { followReturns } from "./following.ts";

type Change = (object: unknown, old: unknown, type: "added" | "updated" | "deleted") => Iterable<string>;

const gateway = (ready: "True" | "False", heartbeat = "1"): Gateway =>
  ({
    metadata: { name: "npr", uid: "uid", generation: 1 },
    status: { lastHeartbeat: heartbeat, conditions: [{ type: "Ready", status: ready }] },
  }) as unknown as Gateway;

const environment = (acting: "True" | "False", epoch: string): GatewayEnvironment =>
  ({
    metadata: { name: "NPR", uid: "pair", generation: 1 },
    spec: { primaryRef: { name: "npr" }, standbyRef: { name: "npr-dr" } },
    status: { epoch, conditions: [{ type: "Acting", status: acting }] },
  }) as unknown as GatewayEnvironment;

/** What is looked at when something changes in a cache. */
function follow(): { readonly gateways: Change; readonly environments: Change } {
  const caches = { gatewayCache: {}, gatewayEnvironmentCache: {} } as unknown as Caches;
  const followed = new Map<unknown, Change>();
  const runner = {
    follow: <T extends KubernetesObject>(cache: ObjectCache<T>, keys: unknown) => followed.set(cache, keys as Change),
  };
  followReturns(runner as unknown as Parameters<typeof followReturns>[0], caches, (name) => [`through ${name}`]);
  const of = (cache: unknown) => followed.get(cache) as Change;
  return { gateways: of(caches.gatewayCache), environments: of(caches.gatewayEnvironmentCache) };
}

test("what goes through a gateway is looked at when that is in touch again, not for each heartbeat, and not when it goes", () => {
  const { gateways } = follow();
  expect(gateways(gateway("True"), gateway("False"), "updated")).toEqual(["through npr"]);
  expect(gateways(gateway("True"), undefined, "added")).toEqual(["through npr"]);
  expect(gateways(gateway("True", "2"), gateway("True", "1"), "updated")).toEqual([]);
  expect(gateways(gateway("False"), gateway("True"), "updated")).toEqual([]);
});

test("also when another one of the pair has begun to act, and not before", () => {
  const { environments } = follow();
  const both = ["through npr", "through npr-dr"];
  expect(environments(environment("False", "2"), environment("True", "1"), "updated")).toEqual([]);
  expect(environments(environment("True", "2"), environment("False", "2"), "updated")).toEqual(both);
  expect(environments(environment("True", "2"), environment("True", "2"), "updated")).toEqual([]);
});
