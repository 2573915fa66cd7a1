/**
 * Whatever people of both namespaces do, and whoever dies over it, with caches that lag: both sides come to the same
 * values, nothing that was written here or let go there is lost, what is not ours stays, and then nothing is written.
 */
import fc from "fast-check";
import type { Resolution } from "../../../core/sync/exchange-plan.ts";
import type { Death } from "../../../core/sync/testing/world.ts";
import { BothSides, KEYS, type Key } from "./testing/both-sides.ts";

type Step =
  | {
      readonly kind: "reconcile";
      readonly watch: boolean;
      readonly death: Death | undefined;
      readonly overtaken: boolean;
    }
  | { readonly kind: "write" | "edit" | "unset"; readonly key: Key }
  | { readonly kind: "letGo" | "admit"; readonly is: boolean }
  | { readonly kind: "resolve"; readonly resolution: Resolution }
  | { readonly kind: "relabel" | "remove" | "replace" | "repair" | "watch" };

const key = fc.constantFrom(...KEYS);
const death = fc.option(fc.record({ atEffect: fc.integer({ min: 1, max: 10 }), carriedOut: fc.boolean() }), {
  nil: undefined,
});
const reconciling = (overtaken: fc.Arbitrary<boolean>): fc.Arbitrary<Step> =>
  fc.record({ kind: fc.constant("reconcile" as const), watch: fc.boolean(), death, overtaken });
const resolution = fc.constantFrom<Resolution>("KeepPlatform", "KeepTarget");
const anything: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: reconciling(fc.boolean()) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("write" as const), key }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("edit" as const), key }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("resolve" as const), resolution }) },
  ...(["unset"] as const).map((kind) => ({ weight: 1, arbitrary: fc.record({ kind: fc.constant(kind), key }) })),
  ...(["letGo", "admit"] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant(kind), is: fc.boolean() }),
  })),
  ...(["relabel", "remove", "replace", "repair", "watch"] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant(kind) }),
  })),
);
const policy = fc.constantFrom("PlatformWins" as const, "TargetWins" as const, "Manual" as const);

class Story {
  readonly sides: BothSides;
  readonly written: { readonly key: Key; readonly value: string }[] = [];
  readonly edited: { readonly key: Key; readonly value: string }[] = [];
  #made = 0;

  private constructor(sides: BothSides) {
    this.sides = sides;
  }

  /** In step, and let go. */
  static async of(conflictPolicy: "PlatformWins" | "TargetWins" | "Manual"): Promise<Story> {
    const story = new Story(await BothSides.of(conflictPolicy));
    await story.rest();
    return story;
  }

  #fresh(side: string): string {
    this.#made += 1;
    return `${side}-${this.#made}`;
  }

  #edit(key: Key): void {
    const { sides } = this;
    if (!sides.isOurs) return;
    const value = this.#fresh("there");
    sides.edit(key, value);
    this.edited.push({ key, value });
  }

  async act(step: Step): Promise<void> {
    const { sides } = this;
    switch (step.kind) {
      case "reconcile":
        if (step.watch) sides.watch();
        if (step.overtaken) sides.beforeWrite = () => this.#edit("a");
        await sides.reconcile(step.death);
        sides.beforeWrite = undefined;
        break;
      case "write": {
        const value = this.#fresh("here");
        await sides.write(step.key, value);
        this.written.push({ key: step.key, value });
        break;
      }
      case "edit":
        this.#edit(step.key);
        break;
      case "unset":
        if (sides.isOurs) sides.edit(step.key, undefined);
        break;
      case "letGo":
        sides.letGo(step.is);
        break;
      case "admit":
        if (step.is) sides.tenants.admit("pay", "jobs");
        else sides.tenants.admissions.get("pay")?.delete("jobs");
        break;
      case "resolve":
        sides.resolve(step.resolution);
        break;
      case "repair":
        if (!sides.isOurs) sides.remove();
        break;
      default:
        sides[step.kind]();
    }
  }

  /** Until nothing is left to be done. */
  async rest(): Promise<void> {
    const { sides } = this;
    sides.tenants.admit("pay", "jobs");
    if (!sides.isOurs) sides.remove();
    for (let pass = 0; pass < 12; pass++) {
      sides.watch();
      if (!sides.isLetGo) sides.letGo(true);
      sides.watch();
      const before = { ...sides.effects };
      expect(await sides.reconcile()).toEqual([]);
      if (sides.tenants.conflicts.length > 0) sides.resolve("KeepTarget");
      else if (before.writes === sides.effects.writes && before.reads === sides.effects.reads && sides.isLetGo) return;
    }
    throw new Error("it does not come to rest");
  }

  async isWhole(): Promise<void> {
    const { sides } = this;
    const values: Record<string, readonly string[]> = {};
    for (const each of [...KEYS, "user", "header"]) {
      values[each] = await sides.history(each);
      expect(sides.there(each)).toBe(values[each]?.at(-1));
    }
    for (const each of this.written) expect(values[each.key]).toContain(each.value);
    for (const each of sides.writtenOver) {
      const [name = "", value = ""] = each.split(" ");
      expect(values[name]).toContain(value);
    }
  }
}

const look: Step = { kind: "reconcile", watch: true, death: undefined, overtaken: false };
const bothChanged: readonly Step[] = [{ kind: "write", key: "a" }, { kind: "edit", key: "a" }, look];
/** What few random ones may lack: something taken over, something that loses, and a person who is asked. */
const examples: ["PlatformWins" | "TargetWins" | "Manual", Step[]][] = [
  ["TargetWins", [{ kind: "edit", key: "a" }, look]],
  ["PlatformWins", [...bothChanged]],
  ["Manual", [...bothChanged]],
];
const numRuns = Number(process.env.INTERLEAVINGS ?? 60);

test("everything comes to the same values, nothing is lost, and nothing is written or read any more", async () => {
  let [takenOver, kept, asked] = [0, 0, 0];
  await fc.assert(
    fc.asyncProperty(policy, fc.array(anything, { minLength: 4, maxLength: 30 }), async (conflictPolicy, steps) => {
      const story = await Story.of(conflictPolicy);
      const { sides } = story;
      for (const step of steps) {
        await story.act(step);
        asked += sides.tenants.conflicts.length;
      }
      await story.rest();
      await story.isWhole();
      const history = new Set((await Promise.all(KEYS.map((each) => sides.history(each)))).flat());
      takenOver += story.edited.filter(({ value }) => history.has(value)).length;
      kept += sides.writtenOver.size;
      // What one side alone changes is what both have, as one version, and whoever comes after finds nothing to do.
      const before = await sides.version();
      sides.edit("b", "last there");
      await story.rest();
      expect((await sides.history("b")).at(-1)).toBe("last there");
      expect(await sides.version()).toBe(before + 1);
      await sides.write("b", "last here");
      await story.rest();
      expect(sides.there("b")).toBe("last here");
      expect(await sides.version()).toBe(before + 2);
    }),
    { numRuns, examples },
  );
  // Else the property says nothing.
  expect(Math.min(takenOver, kept, asked)).toBeGreaterThan(0);
}, 600_000);

const onKey = (kind: "write" | "edit", ...keys: Key[]): fc.Arbitrary<Step> =>
  fc.record({ kind: fc.constant(kind), key: fc.constantFrom(...keys) });

test.each([
  ["both here", "TargetWins", [onKey("write", "a", "b")]],
  ["both there", "PlatformWins", [onKey("edit", "a", "b")]],
  ["one each", "TargetWins", [onKey("write", "a"), onKey("edit", "b")]],
  ["one each", "PlatformWins", [onKey("write", "a"), onKey("edit", "b")]],
] as const)(
  "what only one side changes (%s) is never taken for a conflict, whoever dies over it (%s)",
  async (_, conflictPolicy, changing) => {
    const step = fc.oneof(reconciling(fc.constant(false)), ...changing);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const story = await Story.of(conflictPolicy);
        const { sides } = story;
        for (const step of steps) await story.act(step);
        await story.rest();
        await story.isWhole();
        const made = [...story.written, ...story.edited];
        for (const each of KEYS) {
          const last = made.findLast(({ key }) => key === each)?.value ?? `${each}0`;
          expect(sides.there(each)).toBe(last);
        }
      }),
      { numRuns },
    );
  },
  600_000,
);
