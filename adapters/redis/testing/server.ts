import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LabPki } from "../../../lab/pki.ts";
import { Ports } from "../../../lab/ports.ts";
import { Supervisor } from "../../../lab/processes.ts";
import { type RedisServer, type Sentinel, startRedis, startSentinel } from "../../../lab/redis/redis.ts";
import { RedisConnection, type RedisOptions } from "../connection.ts";

/** A Redis for one test file; each test takes a prefix of its own. */
export interface TestRedis {
  readonly server: RedisServer;
  options(changed?: Partial<RedisOptions>): RedisOptions;
  /** Resolves when it answers. */
  connect(changed?: Partial<RedisOptions>): Promise<RedisConnection>;
  /** A replica of the server. */
  replicate(): Promise<RedisServer>;
  /** Who puts a replica in the place of the server when that is away. */
  guard(): Promise<Sentinel>;
  stop(): Promise<void>;
}

export async function startTestRedis(): Promise<TestRedis> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-redis-"));
  const supervisor = await Supervisor.open(dir);
  const pki = await LabPki.open(path.join(dir, "pki"));
  const ports = new Ports(path.join(dir, "ports.json"));
  const spawn = supervisor.run.bind(supervisor);
  const place = { dir: path.join(dir, "redis"), pki, ports, spawn };
  const server = await startRedis(place);
  const open: RedisConnection[] = [];
  let prefixes = 0;
  const options = (changed: Partial<RedisOptions> = {}): RedisOptions => {
    prefixes += 1;
    const { url, caFile, passwordFile } = server;
    return { url, caFile, passwordFile, timeoutMs: 2_000, prefix: `test${prefixes}:`, ...changed };
  };
  return {
    server,
    options,
    async connect(changed = {}) {
      const { promise: answers, resolve } = Promise.withResolvers<void>();
      const { onChange } = changed;
      const connection = new RedisConnection(
        options({
          ...changed,
          onChange: (problem) => {
            onChange?.(problem);
            if (problem === undefined) resolve();
          },
        }),
      );
      open.push(connection);
      await answers;
      return connection;
    },
    replicate: () => startRedis(place, { name: "replica", replicaOf: server }),
    guard: () => startSentinel(place, server),
    async stop() {
      for (const connection of open) await connection.close();
      await supervisor.stop();
      rmSync(dir, { recursive: true });
    },
  };
}
