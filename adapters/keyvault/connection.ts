/**
 * Connections to Azure: kept alive and shared by every vault and credential. `connectTo` moves only the TCP connection
 * (as curl's option of that name): URL, SNI, Host header and certificate check stay genuine, so that a stand-in is used
 * exactly as the service is.
 */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import type { HttpClient } from "@azure/core-rest-pipeline";
import { matchesHost } from "./hosts.ts";

/** `{host: "*.vault.azure.net", address: "127.0.0.1:8443"}`; `*` stands for one label. */
export interface ConnectTo {
  readonly host: string;
  readonly address: string;
}

export interface ConnectionOptions {
  readonly connectTo?: readonly ConnectTo[];
  /** PEM of authorities that are trusted in addition to the system's. */
  readonly ca?: string;
}

/** Where connections to a host really go; undefined when they go to the host itself. */
type Destination = (host: string | null | undefined) => { readonly host: string; readonly port: number } | undefined;

class MovingHttpsAgent extends HttpsAgent {
  readonly #destination: Destination;
  /** One for all connections: each of its own would read some hundred certificates, and keep them for a megabyte. */
  readonly #trust: SecureContext | undefined;

  constructor(destination: Destination, ca: string | undefined) {
    super({ keepAlive: true });
    this.#destination = destination;
    this.#trust = ca === undefined ? undefined : createSecureContext({ ca: [...getCACertificates("default"), ca] });
  }

  override createConnection(...[options, callback]: Parameters<HttpsAgent["createConnection"]>) {
    const trust = this.#trust && { secureContext: this.#trust };
    return super.createConnection({ ...options, ...this.#destination(options.host), ...trust }, callback);
  }
}

/** Instance metadata is plain HTTP, on the machine itself. */
class MovingHttpAgent extends HttpAgent {
  readonly #destination: Destination;

  constructor(destination: Destination) {
    super({ keepAlive: true });
    this.#destination = destination;
  }

  override createConnection(...[options, callback]: Parameters<HttpAgent["createConnection"]>) {
    return super.createConnection({ ...options, ...this.#destination(options.host) }, callback);
  }
}

export class Connections {
  readonly #https: HttpsAgent;
  readonly #http: HttpAgent;
  readonly #destination: Destination;
  #client: Promise<HttpClient> | undefined;

  constructor({ connectTo = [], ca }: ConnectionOptions) {
    const moves = connectTo.map(({ host, address }) => ({ host: host.toLowerCase(), ...parseAddress(address) }));
    this.#destination = (host) => {
      const move = moves.find((each) => matchesHost(host ?? "", each.host));
      return move && { host: move.address, port: move.port };
    };
    this.#https = new MovingHttpsAgent(this.#destination, ca);
    this.#http = new MovingHttpAgent(this.#destination);
  }

  /** The last step of an SDK pipeline, as its `httpClient`. A proxy from the environment holds for unmoved hosts. */
  readonly httpClient: HttpClient = {
    sendRequest: async (request) => {
      const { hostname, protocol } = new URL(request.url);
      if (request.agent === undefined || this.#destination(hostname) !== undefined) {
        request.agent = protocol === "https:" ? this.#https : this.#http;
      }
      this.#client ??= import("@azure/core-rest-pipeline").then((module) => module.createDefaultHttpClient());
      const client = await this.#client;
      return client.sendRequest(request);
    },
  };

  close(): void {
    this.#https.destroy();
    this.#http.destroy();
  }
}

function parseAddress(address: string): { readonly address: string; readonly port: number } {
  const { hostname, port } = new URL(`tcp://${address}`);
  if (port === "") throw new Error(`connect-to address ${address} needs host:port`);
  return { address: hostname.replace(/^\[|\]$/g, ""), port: Number(port) };
}
