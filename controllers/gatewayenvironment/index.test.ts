/** An environment and its Failovers over several passes of both controllers, with the store in memory. */
import { createSecretKey } from "node:crypto";
import { Fenced, Unavailable } from "../../core/errors.ts";
import { FENCE_MS } from "../../core/fleet/environment.ts";
import { Environments } from "../../core/fleet/environments.ts";
import type { Heartbeat } from "../../core/fleet/protocol.ts";
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeDatabase } from "../../core/ports/fake-database.ts";
import { FakeEnvironmentStore } from "../../core/ports/fake-environment-store.ts";
import { FakeFleetStore } from "../../core/ports/fake-fleet-store.ts";
import { UNLED, type Writer } from "../../core/ports/vault-store.ts";
import { API_VERSION, type Resource } from "../../crds/common.ts";
import type { Failover, FailoverSpec } from "../../crds/failover.ts";
import type { Gateway } from "../../crds/gateway.ts";
import type { GatewayEnvironment, GatewayEnvironmentSpec } from "../../crds/gatewayenvironment.ts";
import { FailoverController } from "../failover/index.ts";
import { ApiError } from "../runtime/api-error.ts";
import { settledStatus } from "../runtime/conditions.ts";
import type { Controller } from "../runtime/controller.ts";
import type { KubernetesApi, WritableObject } from "../runtime/transport.ts";
import { CALM_MS } from "./decide.ts";
import { GatewayEnvironmentController } from "./index.ts";

const { signal } = new AbortController();
const MINUTE = 60_000;
const keys = { installationId: "here", fleet: createSecretKey(Buffer.alloc(32, 1)) };
const ROLES = { "gw-1": "primary", "gw-2": "dr-standby" } as const;
type Name = keyof typeof ROLES;

let now: Date;
let database: FakeDatabase;
let fleet: FakeFleetStore;
let store: FakeEnvironmentStore;
let environments: Environments;
let writer: Writer;
let object: GatewayEnvironment;
let failovers: Map<string, Failover>;
let switched: string[];
/** Whether the API server has the GatewayEnvironment. */
let stands: boolean;
/** Names of Failovers that the controller tried to make; those in `unseen` it made, and has not seen. */
let asked: string[];
let unseen: Set<string>;
/** Of the API server, against the one of the store. */
let apiClockAheadMs: number;
/** What becomes of an attempt to make one. */
let lost: "request" | "answer" | undefined;
let controller: GatewayEnvironmentController;
let requests: FailoverController;

const api = {
  get: async () => {
    if (stands) return { metadata: object.metadata };
    throw new ApiError({ status: 404, reason: "NotFound", message: "there is none", details: { name: "npr" } });
  },
  create: async (_type: unknown, { metadata, spec }: WritableObject) => {
    asked.push(metadata.name);
    if (lost === "request") throw new Error("the API server does not answer");
    const details = { name: metadata.name };
    if (failovers.has(metadata.name) || unseen.has(metadata.name))
      throw new ApiError({ status: 409, reason: "AlreadyExists", message: "it is there", details });
    if (lost === "answer") {
      unseen.add(metadata.name);
      throw new Error("the API server does not answer");
    }
    ask(metadata.name, spec as FailoverSpec);
    return failovers.get(metadata.name);
  },
} as unknown as KubernetesApi;

beforeEach(async () => {
  now = new Date("2026-03-01T12:00:00Z");
  database = new FakeDatabase();
  fleet = new FakeFleetStore(database, { certificatesOf: async () => [] }, undefined, () => now);
  store = new FakeEnvironmentStore(database, () => now);
  environments = new Environments({ store, keys });
  writer = { epoch: await database.acquireEpoch("test") };
  failovers = new Map();
  switched = [];
  asked = [];
  unseen = new Set();
  lost = undefined;
  apiClockAheadMs = 0;
  stands = true;
  object = environment();
  const cluster = {
    gateway: (name: string): Gateway => ({
      apiVersion: API_VERSION,
      kind: "Gateway",
      metadata: { name, uid: name, resourceVersion: "1" },
      spec: { environment: "NPR", role: ROLES[name as Name] },
    }),
    gatewayEnvironments: () => [object],
    gatewayEnvironment: () => object,
    failoversOf: () => [...failovers.values()],
  };
  const shared = { cluster, environments, store: fleet, audit: new FakeAuditLog(database), writer: () => writer };
  controller = new GatewayEnvironmentController({ ...shared, api });
  requests = new FailoverController({ ...shared, onSwitched: (name) => switched.push(name) });
  for (const name of ["gw-1", "gw-2"] as const) await registers(name);
});

const environment = (spec: Partial<GatewayEnvironmentSpec> = {}): GatewayEnvironment => ({
  apiVersion: API_VERSION,
  kind: "GatewayEnvironment",
  metadata: { name: "npr", uid: "uid-npr", resourceVersion: "1", creationTimestamp: now.toISOString() },
  spec: { environment: "NPR", primaryRef: { name: "gw-1" }, standbyRef: { name: "gw-2" }, ...spec },
});

function ask(name: string, spec: Partial<FailoverSpec>): void {
  failovers.set(name, {
    apiVersion: API_VERSION,
    kind: "Failover",
    metadata: {
      name,
      uid: `uid-${name}`,
      resourceVersion: "1",
      creationTimestamp: new Date(now.getTime() + apiClockAheadMs).toISOString(),
    },
    spec: { environmentRef: { name: "npr" }, activate: "Standby", ...spec },
  });
}

const ids = new Map<string, string>();

async function registers(name: Name): Promise<void> {
  const place = { environment: "NPR", role: ROLES[name] };
  const hash = Buffer.from(name.padEnd(32));
  const token = { name, place, hash, expiresAt: new Date(now.getTime() + MINUTE), mac: hash, audit: () => [] };
  await fleet.addToken(UNLED, token);
  const redeemed = await fleet.redeem({ hash, keyDigest: hash, place, now, audit: () => [] });
  if (typeof redeemed === "string") throw new Error(redeemed);
  ids.set(name, redeemed.id);
  await beat(name);
}

async function beat(name: Name, change: Partial<Heartbeat> = {}): Promise<void> {
  const certificateNotAfter = new Date(now.getTime() + 90 * 1_440 * MINUTE).toISOString();
  const told = { version: "1.5.0", problems: [], queueLength: 0, certificateNotAfter, ...change };
  await fleet.heartbeat(ids.get(name) ?? "", told);
}

/** As the runner does it; the status that is written. */
async function pass<R extends Resource, O, A extends { readonly kind: string }, T>(
  of: Controller<R, O, A, T>,
  resource: R,
): Promise<R> {
  let seen: O = await of.observe(resource, signal);
  for (let round = 0; round < 8; round++) {
    const { actions, status, next } = of.decide(resource, seen, now);
    if (actions.length === 0) return { ...resource, status: settledStatus(resource, status, next, now) };
    for (const action of actions) seen = of.learn(seen, action, await of.perform(action, signal));
  }
  throw new Error("it does not come to an end");
}

const settle = async (): Promise<void> => {
  object = await pass(controller, object);
};

async function request(name: string): Promise<Failover["status"]> {
  const found = failovers.get(name);
  if (found === undefined) throw new Error("there is none");
  failovers.set(name, await pass(requests, found));
  return failovers.get(name)?.status;
}

const later = (ms: number): void => {
  now = new Date(now.getTime() + ms);
};

const acting = async (): Promise<readonly string[]> => {
  const found: string[] = [];
  for (const [name, role] of Object.entries(ROLES)) {
    const member = { gatewayId: name, name, environment: "NPR", role, serialNumber: "01" };
    if ((await environments.standing(member)).active) found.push(name);
  }
  return found;
};

const recorded = () =>
  database.audit.filter(({ entry }) => entry.subject.kind === "GatewayEnvironment").map(({ entry }) => entry);

/** Nothing but these is heard, minute by minute. */
async function minutes(count: number, ...names: readonly Name[]): Promise<void> {
  for (let minute = 0; minute < count; minute += 1) {
    later(MINUTE);
    for (const name of names) await beat(name);
    await settle();
  }
}

async function handOver(name: string, activate: "Primary" | "Standby"): Promise<void> {
  ask(name, { activate });
  await request(name);
  await settle();
  later(FENCE_MS);
  await settle();
  expect(await request(name)).toMatchObject({ outcome: "Completed" });
}

test("DR is activated, and the primary acts again; each step is on record once, with who asked for it", async () => {
  await settle();
  expect(await acting()).toEqual(["gw-1"]);
  ask("npr-1", { activate: "Standby" });
  expect(await request("npr-1")).toMatchObject({ epoch: 2 });
  expect(switched).toEqual(["npr"]);
  expect(await acting()).toEqual([]);
  await settle();
  later(FENCE_MS);
  expect(await acting()).toEqual(["gw-2"]);
  await settle();
  expect(object.status).toMatchObject({ active: "Standby", activeGateway: "gw-2", epoch: 2 });
  expect(await request("npr-1")).toMatchObject({ outcome: "Completed", epoch: 2 });
  later(MINUTE);
  for (const name of ["gw-1", "gw-2"] as const) await beat(name);
  await handOver("npr-2", "Primary");
  expect(await acting()).toEqual(["gw-1"]);
  const steps = ["FailoverBegun", "FailoverFenced", "FailoverCompleted"];
  expect(recorded().map(({ action }) => action)).toEqual(["EnvironmentPaired", ...steps, ...steps]);
  expect(recorded()[1]?.actor).toMatchObject({ kind: "Object", uid: "uid-npr-1" });
});

test("nothing is written when nothing changed", async () => {
  await settle();
  await handOver("npr-1", "Standby");
  const [rows, status] = [database.audit.length, [object, failovers.get("npr-1")]];
  await settle();
  await request("npr-1");
  expect([database.audit.length, [object, failovers.get("npr-1")]]).toEqual([rows, status]);
});

test("the way back waits for the queue, and a newer request takes its place", async () => {
  await settle();
  await handOver("npr-1", "Standby");
  await beat("gw-1");
  await beat("gw-2", { queueLength: 2 });
  later(1_000);
  ask("npr-back", { activate: "Primary" });
  const waits = await request("npr-back");
  expect(waits?.conditions?.find(({ type }) => type === "Completed")).toMatchObject({ reason: "QueueNotEmpty" });
  later(1_000);
  ask("npr-stay", { activate: "Standby" });
  expect(await request("npr-back")).toMatchObject({ outcome: "Superseded" });
  expect(await request("npr-stay")).toMatchObject({ outcome: "Completed", epoch: 2 });
  later(1_000);
  await beat("gw-2");
  await handOver("npr-again", "Primary");
  expect(await acting()).toEqual(["gw-1"]);
});

test("a switch of which nothing was written into status is not made again after the way back", async () => {
  await settle();
  ask("npr-1", {});
  const forgotten = failovers.get("npr-1") as Failover;
  await handOver("npr-1", "Standby");
  later(MINUTE);
  for (const name of ["gw-1", "gw-2"] as const) await beat(name);
  await handOver("npr-2", "Primary");
  failovers.set("npr-1", forgotten);
  expect(await request("npr-1")).toMatchObject({ outcome: "Superseded" });
  expect(await acting()).toEqual(["gw-1"]);
});

test("one that was refused does not take the place of one of the same second", async () => {
  await settle();
  later(4 * MINUTE);
  await beat("gw-1");
  ask("npr-z", {});
  expect(await request("npr-z")).toMatchObject({ outcome: "Refused" });
  ask("npr-a", { force: true });
  expect(await request("npr-a")).toMatchObject({ epoch: 2 });
});

test("what is refused is on record with its reason", async () => {
  await settle();
  later(4 * MINUTE);
  await beat("gw-1");
  ask("npr-1", {});
  expect(await request("npr-1")).toMatchObject({ outcome: "Refused" });
  const { action, outcome, details } = recorded().at(-1) ?? {};
  expect({ action, outcome, details }).toMatchObject({
    action: "FailoverRefused",
    outcome: "Denied",
    details: { reason: "GatewayNotHeardOf", failover: "npr-1" },
  });
  expect(await acting()).toEqual(["gw-1"]);
});

describe("where it is asked for, a silent primary is replaced by itself:", () => {
  beforeEach(async () => {
    object = environment({ automaticFailover: { missedHeartbeats: 3 } });
    await settle();
    await minutes(15, "gw-1", "gw-2");
    expect(failovers.size).toBe(0);
  });

  test("by the same way, once", async () => {
    await minutes(2, "gw-2");
    expect(failovers.size).toBe(0);
    await minutes(2, "gw-2");
    expect(failovers.size).toBe(1);
    const [name = ""] = failovers.keys();
    await request(name);
    await settle();
    later(FENCE_MS);
    await settle();
    expect(await request(name)).toMatchObject({ outcome: "Completed" });
    expect(await acting()).toEqual(["gw-2"]);
    expect(recorded().map(({ action }) => action)).toContain("FailoverRequested");
    later(2 * CALM_MS);
    await settle();
    expect(failovers.size).toBe(1);
  });

  test("not one that is heard in between", async () => {
    for (let round = 0; round < 4; round += 1) {
      await minutes(2, "gw-2");
      await minutes(1, "gw-1", "gw-2");
    }
    expect(failovers.size).toBe(0);
  });

  test("not when nobody was heard, whichever of the two comes back first; the count begins anew then", async () => {
    await minutes(10);
    later(MINUTE);
    await beat("gw-2");
    await settle();
    later(30_000);
    await settle();
    await beat("gw-1");
    await settle();
    expect(failovers.size).toBe(0);
    // One of the outage itself is no beginning.
    await minutes(10);
    await minutes(3, "gw-2");
    expect(failovers.size).toBe(0);
    await minutes(1, "gw-2");
    expect(failovers.size).toBe(1);
  });

  test("a request whose answer is lost is made once, and is on record once", async () => {
    await minutes(2, "gw-2");
    later(MINUTE);
    await beat("gw-2");
    for (lost of ["request", "answer"] as const)
      await expect(pass(controller, object)).rejects.toThrow("does not answer");
    lost = undefined;
    await settle();
    expect([asked.length, new Set(asked).size, unseen.size, failovers.size]).toEqual([3, 1, 1, 0]);
    expect(recorded().filter(({ action }) => action === "FailoverRequested")).toHaveLength(1);
    // One that was asked for later, and came to nothing, keeps nobody from asking again.
    ask("npr-by-hand", {});
    failovers.set("npr-by-hand", { ...(failovers.get("npr-by-hand") as Failover), status: { outcome: "Refused" } });
    await minutes(9, "gw-2");
    expect(new Set(asked).size).toBe(1);
    await minutes(1, "gw-2");
    expect(new Set(asked).size).toBe(2);
  });

  test("it is asked for once, however much the clock of the API server differs", async () => {
    apiClockAheadMs = -3 * CALM_MS;
    await minutes(9, "gw-2");
    expect(failovers.size).toBe(1);
  });

  test("an environment that was tampered with keeps no other one from being watched", async () => {
    await minutes(2, "gw-2");
    const list = fleet.gateway.bind(fleet);
    fleet.gateway = async () => {
      throw new Unavailable("TamperDetected", "the row does not match its MAC");
    };
    await expect(controller.observe(object)).rejects.toMatchObject({ code: "TamperDetected" });
    fleet.gateway = list;
    await minutes(2, "gw-2");
    expect(failovers.size).toBe(1);
  });

  test("a leader that could not read for a while, or has just begun, counts heartbeats from then on", async () => {
    await minutes(2, "gw-2");
    const find = fleet.gateway.bind(fleet);
    fleet.gateway = async () => {
      throw new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
    };
    await expect(controller.observe(object)).rejects.toMatchObject({ code: "DatabaseUnavailable" });
    fleet.gateway = find;
    await minutes(3, "gw-2");
    expect(failovers.size).toBe(0);
    writer = { epoch: await database.acquireEpoch("another") };
    await minutes(3, "gw-2");
    expect(failovers.size).toBe(0);
    await minutes(1, "gw-2");
    expect(failovers.size).toBe(1);
  });
});

test("deleting it lets each act by its role, when what DR was granted is over; a late attempt does nothing", async () => {
  await settle();
  await handOver("npr-1", "Standby");
  await controller.absent("npr", signal);
  expect(await acting()).toEqual(["gw-2"]);
  stands = false;
  await controller.absent("npr", signal);
  expect(await acting()).toEqual([]);
  later(FENCE_MS);
  expect(await acting()).toEqual(["gw-1"]);
  await controller.absent("npr", signal);
  expect(recorded().filter(({ action }) => action === "EnvironmentReleased")).toHaveLength(1);
  // One that is made anew begins an epoch of its own.
  stands = true;
  object = environment();
  await settle();
  expect(object.status).toMatchObject({ active: "Primary", epoch: 4 });
});

test("a state that was rolled back goes on in an epoch that nobody has heard of", async () => {
  await settle();
  const { stored } = await store.environments();
  await handOver("npr-1", "Standby");
  for (const older of [stored[0], undefined]) {
    store.restore("NPR", older);
    const { epoch = 0 } = object.status ?? {};
    await settle();
    later(FENCE_MS);
    await settle();
    expect(object.status).toMatchObject({ active: "Standby", epoch: epoch + 1 });
    expect(await acting()).toEqual(["gw-2"]);
  }
});

test("where only the gateways remember the epoch it goes on from there, once, with the fence, and on record", async () => {
  await settle();
  const { stored } = await store.environments();
  await handOver("npr-1", "Standby");
  await beat("gw-2", { environmentEpoch: "2" });
  for (const older of [stored[0], undefined]) {
    store.restore("NPR", older);
    object = environment();
    await settle();
    expect(object.status).toMatchObject({ active: "Primary", epoch: 3 });
    expect(await acting()).toEqual([]);
    later(FENCE_MS);
    await settle();
    expect(object.status).toMatchObject({ active: "Primary", epoch: 3 });
    expect(await acting()).toEqual(["gw-1"]);
    const { details } = recorded().findLast(({ action }) => action === "EnvironmentRestored") ?? {};
    expect(details).toMatchObject({ knownEpoch: "2", storedEpoch: older === undefined ? "0" : "1" });
  }
});

test("what was tampered with is told, and nothing is written over it", async () => {
  await settle();
  store.tamper("NPR", { active: "Standby" });
  await expect(pass(controller, object)).rejects.toMatchObject({ code: "TamperDetected" });
  ask("npr-1", {});
  await expect(request("npr-1")).rejects.toMatchObject({ code: "TamperDetected" });
  expect(await acting()).toEqual([]);
});

test("who does not lead any more hands nothing over", async () => {
  await settle();
  await database.acquireEpoch("another");
  ask("npr-1", {});
  await expect(request("npr-1")).rejects.toBeInstanceOf(Fenced);
  expect(await acting()).toEqual(["gw-1"]);
});
