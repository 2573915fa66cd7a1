/**
 * What becomes of the vault's entries that a rule wrote and no longer covers. Deleted is only what something proves to be
 * deleted here: that it is not there any more proves nothing.
 */
import type { Ending, SyncItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { type EntryPlace, failure, foldName, type SyncFailure } from "./entries.ts";
import { INSTALLATION_TAG, INTENT_TAG, isOurs } from "./ownership.ts";

/** What a Secret of this name is at the moment, as the manifests say. */
export type Standing =
  /** There is none. */
  | { readonly kind: "Absent" }
  /** It is of another project or environment. */
  | { readonly kind: "Other" }
  /** The rule does not cover it. */
  | { readonly kind: "NotCovered" }
  | { readonly kind: "Covered"; readonly keys: readonly string[] };

export interface Uncovered {
  /** Of the rule, and not covered by it any more. */
  readonly items: readonly SyncItem[];
  readonly vaultUrl: string;
  readonly endings: ReadonlyMap<string, Ending>;
  readonly standing: (secretName: string) => Standing;
  /** Folded names that are wanted for something else. */
  readonly claimed: ReadonlySet<string>;
  /** By folded name: what wants it, of the Secrets that the rule covers, stored or not. */
  readonly claimants: ReadonlyMap<string, readonly Pick<EntryPlace, "secretName" | "key">[]>;
  /** Of a secret, see `ownership.ts`. */
  readonly ownerOf: (secretName: string) => string;
}

/** What the vault is to delete, if it is there as we wrote it. */
export interface Doomed extends EntryPlace {
  readonly secretId: string;
  readonly owner: string;
  readonly item: SyncItem;
}

export interface Sorted {
  readonly doomed: readonly Doomed[];
  /** Remembered until it is known what became of their secrets. */
  readonly undecided: readonly SyncItem[];
  /** The last of them was deleted some seconds ago: nothing is done before. */
  readonly isQuiet: boolean;
}

/**
 * What is deleted or made anew at once (`kubectl replace --force`, a whole folder of manifests) is one plan: its limits
 * would mean nothing if it were carried out piece by piece.
 */
export const QUIET_MS = 5_000;

/** What is in neither of both is forgotten, and stays in the vault. */
export function sortUncovered(input: Uncovered): Sorted {
  const doomed: Doomed[] = [];
  const undecided: SyncItem[] = [];
  let isQuiet = true;
  for (const item of input.items) {
    const ending = input.endings.get(item.secretId);
    const fate = fateOf(item, ending, input);
    if (fate === "Undecided") undecided.push(item);
    if (fate === "Undecided" || fate === "Kept" || ending?.secretName === undefined) continue;
    const { secretId, key, entryName } = item;
    const { secretName } = ending;
    doomed.push({ secretId, secretName, key, entryName, owner: input.ownerOf(secretName), item });
    if (fate.age < QUIET_MS) isQuiet = false;
  }
  return { doomed, undecided, isQuiet };
}

type Fate = "Kept" | "Undecided" | { readonly age: number };

function fateOf(item: SyncItem, ending: Ending | undefined, input: Uncovered): Fate {
  const { vaultUrl, claimed, standing } = input;
  if (item.vaultUrl !== vaultUrl || claimed.has(foldName(item.entryName))) return "Kept";
  if (ending?.secretName === undefined) return "Kept";
  const { secretName } = ending;
  // An entry that is applied again is no other one.
  const isWanted = input.claimants
    .get(foldName(item.entryName))
    ?.some((each) => each.secretName !== secretName || each.key !== item.key);
  if (isWanted === true) return "Kept";
  const now = standing(secretName);
  if (now.kind === "Other") return "Kept";
  if (ending.state === "Retained") return "Kept";
  if (ending.state === "Active") {
    // Its deletion is noticed before it is recorded.
    if (now.kind === "Absent") return "Undecided";
    if (now.kind === "NotCovered" || now.keys.includes(item.key)) return "Kept";
    if (ending.keys.includes(item.key)) return "Undecided";
    return proof(ending, item.key);
  }
  const deleted = proof(ending, undefined);
  // Unless it is applied again, and will be stored in a moment.
  return deleted === "Kept" || now.kind === "Absent" ? deleted : "Undecided";
}

function proof({ tombstones }: Ending, key: string | undefined): Fate {
  const tombstone = tombstones.find((each) => each.key === key);
  return tombstone === undefined ? "Kept" : { age: tombstone.age };
}

export interface DeletionPlan {
  readonly due: readonly Doomed[];
  /** Not there any more, or not ours: nothing is left to be done. */
  readonly over: readonly SyncItem[];
  readonly failures: readonly SyncFailure[];
}

/** `target`: all entries of the vault. `covered`: what the rule remembers and covers. */
export function decideDeletions(
  doomed: readonly Doomed[],
  {
    target,
    covered,
    installation,
  }: {
    readonly target: readonly VaultEntryProperties[];
    readonly covered: readonly SyncItem[];
    readonly installation: string;
  },
): DeletionPlan {
  const found = new Map(target.map((each) => [foldName(each.name), each]));
  if (isReplaced(covered, found, installation)) {
    return { due: [], over: [], failures: doomed.map((entry) => replaced(entry)) };
  }
  const due: Doomed[] = [];
  const over: SyncItem[] = [];
  const failures: SyncFailure[] = [];
  for (const entry of doomed) {
    const there = found.get(foldName(entry.entryName));
    const { item } = entry;
    if (there === undefined) over.push(item);
    else if (isAsWritten(there, item) && there.enabled) {
      // Spelled as it stands there: what is remembered is folded.
      if (isOurs(there.tags, installation, entry)) due.push({ ...entry, entryName: there.name });
      else over.push(item);
    } else failures.push(edited(entry));
  }
  return { due, over, failures };
}

/** By its time, which has whole seconds: the version is looked at before it is deleted. */
function isAsWritten({ updatedOn, tags }: VaultEntryProperties, { outcome, intent }: SyncItem): boolean {
  if (intent !== undefined && tags[INTENT_TAG] === intent.id) return true;
  return outcome !== undefined && updatedOn.getTime() === outcome.targetUpdatedOn.getTime();
}

/** A vault of the same name that knows little of what was written: somebody made it anew, or it is somewhere else. */
function isReplaced(
  covered: readonly SyncItem[],
  found: ReadonlyMap<string, VaultEntryProperties>,
  installation: string,
): boolean {
  const written = covered.filter(({ outcome }) => outcome !== undefined);
  const known = written.filter((item) => {
    const there = found.get(foldName(item.entryName));
    return there !== undefined && (there.tags[INSTALLATION_TAG] === installation || isAsWritten(there, item));
  });
  return known.length * 2 < written.length;
}

const replaced = (entry: EntryPlace): SyncFailure =>
  failure(
    entry,
    "VaultReplaced",
    "most entries that this rule wrote are missing in the vault, so it may be another one of that name: nothing is deleted there before they are back",
  );

export const edited = (entry: EntryPlace): SyncFailure =>
  failure(
    entry,
    "ChangedInTarget",
    `the vault entry ${entry.entryName} was changed or disabled there since it was written, so it is not deleted; delete it there, or keep it by setting spec.deletionPolicy to Retain`,
  );
