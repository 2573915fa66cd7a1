/**
 * Tags tell whose an entry is. Key Vault keeps tags with each version, so they also tell which intent made a version:
 * that is how a write without a clear answer is recognised as carried out.
 */
import { createHash } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { SecretIdentity } from "../ports/vault-store.ts";
import type { NamedEntry } from "./entries.ts";

export const INSTALLATION_TAG = "mazevault-installation";
export const OWNER_TAG = "mazevault-owner";
/** The stored record; a secret that is applied again after it was purged has another one. */
export const SECRET_TAG = "mazevault-secret";
export const KEY_TAG = "mazevault-key";
export const INTENT_TAG = "mazevault-intent";
/** Its writer takes over what others change, so another platform may write it too; it says since when it has the value, see `clock.ts`. */
export const SHARED_TAG = "mazevault-shared";

/** What Key Vault accepts for each entry. */
export const MAX_TAGS = 15;

const OURS: ReadonlySet<string> = new Set([INSTALLATION_TAG, OWNER_TAG, SECRET_TAG, KEY_TAG, INTENT_TAG, SHARED_TAG]);

type Tags = Readonly<Record<string, string>>;

type Source = Pick<NamedEntry, "secretId" | "owner" | "key">;

/**
 * A secret as an entry in a vault may tell of it: for ever the same for the same identity, without naming it to other
 * readers of the vault.
 */
export function ownerOf({ project, environment, namespace, namespaceUid, name }: SecretIdentity): string {
  const fields = encodeFields("vault entry owner", [project, environment, namespace, namespaceUid, name]);
  return createHash("sha256").update(fields).digest("hex");
}

/**
 * Written by this installation for this very secret and key. A secret that was purged and applied again is the same one:
 * only who may write it in the same namespace, with the same UID, could have made either. Another secret, or one in a
 * namespace that was made anew, does not inherit.
 */
export function isOurs(tags: Tags, installation: string, entry: Source): boolean {
  const sameSecret = tags[OWNER_TAG] === entry.owner || tags[SECRET_TAG] === entry.secretId;
  return tags[INSTALLATION_TAG] === installation && sameSecret && tags[KEY_TAG] === entry.key;
}

/**
 * The same where we know that we wrote it: whoever sets a value by hand leaves out our tags, and what is deleted cannot be
 * looked into.
 */
export const mayBeOurs = (tags: Tags, installation: string, entry: Source): boolean =>
  tags[INSTALLATION_TAG] === undefined || isOurs(tags, installation, entry);

/** Tags of others in `current` stay; ours are set anew. */
export function tagsFor(
  current: Tags,
  installation: string,
  entry: Source,
  { intentId, shared }: { readonly intentId: string; readonly shared?: string | undefined },
): Record<string, string> {
  return {
    ...foreignTags(current),
    [INSTALLATION_TAG]: installation,
    [OWNER_TAG]: entry.owner,
    [SECRET_TAG]: entry.secretId,
    [KEY_TAG]: entry.key,
    [INTENT_TAG]: intentId,
    ...(shared !== undefined && { [SHARED_TAG]: shared }),
  };
}

/**
 * Whether it may be taken over by, or written from, an entry that both sides may change: not when it belongs to another
 * secret of this installation.
 */
export const isOfAnotherSecret = (tags: Tags, installation: string, entry: Source): boolean =>
  tags[INSTALLATION_TAG] === installation && !isOurs(tags, installation, entry);

/** Whether another platform writes it, which does not take over what is written here. */
export const isNotShared = (tags: Tags, installation: string): boolean =>
  tags[INSTALLATION_TAG] !== undefined && tags[INSTALLATION_TAG] !== installation && tags[SHARED_TAG] === undefined;

/** How many tags of others have to go before ours fit; 0 when they fit. */
export const tagsTooMany = (current: Tags, shared = false): number =>
  Math.max(0, Object.keys(foreignTags(current)).length + OURS.size - (shared ? 0 : 1) - MAX_TAGS);

const foreignTags = (tags: Tags): Record<string, string> =>
  Object.fromEntries(Object.entries(tags).filter(([name]) => !OURS.has(name)));

/** Whose it is, for a message to a person. */
export function describeOwner(tags: Tags, installation: string): string {
  const owner = tags[INSTALLATION_TAG];
  if (owner === undefined) return "was not written by MazeVault";
  if (owner !== installation) return `was written by another MazeVault installation (${owner})`;
  return `was written for another secret (id ${tags[SECRET_TAG]}, key ${tags[KEY_TAG]})`;
}
