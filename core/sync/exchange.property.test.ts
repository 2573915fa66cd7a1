/**
 * Whatever dies, gets lost or is edited on any side: all of them end up with the same value, nothing that was written here
 * or that was written over there is lost, and then everything rests.
 */
import { randomInt } from "node:crypto";
import fc from "fast-check";
import { Fenced } from "../errors.ts";
import { FakeTargetVault } from "../ports/fake-target-vault.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { ConflictPolicy } from "./comparison.ts";
import { conflictKey, type PlannedExchange, type Resolution } from "./exchange-plan.ts";
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
      /** Somebody sets the entry between our look and our first write. */
      readonly overtaken: boolean;
    }
  /** A pass begins, or looks, and goes on later: once, twice, or after others. */
  | { readonly kind: "begin" | "goOn" | "listPages" | "readPages"; readonly site: number }
  /** The clocks of a platform's machines are set. */
  | { readonly kind: "skew"; readonly site: number; readonly ms: number }
  | { readonly kind: "write"; readonly site: number; readonly key: Key }
  | { readonly kind: "resolve"; readonly site: number; readonly key: Key; readonly resolution: Resolution }
  | {
      readonly kind: "edit" | "editKeepingTags" | "tag" | "delete" | "resume" | "purge" | "disable" | "enable";
      readonly key: Key;
    };

const key = fc.constantFrom(...KEYS);
const skew = fc.integer({ min: -600_000, max: 600_000 });
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
      overtaken: fc.boolean(),
    }),
  },
  ...(["begin", "goOn", "listPages", "readPages"] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant(kind), site }) as fc.Arbitrary<Action>,
  })),
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("skew" as const), site, ms: skew }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("write" as const), site, key }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("resolve" as const), site, key, resolution }) },
  ...inVault.map((kind) => ({
    weight: kind === "edit" ? 5 : 1,
    arbitrary: fc.record({ kind: fc.constant(kind), key }) as fc.Arbitrary<Action>,
  })),
);
const policy = fc.constantFrom<ConflictPolicy>("NewestWins", "PlatformWins", "TargetWins", "Manual");

class Story {
  readonly vault = new FakeTargetVault(VAULT_URL);
  readonly sites: readonly Site[];
  /** By site and key: what was written there and acknowledged. */
  readonly written: { readonly site: number; readonly key: Key; readonly value: string }[] = [];
  readonly #begun = new Map<Site, { readonly planned: readonly PlannedExchange[]; readonly writer: Writer }>();
  readonly #pages = new Map<Site, readonly VaultEntryProperties[]>();
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
      let { overtaken } = step;
      vault.disturb = (operation, name) => {
        if (operation !== "set") return undefined;
        if (overtaken && !vault.isDeleted(name)) vault.put(name, this.#fresh());
        overtaken = false;
        return fates.shift();
      };
      await this.#site(step.site).reconcile({ look: step.look, ...(step.death && { death: step.death }) });
      vault.disturb = () => undefined;
      return;
    }
    if (step.kind === "skew") {
      this.#site(step.site).skewMs = step.ms;
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
    if (!("key" in step)) {
      await this.#late(step.kind, this.#site(step.site));
      return;
    }
    const name = entryNameOf(step.key);
    const current = vault.versions(name).at(-1);
    const isActive = current !== undefined && !vault.isDeleted(name);
    if (step.kind === "edit" && (isActive || current === undefined)) vault.put(name, this.#fresh());
    if (step.kind === "editKeepingTags" && isActive) vault.put(name, this.#fresh(), current.tags);
    if (step.kind === "tag" && isActive) vault.edit(name, { tags: { ...current.tags, owner: "person" } });
    if (step.kind === "delete" && isActive) vault.remove(name);
    if (step.kind === "resume" && current !== undefined) vault.resume(name);
    if (step.kind === "purge" && current !== undefined) vault.erase(name);
    if (step.kind === "disable" && isActive) vault.edit(name, { enabled: false });
    if (step.kind === "enable" && isActive) vault.edit(name, { enabled: true });
  }

  async #late(kind: "begin" | "goOn" | "listPages" | "readPages", at: Site): Promise<void> {
    if (kind === "begin") {
      const writer = await at.lead();
      this.#begun.set(at, { planned: (await at.plan(true)).exchange, writer });
    }
    const begun = this.#begun.get(at);
    if (kind === "goOn" && begun) await at.perform(begun.planned, begun.writer).catch(unlessFenced);
    if (kind === "listPages") this.#pages.set(at, await at.look());
    const pages = this.#pages.get(at);
    if (kind === "readPages" && pages) await at.perform((await at.plan(false, pages)).exchange, await at.lead());
  }

  /**
   * Undisturbed looks, as many as the longest way takes: recover, look, write, take over on the other side, settle. People
   * resolve what is in conflict, each in their own way.
   */
  async calm(resolutions: readonly Resolution[], rounds = 6): Promise<void> {
    for (let run = 0; run < rounds; run += 1) {
      for (const [at, each] of this.sites.entries()) {
        this.#clock += 5_000;
        await each.reconcile();
        for (const key of KEYS) each.resolve(key, resolutions[at] ?? "KeepTarget");
      }
    }
  }

  pass(ms: number): void {
    this.#clock += ms;
  }

  /** The value that was made last. */
  get newest(): string {
    return `value-${this.#made}`;
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

/** Another process has led since. */
function unlessFenced(error: unknown): void {
  if (!(error instanceof Fenced)) throw error;
}

/** What a person made there and one of ours was written over: it must be somewhere. */
function writtenOver(vault: FakeTargetVault, each: Key): readonly string[] {
  const versions = vault.versions(entryNameOf(each));
  return versions.flatMap(({ value, tags }, at) => {
    const next = versions[at + 1]?.tags[INTENT_TAG];
    return next !== undefined && next !== tags[INTENT_TAG] ? [value] : [];
  });
}

/** A failure prints its seed in any case; the long version each. */
function runs(): { readonly numRuns: number; readonly seed: number } {
  const { INTERLEAVINGS, INTERLEAVINGS_SEED } = process.env;
  const seed = Number(INTERLEAVINGS_SEED ?? randomInt(2 ** 31));
  if (INTERLEAVINGS !== undefined) process.stdout.write(`${INTERLEAVINGS} interleavings, INTERLEAVINGS_SEED=${seed}\n`);
  return { numRuns: Number(INTERLEAVINGS ?? 200), seed };
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

        const everywhere = async (each: Key) =>
          (await Promise.all(sites.map(({ platform }) => platform.history(each)))).flat();
        const keeping = (each: Key) => expect.arrayContaining([...writtenOver(vault, each)]);
        for (const each of KEYS) {
          const current = vault.versions(entryNameOf(each)).at(-1);
          if (current === undefined || !current.enabled) continue;
          if (!vault.isDeleted(entryNameOf(each))) {
            for (const { platform } of sites) expect(await platform.value(each)).toBe(current.value);
          }
          if (!vault.isDeleted(entryNameOf(each))) expect(await everywhere(each)).toEqual(keeping(each));
        }
        for (const { site: at, key: each, value } of story.written) {
          expect(await sites[at]?.platform.history(each)).toContain(value);
        }
        // What cannot be read cannot be resolved.
        const readable = KEYS.filter((each) => isReadable(vault, each));
        for (const { conflicts } of sites) {
          expect(readable.filter((each) => conflicts.has(conflictKey({ secretName: SECRET, key: each })))).toEqual([]);
        }
        // A deleted entry of somebody else keeps its name, and that is asked each time. What it holds can be read by nobody
        // before somebody recovers it, and is not lost then either.
        const deleted = KEYS.filter((each) => vault.isDeleted(entryNameOf(each)));
        if (deleted.length > 0) {
          for (const each of deleted) vault.resume(entryNameOf(each));
          await story.calm(resolutions);
          for (const each of deleted) expect(await everywhere(each)).toEqual(keeping(each));
          return;
        }
        const before = [vault.calls, ...(await Promise.all(sites.map(({ platform }) => platform.versions())))];
        for (const each of sites) await each.reconcile();
        // The calls are the list pages.
        const versions = await Promise.all(sites.map(({ platform }) => platform.versions()));
        expect([vault.calls, ...versions]).toEqual([Number(before[0]) + sites.length, ...before.slice(1)]);
      },
    ),
    {
      ...runs(),
      examples: [
        [
          Array(count).fill("Manual"),
          Array(count).fill("KeepPlatform"),
          (count === 1
            ? [
                { kind: "edit", key: "b" },
                { kind: "tag", key: "a" },
                { kind: "write", site: 0, key: "b" },
                { kind: "edit", key: "a" },
                { kind: "edit", key: "a" },
                { kind: "edit", key: "b" },
                { kind: "write", site: 0, key: "a" },
              ]
            : [
                { kind: "write", site: 1, key: "a" },
                { kind: "write", site: 0, key: "a" },
                {
                  kind: "reconcile",
                  site: 1,
                  look: false,
                  death: { atEffect: 3, carriedOut: true },
                  fates: [],
                  overtaken: false,
                },
                { kind: "edit", key: "a" },
                { kind: "write", site: 1, key: "b" },
                { kind: "reconcile", site: 1, look: false, death: undefined, fates: ["lost"], overtaken: true },
              ]) as never,
        ],
      ],
    },
  );
});

type Edit = { readonly by: number; readonly key: Key };
type Turn =
  | (Edit & { readonly kind: "edit" })
  | Pick<Extract<Action, { kind: "reconcile" }>, "kind" | "site" | "look" | "death" | "fates">;
const turn: fc.Arbitrary<Turn> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("edit" as const), by: fc.integer({ min: 0, max: 2 }), key }) },
  {
    weight: 1,
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
);

/** Seconds apart: the vault's times have no more. */
test.each([1, 2])(
  "under NewestWins the last edit is everywhere, however wrong %i platforms' clocks are",
  async (count) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(skew, { minLength: count, maxLength: count }),
        fc.array(turn, { maxLength: 24 }),
        async (skews, turns) => {
          const story = await Story.of(skews.map(() => "NewestWins"));
          for (const [at, ms] of skews.entries()) await story.act({ kind: "skew", site: at, ms });
          // How old a value is can be told only as far back as versions are kept.
          for (const { platform } of story.sites) platform.keepVersions = 1_000;
          const last = new Map<Key, string>();
          // All have agreed once: what was never agreed on has no base to be newer than.
          for (const key of KEYS) await story.act({ kind: "edit", key });
          await story.calm([], 2);
          for (const each of turns) {
            story.pass(2_000);
            if (each.kind === "reconcile") await story.act({ ...each, overtaken: false });
            else if (each.by === 2) await story.act({ kind: "edit", key: each.key });
            else await story.act({ kind: "write", site: each.by, key: each.key });
            if (each.kind === "edit") last.set(each.key, story.newest);
          }
          await story.calm([]);
          for (const [each, value] of last) {
            expect(story.vault.versions(entryNameOf(each)).at(-1)?.value).toBe(value);
            for (const { platform } of story.sites) expect(await platform.value(each)).toBe(value);
          }
        },
      ),
      runs(),
    );
  },
);
