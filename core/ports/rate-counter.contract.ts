import type { RateCounters } from "./rate-counter.ts";

/** What all who count requests do. `start` gives counters that have counted none. */
export function rateCountersContract(start: () => Promise<RateCounters>): void {
  let counters: RateCounters;

  beforeEach(async () => {
    counters = await start();
  });

  test("of many at once no more are let through than the limit says, and the others are told when", async () => {
    const counter = counters("subject", { points: 3, windowSeconds: 10 });
    const waits = await Promise.all(Array.from({ length: 30 }, () => counter.count("alice")));
    expect(waits.filter((wait) => wait === undefined)).toHaveLength(3);
    for (const wait of waits.filter((each) => each !== undefined)) {
      expect(wait).toBeGreaterThan(0);
      expect(wait).toBeLessThanOrEqual(10_000);
    }
  });

  test("neither keys nor names count for each other", async () => {
    const subjects = counters("subject", { points: 1, windowSeconds: 10 });
    const addresses = counters("address", { points: 1, windowSeconds: 10 });
    expect(await subjects.count("alice")).toBeUndefined();
    expect(await subjects.count("bob")).toBeUndefined();
    expect(await addresses.count("alice")).toBeUndefined();
    expect(await subjects.count("alice")).toBeGreaterThan(0);
  });

  test("in the next window it goes on", async () => {
    const counter = counters("subject", { points: 1, windowSeconds: 1 });
    expect(await counter.count("alice")).toBeUndefined();
    const from = performance.now();
    let refused = 0;
    while ((await counter.count("alice")) !== undefined) refused += 1;
    expect(refused).toBeGreaterThan(0);
    expect(performance.now() - from).toBeLessThan(5_000);
  });
}
