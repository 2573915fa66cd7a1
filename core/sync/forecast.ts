/** What looking at a vault costs while nothing changes. */

/** Entries on one page of Key Vault's lists; more cannot be asked for. */
export const PAGE_SIZE = 25;
const DAY_MS = 86_400_000;
const WINDOWS_PER_DAY = DAY_MS / 10_000;

/** An empty vault has one page. */
export const callsPerLook = (entries: number): number => Math.max(1, Math.ceil(entries / PAGE_SIZE));

export interface Forecast {
  readonly entries: number;
  /** Of each rule that looks at it. */
  readonly intervalsMs: readonly number[];
  /** How often it is tried whether the vault answers. */
  readonly probeMs: number;
}

export function callsPerDay({ entries, intervalsMs, probeMs }: Forecast): number {
  const looks = intervalsMs.reduce((sum, intervalMs) => sum + DAY_MS / intervalMs, 0);
  return Math.round(looks * callsPerLook(entries) + DAY_MS / probeMs);
}

export const budgetPerDay = (callsPer10Seconds: number): number => callsPer10Seconds * WINDOWS_PER_DAY;
