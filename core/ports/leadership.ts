/** Who may write. Kubernetes' Lease elects; this makes the election hold in the store. */
export interface Leadership {
  /**
   * Raises the epoch, durably and on record (`LeadershipTaken`), and returns it. When it resolves, no write with an
   * older epoch can take effect any more, including those that were under way. Throws `Unavailable`.
   */
  acquireEpoch(holder: string): Promise<bigint>;
}
