/**
 * Whatever happens to manifests, scope, references, Project, vault and processes, in whatever order and with either
 * controller late: what is deleted in a vault was deleted here, by somebody who meant it, and is as the rule wrote it.
 */
import fc from "fast-check";
import { matchesName } from "../../core/name-pattern.ts";
import { foldName } from "../../core/sync/entries.ts";
import { namer } from "../../core/sync/names.ts";
import type { SyncRuleSpec } from "../../crds/syncrule.ts";
import { namingOf } from "./coverage.ts";
import { Crash, projectOf, RuleWorld, URLS } from "./testing/rule-world.ts";

const SECRETS = ["orders", "users"] as const;
const KEYS = ["a", "b", "c"] as const;
const NOTHING = "nothing";
type Name = (typeof SECRETS)[number];

type Step =
  | { readonly kind: "apply"; readonly name: Name; readonly keys: readonly string[]; readonly labelled: boolean }
  | { readonly kind: "applyElsewhere" | "delete" | "store"; readonly name: Name }
  | { readonly kind: "retain"; readonly name: Name }
  | { readonly kind: "rule"; readonly spec: Partial<SyncRuleSpec> }
  | { readonly kind: "project"; readonly state: "gone" | "closed" | "open" }
  | { readonly kind: "edit" | "remove" | "recover" | "disable"; readonly name: Name; readonly key: string }
  | { readonly kind: "replaceVault" | "restart" | "wait" | "release" }
  | { readonly kind: "pass"; readonly look: boolean; readonly dies: number | undefined; readonly fails: boolean };

const name = fc.constantFrom(...SECRETS);
const key = fc.constantFrom(...KEYS);
const always = <K extends string>(kind: K) => fc.constant(kind);
const specs: readonly Partial<SyncRuleSpec>[] = [
  { secrets: undefined },
  { secrets: { names: ["orders"] } },
  { secrets: { names: [NOTHING] } },
  { secrets: { selector: { matchLabels: { tier: "db" } } } },
  { mappings: undefined },
  { mappings: [{ secret: "orders", key: "a", name: "Mapped" }] },
  { mappings: [{ secret: "users", key: "a", name: "orders--a" }] },
  { target: { keyVault: { ref: { name: "one" } } } },
  { target: { keyVault: { ref: { name: "two" } } } },
  { target: { keyVault: { ref: { name: "one" }, name: "x-{secret}-{key}" } } },
  { deletionPolicy: "Retain" },
  { deletionPolicy: "Delete" },
  { suspend: true },
  { suspend: false },
  { dryRun: true },
  { dryRun: false },
  { limits: { deletions: 1 } },
  { limits: undefined },
];
const pass: fc.Arbitrary<Step> = fc.record({
  kind: always("pass"),
  look: fc.boolean(),
  dies: fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined }),
  fails: fc.boolean(),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: pass },
  { weight: 4, arbitrary: fc.record({ kind: always("store"), name }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: always("apply"),
      name,
      keys: fc.subarray([...KEYS], { minLength: 1 }),
      labelled: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: always("wait") }) },
  { weight: 2, arbitrary: fc.record({ kind: always("delete"), name }) },
  { weight: 2, arbitrary: fc.record({ kind: always("rule"), spec: fc.constantFrom(...specs) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("applyElsewhere" as const, "retain" as const), name }) },
  { weight: 1, arbitrary: fc.record({ kind: always("project"), state: fc.constantFrom("gone", "closed", "open") }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("edit" as const, "remove" as const, "recover" as const, "disable" as const),
      name,
      key,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom("replaceVault" as const, "restart" as const, "release" as const) }),
  },
);

class Story {
  readonly world: RuleWorld;
  deletions = 0;
  readonly #wrong: string[] = [];
  /** By URL and name: a person touched it since the rule wrote it. */
  readonly #touched = new Set<string>();
  /** Secrets that a person deleted, and meant it. */
  readonly #deleted = new Set<string>();
  /** What fails is told to the pass like an answer that never came. */
  #fails = false;

  constructor(world: RuleWorld) {
    this.world = world;
    this.#watch();
  }

  get wrong(): readonly string[] {
    return this.#wrong;
  }

  async act(step: Step): Promise<void> {
    const { world } = this;
    switch (step.kind) {
      case "apply":
        this.#deleted.delete(step.name);
        world.apply(step.name, step.keys, step.labelled ? { labels: { tier: "db" } } : {});
        break;
      case "applyElsewhere":
        this.#deleted.delete(step.name);
        world.apply(step.name, ["a"], { projectRef: { name: "other" } });
        break;
      case "retain": {
        const secret = world.secrets.get(step.name);
        if (secret === undefined) break;
        world.apply(
          step.name,
          secret.spec.entries.map((entry) => entry.key),
          { ...secret.spec, deletionPolicy: "Retain" },
        );
        break;
      }
      case "delete": {
        // What its policy was when it was stored last decides; Retain is checked where it is known for certain.
        if (world.secrets.delete(step.name)) this.#deleted.add(step.name);
        break;
      }
      case "store":
        await world.storeSecret(step.name);
        break;
      case "rule":
        world.change(step.spec);
        break;
      case "project":
        world.project = step.state === "gone" ? undefined : projectOf({ admits: step.state === "open" });
        break;
      case "edit":
      case "remove":
      case "recover":
      case "disable":
        this.#touch(step.kind, `${step.name}--${step.key}`);
        break;
      case "replaceVault":
        this.#vault(URLS[0]).replace();
        break;
      case "restart":
        await world.restart();
        break;
      case "wait":
        world.wait(6_000);
        break;
      case "release":
        world.annotate({ "mazevault.io/release": world.status.planHash ?? "none" });
        break;
      case "pass":
        world.wait(1_000);
        if (step.dies !== undefined) world.diesAfter = step.dies;
        this.#fails = step.fails;
        await world.pass(step);
        this.#fails = false;
    }
  }

  #vault(url: string) {
    const vault = this.world.vaults.get(url);
    if (vault === undefined) throw new Error(`no vault ${url}`);
    return vault;
  }

  #touch(kind: "edit" | "remove" | "recover" | "disable", entry: string): void {
    for (const url of URLS) {
      const vault = this.#vault(url);
      const current = vault.versions(entry).at(-1);
      if (current === undefined) continue;
      if (kind === "remove") vault.remove(entry);
      else if (kind === "recover") vault.resume(entry);
      else if (!vault.isDeleted(entry)) {
        if (kind === "edit") vault.put(entry, "a person's", current.tags);
        else vault.edit(entry, { enabled: false });
        this.#touched.add(`${url} ${entry}`);
      }
    }
  }

  #watch(): void {
    for (const url of URLS) {
      this.#vault(url).disturb = (operation, entry) => {
        if (operation === "set") this.#touched.delete(`${url} ${entry}`);
        if (operation === "delete") {
          this.deletions += 1;
          const reason = this.#objection(url, entry);
          if (reason !== undefined) this.#wrong.push(`${entry} was deleted: ${reason}`);
          if (this.#fails) throw new Crash();
        }
        return undefined;
      };
    }
  }

  /** Why this entry must not be deleted at this moment. */
  #objection(url: string, entry: string): string | undefined {
    const { world } = this;
    const { spec } = world.rule;
    if (spec.deletionPolicy !== "Delete" || spec.suspend === true || spec.dryRun === true)
      return "the rule does not delete";
    if (world.project?.spec.namespaces?.length !== 1) return "the project does not admit the namespace";
    if (url !== (spec.target.keyVault?.ref.name === "one" ? URLS[0] : URLS[1])) return "it is in another vault";
    if (this.#touched.has(`${url} ${entry}`)) return "a person changed it";
    const nameOf = namer(namingOf(world.rule));
    const sources = SECRETS.flatMap((secretName) => KEYS.map((each) => ({ secretName, key: each })));
    const named = sources.filter((source) => foldName(nameOf(source)) === foldName(entry));
    const patterns = spec.secrets?.names;
    const covered = named.filter(({ secretName }) => patterns?.some((each) => matchesName(secretName, each)) ?? true);
    if (covered.length === 0) return "the rule covers nothing of that name";
    const proven = covered.some(({ secretName, key: each }) => {
      const secret = world.secrets.get(secretName);
      if (secret === undefined) return this.#deleted.has(secretName);
      return secret.spec.projectRef.name === "shop" && !secret.spec.entries.some((one) => one.key === each);
    });
    return proven ? undefined : "nothing was deleted here";
  }
}

const runs = Number(process.env.DELETIONS ?? 400);

test("nothing is deleted without evidence, whatever happens", async () => {
  let deletions = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 50, size: "max" }), async (steps) => {
      const story = new Story(await RuleWorld.of());
      for (const each of SECRETS) story.world.apply(each, KEYS, { labels: { tier: "db" } });
      await story.world.settle();
      for (const each of steps) await story.act(each);
      expect(story.wrong).toEqual([]);
      deletions += story.deletions;
    }),
    { numRuns: runs },
  );
  // It must have had the chance.
  expect(deletions).toBeGreaterThan(runs / 20);
}, 300_000);
