/** What replicas share through a real Redis, and what they do when it is away, slow, full, or refuses them. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { changeHintsContract } from "../../core/ports/change-hints.contract.ts";
import { FakeLoginAttempts } from "../../core/ports/fake-login-attempts.ts";
import { loginAttemptsContract } from "../../core/ports/login-attempts.contract.ts";
import type { LoginAttempts } from "../../core/ports/login-attempts.ts";
import { rateCountersContract } from "../../core/ports/rate-counter.contract.ts";
import { until } from "../../lab/poll.ts";
import { RedisChangeHints } from "./change-hints.ts";
import { type RedisConnection, RedisUnavailable } from "./connection.ts";
import { InsuredLoginAttempts, RedisLoginAttempts } from "./login-attempts.ts";
import { redisRateCounters } from "./rate-counters.ts";
import { SilentProxy } from "./testing/proxy.ts";
import { startTestRedis, type TestRedis } from "./testing/server.ts";

let redis: TestRedis;
const hints: RedisChangeHints[] = [];

beforeAll(async () => {
  redis = await startTestRedis();
});
afterAll(async () => {
  for (const each of hints) each.close();
  await redis.stop();
});

const soon = (what: string, holds: () => boolean | Promise<boolean>) =>
  until(what, holds, { timeoutMs: 20_000, intervalMs: 20 });
const answers = (connection: RedisConnection) => soon("Redis answers", () => connection.problem === undefined);
const listening = async (connection: RedisConnection) => {
  const each = new RedisChangeHints(connection, "identities");
  hints.push(each);
  each.listen(() => {});
  await soon("it listens", () => each.listening);
  return each;
};

describe("redisRateCounters", () => rateCountersContract(async () => redisRateCounters(await redis.connect())));

describe("RedisLoginAttempts", () => loginAttemptsContract(async () => new RedisLoginAttempts(await redis.connect())));

describe("InsuredLoginAttempts without Redis", () =>
  loginAttemptsContract(async () => {
    const connection = await redis.connect();
    await connection.close();
    return new InsuredLoginAttempts(new RedisLoginAttempts(connection), new FakeLoginAttempts());
  }));

describe("RedisChangeHints", () =>
  changeHintsContract(async () => {
    const { prefix } = redis.options();
    const connect = async () => listening(await redis.connect({ prefix }));
    return [await connect(), await connect(), await connect()];
  }));

const LIMIT = { points: 5, windowSeconds: 10 };
const passed = (waits: readonly (number | undefined)[]) => waits.filter((wait) => wait === undefined).length;

test("two replicas count together; without Redis each by itself, and together again when it is back", async () => {
  const { prefix } = redis.options();
  const replicas = await Promise.all([1, 2].map(() => redis.connect({ prefix })));
  const counters = replicas.map((connection) => redisRateCounters(connection)("subject", LIMIT));
  const tenEach = (key: string) =>
    Promise.all(counters.flatMap((counter) => Array.from({ length: 10 }, () => counter.count(key))));
  expect(passed(await tenEach("alice"))).toBe(5);

  redis.server.process.autoRestart = false;
  await redis.server.process.kill();
  await soon("both know", () => replicas.every(({ problem }) => problem !== undefined));
  expect(passed(await tenEach("bob"))).toBe(10);
  await redis.server.process.start();
  redis.server.process.autoRestart = true;
  await Promise.all(replicas.map(answers));
  expect(passed(await tenEach("carol"))).toBe(5);
});

test("a Redis that hangs delays one request for as long as is set, and the next ones not at all", async () => {
  const changes: (string | undefined)[] = [];
  const connection = await redis.connect({ timeoutMs: 300, onChange: (problem) => changes.push(problem) });
  const counter = redisRateCounters(connection)("subject", LIMIT);
  await redis.server.process.pause();
  try {
    const started = performance.now();
    // Those that are under way when it is noticed wait together.
    await Promise.all(Array.from({ length: 50 }, (_, n) => counter.count(`first ${n}`)));
    expect(connection.problem).toContain("timeout");
    const noticed = performance.now();
    for (let n = 0; n < 1_000; n += 1) await counter.count(`next ${n}`);
    expect([noticed - started < 5_000, performance.now() - noticed < 5_000]).toEqual([true, true]);
  } finally {
    await redis.server.process.resume();
  }
  await answers(connection);
  expect(changes).toEqual([undefined, expect.stringContaining("timeout"), undefined]);
});

test("a Redis that refuses writes, or the password, is away; a rotated password is taken up", async () => {
  const connection = await redis.connect();
  await connection.ask("test", (client) => client.config("SET", "maxmemory", "1"));
  const counter = redisRateCounters(connection)("subject", LIMIT);
  expect(await counter.count("alice")).toBeUndefined();
  await soon("it is noticed", () => connection.problem?.includes("OOM") === true);
  await expect(connection.ask("test", (client) => client.get("x"))).rejects.toThrow(RedisUnavailable);

  const admin = connection.duplicate();
  await admin.connect();
  await admin.config("SET", "maxmemory", "0");
  await answers(connection);

  const passwordFile = path.join(path.dirname(redis.server.passwordFile), "rotated");
  writeFileSync(passwordFile, "wrong");
  const stranger = await redis.connect({ passwordFile: redis.server.passwordFile });
  await admin.acl("SETUSER", "replica", "on", ">next", "~*", "&*", "+@all", "-@dangerous");
  const rotated = new Promise<void>((resolve) => {
    void redis
      .connect({ username: "replica", passwordFile, onChange: (problem) => problem === undefined && resolve() })
      .catch(() => {});
  });
  writeFileSync(passwordFile, "next");
  await rotated;
  const asked = { latest: "before", refusals: 0, refused: () => Object.assign(asked, { latest: "next", refusals: 1 }) };
  await redis.connect({ username: "replica", password: asked });
  expect(asked.refusals).toBe(1);
  admin.disconnect();
  expect(stranger.problem).toBeUndefined();
});

test("a hint that may have been lost is given", async () => {
  const { prefix } = redis.options();
  const hearing = await listening(await redis.connect({ prefix }));
  const { promise: heard, resolve } = Promise.withResolvers<void>();
  hearing.listen(resolve);
  await redis.server.process.kill();
  await redis.server.process.ready();
  await heard;
});

test("connections that went dead without a word are given up, for answers and for hints", async () => {
  const proxy = await SilentProxy.start(Number(new URL(redis.server.url).port));
  try {
    const { prefix } = redis.options();
    const connection = await redis.connect({ prefix, url: proxy.through(redis.server.url), timeoutMs: 250 });
    const hearing = await listening(connection);
    const telling = await listening(await redis.connect({ prefix }));
    let hints = 0;
    hearing.listen(() => {
      hints += 1;
    });
    proxy.silence();
    await soon("it is noticed", () => connection.problem !== undefined);
    await answers(connection);
    await soon("what may have been lost is given", () => hints === 1);
    telling.tell();
    await soon("the next hint is heard", () => hints === 2);
  } finally {
    await proxy.stop();
  }
});

test("logins are counted where Redis is away, and neither attempt is lost nor a stranger let through", async () => {
  const connection = await redis.connect();
  const insurance: LoginAttempts = new FakeLoginAttempts();
  const attempts = new InsuredLoginAttempts(new RedisLoginAttempts(connection), insurance);
  const limit = { key: "user", free: 3, firstMs: 1_000, mostMs: 5_000, forgetMs: 60_000 };
  const now = new Date("2026-03-01T10:00:00Z");
  for (let n = 0; n < 3; n += 1) expect(await attempts.begin([limit], now)).toBeUndefined();
  expect(await attempts.begin([limit], now)).toMatchObject({ key: "user" });
  await redis.server.process.pause();
  try {
    const away = await Promise.all(Array.from({ length: 10 }, () => attempts.begin([limit], now)));
    expect(away.filter((refused) => refused === undefined)).toHaveLength(3);
    await attempts.end(["user"], [], now);
    expect(await attempts.begin([limit], now)).toBeUndefined();
  } finally {
    await redis.server.process.resume();
  }
  await answers(connection);
  expect(await attempts.begin([limit], now)).toMatchObject({ key: "user" });
});
