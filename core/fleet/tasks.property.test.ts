/** Whatever is lost and whoever takes over: a task is performed once by the one in charge, or whoever wanted it knows better. */
import fc from "fast-check";
import { z } from "zod";
import { Unavailable } from "../errors.ts";
import { Ambiguous } from "../ports/target-vault.ts";
import { TASK_ROUTES } from "./task-protocol.ts";
import { ofAnyKind, type TaskKind } from "./tasks.ts";
import { NPR_GATEWAY, NPR_STANDBY, TaskWorld, type TestGateway } from "./testing/task-world.ts";

const WRITE: TaskKind<{ value: number }, { by: string }> = {
  kind: "Write",
  body: z.object({ value: z.number() }),
  result: z.object({ by: z.string() }),
};
const PAIR = [NPR_GATEWAY, NPR_STANDBY];
const WITHIN_MS = 150;

type Step =
  | { readonly kind: "Task"; readonly addressee: 0 | 1 }
  | { readonly kind: "Failover" }
  /** The active one stands still for longer than its lease. */
  | { readonly kind: "StandStill" }
  | { readonly kind: "Lose"; readonly path: "tasks" | "results"; readonly how: "unheard" | "unanswered" };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("Task" as const), addressee: fc.constantFrom(0 as const, 1 as const) }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: "Failover" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "StandStill" as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("Lose" as const),
      path: fc.constantFrom("tasks" as const, "results" as const),
      how: fc.constantFrom("unheard" as const, "unanswered" as const),
    }),
  },
);

interface Written {
  readonly value: number;
  readonly by: string;
}

interface Wanted {
  readonly value: number;
  readonly outcome: Promise<"Done" | "Nothing" | "Unknown">;
}

class Pair {
  readonly #world: TaskWorld;
  readonly #gateways: readonly [TestGateway, TestGateway];
  readonly written: Written[] = [];
  readonly wanted: Wanted[] = [];
  readonly #losses: Extract<Step, { kind: "Lose" }>[] = [];
  #active: 0 | 1 = 0;
  #epoch = 1n;

  private constructor(world: TaskWorld, gateways: readonly [TestGateway, TestGateway]) {
    this.#world = world;
    this.#gateways = gateways;
  }

  static async start(): Promise<Pair> {
    const world = new TaskWorld();
    const gateways = [
      await world.gateway(NPR_GATEWAY, "NPR"),
      await world.gateway(NPR_STANDBY, "NPR", "dr-standby"),
    ] as const;
    const pair = new Pair(world, gateways);
    world.activate(NPR_GATEWAY, 1n, PAIR);
    for (const gateway of gateways) pair.#begin(gateway);
    return pair;
  }

  #begin(gateway: TestGateway): void {
    gateway.disturb = (path) => {
      const at = this.#losses.findIndex((loss) => TASK_ROUTES[loss.path] === path);
      return at === -1 ? undefined : this.#losses.splice(at, 1)[0]?.how;
    };
    const perform = async ({ value }: { value: number }, { assertActing }: { assertActing(): void }) => {
      await new Promise((resolve) => setTimeout(resolve, value % 7));
      assertActing();
      this.written.push({ value, by: gateway.member.name });
      return { by: gateway.member.name };
    };
    gateway.start(ofAnyKind({ kind: WRITE, perform }));
  }

  async take(step: Step): Promise<void> {
    if (step.kind === "Task") this.#want(PAIR[step.addressee] ?? NPR_GATEWAY);
    if (step.kind === "Lose") this.#losses.push(step);
    if (step.kind === "StandStill") {
      this.#gateways[this.#active].asleepMs += 60_000;
      this.failOver();
    }
    if (step.kind === "Failover") this.failOver();
    await new Promise((resolve) => setTimeout(resolve, 3));
  }

  /** The other one is in charge; the one before notices at its next answer, or by its lease. */
  failOver(): void {
    this.#world.standings.delete(this.#gateways[this.#active].member.name);
    this.#active = this.#active === 0 ? 1 : 0;
    this.#epoch += 1n;
    this.#world.activate(this.#gateways[this.#active].member.name, this.#epoch, PAIR);
  }

  #want(gateway: string): void {
    const value = this.wanted.length;
    const outcome = this.#world.perform(WRITE, { value }, { gateway, withinMs: WITHIN_MS }).then(
      () => "Done" as const,
      (error: unknown) => {
        if (error instanceof Ambiguous) return "Unknown" as const;
        if (error instanceof Unavailable) return "Nothing" as const;
        throw error;
      },
    );
    this.wanted.push({ value, outcome });
  }

  /** Ends whatever nobody will tell of any more. */
  async settle(): Promise<readonly ("Done" | "Nothing" | "Unknown")[]> {
    const again = setInterval(() => this.failOver(), 2 * WITHIN_MS);
    const outcomes = await Promise.all(this.wanted.map(({ outcome }) => outcome));
    clearInterval(again);
    await this.#world.stop();
    expect(this.#world.store.size).toBe(0);
    return outcomes;
  }
}

test("what is told is what was done, and nothing is done twice", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const pair = await Pair.start();
      for (const each of steps) await pair.take(each);
      const outcomes = await pair.settle();
      for (const [value, outcome] of outcomes.entries()) {
        const times = pair.written.filter((written) => written.value === value).length;
        expect(times).toBeLessThanOrEqual(1);
        if (outcome === "Done") expect(times).toBe(1);
        if (outcome === "Nothing") expect(times).toBe(0);
      }
    }),
    { numRuns: 40 },
  );
}, 120_000);
