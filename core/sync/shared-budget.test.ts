/** One budget over several processes, which may die at any time, each with what it has booked and begun. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Unavailable } from "../errors.ts";
import type { CallLedger } from "../ports/call-ledger.ts";
import { FakeCallLedger } from "../ports/fake-call-ledger.ts";
import type { Priority } from "../ports/target-vaults.ts";
import { CallBudget } from "./budget.ts";
import { FakeClock, settled } from "./testing/fake-clock.ts";

const live = new AbortController().signal;
const WINDOW = 10_000;
const CALL_MS = 5_000;

class Installation {
  readonly clock = new FakeClock();
  readonly ledger = new FakeCallLedger(() => this.clock.now());
  /** When the vault saw calls. */
  readonly seen: number[] = [];
  readonly order: string[] = [];

  process(limit: number): Process {
    return new Process(this, limit);
  }

  get mostInAnyWindow(): number {
    return Math.max(0, ...this.seen.map((from) => this.seen.filter((at) => at >= from && at < from + WINDOW).length));
  }
}

class Process {
  readonly #installation: Installation;
  readonly budget: CallBudget;
  readonly refused: Error[] = [];
  #dead = false;

  constructor(installation: Installation, limit: number) {
    this.#installation = installation;
    const { clock, ledger } = installation;
    // Who is dead tells the ledger nothing.
    const reached: CallLedger = {
      book: (...asked) => (this.#dead ? new Promise(() => {}) : ledger.book(...asked)),
      settle: async (...told) => (this.#dead ? undefined : ledger.settle(...told)),
    };
    const shared = { ledger: reached, holder: randomUUID(), vault: "a", callMs: CALL_MS };
    this.budget = new CallBudget(limit, 10_000_000, clock, shared);
  }

  async call(priority: Priority, name = "", lastsMs = 0, seenAfterMs = 0): Promise<void> {
    const { clock, seen, order } = this.#installation;
    try {
      const end = await this.budget.acquire(priority, live);
      if (this.#dead) return;
      clock.after(seenAfterMs, () => {
        seen.push(clock.now());
        order.push(name);
      });
      clock.after(lastsMs, () => this.#dead || end());
    } catch (error) {
      this.refused.push(error as Error);
    }
  }

  die(): void {
    this.#dead = true;
  }
}

test("the vault sees no more than the limit in any 10 seconds, however many processes call and die", async () => {
  const step = fc.record({
    afterMs: fc.integer({ min: 0, max: 3_000 }),
    process: fc.nat({ max: 2 }),
    dies: fc.boolean(),
    calls: fc.integer({ min: 1, max: 5 }),
    lastsMs: fc.integer({ min: 0, max: CALL_MS }),
    seenAt: fc.double({ min: 0, max: 1, noNaN: true }),
    priority: fc.constantFrom<Priority>("Change", "Look"),
  });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 20 }), fc.array(step, { maxLength: 30 }), async (limit, steps) => {
      const installation = new Installation();
      const running = [0, 1, 2].map(() => installation.process(limit));
      for (const { afterMs, process, dies, calls, lastsMs, seenAt, priority } of steps) {
        await installation.clock.pass(afterMs);
        if (dies) {
          running[process]?.die();
          running[process] = installation.process(limit);
        }
        for (let at = 0; at < calls; at += 1) {
          void running[process]?.call(priority, "", lastsMs, Math.floor(lastsMs * seenAt));
        }
      }
      await installation.clock.pass(1_000_000);
      expect(installation.mostInAnyWindow).toBeLessThanOrEqual(limit);
      expect(running.map(({ budget }) => budget.waiting)).toEqual([0, 0, 0]);
    }),
    { numRuns: 100 },
  );
});

test("who takes over right after the window was spent waits for it, and begins with what comes free", async () => {
  const installation = new Installation();
  const leader = installation.process(40);
  for (let at = 0; at < 40; at += 1) void leader.call("Change", "first");
  await installation.clock.pass(1_000);
  expect(installation.seen).toHaveLength(40);
  leader.die();
  const next = installation.process(40);
  void next.call("Change", "second");
  await installation.clock.pass(8_000);
  expect(installation.order).not.toContain("second");
  await installation.clock.pass(10_000);
  expect(installation.order.at(-1)).toBe("second");
});

test("two processes that both have plenty to do share it", async () => {
  const installation = new Installation();
  const [one, other] = [installation.process(80), installation.process(80)];
  for (let at = 0; at < 800; at += 1) {
    void one.call("Change", "one", 200);
    void other.call("Change", "other", 200);
  }
  await installation.clock.pass(60_000);
  const ofOne = installation.order.filter((name) => name === "one").length;
  expect(installation.mostInAnyWindow).toBeLessThanOrEqual(80);
  expect(installation.order.length).toBeGreaterThan(5 * 80);
  expect(ofOne / installation.order.length).toBeGreaterThan(0.2);
  expect(ofOne / installation.order.length).toBeLessThan(0.8);
});

test("looks leave a tenth to the changes of another process", async () => {
  const installation = new Installation();
  const looking = installation.process(40);
  for (let at = 0; at < 100; at += 1) void looking.call("Look", "look");
  await installation.clock.pass(500);
  const changing = installation.process(40);
  void changing.call("Change", "change");
  await settled();
  await installation.clock.pass(100);
  expect(installation.order).toContain("change");
});

test("a change that comes while looks wait goes on at once", async () => {
  const installation = new Installation();
  const process = installation.process(40);
  for (let at = 0; at < 100; at += 1) void process.call("Look", "look");
  await installation.clock.pass(500);
  void process.call("Change", "change");
  await installation.clock.pass(10);
  expect(installation.order.at(-1)).toBe("change");
});

test("while the ledger does not answer nothing is called, and who waits is told", async () => {
  const clock = new FakeClock();
  const gone = new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
  const ledger: CallLedger = { book: () => Promise.reject(gone), settle: async () => {} };
  const budget = new CallBudget(10, 1_000, clock, { ledger, holder: "a", vault: "a", callMs: CALL_MS });
  await expect(budget.acquire("Change", live)).rejects.toBe(gone);
  expect(budget).toMatchObject({ waiting: 0, used: 0 });
});

test("what the ledger grants too late is given back, and asked for again", async () => {
  const clock = new FakeClock();
  const lateMs = [2_000, 1_999];
  const settlements: (readonly [string, number])[] = [];
  let asked = 0;
  const ledger: CallLedger = {
    book: () => {
      const id = String(asked);
      const late = lateMs[asked] ?? 0;
      asked += 1;
      return new Promise((resolve) => {
        clock.after(late, () => resolve({ id, calls: 1, waitMs: 0, contended: false }));
      });
    },
    settle: async (id, calls) => {
      settlements.push([id, calls]);
    },
  };
  const budget = new CallBudget(10, 10_000, clock, { ledger, holder: "a", vault: "a", callMs: CALL_MS });
  let granted = false;
  void budget.acquire("Change", live).then(() => {
    granted = true;
  });
  await clock.pass(2_000);
  expect([granted, asked, settlements]).toEqual([false, 2, [["0", 0]]]);
  await clock.pass(1_999);
  expect([granted, asked, settlements]).toEqual([true, 2, [["0", 0]]]);
});
