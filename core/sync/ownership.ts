/**
 * Tags tell whose an entry is. Key Vault keeps tags with each version, so they also tell which intent made a version:
 * that is how a write without a clear answer is recognised as carried out.
 */
import type { NamedEntry } from "./entries.ts";

export const INSTALLATION_TAG = "mazevault-installation";
export const SECRET_TAG = "mazevault-secret";
export const KEY_TAG = "mazevault-key";
export const INTENT_TAG = "mazevault-intent";

/** What Key Vault accepts for each entry. */
export const MAX_TAGS = 15;

const OURS: ReadonlySet<string> = new Set([INSTALLATION_TAG, SECRET_TAG, KEY_TAG, INTENT_TAG]);

type Tags = Readonly<Record<string, string>>;

/** Written by this installation for this very secret and key. */
export function isOurs(tags: Tags, installation: string, entry: Pick<NamedEntry, "secretId" | "key">): boolean {
  return tags[INSTALLATION_TAG] === installation && tags[SECRET_TAG] === entry.secretId && tags[KEY_TAG] === entry.key;
}

/** Tags of others in `current` stay; ours are set anew. */
export function tagsFor(
  current: Tags,
  installation: string,
  entry: Pick<NamedEntry, "secretId" | "key">,
  intentId: string,
): Record<string, string> {
  return {
    ...foreignTags(current),
    [INSTALLATION_TAG]: installation,
    [SECRET_TAG]: entry.secretId,
    [KEY_TAG]: entry.key,
    [INTENT_TAG]: intentId,
  };
}

/** How many tags of others have to go before ours fit; 0 when they fit. */
export const tagsTooMany = (current: Tags): number =>
  Math.max(0, Object.keys(foreignTags(current)).length + OURS.size - MAX_TAGS);

const foreignTags = (tags: Tags): Record<string, string> =>
  Object.fromEntries(Object.entries(tags).filter(([name]) => !OURS.has(name)));

/** Whose it is, for a message to a person. */
export function describeOwner(tags: Tags, installation: string): string {
  const owner = tags[INSTALLATION_TAG];
  if (owner === undefined) return "was not written by MazeVault";
  if (owner !== installation) return `was written by another MazeVault installation (${owner})`;
  return `was written for another secret (id ${tags[SECRET_TAG]}, key ${tags[KEY_TAG]})`;
}
