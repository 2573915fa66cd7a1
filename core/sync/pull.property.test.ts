/** Whatever dies or happens in between: the secret ends up with what the vault has, and nothing that was written is lost. */
import fc from "fast-check";
import { INSTALLATION_TAG, KEY_TAG, OWNER_TAG } from "./ownership.ts";
import { INSTALLATION } from "./testing/entries.ts";
import { entryNameOf } from "./testing/platform.ts";
import { PullWorld } from "./testing/pull-world.ts";
import type { Death } from "./testing/world.ts";

const KEYS = ["a", "b", "c"] as const;
type Key = (typeof KEYS)[number];

type Action =
  | { readonly kind: "reconcile"; readonly look: boolean; readonly death: Death | undefined }
  | {
      readonly kind: "edit" | "tag" | "delete" | "resume" | "purge" | "disable" | "enable" | "write";
      readonly key: Key;
    };

const key = fc.constantFrom(...KEYS);
const of = <K extends Exclude<Action["kind"], "reconcile">>(kind: K) => fc.record({ kind: fc.constant(kind), key });
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("reconcile" as const),
      look: fc.boolean(),
      death: fc.option(fc.record({ atEffect: fc.integer({ min: 1, max: 6 }), carriedOut: fc.boolean() }), {
        nil: undefined,
      }),
    }),
  },
  { weight: 6, arbitrary: of("edit") },
  { weight: 2, arbitrary: of("write") },
  ...(["tag", "delete", "resume", "purge", "disable", "enable"] as const).map((kind) => ({
    weight: 1,
    arbitrary: of(kind) as fc.Arbitrary<Action>,
  })),
);

class Story {
  readonly world: PullWorld;
  /** By key: what was written here and acknowledged. */
  readonly written = new Map<Key, string[]>();
  #clock = Date.parse("2026-01-01T00:00:00Z");
  #made = 0;

  constructor(world: PullWorld) {
    this.world = world;
    world.vault.now = () => this.#clock;
  }

  async act(step: Action): Promise<void> {
    // A third of a second: some edits fall into the same second as what was taken over, as Key Vault's times show it.
    this.#clock += 333;
    const { vault } = this.world;
    if (step.kind === "reconcile") {
      await this.world.reconcile({ look: step.look, ...(step.death && { death: step.death }) });
      return;
    }
    const name = entryNameOf(step.key);
    if (step.kind === "write") {
      const value = this.#fresh();
      await this.world.platform.write(step.key, value);
      this.written.set(step.key, [...(this.written.get(step.key) ?? []), value]);
      return;
    }
    const isThere = vault.versions(name).length > 0;
    const isActive = isThere && !vault.isDeleted(name);
    if (step.kind === "edit" && (isActive || !isThere)) vault.put(name, this.#fresh());
    if (step.kind === "tag" && isActive) vault.edit(name, { tags: { owner: "person" } });
    if (step.kind === "delete" && isActive) vault.remove(name);
    if (step.kind === "resume" && isThere) vault.resume(name);
    if (step.kind === "purge" && isThere) vault.erase(name);
    if (step.kind === "disable" && isActive) vault.edit(name, { enabled: false });
    if (step.kind === "enable" && isActive) vault.edit(name, { enabled: true });
  }

  /** Undisturbed looks: one that takes over, one that settles. */
  async calm(): Promise<void> {
    for (let run = 0; run < 2; run += 1) {
      this.#clock += 5_000;
      await this.world.reconcile();
    }
  }

  /** What is there to be taken over. */
  available(each: Key): string | undefined {
    const current = this.world.vault.versions(entryNameOf(each)).at(-1);
    return this.world.vault.isDeleted(entryNameOf(each)) || current?.enabled !== true ? undefined : current.value;
  }

  #fresh(): string {
    this.#made += 1;
    return `value-${this.#made}`;
  }
}

test("converges after any order of crashes and edits on both sides, and then rests", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 20 }), async (actions) => {
      const story = new Story(await PullWorld.of(...KEYS));
      const { world } = story;
      for (const step of actions) await story.act(step);
      await story.calm();
      const available = KEYS.filter((each) => story.available(each) !== undefined);
      for (const each of available) expect((await world.platform.history(each)).at(-1)).toBe(story.available(each));
      for (const [each, values] of story.written) {
        expect(await world.platform.history(each)).toEqual(expect.arrayContaining(values));
      }
      const before = [await world.platform.versions(), world.vault.calls];
      const plan = await world.plan(true);
      expect(plan.pull).toEqual([]);
      expect(plan.inSync).toBe(available.length);
      expect(plan.failures).toHaveLength(KEYS.length - available.length);
      await world.reconcile({ look: false });
      // The one call is the list page of the plan.
      expect([await world.platform.versions(), world.vault.calls]).toEqual([before[0], (before[1] ?? 0) + 1]);
    }),
    { numRuns: 2_000 },
  );
});

test("all that changed of a secret becomes one version", async () => {
  const world = await PullWorld.of(...KEYS);
  for (const each of KEYS) world.vault.put(entryNameOf(each), `${each}-1`);
  expect(await world.reconcile()).toMatchObject({ written: 3, confirmed: 0 });
  expect(await world.platform.versions()).toBe(1);
  for (const each of ["a", "b"]) world.vault.put(entryNameOf(each), `${each}-2`);
  world.vault.now = () => Date.now() + 5_000;
  world.vault.edit(entryNameOf("a"), {});
  world.vault.edit(entryNameOf("b"), {});
  expect(await world.reconcile()).toMatchObject({ written: 2, confirmed: 1 });
  expect(await world.platform.versions()).toBe(2);
});

test("an edit in the second of the one that was taken over is found by one more look", async () => {
  const world = await PullWorld.of("a");
  world.vault.now = () => 0;
  world.vault.put(entryNameOf("a"), "first");
  await world.reconcile();
  world.vault.put(entryNameOf("a"), "second");
  await world.reconcile();
  expect(await world.platform.history("a")).toEqual(["first", "second"]);
  // Not settled by a look in the same second.
  await world.reconcile();
  world.vault.put(entryNameOf("a"), "third");
  await world.reconcile();
  expect(await world.platform.history("a")).toEqual(["first", "second", "third"]);
  world.vault.now = () => 2_000;
  await world.reconcile();
  const { calls } = world.vault;
  await world.reconcile();
  expect(world.vault.calls).toBe(calls + 1);
});

test("what was pushed for another secret is not taken over", async () => {
  const world = await PullWorld.of("a");
  vaultEntryOfAnother(world);
  expect(await world.reconcile()).toMatchObject({ failed: 1, failures: [{ reason: "TargetNotOwned" }] });
  expect(await world.platform.history("a")).toEqual([]);
});

const vaultEntryOfAnother = ({ vault }: PullWorld) =>
  vault.put(entryNameOf("a"), "theirs", {
    [INSTALLATION_TAG]: INSTALLATION,
    [OWNER_TAG]: "another",
    [KEY_TAG]: "a",
  });
