import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pino } from "pino";
import { Registry } from "prom-client";
import { recordedSpans } from "../../adapters/tracing/testing/recorded.ts";
import { Fenced, Unavailable } from "../../core/errors.ts";
import type { MembershipStatus } from "../../core/fleet/membership.ts";
import type { BreakerState } from "../../core/ports/primary-link.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { until } from "../../lab/poll.ts";
import { ConfiguredToken } from "./configured-token.ts";
import type { Gateway } from "./gateway.ts";
import { channelNote, followMembership, MembershipChores, registrationNote } from "./membership-chores.ts";
import { gatewayMetrics } from "./metrics.ts";
import { type Channel, type ChannelOptions, primaryChannels } from "./primary-channels.ts";

const TOKEN = `mvg1.${"s".repeat(42)}0.${"f".repeat(42)}0`;
const dir = mkdtempSync(path.join(tmpdir(), "mazevault-token-"));
afterAll(() => rmSync(dir, { recursive: true }));

const CONFIRMED: MembershipStatus = {
  state: "Confirmed",
  identity: { gatewayId: "id", name: "gw-npr-1", environment: "NPR", role: "primary" },
  certificateNotAfter: new Date(Date.now() + 86_400_000),
  channel: "Open",
  active: true,
  fault: undefined,
  heartbeats: { failures: 2, consecutiveFailures: 0, lastAnsweredAt: new Date() },
};
const FAULT = { code: "PrimaryUnreachable", problem: "no answer", fix: "check it" };

const NO_SECRETS = { names: () => false, source: () => "", find: async () => undefined };

describe("the bootstrap token", () => {
  const warnings: string[] = [];
  const log = { warn: (line: string) => warnings.push(line) } as unknown as ConstructorParameters<
    typeof ConfiguredToken
  >[2];

  test("of the environment is gone once it is of no use", async () => {
    const given = new Sensitive(TOKEN);
    const token = new ConfiguredToken({ bootstrapToken: given }, NO_SECRETS, log);
    expect((await token.current("Idle"))?.text.revealText()).toBe(TOKEN);
    token.forget();
    expect(await token.current("Idle")).toBeUndefined();
    expect(given.reveal().every((byte) => byte === 0)).toBe(true);
  });

  test("in a file is read anew; a file that is missing or empty has none, and what is wrong is told once", async () => {
    const file = path.join(dir, "token");
    const token = new ConfiguredToken({ bootstrapTokenFile: file }, NO_SECRETS, log);
    const current = async () => (await token.current("Idle"))?.text.revealText();
    expect(await current()).toBeUndefined();
    writeFileSync(file, `${TOKEN}\n`);
    expect(await current()).toBe(TOKEN);
    writeFileSync(file, "\n");
    expect(await current()).toBeUndefined();
    expect(warnings).toEqual([]);
    writeFileSync(file, "hunter2");
    expect([await current(), await current()]).toEqual([undefined, undefined]);
    expect(warnings.splice(0)).toEqual([
      expect.stringMatching(/^gateway.bootstrapTokenFile: .*holds no bootstrap token/),
    ]);
  });

  test("in a Key Vault is read at the start and while one is needed; what is wrong is told once", async () => {
    const source = "entry token of https://kv.vault.azure.net/ (gateway.bootstrapTokenSecret)";
    let calls = 0;
    let entry: () => string | undefined = () => TOKEN;
    const find = async () => {
      calls += 1;
      const text = entry();
      return text === undefined ? undefined : new Sensitive(text);
    };
    const token = new ConfiguredToken({}, { names: () => true, source: () => source, find }, log);
    const current = async (need: "Urgent" | "Idle") => (await token.current(need))?.text.revealText();
    expect(await current("Idle")).toBe(TOKEN);
    expect([await current("Idle"), calls]).toEqual([TOKEN, 1]);
    token.forget();
    expect([await current("Idle"), calls]).toEqual([undefined, 1]);
    const next = TOKEN.replace("sss", "ttt");
    entry = () => next;
    expect([await current("Urgent"), calls]).toEqual([next, 2]);
    entry = () => {
      throw new Unavailable("VaultUnreachable", "get: ECONNREFUSED");
    };
    expect([await current("Urgent"), await current("Urgent")]).toEqual([next, next]);
    expect(warnings.splice(0)).toEqual([`${source} cannot be read: get: ECONNREFUSED`]);
    entry = () => "hunter2";
    expect([await current("Urgent"), await current("Urgent")]).toEqual([undefined, undefined]);
    expect(warnings.splice(0)).toEqual([expect.stringMatching(/holds no bootstrap token/)]);
    entry = () => undefined;
    expect(await current("Urgent")).toBeUndefined();
    expect(warnings).toEqual([]);
  });
});

describe("the channel", () => {
  const { privateKey: key } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const signal = new AbortController().signal;
  class ChannelError extends Error {
    override readonly name = "ChannelError";
    readonly code: string;
    readonly reason: string | undefined;
    constructor(code: string, reason?: string) {
      super("what the channel says");
      this.code = code;
      this.reason = reason;
    }
  }

  test("is opened with what is trusted, and with the certificate where there is one", async () => {
    const asked: ChannelOptions[] = [];
    const channel: Channel = {
      request: async () => ({ status: 204, body: undefined }),
      closed: Promise.resolve(undefined),
      close: () => {},
    };
    const open = async (options: ChannelOptions) => {
      asked.push(options);
      return channel;
    };
    const channels = primaryChannels(open, { url: "https://primary" });
    const rootDigest = Buffer.alloc(32, 1);
    await channels.open({ kind: "Fingerprint", rootDigest }, undefined, signal);
    const client = { certificates: [Buffer.from("one"), Buffer.from("two")], key };
    const opened = await channels.open({ kind: "Root", root: Buffer.from("root") }, client, signal);
    expect(asked[0]).toEqual({
      url: "https://primary",
      trust: { kind: "Fingerprint", sha256OfRootSpki: rootDigest },
      signal,
    });
    expect(asked[1]?.trust).toMatchObject({ kind: "Root", pem: expect.stringContaining("BEGIN CERTIFICATE") });
    expect(asked[1]?.client?.certificates.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(asked[1]?.client?.key).toContain("BEGIN PRIVATE KEY");
    expect(await opened.request("POST", "/", {}, signal)).toEqual({ status: 204, body: undefined });
  });

  test("the primary is asked within a trace, and told of which", async () => {
    const { tracer, spans } = recordedSpans();
    const told: unknown[] = [];
    const channel: Channel = {
      request: async (_method, _path, _body, options) => {
        told.push(options?.traceParent);
        return { status: 503, body: undefined };
      },
      closed: new Promise(() => {}),
      close: () => {},
    };
    const channels = primaryChannels(async () => channel, { url: "https://primary" }, tracer);
    const opened = await channels.open({ kind: "Fingerprint", rootDigest: Buffer.alloc(32) }, undefined, signal);
    await opened.request("POST", "/fleet/v1/heartbeat", {}, signal);
    await tracer.trace("write", { kind: "server", attributes: {} }, async () => {
      await opened.request("POST", "/fleet/v1/writes", {}, signal);
    });
    const [asked, root] = spans;
    expect(spans.map(({ name }) => name)).toEqual(["primary /fleet/v1/writes", "write"]);
    expect(asked?.parentSpanContext?.spanId).toBe(root?.spanContext().spanId);
    expect(asked?.attributes).toMatchObject({ "http.response.status_code": 503, "error.type": "503" });
    const { traceId, spanId } = asked?.spanContext() ?? {};
    expect(told).toEqual([undefined, `00-${traceId}-${spanId}-01`]);
  });

  test.each([
    ["PrimaryNotTrusted", "PrimaryUntrusted", undefined],
    ["ConnectionRefused", "PrimaryUnreachable", undefined],
    ["CertificateRefused", "GatewayCertificateRefused", undefined],
    ["Closed", "PrimaryUnreachable", "ShuttingDown"],
    ["Closed", "GatewayRevoked", "GatewayRevoked"],
    ["Closed", "CertificateUnknown", "CertificateUnknown"],
    ["Closed", "GatewayCertificateEnded", "CertificateExpired"],
  ])("%s is %s (%s)", async (code, reason, told) => {
    const channels = primaryChannels(
      async () => {
        throw new ChannelError(code, told);
      },
      { url: "https://primary" },
    );
    const opening = channels.open({ kind: "Fingerprint", rootDigest: Buffer.alloc(32) }, undefined, signal);
    await expect(opening).rejects.toMatchObject({ code: reason, message: "what the channel says" });
  });
});

test("who does not lead any more tells it, and whoever does goes on after a failure", async () => {
  let runs = 0;
  const fenced: Fenced[] = [];
  const chores = new MembershipChores({
    membership: {
      run: async () => {
        runs += 1;
        throw new Fenced(1n);
      },
    },
    log: pino({ level: "silent" }),
    onFenced: (error) => fenced.push(error),
  });
  chores.start({ epoch: 1n });
  await until("it was told", () => fenced.length > 0, { timeoutMs: 10_000, intervalMs: 5 });
  await chores.stop();
  expect(runs).toBe(1);
});

test("every replica looks at what the leader has stored, one look at a time", async () => {
  let looks = 0;
  let atOnce = 0;
  let most = 0;
  const look = async () => {
    looks += 1;
    atOnce += 1;
    most = Math.max(most, atOnce);
    await new Promise((resolve) => setTimeout(resolve, 20));
    atOnce -= 1;
    throw new Error("the database is away");
  };
  const stop = followMembership({ look }, 5);
  await until("three looks", () => looks >= 3, { timeoutMs: 10_000, intervalMs: 5 });
  stop();
  expect(most).toBe(1);
});

test.each<[string, Partial<MembershipStatus>, string, string]>([
  ["in touch", {}, "registered as gw-npr-1 (id)", "open"],
  ["elsewhere", { channel: "Standby" }, "registered as gw-npr-1 (id)", "held by the leader"],
  ["apart", { channel: "Closed", fault: FAULT }, "registered as gw-npr-1 (id)", "closed: no answer; check it"],
  [
    "not registered",
    { state: "Unregistered", identity: undefined, channel: "Closed", fault: FAULT },
    "not registered: no answer; check it",
    "closed",
  ],
])("notes of one that is %s", (_what, change, registration, channel) => {
  const status = { ...CONFIRMED, ...change };
  expect([registrationNote(status), channelNote(status)]).toEqual([registration, channel]);
});

test("metrics", async () => {
  const registry = new Registry();
  let status: MembershipStatus | undefined;
  let state: BreakerState = "Closed";
  const syncedAt = new Date(Date.now() - 60_000);
  const gateway = {
    link: {
      get state() {
        return state;
      },
    },
    writes: { length: { waiting: 7, oldestAgeMs: 90_000, refused: 1 } },
    replica: {
      look: () => Promise.reject(new Error("the database is away")),
      figures: { environment: "NPR", secrets: 7, syncedAt },
    },
  } as unknown as Gateway;
  let opened: Gateway | undefined;
  await gatewayMetrics(
    registry,
    () => status,
    () => opened,
  );
  expect(await registry.metrics()).toMatch(/^mazevault_gateway_circuit_breaker_state\{state="Closed"\} 1$/m);
  expect(await registry.metrics()).not.toMatch(/^mazevault_gateway_replica_age_seconds\b.* \d/m);
  opened = gateway;
  state = "Open";
  expect(await registry.metrics()).not.toMatch(/^mazevault_gateway_certificate_expiry_seconds\b.* \d/m);
  status = { ...CONFIRMED, heartbeats: { ...CONFIRMED.heartbeats, consecutiveFailures: 1 } };
  const told = await registry.metrics();
  expect(told).toMatch(/^mazevault_gateway_heartbeat_failures_total 2$/m);
  expect(told).toMatch(/^mazevault_gateway_heartbeat_consecutive_failures 1$/m);
  expect(told).toMatch(/^mazevault_gateway_registered 1$/m);
  expect(told).toMatch(/^mazevault_gateway_certificate_expiry_seconds\{gateway="gw-npr-1"\} 8\d{4}/m);
  expect(told).toMatch(/^mazevault_gateway_circuit_breaker_state\{state="Open"\} 1$/m);
  expect(told).toMatch(/^mazevault_gateway_circuit_breaker_state\{state="Closed"\} 0$/m);
  expect(told).toMatch(/^mazevault_gateway_replica_age_seconds\{environment="NPR"\} 6\d/m);
  expect(told).toMatch(/^mazevault_gateway_replica_secrets 7$/m);
  expect(told).toMatch(/^mazevault_gateway_write_queue_length 7$/m);
  expect(told).toMatch(/^mazevault_gateway_write_queue_oldest_age_seconds 90$/m);
  // Asked once more, it has not grown.
  expect(await registry.metrics()).toMatch(/^mazevault_gateway_heartbeat_failures_total 2$/m);
});
