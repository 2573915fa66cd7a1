/**
 * When a value was set, so that the newest can win. A hybrid logical clock: time by one clock, that of the vault's service,
 * and never below what was seen before.
 *
 * - By the vault: its version was made then, in whole seconds. Another platform says in its tag when the value was set
 *   there, which may be long before it came to the vault.
 * - By the platform: what the vault's clock says now, less the age of the value by the database's own clock. How far the
 *   clocks of the database and of this process are off does not matter; both ages and pauses are differences.
 * - Never before what both sides agreed on, which whoever changed it had seen.
 *
 * Whole seconds are taken by their last millisecond, on both sides: either may be late by less than a second.
 */
import type { VaultEntry } from "../ports/target-vault.ts";
import { INSTALLATION_TAG, SHARED_TAG } from "./ownership.ts";

export interface Stamp {
  /** Milliseconds since 1970 by the vault's clock. */
  readonly at: number;
  /** Id of the installation where it was set; of equal times the greater one wins. */
  readonly by: string;
}

/** Above every installation: who sets a value by hand in the same millisecond wins. */
export const SOMEBODY = "~";

/** Milliseconds within a second that the vault does not tell. */
const REST_MS = 999;

/** How long after it was stamped a version may come to be; what is later has copied the tags. */
const LATEST_MS = 60_000;

export const isNewer = (one: Stamp, other: Stamp): boolean =>
  one.at === other.at ? one.by > other.by : one.at > other.at;

/** When a version was written that says no more than that. */
export const writtenAt = (createdOn: Date): number => createdOn.getTime() + REST_MS;

/** What a writer says of a value: when it was set, and what the vault's clock said just before it was written. */
export const stampTag = (at: number, asOf: number): string =>
  `${new Date(at).toISOString()}/${new Date(asOf).toISOString()}`;

/** `byOthers`: its tags, if ours, were copied. `base`: see `platformStamp`. */
export function targetStamp(
  { tags, createdOn }: Pick<VaultEntry, "tags" | "createdOn">,
  { base, copied }: { readonly base: number | undefined; readonly copied: boolean },
): Stamp {
  const created = writtenAt(createdOn);
  const by = copied ? undefined : tags[INSTALLATION_TAG];
  const [at = Number.NaN, asOf = Number.NaN] = (tags[SHARED_TAG] ?? "").split("/").map(Date.parse);
  if (by === undefined) return { at: above(created, base), by: SOMEBODY };
  if (Number.isNaN(at) || Number.isNaN(asOf)) return { at: above(created, base), by };
  // Written long after it was stamped, or stamped as of the future: somebody used the tags of another version.
  if (Math.abs(created - asOf) > LATEST_MS || at - created > LATEST_MS)
    return { at: above(created, base), by: SOMEBODY };
  return { at: above(at, base), by };
}

export interface Aged {
  /** Of the answer that told of the vault's side. */
  readonly asOf: Date;
  /** Since then, by this process. */
  readonly elapsedMs: number;
  /** Of the value, by the store. */
  readonly heldForMs: number;
  /** When what both sides agreed on was set. */
  readonly base: number | undefined;
  readonly installation: string;
}

export function platformStamp({ asOf, elapsedMs, heldForMs, base, installation }: Aged): Stamp {
  const now = asOf.getTime() + REST_MS + Math.max(0, elapsedMs);
  return { at: above(Math.round(now - Math.max(0, heldForMs)), base), by: installation };
}

const above = (at: number, base: number | undefined): number => Math.max(at, (base ?? Number.NEGATIVE_INFINITY) + 1);
