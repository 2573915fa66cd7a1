/**
 * Counts attempts to log in, for all replicas together. It decides nothing but when the next attempt may be made, so it
 * may be lost. `fake-login-attempts.ts` is the in-memory fake; it and the adapters pass `login-attempts.contract.ts`.
 */

/** For whom attempts are counted, and what that leads to. */
export interface AttemptLimit {
  readonly key: string;
  /** So many may follow each other at once. */
  readonly free: number;
  /** Wait after the last of those; doubled with each further one, up to `mostMs`. */
  readonly firstMs: number;
  readonly mostMs: number;
  /** After so long without an attempt counting begins anew. */
  readonly forgetMs: number;
}

export interface LoginAttempts {
  /**
   * Counts an attempt for each key before it is judged, so that many at once cannot all be the last free one; unless a
   * key has to wait: then counts nothing and returns the key that has to wait longest.
   */
  begin(
    limits: readonly AttemptLimit[],
    now: Date,
  ): Promise<{ readonly key: string; readonly until: Date } | undefined>;
  /**
   * Of an attempt that began at `began` and was no failure: `cleared` keys begin anew, and from `returned` ones it is
   * taken back, with the wait that it led to.
   */
  end(cleared: readonly string[], returned: readonly string[], began: Date): Promise<void>;
  /** Deletes what was last counted before that time; returns how much. */
  forget(before: Date, limit: number): Promise<number>;
}
