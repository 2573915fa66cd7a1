import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname } from "node:path";
import { CallLog } from "./call-log.ts";
import type { Configuration } from "./config.ts";
import { ControlApi } from "./control-api.ts";
import { CallCounter } from "./counters.ts";
import { disturb, type Unanswered } from "./disturbance.ts";
import { DIRECTORY_HOSTS, Directory } from "./entra/directory.ts";
import { failureOf } from "./entra/errors.ts";
import { InstanceMetadata } from "./entra/instance-metadata.ts";
import { TokenIssuer } from "./entra/tokens.ts";
import { type Reply, requestedHost, send } from "./exchange.ts";
import { Faults } from "./faults.ts";
import { Store } from "./store.ts";
import { BackupCipher } from "./vault/backup.ts";
import { Pager } from "./vault/paging.ts";
import { VaultEndpoint } from "./vault/vault-endpoint.ts";

const VAULT_DOMAIN = ".vault.azure.net";
// Longer than clients keep idle connections, so that it is they who close them.
const KEEP_ALIVE = 300_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface RunningService {
  /** Where the services listen; ports that the operating system chose are filled in. */
  readonly addresses: { readonly listen: Address; readonly control: Address; readonly imds?: Address };
  /** Closes listeners and connections, then the journal. */
  stop(): Promise<void>;
}

type Answer = Reply | Unanswered;

/** Starts the vaults, the directory, the instance metadata endpoint and the control API. */
export async function startService(configuration: Configuration): Promise<RunningService> {
  const { settings, tenants } = configuration;
  const token = readToken(configuration.control.tokenFile);
  mkdirSync(dirname(configuration.stateFile), { recursive: true });
  if (!existsSync(configuration.certFile)) {
    // Needed once; afterwards the library would only take memory.
    const { makeServerCertificate } = await import("./certificate.ts");
    await makeServerCertificate(configuration);
  }
  // Whoever has the control port owns the state file: a second start ends here, before it touches the file.
  const ready = Promise.withResolvers<ControlApi>();
  const plain = createServer(respond(async (request, url) => (await ready.promise).answer(request, url)));
  const controlAddress = await open(plain, configuration.control);
  const tokens = TokenIssuer.open(`${configuration.stateFile}.signing-key`, settings);
  const store = new Store(configuration.stateFile, configuration.vaults, settings);
  const faults = new Faults();
  const counter = new CallCounter();
  const log = new CallLog();
  const shared = {
    tokens,
    faults,
    counter,
    log,
    settings,
    pager: new Pager(settings),
    backups: new BackupCipher(tokens.key),
  };
  const endpoints = new Map([...store.vaults].map(([name, vault]) => [name, new VaultEndpoint(vault, shared)]));
  const directory = new Directory(tenants, tokens);
  const metadata = new InstanceMetadata(tenants, tokens);
  ready.resolve(new ControlApi({ store, faults, counter, log, settings, token }));

  const tokenAnswer = (target: "entra" | "instance-metadata", answer: () => Promise<Reply>): Promise<Answer> =>
    disturb(faults.take({ target, authenticated: true }), answer, (status) => failureOf(status).reply()).then(
      (reply) => {
        counter.tokenAnswered(target, typeof reply === "string" ? 0 : reply.status);
        return reply;
      },
    );

  const tls = createTlsServer(
    { cert: readFileSync(configuration.certFile), key: readFileSync(configuration.keyFile) },
    respond(async (request, url) => {
      const host = requestedHost(request);
      if (host.endsWith(VAULT_DOMAIN)) {
        const endpoint = endpoints.get(host.slice(0, -VAULT_DOMAIN.length));
        return endpoint === undefined
          ? unknownHost(host)
          : withServiceHeaders(await endpoint.answer(request, url), request);
      }
      return DIRECTORY_HOSTS.includes(host)
        ? tokenAnswer("entra", () => directory.answer(request, url))
        : unknownHost(host);
    }),
  );
  const imds = createServer(
    respond((request, url) => tokenAnswer("instance-metadata", () => metadata.answer(request, url))),
  );
  const listen = await open(tls, configuration.listen);
  const imdsAddress = configuration.imds === undefined ? {} : { imds: await open(imds, configuration.imds) };
  return {
    addresses: { listen, control: controlAddress, ...imdsAddress },
    async stop() {
      await Promise.all([tls, plain, imds].map(close));
      await store.close();
    },
  };
}

function readToken(file: string): string {
  const token = readFileSync(file, "utf8").trim();
  if (token === "") {
    throw new Error(`${file}: the control token is empty`);
  }
  return token;
}

function respond(answer: (request: IncomingMessage, url: URL) => Promise<Answer>) {
  return (request: IncomingMessage, response: ServerResponse): void => {
    const url = URL.parse(request.url ?? "/", "https://host") ?? new URL("https://host/");
    answer(request, url)
      .then((reply) => {
        if (reply === "drop") {
          request.socket.destroy();
        } else if (reply !== "hang") {
          send(response, reply);
        }
      })
      .catch((error: unknown) => {
        // A client that went away is no fault of the service.
        if (!response.destroyed) {
          console.error(error);
        }
        send(response, { status: 500, body: { error: { code: "InternalServerError", message: "internal error" } } });
      });
  };
}

/** Headers that every answer of a vault carries; see "Authentication, requests and responses". */
function withServiceHeaders(answer: Answer, request: IncomingMessage): Answer {
  if (typeof answer === "string") {
    return answer;
  }
  const clientRequestId = request.headers["x-ms-client-request-id"];
  const address = request.socket.remoteAddress ?? "127.0.0.1";
  return {
    ...answer,
    headers: {
      "Cache-Control": "no-cache",
      Pragma: "no-cache",
      Expires: "-1",
      "x-ms-keyvault-region": "westeurope",
      ...(typeof clientRequestId === "string" ? { "x-ms-client-request-id": clientRequestId } : {}),
      "x-ms-request-id": randomUUID(),
      "x-ms-keyvault-service-version": "1.9.2784.1",
      "x-ms-keyvault-network-info": `conn_type=Ipv4;addr=${address.replace("::ffff:", "")};act_addr_fam=InterNetwork;`,
      "X-Content-Type-Options": "nosniff",
      "Strict-Transport-Security": "max-age=31536000;includeSubDomains",
      ...answer.headers,
    },
  };
}

/** The real name would not resolve; the stand-in can only say so. */
function unknownHost(host: string): Reply {
  return {
    status: 404,
    body: { error: { code: "HostNotFound", message: `No service is configured for host '${host}'` } },
  };
}

async function open(server: Server, address: Address): Promise<Address> {
  server.keepAliveTimeout = KEEP_ALIVE;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(address.port, address.host, () => resolve());
  });
  return { host: address.host, port: (server.address() as AddressInfo).port };
}

async function close(server: Server): Promise<void> {
  if (!server.listening) {
    return;
  }
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
