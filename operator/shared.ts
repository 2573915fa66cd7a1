/** What replicas share besides PostgreSQL: through Redis where there is one, and as well as they can without it. */
import { readFileSync } from "node:fs";
import { memoryRateCounters } from "../adapters/memory/rate-counters.ts";
import type { Stores } from "../adapters/postgres/stores.ts";
import { Identities } from "../core/identity/identities.ts";
import type { ChangeHints } from "../core/ports/change-hints.ts";
import type { LoginAttempts } from "../core/ports/login-attempts.ts";
import type { RateCounters } from "../core/ports/rate-counter.ts";
import type { Logger } from "../program/logging.ts";
import { ConfigError } from "../program/settings.ts";
import type { Config } from "./config.ts";
import type { OperationalSecrets } from "./operational-secrets/operational-secrets.ts";

export interface Shared {
  readonly rateCounters: RateCounters;
  readonly loginAttempts: LoginAttempts;
  readonly hints?: ChangeHints;
  /** Of Redis, in words for a person. */
  readonly state: () => string;
  close(): Promise<void>;
}

type OnCall = (call: { target: string; operation: string; code: string; seconds: number }) => void;

/** Throws `ConfigError`; whether Redis answers is not waited for. */
export async function openShared(
  { redis }: Pick<Config, "redis">,
  { loginAttempts, keys }: Pick<Stores, "loginAttempts" | "keys">,
  log: Pick<Logger, "info" | "warn">,
  onCall: OnCall,
  secrets: OperationalSecrets,
): Promise<Shared> {
  const { url, sentinels, sentinelPasswordFile, username, passwordFile, caFile, timeoutMs } = redis;
  if (url === undefined) {
    return { rateCounters: memoryRateCounters, loginAttempts, state: () => "not used", close: async () => {} };
  }
  for (const [name, file] of Object.entries({ passwordFile, sentinelPasswordFile, caFile }))
    if (file !== undefined) readable(name, file);
  const password = await secrets.kept("redis.passwordSecret");
  const { RedisConnection } = await import("../adapters/redis/connection.ts");
  const { RedisChangeHints } = await import("../adapters/redis/change-hints.ts");
  const { InsuredLoginAttempts, RedisLoginAttempts } = await import("../adapters/redis/login-attempts.ts");
  const { redisRateCounters } = await import("../adapters/redis/rate-counters.ts");
  const connection = new RedisConnection({
    url,
    timeoutMs,
    prefix: `mazevault:${keys.installationId}:`,
    ...(sentinels !== undefined && {
      sentinels: {
        addresses: sentinels,
        ...(sentinelPasswordFile !== undefined && { passwordFile: sentinelPasswordFile }),
      },
    }),
    ...(username !== undefined && { username }),
    ...(passwordFile !== undefined && { passwordFile }),
    ...(password !== undefined && { password }),
    ...(caFile !== undefined && { caFile }),
    onCall,
    onChange: (problem) => {
      if (problem === undefined) log.info("Redis answers");
      else log.warn({ problem }, "each replica counts by itself, and logins are counted in PostgreSQL");
    },
  });
  const hints = new RedisChangeHints(connection, "identities");
  return {
    rateCounters: redisRateCounters(connection),
    loginAttempts: new InsuredLoginAttempts(new RedisLoginAttempts(connection), loginAttempts),
    hints,
    state: () => connection.problem ?? "ok",
    async close() {
      hints.close();
      await connection.close();
    },
  };
}

/** Who somebody is, as every replica that serves REST knows it. */
export function openIdentities(
  { rest }: Pick<Config, "rest">,
  { identity: store, keys, audit }: Stores,
  { loginAttempts: attempts, hints }: Shared,
): Identities {
  const settings = { firstAdmin: rest.firstAdmin, audience: rest.audience };
  return new Identities({ store, attempts, keys, audit, settings, ...(hints && { hints }) });
}

function readable(name: string, file: string): void {
  try {
    readFileSync(file);
  } catch (error) {
    throw new ConfigError([`redis.${name}: cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
}
