/** The REST surface over HTTPS: what is common to all routes. Each route is data, see `route.ts`. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { Socket } from "node:net";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { SecureContextOptions } from "node:tls";
import express, { type NextFunction, type Request, type Response } from "express";
import { type ChannelServer, refuseUpgrade } from "../../adapters/channel/server.ts";
import type { Target, Verb } from "../../core/access/policy.ts";
import { type Authenticated, describeSubject } from "../../core/access/subject.ts";
import { CHANNEL_PATH } from "../../core/fleet/protocol.ts";
import type { Origin } from "../../core/identity/actor.ts";
import { clientAddress } from "../../core/identity/address.ts";
import { networkOf } from "../../core/identity/throttle.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import { answeredWith, type Tracer, traceIdOf } from "../../core/ports/tracer.ts";
import { listen } from "../../program/listening.ts";
import type { Logger } from "../../program/logging.ts";
import type { TlsSettings } from "../../program/tls.ts";
import { type Authenticator, bringsCredentials } from "./authenticate.ts";
import { problemOf } from "./failure.ts";
import { idempotencyKeyOf } from "./idempotency-key.ts";
import { openApiDocument } from "./openapi.ts";
import { PROBLEM_TYPE, Problem, retryAfter } from "./problem.ts";
import type { RateLimits } from "./rate-limits.ts";
import { Refusals } from "./refusals.ts";
import {
  type Answer,
  type Call,
  type Input,
  isAnonymous,
  type Route,
  type Stream,
  takesIdempotencyKey,
} from "./route.ts";
import type { Services } from "./services.ts";
import { readInput } from "./validation.ts";

const MAX_BODY = "1mb";
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;
const DRAIN_MS = 5_000;
const STARTING_MS = 1_000;
/** So often it is looked at while a long answer is sent whether its caller still may have it. */
const LOOK_AGAIN_MS = 1_000;
/** So long the connection stays, for the caller to take the last line of an answer that is not whole. */
const TAKEN_WITHIN_MS = 2_000;
const LIMITS = {
  maxHeaderSize: 16 * 1024,
  handshakeTimeout: 10_000,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 2_000,
};

/** Nothing here is for a browser to keep, frame or guess about (OWASP REST security). */
const SECURITY_HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "strict-transport-security": "max-age=31536000; includeSubDomains",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

export interface RestServerParts {
  readonly host?: string | undefined;
  readonly port: number;
  readonly tls: TlsSettings;
  readonly maxConnections: number;
  readonly services: Services;
  readonly routes: readonly Route[];
  readonly authenticator: Pick<Authenticator, "authenticate">;
  readonly limits: RateLimits;
  readonly log: Pick<Logger, "debug" | "error" | "warn">;
  /** Where gateways come in; without it there is nothing at its path. */
  readonly channel?: Pick<ChannelServer, "handleUpgrade" | "close">;
  /** Told of each answer, for the metrics: the route's path as it is documented. */
  readonly onAnswer?: (answer: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly seconds: number;
  }) => void;
  readonly tracer?: Tracer;
}

/** A request that is judged, before it is known whether it is done, or was. */
type Told = "ifMatch" | "ifNoneMatch" | "idempotencyKey" | "webhookOrigin";

interface Asked extends Pick<Call<Input>, "input" | "requestId" | "from" | "signal" | Told> {
  readonly route: Route;
  readonly caller: Caller;
}

/** Who asks, as was last known; nobody where the route is for anyone. */
interface Caller {
  who: Authenticated | undefined;
}

export class RestServer {
  readonly #parts: RestServerParts;
  readonly #server: Server;
  readonly #refusals: Refusals;
  /** Every connection, also those whose handshake has not ended, which the server does not know of yet. */
  readonly #sockets = new Set<Socket>();

  constructor(parts: RestServerParts) {
    this.#parts = parts;
    this.#refusals = new Refusals(parts.services.audit);
    const tls = { ...parts.tls, requestCert: parts.tls.ca !== undefined, rejectUnauthorized: false };
    // What asks for another upgrade is answered as if it did not.
    const shouldUpgradeCallback = (request: IncomingMessage) => parts.channel !== undefined && opensChannel(request);
    const options = { ...LIMITS, ...tls, minVersion: "TLSv1.2", shouldUpgradeCallback } as const;
    this.#server = createServer(options, this.#application());
    this.#server.on("upgrade", (request, socket, head) => void this.#upgrade(request, socket, head));
    this.#server.maxConnections = parts.maxConnections;
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  /** Resolves with the port that is listened on. */
  listen(): Promise<number> {
    const { port, host } = this.#parts;
    return listen(this.#server, { port, host, backlog: 1_024 });
  }

  /** Other certificates from the next connection on. */
  useTls(context: SecureContextOptions): void {
    this.#server.setSecureContext(context);
  }

  /** Takes no more connections, answers what was asked, and resolves when all are closed. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const channelClosed = this.#parts.channel?.close();
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, DRAIN_MS);
    await Promise.all([closed, channelClosed]);
    clearTimeout(timer);
    await this.#refusals.flush();
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // Who goes away before it is answered is told by the end of the socket alone.
    socket.on("error", () => {});
    try {
      await this.#parts.limits.address(networkOf(clientAddress(request.socket)));
      this.#parts.channel?.handleUpgrade(request, socket, head);
    } catch (error) {
      const { status, code, message, headers } = problemOf(error);
      if (status >= 500) this.#parts.log.warn({ route: CHANNEL_PATH, error }, "an upgrade failed");
      const retryAfterSeconds = headers["retry-after"];
      refuseUpgrade(socket, {
        status,
        code,
        detail: message,
        ...(retryAfterSeconds !== undefined && { retryAfterSeconds: Number(retryAfterSeconds) }),
      });
    }
  }

  #application(): express.Express {
    const { routes, services } = this.#parts;
    const app = express();
    app.disable("x-powered-by");
    app.disable("etag");
    app.set("query parser", "simple");
    app.set("case sensitive routing", true);
    app.set("strict routing", true);
    app.use((request, response, next) => this.#begin(request, response, next));

    const document = Buffer.from(JSON.stringify(openApiDocument(routes, services.version)));
    app.get("/api/v1/openapi.json", (_request, response) => void response.type("application/json").send(document));
    const methods = new Map<string, string[]>([["/api/v1/openapi.json", ["GET"]]]);
    const json = express.json({ limit: MAX_BODY, strict: false, type: () => true });
    for (const route of routes) {
      const path = route.path.replaceAll(/\{(\w+)\}/g, ":$1");
      methods.set(path, [...(methods.get(path) ?? []), route.method.toUpperCase()]);
      app[route.method](path, (request, response, next) => {
        response.locals.route = route.path;
        void this.#traced(route, request, response, () => this.#serve(route, json, request, response).catch(next));
      });
    }
    for (const [path, allowed] of methods) {
      app.all(path, () => {
        const headers = { allow: allowed.includes("GET") ? [...allowed, "HEAD"].join(", ") : allowed.join(", ") };
        throw new Problem(405, "MethodNotAllowed", `only ${headers.allow} is answered here`, { headers });
      });
    }
    app.use(() => {
      throw new Problem(
        404,
        "RouteNotFound",
        "there is nothing of that name; /api/v1/openapi.json lists what there is",
      );
    });
    // Express tells error handlers by their four parameters.
    app.use((error: unknown, request: Request, response: Response, _next: NextFunction) =>
      this.#refuse(error, request, response),
    );
    return app;
  }

  #begin(request: Request, response: Response, next: NextFunction): void {
    const given = request.get("x-request-id");
    const requestId = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    response.locals.requestId = requestId;
    response.set({ ...SECURITY_HEADERS, "x-request-id": requestId });
    const started = performance.now();
    response.once("close", () => {
      const seconds = (performance.now() - started) / 1000;
      const route = (response.locals.route as string | undefined) ?? "none";
      const answer = { method: request.method, route, status: response.statusCode, seconds };
      this.#parts.onAnswer?.(answer);
      const { trace } = response.locals;
      this.#parts.log.debug({ ...answer, requestId, aborted: !response.writableFinished, ...trace }, "REST request");
    });
    // A liveness probe must not be turned away by others' requests.
    if (request.path === "/") next();
    else this.#parts.limits.address(networkOf(clientAddress(request.socket))).then(() => next(), next);
  }

  /** By the route's path as it is documented; whose trace it is in the caller says. */
  #traced(route: Route, request: Request, response: Response, serve: () => Promise<void>): Promise<void> {
    const { tracer } = this.#parts;
    if (tracer === undefined) return serve();
    const attributes = { "http.request.method": request.method, "http.route": route.path };
    const parent = request.get("traceparent");
    return tracer.trace(`${request.method} ${route.path}`, { kind: "server", attributes, parent }, async () => {
      const current = tracer.current();
      // The end of an answer is told when nothing is under way any more.
      if (current !== undefined) response.locals.trace = { trace_id: traceIdOf(current) };
      await serve();
      tracer.note(answeredWith(response.statusCode));
    });
  }

  async #serve(route: Route, json: express.RequestHandler, request: Request, response: Response): Promise<void> {
    const { services, authenticator, limits } = this.#parts;
    const { access } = route;
    const anonymous = isAnonymous(route);
    if (access.kind === "EventToken") assertEventToken(request, services);
    const unready = access.kind === "Anyone" ? undefined : services.unready();
    // What the caches do not hold yet must not look as if it did not exist.
    if (unready !== undefined) throw new Problem(503, "Starting", unready, { headers: retryAfter(STARTING_MS) });
    const nobody = anonymous || (access.kind === "Optional" && !bringsCredentials(request));
    const who = nobody ? undefined : await authenticator.authenticate(request);
    if (who !== undefined) {
      this.#parts.tracer?.note({ "mazevault.subject.kind": who.subject.kind });
      await limits.subject(who.subject);
    }
    if (route.body !== undefined) await parseBody(json, route.bodyTypes, request, response);
    const input = readInput(route, { params: request.params, query: request.query, body: request.body as unknown });
    const key = takesIdempotencyKey(route) ? idempotencyKeyOf(request.get("idempotency-key")) : undefined;
    const abort = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) abort.abort();
    });
    const asked: Asked = {
      route,
      input,
      caller: { who },
      requestId: response.locals.requestId as string,
      from: { address: clientAddress(request.socket) },
      ifMatch: entityTag(request.get("if-match"), "if-match"),
      ifNoneMatch: entityTag(request.get("if-none-match"), "if-none-match"),
      idempotencyKey: key,
      webhookOrigin: request.get("webhook-request-origin")?.slice(0, 256),
      signal: abort.signal,
    };
    const answer = key === undefined ? await this.#answer(asked) : await this.#answerOnce(asked, key);
    const stopWatching = answer.stream === undefined ? undefined : this.#watch(asked, request, abort);
    try {
      if (answer.stream === undefined) send(answer, response);
      else await sendStream(answer, answer.stream, response, abort.signal);
    } finally {
      stopWatching?.();
    }
  }

  /** Whoever may not have it any more gets no more of a long answer, and that is on record. */
  #watch(asked: Asked, request: Request, abort: AbortController): () => void {
    const { route, caller, requestId, from } = asked;
    const { access } = route;
    const began = caller.who;
    if (access.kind === "Anyone" || access.kind === "EventToken" || began === undefined) return () => {};
    const look = async (): Promise<void> => {
      try {
        caller.who = await this.#parts.authenticator.authenticate(request);
        if (access.kind === "Allowed") await this.#grant(asked);
      } catch (error) {
        abort.abort(error);
        if (problemOf(error).status !== 401) return;
        const subject = { kind: "Session", id: began.id, name: describeSubject(began.subject) } as const;
        const verb = access.kind === "Authenticated" || access.kind === "Optional" ? "list" : access.verb;
        const reason = "the credentials ended while the answer was sent";
        await this.#refusals.add({ actor: actorOf(began, from), subject, route: route.id, verb, reason, requestId });
      }
    };
    const timer = setInterval(() => {
      look().catch((error: unknown) =>
        this.#parts.log.warn({ requestId, error }, "the end of an answer is not on record"),
      );
    }, LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }

  /**
   * What was answered before is given to the same caller without another decision: the request may have taken away what
   * that would be based on, such as the secret that it deleted.
   */
  #answerOnce(asked: Asked, key: string): Promise<Answer> {
    const { route, input, caller, from, ifMatch, ifNoneMatch } = asked;
    const content = [route.id, JSON.stringify(input), ifMatch, ifNoneMatch];
    // Who goes away asks again later, and then wants to know what came of it.
    const signal = AbortSignal.timeout(LIMITS.requestTimeout);
    return this.#parts.services.idempotency.once({ who: known(caller, route), key, content }, (attempt) =>
      this.#answer({ ...asked, signal, from: { ...from, attempt } }),
    );
  }

  /** The grant that lets the caller in. Throws a `Problem` with 403. */
  async #grant(asked: Asked): Promise<string> {
    const { access } = asked.route;
    if (access.kind !== "Allowed") return access.kind;
    return this.#assertMay(asked, access.verb, await access.target(asked.input as never, this.#parts.services));
  }

  async #assertMay({ route, caller, from, requestId }: Asked, verb: Verb, target: Target): Promise<string> {
    const { allowed, reason } = this.#parts.services.policies.decide(known(caller, route), verb, target);
    if (allowed) return reason;
    const subject = { kind: target.kind, id: "", name: targetName(target) } as const;
    // That nothing is done is no change of an attempt's.
    const actor = actorOf(caller.who, { address: from.address });
    await this.#refusals.add({ actor, subject, route: route.id, verb, reason, requestId });
    // The reason may name what the caller must not know of; it stands in the record, and `access explain` tells it.
    throw new Problem(403, "AccessDenied", `no grant of ${verb} on ${target.kind} ${subject.name}`.trimEnd());
  }

  async #answer(asked: Asked): Promise<Answer> {
    const { services } = this.#parts;
    const { route, caller, ...rest } = asked;
    const { from, requestId } = rest;
    const actor = actorOf(caller.who, from);
    const grant = await this.#grant(asked);
    const call: Call<Input> = {
      ...rest,
      services,
      get who() {
        return known(caller, route);
      },
      get hasNoGrant() {
        return services.policies.grantsNothing(known(caller, route));
      },
      actor,
      grant,
      may: (verb, target) =>
        caller.who === undefined && route.access.kind === "Optional"
          ? { allowed: false, reason: "no credentials were sent" }
          : services.policies.decide(known(caller, route), verb, target),
      assertMay: (verb, target) => this.#assertMay(asked, verb, target),
      announce: async (operation, target) => {
        const subject = { kind: target.kind, id: "", name: targetName(target) } as const;
        const details = { operation, route: route.id, grant, requestId };
        await services.audit.append([{ action: "ObjectChangeRequested", actor, subject, outcome: "Success", details }]);
      },
    };
    return route.handle(call as Parameters<Route["handle"]>[0]);
  }

  #refuse(error: unknown, request: Request, response: Response): void {
    const problem = problemOf(error);
    const requestId = response.locals.requestId as string;
    if (problem.status >= 500) {
      const level = problem.status === 500 ? "error" : "warn";
      this.#parts.log[level](
        { requestId, method: request.method, route: response.locals.route, error },
        "REST request failed",
      );
    }
    if (response.headersSent) {
      // The status has gone out as good: only a broken connection can still tell every client.
      response.destroy();
      return;
    }
    response
      .status(problem.status)
      .set(problem.headers)
      .type(PROBLEM_TYPE)
      .send(JSON.stringify(problem.body(requestId)));
  }
}

const opensChannel = ({ method, url, headers }: IncomingMessage): boolean =>
  method === "GET" && url === CHANNEL_PATH && headers.upgrade?.toLowerCase() === "websocket";

function send({ status, body, headers = {} }: Answer, response: Response): void {
  response.status(status).set(headers);
  if (body === undefined) response.end();
  else response.json(body);
}

/** @throws what its pieces threw, after it was told where the format has a place for it */
async function sendStream(
  { status, headers = {} }: Answer,
  { type, pieces, told }: Stream,
  response: Response,
  signal: AbortSignal,
): Promise<void> {
  response.status(status).set(headers);
  // What fails before the first piece can still be answered as it should be.
  const rest = pieces[Symbol.asyncIterator]();
  const first = await rest.next();
  response.type(type);
  const failures: unknown[] = [];
  const sent = following(first, rest, (error) => failures.push(error));
  // Each may be a megabyte, and what is waiting here may not be the caller's any more when its turn comes.
  await pipeline(Readable.from(sent, { highWaterMark: 1 }), response, { signal, end: false });
  for (const failure of failures) {
    if (told !== undefined) await tell(response, told(problemOf(failure).body(response.locals.requestId as string)));
    throw failure;
  }
  response.end();
}

/** Ends where the rest fails. */
async function* following<T>(
  first: IteratorResult<T>,
  rest: AsyncIterator<T>,
  onFailure: (error: unknown) => void,
): AsyncGenerator<T> {
  for (let next = first; next.done !== true; ) {
    yield next.value;
    try {
      next = await rest.next();
    } catch (error) {
      onFailure(error);
      return;
    }
  }
}

/** What was sent before a connection breaks off is lost to who has not taken it yet; who knows what it says goes away at once. */
function tell(response: Response, text: string): Promise<void> {
  return new Promise((resolve) => {
    response.once("close", resolve);
    response.write(text, () => void setTimeout(resolve, TAKEN_WITHIN_MS).unref());
  });
}

/** Where others' programs put it: a header is in fewer logs than an address. */
function assertEventToken(request: Request, { eventTokens }: Services): void {
  const { token } = request.query;
  const given = request.get("x-mazevault-event-token") ?? (typeof token === "string" ? token : undefined);
  if (eventTokens.accepts(given)) return;
  const detail = "the token for events is missing or not one of rest.eventTokensFile";
  throw new Problem(401, "Unauthenticated", detail, { headers: { "www-authenticate": "MazeVault-Event-Token" } });
}

const parseBody = (
  json: express.RequestHandler,
  types: readonly string[],
  request: Request,
  response: Response,
): Promise<void> =>
  new Promise((resolve, reject) => {
    if (!request.is([...types])) {
      reject(new Problem(415, "UnsupportedMediaType", `the body must be of type ${types.join(" or ")}`));
      return;
    }
    json(request, response, (error?: unknown) => (error === undefined ? resolve() : reject(error as Error)));
  });

function entityTag(text: string | undefined, header: string): string | undefined {
  if (text === undefined || text === "*") return text;
  const [, tag] = /^(?:W\/)?"([!#-~]*)"$/.exec(text) ?? [];
  if (tag !== undefined) return tag;
  const message = 'must be one entity tag in quotes, such as "7", or *';
  throw new Problem(400, "InvalidRequest", `${header} ${message}`, {
    errors: [{ field: `header.${header}`, message }],
  });
}

function known({ who }: Caller, { id }: Route): Authenticated {
  if (who === undefined) throw new TypeError(`${id} is for anyone`);
  return who;
}

function actorOf(who: Authenticated | undefined, from: Origin): Actor {
  const subject = who === undefined ? "Anonymous" : describeSubject(who.subject);
  return { kind: "Subject", subject, via: who?.via ?? "None", session: who?.id ?? "", ...from };
}

const targetName = ({ namespace, name, project, environment }: Target): string =>
  [namespace, name].filter((part) => part !== undefined).join("/") ||
  [project, environment].filter((part) => part !== undefined).join("/");
