/**
 * Names of vault entries. Everything that is wrong with a name is found here, before anything is written: Key Vault
 * would otherwise let two secrets overwrite each other in turn.
 */
import type { SourceEntry, SyncItem } from "../ports/sync-store.ts";
import type { SecretIdentity } from "../ports/vault-store.ts";
import { type EntryPlace, failure, foldName, label, type NamedEntry, type SyncFailure } from "./entries.ts";
import { ownerOf } from "./ownership.ts";

export interface Naming {
  /** With `{secret}` and `{key}`; `{secret}--{key}` when absent. */
  readonly pattern?: string | undefined;
  /** Looked at before the pattern, and taken as they are. */
  readonly mappings?: readonly { readonly secret: string; readonly key: string; readonly name: string }[] | undefined;
}

/** Shape of a Key Vault secret name: ASCII letters, digits and dashes, 1 to 127 of them. */
const VALID = /^[0-9a-zA-Z-]{1,127}$/;
const MAX_LENGTH = 127;

/** What wants a name in the vault; without an id nothing of the secret is stored yet. */
type Claimant = EntryPlace & { readonly secretId?: string };

/** Where the secrets of a rule are. */
export type Scope = Omit<SecretIdentity, "name">;

/** The name that each entry gets, valid or not. */
export function entryNames(sources: readonly SourceEntry[], scope: Scope, naming: Naming): readonly NamedEntry[] {
  const nameOf = namer(naming);
  return sources.map((source) => ({
    ...source,
    entryName: nameOf(source),
    owner: ownerOf({ ...scope, name: source.secretName }),
  }));
}

/** Names entries, validly or not. */
export function namer({ pattern = "{secret}--{key}", mappings = [] }: Naming) {
  const mapped = new Map(mappings.map((each) => [pair(each.secret, each.key), each.name]));
  return (entry: Pick<EntryPlace, "secretName" | "key">): string =>
    mapped.get(pair(entry.secretName, entry.key)) ?? fillIn(pattern, entry);
}

/** TargetNameInvalid, where Key Vault would not accept the name. */
export function nameFailure(entry: EntryPlace): SyncFailure | undefined {
  const invalid = whyInvalid(entry.entryName);
  if (invalid === undefined) return undefined;
  const message = `the vault entry for ${label(entry)} would be named "${shorten(entry.entryName)}", which ${invalid}; ${addMapping(entry)}`;
  return failure(entry, "TargetNameInvalid", message);
}

/**
 * Splits named entries into those that may be written and failures with TargetNameInvalid or TargetNameCollision.
 * `holders` are the items that hold any of the names in the vault, of whichever rule. Of two entries with one name the
 * one that holds it already stays; when none does, neither is written. A name that this rule itself no longer gives to
 * its holder can be claimed anew; the vault's entry still is the former holder's, so pushing to it is refused with
 * TargetNotOwned until a person deletes that entry, unless the former holder is the same secret before it was purged.
 */
export function checkNames<Entry extends Claimant>(
  named: readonly Entry[],
  holders: readonly SyncItem[],
  ruleUid: string,
): { readonly entries: readonly Entry[]; readonly failures: readonly SyncFailure[] } {
  const given = new Map(named.map((entry) => [pair(entry.secretId ?? "", entry.key), foldName(entry.entryName)]));
  const holding = holders.filter(
    (item) => item.ruleUid !== ruleUid || given.get(pair(item.secretId, item.key)) === foldName(item.entryName),
  );
  const holderOf = new Map(holding.map((item) => [foldName(item.entryName), item]));
  const claimants = Map.groupBy(named, (entry) => foldName(entry.entryName));
  const secretNames = new Map(named.map((entry) => [entry.secretId ?? "", entry.secretName]));
  const entries: Entry[] = [];
  const failures: SyncFailure[] = [];
  for (const entry of named) {
    const invalid = nameFailure(entry);
    if (invalid !== undefined) {
      failures.push(invalid);
      continue;
    }
    const holder = holderOf.get(foldName(entry.entryName));
    const rival = (claimants.get(foldName(entry.entryName)) ?? []).find((other) => other !== entry);
    if (holder !== undefined ? isSame(holder, entry) : rival === undefined) {
      entries.push(entry);
      continue;
    }
    const other = holder === undefined ? rival && label(rival) : describe(holder, secretNames);
    const message = `the vault entry ${entry.entryName} would be written for ${label(entry)} and for ${other} (Key Vault ignores case); ${addMapping(entry)}`;
    failures.push(failure(entry, "TargetNameCollision", message));
  }
  return { entries, failures };
}

const isSame = (item: SyncItem, entry: Claimant): boolean => item.secretId === entry.secretId && item.key === entry.key;

/** The secret's name where this rule covers it; another tenant's secret is named by its id only. */
function describe(item: SyncItem, secretNames: ReadonlyMap<string, string>): string {
  const secretName = secretNames.get(item.secretId);
  return secretName === undefined
    ? `another secret (id ${item.secretId}, key ${item.key}) that holds it already`
    : `${secretName}/${item.key}, which holds it already`;
}

const addMapping = (entry: EntryPlace): string =>
  `add spec.mappings with secret: ${entry.secretName}, key: ${entry.key} and another name`;

function whyInvalid(name: string): string | undefined {
  if (VALID.test(name)) return undefined;
  if (name.length > MAX_LENGTH) return `has ${name.length} characters; Key Vault accepts ${MAX_LENGTH}`;
  return "has characters other than letters, digits and dashes";
}

const shorten = (name: string): string => (name.length > MAX_LENGTH ? `${name.slice(0, 100)}...` : name);

const pair = (secret: string, key: string): string => `${secret}/${key}`;

/** One pass, so that a key which itself reads `{secret}` stays what it is. */
function fillIn(pattern: string, source: Pick<EntryPlace, "secretName" | "key">): string {
  return pattern.replaceAll(/\{(secret|key)\}/g, (_, field) =>
    dashed(field === "secret" ? source.secretName : source.key),
  );
}

const dashed = (text: string): string => text.replaceAll(/[._]/g, "-");
