/** Whatever people do in the vault and wherever a process dies: what was acknowledged is read back, and the vault follows. */
import fc from "fast-check";
import type { SecretEntry } from "../../crds/secret.ts";
import { Waiting } from "../errors.ts";
import { actor, identity } from "../ports/samples.ts";
import { Conflict } from "../ports/vault-store.ts";
import { Crash, mortality, mortalVault } from "../sync/testing/world.ts";
import { KeptWorld } from "./testing/kept-world.ts";

const KEYS = ["a", "b"] as const;
const entries: readonly SecretEntry[] = KEYS.map((key) => ({ key, external: {} }));
/** How often who asked asks again. */
const PATIENCE = 10;
const entryOf = (key: string): string => `one--${key}`;

type Step =
  | {
      readonly kind: "put";
      readonly keys: readonly string[];
      readonly dies?: { atEffect: number; carriedOut: boolean };
    }
  | { readonly kind: "rollback" | "delete" | "apply" | "settle" | "fail over" }
  | { readonly kind: "edit" | "remove"; readonly key: string };

const key = fc.constantFrom(...KEYS);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record(
    {
      kind: fc.constant("put" as const),
      keys: fc.subarray([...KEYS], { minLength: 1 }),
      dies: fc.record({ atEffect: fc.integer({ min: 1, max: 8 }), carriedOut: fc.boolean() }),
    },
    { requiredKeys: ["kind", "keys"] },
  ),
  fc.record({ kind: fc.constantFrom("rollback" as const, "delete", "apply", "settle", "fail over") }),
  fc.record({ kind: fc.constantFrom("edit" as const, "remove"), key }),
);

class Run {
  readonly world: KeptWorld;
  /** What was acknowledged, by version. */
  readonly acknowledged = new Map<number, Readonly<Record<string, string>>>();
  #made = 0;

  constructor(world: KeptWorld) {
    this.world = world;
  }

  async take(step: Step): Promise<void> {
    const { world } = this;
    const record = await world.vault.describe(identity("one"));
    const current = record && this.acknowledged.get(record.currentVersion);
    const refusable = async (act: () => Promise<unknown>): Promise<void> => {
      try {
        await act();
      } catch (error) {
        // The vault is at it, or somebody else writes: it is tried again by whoever asked.
        if (!(error instanceof Waiting || error instanceof Crash || error instanceof Conflict)) throw error;
      }
    };
    switch (step.kind) {
      case "put": {
        if (record !== undefined && record.state !== "Active") return;
        const values = Object.fromEntries(step.keys.map((name) => [name, `v${++this.#made}`]));
        const vault = step.dies && world.platform(mortalVault(world.target, mortality(step.dies)));
        return refusable(async () => {
          const made = await world.put(entries, values, vault === undefined ? {} : { vault });
          this.acknowledged.set(made.currentVersion, { ...current, ...values });
        });
      }
      case "rollback": {
        const before = record && this.acknowledged.get(record.currentVersion - 1);
        if (record === undefined || before === undefined || record.state !== "Active") return;
        return refusable(async () => {
          const version = record.currentVersion - 1;
          const { record: made } = await world.vault.rollback(world.writer, record, { version, entries, actor });
          this.acknowledged.set(made.currentVersion, { ...current, ...before });
        });
      }
      case "delete":
        if (record?.state === "Active") await world.vault.softDelete(world.writer, record, actor);
        return;
      case "apply":
        if (record !== undefined) await world.vault.recover(world.writer, record, actor);
        return;
      case "settle":
        await world.settle();
        return;
      case "fail over":
        return world.lead();
      case "edit":
        // What was never committed and then edited looks like anybody's.
        if (current?.[step.key] !== undefined && world.shown(entryOf(step.key)) !== undefined)
          world.target.put(entryOf(step.key), "edited", {});
        return;
      case "remove":
        if (world.shown(entryOf(step.key)) !== undefined) world.target.remove(entryOf(step.key));
        return;
    }
  }

  /** Everything is done that is to be done. */
  async quiet(): Promise<void> {
    for (let round = 0; round < 5; round++) await this.world.settle();
  }
}

test("what was acknowledged is never lost", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), async (steps) => {
      const run = new Run(await KeptWorld.start());
      for (const each of steps) await run.take(each);
      const { world } = run;
      const found = await world.vault.describe(identity("one"));
      if (found === undefined) return;
      await world.vault.recover(world.writer, found, actor);
      await run.quiet();
      const read = async (version: number): Promise<Record<string, string>> => {
        for (let attempt = 0; ; attempt++) {
          try {
            return await world.values(version);
          } catch (error) {
            if (!(error instanceof Waiting) || attempt === PATIENCE) throw error;
          }
        }
      };
      const record = await world.record();
      for (const { version } of await world.vault.versions(record)) {
        expect([version, await read(version)]).toEqual([version, run.acknowledged.get(version)]);
      }
      // The next writes go through, and then the vault shows them.
      const again = async (attempt = 0): Promise<void> => {
        try {
          await world.put(entries, { a: "last a", b: "last b" });
        } catch (error) {
          if (!(error instanceof Waiting) || attempt === PATIENCE) throw error;
          return again(attempt + 1);
        }
      };
      await again();
      expect([world.shown(entryOf("a")), world.shown(entryOf("b"))]).toEqual(["last a", "last b"]);
      expect(await world.values()).toEqual({ a: "last a", b: "last b" });
      await run.quiet();
      expect(await world.entries.unsettled(world.writer, 10)).toEqual([]);
    }),
    { numRuns: Number(process.env.KEPT_RUNS ?? 200) },
  );
});
