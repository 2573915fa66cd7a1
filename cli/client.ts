/** The REST surface as the commands use it: JSON in and out, problems as errors, tokens renewed on the way. */
import { setTimeout as delay } from "node:timers/promises";
import { Agent, type Dispatcher, request } from "undici";
import { VERSION } from "../program/version.ts";
import { CommandError, EXIT } from "./errors.ts";
import type { Settings, Tokens } from "./settings.ts";

const TIMEOUT_MS = 30_000;
/** Of an answer that says when to come again; a person waits no longer. */
const LONGEST_PAUSE_MS = 5_000;
const ATTEMPTS = 3;

interface Sent {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Without credentials. */
  readonly anonymous?: boolean;
  /** Statuses that are an answer here, and no problem. */
  readonly accepts?: readonly number[];
  /** Milliseconds to wait for it, where that is not as long as usual. */
  readonly timeoutMs?: number;
}

export interface Received {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
  readonly text: string;
}

interface ProblemBody {
  readonly status?: number;
  readonly code?: string;
  readonly detail?: string;
  readonly requestId?: string;
  readonly errors?: readonly { readonly field: string; readonly message: string }[];
}

/** Codes of problems that a server has with routes, parameters and fields that it does not have. */
const NOT_UNDERSTOOD: ReadonlySet<string> = new Set(["RouteNotFound", "MethodNotAllowed", "InvalidRequest"]);

const exitCodes: Readonly<Record<number, number>> = {
  400: EXIT.usage,
  401: EXIT.unauthenticated,
  403: EXIT.denied,
  404: EXIT.notFound,
  409: EXIT.conflict,
  412: EXIT.conflict,
  422: EXIT.usage,
};

export class Client {
  readonly #settings: Settings;
  #agent: Agent | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  async get<T>(path: string, query: Sent["query"] = {}, headers: Sent["headers"] = {}): Promise<T> {
    return parsed<T>(await this.send("GET", path, { query, headers }));
  }

  async post<T>(path: string, body?: unknown): Promise<T> {
    const received = await this.send("POST", path, body === undefined ? {} : { body });
    return received.text === "" ? (undefined as T) : parsed<T>(received);
  }

  /** Every item of a list, page after page. */
  async *items<T>(path: string, query: Sent["query"] = {}): AsyncGenerator<T> {
    let after: string | undefined;
    do {
      const page: { items: T[]; next?: string } = await this.get(path, { ...query, after });
      yield* page.items;
      after = page.next;
    } while (after !== undefined);
  }

  /** @throws CommandError */
  async send(method: string, path: string, sent: Sent = {}): Promise<Received> {
    const received = await this.#patiently(method, path, sent);
    const expired = received.status === 401 && sent.anonymous !== true && this.#settings.refreshToken !== undefined;
    const answer = expired && (await this.#refresh()) ? await this.#patiently(method, path, sent) : received;
    if (answer.status >= 400 && sent.accepts?.includes(answer.status) !== true) throw await this.#refusal(answer);
    return answer;
  }

  /** What a server of another version does not understand may be right for this one. */
  async #refusal(answer: Received): Promise<CommandError> {
    const refused = problem(answer, this.#mend);
    if (!NOT_UNDERSTOOD.has(problemIn(answer).code ?? "")) return refused;
    const server = await this.#serverVersion();
    if (server === undefined || server === VERSION) return refused;
    const fix = `the server is ${server} and this program ${VERSION}: use ${server} of this program, or bring the server to ${VERSION}`;
    return new CommandError(refused.exitCode, refused.problem, { fix });
  }

  async #serverVersion(): Promise<string | undefined> {
    try {
      const health = await this.#once("GET", "/api/v1/health", { anonymous: true, timeoutMs: LONGEST_PAUSE_MS });
      return parsed<{ readonly version?: string }>(health).version;
    } catch {
      return undefined;
    }
  }

  /** An answer that is too long to be held, or whose parts are to be seen as they come. @throws CommandError */
  async stream(
    method: string,
    path: string,
    query: Sent["query"] = {},
  ): Promise<{ readonly headers: Received["headers"]; readonly pieces: AsyncIterable<Buffer> }> {
    // A token that has expired is renewed here, where the request can still be sent again.
    await this.get("/api/v1/auth/me");
    const answer = await this.#request(method, path, { query });
    if (answer.statusCode >= 400) throw problem(await received(answer), this.#mend);
    return { headers: answer.headers, pieces: this.#pieces(answer) };
  }

  async *#pieces({ body }: Dispatcher.ResponseData): AsyncGenerator<Buffer> {
    let end = Buffer.alloc(0);
    try {
      for await (const piece of body as AsyncIterable<Buffer>) {
        yield piece;
        end = Buffer.concat([end, piece.subarray(-LONGEST_PROBLEM)]).subarray(-LONGEST_PROBLEM);
        // Behind it the connection breaks off.
        const problem = problemAtEnd(end.toString("utf8"));
        if (problem !== undefined) throw toCommandError(problem, this.#mend);
      }
    } catch (error) {
      throw error instanceof CommandError ? error : unreachable(this.#settings.server, error);
    }
  }

  /** What helps when nobody knows us. */
  get #mend(): string {
    return this.#settings.tokenIsGiven ? "MAZEVAULT_TOKEN must be a valid API key or token" : "run mazevault login";
  }

  async close(): Promise<void> {
    await this.#agent?.close();
  }

  /** Again where the answer says that it is worth it, and reading again is harmless. */
  async #patiently(method: string, path: string, sent: Sent): Promise<Received> {
    for (let attempt = 1; ; attempt++) {
      const received = await this.#once(method, path, sent);
      const pauseMs = Number(received.headers["retry-after"]) * 1000;
      const again =
        (received.status === 429 || received.status === 503) && method === "GET" && pauseMs <= LONGEST_PAUSE_MS;
      if (!again || attempt === ATTEMPTS) return received;
      await delay(pauseMs);
    }
  }

  async #once(method: string, path: string, sent: Sent): Promise<Received> {
    const answer = await this.#request(method, path, sent);
    return received(answer).catch((error: unknown) => {
      throw unreachable(this.#settings.server, error);
    });
  }

  async #request(
    method: string,
    path: string,
    { query = {}, body, headers = {}, anonymous = false, timeoutMs = TIMEOUT_MS }: Sent,
  ): Promise<Dispatcher.ResponseData> {
    const { server, ca, token } = this.#settings;
    if (!anonymous && token === undefined) {
      throw new CommandError(EXIT.unauthenticated, "not logged in", {
        fix: "run mazevault login, or set MAZEVAULT_TOKEN to an API key",
      });
    }
    this.#agent ??= new Agent({ connect: { ...(ca !== undefined && { ca }) } });
    const url = new URL(`${server}${path}`);
    for (const [name, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(name, String(value));
    try {
      return await request(url, {
        method: method as "GET",
        dispatcher: this.#agent,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        headers: {
          ...(anonymous || token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      throw unreachable(server, error);
    }
  }

  #refresh(): Promise<boolean> {
    return this.#settings.renew(async (refreshToken) => {
      const received = await this.#once("POST", "/api/v1/auth/refresh", { body: { refreshToken }, anonymous: true });
      return received.status === 200 ? tokensOf(received) : undefined;
    });
  }
}

async function received({ statusCode, headers, body }: Dispatcher.ResponseData): Promise<Received> {
  const bytes = Buffer.from(await body.arrayBuffer());
  return { status: statusCode, headers, bytes, text: bytes.toString("utf8") };
}

export function tokensOf(received: Received): Tokens {
  const { token, refreshToken } = parsed<Tokens>(received);
  return { token, refreshToken };
}

/** @throws CommandError where it is no JSON, so that something else answered */
export function parsed<T>({ text }: Received): T {
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new CommandError(EXIT.unavailable, "what answered is not MazeVault", {
      fix: "look at --server",
      cause: error,
    });
  }
}

const problem = (answer: Received, mend: string): CommandError =>
  toCommandError({ ...problemIn(answer), status: answer.status }, mend);

/** Nothing where something between us and the server answered. */
function problemIn({ text }: Received): ProblemBody {
  try {
    return JSON.parse(text) as ProblemBody;
  } catch {
    return {};
  }
}

/** In bytes, of the line with which an answer ends that could not be finished. */
const LONGEST_PROBLEM = 4_096;

/** The last line says why there are no more: of JSON Lines as it stands, of CSV in its only quoted cell. */
function problemAtEnd(text: string): ProblemBody | undefined {
  const last = text.trimEnd().split("\n").at(-1) ?? "";
  const json = last.startsWith("problem,") ? last.slice(last.indexOf('"') + 1, -1).replaceAll('""', '"') : last;
  if (!json.startsWith('{"type":"problem"')) return undefined;
  try {
    return (JSON.parse(json) as { readonly problem: ProblemBody }).problem;
  } catch {
    return undefined;
  }
}

function toCommandError(body: ProblemBody, mend: string): CommandError {
  const { status = 500 } = body;
  const fields = (body.errors ?? []).map(({ field, message }) => `\n  ${field}: ${message}`).join("");
  const id = status >= 500 && body.requestId !== undefined ? ` (request ${body.requestId})` : "";
  return new CommandError(
    exitCodes[status] ?? EXIT.unavailable,
    `${body.detail ?? `the server answered ${status}`}${id}${fields}`,
    status === 401 ? { fix: mend } : {},
  );
}

const PROBE =
  "look at it from there: kubectl -n mazevault-system get pods,endpoints; mazevault doctor --kubeconfig FILE";
const NAME_CA = "name the CA with --ca-file or MAZEVAULT_CA_FILE";
const UNKNOWN_CA = ["its certificate is of an unknown CA", NAME_CA] as const;

/** Said so that a person knows where to look. */
const unreached: Readonly<Record<string, readonly [problem: string, fix: string]>> = {
  ECONNREFUSED: ["nothing listens there", `look at --server, and whether rest.certFile switched REST on; ${PROBE}`],
  ECONNRESET: ["it ended the connection", PROBE],
  UND_ERR_SOCKET: ["it ended the connection", PROBE],
  ENOTFOUND: ["there is no such host", "correct --server or MAZEVAULT_SERVER, or the DNS entry"],
  EAI_AGAIN: ["the host's name cannot be resolved at the moment", "look at the DNS servers of this machine"],
  UND_ERR_HEADERS_TIMEOUT: ["it does not answer", PROBE],
  UND_ERR_BODY_TIMEOUT: ["it does not answer", PROBE],
  UND_ERR_CONNECT_TIMEOUT: [
    "it cannot be reached in time",
    `look for a firewall or network policy in between; ${PROBE}`,
  ],
  CERT_HAS_EXPIRED: [
    "its certificate has expired",
    "write a renewed one to rest.certFile and rest.keyFile of the operator; it is taken up within 10 s",
  ],
  CERT_NOT_YET_VALID: ["its certificate is not valid yet", "look at the clock of this machine: timedatectl"],
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_CA,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_CA,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_CA,
  ERR_TLS_CERT_ALTNAME_INVALID: [
    "its certificate is for another host",
    "use the name that stands in it as --server, or give the operator a certificate for this one",
  ],
  INVALID_PURPOSE: [
    "its certificate is not one of a server",
    "give the operator a certificate with extended key usage serverAuth (rest.certFile)",
  ],
  EPROTO: ["what listens there does not speak TLS", "look at the port: REST is on rest.port, 8443 unless said"],
  ERR_SSL_WRONG_VERSION_NUMBER: [
    "what listens there does not speak TLS",
    "look at the port: REST is on rest.port, 8443 unless said",
  ],
};

function unreachable(server: string, error: unknown): CommandError {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  const [problem, fix] = unreached[code] ?? [code || message, PROBE];
  return new CommandError(EXIT.unavailable, `${server}: ${problem}`, { fix, cause: error });
}
