/**
 * What a rule with direction Bidirectional has to look into, of entries that both sides may change. Told from list pages
 * and from what both sides agreed on last; which side changed is only known once the entry was read, see `exchange.ts`.
 */
import type { SyncItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { type EntryPlace, foldName, type SyncFailure } from "./entries.ts";
import { disabled } from "./plan.ts";
import { missing, type Trouble } from "./pull-plan.ts";

/** An entry, and what the platform has of it. */
export interface SharedEntry extends EntryPlace {
  /** Of the secret, see `ownership.ts`. */
  readonly owner: string;
  /** Absent while nothing of the secret is stored. */
  readonly secretId?: string;
  /** Of the current version; absent while the entry was never written. */
  readonly held?: { readonly version: number; readonly recipe: string; readonly fingerprint: string };
}

/** What a person says of a conflict. */
export type Resolution = "KeepPlatform" | "KeepTarget";

/** A conflict that is open: what stood on both sides when it was found. */
export interface OpenConflict {
  readonly resolution?: Resolution;
  readonly platformVersion?: number;
  readonly targetVersion?: string;
  readonly targetUpdatedOn?: Date;
  /** The vault's side was read again, unchanged, a second or more after it was seen first; see `PulledItem`. */
  readonly settled: boolean;
}

/** Of a conflict, by the names of Secret and key. */
export const conflictKey = ({ secretName, key }: Pick<EntryPlace, "secretName" | "key">): string =>
  `${secretName}/${key}`;

/** Why an entry is looked into. The order is the order of work: what a person waits for goes before what heals. */
export const causes = [
  "Resolved",
  "Changed",
  "TargetChanged",
  "New",
  "IntentOpen",
  "TargetMissing",
  "Unsettled",
] as const;
export type ExchangeCause = (typeof causes)[number];

export interface PlannedExchange {
  readonly entry: SharedEntry;
  readonly cause: ExchangeCause;
  /** What is remembered of this secret, key and name. */
  readonly item?: SyncItem;
  /** The conflict that a person resolved. */
  readonly conflict?: OpenConflict;
}

export interface ExchangePlan {
  /** Ordered, at most `limit`. */
  readonly exchange: readonly PlannedExchange[];
  readonly inSync: number;
  /** In conflict as it was found: nothing is done before a person says what. */
  readonly conflicted: readonly SharedEntry[];
  /** Keys of conflicts that are over, see `conflictKey`. */
  readonly over: readonly string[];
  /** What the rule no longer covers by these names; the values stay. */
  readonly forget: readonly SyncItem[];
  readonly failures: readonly SyncFailure[];
  /** Due as well, but beyond `limit`. */
  readonly later: number;
}

export interface ExchangePlanInput {
  readonly vaultUrl: string;
  readonly entries: readonly SharedEntry[];
  /** Of this rule and of these entries, read before the vault was looked at. */
  readonly items: readonly SyncItem[];
  /** Items that hold one of the names, of whichever rule. */
  readonly holders: readonly SyncItem[];
  /** All entries of the vault; absent when it was not looked at this time. */
  readonly target?: readonly VaultEntryProperties[];
  /** By folded name: what the last look, this one or an earlier one, did not find or found disabled. */
  readonly troubled: ReadonlyMap<string, Trouble>;
  /** By `conflictKey`; none unless a person decides. */
  readonly conflicts?: ReadonlyMap<string, OpenConflict>;
  /** 2,000 when absent. */
  readonly limit?: number;
}

export const EXCHANGES_AT_ONCE = 2_000;

export function decideExchange(input: ExchangePlanInput): ExchangePlan {
  const remembered = new Map([...input.items, ...input.holders].map((item) => [identity(item), item]));
  const found = input.target && new Map(input.target.map((each) => [foldName(each.name), each]));
  const covered = new Set<string>();
  const due: PlannedExchange[] = [];
  const failures: SyncFailure[] = [];
  const conflicted: SharedEntry[] = [];
  const open = new Set<string>();
  let inSync = 0;
  for (const entry of input.entries) {
    const key = identity({ ...entry, secretId: entry.secretId ?? "", vaultUrl: input.vaultUrl });
    covered.add(key);
    const item = remembered.get(key);
    const conflict = input.conflicts?.get(conflictKey(entry));
    const verdict = consider(judge(entry, item, found, input), conflict, entry, item, found);
    if (typeof verdict === "object") failures.push(verdict);
    else if (verdict === "InSync") inSync += 1;
    else if (verdict === "Conflicted") conflicted.push(entry);
    else {
      const resolved = verdict === "Resolved" && conflict;
      due.push({ entry, cause: verdict, ...(item && { item }), ...(resolved && { conflict: resolved }) });
    }
    if (verdict !== "InSync" && verdict !== "Unsettled") open.add(conflictKey(entry));
  }
  due.sort((a, b) => causes.indexOf(a.cause) - causes.indexOf(b.cause));
  const limit = input.limit ?? EXCHANGES_AT_ONCE;
  return {
    exchange: due.slice(0, limit),
    inSync,
    conflicted,
    over: [...(input.conflicts?.keys() ?? [])].filter((each) => !open.has(each)),
    forget: input.items.filter((item) => !covered.has(identity(item))),
    failures,
    later: Math.max(0, due.length - limit),
  };
}

function judge(
  entry: SharedEntry,
  item: SyncItem | undefined,
  found: ReadonlyMap<string, VaultEntryProperties> | undefined,
  { troubled }: ExchangePlanInput,
): ExchangeCause | "InSync" | SyncFailure {
  const trouble = troubled.get(foldName(entry.entryName));
  if (trouble === "Disabled") return disabled(entry);
  const base = item?.outcome;
  if (trouble === "Absent" && entry.held === undefined) return missing(entry, base);
  if (item?.intent !== undefined) return "IntentOpen";
  if (base === undefined) return "New";
  if (entry.held?.fingerprint !== base.fingerprint) return "Changed";
  if (found === undefined) return "InSync";
  const there = found.get(foldName(entry.entryName));
  if (there === undefined) return "TargetMissing";
  if (there.updatedOn.getTime() !== base.targetUpdatedOn.getTime()) return "TargetChanged";
  return base.settled ? "InSync" : "Unsettled";
}

type Verdict = ExchangeCause | "InSync" | SyncFailure;

/** A conflict that is as it was found waits for a person; what changed since is looked into again. */
function consider(
  verdict: Verdict,
  conflict: OpenConflict | undefined,
  { held, entryName }: SharedEntry,
  item: SyncItem | undefined,
  found: ReadonlyMap<string, VaultEntryProperties> | undefined,
): Verdict | "Conflicted" {
  if (conflict === undefined || typeof verdict === "object" || verdict === "InSync" || verdict === "Unsettled") {
    return verdict;
  }
  if (conflict.resolution !== undefined) return "Resolved";
  const there = found?.get(foldName(entryName))?.updatedOn.getTime();
  const isSame =
    held?.version === conflict.platformVersion &&
    (found === undefined || (conflict.settled && there === conflict.targetUpdatedOn?.getTime())) &&
    item?.intent === undefined;
  return isSame ? "Conflicted" : verdict;
}

const identity = ({
  vaultUrl,
  entryName,
  secretId,
  key,
}: Pick<SyncItem, "vaultUrl" | "entryName" | "secretId" | "key">): string =>
  [vaultUrl, foldName(entryName), secretId, key].join("\n");
