/** Both ends of the channel over real sockets and real TLS, also through a proxy that ends the outer one. */

import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server } from "node:net";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { jest } from "@jest/globals";
import { WebSocket } from "ws";
import { CHANNEL_HOST, CHANNEL_PATH, CHANNEL_PROTOCOL } from "../../core/fleet/protocol.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { until as pollUntil } from "../../lab/poll.ts";
import { type Channel, type ChannelOptions, openChannel } from "./client.ts";
import { type ChannelLimits, ChannelServer, type ChannelServerParts, type Judgement } from "./server.ts";
import type { ChannelCredentials, ChannelHandler, ChannelRequest } from "./server-session.ts";
import { type Identity, TestFleet, TestPrimary } from "./testing/primary.ts";
import { TerminatingProxy } from "./testing/proxy.ts";
import type { PrimaryTrust } from "./trust.ts";
import { WebSocketStream } from "./web-socket-stream.ts";

const until = (what: string, holds: () => boolean): Promise<boolean> => pollUntil(what, holds, { timeoutMs: 30_000 });
const DAY_MS = 86_400_000;
const past = { notBefore: new Date(Date.now() - 3 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) };

let fleet: TestFleet;
let foreign: TestFleet;
let outer: { readonly cert: string; readonly key: string };
let replica: ChannelCredentials;
let gateway: Identity;
let root: PrimaryTrust;
let fingerprint: PrimaryTrust;

/** To the log, above `debug`. */
const told: object[] = [];
const tell = (fields: object) => void told.push(fields);
const log = { debug: () => {}, warn: tell, error: tell };
const channels: Channel[] = [];
const primaries: TestPrimary[] = [];
const proxies: TerminatingProxy[] = [];
const servers: Server[] = [];

const fingerprintOf = (pem: string): PrimaryTrust => {
  const { spki } = parseCertificate(new X509Certificate(pem).raw);
  return { kind: "Fingerprint", sha256OfRootSpki: createHash("sha256").update(spki).digest() };
};

beforeAll(async () => {
  fleet = await TestFleet.make();
  foreign = await TestFleet.make();
  outer = await fleet.outer();
  replica = await fleet.replica();
  gateway = await fleet.identity("gw-npr");
  root = { kind: "Root", pem: fleet.root };
  fingerprint = fingerprintOf(fleet.root);
});

afterEach(async () => {
  told.length = 0;
  for (const channel of channels.splice(0)) channel.close();
  await Promise.all(primaries.splice(0).map((primary) => primary.kill()));
  await Promise.all(proxies.splice(0).map((proxy) => proxy.close()));
  for (const server of servers.splice(0)) server.close();
});

afterAll(() => {
  fleet.dispose();
  foreign.dispose();
});

/** Answers what it was asked. */
const echo: ChannelHandler = async ({ method, path, json, peer }) => ({
  status: 200,
  body: { method, path, body: await json(), peer: peer?.toString("base64") },
});

async function serve(
  handler: ChannelHandler = echo,
  { judge, ...limits }: Partial<ChannelLimits> & Pick<ChannelServerParts, "judge"> = {},
  credentials: () => ChannelCredentials | undefined = () => replica,
): Promise<{ readonly url: string; readonly primary: TestPrimary }> {
  const primary = new TestPrimary(
    outer,
    new ChannelServer({ credentials, handler, limits, log, ...(judge && { judge }) }),
  );
  primaries.push(primary);
  return { url: await primary.listen(), primary };
}

async function intercept(primary: TestPrimary): Promise<{ readonly url: string; readonly proxy: TerminatingProxy }> {
  const proxy = new TerminatingProxy(await foreign.outer(), primary.port);
  proxies.push(proxy);
  return { url: await proxy.listen(), proxy };
}

async function open(url: string, change: Partial<ChannelOptions> = {}): Promise<Channel> {
  const channel = await openChannel({ url, trust: root, client: gateway, ...change });
  channels.push(channel);
  return channel;
}

const stranger = (url: string): Promise<Channel> =>
  openChannel({ url, trust: fingerprint }).then((channel) => {
    channels.push(channel);
    return channel;
  });

describe("requests", () => {
  test("are served at once in one session, each with the certificate of the peer", async () => {
    const waiting: (() => void)[] = [];
    const { url, primary } = await serve(async (request) => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        if (waiting.length === 20) for (const go of waiting) go();
      });
      return echo(request);
    });
    const channel = await open(url);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => channel.request("POST", `/fleet/v1/${n}`, { n })),
    );
    const peer = new X509Certificate(gateway.certificates).raw.toString("base64");
    expect(answers).toEqual(
      answers.map((_, n) => ({
        status: 200,
        body: { method: "POST", path: `/fleet/v1/${n}`, body: { n }, peer },
        retryAfterMs: undefined,
      })),
    );
    expect(primary.channel.size).toBe(1);
  });

  test("twenty megabytes go through unchanged, in both directions", async () => {
    const content = randomBytes(750_000).toString("base64");
    const { url } = await serve(async ({ method, json }) => ({
      status: 200,
      body:
        method === "GET"
          ? { content: content.repeat(20) }
          : { same: ((await json()) as { content: string }).content === content },
    }));
    const channel = await open(url);
    const { body } = await channel.request("GET", "/");
    expect((body as { content: string }).content === content.repeat(20)).toBe(true);
    const up = await Promise.all(Array.from({ length: 20 }, () => channel.request("POST", "/", { content })));
    expect(up.map(({ body }) => (body as { same: boolean }).same)).toEqual(up.map(() => true));
  });

  test("bodies are bounded and must be JSON, and the session goes on", async () => {
    const { url } = await serve();
    const channel = await open(url);
    const tooLarge = await channel.request("POST", "/", { content: "x".repeat(3_000_000) });
    expect(tooLarge).toMatchObject({ status: 413, body: { code: "BodyTooLarge" } });
    const socket = await innerTls(url, { key: gateway.key, cert: gateway.certificates });
    expect(await rawPost(socket, '{"a":')).toContain("InvalidRequest");
    expect(await channel.request("DELETE", "/x")).toMatchObject({ status: 200, body: { method: "DELETE" } });
    expect(told).toEqual([]);
  });

  test("an early answer does not wait for a body that nobody reads", async () => {
    const { url } = await serve(async () => ({ status: 401, body: { code: "No" } }));
    const channel = await open(url);
    const answer = await channel.request("POST", "/", { content: "x".repeat(3_000_000) });
    expect(answer).toMatchObject({ status: 401, body: { code: "No" } });
    expect(await channel.request("GET", "/")).toMatchObject({ status: 401 });
  });

  test("an error of the handler is told without its message", async () => {
    const { url } = await serve(async () => {
      throw new Error("canary");
    });
    const answer = await (await open(url)).request("GET", "/");
    expect(answer).toMatchObject({ status: 500, body: { code: "InternalError" } });
    expect(JSON.stringify(answer)).not.toContain("canary");
    expect(told).toHaveLength(1);
  });

  test("who gives up is not served any more", async () => {
    const served = Promise.withResolvers<ChannelRequest>();
    const { url } = await serve(async (request) => {
      served.resolve(request);
      await new Promise(() => {});
      return { status: 204 };
    });
    const channel = await open(url);
    const abort = new AbortController();
    const asked = channel.request("GET", "/", undefined, { signal: abort.signal });
    const { signal } = await served.promise;
    const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
    abort.abort(new Error("given up"));
    await expect(asked).rejects.toThrow("given up");
    await aborted;
    await expect(channel.request("GET", "/", undefined, { timeoutMs: 1 })).rejects.toMatchObject({ code: "TimedOut" });
  });
});

describe("who is let in", () => {
  test("a client without a certificate, as a stranger", async () => {
    const { url } = await serve();
    const answer = await (await stranger(url)).request("POST", "/fleet/v1/registration", {});
    expect(answer.body).toEqual({ method: "POST", path: "/fleet/v1/registration", body: {} });
  });

  test.each([
    ["of another CA", async () => ({ ...(await foreign.identity("gw-npr")) })],
    ["that has expired", () => fleet.identity("gw-old", { validity: past })],
    ["for servers", () => fleet.identity("gw-server", { usage: "server" })],
  ])("nobody with a certificate %s", async (_case, identity) => {
    const handler = jest.fn(echo);
    const { url } = await serve(handler);
    await expect(open(url, { client: await identity() })).rejects.toMatchObject({ code: "CertificateRefused" });
    expect(handler).not.toHaveBeenCalled();
  });

  test("nobody whose certificate is refused, who then ends nobody's session", async () => {
    const stolen = await fleet.identity("gw-npr", { validity: { ...past, notAfter: new Date(Date.now() + DAY_MS) } });
    const refused = new X509Certificate(stolen.certificates).raw;
    const judge = (certificate: Buffer): Judgement =>
      certificate.equals(refused) ? { kind: "Refused", reason: "GatewayRevoked" } : { kind: "Admitted" };
    const { url } = await serve(echo, { perSubject: 1, judge });
    const channel = await open(url);
    const other = await open(url, { client: stolen });
    expect(await other.closed).toMatchObject({ reason: "GatewayRevoked" });
    await expect(other.request("GET", "/")).rejects.toMatchObject({ reason: "GatewayRevoked" });
    expect(await channel.request("GET", "/")).toMatchObject({ status: 200 });
  });

  test("a certificate that ends during the session ends it", async () => {
    const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
    const { url } = await serve();
    const channel = await open(url, { client: await fleet.identity("gw-short", { validity }) });
    const now = jest.spyOn(Date, "now").mockReturnValue(Date.now() + 2 * DAY_MS);
    try {
      const answer = await channel.request("GET", "/");
      expect(answer).toMatchObject({ status: 401, body: { code: "CertificateExpired" } });
    } finally {
      now.mockRestore();
    }
    expect(await channel.closed).toMatchObject({ code: "Closed", reason: "CertificateExpired" });
  });

  test("TLS 1.2 and resumption are refused inside", async () => {
    const { url } = await serve();
    await expect(innerTls(url, { maxVersion: "TLSv1.2", minVersion: "TLSv1.2" })).rejects.toThrow();
    const first = await innerTls(url, {});
    const ticket = await new Promise<Buffer>((resolve) => first.once("session", resolve));
    const second = await innerTls(url, { session: ticket });
    expect(second.isSessionReused()).toBe(false);
  });
});

describe("the primary is known before anything is sent", () => {
  test.each([
    ["another root by fingerprint", () => fingerprintOf(foreign.root), () => fleet.replica(), "PrimaryNotTrusted"],
    [
      "another root",
      (): PrimaryTrust => ({ kind: "Root", pem: foreign.root }),
      () => fleet.replica(),
      "PrimaryNotTrusted",
    ],
    [
      "the right root beside a certificate of another",
      () => fingerprint,
      async () => {
        const { key, certificates, root } = await foreign.replica();
        return { key, certificates: certificates + fleet.root, root };
      },
      "PrimaryNotTrusted",
    ],
    ["an expired certificate", () => root, () => fleet.replica("old", { validity: past }), "InnerTlsFailed"],
    [
      "another name",
      () => fingerprint,
      () => fleet.replica("other", { dnsNames: ["other.internal"] }),
      "InnerTlsFailed",
    ],
    ["a certificate for clients", () => fingerprint, () => fleet.replica("c", { usage: "client" }), "InnerTlsFailed"],
  ])("%s", async (_case, trust, credentials, code) => {
    const handler = jest.fn(echo);
    const shown = await credentials();
    const { url, primary } = await serve(handler, {}, () => shown);
    const { url: through, proxy } = await intercept(primary);
    await expect(openChannel({ url: through, trust: trust() })).rejects.toMatchObject({ code });
    await expect(openChannel({ url, trust: trust(), client: gateway })).rejects.toMatchObject({ code });
    expect(handler).not.toHaveBeenCalled();
    expect(proxy.seen.toString("latin1")).toContain(CHANNEL_PATH);
  });
});

describe("a proxy that ends the outer TLS", () => {
  const canary = `mvg1.${randomBytes(32).toString("base64url")}.${randomBytes(32).toString("base64url")}`;

  test("sees neither token nor content", async () => {
    const { primary } = await serve();
    const { url, proxy } = await intercept(primary);
    const channel = await stranger(url);
    const { body } = await channel.request("POST", "/fleet/v1/registration", { token: canary });
    expect(body).toMatchObject({ body: { token: canary } });
    // That it would be found is shown by what the proxy may see: the outer request, and the inner handshake's server name.
    expect(proxy.seen.includes(CHANNEL_PROTOCOL)).toBe(true);
    expect(proxy.seen.includes(CHANNEL_HOST)).toBe(true);
    for (const secret of [canary, canary.slice(5, 40), "registration", "PRI * HTTP/2.0"]) {
      expect(proxy.seen.includes(secret)).toBe(false);
    }
  });

  test("a bit that it flips ends the session instead of changing content", async () => {
    const { primary } = await serve();
    const { url, proxy } = await intercept(primary);
    const channel = await open(url);
    await channel.request("GET", "/");
    proxy.flip();
    const failure = await channel.request("POST", "/", { token: canary }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "Closed" });
    expect(String((failure as Error).stack)).not.toContain(canary);
    expect(await channel.closed).toMatchObject({ code: "Closed" });
    await until("the primary has noticed", () => primary.channel.size === 0);
  });

  test("when it falls silent, both ends notice by their pings", async () => {
    const { primary } = await serve(echo, { pingEveryMs: 50, deadAfterMs: 300 });
    const { url, proxy } = await intercept(primary);
    const channel = await open(url, { limits: { pingEveryMs: 50, deadAfterMs: 300 } });
    proxy.stall();
    const asked = channel.request("GET", "/");
    await expect(asked).rejects.toMatchObject({ code: "Closed" });
    expect(await channel.closed).toMatchObject({ code: "Closed" });
    await until("the primary has noticed", () => primary.channel.size === 0);
  });
});

describe("ends", () => {
  test("a primary that is killed: what is under way fails and the end is told", async () => {
    const served = Promise.withResolvers<void>();
    const { url, primary } = await serve(async () => {
      served.resolve();
      await new Promise(() => {});
      return { status: 204 };
    });
    const channel = await open(url);
    const asked = channel.request("GET", "/");
    asked.catch(() => {});
    await served.promise;
    await primary.kill();
    await expect(asked).rejects.toMatchObject({ code: "Closed" });
    expect(await channel.closed).toMatchObject({ code: "Closed", reason: undefined });
    await expect(channel.request("GET", "/")).rejects.toMatchObject({ code: "Closed" });
    expect(primary.channel.size).toBe(0);
  });

  test("sessions are closed by serial number, with a reason, and no others", async () => {
    const aborted = Promise.withResolvers<unknown>();
    const served = Promise.withResolvers<void>();
    const { url, primary } = await serve(async (request) => {
      if (request.path !== "/wait") return echo(request);
      request.signal.addEventListener("abort", aborted.resolve);
      served.resolve();
      await new Promise(() => {});
      return { status: 204 };
    });
    const revoked = await open(url);
    const other = await open(url, { client: await fleet.identity("gw-pro") });
    const asked = revoked.request("GET", "/wait");
    asked.catch(() => {});
    await served.promise;
    const serial = parseCertificate(new X509Certificate(gateway.certificates).raw).serialNumber.toString("hex");
    primary.channel.closeSessions((serialNumber) => serialNumber === serial, "GatewayRevoked");
    await expect(asked).rejects.toMatchObject({ code: "Closed", reason: "GatewayRevoked" });
    expect(await revoked.closed).toMatchObject({ code: "Closed", reason: "GatewayRevoked" });
    await aborted.promise;
    expect(await other.request("GET", "/")).toMatchObject({ status: 200 });
    await until("one is left", () => primary.channel.size === 1);
  });

  test("an answer may end the session", async () => {
    const { url } = await serve(async () => ({
      status: 403,
      body: { code: "GatewayRevoked" },
      endsSession: "GatewayRevoked",
    }));
    const channel = await open(url);
    expect(await channel.request("GET", "/")).toMatchObject({ status: 403, body: { code: "GatewayRevoked" } });
    expect(await channel.closed).toMatchObject({ reason: "GatewayRevoked" });
  });

  test("a third session of a gateway takes the place of the first", async () => {
    const { url, primary } = await serve();
    const sessions = [await open(url), await open(url), await open(url)];
    expect(await sessions[0]?.closed).toMatchObject({ reason: "Superseded" });
    for (const session of sessions.slice(1)) expect(await session.request("GET", "/")).toMatchObject({ status: 200 });
    await until("two are left", () => primary.channel.size === 2);
  });

  test("one that may not be admitted takes nobody's place, and gives way first", async () => {
    let kind: "Admitted" | "Undecided" = "Admitted";
    const { url } = await serve(echo, { judge: () => ({ kind }) });
    const admitted = await open(url);
    kind = "Undecided";
    const undecided = await open(url);
    expect(await undecided.request("GET", "/")).toMatchObject({ status: 200 });
    expect(await (await open(url)).closed).toMatchObject({ reason: "TooManySessions" });
    kind = "Admitted";
    const second = await open(url);
    expect(await undecided.closed).toMatchObject({ reason: "Superseded" });
    for (const session of [admitted, second]) expect(await session.request("GET", "/")).toMatchObject({ status: 200 });
  });

  test("closing answers what is under way and takes no more", async () => {
    const served = Promise.withResolvers<void>();
    const proceed = Promise.withResolvers<void>();
    const { url, primary } = await serve(async () => {
      served.resolve();
      await proceed.promise;
      return { status: 200, body: "late" };
    });
    const channel = await open(url);
    const asked = channel.request("GET", "/");
    await served.promise;
    const closing = primary.channel.close();
    expect(await channel.closed).toMatchObject({ reason: "ShuttingDown" });
    await expect(channel.request("GET", "/")).rejects.toMatchObject({ reason: "ShuttingDown" });
    await expect(open(url)).rejects.toMatchObject({ code: "PrimaryBusy", status: 503 });
    proceed.resolve();
    expect(await asked).toMatchObject({ body: "late" });
    await closing;
    expect(primary.channel.size).toBe(0);
  });

  test("closing does not wait for ever", async () => {
    const served = Promise.withResolvers<void>();
    const { url, primary } = await serve(
      async () => {
        served.resolve();
        await new Promise(() => {});
        return { status: 204 };
      },
      { drainMs: 50 },
    );
    const channel = await open(url);
    const asked = channel.request("GET", "/");
    asked.catch(() => {});
    await served.promise;
    await primary.channel.close();
    await expect(asked).rejects.toMatchObject({ code: "Closed", reason: "ShuttingDown" });
  });

  test("closing from this side is no failure", async () => {
    const { url, primary } = await serve();
    const channel = await open(url);
    channel.close();
    expect(await channel.closed).toBeUndefined();
    await until("the primary has noticed", () => primary.channel.size === 0);
  });
});

describe("bounds", () => {
  test("a handshake that never ends is cut", async () => {
    const { url, primary } = await serve(echo, { handshakeMs: 100 });
    const socket = upgrade(url);
    await new Promise((resolve) => socket.once("close", resolve));
    await until("the primary has forgotten it", () => primary.channel.size === 0);
  });

  test("so is a session that stays without a certificate", async () => {
    const { url } = await serve(echo, { strangerMs: 100 });
    expect(await (await stranger(url)).closed).toMatchObject({ reason: "CertificateRequired" });
  });

  test("without a certificate of its own a replica takes nobody", async () => {
    const { url } = await serve(echo, {}, () => undefined);
    const failure = { code: "PrimaryBusy", status: 503, retryAfterMs: 5_000 };
    await expect(open(url)).rejects.toMatchObject(failure);
  });

  test.each([
    ["in all", { strangers: 1 }],
    ["of one address", { strangersPerAddress: 1 }],
  ])("strangers are counted, %s, and keep no gateway out", async (_case, limits) => {
    const { url, primary } = await serve(echo, limits);
    const first = await stranger(url);
    expect(await (await stranger(url)).closed).toMatchObject({ reason: "TooManySessions" });
    const known = await open(url);
    for (const channel of [first, known]) expect(await channel.request("GET", "/")).toMatchObject({ status: 200 });
    first.close();
    await until("there is room", () => primary.channel.size === 1);
    expect(await (await stranger(url)).request("GET", "/")).toMatchObject({ status: 200 });
  });

  test("of handshakes under way the oldest makes room, and they keep no gateway out", async () => {
    const { url, primary } = await serve(echo, { handshakes: 2, strangers: 1, sessions: 1 });
    const idle: WebSocket[] = [];
    const cut = new Set<WebSocket>();
    for (let n = 0; n < 3; n += 1) {
      const socket = upgrade(url);
      idle.push(socket);
      socket.once("close", () => cut.add(socket));
      await new Promise((resolve) => socket.once("open", resolve));
    }
    await until("the oldest is cut", () => cut.size === 1);
    const known = await open(url);
    await until("the next one is cut", () => cut.size === 2);
    expect([...cut]).toEqual(idle.slice(0, 2));
    expect(await known.request("GET", "/")).toMatchObject({ status: 200 });
    expect(primary.channel.size).toBe(2);
    idle[2]?.terminate();
  });

  test("sessions are counted", async () => {
    const { url, primary } = await serve(echo, { sessions: 1 });
    const channel = await open(url);
    await expect(open(url)).rejects.toMatchObject({ status: 503 });
    channel.close();
    await until("there is room", () => primary.channel.size === 0);
    await open(url);
  });

  test("an upgrade must offer the protocol", async () => {
    const { url } = await serve();
    const socket = new WebSocket(url + CHANNEL_PATH, ["chat"], { rejectUnauthorized: false });
    socket.on("error", () => {});
    const status = await new Promise((resolve) =>
      socket.once("unexpected-response", (_request, { statusCode }) => resolve(statusCode)),
    );
    socket.terminate();
    expect(status).toBe(400);
  });
});

describe("what failed on the way is told", () => {
  const failing = (url: string, change: Partial<ChannelOptions> = {}) =>
    openChannel({ url, trust: fingerprint, ...change }).then(
      () => undefined,
      (error: unknown) => error,
    );

  async function listening(server: Server): Promise<string> {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test("an address that is none", async () => {
    for (const url of ["primary:8443", "http://primary.example.com", "https://user:canary@primary.example.com"]) {
      expect(await failing(url)).toMatchObject({ code: "InvalidUrl", message: expect.not.stringContaining("canary") });
    }
  });

  test("a name that is not found", async () => {
    expect(await failing("https://primary.invalid:8443")).toMatchObject({ code: "NameNotResolved" });
  });

  test("a port where nobody listens", async () => {
    const server = createServer();
    const url = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    expect(await failing(url)).toMatchObject({ code: "ConnectionRefused" });
  });

  test("no TLS", async () => {
    const url = await listening(createServer((socket) => socket.end("SSH-2.0-x\r\n")));
    expect(await failing(url)).toMatchObject({ code: "OuterTlsFailed" });
  });

  test("an outer certificate of another CA than the given one", async () => {
    const { url } = await serve();
    expect(await failing(url, { outerCa: foreign.root })).toMatchObject({ code: "OuterTlsFailed" });
    expect(await failing(url, { outerCa: fleet.root })).toBeUndefined();
  });

  test("no WebSocket", async () => {
    const url = await listening(createHttpsServer(outer, (_request, response) => response.writeHead(404).end()));
    expect(await failing(url)).toMatchObject({ code: "NotAWebSocket", status: 404 });
  });

  test("a WebSocket with something else inside", async () => {
    const { url } = await serve(echo, {}, () => ({ ...replica, key: gateway.key }));
    expect(await failing(url)).toMatchObject({ code: "InnerTlsFailed" });
  });

  test("somebody who never answers", async () => {
    const url = await listening(createServer((socket) => socket.on("error", () => {}).resume()));
    expect(await failing(url, { limits: { openMs: 100 } })).toMatchObject({ code: "TimedOut" });
  });

  test("who does not want it any more", async () => {
    const url = await listening(createServer((socket) => socket.on("error", () => {}).resume()));
    const abort = new AbortController();
    const opening = failing(url, { signal: abort.signal });
    abort.abort(new Error("given up"));
    expect(await opening).toMatchObject({ message: "given up" });
  });
});

function upgrade(url: string): WebSocket {
  const socket = new WebSocket(url + CHANNEL_PATH, CHANNEL_PROTOCOL, { rejectUnauthorized: false });
  socket.on("error", () => {});
  return socket;
}

/** A client that does not keep to our rules. */
async function innerTls(url: string, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = upgrade(url);
  await new Promise((resolve) => socket.once("open", resolve));
  const tls = connect({
    ...options,
    socket: new WebSocketStream(socket),
    servername: CHANNEL_HOST,
    ALPNProtocols: ["h2"],
    rejectUnauthorized: false,
  });
  return new Promise((resolve, reject) => {
    tls.once("secureConnect", () => resolve(tls));
    tls.on("error", reject);
  });
}

/** Sends a body as it is. */
async function rawPost(socket: TLSSocket, body: string): Promise<string> {
  const { connect: connectHttp2 } = await import("node:http2");
  const session = connectHttp2(`https://${CHANNEL_HOST}`, { createConnection: () => socket });
  const stream = session.request({ ":method": "POST", ":path": "/" });
  stream.end(body);
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  session.destroy();
  return text;
}
