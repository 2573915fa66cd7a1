/**
 * The REST surface as a program of its own, on the settings of the operator: replicas that neither lead nor reconcile, with
 * caches of their own. What only the leader makes, such as keys and the first admin, an operator has to have made.
 */

import { loadKubeConfig } from "../../controllers/runtime/kubeconfig.ts";
import { Watches } from "../../controllers/runtime/watches.ts";
import { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { HealthServer } from "../../program/health.ts";
import { createLogger } from "../../program/logging.ts";
import { endOnSignals, runProgram } from "../../program/main.ts";
import { Caches } from "../caches.ts";
import { type Config, configSchema } from "../config.ts";
import { DatabaseConnection } from "../database.ts";
import { programMetrics } from "../metrics.ts";
import { openIdentities, openShared, type Shared } from "../shared.ts";
import { startRest } from "./start.ts";

async function run(config: Config): Promise<void> {
  const log = createLogger({ level: config.log.level });
  let watches: Watches | undefined;
  let caches: Caches | undefined;
  let shared: Shared | undefined;
  let identities: Identities | undefined;
  let stopRest: (() => Promise<void>) | undefined;
  const { registry, runtime, restAnswered, onCall } = await programMetrics({
    vaults: () => [],
    sinks: () => [],
    tamperedAuthorities: () => 0,
    rotation: () => ({ left: 0, stuck: 0 }),
  });
  const database = new DatabaseConnection(config, log, onCall);
  const unready = (): string | undefined => {
    if (caches === undefined) return "not started";
    const { incomplete } = caches;
    return incomplete.length === 0 ? undefined : `waiting for ${incomplete.join(", ")}`;
  };
  const health = new HealthServer({
    ...config.http,
    live: [{ name: "process", check: () => undefined }],
    ready: [
      { name: "database", check: () => database.problem },
      { name: "caches", check: unready },
    ],
    readyNotes: [{ name: "redis", says: () => shared?.state() ?? "not used" }],
    metrics: () => registry.metrics(),
  });
  const port = await health.listen();
  log.info({ port, pid: process.pid }, "Starting MazeVault REST");

  endOnSignals(log, async () => {
    database.stop();
    await stopRest?.();
    await identities?.close();
    await shared?.close();
    await watches?.stop();
    await health.close();
  });

  const stores = await database.open();
  watches = new Watches(await loadKubeConfig(config.kubernetes.kubeconfig), log, runtime);
  // Core Secrets are looked at by namespace once somebody follows them, and here nobody does.
  caches = new Caches(watches, config.kubernetes.watchInactivityMs);
  watches.start();
  shared = await openShared(config, stores, log, onCall);
  identities = openIdentities(config, stores, shared);
  const onLost = (error: unknown) => log.warn({ error }, "the answer to an Idempotency-Key was not kept");
  stopRest = await startRest({
    config,
    log,
    stores,
    identities,
    idempotency: new IdempotentRequests({ store: stores.requests, keys: stores.keys, onLost }),
    rateCounters: shared.rateCounters,
    api: watches.api,
    view: caches,
    databaseProblem: () => database.problem,
    // Only the leader talks to them.
    vaults: () => [],
    metrics: () => registry.metrics(),
    unready,
    onAnswer: restAnswered,
  });
}

await runProgram({ name: "mazevault-rest", schema: configSchema, run });
