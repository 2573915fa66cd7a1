/** What a rule has to do, decided from what should be, what is remembered and, when it was looked at, what is there. */
import type { ItemKey, SyncItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { type EntryPlace, failure, foldName, type NamedEntry, type SyncFailure } from "./entries.ts";
import { describeOwner, isOurs } from "./ownership.ts";

/** Why an entry is pushed. The order is the order of work: what a person waits for goes before what heals. */
export const causes = ["Changed", "New", "IntentOpen", "TargetMissing", "TargetEdited"] as const;
export type PushCause = (typeof causes)[number];

/** What only a look found: nobody waits for it, and the next look finds it again. */
export const isHealing = (cause: PushCause): boolean => cause === "TargetMissing" || cause === "TargetEdited";

export interface PlannedPush {
  readonly entry: NamedEntry;
  readonly cause: PushCause;
  /** What is remembered of this secret, key and name. */
  readonly item?: SyncItem;
}

export interface Plan {
  /** Ordered, at most `limit`. */
  readonly push: readonly PlannedPush[];
  /** Entries with nothing to do. */
  readonly inSync: number;
  /** Items of the rule that it no longer covers; the vault's entries stay. */
  readonly forget: readonly ItemKey[];
  readonly failures: readonly SyncFailure[];
  /** Due as well, but beyond `limit`. */
  readonly later: number;
}

export interface PlanInput {
  /** What the rule covers, with names that were checked. */
  readonly entries: readonly NamedEntry[];
  readonly vaultUrl: string;
  /** Items of this rule, read before the vault was looked at. */
  readonly items: readonly SyncItem[];
  /** Items that hold one of the names, of whichever rule: two rules may push the same entry and need not fight. */
  readonly holders: readonly SyncItem[];
  /** All entries of the vault; absent when it was not looked at this time. */
  readonly target?: readonly VaultEntryProperties[];
  /** By folded name: what the last look, this one or an earlier one, found disabled. */
  readonly troubled?: ReadonlyMap<string, "Absent" | "Disabled">;
  readonly installation: string;
  /** 500 when absent. */
  readonly limit?: number;
}

export const PUSHES_AT_ONCE = 500;

type Verdict = PushCause | "InSync" | SyncFailure;

export function decidePush(input: PlanInput): Plan {
  const remembered = new Map<string, SyncItem>();
  for (const item of [...input.items, ...input.holders]) remembered.set(identity(item), item);
  const found = input.target && new Map(input.target.map((each) => [foldName(each.name), each]));

  const due: PlannedPush[] = [];
  const failures: SyncFailure[] = [];
  const covered = new Set<string>();
  let inSync = 0;
  for (const entry of input.entries) {
    const key = identity({ ...entry, vaultUrl: input.vaultUrl });
    covered.add(key);
    const item = remembered.get(key);
    const verdict = judge(entry, item, found, input);
    if (typeof verdict === "object") failures.push(verdict);
    else if (verdict === "InSync") inSync += 1;
    else due.push({ entry, cause: verdict, ...(item && { item }) });
  }

  due.sort(
    (a, b) => causes.indexOf(a.cause) - causes.indexOf(b.cause) || compare(a.entry.entryName, b.entry.entryName),
  );
  const limit = input.limit ?? PUSHES_AT_ONCE;
  return {
    push: due.slice(0, limit),
    inSync,
    forget: input.items.filter((item) => !covered.has(identity(item))).map(keyOf),
    failures,
    later: Math.max(0, due.length - limit),
  };
}

function judge(
  entry: NamedEntry,
  item: SyncItem | undefined,
  found: ReadonlyMap<string, VaultEntryProperties> | undefined,
  { installation, troubled }: PlanInput,
): Verdict {
  const outcome = item?.outcome;
  const there = found?.get(foldName(entry.entryName));
  // Told from the list without a call for each: these states last until a person acts, and would cost a GET per cycle.
  if (there !== undefined && outcome === undefined && !isOurs(there.tags, installation, entry)) {
    return notOwned(entry, there.tags, installation);
  }
  // Also between looks: it is so until a look says otherwise.
  if (troubled?.get(foldName(entry.entryName)) === "Disabled" || there?.enabled === false) return disabled(entry);
  if (outcome === undefined) return item?.intent === undefined ? "New" : "IntentOpen";
  if (outcome.fingerprint !== entry.fingerprint) return "Changed";
  if (item?.intent !== undefined) return "IntentOpen";
  if (found === undefined) return "InSync";
  if (there === undefined) return "TargetMissing";
  const untouched =
    there.updatedOn.getTime() === outcome.targetUpdatedOn.getTime() && isOurs(there.tags, installation, entry);
  return untouched ? "InSync" : "TargetEdited";
}

export const disabled = (entry: EntryPlace): SyncFailure =>
  failure(
    entry,
    "TargetDisabled",
    `the current version of the vault entry ${entry.entryName} was disabled; enable it, or delete the entry`,
  );

export const notOwned = (
  entry: EntryPlace,
  tags: Readonly<Record<string, string>>,
  installation: string,
): SyncFailure =>
  failure(
    entry,
    "TargetNotOwned",
    `the vault entry ${entry.entryName} ${describeOwner(tags, installation)} and is left alone; delete it there, or add a mapping with another name`,
  );

/** A deleted entry keeps its name until it is purged, and some vaults do not let it be purged early. */
export const notOwnedDeleted = (
  entry: NamedEntry,
  tags: Readonly<Record<string, string>>,
  installation: string,
): SyncFailure =>
  failure(
    entry,
    "TargetNotOwned",
    `the name ${entry.entryName} belongs to a deleted vault entry that ${describeOwner(tags, installation)}; purge it there, or add a mapping with another name`,
  );

const identity = (key: ItemKey): string => [key.vaultUrl, foldName(key.entryName), key.secretId, key.key].join("\n");

const keyOf = ({ secretId, key, vaultUrl, entryName }: SyncItem): ItemKey => ({ secretId, key, vaultUrl, entryName });

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
