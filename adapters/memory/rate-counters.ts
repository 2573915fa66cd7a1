import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import type { RateCounter, RateLimit } from "../../core/ports/rate-counter.ts";

/** Counts for this process alone. */
export const memoryRateCounters = (_name: string, limit: RateLimit): RateCounter => countingWith(memoryLimiter(limit));

export const memoryLimiter = ({ points, windowSeconds }: RateLimit): RateLimiterMemory =>
  new RateLimiterMemory({ points, duration: windowSeconds });

/** With a limiter that refuses by throwing when the next may come. */
export const countingWith = (limiter: { consume(key: string): Promise<unknown> }): RateCounter => ({
  async count(key) {
    try {
      await limiter.consume(key);
      return undefined;
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused;
      return Math.max(1, refused.msBeforeNext);
    }
  },
});
