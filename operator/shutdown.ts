/** In which order the program ends. */

export interface Running {
  /** What serves others; each needs those after it. */
  readonly serving: readonly (() => Promise<void> | undefined)[];
  readonly operator: Resigning | undefined;
}

interface Resigning {
  /** Gives up the lease, and ends the controllers. */
  resign(): Promise<void>;
  /** After that: closes what everything reads and writes by. */
  stop(): Promise<void>;
}

/**
 * Another replica may lead while requests still drain here; the stores are closed when neither needs them any more.
 *
 * @throws the first failure, when all else has ended
 */
export async function endInOrder({ serving, operator }: Running): Promise<void> {
  const served = async (): Promise<void> => {
    for (const stop of serving) await stop();
  };
  const outcomes = await Promise.allSettled([served(), operator?.resign()]);
  await operator?.stop();
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** Waits for what only reads, and may be left behind: until all have ended, however, or the time is over. */
export async function endWithin(ms: number, ends: readonly (Promise<void> | undefined)[]): Promise<void> {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([over, Promise.allSettled(ends)]);
  clearTimeout(timer);
}
