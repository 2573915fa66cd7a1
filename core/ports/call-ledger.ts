/**
 * Calls to vaults, booked before they are made: what all processes of the installation share of a vault's budget, also a
 * leader and the one after it. Times are durations, so that no clock but the ledger's own counts.
 */
export interface Booking {
  /** Absent when nothing was booked. */
  readonly id?: string;
  /** How many calls may be made; 0 when none is free. */
  readonly calls: number;
  /** When nothing was booked: after how long the next one is free at the latest, if nobody else takes it. */
  readonly waitMs: number;
  /** Another holder's calls count at this moment too, or one was refused within the last two seconds. */
  readonly contended: boolean;
}

export interface CallLedger {
  /**
   * Books at most `wanted` calls to a vault, as far as `limit` allows with all that count now. They count for `heldMs`,
   * or until they are settled: whoever dies over them takes them along for so long. Throws `Unavailable`.
   *
   * @param holder tells one process from another
   */
  book(holder: string, vault: string, limit: number, wanted: number, heldMs: number): Promise<Booking>;
  /** Of a booking so many calls were made, the last of which has just ended: these count for `countedMs` from now. */
  settle(id: string, calls: number, countedMs: number): Promise<void>;
}
