/**
 * Whatever dies, gets lost or is edited on any side: all of them end up with the same value, nothing that was written here
 * or that was written over there is lost, and then everything rests.
 */
import fc from "fast-check";
import { FakeTargetVault } from "../ports/fake-target-vault.ts";
import type { ConflictPolicy } from "./exchange.ts";
import { conflictKey, type Resolution } from "./exchange-plan.ts";
import { INTENT_TAG } from "./ownership.ts";
import { VAULT_URL } from "./testing/entries.ts";
import { Site } from "./testing/exchange-world.ts";
import { entryNameOf, SECRET } from "./testing/platform.ts";
import type { Death } from "./testing/world.ts";

const KEYS = ["a", "b"] as const;
type Key = (typeof KEYS)[number];
/** Of the set calls of one run, in turn. */
type Fate = "lost" | "carriedOut" | undefined;

type Action =
  | {
      readonly kind: "reconcile";
      readonly site: number;
      readonly look: boolean;
      readonly death: Death | undefined;
      readonly fates: readonly Fate[];
    }
  | { readonly kind: "write"; readonly site: number; readonly key: Key }
  | { readonly kind: "resolve"; readonly site: number; readonly key: Key; readonly resolution: Resolution }
  | {
      readonly kind: "edit" | "editKeepingTags" | "tag" | "delete" | "resume" | "purge" | "disable" | "enable";
      readonly key: Key;
    };

const key = fc.constantFrom(...KEYS);
const site = fc.integer({ min: 0, max: 1 });
const resolution = fc.constantFrom<Resolution>("KeepPlatform", "KeepTarget");
const inVault = ["edit", "editKeepingTags", "tag", "delete", "resume", "purge", "disable", "enable"] as const;
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("reconcile" as const),
      site,
      look: fc.boolean(),
      death: fc.option(fc.record({ atEffect: fc.integer({ min: 1, max: 12 }), carriedOut: fc.boolean() }), {
        nil: undefined,
      }),
      fates: fc.array(fc.constantFrom<Fate>("lost", "carriedOut", undefined), { maxLength: 4 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), site, key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("resolve" as const), site, key, resolution }) },
  ...inVault.map((kind) => ({
    weight: kind === "edit" ? 5 : 1,
    arbitrary: fc.record({ kind: fc.constant(kind), key }) as fc.Arbitrary<Action>,
  })),
);
const policy = fc.constantFrom<ConflictPolicy>("PlatformWins", "TargetWins", "Manual");

class Story {
  readonly vault = new FakeTargetVault(VAULT_URL);
  readonly sites: readonly Site[];
  /** By site and key: what was written there and acknowledged. */
  readonly written: { readonly site: number; readonly key: Key; readonly value: string }[] = [];
  #clock = Date.parse("2026-01-01T00:00:00Z");
  #made = 0;

  private constructor(sites: (vault: FakeTargetVault) => readonly Site[]) {
    this.sites = sites(this.vault);
    this.vault.now = () => this.#clock;
  }

  static async of(policies: readonly ConflictPolicy[]): Promise<Story> {
    const made: Site[] = [];
    const story = new Story(() => made);
    for (const [at, each] of policies.entries()) {
      made.push(await Site.of(`installation-${at}`, { vault: story.vault, keys: KEYS, policy: each }));
    }
    return story;
  }

  async act(step: Action): Promise<void> {
    // A third of a second: some edits fall into the same second as ours, as Key Vault's times show it.
    this.#clock += 333;
    const { vault } = this;
    if (step.kind === "reconcile") {
      const fates = [...step.fates];
      vault.disturb = (operation) => (operation === "set" ? fates.shift() : undefined);
      await this.#site(step.site).reconcile({ look: step.look, ...(step.death && { death: step.death }) });
      vault.disturb = () => undefined;
      return;
    }
    if (step.kind === "write") {
      const value = this.#fresh();
      await this.#site(step.site).platform.write(step.key, value);
      this.written.push({ site: step.site % this.sites.length, key: step.key, value });
      return;
    }
    if (step.kind === "resolve") {
      this.#site(step.site).resolve(step.key, step.resolution);
      return;
    }
    const name = entryNameOf(step.key);
    const current = vault.versions(name).at(-1);
    const isActive = current !== undefined && !vault.isDeleted(name);
    if (step.kind === "edit" && (isActive || current === undefined)) vault.put(name, this.#fresh());
    if (step.kind === "editKeepingTags" && isActive) vault.put(name, this.#fresh(), current.tags);
    if (step.kind === "tag" && isActive) vault.edit(name, { tags: { ...current.tags, owner: "person" } });
    if (step.kind === "delete" && isActive) vault.delete(name);
    if (step.kind === "resume" && current !== undefined) vault.resume(name);
    if (step.kind === "purge" && current !== undefined) vault.purge(name);
    if (step.kind === "disable" && isActive) vault.edit(name, { enabled: false });
    if (step.kind === "enable" && isActive) vault.edit(name, { enabled: true });
  }

  /**
   * Undisturbed looks, as many as the longest way takes: recover, look, write, take over on the other side, settle. People
   * resolve what is in conflict, each in their own way.
   */
  async calm(resolutions: readonly Resolution[]): Promise<void> {
    for (let run = 0; run < 6; run += 1) {
      for (const [at, each] of this.sites.entries()) {
        this.#clock += 5_000;
        await each.reconcile();
        for (const key of KEYS) each.resolve(key, resolutions[at] ?? "KeepTarget");
      }
    }
  }

  #site(at: number): Site {
    const found = this.sites[at % this.sites.length];
    if (found === undefined) throw new Error("no site");
    return found;
  }

  #fresh(): string {
    this.#made += 1;
    return `value-${this.#made}`;
  }
}

/** What a person made there and one of ours was written over: it must be somewhere. */
function writtenOver(vault: FakeTargetVault, each: Key): readonly string[] {
  const versions = vault.versions(entryNameOf(each));
  return versions.flatMap(({ value, tags }, at) => {
    const next = versions[at + 1]?.tags[INTENT_TAG];
    return next !== undefined && next !== tags[INTENT_TAG] ? [value] : [];
  });
}

const isReadable = (vault: FakeTargetVault, each: Key): boolean =>
  !vault.isDeleted(entryNameOf(each)) && vault.versions(entryNameOf(each)).at(-1)?.enabled === true;

test.each([1, 2])("%i platforms and people at one vault converge, lose nothing, and rest", async (count) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(policy, { minLength: count, maxLength: count }),
      fc.array(resolution, { minLength: count, maxLength: count }),
      fc.array(action, { maxLength: 24 }),
      async (policies, resolutions, actions) => {
        const story = await Story.of(policies);
        const { vault, sites } = story;
        for (const step of actions) await story.act(step);
        await story.calm(resolutions);

        const histories = await Promise.all(
          KEYS.flatMap((each) => sites.map(async ({ platform }) => [each, await platform.history(each)] as const)),
        );
        const everywhere = (each: Key) => histories.filter(([one]) => one === each).flatMap(([, values]) => values);
        for (const each of KEYS) {
          const current = vault.versions(entryNameOf(each)).at(-1);
          if (current === undefined || !current.enabled) continue;
          if (!vault.isDeleted(entryNameOf(each))) {
            for (const { platform } of sites) expect(await platform.value(each)).toBe(current.value);
          }
          expect(everywhere(each)).toEqual(expect.arrayContaining([...writtenOver(vault, each)]));
        }
        for (const { site: at, key: each, value } of story.written) {
          expect(await sites[at]?.platform.history(each)).toContain(value);
        }
        // What cannot be read cannot be resolved.
        const readable = KEYS.filter((each) => isReadable(vault, each));
        for (const { conflicts } of sites) {
          expect(readable.filter((each) => conflicts.has(conflictKey({ secretName: SECRET, key: each })))).toEqual([]);
        }
        // A deleted entry of somebody else keeps its name, and that is asked each time.
        if (KEYS.some((each) => vault.isDeleted(entryNameOf(each)))) return;
        const before = [vault.calls, ...(await Promise.all(sites.map(({ platform }) => platform.versions())))];
        for (const each of sites) await each.reconcile();
        // The calls are the list pages.
        const versions = await Promise.all(sites.map(({ platform }) => platform.versions()));
        expect([vault.calls, ...versions]).toEqual([Number(before[0]) + sites.length, ...before.slice(1)]);
      },
    ),
    { numRuns: Number(process.env.INTERLEAVINGS ?? 200) },
  );
});
