/**
 * Which side changed a value that both may change: a comparison of three by fingerprints, as `core/sync/comparison.ts` has
 * it of a vault. That what is written next replaces what was compared is for the resourceVersion to say.
 */
import type { CopyDelivery } from "../../../core/ports/copy-store.ts";
import type { Resolution } from "../../../core/sync/exchange-plan.ts";
import type { SyncRuleSpec } from "../../../crds/syncrule.ts";

export interface Sides {
  /** The platform's. */
  readonly ours: string;
  /** The core Secret's; undefined: it has no such key. */
  readonly theirs: string | undefined;
  /** What both had last; undefined: that is not known. */
  readonly base: string | undefined;
  /** What somebody who died over it may have written there. */
  readonly meant: readonly string[];
}

export type Change = "None" | "Here" | "There" | "Both";

export function changeOf({ ours, theirs, base, meant }: Sides): Change {
  if (ours === theirs) return "None";
  // A key that was removed is written again, like a core Secret that was deleted: a consumer there would miss it.
  if (theirs === undefined || theirs === base || meant.includes(theirs)) return "Here";
  return ours === base ? "There" : "Both";
}

/** What is done about a key. Keep: what stands there becomes a version below the current one before it is written over. */
export type Verdict = "None" | "Write" | "Take" | "Keep" | "Conflict";

const ofChange = { None: "None", Here: "Write", There: "Take" } as const;

const ofPolicy: Readonly<
  Record<Exclude<NonNullable<SyncRuleSpec["conflictPolicy"]>, "NewestWins"> | Resolution, Verdict>
> = {
  Manual: "Conflict",
  PlatformWins: "Keep",
  KeepPlatform: "Keep",
  TargetWins: "Take",
  KeepTarget: "Take",
};

/** `said`: by a person of these two values. */
export function verdictOn(
  change: Change,
  policy: SyncRuleSpec["conflictPolicy"],
  said: Resolution | undefined,
): Verdict {
  if (change !== "Both") return ofChange[change];
  // Refused by the API server: a core Secret does not tell when a value was set.
  return ofPolicy[said ?? (policy === undefined || policy === "NewestWins" ? "Manual" : policy)];
}

/** Fingerprints of one key that somebody who died over it may have written, or taken over. */
export const passing = (record: CopyDelivery | undefined, how: "meant" | "taking", key: string): readonly string[] =>
  (record?.[how] ?? []).flatMap((each) => each[key] ?? []);
