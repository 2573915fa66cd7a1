/**
 * The program. Order of start: settings, health endpoint, database (waited for, since a pod may come up first), then the
 * operator. SIGTERM and SIGINT end it in the opposite order; a second one ends it at once.
 */
import { readFileSync } from "node:fs";
import { KeyVaults } from "../adapters/keyvault/vaults.ts";
import { HealthServer } from "../program/health.ts";
import { createLogger } from "../program/logging.ts";
import { endOnSignals, runProgram } from "../program/main.ts";
import { type Config, configSchema } from "./config.ts";
import { DatabaseConnection } from "./database.ts";
import { programMetrics } from "./metrics.ts";
import { Primary } from "./primary.ts";

async function run(config: Config): Promise<void> {
  const log = createLogger({ level: config.log.level });
  let vaults: KeyVaults | undefined;
  let operator: Primary | undefined;
  const { registry, runtime } = await programMetrics({
    vaults: () => vaults?.states() ?? [],
    tamperedAuthorities: () => operator?.tamperedAuthorities ?? 0,
  });
  const onCall = (call: { target: string; operation: string; code: string; seconds: number }): void =>
    runtime.externalCall(call.target, call.operation, call.code, call.seconds);
  const database = new DatabaseConnection(config, log, onCall);

  const health = new HealthServer({
    ...config.http,
    live: [{ name: "process", check: () => undefined }],
    ready: [
      { name: "database", check: () => database.problem },
      {
        name: "caches",
        check: () => {
          if (operator === undefined) return "not started";
          const { incomplete } = operator;
          return incomplete.length === 0 ? undefined : `waiting for ${incomplete.join(", ")}`;
        },
      },
    ],
    readyNotes: [{ name: "leadership", says: () => (operator?.health.leading ? "leading" : "standby") }],
    metrics: () => registry.metrics(),
  });
  const port = await health.listen();
  log.info({ mode: config.mode, port, pid: process.pid }, `Starting MazeVault in ${config.mode} mode`);

  endOnSignals(log, async () => {
    database.stop();
    await operator?.stop();
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
  operator = new Primary({ config, log, metrics: runtime, stores, vaults });
  await operator.start();
}

await runProgram({ name: "mazevault", schema: configSchema, run });
