/** Tasks in PostgreSQL: what whoever can write there can do, what they find there, and what is told to listeners. */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import type { Member } from "../../core/fleet/member.ts";
import { LEASE_MS } from "../../core/fleet/standing.ts";
import { TaskExchange } from "../../core/fleet/task-exchange.ts";
import type { TaskKind } from "../../core/fleet/tasks.ts";
import { registerGateway } from "../../core/ports/task-store.contract.ts";
import { until } from "../../lab/poll.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const CARRY: TaskKind<{ value: string }, { value: string }> = {
  kind: "Carry",
  body: z.object({ value: z.string() }),
  result: z.object({ value: z.string() }),
};
const SOON = { timeoutMs: 10_000, intervalMs: 10 };
const { signal } = new AbortController();
const POLL = { waitMs: 0, most: 10 };

let server: TestServer;
let installation: TestInstallation;
let exchange: TaskExchange;
let stopHints: () => Promise<void>;
let heard: string[];
let problems: unknown[];
let npr: Member;
let pro: Member;
let environmentEpoch: bigint;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.stop());
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  const { stores } = installation;
  [heard, problems, environmentEpoch] = [[], [], 1n];
  exchange = new TaskExchange({
    store: stores.tasks,
    fleet: stores.fleet,
    keys: stores.keys,
    // The worst that could be granted: it acts for everybody.
    standing: async () => ({
      active: true,
      environmentEpoch,
      leaseMs: LEASE_MS,
      actsFor: ["gw-npr-primary", "gw-pro-primary"],
    }),
    onProblem: (error) => void problems.push(error),
    leaseMs: 100,
  });
  const listening = Promise.withResolvers<void>();
  const hints = stores.listenTasks({
    onHint: (says) => {
      listening.resolve();
      if (says !== undefined) heard.push(says);
      exchange.hint(says);
    },
  });
  stopHints = () => hints.stop();
  await listening.promise;
  const member = async (name: string, environment: string): Promise<Member> => {
    const gatewayId = await registerGateway(stores.fleet, name, { environment, role: "primary" });
    return { gatewayId, name, environment, role: "primary", serialNumber: "01" };
  };
  npr = await member("gw-npr-primary", "NPR");
  pro = await member("gw-pro-primary", "PRO");
});
afterEach(async () => {
  await stopHints();
  await installation.stores.close();
});

const sql = <Row extends object>(text: string, values: readonly unknown[] = []): Promise<readonly Row[]> =>
  withConnection(installation.database, async (client) => {
    await client.query("SET search_path = mazevault");
    return (await client.query<Row>(text, [...values])).rows;
  });
const carry = (value: string, withinMs = 10_000) =>
  exchange.perform("gw-npr-primary", CARRY, { value }, { signal, environments: ["NPR"], withinMs });
const waits = () => until("it waits", async () => (await sql("SELECT FROM tasks")).length === 1, SOON);
const answer = async (member: Member, value: string) => {
  const { tasks } = await exchange.poll(member, { waitMs: 5_000, most: 1 }, signal);
  const results = tasks.map(({ id, environmentEpoch }) => ({
    id,
    environmentEpoch,
    outcome: { kind: "Done" as const, result: { value } },
  }));
  return exchange.finish(member, results);
};

test("who waits and who performs are woken, on whichever replica", async () => {
  const polled = answer(npr, "there");
  expect(await carry("here")).toEqual({ value: "there" });
  expect((await polled).accepted).toHaveLength(1);
  expect(heard).toEqual(["gateway gw-npr-primary", expect.stringMatching(/^task [0-9a-f-]{36}$/)]);
  expect(await sql("SELECT FROM tasks")).toEqual([]);
});

test("neither a body nor a result can be read there, and nothing of it is in the write-ahead log", async () => {
  const asked = carry("canary-of-a-body");
  await waits();
  const rows = async () => JSON.stringify(await sql("SELECT t.*, t::text FROM tasks t"));
  const waiting = await rows();
  const { tasks } = await exchange.poll(npr, POLL, signal);
  expect(tasks.map(({ body }) => body)).toEqual([{ value: "canary-of-a-body" }]);
  const { stores } = installation;
  const collect = stores.tasks.collect.bind(stores.tasks);
  const [{ id = "", environmentEpoch = "" } = {}] = tasks;
  const outcome = { kind: "Done" as const, result: { value: "canary-of-a-result" } };
  const held = Promise.withResolvers<void>();
  stores.tasks.collect = async (of, options) => {
    await held.promise;
    return collect(of, options);
  };
  await exchange.finish(npr, [{ id, environmentEpoch, outcome }]);
  const done = await rows();
  held.resolve();
  expect(await asked).toEqual({ value: "canary-of-a-result" });
  for (const found of [waiting, done]) {
    expect(found).toContain(id);
    expect(found).not.toContain("canary");
    expect(found).not.toContain(Buffer.from("canary").toString("hex"));
  }
  const [table] = await sql<{ kept: string }>("SELECT relpersistence AS kept FROM pg_class WHERE relname = 'tasks'");
  expect(table).toEqual({ kept: "u" });
});

test.each([
  ["the environment of the task", "UPDATE tasks SET environment = 'PRO'"],
  ["its addressee", "UPDATE tasks SET addressee = 'gw-pro-primary'"],
  ["both", "UPDATE tasks SET environment = 'PRO', addressee = 'gw-pro-primary'"],
  ["the environment of the gateway", "UPDATE gateways SET environment = 'NPR' WHERE name = 'gw-pro-primary'"],
  ["its name", "UPDATE gateways SET name = 'other' WHERE name = 'gw-npr-primary'"],
])("who changes %s there brings nothing of NPR to the gateway of PRO", async (_title, change) => {
  const asked = carry("canary", 500).catch((error: unknown) => error);
  await waits();
  await sql(change);
  expect((await exchange.poll(pro, POLL, signal)).tasks).toEqual([]);
  // Also when it says that it is of NPR, which no certificate of it does.
  expect((await exchange.poll({ ...pro, environment: "PRO", name: npr.name }, POLL, signal)).tasks).toEqual([]);
  await sql("UPDATE tasks SET state = 'Interrupted', claimed_by = $1, epoch = 1, deadline_at = now()", [randomUUID()]);
  exchange.hint();
  expect(await asked).toMatchObject({ name: expect.stringMatching(/^(Ambiguous|Unavailable)$/) });
});

test("the body of another task does not open", async () => {
  const [one, other] = [carry("one"), carry("other")].map((asked) => asked.catch((error: unknown) => error));
  await until("both wait", async () => (await sql("SELECT FROM tasks")).length === 2, SOON);
  await sql(
    `UPDATE tasks t SET body = o.body FROM (SELECT id, lead(body, 1, first_body) OVER (ORDER BY id) AS body
     FROM (SELECT id, body, first_value(body) OVER (ORDER BY id) AS first_body FROM tasks) f) o WHERE o.id = t.id`,
  );
  expect((await exchange.poll(npr, POLL, signal)).tasks).toEqual([]);
  expect(problems).toHaveLength(2);
  // The next epoch tells those who wait.
  environmentEpoch = 2n;
  await exchange.poll(npr, POLL, signal);
  expect(await Promise.all([one, other])).toEqual(Array(2).fill(expect.objectContaining({ name: "Ambiguous" })));
});

test("after a crash of PostgreSQL the rows are gone, which is told as an interruption once nobody can perform them any more", async () => {
  const asked = carry("value").catch((error: unknown) => error);
  await waits();
  // As recovery leaves an unlogged table.
  await sql("TRUNCATE tasks");
  expect(await asked).toMatchObject({ name: "Ambiguous" });
});
