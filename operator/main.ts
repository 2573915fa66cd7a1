/**
 * The program. Order of start: settings, health endpoint, database (waited for, since a pod may come up first), then the
 * operator. SIGTERM and SIGINT end it in the opposite order; a second one ends it at once.
 */
import { readFileSync } from "node:fs";
import { Sinks } from "../adapters/auditsinks/sinks.ts";
import { KeyVaults } from "../adapters/keyvault/vaults.ts";
import { IdempotentRequests } from "../core/idempotency/requests.ts";
import type { Identities } from "../core/identity/identities.ts";
import { HealthServer } from "../program/health.ts";
import { createLogger } from "../program/logging.ts";
import { endOnSignals, runProgram } from "../program/main.ts";
import { type Config, configSchema } from "./config.ts";
import { DatabaseConnection } from "./database.ts";
import { programMetrics } from "./metrics.ts";
import { Primary } from "./primary.ts";
import { openIdentities, openShared, type Shared } from "./shared.ts";

async function run(config: Config): Promise<void> {
  const log = createLogger({ level: config.log.level });
  let vaults: KeyVaults | undefined;
  let operator: Primary | undefined;
  let identities: Identities | undefined;
  let shared: Shared | undefined;
  let stopRest: (() => Promise<void>) | undefined;
  const { registry, runtime, restAnswered, onCall } = await programMetrics({
    vaults: () => vaults?.states() ?? [],
    sinks: () => operator?.sinkStates ?? [],
    tamperedAuthorities: () => operator?.tamperedAuthorities ?? 0,
    rotation: () => operator?.rotationProgress ?? { left: 0, stuck: 0 },
  });
  const database = new DatabaseConnection(config, log, onCall);
  const unready = (): string | undefined => {
    if (operator === undefined) return "not started";
    const { incomplete } = operator;
    return incomplete.length === 0 ? undefined : `waiting for ${incomplete.join(", ")}`;
  };

  const health = new HealthServer({
    ...config.http,
    live: [{ name: "process", check: () => undefined }],
    ready: [
      { name: "database", check: () => database.problem },
      {
        name: "caches",
        check: () => unready(),
      },
    ],
    readyNotes: [
      { name: "leadership", says: () => (operator?.health.leading ? "leading" : "standby") },
      { name: "redis", says: () => shared?.state() ?? "not used" },
    ],
    metrics: () => registry.metrics(),
  });
  const port = await health.listen();
  log.info({ mode: config.mode, port, pid: process.pid }, `Starting MazeVault in ${config.mode} mode`);

  endOnSignals(log, async () => {
    database.stop();
    await stopRest?.();
    await identities?.close();
    await operator?.stop();
    await shared?.close();
    await health.close();
  });

  const stores = await database.open();
  const { azure } = config;
  vaults = new KeyVaults({
    connectTo: azure.connectTo,
    ...(azure.caFile !== undefined && { ca: readFileSync(azure.caFile, "utf8") }),
    allowedHosts: azure.allowedVaultHosts,
    authorityHost: azure.authorityHost,
    requestTimeoutMs: azure.timeoutMs,
    onCall: (call) => {
      onCall(call);
      // Microsoft's support asks for the request's id.
      log.debug({ ...call }, "Azure was called");
    },
  });
  const { fileDirectory, sinkTimeoutMs: timeoutMs } = config.audit;
  const sinks = new Sinks({ timeoutMs, onCall, ...(fileDirectory !== undefined && { fileDirectory }) });
  const { rest } = config;
  const served = rest.certFile !== undefined || rest.keyFile !== undefined;
  if (served) {
    shared = await openShared(config, stores, log, onCall);
    identities = openIdentities(config, stores, shared);
  } else log.info("REST is off: rest.certFile names no certificate");
  const onLost = (error: unknown) => log.warn({ error }, "the answer to an Idempotency-Key was not kept");
  const idempotency = new IdempotentRequests({ store: stores.requests, keys: stores.keys, onLost });
  const parts = { config, log, metrics: runtime, stores, vaults, sinks };
  operator = new Primary({ ...parts, ...(identities && { identities, idempotency }) });
  await operator.start();
  if (identities === undefined || shared === undefined) return;
  const { startRest } = await import("./rest/start.ts");
  stopRest = await startRest({
    config,
    log,
    stores,
    identities,
    idempotency,
    rateCounters: shared.rateCounters,
    api: operator.kubernetes,
    view: operator.view,
    databaseProblem: () => database.problem,
    vaults: () => vaults?.states() ?? [],
    metrics: () => registry.metrics(),
    unready,
    onAnswer: restAnswered,
  });
}

await runProgram({ name: "mazevault", schema: configSchema, run });
