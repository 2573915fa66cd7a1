/** Who acts by REST, with and without credentials, and what is asked for there. */
import { createSecretKey } from "node:crypto";
import type { WritableObject } from "../../../controllers/runtime/transport.ts";
import type { Target } from "../../../core/access/policy.ts";
import { Environments } from "../../../core/fleet/environments.ts";
import { FakeDatabase } from "../../../core/ports/fake-database.ts";
import { FakeEnvironmentStore } from "../../../core/ports/fake-environment-store.ts";
import type { GatewayRecord } from "../../../core/ports/fleet-store.ts";
import type { Writer } from "../../../core/ports/vault-store.ts";
import type { Failover } from "../../../crds/failover.ts";
import type { GatewayEnvironment } from "../../../crds/gatewayenvironment.ts";
import { problemOf } from "../failure.ts";
import type { Answer } from "../route.ts";
import { failoverRoutes } from "./failover.ts";

const actor = { kind: "Controller", name: "test" } as const;
const pair = { object: "npr", primary: "gw-1", standby: "gw-2" };

let environments: Environments;
let writer: Writer;
let failovers: Failover[];
let announced: string[];
let records: Map<string, GatewayRecord>;
/** Whether the caller may list gateways. */
let lists: boolean;
let mode: "primary" | "gateway";

const object: GatewayEnvironment = {
  apiVersion: "mazevault.io/v1",
  kind: "GatewayEnvironment",
  metadata: { name: "npr", uid: "uid-npr", resourceVersion: "1" },
  spec: { environment: "NPR", primaryRef: { name: "gw-1" }, standbyRef: { name: "gw-2" } },
};

const record = (name: string, beatMs = 1_000, queueLength = 0): GatewayRecord => ({
  id: name,
  name,
  environment: "NPR",
  role: "primary",
  registeredAt: new Date(Date.now() - 9_000_000),
  confirmedAt: new Date(Date.now() - 9_000_000),
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: {
    version: "1.5.0",
    problems: [],
    queueLength,
    certificateNotAfter: new Date(Date.now() + 9_000_000_000).toISOString(),
    at: new Date(Date.now() - beatMs),
  },
});

const find = async () => {
  const state = await environments.find("NPR");
  if (state.record === undefined) throw new Error("there is none");
  return { ...state, record: state.record };
};
const toStandby = async () =>
  environments.switch(writer, await find(), "Standby", { uid: "uid-f", name: "npr-f" }, actor, {});

beforeEach(async () => {
  const database = new FakeDatabase();
  const keys = { installationId: "here", fleet: createSecretKey(Buffer.alloc(32, 1)) };
  environments = new Environments({ store: new FakeEnvironmentStore(database), keys });
  writer = { epoch: await database.acquireEpoch("test") };
  await environments.pair(writer, await environments.find("NPR"), pair, actor);
  failovers = [];
  announced = [];
  records = new Map([record("gw-1"), record("gw-2")].map((each) => [each.name, each]));
  lists = true;
  mode = "primary";
});

async function ask(id: string, environment = "NPR", force?: "true" | "false") {
  const services = {
    api: {
      create: async (_type: unknown, given: WritableObject) => {
        const metadata = { ...given.metadata, uid: "uid-made", resourceVersion: "1" };
        failovers.push({ ...given, metadata } as unknown as Failover);
        return failovers.at(-1);
      },
    },
    fleet: { gateway: async (name: string) => records.get(name) },
    ...(mode === "primary" && { environments }),
    view: {
      gatewayEnvironment: (name: string) => (name === "npr" ? object : undefined),
      gatewayEnvironments: () => [object],
      failoversOf: () => failovers,
    },
  };
  const announce = async (operation: string, { kind, name }: Target) => {
    announced.push(`${operation} ${kind} ${name}`);
  };
  const input = { params: { environment }, query: { force } };
  const may = () => ({ allowed: lists, reason: "" });
  const call = { input, services, actor, announce, may, signal: new AbortController().signal };
  const route = failoverRoutes.find((each) => each.id === id);
  if (route === undefined) throw new Error(`there is no route ${id}`);
  try {
    const answer: Answer = await route.handle(call as never);
    // Every answer is one that the document promises.
    return { status: answer.status, body: route.answers[answer.status]?.schema?.parse(answer.body) as object };
  } catch (error) {
    const { status, code, message } = problemOf(error);
    return { status, code, message };
  }
}

describe("the state", () => {
  test("is told with scores to who may list gateways, and without to others", async () => {
    const known = {
      environment: "NPR",
      active: "primary",
      activeGateway: "gw-1",
      epoch: 1,
      phase: "stable",
      automaticFailover: false,
    };
    const [one, two] = [
      { name: "gw-1", state: "healthy" },
      { name: "gw-2", state: "healthy" },
    ];
    const { body } = await ask("getFailover");
    expect(body).toMatchObject({ ...known, primary: { ...one, score: 1 }, standby: { ...two, score: 1 } });
    lists = false;
    expect((await ask("getFailover")).body).toEqual({
      ...known,
      since: expect.any(String),
      primary: one,
      standby: two,
    });
  });

  test("says that nobody acts while it is fenced, and what waits", async () => {
    failovers.push({
      ...({} as Failover),
      metadata: { name: "npr-f", uid: "uid-f", resourceVersion: "1" },
      status: {
        conditions: [
          {
            type: "Completed",
            status: "False",
            reason: "QueueNotEmpty",
            message: "3 writes wait",
            lastTransitionTime: new Date().toISOString(),
          },
        ],
      },
    });
    expect((await ask("getFailover")).body).toMatchObject({
      phase: "waiting",
      message: "3 writes wait",
      failover: "npr-f",
    });
    lists = false;
    expect((await ask("getFailover")).body).not.toHaveProperty("message");
    await toStandby();
    expect((await ask("getFailover")).body).toMatchObject({ phase: "fencing", active: "dr-standby", epoch: 2 });
  });

  test("of what is not there is told with what there is, to who may list it", async () => {
    expect(await ask("getFailover", "PRO")).toEqual({
      status: 404,
      code: "NotFound",
      message: "there is no GatewayEnvironment for PRO; there is NPR",
    });
    lists = false;
    expect(await ask("getFailover", "PRO")).toMatchObject({ message: "there is no GatewayEnvironment for PRO" });
    lists = true;
    await environments.release(writer, await find(), actor);
    expect(await ask("getFailover")).toMatchObject({
      status: 404,
      message: expect.stringMatching(/npr are not paired yet/),
    });
    mode = "gateway";
    expect(await ask("getFailover")).toMatchObject({ status: 409, code: "NotPrimary" });
  });
});

describe("handing over", () => {
  test("leaves a Failover behind, put on record before", async () => {
    expect(await ask("activateDr")).toMatchObject({ status: 202, body: { active: "primary", phase: "waiting" } });
    expect(announced).toEqual(["Create Gateway NPR"]);
    expect(failovers).toMatchObject([
      {
        metadata: {
          name: expect.stringMatching(/^npr-standby-[0-9a-f]{8}$/),
          annotations: { "mazevault.io/made-by": "rest" },
        },
        spec: { environmentRef: { name: "npr" }, activate: "Standby" },
      },
    ]);
  });

  test("is not asked for where it is so already, unless another one waits", async () => {
    expect(await ask("failback")).toMatchObject({ status: 200, body: { active: "primary", phase: "stable" } });
    expect(failovers).toEqual([]);
    await ask("activateDr");
    expect(await ask("failback")).toMatchObject({ status: 202 });
    expect(failovers.map(({ spec }) => spec.activate)).toEqual(["Standby", "Primary"]);
  });

  test("to a standby that is not heard of is refused, unless it is forced", async () => {
    records.set("gw-2", record("gw-2", 200_000));
    const refused = await ask("activateDr");
    expect(refused).toMatchObject({ status: 409, code: "GatewayNotHeardOf" });
    expect(refused.message).toMatch(/heartbeats of gateway gw-2 are missing.*\?force=true/);
    expect([failovers, announced]).toEqual([[], []]);
    expect(await ask("activateDr", "NPR", "true")).toMatchObject({ status: 202 });
    expect(failovers).toMatchObject([{ spec: { force: true } }]);
  });

  test("back is not refused while writes wait: the Failover waits for them", async () => {
    await toStandby();
    records.set("gw-2", record("gw-2", 1_000, 5));
    expect(await ask("failback")).toMatchObject({ status: 202 });
  });
});
