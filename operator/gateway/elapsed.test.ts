import { expect, test } from "@jest/globals";
import { ActingLease } from "../../core/fleet/acting-lease.ts";
import { elapsedAlsoWhileSuspended } from "./elapsed.ts";

const clocks = () => {
  const at = { monotonic: 5_000, wall: 1_800_000_000_000 };
  const elapsed = elapsedAlsoWhileSuspended({ monotonic: () => at.monotonic, wall: () => at.wall });
  const pass = (monotonic: number, wall = monotonic): number => {
    at.monotonic += monotonic;
    at.wall += wall;
    return elapsed();
  };
  return { elapsed, pass };
};

test("goes on as both clocks do, and with the wall clock while the machine is suspended", () => {
  const { elapsed, pass } = clocks();
  expect(elapsed()).toBe(0);
  expect(pass(1_000)).toBe(1_000);
  expect(pass(10, 60_000)).toBe(61_000);
});

test("never goes back, nor slower than the monotonic clock, whatever becomes of the wall clock", () => {
  const { pass } = clocks();
  expect(pass(1_000, -3_600_000)).toBe(1_000);
  expect(pass(1_000)).toBe(2_000);
  expect(pass(0, -1)).toBe(2_000);
});

test("a grant ends in time after a wall clock that was set forward and back", () => {
  const { elapsed, pass } = clocks();
  pass(0, 3_600_000);
  const lease = new ActingLease(elapsed);
  lease.take({ active: true, environmentEpoch: "1", leaseMs: 20_000 }, lease.now());
  pass(0, -3_600_000);
  pass(19_999);
  expect(lease.active).toBe(true);
  pass(1);
  expect(lease.active).toBe(false);
});
