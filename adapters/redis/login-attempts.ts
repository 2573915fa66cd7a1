import type { AttemptLimit, LoginAttempts } from "../../core/ports/login-attempts.ts";
import type { RedisConnection } from "./connection.ts";

/** One hash for each key, which expires by itself; and an index by time, for who wants to forget earlier. */
const BEGIN = `
local now = tonumber(ARGV[1])
local longest, until_ = 0, now
for i = 2, #KEYS do
  local blocked = tonumber(redis.call('HGET', KEYS[i], 'blocked') or '0')
  if blocked > until_ then longest = i; until_ = blocked end
end
if longest > 0 then return {longest - 1, string.format('%.0f', until_)} end
for i = 2, #KEYS do
  local at = (i - 2) * 4 + 1
  local free, first, most, forget =
    tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local kept = redis.call('HMGET', KEYS[i], 'failures', 'last')
  local failures = tonumber(kept[1] or '0')
  if tonumber(kept[2] or '0') < now - forget then failures = 0 end
  failures = failures + 1
  local blocked = 0
  if failures >= free then blocked = now + math.min(most, first * 2 ^ math.min(failures - free, 40)) end
  redis.call('HSET', KEYS[i], 'failures', failures, 'last', ARGV[1], 'blocked', string.format('%.0f', blocked))
  redis.call('PEXPIRE', KEYS[i], math.max(forget, blocked - now))
  redis.call('ZADD', KEYS[1], now, KEYS[i])
end
return {}`;

/** What came after it keeps its own wait. */
const END = `
local began, cleared = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 2, #KEYS do
  if i - 1 <= cleared then
    redis.call('DEL', KEYS[i])
    redis.call('ZREM', KEYS[1], KEYS[i])
  else
    local kept = redis.call('HMGET', KEYS[i], 'failures', 'last')
    if kept[1] then
      redis.call('HSET', KEYS[i], 'failures', math.max(tonumber(kept[1]) - 1, 0))
      if tonumber(kept[2]) <= began then redis.call('HSET', KEYS[i], 'blocked', 0) end
    end
  end
end
return {}`;

const FORGET = `
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, tonumber(ARGV[2]))
for _, key in ipairs(old) do
  redis.call('DEL', key)
  redis.call('ZREM', KEYS[1], key)
end
return #old`;

interface Scripts {
  mazevaultBeginAttempt(keys: number, ...args: readonly (string | number)[]): Promise<readonly [number?, string?]>;
  mazevaultEndAttempt(keys: number, ...args: readonly (string | number)[]): Promise<unknown>;
  mazevaultForgetAttempts(keys: number, ...args: readonly (string | number)[]): Promise<number>;
}

export class RedisLoginAttempts implements LoginAttempts {
  readonly #connection: RedisConnection;
  readonly #index: string;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
    this.#index = `${connection.options.prefix}attempts`;
    connection.define("mazevaultBeginAttempt", { lua: BEGIN });
    connection.define("mazevaultEndAttempt", { lua: END });
    connection.define("mazevaultForgetAttempts", { lua: FORGET });
  }

  async begin(limits: readonly AttemptLimit[], now: Date): ReturnType<LoginAttempts["begin"]> {
    const keys = this.#keys(limits.map(({ key }) => key));
    const args = limits.flatMap(({ free, firstMs, mostMs, forgetMs }) => [free, firstMs, mostMs, forgetMs]);
    const [which, until] = await this.#ask("beginAttempt", (scripts) =>
      scripts.mazevaultBeginAttempt(keys.length, ...keys, now.getTime(), ...args),
    );
    const refused = which === undefined ? undefined : limits[which - 1];
    return refused && { key: refused.key, until: new Date(Number(until)) };
  }

  async end(cleared: readonly string[], returned: readonly string[], began: Date): Promise<void> {
    const keys = this.#keys([...cleared, ...returned]);
    await this.#ask("endAttempt", (scripts) =>
      scripts.mazevaultEndAttempt(keys.length, ...keys, began.getTime(), cleared.length),
    );
  }

  forget(before: Date, limit: number): Promise<number> {
    return this.#ask("forgetAttempts", (scripts) =>
      scripts.mazevaultForgetAttempts(1, this.#index, before.getTime(), limit),
    );
  }

  #keys(keys: readonly string[]): readonly string[] {
    return [this.#index, ...keys.map((key) => `${this.#index}:${key}`)];
  }

  #ask<T>(operation: string, command: (scripts: Scripts) => Promise<T>): Promise<T> {
    return this.#connection.ask(operation, (client) => command(client as unknown as Scripts));
  }
}

/** Counts in `first`, and while that does not answer in `insurance`. */
export class InsuredLoginAttempts implements LoginAttempts {
  readonly #first: LoginAttempts;
  readonly #insurance: LoginAttempts;

  constructor(first: LoginAttempts, insurance: LoginAttempts) {
    this.#first = first;
    this.#insurance = insurance;
  }

  begin(limits: readonly AttemptLimit[], now: Date): ReturnType<LoginAttempts["begin"]> {
    return this.#first.begin(limits, now).catch(() => this.#insurance.begin(limits, now));
  }

  end(cleared: readonly string[], returned: readonly string[], began: Date): Promise<void> {
    return this.#first.end(cleared, returned, began).catch(() => this.#insurance.end(cleared, returned, began));
  }

  async forget(before: Date, limit: number): Promise<number> {
    const [first, insurance] = await Promise.all([
      this.#first.forget(before, limit).catch(() => 0),
      this.#insurance.forget(before, limit),
    ]);
    // A full batch of either asks for another one.
    return Math.max(first, insurance);
  }
}
