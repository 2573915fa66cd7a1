/** The words of the sync engine: what should stand in a vault, and what stands against it. */
import type { Reason } from "../../crds/conditions.ts";
import type { SourceEntry } from "../ports/sync-store.ts";

/** An entry of a secret, and how it is called in the vault. */
export interface EntryPlace {
  readonly secretName: string;
  readonly key: string;
  readonly entryName: string;
}

/** An entry of a secret together with the name that it has in the vault. */
export interface NamedEntry extends SourceEntry {
  readonly entryName: string;
  /** Of the secret, see `ownership.ts`. */
  readonly owner: string;
}

/** An entry that cannot be synchronised, as it stands in the rule's status. */
export interface SyncFailure {
  readonly secret: string;
  readonly key: string;
  readonly name: string;
  readonly reason: Reason;
  /** What happened and what to do; at most 1024 characters, never a value. */
  readonly message: string;
}

export function failure(entry: EntryPlace, reason: Reason, message: string): SyncFailure {
  return {
    secret: entry.secretName,
    key: entry.key,
    // The status field holds 317 characters; a name over that length is itself the failure.
    name: entry.entryName.slice(0, 317),
    reason,
    message: message.slice(0, 1024),
  };
}

/** How the pair is called in messages. */
export const label = (entry: { readonly secretName: string; readonly key: string }): string =>
  `${entry.secretName}/${entry.key}`;

/** Key Vault ignores the case of names. */
export const foldName = (name: string): string => name.toLowerCase();
