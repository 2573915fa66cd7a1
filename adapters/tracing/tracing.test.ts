import { setTimeout as delay } from "node:timers/promises";
import { traceIdOf } from "../../core/ports/tracer.ts";
import { until } from "../../lab/poll.ts";
import { openTracing, type Tracing, type TracingOptions } from "./open.ts";
import { TraceReceiver } from "./testing/receiver.ts";

const QUICK = { spans: 40, batch: 10, delayMs: 5 };
const NOTHING = { kind: "internal", attributes: {} } as const;

let receiver: TraceReceiver;
let changes: (string | undefined)[];
const opened: Tracing[] = [];

beforeEach(async () => {
  receiver = await TraceReceiver.start();
  changes = [];
});

afterEach(async () => {
  await receiver.close();
  for (const tracing of opened.splice(0)) await tracing.close().catch(() => {});
});

function open(options: Partial<TracingOptions> = {}): Tracing {
  const tracing = openTracing({
    endpoint: receiver.url,
    headers: () => ({}),
    sampleRatio: 1,
    service: { name: "tested", version: "1", instance: "here" },
    timeoutMs: 200,
    onChange: (problem) => changes.push(problem),
    limits: QUICK,
    ...options,
  });
  opened.push(tracing);
  return tracing;
}

const named = (name: string) => receiver.spans.find((span) => span.name === name);
const arrived = (...names: string[]) => until(`${names} arrived`, async () => names.every(named), { timeoutMs: 5_000 });
const called = { target: "postgres", operation: "read", code: "ok", seconds: 0.002 };

async function traces({ tracer }: Tracing, count: number): Promise<void> {
  for (let index = 0; index < count; index++) await tracer.trace("many", NOTHING, async () => {});
}

test("what is called belongs to what is under way, also behind timers, and to nothing else", async () => {
  const { tracer } = open({ headers: () => ({ "x-token": "t" }) });
  let later: Promise<void> | undefined;
  await tracer.trace("root", { kind: "internal", attributes: { one: 1, none: undefined } }, async () => {
    await delay(5);
    tracer.called({ ...called, host: "db" });
    await tracer.span("part", {}, async () => {
      tracer.called({ ...called, operation: "inner", code: "23505" });
    });
    tracer.note({ two: "2" });
    // As a cache does that is begun for a namespace, and goes on.
    later = delay(10).then(() => {
      expect(tracer.current()).toBeUndefined();
      tracer.called({ ...called, operation: "later" });
      tracer.note({ three: "3" });
    });
  });
  await later;
  tracer.called({ ...called, operation: "outside" });
  await tracer.trace("last", NOTHING, async () => {});
  await arrived("last", "root");
  const [root, part] = [named("root"), named("part")];
  if (root === undefined || part === undefined) throw new Error("missing");
  expect(root).toMatchObject({ service: "tested", parentSpanId: "", failed: false });
  expect(root.attributes).toEqual({ one: 1, two: "2" });
  const read = named("postgres read");
  expect(read?.attributes).toEqual({
    "peer.service": "postgres",
    "mazevault.operation": "read",
    "mazevault.code": "ok",
    "server.address": "db",
  });
  expect((read?.endMs ?? 0) - (read?.startMs ?? 0)).toBeCloseTo(2, 1);
  expect(receiver.childrenOf(root).map(({ name }) => name)).toEqual(expect.arrayContaining(["postgres read", "part"]));
  expect(receiver.childrenOf(part)).toEqual([expect.objectContaining({ name: "postgres inner", failed: true })]);
  for (const child of receiver.childrenOf(root)) {
    expect(child.startMs).toBeGreaterThanOrEqual(root.startMs);
    expect(child.endMs).toBeLessThanOrEqual(root.endMs);
  }
  expect(receiver.spans).toHaveLength(5);
  expect(receiver.headers[0]).toMatchObject({ "x-token": "t", "content-type": "application/json" });
});

test("a trace continues that of a caller, links to what caused it, and begins anew within another one", async () => {
  const { tracer } = open();
  const parent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
  let cause: string | undefined;
  await tracer.trace("continued", { ...NOTHING, parent }, async () => {
    cause = tracer.current();
    await tracer.trace("new", { ...NOTHING, cause }, async () => {});
  });
  await tracer.trace("malformed", { ...NOTHING, parent: "00-no-no-01" }, async () => {});
  await arrived("continued", "new", "malformed");
  const continued = named("continued");
  expect(continued).toMatchObject({ traceId: "a".repeat(32), parentSpanId: "b".repeat(16) });
  expect(traceIdOf(cause ?? "")).toBe("a".repeat(32));
  expect(cause).toBe(`00-${"a".repeat(32)}-${continued?.spanId}-01`);
  expect(named("new")).toMatchObject({ parentSpanId: "", links: [{ spanId: continued?.spanId }] });
  expect(named("new")?.traceId).not.toBe("a".repeat(32));
  expect(named("malformed")?.parentSpanId).toBe("");
});

test("what throws is told by its code, and never by its text", async () => {
  const { tracer } = open();
  const failure = Object.assign(new Error("quotes hunter2"), { code: "ECONNRESET" });
  await expect(tracer.trace("failing", NOTHING, () => Promise.reject(failure))).rejects.toBe(failure);
  await arrived("failing");
  expect(named("failing")).toMatchObject({ failed: true, attributes: { "error.type": "ECONNRESET" } });
  expect(Buffer.concat(receiver.bodies).includes("hunter2")).toBe(false);
});

test("as many traces are kept as were asked for, and those that a caller wants", async () => {
  const { tracer } = open({ sampleRatio: 0 });
  const context = `${"a".repeat(32)}-${"b".repeat(16)}`;
  await tracer.trace("dropped", NOTHING, async () => {
    expect(tracer.current()).toBeUndefined();
    tracer.called(called);
  });
  await tracer.trace("not wanted", { ...NOTHING, parent: `00-${context}-00` }, async () => {});
  await tracer.trace("wanted", { ...NOTHING, parent: `00-${context}-01` }, async () => {
    // Within it what is not sampled is no part of it either.
    await tracer.trace("inner", NOTHING, async () => tracer.called(called));
  });
  await arrived("wanted");
  expect(receiver.spans.map(({ name }) => name)).toEqual(["wanted"]);
});

const answering = (status: number | undefined) => async (): Promise<void> => {
  receiver.status = status;
};

test.each<[string, () => Promise<void>, () => Promise<unknown>, RegExp]>([
  [
    "is away",
    () => receiver.close(),
    async () => {
      receiver = await TraceReceiver.start(receiver.port);
    },
    /^does not answer/,
  ],
  ["does not answer", answering(undefined), answering(200), /^does not answer in time/],
  ["refuses", answering(401), answering(200), /^answers 401$/],
  ["asks to come again", answering(503), answering(200), /or asks to come again later$/],
])("a receiver that %s costs its spans and no more, and is told of twice", async (_what, harm, heal, problem) => {
  const tracing = open();
  await harm();
  for (let round = 1; round <= 3; round++) {
    await traces(tracing, 10);
    const expected = 10 * round;
    await until("they are dropped", async () => tracing.dropped === expected, { timeoutMs: 5_000, intervalMs: 5 });
  }
  expect(changes).toEqual([expect.stringMatching(problem)]);
  await heal();
  await traces(tracing, 10);
  await until("they arrive", async () => receiver.spans.length === 10, { timeoutMs: 5_000, intervalMs: 5 });
  await until("it is told", async () => changes.length === 2, { timeoutMs: 5_000, intervalMs: 5 });
  expect(changes[1]).toBeUndefined();
  expect(tracing.dropped).toBe(30);
});

test("while a receiver takes nothing, no more than the bound waits for it, and nobody waits for that", async () => {
  receiver.status = undefined;
  const tracing = open({ timeoutMs: 60_000 });
  const began = performance.now();
  await traces(tracing, 1_000);
  expect(performance.now() - began).toBeLessThan(2_000);
  expect(tracing.dropped).toBe(1_000 - QUICK.spans);
  expect(changes).toEqual(["takes traces more slowly than they come"]);
});

test("what waits is sent at the end", async () => {
  const tracing = open({ limits: { ...QUICK, delayMs: 60_000 } });
  await traces(tracing, 25 % QUICK.batch);
  expect(receiver.spans).toEqual([]);
  await tracing.close();
  expect(receiver.spans).toHaveLength(25 % QUICK.batch);
});
