/**
 * Counts requests in windows of time. It decides nothing but when the next one may come, so what it counted may be lost.
 * The adapters pass `rate-counter.contract.ts`.
 */
export interface RateLimit {
  /** So many are let through in each window. */
  readonly points: number;
  readonly windowSeconds: number;
}

export interface RateCounter {
  /** Counts one for the key. When it is one too many: after how many milliseconds the next may come. */
  count(key: string): Promise<number | undefined>;
}

/** A counter of that name: others of it, also in other processes, count the same where they can. */
export type RateCounters = (name: string, limit: RateLimit) => RateCounter;
