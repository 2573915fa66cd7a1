/** The REST surface, composed: it runs on every replica, whoever leads. */
import type { Stores } from "../../adapters/postgres/stores.ts";
import { ProjectStorage } from "../../controllers/keyvault/storage.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { AccessPolicies } from "../../core/access/policy.ts";
import { GatewayWrites } from "../../core/fleet/gateway-writes.ts";
import type { MembershipStatus } from "../../core/fleet/membership.ts";
import type { QueuedWrites } from "../../core/fleet/queued-writes.ts";
import type { Replica } from "../../core/fleet/replica.ts";
import type { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { Authorities } from "../../core/pki/authority.ts";
import type { BreakerState } from "../../core/ports/primary-link.ts";
import type { RateCounters } from "../../core/ports/rate-counter.ts";
import type { TargetVaults } from "../../core/ports/target-vaults.ts";
import { KeyRotation } from "../../core/vault/rotation.ts";
import { Vault } from "../../core/vault/vault.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import { followTls, readTls } from "../../program/tls.ts";
import type { Caches } from "../caches.ts";
import { type Config, rotationAges } from "../config.ts";
import { Diagnostics, type DiagnosticsParts } from "../diagnostics/diagnostics.ts";
import { FleetChannel } from "../fleet/channel.ts";
import type { Fleet } from "../fleet/open.ts";
import { openReplicaSource } from "../fleet/replica.ts";
import { writableSecrets } from "../fleet/writable-secrets.ts";
import { Authenticator } from "./authenticate.ts";
import { ClientCrl } from "./client-crl.ts";
import { EventTokens } from "./event-tokens.ts";
import { GatewayPolicies } from "./gateway-policies.ts";
import { RateLimits } from "./rate-limits.ts";
import { routes } from "./routes/index.ts";
import { RestServer, type RestServerParts } from "./server.ts";
import type { Services } from "./services.ts";

export interface RestParts extends Pick<RestServerParts, "onAnswer" | "tracer"> {
  readonly config: Config;
  readonly log: Logger;
  readonly stores: Stores;
  readonly api: KubernetesApi;
  readonly identities: Identities;
  readonly idempotency: IdempotentRequests;
  /** In mode primary. */
  readonly fleet?: Fleet;
  readonly rateCounters: RateCounters;
  readonly view: Caches;
  /** Undefined while PostgreSQL answers. */
  readonly databaseProblem: () => string | undefined;
  readonly database: DiagnosticsParts["database"];
  readonly secrets: DiagnosticsParts["secrets"];
  readonly vaults: DiagnosticsParts["vaults"];
  /** For values that are in the Key Vault of their project. */
  readonly keyVaults: TargetVaults;
  readonly metrics: DiagnosticsParts["metrics"];
  readonly unready: Services["unready"];
  /** A restored database was taken over, and what is missing in the cluster may still come. */
  readonly isRecovering: () => boolean;
  readonly actors: DiagnosticsParts["actors"];
  /** In mode gateway. */
  readonly membership?: () => MembershipStatus;
  readonly circuitBreaker?: () => BreakerState;
  readonly replica?: Replica;
  readonly writes?: QueuedWrites;
}

/**
 * Listens, and resolves with what ends it.
 *
 * @throws ConfigError also without a certificate: nothing secret is served without TLS
 */
export async function startRest(parts: RestParts): Promise<() => Promise<void>> {
  const {
    config,
    log,
    stores,
    api,
    identities,
    idempotency,
    rateCounters,
    view,
    unready,
    isRecovering,
    onAnswer,
    tracer,
  } = parts;
  const { databaseProblem, database, secrets, vaults, keyVaults, metrics, fleet, actors } = parts;
  const { membership, circuitBreaker, replica, writes } = parts;
  const { rest, mode, version } = config;
  const tls = readTls("rest", rest);
  if (tls === undefined) throw new ConfigError(["rest.certFile: required"]);
  const eventTokens = new EventTokens(rest.eventTokensFile, log);
  const clientCrl = ClientCrl.follow(rest, log);
  const storage = new ProjectStorage({
    api,
    cluster: view,
    vaults: keyVaults,
    entries: stores.kept,
    audit: stores.audit,
    installation: stores.keys.installationId,
  });
  const vault = new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit, storage: storage.of });
  const told = { ...(onAnswer !== undefined && { onAnswer }), ...(tracer !== undefined && { tracer }) };
  const answering = { rateCounters, log, ...told };
  const authorities = new Authorities({ store: stores.pki, keys: stores.keys, audit: stores.audit });
  const source = fleet && openReplicaSource({ stores, view, vault, authorities, unready, isRecovering, log });
  const channel =
    fleet &&
    source &&
    new FleetChannel({
      ...fleet,
      services: {
        ...fleet.services,
        ...source.services,
        writes: new GatewayWrites({
          handled: stores.handledWrites,
          vault,
          secrets: writableSecrets(view, unready),
          isRecovering,
          elapsed: () => performance.now(),
          keys: stores.keys,
          onProblem: (error, write) => log.error({ error, write }, "the write of a gateway failed"),
        }),
      },
      ...answering,
    });
  const server = new RestServer({
    host: rest.host,
    port: rest.port,
    tls,
    maxConnections: rest.maxConnections,
    routes,
    services: {
      mode,
      version,
      view,
      api,
      vault,
      vaultStore: stores.vault,
      rotation: new KeyRotation({
        keys: stores.keys,
        store: stores.keyStore,
        vault: stores.vault,
        ages: rotationAges(config),
      }),
      pki: stores.pki,
      authorities,
      audit: stores.audit,
      signing: stores.keys,
      identities,
      idempotency,
      policies: replica === undefined ? new AccessPolicies(view) : new GatewayPolicies(view, replica),
      eventTokens,
      vaultHints: stores.vaultHints,
      fleet: stores.fleet,
      ...(fleet && { registrations: fleet.registrations, environments: fleet.environments }),
      health: () => [
        {
          name: "database",
          problem: databaseProblem(),
          fix: `look whether PostgreSQL runs and lets the operator in: pg_isready -h ${config.database.host} -p ${config.database.port}, then its log and the operator's`,
        },
        {
          name: "caches",
          problem: unready(),
          fix: "look whether the API server answers and serves these kinds: kubectl get crd; and for `watch interrupted` in the operator's log",
        },
      ],
      diagnostics: new Diagnostics({ config, stores, database, secrets, api, view, vaults, metrics, actors }),
      unready,
      ...(membership !== undefined && { membership }),
      ...(circuitBreaker !== undefined && { circuitBreaker }),
      ...(replica !== undefined && { replica }),
      ...(writes !== undefined && { writes }),
    },
    authenticator: new Authenticator({ identities, api, audience: rest.audience, ...(clientCrl && { clientCrl }) }),
    limits: new RateLimits(rateCounters, { perAddress: rest.requestsPerAddress, perSubject: rest.requestsPerSubject }),
    log,
    ...told,
    ...(channel && { channel: channel.server }),
  });
  const port = await server.listen().catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError([
      `rest.port: ${rest.port}${rest.host === undefined ? "" : ` of ${rest.host}`} cannot be listened on (${error.code})`,
    ]);
  });
  log.info({ port }, "REST is served");
  const stopTls = followTls("rest", rest, log, (context) => server.useTls(context));
  return async () => {
    stopTls();
    clientCrl?.close();
    eventTokens.close();
    // Gateways that wait for changes are answered, or closing would wait for them.
    const ended = source?.stop();
    await server.close();
    await channel?.stop();
    await ended;
  };
}
