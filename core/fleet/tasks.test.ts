/** From who has something done to who does it, and back. */
import { z } from "zod";
import { until } from "../../lab/poll.ts";
import { Stalled, Unavailable, Waiting } from "../errors.ts";
import { Ambiguous, Throttled } from "../ports/target-vault.ts";
import { Sensitive } from "../sensitive.ts";
import { UNKNOWN_EPOCH } from "./standing.ts";
import { TASK_ROUTES } from "./task-protocol.ts";
import { ofAnyKind, type TaskContext, type TaskHandler, type TaskKind } from "./tasks.ts";
import { NPR_GATEWAY, NPR_STANDBY, TaskWorld, type TestGateway } from "./testing/task-world.ts";

const SOON = { timeoutMs: 5_000, intervalMs: 5 };
const GREET: TaskKind<{ name: string }, { greeting: string }> = {
  kind: "Greet",
  body: z.object({ name: z.string() }),
  result: z.object({ greeting: z.string() }),
};

let world: TaskWorld;
let gateway: TestGateway;
let performed: string[];

beforeEach(async () => {
  world = new TaskWorld();
  gateway = await world.gateway(NPR_GATEWAY, "NPR");
  performed = [];
});
afterEach(() => world.stop());

const greeting = (
  perform: (name: string, context: TaskContext) => Promise<unknown> = async () => undefined,
): TaskHandler =>
  ofAnyKind({
    kind: GREET,
    perform: async ({ name }: { name: string }, context: TaskContext) => {
      performed.push(name);
      await perform(name, context);
      return { greeting: `hello ${name}` };
    },
  });
const greet = (name = "Ada", change: Parameters<TaskWorld["perform"]>[2] = {}) =>
  world.perform(GREET, { name }, change);
const code = (code: string) => expect.objectContaining({ code });

test("a task is performed and its result comes back; nothing of it is left", async () => {
  gateway.start(greeting());
  expect(await greet()).toEqual({ greeting: "hello Ada" });
  expect([performed, world.store.size]).toEqual([["Ada"], 0]);
  expect(world.ended).toEqual([{ environment: "NPR", status: "Succeeded" }]);
});

test("a hundred at once are each performed once", async () => {
  gateway.start(greeting());
  const names = Array.from({ length: 100 }, (_, at) => `${at}`);
  const told = await Promise.all(names.map((name) => greet(name)));
  expect(told).toEqual(names.map((name) => ({ greeting: `hello ${name}` })));
  expect(performed.toSorted()).toEqual(names.toSorted());
});

test.each([
  new Stalled("AccessDenied", "grant it"),
  new Waiting("CredentialNotFound", "create it", 60_000),
  new Unavailable("VaultUnreachable", "no answer"),
  new Throttled(3_000),
  new Ambiguous("set", "timeout"),
])("what it throws crosses as what it is: $name", async (thrown) => {
  gateway.start(
    greeting(() => {
      throw thrown;
    }),
  );
  const error = await greet().catch((caught: unknown) => caught);
  expect(error).toEqual(thrown);
  expect(error).toBeInstanceOf(thrown.constructor);
  expect({ ...(error as object) }).toEqual({ ...thrown });
  expect(world.ended).toEqual([{ environment: "NPR", status: "Failed" }]);
});

test("what is wrong with the gateway's own database is not taken for the primary's, and of a defect nothing is told", async () => {
  const thrown = [new Unavailable("DatabaseUnavailable", "PostgreSQL is down"), new Error("canary")];
  gateway.start(
    greeting(() => {
      throw thrown.shift();
    }),
  );
  await expect(greet()).rejects.toMatchObject({ code: "GatewayUnavailable", message: /PostgreSQL is down/ });
  const defect = await greet().catch((error: Error) => error);
  expect(defect).toMatchObject({ code: "Failed" });
  expect(String((defect as Error).message)).not.toContain("canary");
});

test("nobody takes it in time: nothing was done, and nothing will be", async () => {
  await expect(greet("Ada", { withinMs: 20 })).rejects.toThrow(code("GatewayUnavailable"));
  expect([world.store.size, world.ended]).toEqual([0, [{ environment: "NPR", status: "Withdrawn" }]]);
  gateway.start(greeting());
  await greet("Grace");
  expect(performed).toEqual(["Grace"]);
});

test("a gateway's question is held while it is not known who acts, and answered when it is", async () => {
  world.standings.set(NPR_GATEWAY, { active: false, environmentEpoch: UNKNOWN_EPOCH, actsFor: [] });
  const asked = world.exchange.poll(gateway.member, { waitMs: 10_000, most: 1 }, new AbortController().signal);
  world.activate(NPR_GATEWAY, 1n);
  const abort = new AbortController();
  const greeted = greet("Ada", { signal: abort.signal });
  expect(await asked).toMatchObject({ active: true, tasks: [{ kind: "Greet" }] });
  abort.abort(new Error("enough"));
  await expect(greeted).rejects.toThrow("enough");
});

test("who does not wait any more leaves nothing behind", async () => {
  const abort = new AbortController();
  const asked = greet("Ada", { signal: abort.signal });
  await until("it waits", () => world.store.size === 1, SOON);
  abort.abort(new Error("enough"));
  await expect(asked).rejects.toThrow("enough");
  expect(world.store.size).toBe(0);
});

test("a gateway that does not know the kind says so", async () => {
  gateway.start();
  await expect(greet()).rejects.toThrow(code("GatewayTaskUnknown"));
});

test.each(["gw-unknown", NPR_GATEWAY])(
  "a gateway that is not registered (any more) is asked for nothing: %s",
  async (name) => {
    const writer = { epoch: 0n };
    if (name === NPR_GATEWAY) await world.fleet.revoke(writer, gateway.member.gatewayId, new Date(), []);
    await expect(greet("Ada", { gateway: name })).rejects.toThrow(code("GatewayUnavailable"));
    expect(world.store.size).toBe(0);
  },
);

test("the answer that handed it out is lost: it is not handed out again, and who waits learns that it is not known", async () => {
  world.standings.set(NPR_GATEWAY, { active: true, environmentEpoch: 1n, actsFor: [NPR_GATEWAY], leaseMs: 50 });
  const asked = greet();
  await until("it waits", () => world.store.size === 1, SOON);
  gateway.disturb = (path) => (path === TASK_ROUTES.tasks ? "unanswered" : undefined);
  const abort = new AbortController();
  await expect(gateway.ask(TASK_ROUTES.tasks, { waitMs: 0, most: 1 }, { signal: abort.signal })).rejects.toThrow(
    code("PrimaryUnreachable"),
  );
  gateway.disturb = () => undefined;
  gateway.start(greeting());
  await expect(asked).rejects.toBeInstanceOf(Ambiguous);
  expect(performed).toEqual([]);
  expect(world.ended).toEqual([{ environment: "NPR", status: "Interrupted" }]);
});

describe("what is performed still is not told to be interrupted", () => {
  let go: () => void;
  let ended: boolean;
  beforeEach(async () => {
    await world.stop();
    world = new TaskWorld({ leaseMs: 60, lookEveryMs: 5 });
    gateway = await world.gateway(NPR_GATEWAY, "NPR");
    const gate = Promise.withResolvers<void>();
    go = gate.resolve;
    ended = false;
    gateway.start(
      greeting(async () => {
        await gate.promise;
        ended = true;
      }),
    );
  });

  test("when the store loses its row", async () => {
    const asked = greet();
    await until("it is begun", () => performed.length === 1, SOON);
    const told = asked.catch((error: unknown) => [ended, error]);
    world.store.lose();
    await until("it is looked for in vain", () => world.store.missed >= 3, SOON);
    go();
    expect(await told).toEqual([true, expect.any(Ambiguous)]);
  });

  test("when the answer to whoever added it is lost", async () => {
    const { add } = world.store;
    world.store.add = async (...given) => {
      await add.apply(world.store, given);
      await until("it is begun", () => performed.length === 1, SOON);
      throw new Unavailable("DatabaseUnavailable", "no answer");
    };
    const asked = greet();
    await until("it is begun", () => performed.length === 1, SOON);
    go();
    expect(await asked).toEqual({ greeting: "hello Ada" });
  });
});

test("what could not be added fails with what it failed with, when nobody has taken it", async () => {
  const { add } = world.store;
  world.store.add = async (...given) => {
    await add.apply(world.store, given);
    throw new Unavailable("DatabaseUnavailable", "no answer");
  };
  await expect(greet()).rejects.toThrow(code("DatabaseUnavailable"));
  expect(world.store.size).toBe(0);
});

test("an answer that is handed to the gateway twice is performed once", async () => {
  const { ask } = gateway;
  let before: Awaited<ReturnType<typeof ask>> | undefined;
  gateway.ask = async (path, body, options) => {
    const answer = await ask.call(gateway, path, body, options);
    const { tasks = [] } = answer.body as { tasks?: readonly unknown[] };
    if (path !== TASK_ROUTES.tasks) return answer;
    if (tasks.length > 0) before = answer;
    else if (before !== undefined) return before;
    return answer;
  };
  gateway.start(greeting());
  await greet("Ada");
  await greet("Grace");
  world.exchange.hint();
  await greet("Edsger");
  expect(performed).toEqual(["Ada", "Grace", "Edsger"]);
});

test("results whose answer is lost are told again, and count once", async () => {
  let lost = 2;
  gateway.disturb = (path) => {
    if (path !== TASK_ROUTES.results || lost === 0) return undefined;
    lost -= 1;
    return lost === 1 ? "unheard" : "unanswered";
  };
  gateway.start(greeting());
  expect(await greet()).toEqual({ greeting: "hello Ada" });
  await until("they are told", () => gateway.asked.filter((path) => path === TASK_ROUTES.results).length >= 3, SOON);
  expect(performed).toEqual(["Ada"]);
});

describe("a result that the channel does not take holds up no other", () => {
  const several = async (names: readonly string[]) => {
    gateway.start(greeting());
    const all = await Promise.allSettled(names.map((name) => greet(name)));
    return all.map((each) => (each.status === "fulfilled" ? "greeted" : (each.reason as { code?: string }).code));
  };

  test("since it is known to be too large", async () => {
    gateway.refuse = (_path, body) => (JSON.stringify(body).length > 2_000_000 ? 413 : undefined);
    expect(await several(["Ada", "x".repeat(2_000_000), "Grace"])).toEqual(["greeted", "Failed", "greeted"]);
  });

  test.each([400, 413])("though only the primary says so, with %d", async (status) => {
    gateway.refuse = (_path, body) => (JSON.stringify(body).includes("hello odd") ? status : undefined);
    expect(await several(["Ada", "odd", "Grace", "Edsger"])).toEqual(["greeted", "Failed", "greeted", "greeted"]);
  });
});

test("one that stood still past its lease begins no effect, and another one in charge goes on with what comes then", async () => {
  const effects: string[] = [];
  const stoodStill = Promise.withResolvers<void>();
  gateway.start(
    greeting(async (name, context) => {
      context.assertActing();
      await stoodStill.promise;
      context.assertActing();
      effects.push(name);
    }),
  );
  const asked = greet().catch((error: unknown) => error);
  await until("it is begun", () => performed.length === 1, SOON);
  gateway.asleepMs = 60_000;
  // As the primary has it, another one is in charge by now.
  const standby = await world.gateway(NPR_STANDBY, "NPR", "dr-standby");
  world.standings.delete(NPR_GATEWAY);
  world.activate(NPR_STANDBY, 2n, [NPR_GATEWAY, NPR_STANDBY]);
  standby.start(greeting());
  stoodStill.resolve();
  expect(await asked).toBeInstanceOf(Ambiguous);
  expect(await greet("Grace")).toEqual({ greeting: "hello Grace" });
  expect([effects, performed]).toEqual([[], ["Ada", "Grace"]]);
});

test.each([
  ["its lease is over", () => undefined, "GatewayFenced"],
  ["the task's time is over, while the lease is renewed", () => gateway.renew(), "GatewayUnavailable"],
])("what is under way is ended when %s", async (_title, then, reason) => {
  const ended = Promise.withResolvers<unknown>();
  gateway.start(
    greeting(async (_name, { signal }) => {
      signal.addEventListener("abort", () => ended.resolve(signal.reason), { once: true });
      await ended.promise;
      signal.throwIfAborted();
    }),
  );
  const asked = greet().catch(() => undefined);
  await until("it is begun", () => performed.length === 1, SOON);
  // One that asks after that has a new lease.
  await until("it asks for more", () => gateway.asked.filter((path) => path === TASK_ROUTES.tasks).length > 1, SOON);
  gateway.asleepMs = 60_000;
  then();
  expect(await ended.promise).toMatchObject({ code: reason });
  world.activate(NPR_GATEWAY, 2n);
  world.exchange.hint();
  await asked;
});

test("an effect that could end after the lease, or after the task, is not begun", async () => {
  world.standings.set(NPR_GATEWAY, { active: true, environmentEpoch: 1n, actsFor: [NPR_GATEWAY], leaseMs: 60_000 });
  const codes: unknown[] = [];
  gateway.start(
    greeting(async (_name, context) => {
      context.assertActing(30_000);
      gateway.asleepMs = 30_000;
      gateway.renew();
      for (const forMs of [45_000, 90_000])
        codes.push(
          await Promise.resolve()
            .then(() => context.assertActing(forMs))
            .catch(({ code }) => code),
        );
    }),
  );
  await greet();
  expect(codes).toEqual(["GatewayUnavailable", "GatewayFenced"]);
});

test("a standby asks for no tasks; it begins as soon as it is active", async () => {
  const standby = await world.gateway(NPR_STANDBY, "NPR", "dr-standby");
  standby.start(greeting());
  await until("it waits to be active", () => standby.asked.length > 0, SOON);
  const asked = greet();
  world.standings.delete(NPR_GATEWAY);
  world.activate(NPR_STANDBY, 2n, [NPR_GATEWAY, NPR_STANDBY]);
  expect(await asked).toEqual({ greeting: "hello Ada" });
  const [first = "", ...later] = standby.asked;
  expect([first, later.includes(TASK_ROUTES.tasks)]).toEqual([TASK_ROUTES.standing, true]);
  expect(standby.asked.indexOf(TASK_ROUTES.tasks)).toBeGreaterThan(0);
});

test("a task wakes whoever performs it, and no other gateway of the environment", async () => {
  const other = await world.gateway("gw-npr-other", "NPR");
  const looks: string[] = [];
  const { claim } = world.store;
  world.store.claim = (by) => {
    looks.push(by.gatewayId);
    return claim.call(world.store, by);
  };
  const abort = new AbortController();
  const polls = world.exchange.poll(other.member, { waitMs: 4_000, most: 1 }, abort.signal);
  await until("it waits", () => looks.length === 1, SOON);
  gateway.start(greeting());
  for (const name of ["Ada", "Grace"]) await greet(name);
  expect(looks.filter((id) => id === other.member.gatewayId)).toHaveLength(1);
  const asked = greet("Edsger", { gateway: "gw-npr-other", withinMs: 60_000, signal: abort.signal });
  expect((await polls).tasks).toHaveLength(1);
  abort.abort(new Error("enough"));
  await expect(asked).rejects.toThrow("enough");
});

test("a gateway that asks anew has given up the question before, which takes nothing away", async () => {
  const { signal } = new AbortController();
  const before = world.exchange.poll(gateway.member, { waitMs: 10_000, most: 1 }, signal);
  const now = world.exchange.poll(gateway.member, { waitMs: 10_000, most: 1 }, signal);
  expect((await before).tasks).toEqual([]);
  const abort = new AbortController();
  const asked = greet("Ada", { signal: abort.signal });
  expect((await now).tasks).toHaveLength(1);
  abort.abort(new Error("enough"));
  await expect(asked).rejects.toThrow("enough");
});

test("no value of a body or a result is in the store as it is", async () => {
  const canary = new Sensitive("canary-1234567890");
  const seen: Buffer[] = [];
  const { add, finish } = world.store;
  world.store.add = (task, ms) => {
    seen.push(task.body);
    return add.call(world.store, task, ms);
  };
  world.store.finish = (id, by, result) => {
    seen.push(result);
    return finish.call(world.store, id, by, result);
  };
  gateway.start(greeting());
  expect(await greet(canary.revealText())).toEqual({ greeting: `hello ${canary.revealText()}` });
  expect(seen).toHaveLength(2);
  expect(seen.some((sealed) => sealed.includes("canary"))).toBe(false);
});
