/**
 * Decides, without any value, which entries must be made anew. A recipe is a keyed digest over how an entry came about:
 *
 *   literal, secretRef   the fingerprint of the value itself (moving a value from one to the other changes nothing)
 *   external             the same, of the value that the current version has: nobody here ever makes one
 *   sealed               its text: the value is opened only to be stored
 *   generate             its parameters: the value stays while they stay
 *   template             its text, and the fingerprints of the values it refers to
 *
 * A version may lack external entries that nobody has written yet, and the templates that refer to them.
 */
import type { SecretEntry } from "../../crds/secret.ts";
import { Stalled, Waiting } from "../errors.ts";
import type { EntryDigest } from "../ports/vault-store.ts";
import type { Digester } from "./fingerprint.ts";
import { generatorParameters } from "./generate.ts";
import { templateOrder, templateReferences } from "./template.ts";

export type VersionPlan =
  | { readonly kind: "Unchanged" }
  /** `made`: keys whose value is new; `removed`: keys of the current version that the next one is without. */
  | { readonly kind: "Changed"; readonly made: readonly string[]; readonly removed: readonly string[] };

/** Keys of external entries that the current version lacks: somebody has to write them. */
export function unwritten(entries: readonly SecretEntry[], current: readonly EntryDigest[]): readonly string[] {
  const stored = new Set(current.map(({ key }) => key));
  return entries.filter(({ key, external }) => external !== undefined && !stored.has(key)).map(({ key }) => key);
}

/** Entries in the order in which their values can be made, templates last and after what they refer to. */
export interface OrderedEntry {
  readonly entry: SecretEntry;
  /** Keys that a template refers to; empty for all others. */
  readonly references: readonly string[];
}

const SOURCE_RECHECK_MS = 60_000;

export function orderEntries(entries: readonly SecretEntry[]): readonly OrderedEntry[] {
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  const references = new Map<string, readonly string[]>();
  for (const { key, template } of entries) {
    if (template !== undefined) references.set(key, templateReferences(key, template));
  }
  const templates = templateOrder(new Set(byKey.keys()), references).flatMap((key) => byKey.get(key) ?? []);
  return [...entries.filter(({ template }) => template === undefined), ...templates].map((entry) => ({
    entry,
    references: references.get(entry.key) ?? [],
  }));
}

/**
 * The recipe of an entry; undefined while a fingerprint it needs is not known yet, because that value is still to be
 * made or written. `fingerprintOf` knows the fingerprints of literal, secretRef and external values, and of what a template
 * refers to.
 */
export function recipeOf(
  digester: Digester,
  { entry, references }: OrderedEntry,
  fingerprintOf: (key: string) => string | undefined,
): string | undefined {
  const { key, generate, sealed, template } = entry;
  if (sealed !== undefined) return digester.digest("recipe", [key, "sealed", sealed]);
  if (generate !== undefined) return digester.digest("recipe", [key, "generate", ...generatorParameters(generate)]);
  if (template === undefined) {
    const own = fingerprintOf(key);
    return own === undefined ? undefined : digester.digest("recipe", [key, "value", own]);
  }
  const inputs: string[] = [];
  for (const reference of references) {
    const fingerprint = fingerprintOf(reference);
    if (fingerprint === undefined) return undefined;
    inputs.push(reference, fingerprint);
  }
  return digester.digest("recipe", [key, "template", template, ...inputs]);
}

const NONE: ReadonlySet<string> = new Set();

/**
 * Compares what is asked for with what the current version was made from.
 *
 * @param current digests of the current version; empty when there is none
 * @param sourceFingerprints by entry key, for every entry with a secretRef
 * @param keeps generated entries that keep the value they have, whatever their parameters are now
 * @throws Stalled TemplateInvalid or TemplateCycle; Waiting SourceNotFound when a source's fingerprint is missing
 */
export function planVersion(
  digester: Digester,
  entries: readonly SecretEntry[],
  current: readonly EntryDigest[],
  sourceFingerprints: ReadonlyMap<string, string>,
  keeps: ReadonlySet<string> = NONE,
): VersionPlan {
  if (new Set(entries.map(({ key }) => key)).size !== entries.length) {
    throw new Stalled("ValueInvalid", "two entries have the same key");
  }
  const stored = new Map(current.map((digest) => [digest.key, digest]));
  const fingerprints = new Map<string, string>();
  const made: string[] = [];
  const lacking = new Set<string>();
  for (const ordered of orderEntries(entries)) {
    const { key, literal, secretRef, external } = ordered.entry;
    const before = stored.get(key);
    if ((external !== undefined && before === undefined) || ordered.references.some((name) => lacking.has(name))) {
      lacking.add(key);
      continue;
    }
    if (literal !== undefined) fingerprints.set(key, digester.fingerprint(key, literal));
    if (secretRef !== undefined) fingerprints.set(key, sourceFingerprint(key, sourceFingerprints));
    if (external !== undefined && before !== undefined) fingerprints.set(key, before.fingerprint);
    const recipe = recipeOf(digester, ordered, (other) => fingerprints.get(other));
    if (before !== undefined && (recipe === before.recipe || keeps.has(key))) fingerprints.set(key, before.fingerprint);
    else made.push(key);
  }
  const wanted = new Set(entries.flatMap(({ key }) => (lacking.has(key) ? [] : [key])));
  const removed = [...stored.keys()].filter((key) => !wanted.has(key));
  return made.length === 0 && removed.length === 0 ? { kind: "Unchanged" } : { kind: "Changed", made, removed };
}

function sourceFingerprint(key: string, sources: ReadonlyMap<string, string>): string {
  const fingerprint = sources.get(key);
  if (fingerprint === undefined) {
    throw new Waiting("SourceNotFound", `entry ${key}: its source is not there yet`, SOURCE_RECHECK_MS);
  }
  return fingerprint;
}
