/**
 * The program. Order of start: settings, health endpoint, its own secrets and the database (both waited for, since a pod may
 * come up first), then the operator. SIGTERM and SIGINT end it, see shutdown.ts; a second one ends it at once.
 */
import { Sinks } from "../adapters/auditsinks/sinks.ts";
import type { KeyVaults } from "../adapters/keyvault/vaults.ts";
import { PostgresRoles } from "../adapters/rotation/database-roles.ts";
import { HttpsWebhook } from "../adapters/rotation/webhook.ts";
import type { Tracing } from "../adapters/tracing/open.ts";
import { GatewayVaults } from "../core/fleet/gateway-vaults.ts";
import { IdempotentRequests } from "../core/idempotency/requests.ts";
import type { Identities } from "../core/identity/identities.ts";
import { traceIdOf } from "../core/ports/tracer.ts";
import { rightsFor, together } from "../crds/generate/rbac.ts";
import { HealthServer } from "../program/health.ts";
import { createLogger } from "../program/logging.ts";
import { endOnSignals, runProgram } from "../program/main.ts";
import { type Config, configSchema } from "./config.ts";
import { DatabaseConnection } from "./database.ts";
import { taskMetrics } from "./fleet/metrics.ts";
import { type Fleet, openFleet } from "./fleet/open.ts";
import { rememberedEpoch } from "./fleet/remembered-epoch.ts";
import { type Gateway, gatewayNotes, membershipOf, openGateway } from "./gateway/gateway.ts";
import { gatewayMetrics } from "./gateway/metrics.ts";
import { type Home, openHome } from "./home.ts";
import { openKeyVaults } from "./key-vaults.ts";
import { programMetrics } from "./metrics.ts";
import { OperationalSecrets } from "./operational-secrets/operational-secrets.ts";
import { Primary } from "./primary.ts";
import { openIdentities, openShared, type Shared } from "./shared.ts";
import { endInOrder } from "./shutdown.ts";
import { closeTraces, openTraces } from "./tracing/open.ts";

async function run(config: Config): Promise<void> {
  let traces: Tracing | undefined;
  const traceId = () => {
    const current = traces?.tracer.current();
    return current && traceIdOf(current);
  };
  const log = createLogger({ level: config.log.level, ...(config.tracing.endpoint !== undefined && { traceId }) });
  traces = await openTraces(config, log);
  const tracer = traces?.tracer;
  let vaults: KeyVaults | undefined;
  let operator: Primary | undefined;
  let identities: Identities | undefined;
  let shared: Shared | undefined;
  let stopRest: (() => Promise<void>) | undefined;
  let gateway: Gateway | undefined;
  let fleet: Fleet | undefined;
  let home: Home | undefined;
  const states = {
    vaults: () => vaults?.states() ?? [],
    sinks: () => operator?.sinkStates ?? [],
    tamperedAuthorities: () => operator?.tamperedAuthorities ?? 0,
    rotation: () => operator?.rotationProgress ?? { left: 0, stuck: 0 },
    tracesDropped: () => traces?.dropped ?? 0,
    resources: () => operator?.countedResources,
    ...(config.mode === "primary" && {
      gateways: () => operator?.gatewayFigures ?? [],
      environments: () => operator?.environmentFigures ?? [],
    }),
  };
  const { registry, runtime, restAnswered, onCall } = await programMetrics(states, tracer);
  const secrets = new OperationalSecrets(config, log, onCall);
  const database = new DatabaseConnection(config, log, onCall, secrets);
  const unready = (): string | undefined => {
    if (operator === undefined) return "not started";
    const { incomplete } = operator;
    return incomplete.length === 0 ? undefined : `waiting for ${incomplete.join(", ")}`;
  };

  const health = new HealthServer({
    ...config.http,
    live: [{ name: "process", check: () => undefined }],
    ready: [
      ...secrets.checks,
      { name: "database", check: () => database.problem },
      { name: "home", check: () => (home === undefined ? "not looked at yet" : home.problem) },
      {
        name: "caches",
        check: () => unready(),
      },
    ],
    readyNotes: [
      { name: "leadership", says: () => (operator?.health.leading ? "leading" : "standby") },
      { name: "recovery", says: () => home?.recovery ?? "not known yet" },
      { name: "redis", says: () => shared?.state() ?? "not used" },
      ...gatewayNotes(config, () => gateway?.membership.status),
    ],
    metrics: () => registry.metrics(),
  });
  const port = await health.listen();
  const { mode, version } = config;
  log.info({ mode, version, port, pid: process.pid }, `Starting MazeVault in ${mode} mode`);

  endOnSignals(log, async () => {
    database.stop();
    home?.stop();
    secrets.stop();
    gateway?.stop();
    const serving = [() => stopRest?.(), () => identities?.close(), () => fleet?.stop()];
    await endInOrder({ serving, operator });
    await shared?.close();
    await closeTraces(traces);
    await health.close();
  });

  const stores = await database.open();
  home = await openHome(config, stores, log, (reason) => operator?.surrender(reason));
  await home.belongs();
  vaults = openKeyVaults(config, log, onCall, { ledger: stores.callLedger });
  const { fileDirectory, sinkTimeoutMs: timeoutMs } = config.audit;
  const sinks = new Sinks({ timeoutMs, onCall, ...(fileDirectory !== undefined && { fileDirectory }) });
  const applying = { allowedHosts: config.rotation.allowedHosts, timeoutMs: config.rotation.timeoutMs };
  const targets = { roles: new PostgresRoles(applying), webhook: new HttpsWebhook({ ...applying, onCall }) };
  const { rest } = config;
  const served = rest.certFile !== undefined || rest.keyFile !== undefined;
  if (served) {
    shared = await openShared(config, stores, log, onCall, secrets);
    identities = openIdentities(config, stores, shared);
  } else log.info("REST is off: rest.certFile names no certificate");
  const onLost = (error: unknown) => log.warn({ error }, "the answer to an Idempotency-Key was not kept");
  const idempotency = new IdempotentRequests({ store: stores.requests, keys: stores.keys, onLost });
  const traced = tracer !== undefined && { tracer };
  if (config.mode === "gateway") {
    const problems = () => [...(database.problem ? ["database"] : []), ...(unready() ? ["caches"] : [])];
    gateway = await openGateway({ config, stores, vaults, secrets, log, problems, ...traced });
    await gatewayMetrics(
      registry,
      () => gateway?.membership.status,
      () => gateway,
    );
  } else {
    const cluster = { clusterIssuer: (name: string) => operator?.view.clusterIssuer(name) };
    fleet = openFleet(stores, cluster, log, {
      rememberedEpoch: (environment) => rememberedEpoch(operator?.gatewayEnvironments, environment),
      onTaskEnded: await taskMetrics(registry),
    });
  }
  const reached = fleet ? new GatewayVaults(vaults, fleet.tasks) : vaults;
  const parts = { config, log, metrics: runtime, ...traced, stores, home, vaults: reached, sinks, targets };
  operator = new Primary({
    ...parts,
    ...(identities && { identities, idempotency }),
    ...(gateway && { chores: gateway.chores, primaryCa: gateway.primaryCa, primaryLink: gateway.link }),
    ...(fleet && {
      registrations: fleet.registrations,
      environments: fleet.environments,
      gatewayTasks: fleet.tasks,
    }),
  });
  await operator.start();
  if (identities === undefined || shared === undefined) return;
  const { startRest } = await import("./rest/start.ts");
  stopRest = await startRest({
    config,
    log,
    stores,
    identities,
    idempotency,
    ...(fleet && { fleet }),
    rateCounters: shared.rateCounters,
    api: operator.kubernetes,
    view: operator.view,
    secrets,
    databaseProblem: () => database.problem,
    database: () => database.options,
    vaults: () => vaults?.states() ?? [],
    keyVaults: reached,
    metrics: () => registry.metrics(),
    actors: [
      {
        account: config.kubernetes.serviceAccount,
        rights: together(
          rightsFor("operator", config.mode, config.controllers.onboardNamespaces),
          // Others serve it where they have an account of their own.
          ...(config.kubernetes.restServiceAccount === undefined ? [rightsFor("rest", config.mode)] : []),
        ),
      },
    ],
    unready,
    isRecovering: () => home?.recovering ?? false,
    onAnswer: restAnswered,
    ...traced,
    ...membershipOf(gateway),
  });
}

await runProgram({ name: "mazevault", schema: configSchema, run });
