import { createSecretKey } from "node:crypto";
import { Fenced, Unavailable } from "../errors.ts";
import type { Actor } from "../ports/audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeEnvironmentStore } from "../ports/fake-environment-store.ts";
import { Conflict, type Writer } from "../ports/vault-store.ts";
import { FENCE_MS } from "./environment.ts";
import { Environments, type KnownEnvironment } from "./environments.ts";

const actor: Actor = { kind: "Controller", name: "test" };
const pair = { object: "npr", primary: "gw-1", standby: "gw-2" };
const keys = { installationId: "here", fleet: createSecretKey(Buffer.alloc(32, 1)) };
const member = (name: string) => ({
  gatewayId: name,
  name,
  environment: "NPR",
  role: name === "gw-1" ? ("primary" as const) : ("dr-standby" as const),
  serialNumber: "01",
});

let now: number;
let database: FakeDatabase;
let store: FakeEnvironmentStore;
let environments: Environments;
let writer: Writer;
let problems: unknown[];
/** What is known of the epoch elsewhere. */
let remembered: bigint | undefined;

beforeEach(async () => {
  now = Date.parse("2026-03-01T12:00:00Z");
  problems = [];
  remembered = undefined;
  database = new FakeDatabase();
  store = new FakeEnvironmentStore(database, () => new Date(now));
  environments = new Environments({
    store,
    keys,
    remembered: () => remembered,
    onProblem: (error) => problems.push(error),
  });
  writer = { epoch: await database.acquireEpoch("test") };
});

const acting = async (): Promise<readonly string[]> => {
  const found: string[] = [];
  for (const name of ["gw-1", "gw-2"]) if ((await environments.standing(member(name))).active) found.push(name);
  return found;
};
const known = async (): Promise<KnownEnvironment> => {
  const state = await environments.find("NPR");
  if (state.record === undefined) throw new Error("there is none");
  return { ...state, record: state.record };
};
const paired = async () => environments.pair(writer, await environments.find("NPR"), pair, actor);
const toStandby = async () =>
  environments.switch(writer, await known(), "Standby", { uid: "uid-f", name: "npr-f" }, actor, { force: false });
const recorded = () =>
  database.audit.filter(({ entry }) => entry.subject.kind === "GatewayEnvironment").map(({ entry }) => entry.action);

test("a switch goes by steps, each on record with its epoch and who asked for it", async () => {
  await paired();
  expect(await acting()).toEqual(["gw-1"]);
  await toStandby();
  expect(await acting()).toEqual([]);
  now += 60_000;
  expect(await acting()).toEqual([]);
  await environments.fence(writer, "NPR", actor);
  now += FENCE_MS - 1;
  expect(await acting()).toEqual([]);
  now += 1;
  expect(await acting()).toEqual(["gw-2"]);
  await environments.settle(writer, await known(), actor);
  expect(await acting()).toEqual(["gw-2"]);
  expect(recorded()).toEqual(["EnvironmentPaired", "FailoverBegun", "FailoverFenced", "FailoverCompleted"]);
  const [, begun] = database.audit.filter(({ entry }) => entry.subject.kind === "GatewayEnvironment");
  expect(begun?.entry).toMatchObject({
    actor,
    subject: { id: "NPR" },
    details: { active: "Standby", epoch: "2", failover: "npr-f", force: false },
  });
});

test("a fence that stands is not moved, and its time is counted from when it is written", async () => {
  await paired();
  await toStandby();
  now += 5_000;
  const { record } = await environments.fence(writer, "NPR", actor);
  expect(record?.fencedUntil).toEqual(new Date(now + FENCE_MS));
  now += 1_000;
  expect((await environments.fence(writer, "NPR", actor)).record).toEqual(record);
  expect(recorded().filter((action) => action === "FailoverFenced")).toHaveLength(1);
});

test.each([
  ["the other side", { active: "Primary" }],
  ["a fence that is over", { fencedUntil: new Date(0) }],
  ["other names", { pair: { ...pair, primary: "gw-2", standby: "gw-1" } }],
  ["no pair", { pair: undefined }],
  ["an older epoch", { epoch: 1n }],
] as const)("whoever writes %s into the database lets nobody act; it is told once", async (_, change) => {
  await paired();
  await toStandby();
  store.tamper("NPR", change);
  expect(await acting()).toEqual([]);
  expect(problems).toEqual([expect.objectContaining({ code: "TamperDetected" })]);
  await expect(environments.find("NPR")).rejects.toMatchObject({ code: "TamperDetected" });
  expect(await environments.list()).toEqual([]);
});

test("the row of another environment does not count for this one, nor one of an older generation", async () => {
  await paired();
  const { stored } = await store.environments();
  const [older] = stored;
  if (older === undefined) throw new Error("there is one");
  store.restore("PRO", older);
  await expect(environments.find("PRO")).rejects.toMatchObject({ code: "TamperDetected" });
  store.restore("NPR", { ...older, generation: 2n });
  await expect(environments.find("NPR")).rejects.toMatchObject({ code: "TamperDetected" });
});

test("while it cannot be read nobody is granted anything, and what a gateway knows is not made older", async () => {
  await paired();
  const ground = store.ground.bind(store);
  store.ground = async () => {
    throw new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
  };
  expect(await environments.standing(member("gw-1"))).toMatchObject({ active: false, environmentEpoch: 0n });
  expect(await acting()).toEqual([]);
  expect(problems).toHaveLength(1);
  store.ground = ground;
  expect(await acting()).toEqual(["gw-1"]);
});

test("of two that switch at once one does, and who does not lead does not", async () => {
  await paired();
  const seen = await known();
  await toStandby();
  const late = { uid: "uid-late", name: "npr-late" };
  await expect(environments.switch(writer, seen, "Standby", late, actor, {})).rejects.toThrow(Conflict);
  await database.acquireEpoch("another");
  await expect(environments.fence(writer, "NPR", actor)).rejects.toThrow(Fenced);
  expect(await acting()).toEqual([]);
});

test("a row that was put back, or is gone, lets nobody act, also not one that has just been started", async () => {
  await paired();
  const { stored } = await store.environments();
  await toStandby();
  remembered = 2n;
  for (const older of [stored[0], undefined]) {
    store.restore("NPR", older);
    expect(await acting()).toEqual([]);
  }
  expect(problems).toEqual([expect.objectContaining({ code: "TamperDetected" })]);
  remembered = undefined;
  expect(await acting()).toEqual(["gw-1"]);
});

test("after the restore of an older state the epoch goes on", async () => {
  await paired();
  const { stored } = await store.environments();
  await toStandby();
  store.restore("NPR", stored[0]);
  const remembered = { active: "Standby", epoch: 2n } as const;
  const { record } = await environments.restore(writer, await environments.find("NPR"), pair, remembered, actor);
  expect(record).toMatchObject({ active: "Standby", epoch: 3n });
  expect(await acting()).toEqual([]);
});
