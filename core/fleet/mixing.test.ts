/**
 * NPR and PRO never mix: every way by which something of one environment could reach a gateway of the other, tried. What the store
 * refuses is in `task-store.contract.ts`, what comes of rows that were tampered with in `adapters/postgres/tasks.test.ts`.
 */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { until } from "../../lab/poll.ts";
import { gatewayEnvironments } from "../access/admission.ts";
import { TASK_ROUTES, taskPoll, taskResults } from "./task-protocol.ts";
import { openBody, sealBody } from "./task-seal.ts";
import { ofAnyKind, type TaskKind } from "./tasks.ts";
import { NPR_GATEWAY, PRO_GATEWAY, TaskWorld, type TestGateway } from "./testing/task-world.ts";

const CARRY: TaskKind<{ value: string }, { by: string }> = {
  kind: "Carry",
  body: z.object({ value: z.string() }),
  result: z.object({ by: z.string() }),
};
const { signal } = new AbortController();

let world: TaskWorld;
let npr: TestGateway;
let pro: TestGateway;
/** What came to each, by its environment. */
let carried: readonly [string[], string[]];

beforeEach(async () => {
  world = new TaskWorld();
  carried = [[], []];
  npr = await world.gateway(NPR_GATEWAY, "NPR");
  pro = await world.gateway(PRO_GATEWAY, "PRO");
});
afterEach(() => world.stop());

function start(): void {
  for (const [gateway, by, to] of [
    [npr, "NPR", carried[0]],
    [pro, "PRO", carried[1]],
  ] as const) {
    const perform = async ({ value }: { value: string }) => {
      to.push(value);
      return { by };
    };
    gateway.start(ofAnyKind({ kind: CARRY, perform }));
  }
}

/** A task that waits for as long as the test lasts; its own gateway gets it. */
async function waitsForNpr(): Promise<{ isStillThere(): Promise<void> }> {
  const abort = new AbortController();
  const given = { withinMs: 60_000, signal: abort.signal };
  const asked = world.perform(CARRY, { value: "npr" }, given).catch((error: unknown) => error);
  await until("it waits", () => world.store.size === 1, { timeoutMs: 5_000 });
  return {
    isStillThere: async () => {
      const { tasks } = await world.exchange.poll(npr.member, { waitMs: 0, most: 32 }, signal);
      expect(tasks.map(({ body }) => body)).toEqual([{ value: "npr" }]);
      abort.abort(new Error("enough"));
      expect(await asked).toEqual(new Error("enough"));
    },
  };
}

const differs = expect.objectContaining({ name: "Stalled", code: "GatewayEnvironmentDiffers" });

test("each goes to its own, while both are busy", async () => {
  start();
  const of = (environment: string, gateway: string) =>
    Array.from({ length: 30 }, (_, at) =>
      world.perform(CARRY, { value: `${environment} ${at}` }, { gateway, environments: [environment] }),
    );
  const [ofNpr, ofPro] = await Promise.all([Promise.all(of("NPR", NPR_GATEWAY)), Promise.all(of("PRO", PRO_GATEWAY))]);
  expect([new Set(ofNpr.map(({ by }) => by)), new Set(ofPro.map(({ by }) => by))]).toEqual([
    new Set(["NPR"]),
    new Set(["PRO"]),
  ]);
  expect(carried[0].every((value) => value.startsWith("NPR "))).toBe(true);
  expect(carried[1].every((value) => value.startsWith("PRO "))).toBe(true);
});

test.each([
  ["PRO through a gateway of NPR", NPR_GATEWAY, ["PRO"]],
  ["NPR through a gateway of PRO", PRO_GATEWAY, ["NPR"]],
  ["what is of no gateway environment", NPR_GATEWAY, []],
  ["an environment that begins alike", NPR_GATEWAY, ["NPR2", "N", "npr", "NPR ", ""]],
])("nobody can ask for it: %s", async (_title, gateway, environments) => {
  start();
  await expect(world.perform(CARRY, { value: "x" }, { gateway, environments })).rejects.toEqual(differs);
  expect([world.store.size, carried]).toEqual([0, [[], []]]);
});

test("a standing that names gateways of the other environment hands out nothing of theirs", async () => {
  world.activate(PRO_GATEWAY, 1n, [PRO_GATEWAY, NPR_GATEWAY]);
  const waiting = await waitsForNpr();
  expect((await world.exchange.poll(pro.member, { waitMs: 0, most: 32 }, signal)).tasks).toEqual([]);
  await waiting.isStillThere();
});

test.each([
  ["environment", { environment: "NPR" }],
  ["name", { name: NPR_GATEWAY }],
  ["environment and name", { environment: "NPR", name: NPR_GATEWAY }],
])("a certificate with another one's %s but its own id gets nothing", async (_title, change) => {
  world.activate(PRO_GATEWAY, 1n, [NPR_GATEWAY]);
  const waiting = await waitsForNpr();
  const forged = { ...pro.member, ...change };
  expect((await world.exchange.poll(forged, { waitMs: 0, most: 32 }, signal)).tasks).toEqual([]);
  await waiting.isStillThere();
});

test("a store that hands out what is not for it is not believed", async () => {
  const ofNpr = { id: randomUUID(), addressee: NPR_GATEWAY, environment: "NPR", kind: CARRY.kind };
  const body = sealBody(world.keys, ofNpr, { value: "npr" });
  // As the row is, and as whoever can write there would make it.
  for (const row of [
    { ...ofNpr, body },
    { ...ofNpr, environment: "PRO", body },
    { ...ofNpr, addressee: PRO_GATEWAY, body },
    { ...ofNpr, environment: "PRO", addressee: PRO_GATEWAY, body },
    { ...ofNpr, environment: "PRO", addressee: PRO_GATEWAY, id: randomUUID(), body },
  ]) {
    world.store.claim = async () => [row];
    world.problems.length = 0;
    expect((await world.exchange.poll(pro.member, { waitMs: 0, most: 1 }, signal)).tasks).toEqual([]);
    expect(world.problems).toEqual([expect.objectContaining({ code: "TamperDetected" })]);
  }
  expect(openBody(world.keys, ofNpr, body)).toEqual({ value: "npr" });
});

test("no environment that a gateway names is listened to, so that it is the one of its certificate", () => {
  const poll = { waitMs: 0, most: 1 };
  expect(taskPoll.parse({ ...poll, environment: "NPR", actsFor: [NPR_GATEWAY] })).toEqual(poll);
  const outcome = { kind: "Done", result: {} };
  const result = { id: randomUUID(), environmentEpoch: "1", outcome };
  expect(taskResults.parse({ results: [{ ...result, environment: "NPR" }] })).toEqual({ results: [result] });
});

test("a gateway of the other environment cannot end a task with a result of its own", async () => {
  const asked = world.perform(CARRY, { value: "npr" });
  await until("it waits", () => world.store.size === 1, { timeoutMs: 5_000 });
  const { tasks } = await world.exchange.poll(npr.member, { waitMs: 0, most: 1 }, signal);
  const [{ id = "", environmentEpoch = "" } = {}] = tasks;
  const told = (by: string) => [{ id, environmentEpoch, outcome: { kind: "Done" as const, result: { by } } }];
  expect(await pro.ask(TASK_ROUTES.results, { results: told("PRO") }, { signal })).toMatchObject({
    body: { accepted: [] },
  });
  expect(await npr.ask(TASK_ROUTES.results, { results: told("NPR") }, { signal })).toMatchObject({
    body: { accepted: [id] },
  });
  expect(await asked).toEqual({ by: "NPR" });
});

describe("the Project says which gateways may have to do with its environments", () => {
  const project = {
    name: "shop",
    spec: {
      environments: [
        { name: "dev", gatewayEnvironment: "NPR" },
        { name: "test", gatewayEnvironment: "NPR" },
        { name: "pro", gatewayEnvironment: "PRO" },
        { name: "lab" },
      ],
    },
  };

  test("one of its environments, or all of them", () => {
    expect(gatewayEnvironments(project, "dev")).toEqual(["NPR"]);
    expect(gatewayEnvironments(project, "pro")).toEqual(["PRO"]);
    expect(gatewayEnvironments(project, undefined)).toEqual(["NPR", "PRO"]);
  });

  test.each(["lab", "unknown"])("one without: nothing of it goes through a gateway (%s)", (environment) => {
    expect(() => gatewayEnvironments(project, environment)).toThrow(differs);
    expect(() => gatewayEnvironments({ name: "shop", spec: { environments: [{ name: "lab" }] } }, undefined)).toThrow(
      /set spec.environments\[\].gatewayEnvironment of the Project/,
    );
  });
});
