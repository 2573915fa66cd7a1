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
 * The values of a new version. `kept` are the values of entries that stay as they are; every other one is taken from
 * the manifest or its source, generated, or rendered.
 */
export function makeEntries(
  digester: Digester,
  entries: readonly SecretEntry[],
  sources: ReadonlyMap<string, Sensitive>,
  kept: ReadonlyMap<string, Sensitive>,
): readonly MadeEntry[] {
  const made = new Map<string, MadeEntry>();
  const fingerprints = new Map<string, string>();
  for (const ordered of orderEntries(entries)) {
    const { key } = ordered.entry;
    const inputs = new Map(ordered.references.flatMap((name) => entryOf(made, name)));
    const value = kept.get(key) ?? makeValue(ordered.entry, sources, inputs);
    const fingerprint = digester.fingerprint(key, value);
    fingerprints.set(key, fingerprint);
    const recipe = recipeOf(digester, ordered, (name) => fingerprints.get(name));
    if (recipe === undefined) throw new Error(`entry ${key} was made before what it refers to`);
    made.set(key, { key, value, fingerprint, recipe });
  }
  return [...made.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function entryOf(made: ReadonlyMap<string, MadeEntry>, key: string): [string, Sensitive][] {
  const entry = made.get(key);
  return entry === undefined ? [] : [[key, entry.value]];
}

function makeValue(
  { key, literal, generate: generator, template }: SecretEntry,
  sources: ReadonlyMap<string, Sensitive>,
  inputs: ReadonlyMap<string, Sensitive>,
): Sensitive {
  if (literal !== undefined) return new Sensitive(Buffer.from(literal, "utf8"));
  if (generator !== undefined) return generate(key, generator);
  if (template !== undefined) return renderTemplate(key, template, inputs);
  const source = sources.get(key);
  if (source === undefined) {
    throw new Waiting("SourceNotFound", `entry ${key}: its source is not there yet`, SOURCE_RECHECK_MS);
  }
  return source;
}
