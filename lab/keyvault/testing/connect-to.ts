import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { createDefaultHttpClient, type HttpClient } from "@azure/core-rest-pipeline";

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Hosts as they stand in URLs ("login.microsoftonline.com", "*.vault.azure.net") and where to connect instead. */
export type ConnectionMap = Readonly<Record<string, Endpoint>>;

/** Opens the TCP connection elsewhere; certificate check, SNI and Host header keep the name in the URL. */
class MappedHttpsAgent extends HttpsAgent {
  readonly #endpoint: Endpoint;

  constructor(endpoint: Endpoint, ca: string | Buffer) {
    super({ keepAlive: true, ca });
    this.#endpoint = endpoint;
  }

  override createConnection(...[options, callback]: Parameters<HttpsAgent["createConnection"]>) {
    return super.createConnection({ ...options, host: this.#endpoint.host, port: this.#endpoint.port }, callback);
  }
}

class MappedHttpAgent extends HttpAgent {
  readonly #endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    super({ keepAlive: true });
    this.#endpoint = endpoint;
  }

  override createConnection(...[options, callback]: Parameters<HttpAgent["createConnection"]>) {
    return super.createConnection({ ...options, host: this.#endpoint.host, port: this.#endpoint.port }, callback);
  }
}

/** What an Azure SDK client takes as its `httpClient` option. */
export interface MappedClient extends HttpClient {
  /** The agent for a URL, for requests without the SDK; `undefined` for a host that is not mapped. */
  agent(url: string): HttpAgent | undefined;
  /** Closes all connections. */
  destroy(): void;
}

/**
 * The transport for SDK clients whose hosts are really elsewhere. Every client and credential of the SDK takes it as
 * `httpClient`, since it is the last step of each pipeline: `SecretClient`, `ClientSecretCredential`,
 * `ClientCertificateCredential`, `ClientAssertionCredential`, `WorkloadIdentityCredential` and
 * `ManagedIdentityCredential` (which drops `additionalPolicies`, so a policy would not reach it). Unmapped hosts are
 * reached as usual. Credentials also need `disableInstanceDiscovery: true` unless the login host is mapped.
 *
 * @param ca PEM of the authorities that are trusted for the mapped hosts, and only for them
 */
export function connectTo(map: ConnectionMap, ca: string | Buffer): MappedClient {
  const inner = createDefaultHttpClient();
  const agents = new Map<string, HttpAgent>();

  const agent = (url: string): HttpAgent | undefined => {
    const { hostname, protocol } = new URL(url);
    const endpoint = map[hostname] ?? map[hostname.replace(/^[^.]+/, "*")];
    if (endpoint === undefined) {
      return undefined;
    }
    const key = `${protocol}${endpoint.host}:${endpoint.port}`;
    const known = agents.get(key);
    if (known !== undefined) {
      return known;
    }
    const made = protocol === "https:" ? new MappedHttpsAgent(endpoint, ca) : new MappedHttpAgent(endpoint);
    agents.set(key, made);
    return made;
  };

  return {
    agent,
    sendRequest(request) {
      const mapped = agent(request.url);
      if (mapped !== undefined) {
        request.agent = mapped;
      }
      return inner.sendRequest(request);
    },
    destroy() {
      for (const each of agents.values()) {
        each.destroy();
      }
    },
  };
}
