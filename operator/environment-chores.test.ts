import { createSecretKey } from "node:crypto";
import { ApiError } from "../controllers/runtime/api-error.ts";
import { Environments } from "../core/fleet/environments.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeEnvironmentStore } from "../core/ports/fake-environment-store.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { Failover } from "../crds/failover.ts";
import type { GatewayEnvironment } from "../crds/gatewayenvironment.ts";
import { until } from "../lab/poll.ts";
import { EnvironmentChores } from "./environment-chores.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as never;
const actor = { kind: "Controller", name: "test" } as const;
const soon = { intervalMs: 2, timeoutMs: 4_000 };

let now: Date;
let environments: Environments;
let writer: Writer;
let chores: EnvironmentChores;
let stored: Set<string>;
let ended: string[];
let failovers: Map<string, Failover>;

beforeEach(async () => {
  now = new Date("2026-03-01T12:00:00Z");
  const database = new FakeDatabase();
  writer = { epoch: await database.acquireEpoch("test") };
  const keys = { installationId: "here", fleet: createSecretKey(Buffer.alloc(32, 1)) };
  environments = new Environments({ store: new FakeEnvironmentStore(database, () => now), keys });
  stored = new Set(["new"]);
  ended = [];
  failovers = new Map();
  chores = new EnvironmentChores({
    environments,
    cluster: {
      gatewayEnvironment: (name) => (name === "held" ? ({} as GatewayEnvironment) : undefined),
      failovers: () => failovers.values(),
    },
    api: {
      get: async (_type: unknown, { name }: { name: string }) => {
        if (name === "broken") throw new Error("the API server does not answer");
        if (!stored.has(name)) throw new ApiError({ status: 404, reason: "NotFound", message: "", details: { name } });
        return {} as never;
      },
      delete: async (_type: unknown, { name }: { name: string }, { preconditions } = {}) => {
        if (failovers.get(name)?.metadata.uid !== preconditions?.uid) throw new Error("it is another one");
        failovers.delete(name);
        throw new ApiError({ status: 404, reason: "NotFound", message: "", details: { name } });
      },
    },
    log,
    endEnvironment: (name) => void ended.push(name),
    onFenced: () => {},
    lookEveryMs: 5,
  });
});
afterEach(() => chores.stop());

const pair = async (environment: string, object: string) =>
  environments.pair(writer, await environments.find(environment), { object, primary: "gw-1", standby: "gw-2" }, actor);
const known = async (environment: string) => {
  const state = await environments.find(environment);
  if (state.record === undefined) throw new Error("there is none");
  return { ...state, record: state.record };
};

test("an environment is released whose object the API server does not have, and no other one", async () => {
  await pair("NPR", "held");
  await pair("PRO", "new");
  await pair("DEV", "gone");
  chores.start(writer);
  await until("it is ended", () => ended.length > 1, soon);
  expect(new Set(ended)).toEqual(new Set(["gone"]));
});

test("one that cannot be looked at does not keep the others from being released", async () => {
  await pair("DEV", "broken");
  await pair("NPR", "gone");
  chores.start(writer);
  await until("it is ended", () => ended.includes("gone"), soon);
});

test("Failovers that ended long ago are deleted, and one of the same name that was made since is not", async () => {
  const made = (second: number): Failover => ({
    apiVersion: "mazevault.io/v1",
    kind: "Failover",
    metadata: {
      name: `f-${second}`,
      uid: `uid-${second}`,
      resourceVersion: "1",
      creationTimestamp: new Date(second).toISOString(),
    },
    spec: { environmentRef: { name: "npr" }, activate: "Standby" },
    status: { outcome: "Completed" },
  });
  for (let second = 0; second < 13; second += 1) failovers.set(`f-${second}`, made(second));
  chores.start(writer);
  await until("they are deleted", () => failovers.size === 10, soon);
  expect([...failovers.keys()][0]).toBe("f-3");
});

test("metrics are told who has failed over; the next leader tells it", async () => {
  await pair("NPR", "held");
  await environments.switch(writer, await known("NPR"), "Standby", { uid: "u", name: "f" }, actor, {});
  await pair("PRO", "new");
  chores.start(writer);
  await until("they are known", () => chores.figures.length > 0, soon);
  expect(chores.figures).toEqual([
    { environment: "NPR", failoverActive: true },
    { environment: "PRO", failoverActive: false },
  ]);
  await chores.stop();
  expect(chores.figures).toEqual([]);
});

test("a pair that was restored before its object is there acts again when what was granted before is over", async () => {
  await pair("NPR", "gone");
  const { record, ...state } = await known("NPR");
  if (record.pair === undefined) throw new Error("there is no pair");
  await environments.restore(writer, { ...state, record }, record.pair, { active: "Standby", epoch: 4n }, actor);
  chores.start(writer);
  await until("it is fenced", async () => (await known("NPR")).record.fencedUntil !== undefined, soon);
  now = new Date(now.getTime() + 60_000);
  await until("it is settled", async () => (await known("NPR")).record.settled, soon);
  const gateway = { gatewayId: "11111111-1111-4111-8111-111111111111", environment: "NPR", serialNumber: "01" };
  expect(await environments.standing({ ...gateway, name: "gw-2", role: "dr-standby" })).toMatchObject({
    active: true,
    environmentEpoch: 5n,
  });
  expect(await environments.standing({ ...gateway, name: "gw-1", role: "primary" })).toMatchObject({ active: false });
});

test("what was released while DR acted is brought to its end, though no object asks for it", async () => {
  await pair("NPR", "held");
  await environments.switch(writer, await known("NPR"), "Standby", { uid: "u", name: "f" }, actor, {});
  await environments.release(writer, await known("NPR"), actor);
  chores.start(writer);
  await until("it is fenced", async () => (await known("NPR")).record.fencedUntil !== undefined, soon);
  const { record } = await known("NPR");
  expect(record).toMatchObject({ pair: undefined, active: "Primary", epoch: 3n, settled: false });
  now = new Date(now.getTime() + 60_000);
  await until("it is settled", async () => (await known("NPR")).record.settled, soon);
});
