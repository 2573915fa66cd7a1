/**
 * The REST surface as a program of its own, on the settings of the operator: replicas that neither lead nor reconcile, with
 * caches of their own. What only the leader makes, such as keys and the first admin, an operator has to have made.
 */

import type { KeyVaults } from "../../adapters/keyvault/vaults.ts";
import type { Tracing } from "../../adapters/tracing/open.ts";
import { loadKubeConfig } from "../../controllers/runtime/kubeconfig.ts";
import { Watches } from "../../controllers/runtime/watches.ts";
import { GatewayVaults } from "../../core/fleet/gateway-vaults.ts";
import { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { traceIdOf } from "../../core/ports/tracer.ts";
import { rightsFor } from "../../crds/generate/rbac.ts";
import { HealthServer } from "../../program/health.ts";
import { createLogger } from "../../program/logging.ts";
import { endOnSignals, runProgram } from "../../program/main.ts";
import { Caches } from "../caches.ts";
import { type Config, configSchema } from "../config.ts";
import { DatabaseConnection } from "../database.ts";
import { taskMetrics } from "../fleet/metrics.ts";
import { type Fleet, openFleet } from "../fleet/open.ts";
import { rememberedEpoch } from "../fleet/remembered-epoch.ts";
import { type Gateway, gatewayNotes, membershipOf, openGateway } from "../gateway/gateway.ts";
import { type Home, openHome } from "../home.ts";
import { openKeyVaults } from "../key-vaults.ts";
import { programMetrics } from "../metrics.ts";
import { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";
import { openIdentities, openShared, type Shared } from "../shared.ts";
import { closeTraces, openTraces } from "../tracing/open.ts";
import { startRest } from "./start.ts";

async function run(config: Config): Promise<void> {
  let traces: Tracing | undefined;
  const traceId = () => {
    const current = traces?.tracer.current();
    return current && traceIdOf(current);
  };
  const log = createLogger({ level: config.log.level, ...(config.tracing.endpoint !== undefined && { traceId }) });
  traces = await openTraces(config, log);
  const tracer = traces?.tracer;
  let watches: Watches | undefined;
  let caches: Caches | undefined;
  let shared: Shared | undefined;
  let identities: Identities | undefined;
  let vaults: KeyVaults | undefined;
  let stopRest: (() => Promise<void>) | undefined;
  let gateway: Gateway | undefined;
  let fleet: Fleet | undefined;
  let home: Home | undefined;
  const states = {
    vaults: () => vaults?.states() ?? [],
    sinks: () => [],
    tamperedAuthorities: () => 0,
    rotation: () => ({ left: 0, stuck: 0 }),
    tracesDropped: () => traces?.dropped ?? 0,
    // The operator counts them.
    resources: () => undefined,
    gateways: () => [],
  };
  const { registry, runtime, restAnswered, onCall } = await programMetrics(states, tracer);
  // Always 0 here, which an alert would take for an operator that does not lead.
  registry.removeSingleMetric("mazevault_leader");
  const secrets = new OperationalSecrets(config, log, onCall);
  const database = new DatabaseConnection(config, log, onCall, secrets);
  const unready = (): string | undefined => {
    if (caches === undefined) return "not started";
    const { incomplete } = caches;
    return incomplete.length === 0 ? undefined : `waiting for ${incomplete.join(", ")}`;
  };
  const health = new HealthServer({
    ...config.http,
    live: [{ name: "process", check: () => undefined }],
    ready: [
      ...secrets.checks,
      { name: "database", check: () => database.problem },
      { name: "home", check: () => (home === undefined ? "not looked at yet" : home.problem) },
      { name: "caches", check: unready },
    ],
    readyNotes: [
      { name: "recovery", says: () => home?.recovery ?? "not known yet" },
      { name: "redis", says: () => shared?.state() ?? "not used" },
      ...gatewayNotes(config, () => gateway?.membership.status),
    ],
    metrics: () => registry.metrics(),
  });
  const port = await health.listen();
  log.info({ port, pid: process.pid }, "Starting MazeVault REST");

  endOnSignals(log, async () => {
    database.stop();
    home?.stop();
    secrets.stop();
    gateway?.stop();
    await stopRest?.();
    await identities?.close();
    await fleet?.stop();
    await shared?.close();
    await vaults?.close();
    await watches?.stop();
    await closeTraces(traces);
    await health.close();
  });

  const stores = await database.open();
  home = await openHome(config, stores, log);
  await home.belongs();
  watches = new Watches(await loadKubeConfig(config.kubernetes.kubeconfig), log, runtime);
  // Core Secrets are looked at by namespace once somebody follows them, and here nobody does.
  caches = new Caches(watches, config.kubernetes.watchInactivityMs, { held: home.held });
  watches.start();
  shared = await openShared(config, stores, log, onCall, secrets);
  identities = openIdentities(config, stores, shared);
  // For values that are in the Key Vault of their project; all else there is the leader's.
  vaults = openKeyVaults(config, log, onCall, { ledger: stores.callLedger });
  const traced = tracer !== undefined && { tracer };
  if (config.mode === "primary") {
    const { gatewayEnvironmentCache } = caches;
    fleet = openFleet(stores, caches, log, {
      rememberedEpoch: (environment) => rememberedEpoch(gatewayEnvironmentCache, environment),
      onTaskEnded: await taskMetrics(registry),
    });
  } else gateway = await openGateway({ config, stores, vaults, secrets, log, problems: () => [], ...traced });
  const onLost = (error: unknown) => log.warn({ error }, "the answer to an Idempotency-Key was not kept");
  stopRest = await startRest({
    config,
    log,
    stores,
    identities,
    idempotency: new IdempotentRequests({ store: stores.requests, keys: stores.keys, onLost }),
    ...(fleet && { fleet }),
    rateCounters: shared.rateCounters,
    api: watches.api,
    view: caches,
    secrets,
    databaseProblem: () => database.problem,
    database: () => database.options,
    vaults: () => vaults?.states() ?? [],
    keyVaults: fleet ? new GatewayVaults(vaults, fleet.tasks) : vaults,
    metrics: () => registry.metrics(),
    actors: [
      {
        account: config.kubernetes.restServiceAccount ?? config.kubernetes.serviceAccount,
        rights: rightsFor("rest", config.mode),
      },
      ...(config.mode === "primary"
        ? [
            {
              account: config.kubernetes.serviceAccount,
              rights: rightsFor("operator", config.mode, config.controllers.onboardNamespaces),
            },
          ]
        : []),
    ],
    unready,
    isRecovering: () => home?.recovering ?? false,
    onAnswer: restAnswered,
    ...traced,
    ...membershipOf(gateway),
  });
}

await runProgram({ name: "mazevault-rest", schema: configSchema, run });
