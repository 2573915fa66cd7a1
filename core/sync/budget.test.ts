import fc from "fast-check";
import { Unavailable } from "../errors.ts";
import { Throttled } from "../ports/target-vault.ts";
import type { Priority } from "../ports/target-vaults.ts";
import { CallBudget } from "./budget.ts";
import { FakeClock, settled } from "./testing/fake-clock.ts";

const live = new AbortController().signal;
const WINDOW = 10_000;

/** Makes calls that last so long, and notes when the service saw each of them: at some moment while it lasted. */
class Caller {
  readonly clock = new FakeClock();
  readonly seen: { at: number; priority: Priority }[] = [];
  readonly refused: Error[] = [];
  readonly budget: CallBudget;

  constructor(limit: number, maxWaitMs = 1_000_000) {
    this.budget = new CallBudget(limit, maxWaitMs, this.clock);
  }

  async call(priority: Priority, lastsMs = 0, seenAfterMs = 0): Promise<void> {
    try {
      const end = await this.budget.acquire(priority, live);
      this.clock.after(seenAfterMs, () => this.seen.push({ at: this.clock.now(), priority }));
      this.clock.after(lastsMs, end);
    } catch (error) {
      this.refused.push(error as Error);
    }
  }

  get order(): readonly Priority[] {
    return this.seen.map(({ priority }) => priority);
  }
}

function mostInAnyWindow(times: readonly number[]): number {
  return Math.max(0, ...times.map((from) => times.filter((at) => at >= from && at < from + WINDOW).length));
}

describe("CallBudget", () => {
  it("lets the service see no more calls than the limit in any 10 seconds, and every call at last", async () => {
    const call = fc.record({
      afterMs: fc.integer({ min: 0, max: 4_000 }),
      lastsMs: fc.integer({ min: 0, max: 9_000 }),
      seenAt: fc.double({ min: 0, max: 1, noNaN: true }),
      priority: fc.constantFrom<Priority>("Change", "Look"),
    });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(call, { maxLength: 40 }), async (limit, calls) => {
        const caller = new Caller(limit);
        for (const { afterMs, lastsMs, seenAt, priority } of calls) {
          await caller.clock.pass(afterMs);
          void caller.call(priority, lastsMs, Math.floor(lastsMs * seenAt));
        }
        await caller.clock.pass(1_000_000);
        expect(caller.seen).toHaveLength(calls.length);
        expect(mostInAnyWindow(caller.seen.map(({ at }) => at))).toBeLessThanOrEqual(limit);
      }),
      { numRuns: 60 },
    );
  });

  it("serves a person's change before looks that waited longer", async () => {
    const caller = new Caller(1);
    await caller.call("Look");
    for (const priority of ["Look", "Look", "Change"] as const) void caller.call(priority);
    await caller.clock.pass(100_000);
    expect(caller.order).toEqual(["Look", "Change", "Look", "Look"]);
  });

  it("gives a look its turn after eight changes in a row, however many wait", async () => {
    const caller = new Caller(1);
    void caller.call("Look");
    await settled();
    for (let at = 0; at < 30; at += 1) void caller.call("Change");
    for (let at = 0; at < 3; at += 1) void caller.call("Look");
    await caller.clock.pass(1_000_000);
    const looks = caller.order.flatMap((priority, at) => (priority === "Look" ? [at] : []));
    expect(looks).toEqual([0, 9, 18, 27]);
  });

  it("refuses with BudgetExhausted who waited too long", async () => {
    const caller = new Caller(1, 5_000);
    await caller.call("Change");
    void caller.call("Change");
    await caller.clock.pass(4_999);
    expect(caller.refused).toEqual([]);
    await caller.clock.pass(1);
    expect(caller.refused).toMatchObject([{ code: "BudgetExhausted" }]);
    expect(caller.budget.waiting).toBe(0);
  });

  it("sends everybody away while the service wants to be left alone, and says how long", async () => {
    const caller = new Caller(1);
    await caller.call("Change");
    void caller.call("Look");
    await settled();
    caller.budget.pause(3_000);
    await caller.call("Change");
    expect(caller.refused).toHaveLength(2);
    expect(caller.refused.every((error) => error instanceof Throttled && error.retryAfterMs === 3_000)).toBe(true);
    await caller.clock.pass(10_200);
    await caller.call("Change");
    await settled();
    expect(caller.budget.used).toBe(1);
  });

  it("does not shorten a pause", () => {
    const { budget } = new Caller(1);
    budget.pause(9_000);
    budget.pause(1_000);
    expect(budget.pausedMs).toBe(9_000);
  });

  it("lets go of a waiter whose signal aborts", async () => {
    const caller = new Caller(1);
    await caller.call("Change");
    const controller = new AbortController();
    const waiting = caller.budget.acquire("Change", controller.signal);
    const reason = new Error("shutting down");
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect(caller.budget.waiting).toBe(0);
  });

  it("counts a call once, however often its end is told", async () => {
    const { budget } = new Caller(3);
    const end = await budget.acquire("Change", live);
    end();
    end();
    expect(budget.used).toBe(1);
  });

  it("serves who waits when the limit is raised", async () => {
    const caller = new Caller(1);
    await caller.call("Change");
    void caller.call("Change");
    await settled();
    caller.budget.limit = 2;
    await settled();
    expect(caller.budget).toMatchObject({ waiting: 0, used: 2, limit: 2 });
  });

  it("rejects with an Unavailable, so that the work is tried again", async () => {
    const caller = new Caller(1);
    caller.budget.pause(1);
    await expect(caller.budget.acquire("Look", live)).rejects.toBeInstanceOf(Unavailable);
  });
});
