/**
 * What a rule with direction Pull has to take over, told from list pages alone: the value of an entry is read only when
 * something changed.
 */
import type { PulledItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { type EntryPlace, failure, foldName, label, type SyncFailure } from "./entries.ts";
import { disabled } from "./plan.ts";

/** An external entry, its name in the vault, and what the platform has of it. */
export interface WantedEntry extends EntryPlace {
  /** Absent while nothing of the secret is stored. */
  readonly secretId?: string;
  /** Of the current version; absent while the entry was never written. */
  readonly fingerprint?: string;
  /** Of the secret, see `ownership.ts`. */
  readonly owner: string;
}

/** Why an entry is read. The order is the order of work. */
export const causes = ["TargetChanged", "New", "PlatformChanged", "Unsettled"] as const;
export type PullCause = (typeof causes)[number];

export interface PlannedPull {
  readonly entry: WantedEntry;
  readonly cause: PullCause;
  /** What was taken over last. */
  readonly base?: PulledItem;
}

export interface PullPlan {
  /** Ordered, at most `limit`. */
  readonly pull: readonly PlannedPull[];
  readonly inSync: number;
  /** What the rule took over and no longer covers; the values stay. */
  readonly forget: readonly PulledItem[];
  readonly failures: readonly SyncFailure[];
  /** Due as well, but beyond `limit`. */
  readonly later: number;
}

export interface PullPlanInput {
  readonly ruleUid: string;
  readonly vaultUrl: string;
  readonly wanted: readonly WantedEntry[];
  /** Of the secrets that are wanted and of this rule, read before the vault was looked at. */
  readonly pulled: readonly PulledItem[];
  /** UIDs of the rules that exist: what another one took over is its own. */
  readonly rules: ReadonlySet<string>;
  /** All entries of the vault; absent when it was not looked at this time. */
  readonly target?: readonly VaultEntryProperties[];
  /** By folded name: what the last look, this one or an earlier one, did not find or found disabled. */
  readonly troubled: ReadonlyMap<string, Trouble>;
  /** 2,000 when absent. */
  readonly limit?: number;
}

export type Trouble = "Absent" | "Disabled";

/** What cannot be taken over, told from a whole list. */
export function troubles(
  wanted: readonly EntryPlace[],
  target: readonly VaultEntryProperties[],
): ReadonlyMap<string, Trouble> {
  const enabled = new Map(target.map((each) => [foldName(each.name), each.enabled]));
  const names = wanted.map(({ entryName }) => foldName(entryName)).filter((name) => enabled.get(name) !== true);
  return new Map(names.map((name) => [name, enabled.has(name) ? "Disabled" : "Absent"]));
}

export const PULLS_AT_ONCE = 2_000;

export function decidePull(input: PullPlanInput): PullPlan {
  const bases = new Map(input.pulled.map((item) => [identity(item), item]));
  const found = input.target && new Map(input.target.map((each) => [foldName(each.name), each]));
  const covered = new Set<string>();
  const due: PlannedPull[] = [];
  const failures: SyncFailure[] = [];
  let inSync = 0;
  for (const entry of input.wanted) {
    const base = entry.secretId === undefined ? undefined : bases.get(identity({ ...entry, secretId: entry.secretId }));
    if (base !== undefined) covered.add(identity(base));
    const verdict = judge(entry, base, found, input);
    if (typeof verdict === "object") failures.push(verdict);
    else if (verdict === "InSync") inSync += 1;
    else due.push({ entry, cause: verdict, ...(base?.ruleUid === input.ruleUid && { base }) });
  }
  due.sort((a, b) => causes.indexOf(a.cause) - causes.indexOf(b.cause));
  const limit = input.limit ?? PULLS_AT_ONCE;
  return {
    pull: due.slice(0, limit),
    inSync,
    forget: input.pulled.filter((item) => item.ruleUid === input.ruleUid && !covered.has(identity(item))),
    failures,
    later: Math.max(0, due.length - limit),
  };
}

function judge(
  entry: WantedEntry,
  base: PulledItem | undefined,
  found: ReadonlyMap<string, VaultEntryProperties> | undefined,
  { ruleUid, vaultUrl, rules, troubled }: PullPlanInput,
): PullCause | "InSync" | SyncFailure {
  if (base !== undefined && base.ruleUid !== ruleUid && rules.has(base.ruleUid)) return ofAnother(entry, base);
  const known =
    base?.ruleUid === ruleUid && base.vaultUrl === vaultUrl && base.entryName === foldName(entry.entryName)
      ? base
      : undefined;
  const trouble = troubled.get(foldName(entry.entryName));
  if (trouble !== undefined) return trouble === "Absent" ? missing(entry, known) : disabled(entry);
  // What was written here does not wait for the next look.
  if (known !== undefined && known.fingerprint !== entry.fingerprint) return "PlatformChanged";
  if (known === undefined) return "New";
  const there = found?.get(foldName(entry.entryName));
  if (there === undefined) return "InSync";
  if (there.updatedOn.getTime() !== known.targetUpdatedOn.getTime()) return "TargetChanged";
  return known.settled ? "InSync" : "Unsettled";
}

export const missing = (entry: EntryPlace, known: unknown): SyncFailure =>
  failure(
    entry,
    "TargetMissing",
    known === undefined
      ? `the vault has no entry ${entry.entryName}; make it there, or add a mapping for ${label(entry)}`
      : `the vault entry ${entry.entryName} was deleted; ${label(entry)} keeps the value that it had`,
  );

const ofAnother = (entry: EntryPlace, base: PulledItem): SyncFailure =>
  failure(
    entry,
    "PulledByOther",
    `another SyncRule (uid ${base.ruleUid}) takes ${label(entry)} from ${base.vaultUrl}; leave it out of one of them with spec.secrets`,
  );

const identity = ({ secretId, key }: Pick<PulledItem, "secretId" | "key">): string => `${secretId} ${key}`;
