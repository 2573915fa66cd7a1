/** The REST surface, composed: it runs on every replica, whoever leads. */
import type { Stores } from "../../adapters/postgres/stores.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { AccessPolicies } from "../../core/access/policy.ts";
import type { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { Authorities } from "../../core/pki/authority.ts";
import type { RateCounters } from "../../core/ports/rate-counter.ts";
import { KeyRotation } from "../../core/vault/rotation.ts";
import { Vault } from "../../core/vault/vault.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import { followTls, readTls } from "../../program/tls.ts";
import { VERSION } from "../../program/version.ts";
import type { Caches } from "../caches.ts";
import { type Config, rotationAges } from "../config.ts";
import { Diagnostics, type DiagnosticsParts } from "../diagnostics/diagnostics.ts";
import { Authenticator } from "./authenticate.ts";
import { ClientCrl } from "./client-crl.ts";
import { RateLimits } from "./rate-limits.ts";
import { routes } from "./routes/index.ts";
import { RestServer, type RestServerParts } from "./server.ts";
import type { Services } from "./services.ts";

export interface RestParts extends Pick<RestServerParts, "onAnswer"> {
  readonly config: Config;
  readonly log: Logger;
  readonly stores: Stores;
  readonly api: KubernetesApi;
  readonly identities: Identities;
  readonly idempotency: IdempotentRequests;
  readonly rateCounters: RateCounters;
  readonly view: Caches;
  /** Undefined while PostgreSQL answers. */
  readonly databaseProblem: () => string | undefined;
  readonly vaults: DiagnosticsParts["vaults"];
  readonly metrics: DiagnosticsParts["metrics"];
  readonly unready: Services["unready"];
}

/**
 * Listens, and resolves with what ends it.
 *
 * @throws ConfigError also without a certificate: nothing secret is served without TLS
 */
export async function startRest(parts: RestParts): Promise<() => Promise<void>> {
  const { config, log, stores, api, identities, idempotency, rateCounters, view, unready, onAnswer } = parts;
  const { databaseProblem, vaults, metrics } = parts;
  const { rest, mode } = config;
  const tls = readTls("rest", rest);
  if (tls === undefined) throw new ConfigError(["rest.certFile: required"]);
  const clientCrl = ClientCrl.follow(rest, log);
  const server = new RestServer({
    host: rest.host,
    port: rest.port,
    tls,
    maxConnections: rest.maxConnections,
    routes,
    services: {
      mode,
      version: VERSION,
      view,
      api,
      vault: new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit }),
      vaultStore: stores.vault,
      rotation: new KeyRotation({
        keys: stores.keys,
        store: stores.keyStore,
        vault: stores.vault,
        ages: rotationAges(config),
      }),
      pki: stores.pki,
      authorities: new Authorities({ store: stores.pki, keys: stores.keys, audit: stores.audit }),
      audit: stores.audit,
      signing: stores.keys,
      identities,
      idempotency,
      policies: new AccessPolicies(view),
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
      diagnostics: new Diagnostics({ config, stores, api, view, vaults, metrics }),
      unready,
    },
    authenticator: new Authenticator({ identities, api, audience: rest.audience, ...(clientCrl && { clientCrl }) }),
    limits: new RateLimits(rateCounters, { perAddress: rest.requestsPerAddress, perSubject: rest.requestsPerSubject }),
    log,
    ...(onAnswer !== undefined && { onAnswer }),
  });
  const port = await server.listen().catch((error: NodeJS.ErrnoException) => {
    throw new ConfigError([`rest.port: ${rest.host}:${rest.port} cannot be listened on (${error.code})`]);
  });
  log.info({ port }, "REST is served");
  const stopTls = followTls("rest", rest, log, (context) => server.useTls(context));
  return async () => {
    stopTls();
    clientCrl?.close();
    await server.close();
  };
}
