import type { SecretEntry } from "../../crds/secret.ts";
import { Waiting } from "../errors.ts";
import type { EntryDigest } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import type { Digester } from "./fingerprint.ts";
import { generate } from "./generate.ts";
import { orderEntries, recipeOf } from "./recipe.ts";
import { renderTemplate } from "./template.ts";

/** An entry with its value, ready to be sealed. */
export interface MadeEntry extends EntryDigest {
  readonly value: Sensitive;
}

const SOURCE_RECHECK_MS = 60_000;

/**
 * The values of a new version. `kept` are the values of entries that stay as they are, and all of external ones; every
 * other one is taken from the manifest or its source, generated, or rendered. Left out are external entries without a
 * value, and the templates that refer to them. What was made is disposed of when the rest fails.
 */
export async function makeEntries(
  digester: Digester,
  entries: readonly SecretEntry[],
  sources: ReadonlyMap<string, Sensitive>,
  kept: ReadonlyMap<string, Sensitive>,
): Promise<readonly MadeEntry[]> {
  const given = new Set([...sources.values(), ...kept.values()]);
  const made = new Map<string, MadeEntry>();
  try {
    await makeInto(made, digester, entries, sources, kept);
  } catch (error) {
    for (const { value } of made.values()) if (!given.has(value)) value.dispose();
    throw error;
  }
  return byKey(made);
}

async function makeInto(
  made: Map<string, MadeEntry>,
  digester: Digester,
  entries: readonly SecretEntry[],
  sources: ReadonlyMap<string, Sensitive>,
  kept: ReadonlyMap<string, Sensitive>,
): Promise<void> {
  const fingerprints = new Map<string, string>();
  for (const ordered of orderEntries(entries)) {
    const { key, external } = ordered.entry;
    const inputs = new Map(ordered.references.flatMap((name) => entryOf(made, name)));
    if (inputs.size < ordered.references.length || (external !== undefined && !kept.has(key))) continue;
    const value = kept.get(key) ?? (await makeValue(ordered.entry, sources, inputs));
    const fingerprint = digester.fingerprint(key, value);
    fingerprints.set(key, fingerprint);
    const recipe = recipeOf(digester, ordered, (name) => fingerprints.get(name));
    if (recipe === undefined) throw new Error(`entry ${key} was made before what it refers to`);
    made.set(key, { key, value, fingerprint, recipe });
  }
}

/**
 * The current version with other values: `replaced` by key, and the templates that refer to them. Nothing else is made
 * anew, whatever `entries` say of it: they may come from a replica that has not seen yet what the leader acted on. What
 * was rendered is disposed of when the rest fails.
 *
 * @param generated whether the values were made by what `entries` say, and not by another side
 */
export async function replaceEntries(
  digester: Digester,
  entries: readonly SecretEntry[],
  current: readonly MadeEntry[],
  replaced: ReadonlyMap<string, Sensitive>,
  generated = false,
): Promise<readonly MadeEntry[]> {
  const given = new Set([...current.map(({ value }) => value), ...replaced.values()]);
  const next = new Map(current.map((entry) => [entry.key, entry]));
  try {
    await replaceIn(next, digester, entries, replaced, generated);
  } catch (error) {
    for (const { value } of next.values()) if (!given.has(value)) value.dispose();
    throw error;
  }
  return byKey(next);
}

async function replaceIn(
  next: Map<string, MadeEntry>,
  digester: Digester,
  entries: readonly SecretEntry[],
  replaced: ReadonlyMap<string, Sensitive>,
  generated: boolean,
): Promise<void> {
  const changed = new Set<string>();
  for (const ordered of orderEntries(entries)) {
    const { key, template } = ordered.entry;
    const inputs = new Map(ordered.references.flatMap((name) => entryOf(next, name)));
    if (template !== undefined && inputs.size < ordered.references.length) continue;
    const affected = !next.has(key) || ordered.references.some((name) => changed.has(name));
    const rendered = template !== undefined && affected ? await renderTemplate(key, template, inputs) : undefined;
    const value = replaced.get(key) ?? rendered;
    if (value === undefined) continue;
    const fingerprint = digester.fingerprint(key, value);
    const knows = (name: string) => (name === key ? fingerprint : next.get(name)?.fingerprint);
    const before = ordered.entry.generate === undefined || generated ? undefined : next.get(key)?.recipe;
    const recipe = before ?? recipeOf(digester, ordered, knows);
    if (recipe === undefined) throw new Error(`entry ${key} was made before what it refers to`);
    next.set(key, { key, value, fingerprint, recipe });
    changed.add(key);
  }
}

const byKey = (made: ReadonlyMap<string, MadeEntry>): readonly MadeEntry[] =>
  [...made.values()].sort((a, b) => (a.key < b.key ? -1 : 1));

function entryOf(made: ReadonlyMap<string, MadeEntry>, key: string): [string, Sensitive][] {
  const entry = made.get(key);
  return entry === undefined ? [] : [[key, entry.value]];
}

function makeValue(
  { key, literal, generate: generator, template }: SecretEntry,
  sources: ReadonlyMap<string, Sensitive>,
  inputs: ReadonlyMap<string, Sensitive>,
): Sensitive | Promise<Sensitive> {
  if (literal !== undefined) return new Sensitive(Buffer.from(literal, "utf8"));
  if (generator !== undefined) return generate(key, generator);
  if (template !== undefined) return renderTemplate(key, template, inputs);
  const source = sources.get(key);
  if (source === undefined) {
    throw new Waiting("SourceNotFound", `entry ${key}: its source is not there yet`, SOURCE_RECHECK_MS);
  }
  return source;
}
