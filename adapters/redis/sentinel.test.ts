/** The primary is whichever a real Sentinel says, also after it was killed and another one took its place. */
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { until } from "../../lab/poll.ts";
import type { RedisServer, Sentinel } from "../../lab/redis/redis.ts";
import { RedisChangeHints } from "./change-hints.ts";
import type { RedisConnection } from "./connection.ts";
import { startTestRedis, type TestRedis } from "./testing/server.ts";

let redis: TestRedis;
let replica: RedisServer;
let sentinel: Sentinel;

beforeAll(async () => {
  redis = await startTestRedis();
  const primary = await redis.connect();
  replica = await redis.replicate();
  await soon("it has caught up", async () => (await info(primary, "replication")).includes("state=online"));
  sentinel = await redis.guard();
  const client = new Redis(`rediss://${sentinel.address}`, {
    tls: { ca: readFileSync(redis.server.caFile) },
    password: readFileSync(sentinel.passwordFile, "utf8"),
  });
  const replicas = async () => (await client.call("SENTINEL", "REPLICAS", sentinel.primary)) as readonly unknown[];
  await soon("the Sentinel knows of it", async () => (await replicas()).length === 1);
  client.disconnect();
});
afterAll(() => redis.stop());

const soon = (what: string, holds: () => boolean | Promise<boolean>) =>
  until(what, holds, { timeoutMs: 30_000, intervalMs: 50 });
const info = (connection: RedisConnection, section: string) =>
  connection.ask("info", (client) => client.info(section)).catch(() => "");

test("a failover is followed, by answers and by hints", async () => {
  const { prefix } = redis.options();
  const url = `rediss://${sentinel.primary}`;
  // The first one is away.
  const sentinels = { addresses: ["127.0.0.1:1", sentinel.address], passwordFile: sentinel.passwordFile };
  const problems: (string | undefined)[] = [];
  const onChange = (problem: string | undefined) => problems.push(problem);
  const connection = await redis.connect({ prefix, url, sentinels, onChange });
  const portOf = async () => /tcp_port:(\d+)/.exec(await info(connection, "server"))?.[1];
  expect(await portOf()).toBe(new URL(redis.server.url).port);
  const hearing = new RedisChangeHints(connection, "identities");
  let hints = 0;
  hearing.listen(() => {
    hints += 1;
  });
  await soon("it listens", () => hearing.listening);

  redis.server.process.autoRestart = false;
  await redis.server.process.kill();
  // On a busy machine it may be over before somebody looks.
  await soon("it is noticed", () => problems.some((problem) => problem !== undefined));
  await soon("the replica has taken its place", async () => (await portOf()) === new URL(replica.url).port);
  expect(await connection.ask("set", (client) => client.set(`${prefix}kept`, "1"))).toBe("OK");
  await soon("it listens there", () => hearing.listening);
  const before = hints;
  const telling = new RedisChangeHints(await redis.connect({ prefix, url: replica.url }), "identities");
  telling.tell();
  await soon("a hint is heard", () => hints > before);
  telling.close();
  hearing.close();
});

test("who is not let in by the Sentinels is told so, and Redis is not waited for", async () => {
  const url = `rediss://${sentinel.primary}`;
  const changes: (string | undefined)[] = [];
  const passwordFile = redis.server.passwordFile;
  void redis.connect({
    url,
    sentinels: { addresses: [sentinel.address], passwordFile },
    onChange: (problem) => changes.push(problem),
  });
  await soon("it is told", () => changes.length > 0);
  expect(changes).toEqual(["Redis at mymaster does not answer as it should (no Sentinel lets us in)"]);
});
