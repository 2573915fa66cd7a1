/** What a gateway does beside its heartbeats, with nothing behind it: it asks for tasks, and holds what the primary has for it. */
import { setTimeout as delay } from "node:timers/promises";
import { ReplicaDirectory } from "../core/fleet/replica-directory.ts";
import { ReplicaPull } from "../core/fleet/replica-pull.ts";
import { TaskRunner } from "../core/fleet/task-runner.ts";
import { FakeReplicaStore } from "../core/ports/fake-replica-store.ts";
import type { Pursuit } from "./simulated-gateway.ts";

const OFFLINE_LIMIT_MS = 86_400_000;
/** As `operator/gateway/replica-chores.ts` rests after a failure, on average. */
const AGAIN_MS = 1_000;

const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  delay(ms, undefined, { signal, ref: false }).catch(() => undefined);

export const askForTasks: Pursuit = ({ membership, lease }, signal) => {
  const log = { debug: () => {}, warn: () => {} };
  return new TaskRunner({ link: membership, lease, handlers: [], sleep, log }).run(signal);
};

/** Adds what each gateway holds to `directories`. */
export const holdReplica =
  (directories: ReplicaDirectory[]): Pursuit =>
  async ({ membership, keys, database, writer }, signal) => {
    const store = new FakeReplicaStore(database);
    const directory = new ReplicaDirectory(store, keys);
    directories.push(directory);
    const pull = new ReplicaPull({
      store,
      directory,
      keys,
      link: membership,
      membership: () => membership.status,
      offlineLimitMs: OFFLINE_LIMIT_MS,
      now: () => new Date(),
      log: { info: () => {}, warn: () => {} },
    });
    pull.begin();
    while (!signal.aborted) {
      const pauseMs = await pull.turn(writer, signal).catch(() => AGAIN_MS * (0.5 + Math.random()));
      if (pauseMs > 0) await sleep(pauseMs, signal);
    }
  };
