/** The REST surface, composed: it runs on every replica, whoever leads. */
import type { Stores } from "../../adapters/postgres/stores.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { AccessPolicies, type AccessSource } from "../../core/access/policy.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { Vault } from "../../core/vault/vault.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import { followTls, readTls } from "../../program/tls.ts";
import { VERSION } from "../../program/version.ts";
import type { Config } from "../config.ts";
import { Authenticator } from "./authenticate.ts";
import { RateLimits } from "./rate-limits.ts";
import { routes } from "./routes/index.ts";
import { RestServer, type RestServerParts } from "./server.ts";
import type { Services, View } from "./services.ts";

export interface RestParts extends Pick<RestServerParts, "onAnswer"> {
  readonly config: Config;
  readonly log: Logger;
  readonly stores: Stores;
  readonly api: KubernetesApi;
  readonly identities: Identities;
  readonly view: View & AccessSource;
  readonly health: Services["health"];
  readonly diagnostics: Services["diagnostics"];
  readonly unready: Services["unready"];
}

/**
 * Listens, and resolves with what ends it.
 *
 * @throws ConfigError also without a certificate: nothing secret is served without TLS
 */
export async function startRest(parts: RestParts): Promise<() => Promise<void>> {
  const { config, log, stores, api, identities, view, health, diagnostics, unready, onAnswer } = parts;
  const { rest, mode } = config;
  const tls = readTls("rest", rest);
  if (tls === undefined) throw new ConfigError(["rest.certFile: required"]);
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
      pki: stores.pki,
      audit: stores.audit,
      identities,
      policies: new AccessPolicies(view),
      health,
      diagnostics,
      unready,
    },
    authenticator: new Authenticator({ identities, api, audience: rest.audience }),
    limits: new RateLimits({ perAddress: rest.requestsPerAddress, perSubject: rest.requestsPerSubject }),
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
    await server.close();
  };
}
