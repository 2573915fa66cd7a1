/** The channel as gateways reach it: through the port of REST, with a certificate that the fleet's CA signs. */
import { generateKeyPairSync } from "node:crypto";
import { Agent, request } from "undici";
import { type Channel, openChannel } from "../../adapters/channel/client.ts";
import { TestFleet } from "../../adapters/channel/testing/primary.ts";
import type { PrimaryTrust } from "../../adapters/channel/trust.ts";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import { recordedSpans } from "../../adapters/tracing/testing/recorded.ts";
import { Unavailable } from "../../core/errors.ts";
import { spkiFingerprint } from "../../core/fleet/bootstrap-token.ts";
import { FleetRefused, type MemberRefusalCode } from "../../core/fleet/errors.ts";
import type { Member } from "../../core/fleet/member.ts";
import { CHANNEL_HOST, CHANNEL_PATH } from "../../core/fleet/protocol.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { parseCsr } from "../../core/pki/csr.ts";
import { pem } from "../../core/pki/pem.ts";
import { profileUsages } from "../../core/pki/profile.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import { until } from "../../lab/poll.ts";
import type { Logger } from "../../program/logging.ts";
import { RateLimits } from "../rest/rate-limits.ts";
import { RestServer } from "../rest/server.ts";
import type { Services } from "../rest/services.ts";
import { FleetChannel } from "./channel.ts";
import { UNASKED } from "./testing/unasked.ts";

const beaten = { active: true, environmentEpoch: "1", leaseMs: 20_000, epoch: "1", heartbeatSeconds: 60 };
const beat = { version: "1", problems: [], queueLength: 0, certificateNotAfter: "2026-03-01T12:00:00Z" };
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as Logger;
const refused = async (): Promise<never> => {
  throw new FleetRefused("TokenRefused", "the token is not taken");
};

let outer: { readonly cert: string; readonly key: string };
let pki: TestPki;
let root: AuthorityRecord;
let rootDer: Buffer;
let trust: PrimaryTrust;
let channel: FleetChannel;
let server: RestServer;
let url: string;
let unadmitted: Error | undefined;
let leave: (serialNumber: string, why: MemberRefusalCode) => void;
let sign: () => void;
let recorded: ReturnType<typeof recordedSpans>;
const channels: Channel[] = [];
const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });

const admit = (certificate: Buffer): Member => {
  if (unadmitted !== undefined) throw unadmitted;
  const serialNumber = parseCertificate(certificate).serialNumber.toString("hex");
  return { gatewayId: "id", name: "gw-npr", environment: "NPR", role: "primary", serialNumber };
};

async function issue(uid: string, change: Parameters<TestPki["issue"]>[3]): Promise<Buffer> {
  const { certificate } = await pki.issue(root, uid, 1, change);
  if (certificate === undefined) throw new Error("expected a certificate");
  return certificate;
}

async function serve(perAddress = 1_000): Promise<void> {
  recorded = recordedSpans();
  const signed = Promise.withResolvers<void>();
  sign = signed.resolve;
  channel = new FleetChannel({
    services: {
      ...UNASKED,
      registrations: { register: refused, confirm: async () => {}, heartbeat: async () => beaten, renew: refused },
    },
    registrations: {
      replicaCertificate: async (csr) => {
        await signed.promise;
        const subjectAltNames = [{ kind: "dns", value: CHANNEL_HOST } as const];
        return [await issue("replica", { subjectAltNames, key: { spki: parseCsr(csr).spki } }), rootDer];
      },
    },
    admission: {
      admit,
      onLeft: (listener) => {
        leave = listener;
        return () => {};
      },
    },
    rateCounters: memoryRateCounters,
    log,
    tracer: recorded.tracer,
  });
  server = new RestServer({
    host: "127.0.0.1",
    port: 0,
    tls: { ...outer, requestCert: false },
    maxConnections: 100,
    services: { version: "test", unready: () => undefined, audit: { append: async () => {} } } as unknown as Services,
    routes: [],
    authenticator: { authenticate: () => Promise.reject(new Error("not asked")) },
    limits: new RateLimits(memoryRateCounters, { perAddress, perSubject: 1_000 }),
    log,
    channel: channel.server,
  });
  url = `https://127.0.0.1:${await server.listen()}`;
}

const open = async (client?: { readonly key: string; readonly certificates: string }): Promise<Channel> => {
  const opened = await openChannel({ url, trust, ...(client && { client }) });
  channels.push(opened);
  return opened;
};

/** As a gateway does that comes a moment too early. */
const eventually = (...client: Parameters<typeof open>): Promise<Channel> =>
  until("the replica has its certificate", () => open(...client), { timeoutMs: 30_000, intervalMs: 10 });

async function gateway(): Promise<{ readonly key: string; readonly certificates: string; readonly serial: string }> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const certificate = await issue("gateway", {
    profile: "Gateway",
    usages: profileUsages("Gateway", { algorithm: "ECDSA", size: 256 }),
    key: { spki: publicKey.export({ type: "spki", format: "der" }) },
  });
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    certificates: pem("CERTIFICATE", certificate) + pem("CERTIFICATE", rootDer),
    serial: parseCertificate(certificate).serialNumber.toString("hex"),
  };
}

beforeAll(async () => {
  const fleet = await TestFleet.make();
  outer = await fleet.outer();
  fleet.dispose();
});
beforeEach(async () => {
  unadmitted = undefined;
  pki = await TestPki.start();
  pki.now = new Date();
  root = await pki.root("fleet");
  rootDer = root.generations[0]?.certificate ?? Buffer.alloc(0);
  trust = { kind: "Fingerprint", sha256OfRootSpki: spkiFingerprint(rootDer) };
  await serve();
});
afterEach(async () => {
  for (const each of channels.splice(0)) each.close();
  sign();
  await server.close();
  await channel.stop();
});
afterAll(() => dispatcher.destroy());

test("a replica without a certificate asks to come again, and takes gateways once it has one", async () => {
  await expect(open()).rejects.toMatchObject({ code: "PrimaryBusy", status: 503, retryAfterMs: 5_000 });
  sign();
  const stranger = await eventually();
  expect(await stranger.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({
    status: 401,
    body: { code: "CertificateRequired" },
  });
  const token = { token: "t", csr: "c", environment: "NPR", role: "primary", version: "1" };
  expect(await stranger.request("POST", "/fleet/v1/registration", token)).toMatchObject({
    status: 403,
    body: { code: "TokenRefused" },
  });
  const known = await open(await gateway());
  expect(await known.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({ status: 200, body: beaten });
  expect(await known.request("POST", "/fleet/v1/confirmation", {})).toMatchObject({ status: 204, body: undefined });
});

test("what a gateway asks for within a trace is part of it, and nothing else is traced", async () => {
  sign();
  const known = await eventually(await gateway());
  await known.request("POST", "/fleet/v1/heartbeat", beat);
  const context = `${"a".repeat(32)}-${"b".repeat(16)}`;
  await known.request("POST", "/fleet/v1/heartbeat", beat, { traceParent: `00-${context}-01` });
  await known.request("POST", `/fleet/v1/${"x".repeat(9)}`, beat, { traceParent: `00-${context}-01` });
  const [answered, unknown] = recorded.spans;
  expect(recorded.spans.map(({ name }) => name)).toEqual(["gateway /fleet/v1/heartbeat", "gateway none"]);
  expect(answered?.parentSpanContext).toMatchObject({ traceId: "a".repeat(32), spanId: "b".repeat(16) });
  expect(answered?.attributes).toMatchObject({ "http.response.status_code": 200 });
  expect(unknown?.attributes).toMatchObject({ "http.response.status_code": 404 });
});

const refusals: MemberRefusalCode[] = ["GatewayRevoked", "CertificateUnknown", "CertificateExpired"];

test.each(refusals)("one that left by %s loses its session, and gets no other", async (code) => {
  sign();
  const client = await gateway();
  const session = await eventually(client);
  leave("00", "GatewayRevoked");
  expect(await session.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({ status: 200 });
  leave(client.serial, code);
  expect(await session.closed).toMatchObject({ reason: code });
  unadmitted = new FleetRefused(code, "refused");
  const other = await open(client);
  expect(await other.closed).toMatchObject({ reason: code });
});

test.each(refusals)("one that is refused by %s at a request is told, and its session ends", async (code) => {
  sign();
  const session = await eventually(await gateway());
  unadmitted = new FleetRefused(code, "refused");
  expect(await session.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({
    status: code === "CertificateExpired" ? 401 : 403,
    body: { code },
  });
  expect(await session.closed).toMatchObject({ reason: code });
});

test("while it is not known who is admitted sessions stay, and are answered so", async () => {
  sign();
  unadmitted = new Unavailable("FleetStateStale", "stale");
  const session = await eventually(await gateway());
  const stale = await session.request("POST", "/fleet/v1/heartbeat", beat);
  expect(stale).toMatchObject({ status: 503, body: { code: "FleetStateStale" }, retryAfterMs: 1_000 });
  unadmitted = undefined;
  expect(await session.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({ status: 200 });
});

test("while it is not known who is admitted nobody takes the place of a session", async () => {
  sign();
  const client = await gateway();
  const sessions = [await eventually(client), await open(client)];
  unadmitted = new Unavailable("FleetStateStale", "stale");
  expect(await (await open(client)).closed).toMatchObject({ reason: "TooManySessions" });
  unadmitted = undefined;
  for (const session of sessions) {
    expect(await session.request("POST", "/fleet/v1/heartbeat", beat)).toMatchObject({ status: 200 });
  }
});

test("the path is nothing else, other upgrades are answered as requests, and the end of REST ends sessions", async () => {
  sign();
  const session = await eventually();
  const plain = await request(url + CHANNEL_PATH, { dispatcher });
  expect([plain.statusCode, await plain.body.json()]).toMatchObject([404, { code: "RouteNotFound" }]);
  const elsewhere = openChannel({ url: `${url}/elsewhere`, trust });
  await expect(elsewhere).rejects.toMatchObject({ code: "NotAWebSocket", status: 404 });
  await server.close();
  expect(await session.closed).toMatchObject({ reason: "ShuttingDown" });
});

test("upgrades count as requests of their address", async () => {
  sign();
  await server.close();
  await channel.stop();
  await serve(1);
  sign();
  const opened = Array.from({ length: 11 }, () => open());
  const failures = (await Promise.allSettled(opened)).flatMap((each) =>
    each.status === "rejected" ? [each.reason as unknown] : [],
  );
  expect(failures).toContainEqual(
    expect.objectContaining({ code: "PrimaryBusy", status: 429, retryAfterMs: expect.any(Number) }),
  );
});
