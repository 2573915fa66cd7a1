/** OCSP, CRLs and CA certificates over HTTP (RFC 6960 A, RFC 9919 5 to 7). */
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { SecureContextOptions } from "node:tls";
import { MAX_REQUEST_OCTETS, type OcspRequest, OcspRequestError, parseOcspRequest } from "../core/pki/ocsp/request.ts";
import { errorResponse } from "../core/pki/ocsp/response.ts";
import { listen } from "../program/listening.ts";
import type { TlsSettings } from "../program/tls.ts";
import { type Answers, derOf, type Reply } from "./answers.ts";
import type { Answer } from "./certification-authority.ts";
import { type Document, type Documents, entityTag } from "./documents.ts";
import { requestText, withSlashDoubled } from "./request-path.ts";
import type { Traffic } from "./traffic.ts";

const REQUEST_TYPE = "application/ocsp-request";
const RESPONSE_TYPE = "application/ocsp-response";
const TOO_LARGE = `a request has ${MAX_REQUEST_OCTETS} octets at most`;
const METHODS = "GET, HEAD, POST";
/** A CA's certificate never changes under its path. */
const CERTIFICATE_MAX_AGE_S = 86_400;

const LIMITS: ServerOptions = {
  // A request of the greatest size in base64 fits into a path.
  maxHeaderSize: 16 * 1024,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 2_000,
  noDelay: true,
};
/** A response that a client does not take is given up after this time. */
const SOCKET_TIMEOUT_MS = 120_000;
const DRAIN_MS = 5_000;

const ERRORS = {
  malformedRequest: errorResponse("malformedRequest"),
  internalError: errorResponse("internalError"),
  tryLater: errorResponse("tryLater"),
  unauthorized: errorResponse("unauthorized"),
};

export interface OcspServerParts {
  readonly host?: string | undefined;
  readonly port: number;
  readonly tls?: TlsSettings;
  readonly maxConnections: number;
  readonly maxAgeMs: number;
  readonly answers: Answers;
  readonly documents: Documents;
  readonly traffic: Traffic;
  /** Told of what should never happen. */
  readonly onError: (error: unknown) => void;
  readonly now: () => number;
}

export class OcspServer {
  readonly #parts: OcspServerParts;
  readonly #server: Server | TlsServer;
  #stopping = false;

  constructor(parts: OcspServerParts) {
    this.#parts = parts;
    const listener: RequestListener = (request, response) => this.#serve(request, response);
    this.#server =
      parts.tls === undefined
        ? createServer(LIMITS, listener)
        : createTlsServer({ ...LIMITS, ...parts.tls, rejectUnauthorized: true, minVersion: "TLSv1.2" }, listener);
    this.#server.maxConnections = parts.maxConnections;
    this.#server.setTimeout(SOCKET_TIMEOUT_MS);
  }

  /** Resolves with the port that is listened on. */
  listen(): Promise<number> {
    const { port, host } = this.#parts;
    return listen(this.#server, { port, host, backlog: 1_024 });
  }

  /** Other certificates from the next connection on. */
  useTls(context: SecureContextOptions): void {
    (this.#server as TlsServer).setSecureContext(context);
  }

  /** Takes no more connections, answers what was asked, and resolves when all are closed. */
  async close(): Promise<void> {
    this.#stopping = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // What was being answered becomes idle, and would be kept alive.
    const idle = setInterval(() => this.#server.closeIdleConnections(), 50);
    const timer = setTimeout(() => this.#server.closeAllConnections(), DRAIN_MS);
    await closed;
    clearInterval(idle);
    clearTimeout(timer);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    if (this.#stopping) response.shouldKeepAlive = false;
    const { method, url = "/" } = request;
    const query = url.indexOf("?");
    const path = query < 0 ? url : url.slice(0, query);
    if (method === "POST") this.#post(path, request, response);
    else if (method === "GET" || method === "HEAD") this.#get(path, request, response);
    else this.#refuse(request, response, 405, "GET, HEAD and POST are answered here", ["Allow", METHODS]);
  }

  #get(path: string, request: IncomingMessage, response: ServerResponse): void {
    const document = this.#parts.documents.get(path);
    if (document !== undefined) {
      this.#sendDocument(document, request, response);
      return;
    }
    const text = requestText(path);
    if (text === undefined) this.#refuse(request, response, 404, "there is nothing of that name");
    else this.#answer(request, response, () => this.#requestIn(text));
  }

  #post(path: string, request: IncomingMessage, response: ServerResponse): void {
    const [type = ""] = (request.headers["content-type"] ?? "").split(";", 1);
    if (this.#parts.documents.get(path) !== undefined) {
      this.#refuse(request, response, 405, "this can only be fetched", ["Allow", "GET, HEAD"]);
    } else if (path !== "/" && path !== "/ocsp") {
      this.#refuse(request, response, 404, "OCSP requests are answered at / and /ocsp");
    } else if (type.trim().toLowerCase() !== REQUEST_TYPE) {
      this.#refuse(request, response, 415, `a request is of type ${REQUEST_TYPE}`, ["Accept", REQUEST_TYPE]);
    } else if (Number(request.headers["content-length"] ?? 0) > MAX_REQUEST_OCTETS) {
      this.#refuse(request, response, 413, TOO_LARGE);
    } else {
      this.#readBody(request, response);
    }
  }

  #readBody(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    let octets = 0;
    request.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      octets += chunk.length;
      if (octets <= MAX_REQUEST_OCTETS) return;
      request.removeAllListeners("data").removeAllListeners("end");
      this.#refuse(request, response, 413, TOO_LARGE);
    });
    request.on("end", () => {
      const [only] = chunks;
      const der = only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks);
      this.#answer(request, response, () => parseOcspRequest(der));
    });
    // A client that goes away in the middle is none of our concern.
    request.on("error", () => {});
  }

  /** The request in a path, also where a proxy made one slash of two: then it is the one that makes sense. */
  #requestIn(text: string): OcspRequest {
    try {
      return parseOcspRequest(Buffer.from(text, "base64"));
    } catch (error) {
      for (const repaired of withSlashDoubled(text)) {
        try {
          const request = parseOcspRequest(Buffer.from(repaired, "base64"));
          if (request.certIds.every((certId) => this.#parts.answers.isIssued(certId))) return request;
        } catch {
          // Not this one.
        }
      }
      throw error;
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse, read: () => OcspRequest): void {
    try {
      const reply = this.#parts.answers.reply(read());
      if (reply instanceof Promise) {
        reply.then(
          (later) => this.#sendReply(later, request, response),
          (error: unknown) => this.#fail(error, response),
        );
      } else this.#sendReply(reply, request, response);
    } catch (error) {
      if (error instanceof OcspRequestError) this.#sendError(error.status, response);
      else this.#fail(error, response);
    }
  }

  #fail(error: unknown, response: ServerResponse): void {
    this.#parts.onError(error);
    this.#sendError("internalError", response);
  }

  #sendReply(reply: Reply, request: IncomingMessage, response: ServerResponse): void {
    if (reply.kind === "kept") this.#sendKept(reply.answer, request, response);
    else if (reply.kind === "error") this.#sendError(reply.status, response);
    else {
      this.#parts.traffic.signedForOne += 1;
      sendOnce(reply.der, response);
    }
  }

  /** With what RFC 9919 6.2 says about caching, after a POST too: a cache that may not keep it will not. */
  #sendKept(answer: Answer, request: IncomingMessage, response: ServerResponse): void {
    const { traffic } = this.#parts;
    const der = derOf(answer);
    answer.entityTag ??= entityTag(der);
    const { entityTag: tag, window } = answer;
    const caching = [
      "ETag",
      tag,
      "Last-Modified",
      window.lastModified,
      "Expires",
      window.expires,
      "Cache-Control",
      this.#cacheControl(window),
    ];
    if (matches(request, tag)) {
      traffic.notModified += 1;
      response.writeHead(304, caching).end();
      return;
    }
    traffic.kept += 1;
    response.writeHead(200, ["Content-Type", RESPONSE_TYPE, "Content-Length", String(der.length), ...caching]).end(der);
  }

  /** Until half of the time has passed, when there is a newer one; never longer than it holds. */
  #cacheControl({ thisUpdate, nextUpdate }: { readonly thisUpdate: number; readonly nextUpdate: number }): string {
    const now = this.#parts.now();
    const half = (thisUpdate + nextUpdate) / 2;
    const left = Math.min(this.#parts.maxAgeMs, (now < half ? half : nextUpdate) - now);
    return `max-age=${Math.max(0, Math.floor(left / 1000))}, public, no-transform, must-revalidate`;
  }

  #sendDocument(document: Document, request: IncomingMessage, response: ServerResponse): void {
    const { contentType, der, entityTag: tag, window } = document;
    this.#parts.traffic.documents += 1;
    const caching =
      window === undefined
        ? ["ETag", tag, "Cache-Control", `max-age=${CERTIFICATE_MAX_AGE_S}, public, no-transform`]
        : [
            "ETag",
            tag,
            "Last-Modified",
            new Date(window.thisUpdate).toUTCString(),
            "Expires",
            new Date(window.nextUpdate).toUTCString(),
            "Cache-Control",
            this.#cacheControl(window),
          ];
    if (matches(request, tag)) response.writeHead(304, caching).end();
    else {
      response.writeHead(200, ["Content-Type", contentType, "Content-Length", String(der.length), ...caching]).end(der);
    }
  }

  /** HTTP succeeded, OCSP did not (RFC 6960 A.2). */
  #sendError(status: keyof typeof ERRORS, response: ServerResponse): void {
    this.#parts.traffic[status] += 1;
    sendOnce(ERRORS[status], response);
  }

  /** What is left of the request is not read: after a body that nobody wants the connection ends. */
  #refuse(
    request: IncomingMessage,
    response: ServerResponse,
    status: number,
    text: string,
    headers: readonly string[] = [],
  ): void {
    this.#parts.traffic.refused += 1;
    if (!request.complete && request.method !== "GET" && request.method !== "HEAD") response.shouldKeepAlive = false;
    const body = Buffer.from(`${text}\n`);
    response
      .writeHead(status, [
        "Content-Type",
        "text/plain; charset=utf-8",
        "Content-Length",
        String(body.length),
        "Cache-Control",
        "no-store",
        ...headers,
      ])
      .end(body);
  }
}

function sendOnce(der: Buffer, response: ServerResponse): void {
  response
    .writeHead(200, [
      "Content-Type",
      RESPONSE_TYPE,
      "Content-Length",
      String(der.length),
      "Cache-Control",
      "no-store, no-transform",
    ])
    .end(der);
}

/** If-None-Match (RFC 9110 13.1.2). */
function matches({ headers }: IncomingMessage, tag: string): boolean {
  const given = headers["if-none-match"];
  if (given === undefined) return false;
  return given.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === tag);
}
