import { jest } from "@jest/globals";
import { KeyedQueue, type QueueOptions } from "./queue.ts";

/** A queue whose runs end when the test says so. */
const controlled = (options: Partial<QueueOptions> = {}) => {
  const begun: string[] = [];
  const open = new Map<string, () => void>();
  const queue = new KeyedQueue({
    name: "test",
    concurrency: 1,
    run: (key) => {
      begun.push(key);
      const { promise, resolve } = Promise.withResolvers<void>();
      open.set(key, resolve);
      return promise;
    },
    ...options,
  });
  const finish = async (key: string): Promise<void> => {
    open.get(key)?.();
    await jest.advanceTimersByTimeAsync(0);
  };
  return { queue, begun, finish };
};

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

test("a key that is added again while it runs never runs twice at once, and runs once more afterwards", async () => {
  const { queue, begun, finish } = controlled({ concurrency: 4 });
  queue.start();
  queue.add("a");
  queue.add("a");
  queue.add("a");
  expect(begun).toEqual(["a"]);
  await finish("a");
  expect(begun).toEqual(["a", "a"]);
  await finish("a");
  expect(begun).toEqual(["a", "a"]);
  expect(queue.idle()).toBe(true);
});

test("priority goes before arrival, and a higher priority of a second addition wins", async () => {
  const { queue, begun, finish } = controlled();
  queue.add("resync", { priority: "low" });
  queue.add("promoted", { priority: "low" });
  queue.add("watched");
  queue.add("changed", { priority: "high" });
  queue.add("promoted", { priority: "high" });
  queue.add("changed", { priority: "low" });
  queue.start();
  for (const key of ["changed", "promoted", "watched", "resync"]) await finish(key);
  expect(begun).toEqual(["changed", "promoted", "watched", "resync"]);
});

test("a hot key goes behind the others each time", async () => {
  const { queue, begun, finish } = controlled();
  queue.add("hot");
  queue.add("b");
  queue.add("c");
  queue.start();
  queue.add("hot");
  await finish("hot");
  queue.add("hot");
  await finish("b");
  await finish("c");
  expect(begun).toEqual(["hot", "b", "c", "hot"]);
});

test("a stream of high priority does not stop the low one for ever", async () => {
  const { queue, begun, finish } = controlled();
  queue.add("resync", { priority: "low" });
  for (let i = 0; i < 40; i++) queue.add(`k${i}`, { priority: "high" });
  queue.start();
  while (!begun.includes("resync")) await finish(begun.at(-1) ?? "");
  expect(begun.length).toBeLessThan(20);
});

test("delayed keys run when due, in order of time; an earlier time wins and one timer does it", async () => {
  const { queue, begun } = controlled({ concurrency: 10 });
  queue.start();
  queue.add("late", { afterMs: 3_600_000 });
  queue.add("second", { afterMs: 2_000 });
  queue.add("first", { afterMs: 1_000 });
  queue.add("moved", { afterMs: 60_000 });
  queue.add("moved", { afterMs: 500 });
  queue.add("moved", { afterMs: 90_000 });
  expect(jest.getTimerCount()).toBe(1);
  await jest.advanceTimersByTimeAsync(499);
  expect(begun).toEqual([]);
  await jest.advanceTimersByTimeAsync(2_000);
  expect(begun).toEqual(["moved", "first", "second"]);
  await jest.advanceTimersByTimeAsync(3_600_000);
  expect(begun).toEqual(["moved", "first", "second", "late"]);
});

test("ten thousand keys with random delays come out in order of their times", async () => {
  const due: number[] = [];
  const queue = new KeyedQueue({
    name: "test",
    run: async () => {
      due.push(performance.now());
    },
  });
  queue.start();
  for (let i = 0; i < 10_000; i++) queue.add(`k${i}`, { afterMs: (i * 7919) % 10_007 });
  await jest.advanceTimersByTimeAsync(10_007);
  expect(due).toHaveLength(10_000);
  expect(due).toEqual(due.toSorted((a, b) => a - b));
});

test("no more than the allowed number runs at once", async () => {
  const { queue, begun, finish } = controlled({ concurrency: 3 });
  queue.start();
  for (const key of "abcdef") queue.add(key);
  expect(begun).toEqual(["a", "b", "c"]);
  expect(queue.depth).toBe(3);
  await finish("b");
  expect(begun).toEqual(["a", "b", "c", "d"]);
});

test("shutdown waits for what runs, takes nothing new, and aborts what takes too long", async () => {
  const aborted: string[] = [];
  const queue = new KeyedQueue({
    name: "test",
    concurrency: 1,
    run: (key, signal) =>
      new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          aborted.push(key);
          resolve();
        });
      }),
  });
  queue.start();
  queue.add("slow");
  queue.add("waiting");
  const stopped = queue.shutdown(5_000);
  queue.add("late");
  await jest.advanceTimersByTimeAsync(4_999);
  expect(aborted).toEqual([]);
  await jest.advanceTimersByTimeAsync(1);
  await stopped;
  expect(aborted).toEqual(["slow"]);
  expect(queue.running).toBe(0);
});

test("depth and latency are reported", async () => {
  const latencies: number[] = [];
  const depths: number[] = [];
  const { queue, finish } = controlled({
    metrics: {
      queueDepth: (_queue, depth) => depths.push(depth),
      queueLatency: (_queue, seconds) => latencies.push(seconds),
    },
  });
  queue.start();
  queue.add("a");
  queue.add("b");
  expect(depths.at(-1)).toBe(1);
  await jest.advanceTimersByTimeAsync(2_000);
  await finish("a");
  expect(depths.at(-1)).toBe(0);
  expect(latencies).toEqual([0, 2]);
});
