/** What every route has from the server, over real TLS, with routes of its own and stores in memory. */
import { createPrivateKey } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Agent, request } from "undici";
import { z } from "zod";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import { recordedSpans } from "../../adapters/tracing/testing/recorded.ts";
import { Client } from "../../cli/client.ts";
import type { Settings } from "../../cli/settings.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import { Unavailable } from "../../core/errors.ts";
import { IdempotentRequests } from "../../core/idempotency/requests.ts";
import { Unauthenticated } from "../../core/identity/errors.ts";
import { TestIdentities } from "../../core/identity/testing/installation.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { signCrl } from "../../core/pki/crl.ts";
import { parsePem, pem } from "../../core/pki/pem.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeRequestStore } from "../../core/ports/fake-request-store.ts";
import { LabPki } from "../../lab/pki.ts";
import { until } from "../../lab/poll.ts";
import { VERSION } from "../../program/version.ts";
import { Authenticator } from "./authenticate.ts";
import { ClientCrl } from "./client-crl.ts";
import { JSON_LINES, problemLine } from "./json-lines.ts";
import { RateLimits } from "./rate-limits.ts";
import { route, takesIdempotencyKey } from "./route.ts";
import { routes as products } from "./routes/index.ts";
import { RestServer } from "./server.ts";
import type { Services } from "./services.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-rest-"));
const alice: Authenticated = {
  subject: { kind: "LocalUser", id: "alice", email: "alice@example.com" },
  via: "Token",
  id: "session",
};
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const answers = { 200: { description: "It." } };

let pki: LabPki;
let server: RestServer;
let url: string;
let audit: FakeAuditLog;
/** What the next request finds. */
let authenticate: () => Promise<Authenticated>;
let granted: boolean;
let serverVersion: string;
let calls: number;
let proceed: () => void;
let proceeding: Promise<void>;
let recorded: ReturnType<typeof recordedSpans>;
/** To the log, at level debug. */
let told: object[];
const agents: Agent[] = [];

async function* endless(): AsyncGenerator<string> {
  for (;;) yield "x".repeat(64 * 1024);
}
const stream = async () => ({ status: 200, stream: { type: "text/plain", pieces: endless() } });

async function* broken(): AsyncGenerator<string> {
  for (let n = 1; n <= 3; n++) yield `${JSON.stringify({ type: "row", n })}\n`;
  throw new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
}

const routes = [
  route({
    id: "breaks",
    method: "get",
    path: "/breaks",
    tag: "t",
    summary: "s",
    access: { kind: "Anyone" },
    answers,
    handle: async () => ({ status: 200, stream: { type: JSON_LINES, pieces: broken(), told: problemLine } }),
  }),
  route({
    id: "mine",
    method: "get",
    path: "/mine",
    tag: "t",
    summary: "s",
    access: { kind: "Authenticated" },
    answers,
    handle: stream,
  }),
  route({
    id: "granted",
    method: "get",
    path: "/granted",
    tag: "t",
    summary: "s",
    access: { kind: "Allowed", verb: "read", target: () => ({ kind: "Secret", namespace: "shop", name: "mail" }) },
    answers,
    handle: stream,
  }),
  route({
    id: "change",
    method: "post",
    path: "/change",
    tag: "t",
    summary: "s",
    body: z.strictObject({ value: z.string() }),
    access: { kind: "Allowed", verb: "write", target: () => ({ kind: "Secret", namespace: "shop", name: "mail" }) },
    answers,
    handle: async ({ announce, signal }) => {
      calls += 1;
      await announce("Change", { kind: "Secret", namespace: "shop", name: "mail" });
      await proceeding;
      signal.throwIfAborted();
      return { status: 200, body: { call: calls }, headers: { etag: `"${calls}"` } };
    },
  }),
  route({
    id: "me",
    method: "get",
    path: "/api/v1/auth/me",
    tag: "t",
    summary: "s",
    access: { kind: "Anyone" },
    answers,
    handle: async () => ({ status: 200, body: {} }),
  }),
  route({
    id: "health",
    method: "get",
    path: "/api/v1/health",
    tag: "t",
    summary: "s",
    access: { kind: "Anyone" },
    answers,
    handle: async () => ({ status: 200, body: { status: "ok", version: serverVersion } }),
  }),
  route({
    id: "board",
    method: "get",
    path: "/board",
    tag: "t",
    summary: "s",
    access: { kind: "Optional" },
    answers,
    handle: async ({ may }) => ({ status: 200, body: { all: may("list", { kind: "Gateway" }).allowed } }),
  }),
  route({
    id: "whence",
    method: "get",
    path: "/whence",
    tag: "t",
    summary: "s",
    access: { kind: "Anyone" },
    answers,
    handle: async ({ from }) => ({ status: 200, body: from.address }),
  }),
  route({
    id: "whoAmI",
    method: "get",
    path: "/me",
    tag: "t",
    summary: "s",
    access: { kind: "Authenticated" },
    answers,
    handle: async ({ who }) => ({ status: 200, body: who.subject }),
  }),
];

beforeAll(async () => {
  pki = await LabPki.open(path.join(dir, "pki"));
});
afterAll(() => rmSync(dir, { recursive: true }));

beforeEach(async () => {
  const installation = await TestIdentities.start();
  const { database, keys } = installation;
  audit = new FakeAuditLog(database);
  [authenticate, granted, calls, proceeding] = [async () => alice, true, 0, Promise.resolve()];
  serverVersion = VERSION;
  const store = new FakeRequestStore(database);
  const services = {
    version: "test",
    audit,
    unready: () => undefined,
    idempotency: new IdempotentRequests({ store, keys, onLost: () => {} }),
    policies: { decide: () => ({ allowed: granted, reason: "a grant" }), grantsNothing: () => false },
  } as unknown as Services;
  await serve(services, { authenticate: () => authenticate() });
});
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.destroy();
  await server.close();
});

async function serve(services: Services, authenticator: Pick<Authenticator, "authenticate">): Promise<void> {
  recorded = recordedSpans();
  told = [];
  const { certFile, keyFile } = await pki.issue("rest", { commonName: "rest", usage: "server" });
  server = new RestServer({
    // Clients come as they do where IPv4 and IPv6 are listened on.
    host: "::ffff:127.0.0.1",
    port: 0,
    tls: { cert: readFileSync(certFile), key: readFileSync(keyFile), ca: readFileSync(pki.caFile), requestCert: true },
    maxConnections: 100,
    services,
    routes,
    authenticator,
    limits: new RateLimits(memoryRateCounters, { perAddress: 1_000, perSubject: 1_000 }),
    log: { ...log, debug: (fields: object) => void told.push(fields) },
    tracer: recorded.tracer,
  });
  url = `https://127.0.0.1:${await server.listen()}`;
}

function client(files: { certFile?: string; keyFile?: string } = {}) {
  const { certFile, keyFile } = files;
  const agent = new Agent({
    connect: {
      ca: readFileSync(pki.caFile),
      ...(certFile !== undefined && { cert: readFileSync(certFile) }),
      ...(keyFile !== undefined && { key: readFileSync(keyFile) }),
    },
  });
  agents.push(agent);
  return agent;
}

const soon = (what: string, holds: () => boolean | Promise<boolean>) =>
  until(what, holds, { timeoutMs: 20_000, intervalMs: 10 });
const denied = async () =>
  (await audit.read({}, undefined, 100))
    .filter(({ entry }) => entry.action === "AccessDenied")
    .map(({ entry }) => entry);

describe("a long answer", () => {
  test("ends with the session, also when nobody reads it at that time", async () => {
    const { statusCode, body } = await request(`${url}/mine`, { dispatcher: client() });
    expect(statusCode).toBe(200);
    authenticate = async () => {
      throw new Unauthenticated();
    };
    await soon("it is on record", async () => (await denied()).length > 0);
    await expect(body.text()).rejects.toThrow();
    expect(await denied()).toEqual([
      expect.objectContaining({
        subject: { kind: "Session", id: "session", name: "LocalUser alice@example.com" },
        details: expect.objectContaining({ route: "mine", reason: "the credentials ended while the answer was sent" }),
      }),
    ]);
  });

  test("ends with the grant", async () => {
    const { statusCode, body } = await request(`${url}/granted`, { dispatcher: client() });
    expect(statusCode).toBe(200);
    granted = false;
    await expect(body.text()).rejects.toThrow();
    expect(await denied()).toEqual([expect.objectContaining({ details: expect.objectContaining({ verb: "read" }) })]);
  });
});

test("a client of IPv4 is known by the address that it has there", async () => {
  const { body } = await request(`${url}/whence`, { dispatcher: client() });
  expect(await body.json()).toBe("127.0.0.1");
});

describe("a route where credentials are optional", () => {
  const board = async (headers: Record<string, string> = {}, files: Parameters<typeof client>[0] = {}) => {
    const { statusCode, body } = await request(`${url}/board`, { dispatcher: client(files), headers });
    return [statusCode, (await body.json()) as { all?: boolean }] as const;
  };

  test("answers without them, and allows nothing then", async () => {
    authenticate = async () => {
      throw new Error("nobody wants to be known");
    };
    expect(await board()).toEqual([200, { all: false }]);
  });

  test("asks for a grant with them, by whatever they are brought", async () => {
    const credentials = { authorization: "Bearer t" };
    expect(await board(credentials)).toEqual([200, { all: true }]);
    granted = false;
    expect(await board(credentials)).toEqual([200, { all: false }]);
    granted = true;
    expect(await board({}, await pki.issue("client", { commonName: "client", usage: "client" }))).toEqual([
      200,
      { all: true },
    ]);
  });

  test("refuses wrong ones", async () => {
    authenticate = async () => {
      throw new Unauthenticated();
    };
    expect(await board({ authorization: "Bearer t" })).toMatchObject([401, { code: "Unauthenticated" }]);
  });
});

describe("a long answer that cannot be finished", () => {
  test("says why in its last line, and the connection breaks off", async () => {
    const { statusCode, headers, body } = await request(`${url}/breaks`, { dispatcher: client() });
    expect(statusCode).toBe(200);
    let text = "";
    const all = async () => {
      for await (const piece of body) text += String(piece);
    };
    await expect(all()).rejects.toThrow();
    const lines = text.trimEnd().split("\n");
    expect(lines.slice(0, -1)).toEqual([1, 2, 3].map((n) => JSON.stringify({ type: "row", n })));
    expect(JSON.parse(lines.at(-1) ?? "")).toEqual({
      type: "problem",
      problem: expect.objectContaining({
        status: 503,
        code: "DatabaseUnavailable",
        detail: "PostgreSQL does not answer",
        requestId: headers["x-request-id"],
      }),
    });
  });

  test("is taken by the command line for what it says", async () => {
    const settings = { server: url, ca: readFileSync(pki.caFile, "utf8"), token: "t" } as unknown as Settings;
    const cli = new Client(settings);
    const { pieces } = await cli.stream("GET", "/breaks");
    const all = async () => {
      for await (const _ of pieces);
    };
    const message = expect.stringMatching(/^PostgreSQL does not answer \(request [\w-]+\)$/);
    await expect(all()).rejects.toMatchObject({ name: "CommandError", exitCode: 1, message });
    await cli.close();
  });
});

describe("the command line at a server that does not know what it asks for", () => {
  const asked = async (path: string, body?: object): Promise<unknown> => {
    const settings = { server: url, ca: readFileSync(pki.caFile, "utf8"), token: "t" } as unknown as Settings;
    const cli = new Client(settings);
    try {
      return await (body ? cli.post(path, body) : cli.get(path)).catch((error: unknown) => error);
    } finally {
      await cli.close();
    }
  };
  const later = { value: "a", later: "not known there" };

  test("says so where both are of one version", async () => {
    expect(await asked("/later")).toMatchObject({ exitCode: 5, fix: undefined });
    expect(await asked("/change", later)).toMatchObject({ exitCode: 2, fix: undefined });
  });

  test("names both versions where they differ, and what to do", async () => {
    serverVersion = "0.0.9";
    const fix = `the server is 0.0.9 and this program ${VERSION}: use 0.0.9 of this program, or bring the server to ${VERSION}`;
    expect(await asked("/later")).toMatchObject({ exitCode: 5, fix });
    expect(await asked("/change", later)).toMatchObject({
      exitCode: 2,
      problem: expect.stringContaining("later"),
      fix,
    });
    granted = false;
    expect(await asked("/change", { value: "a" })).toMatchObject({ exitCode: 4, fix: undefined });
  });
});

describe("a change with an idempotency key", () => {
  const change = (key: string | undefined, value = "a", signal?: AbortSignal) =>
    request(`${url}/change`, {
      method: "POST",
      dispatcher: client(),
      headers: { "content-type": "application/json", ...(key !== undefined && { "idempotency-key": key }) },
      body: JSON.stringify({ value }),
      ...(signal && { signal }),
    });

  test("is done once, and its answer given again with all that belongs to it, whatever was granted since", async () => {
    const first = await change('"k"');
    granted = false;
    const again = await change('"k"');
    expect([first.statusCode, await first.body.json()]).toEqual([200, { call: 1 }]);
    expect([again.statusCode, again.headers.etag, await again.body.json()]).toEqual([200, '"1"', { call: 1 }]);
    expect((await change(undefined)).statusCode).toBe(403);
    const other = await change('"k"', "b");
    expect([other.statusCode, await other.body.json()]).toMatchObject([422, { code: "IdempotencyKeyReused" }]);
    expect(calls).toBe(1);
  });

  test("is never answered with a stream, which is not kept", () => {
    const streamed = products.filter(({ answers: each }) => Object.values(each).some(({ type }) => type !== undefined));
    expect(streamed.map(({ id }) => id)).toContain("getCertificateKeystore");
    expect(streamed.filter(takesIdempotencyKey)).toEqual([]);
  });

  test("goes on when its caller has gone, who is told later", async () => {
    ({ promise: proceeding, resolve: proceed } = Promise.withResolvers<void>());
    const gone = new AbortController();
    const sent = change('"k"', "a", gone.signal);
    await soon("it is under way", () => calls === 1);
    const busy = await change('"k"');
    expect([busy.statusCode, busy.headers["retry-after"]]).toEqual([409, "1"]);
    gone.abort();
    await expect(sent).rejects.toThrow();
    proceed();
    await soon("it is answered", async () => (await change('"k"')).statusCode === 200);
    expect(calls).toBe(1);
  });

  test.each(["k", '"', '""', '"a" "b"', '"ä"', `"${"x".repeat(256)}"`])("%s is no key", async (key) => {
    const { statusCode, body } = await change(Buffer.from(key, "utf8").toString("latin1"));
    expect([statusCode, await body.json()]).toMatchObject([400, { errors: [{ field: "header.idempotency-key" }] }]);
    expect(calls).toBe(0);
  });

  test("is refused without a grant, and may be sent again with one", async () => {
    granted = false;
    expect((await change('"\\"k\\\\"')).statusCode).toBe(403);
    granted = true;
    expect((await change('"\\"k\\\\"')).statusCode).toBe(200);
  });
});

describe("a client certificate", () => {
  const crlFile = path.join(dir, "clients.crl");
  async function publish(revoked: readonly string[], validMs = 3_600_000): Promise<void> {
    const ca = certificate(pki.caFile);
    const der = await signCrl(
      {
        issuer: ca.subjectDer,
        authorityKeyIdentifier: ca.subjectKeyIdentifier ?? Buffer.alloc(0),
        number: 1n,
        thisUpdate: new Date(Date.now() - 60_000),
        nextUpdate: new Date(Date.now() + validMs),
        entries: revoked.map((serialNumber) => ({
          serialNumber,
          revocation: { at: new Date(Date.now() - 30_000), reason: "keyCompromise" as const },
        })),
      },
      new LocalSigner(createPrivateKey(readFileSync(pki.caKeyFile))),
    );
    writeFileSync(`${crlFile}.new`, pem("X509 CRL", der));
    renameSync(`${crlFile}.new`, crlFile);
  }
  const certificate = (file: string) =>
    parseCertificate(parsePem(readFileSync(file, "utf8"), "certificate")[0]?.der ?? Buffer.alloc(0));

  test("is refused when the CRL says so, on a connection that is open; without a valid CRL none counts", async () => {
    await publish([]);
    const told: unknown[] = [];
    const warn = (fields: unknown) => told.push(fields);
    const clientCrl = ClientCrl.follow({ clientCaFile: pki.caFile, clientCrlFile: crlFile }, { ...log, warn }, 20);
    const identities = {
      authenticate: () => Promise.reject(new Unauthenticated()),
    };
    const api = { create: () => Promise.reject(new Error("not asked")) };
    const real = new Authenticator({ identities, api, audience: "mazevault", ...(clientCrl && { clientCrl }) });
    await server.close();
    await serve({ version: "test", audit, unready: () => undefined } as unknown as Services, real);
    const [honest, stolen] = await Promise.all(
      ["honest", "stolen"].map(async (name) => {
        const files = await pki.issue(name, { commonName: name, usage: "client" });
        const dispatcher = client(files);
        const status = async () => {
          const { statusCode, body } = await request(`${url}/me`, { dispatcher });
          return { statusCode, code: ((await body.json()) as { code?: string }).code };
        };
        return { status, serial: certificate(files.certFile).serialNumber.toString("hex") };
      }),
    );
    if (honest === undefined || stolen === undefined) throw new Error("expected two clients");
    const is = (one: typeof honest, status: number) => async () => (await one.status()).statusCode === status;
    expect([await is(honest, 200)(), await is(stolen, 200)()]).toEqual([true, true]);
    await publish([stolen.serial]);
    await soon("the stolen one is out", is(stolen, 401));
    expect(await is(honest, 200)()).toBe(true);
    writeFileSync(crlFile, "half of a");
    await soon("it is told", () => told.length > 0);
    expect([await is(honest, 200)(), await is(stolen, 401)()]).toEqual([true, true]);
    await publish([stolen.serial], -1_000);
    await soon("none can be judged", is(honest, 503));
    expect(await honest.status()).toEqual({ statusCode: 503, code: "RevocationUnknown" });
    await publish([stolen.serial]);
    await soon("they can again", is(honest, 200));
    expect(await is(stolen, 401)()).toBe(true);
    clientCrl?.close();
  });

  test.each([
    [{ clientCrlFile: "/nowhere" }, /needs rest.clientCaFile/],
    [{ clientCrlFile: "/nowhere", clientCaFile: "/nowhere" }, /ENOENT/],
  ])("%j says what is missing", (files, message) => {
    expect(() => ClientCrl.follow(files, log)).toThrow(message);
  });
});

test("a request is traced by its route, in the trace that its caller says, whatever comes of it", async () => {
  const dispatcher = client();
  const ask = async (where: string, headers: Readonly<Record<string, string>> = {}) => {
    const { statusCode, body } = await request(`${url}${where}`, { dispatcher, headers });
    await body.text();
    return statusCode;
  };
  expect(await ask("/me?")).toBe(200);
  authenticate = () => Promise.reject(new Unauthenticated({ cause: new Error("the token hunter2 is not taken") }));
  expect(await ask("/me", { traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` })).toBe(401);
  authenticate = () => Promise.reject(new Error("hunter2"));
  expect(await ask("/me", { traceparent: "hunter2" })).toBe(500);
  expect(await ask("/hunter2")).toBe(404);
  const [good, refused, broken, ...more] = recorded.spans;
  expect(more).toEqual([]);
  expect(good?.name).toBe("GET /me");
  expect(good?.attributes).toEqual({
    "http.request.method": "GET",
    "http.route": "/me",
    "mazevault.subject.kind": "LocalUser",
    "http.response.status_code": 200,
  });
  expect(refused?.spanContext().traceId).toBe("a".repeat(32));
  expect(refused?.parentSpanContext?.spanId).toBe("b".repeat(16));
  expect(refused?.attributes).toMatchObject({ "http.response.status_code": 401 });
  expect(refused?.attributes).not.toHaveProperty("error.type");
  expect(broken?.attributes).toMatchObject({ "http.response.status_code": 500, "error.type": "500" });
  await soon("all are told", () => told.length === 4);
  expect(told[1]).toMatchObject({ route: "/me", status: 401, trace_id: "a".repeat(32) });
  expect(told[3]).not.toHaveProperty("trace_id");
});
