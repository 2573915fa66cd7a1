import { RateLimiterRedis } from "rate-limiter-flexible";
import type { RateCounter, RateCounters, RateLimit } from "../../core/ports/rate-counter.ts";
import { countingWith, memoryLimiter } from "../memory/rate-counters.ts";
import type { RedisConnection } from "./connection.ts";

/** The command that `RateLimiterRedis` defines. */
interface Counting {
  rlflxIncr(args: readonly string[]): Promise<unknown>;
}

/** Counts for all replicas; while Redis does not answer, each goes on with what it counted itself. */
export const redisRateCounters =
  (connection: RedisConnection): RateCounters =>
  (name, limit): RateCounter => {
    // Once a key is over its limit Redis need not be asked again in this window.
    const over = limit.points + 1;
    return countingWith(
      new RateLimiterRedis({
        storeClient: storeOf(connection),
        keyPrefix: `${connection.options.prefix}rate:${name}`,
        ...limits(limit),
        inMemoryBlockOnConsumed: over,
        insuranceLimiter: memoryLimiter(limit),
      }),
    );
  };

const limits = ({ points, windowSeconds }: RateLimit) => ({ points, duration: windowSeconds });

/** As much of a client as the limiter uses. */
const storeOf = (connection: RedisConnection) => ({
  defineCommand: (name: string, script: { readonly numberOfKeys: number; readonly lua: string }) =>
    connection.define(name, script),
  rlflxIncr: (args: readonly string[]) =>
    connection.ask("count", (client) => (client as unknown as Counting).rlflxIncr(args)),
});
