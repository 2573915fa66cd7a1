/** Whatever dies, gets lost or is meddled with in between: the vault ends up right, and nobody else's things change. */
import fc from "fast-check";
import { INTENT_TAG } from "./ownership.ts";
import { RULE } from "./testing/entries.ts";
import { type Death, nameOf, ourTags, World } from "./testing/world.ts";

const KEYS = ["a", "b", "c", "d"] as const;
const FOREIGN = "foreign";
type Key = (typeof KEYS)[number];

type Action =
  | { readonly kind: "change"; readonly key: Key }
  | {
      readonly kind: "reconcile";
      readonly look: boolean;
      readonly death: Death | undefined;
      readonly fates: readonly Fate[];
    }
  | { readonly kind: "writeByHand"; readonly key: Key; readonly tags: Record<string, string> }
  | { readonly kind: "tagByHand"; readonly key: Key }
  | { readonly kind: "delete"; readonly key: Key };

/** Of the set calls of one run, in turn. */
type Fate = "lost" | "carriedOut" | undefined;

const key = fc.constantFrom(...KEYS);
const death = fc.option(fc.record({ atEffect: fc.integer({ min: 1, max: 24 }), carriedOut: fc.boolean() }), {
  nil: undefined,
});
const reconcile: fc.Arbitrary<Action> = fc.record({
  kind: fc.constant("reconcile"),
  look: fc.boolean(),
  death,
  fates: fc.array(fc.constantFrom<Fate>("lost", "carriedOut", undefined), { maxLength: 6 }),
});
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("change" as const), key }) },
  { weight: 5, arbitrary: reconcile },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("writeByHand" as const), key, tags: fc.constantFrom({}, { team: "x" }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("tagByHand" as const), key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), key }) },
);

class Story {
  readonly world = new World();
  #clock = Date.parse("2026-01-01T00:00:00Z");
  #made = 0;

  constructor() {
    this.world.vault.now = () => this.#clock;
    for (const each of KEYS) this.world.keep(each, this.#fresh());
    this.world.keep(FOREIGN, this.#fresh());
    this.world.vault.put(nameOf(FOREIGN), "theirs", { team: "other" });
  }

  async act(step: Action): Promise<void> {
    // A third of a second: some edits fall into the same second as our write, as Key Vault's times show it.
    this.#clock += 333;
    const { vault } = this.world;
    switch (step.kind) {
      case "change":
        this.world.keep(step.key, this.#fresh());
        break;
      case "reconcile": {
        const fates = [...step.fates];
        vault.disturb = (operation) => (operation === "set" ? fates.shift() : undefined);
        await this.world.reconcile({ look: step.look, ...(step.death && { death: step.death }) });
        vault.disturb = () => undefined;
        break;
      }
      case "writeByHand":
        if (this.#isActive(step.key)) vault.put(nameOf(step.key), this.#fresh(), step.tags);
        break;
      case "tagByHand": {
        const current = vault.versions(nameOf(step.key)).at(-1);
        if (current && this.#isActive(step.key))
          vault.edit(nameOf(step.key), { tags: { ...current.tags, owner: "person" } });
        break;
      }
      case "delete":
        if (this.#isActive(step.key)) vault.remove(nameOf(step.key));
    }
  }

  /** Undisturbed runs, as many as the longest way back takes: recover, look, write. */
  async calm(): Promise<void> {
    for (let run = 0; run < 4; run += 1) {
      this.#clock += 5_000;
      await this.world.reconcile();
    }
  }

  #isActive(each: Key): boolean {
    return this.world.vault.versions(nameOf(each)).length > 0 && !this.world.vault.isDeleted(nameOf(each));
  }

  #fresh(): string {
    this.#made += 1;
    return `value-${this.#made}`;
  }
}

describe("the push engine", () => {
  it("converges after any order of crashes, lost answers and foreign edits", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 14 }), async (actions) => {
        const story = new Story();
        for (const step of actions) await story.act(step);
        await story.calm();
        const { world } = story;
        const before = world.vault.calls;
        const plan = await world.plan(true);

        const items = await world.store.items(RULE);
        const recorded = new Set(items.filter((item) => item.outcome !== undefined).map((item) => item.key));
        const orphans = KEYS.filter((each) => isOrphan(world, each, recorded.has(each)));
        expect(plan.inSync).toBe(KEYS.length - orphans.length);
        expect(world.vault.calls - before).toBe(1);
        for (const each of KEYS.filter((one) => !orphans.includes(one))) {
          const versions = world.vault.versions(nameOf(each));
          const current = versions.at(-1);
          expect(current?.value).toBe(world.value(each));
          expect(current?.tags).toMatchObject(ourTags(world.entry(each), current?.tags[INTENT_TAG]));
          expect(world.audited()).toContain(current?.id);
          // Once a person's tag is on a version, every later version of ours has it.
          versions.slice(1).forEach((version, at) => {
            const { owner, team } = versions[at]?.tags ?? {};
            if (version.tags[INTENT_TAG] !== undefined) expect(version.tags).toMatchObject(defined({ owner, team }));
          });
        }
        for (const each of KEYS) expectNoDoubledVersion(world, each);
        expect(world.vault.versions(nameOf(FOREIGN)).map(({ value, tags }) => ({ value, tags }))).toEqual([
          { value: "theirs", tags: { team: "other" } },
        ]);
      }),
      { numRuns: 400 },
    );
  });

  it("loses nothing at any single effect of a run, whether the effect was carried out or not", async () => {
    for (const carriedOut of [false, true]) {
      for (let atEffect = 1; atEffect <= 24; atEffect += 1) {
        const story = new Story();
        await story.act({ kind: "reconcile", look: true, death: { atEffect, carriedOut }, fates: [] });
        await story.calm();
        for (const each of KEYS) expect(story.world.vault.versions(nameOf(each))).toHaveLength(1);
      }
    }
  });
});

/**
 * What is rightly left alone: nothing there says that it is ours. Either somebody wrote over a first write of ours whose
 * answer nobody saw, or wrote over ours and then deleted the entry, so that Key Vault no longer shows its versions.
 */
function isOrphan(world: World, each: Key, recorded: boolean): boolean {
  const versions = world.vault.versions(nameOf(each));
  if (versions.at(-1)?.tags[INTENT_TAG] !== undefined) return false;
  return world.vault.isDeleted(nameOf(each)) || !recorded;
}

function expectNoDoubledVersion(world: World, each: Key): void {
  const versions = world.vault.versions(nameOf(each));
  const intents = versions.flatMap(({ tags }) => tags[INTENT_TAG] ?? []);
  expect(new Set(intents).size).toBe(intents.length);
  const ours = versions.filter(({ tags }) => tags[INTENT_TAG] !== undefined);
  const doubled = ours.filter(({ value }, at) => at > 0 && ours[at - 1]?.value === value);
  // A person's value in between is the one reason to write the same value again.
  for (const { id } of doubled) {
    const at = versions.findIndex((version) => version.id === id);
    expect(versions[at - 1]?.tags[INTENT_TAG]).toBeUndefined();
  }
}

const defined = (tags: Record<string, string | undefined>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(tags).filter(([, value]) => value !== undefined));
