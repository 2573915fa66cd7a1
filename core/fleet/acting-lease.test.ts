import { beforeEach, expect, test } from "@jest/globals";
import { ActingLease } from "./acting-lease.ts";

let now = 0;
let lease: ActingLease;
const grant = (epoch: number, active = true) => ({ active, environmentEpoch: String(epoch), leaseMs: 20_000 });

beforeEach(() => {
  now = 1_000;
  lease = new ActingLease(() => now);
});

test("nothing was granted: it does not act", () => {
  expect([lease.active, lease.leftMs(), lease.epoch]).toEqual([false, 0, undefined]);
});

test("a grant counts from when it was asked for, however late the answer comes", () => {
  const askedAt = lease.now();
  now += 15_000;
  lease.take(grant(1), askedAt);
  expect([lease.active, lease.leftMs()]).toEqual([true, 5_000]);
  now += 5_000;
  expect(lease.active).toBe(false);
});

test("answers that overtake each other shorten nothing", () => {
  const first = lease.now();
  now += 1_000;
  const second = lease.now();
  lease.take(grant(1), second);
  lease.take(grant(1), first);
  expect(lease.leftMs()).toBe(20_000);
});

test("what is not granted any more ends at once, and a late answer of before does not bring it back", () => {
  const before = lease.now();
  lease.take(grant(1), before);
  lease.take(grant(2, false), lease.now());
  lease.take(grant(1), lease.now());
  expect([lease.active, lease.epoch]).toEqual([false, 2n]);
});

test("what was granted in another epoch is not for this one", () => {
  lease.take(grant(2), lease.now());
  expect([lease.leftMs(1n), lease.leftMs(2n)]).toEqual([0, 20_000]);
});

test("a primary that has forgotten the newer epoch is told of, once, and an answer that came late is not", () => {
  const told: string[] = [];
  lease = new ActingLease(
    () => now,
    (older, known) => void told.push(`${older} < ${known}`),
  );
  lease.take(grant(3), lease.now());
  lease.take(grant(2), lease.now());
  now += 30_000;
  lease.take(grant(3), lease.now());
  for (let second = 0; second < 60; second += 1) {
    if (second < 20) expect(told).toEqual([]);
    lease.take(grant(second % 2 === 0 ? 2 : 0), lease.now());
    now += 1_000;
  }
  expect(told).toEqual(["2 < 3"]);
  expect(lease.active).toBe(false);
});
