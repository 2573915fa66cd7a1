/** What gateways ask for, judged without a channel. */

import { X509Certificate } from "node:crypto";
import { jest } from "@jest/globals";
import { BodyRefused, type ChannelHandler, type ChannelRequest } from "../../adapters/channel/server-session.ts";
import { type Identity, TestFleet } from "../../adapters/channel/testing/primary.ts";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import { Unavailable } from "../../core/errors.ts";
import { spkiFingerprint } from "../../core/fleet/bootstrap-token.ts";
import { FleetRefused } from "../../core/fleet/errors.ts";
import type { Member } from "../../core/fleet/member.ts";
import type { Heartbeat, RegistrationRequest } from "../../core/fleet/protocol.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { fleetHandler } from "./routes.ts";
import type { FleetServices } from "./services.ts";
import { UNASKED } from "./testing/unasked.ts";

const member: Member = {
  gatewayId: "0d6f2a3c-6ae4-4e2b-8a43-0b5c7d8e9f00",
  name: "gw-npr",
  environment: "NPR",
  role: "primary",
  serialNumber: "01",
};
const registrationRequest: RegistrationRequest = {
  token: "mvg1.canary.canary",
  csr: "csr",
  environment: "NPR",
  role: "primary",
  version: "1",
};
const registered = {
  gatewayId: member.gatewayId,
  name: member.name,
  environment: "NPR",
  role: "primary" as const,
  certificates: "pem",
  heartbeatSeconds: 60,
};
const beat: Heartbeat = { version: "1", problems: [], queueLength: 0, certificateNotAfter: "2026-03-01T12:00:00Z" };
const beaten = { active: true, environmentEpoch: "1", leaseMs: 20_000, epoch: "1", heartbeatSeconds: 60 };

let fleet: TestFleet;
let gateway: Identity;
let certificate: Buffer;
let calls: unknown[][];
/** Thrown by whatever is asked, when there is one. */
let failure: Error | undefined;
let admission: Error | undefined;
let logged: object[];

const log = { debug: () => {}, warn: (fields: object) => void logged.push(fields), error: () => {} };

async function called<Result>(result: Result, ...call: unknown[]): Promise<Result> {
  calls.push(call);
  if (failure !== undefined) throw failure;
  return result;
}
const registrations: FleetServices["registrations"] = {
  register: (body, from) => called(registered, "register", body, from),
  confirm: (who, keyDigest) => called(undefined, "confirm", who, keyDigest),
  heartbeat: (who, body) => called(beaten, "heartbeat", who, body),
  renew: (who, keyDigest, csr) => called("pem", "renew", who, keyDigest, csr),
};

const granted = { active: true, environmentEpoch: "1", leaseMs: 20_000 };
const tasks: FleetServices["tasks"] = {
  awaitStanding: (who, body) => called(granted, "standing", who, body),
  poll: (who, body) => called({ ...granted, tasks: [] }, "tasks", who, body),
  finish: (who, results) => called({ accepted: [] }, "results", who, results),
};

const writes: FleetServices["writes"] = {
  apply: (who, body) => called({ forgotten: [], outcomes: [] }, "apply", who, body),
  forgotten: (who, ids) => called(["lost"], "forgotten", who, ids),
};

const admit = (given: Buffer): Member => {
  if (admission !== undefined) throw admission;
  calls.push(["admit", given.equals(certificate)]);
  return member;
};

let handler: ChannelHandler;

beforeAll(async () => {
  fleet = await TestFleet.make();
  gateway = await fleet.identity("gw-npr");
  certificate = new X509Certificate(gateway.certificates).raw;
});
afterAll(() => fleet.dispose());
beforeEach(() => {
  [calls, failure, admission, logged] = [[], undefined, undefined, []];
  handler = fleetHandler({
    services: { ...UNASKED, registrations, tasks, writes },
    admit,
    rateCounters: memoryRateCounters,
    log,
  });
});

const ask = (path: string, body?: unknown, change: Partial<ChannelRequest> = {}) =>
  handler({
    method: "POST",
    path: `/fleet/v1/${path}`,
    json: async () => body,
    peer: certificate,
    remoteAddress: "192.0.2.1",
    signal: new AbortController().signal,
    ...change,
  });
const stranger = { peer: undefined };
const problem = (status: number, code: string, more: object = {}) => ({
  status,
  contentType: "application/problem+json",
  body: expect.objectContaining({ type: "about:blank", status, code, requestId: expect.any(String), ...more }),
});

describe("routes", () => {
  test("registration needs no certificate", async () => {
    expect(await ask("registration", registrationRequest, stranger)).toEqual({ status: 201, body: registered });
    expect(calls).toEqual([["register", registrationRequest, { address: "192.0.2.1" }]]);
  });

  test("all others are done as the gateway of the certificate", async () => {
    expect(await ask("confirmation", {})).toEqual({ status: 204 });
    expect(await ask("heartbeat", beat)).toEqual({ status: 200, body: beaten });
    expect(await ask("certificate", { csr: "csr" })).toEqual({ status: 201, body: { certificates: "pem" } });
    expect(calls.filter(([name]) => name !== "admit")).toEqual([
      ["confirm", member, spkiFingerprint(certificate)],
      ["heartbeat", member, beat],
      ["renew", member, spkiFingerprint(certificate), "csr"],
    ]);
    expect(calls.filter(([name]) => name === "admit")).toEqual(Array(3).fill(["admit", true]));
  });

  test("what a gateway writes, and asks about, is done as the gateway of the certificate", async () => {
    const id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    const author = { subject: "LocalUser alice@example.com", via: "Token" };
    const place = { namespace: "payments", name: "orders" };
    const secret = { id, project: "payments", environment: "dev", namespaceUid: id };
    const write = { id, place, secret, values: { password: "aHVudGVyMg==" }, baseVersion: 3, ageMs: 5, author };
    const request = { settled: [id], writes: [write] };
    expect(await ask("writes", request)).toEqual({ status: 200, body: { forgotten: [], outcomes: [] } });
    expect(await ask("writes/known", { ids: [id] })).toEqual({ status: 200, body: { forgotten: ["lost"] } });
    expect(calls.filter(([name]) => name !== "admit")).toEqual([
      ["apply", member, request],
      ["forgotten", member, [id]],
    ]);
    const wrong = { settled: [], writes: [{ ...write, values: { password: "hunter2!" } }] };
    const answer = await ask("writes", wrong);
    expect(answer).toMatchObject(problem(400, "InvalidRequest"));
    expect(JSON.stringify(answer)).not.toContain("hunter2");
  });

  test("tasks are for the gateway of the certificate, whatever it says of itself", async () => {
    const poll = { waitMs: 1_000, most: 4 };
    const id = "0d6f2a3c-6ae4-4e2b-8a43-0b5c7d8e9f01";
    const results = [{ id, environmentEpoch: "1", outcome: { kind: "Done" as const, result: {} } }];
    expect(await ask("standing", { waitMs: 1_000 })).toEqual({ status: 200, body: granted });
    expect(await ask("tasks", poll)).toEqual({ status: 200, body: { ...granted, tasks: [] } });
    expect(await ask("task-results", { results })).toEqual({ status: 200, body: { accepted: [] } });
    const asked = calls.filter(([name]) => name !== "admit");
    expect(asked).toEqual([
      ["standing", member, { waitMs: 1_000 }],
      ["tasks", member, poll],
      ["results", member, results],
    ]);
    for (const forged of [{ environment: "PRO" }, { name: "gw-pro" }, { actsFor: ["gw-pro"] }, { gatewayId: id }]) {
      calls = [];
      await ask("standing", { waitMs: 1_000, ...forged });
      await ask("tasks", { ...poll, ...forged });
      await ask("task-results", { results: [{ ...results[0], ...forged }] });
      expect(calls.filter(([name]) => name !== "admit")).toEqual(asked);
    }
  });

  test.each([
    "confirmation",
    "heartbeat",
    "certificate",
    "standing",
    "tasks",
    "task-results",
    "writes",
    "writes/known",
  ])("%s is refused without a certificate", async (path) => {
    const json = jest.fn<() => Promise<unknown>>();
    expect(await ask(path, {}, { ...stranger, json })).toMatchObject(problem(401, "CertificateRequired"));
    expect([calls, json.mock.calls]).toEqual([[], []]);
  });

  test("what is not there, and other methods, are told", async () => {
    expect(await ask("nothing", {})).toMatchObject(problem(404, "RouteNotFound"));
    expect(await ask("heartbeat?x=1", beat)).toMatchObject(problem(404, "RouteNotFound"));
    const answer = await ask("heartbeat", undefined, { method: "GET" });
    expect(answer).toMatchObject({ ...problem(405, "MethodNotAllowed"), headers: { allow: "POST" } });
  });

  test.each([
    ["heartbeat", { ...beat, queueLength: -1 }, "body.queueLength"],
    ["heartbeat", undefined, "body"],
    ["confirmation", ["canary"], "body"],
    ["certificate", { csr: "" }, "body.csr"],
    ["registration", { ...registrationRequest, environment: "npr" }, "body.environment"],
    ["registration", { ...registrationRequest, token: "x".repeat(300) }, "body.token"],
  ])("%s: a body that does not fit is told by field, and not quoted: %#", async (path, body, field) => {
    const answer = await ask(path, body, path === "registration" ? stranger : {});
    expect(answer).toMatchObject(problem(400, "InvalidRequest", { errors: [expect.objectContaining({ field })] }));
    expect(JSON.stringify(answer)).not.toContain("mvg1.");
    expect(calls.filter(([name]) => name !== "admit")).toEqual([]);
  });

  test("a body that cannot be read is told", async () => {
    const json = () => Promise.reject(new BodyRefused(413, "BodyTooLarge", "too large"));
    expect(await ask("heartbeat", undefined, { json })).toMatchObject(problem(413, "BodyTooLarge"));
  });

  test.each([
    [new FleetRefused("TokenMalformed", "m"), 400, "TokenMalformed"],
    [new FleetRefused("TokenRefused", "m"), 403, "TokenRefused"],
    [new FleetRefused("PlaceDiffers", "m"), 409, "PlaceDiffers"],
    [new MalformedInput("csr", "must be PEM"), 400, "InvalidRequest"],
    [new Unavailable("FleetNotReady", "m"), 503, "FleetNotReady"],
    [new Error("canary"), 500, "InternalError"],
  ])("%s is answered as it should be", async (error, status, code) => {
    failure = error;
    const answer = await ask("registration", registrationRequest, stranger);
    expect(answer).toMatchObject(problem(status, code));
    expect(answer.endsSession).toBeUndefined();
    expect(JSON.stringify(answer)).not.toContain("canary");
    if (status === 503) expect(answer.headers).toEqual({ "retry-after": "1" });
    if (error instanceof MalformedInput) expect(answer.body).toMatchObject({ errors: [{ field: "body.csr" }] });
  });
});

describe("admission", () => {
  test("one that is revoked is told, whatever it asks for, and its session ends", async () => {
    admission = new FleetRefused("GatewayRevoked", "m");
    for (const path of ["heartbeat", "nothing", "registration"]) {
      const answer = await ask(path, beat);
      expect(answer).toMatchObject({ ...problem(403, "GatewayRevoked"), endsSession: "GatewayRevoked" });
    }
    expect(calls).toEqual([]);
  });

  test("while it is not known who is admitted nobody is, and sessions stay", async () => {
    admission = new Unavailable("FleetStateStale", "m");
    const answer = await ask("heartbeat", beat);
    expect(answer).toMatchObject({ ...problem(503, "FleetStateStale"), headers: { "retry-after": "1" } });
    expect(answer.endsSession).toBeUndefined();
    expect(logged).toHaveLength(1);
  });
});

describe("limits", () => {
  test("a gateway asks 500 times in ten seconds at most", async () => {
    for (let n = 0; n < 500; n++) expect((await ask("heartbeat", beat)).status).toBe(200);
    const refused = await ask("heartbeat", beat);
    expect(refused).toMatchObject(problem(429, "TooManyRequests"));
    expect(refused.headers).toEqual({ "retry-after": expect.stringMatching(/^\d+$/) });
  });

  test("an address tries to register ten times in a minute at most", async () => {
    failure = new FleetRefused("TokenRefused", "m");
    for (let n = 0; n < 10; n++) expect((await ask("registration", registrationRequest, stranger)).status).toBe(403);
    const again = () => ask("registration", registrationRequest, stranger);
    expect(await again()).toMatchObject(problem(429, "TooManyRequests"));
    expect(calls).toHaveLength(10);
    const elsewhere = { ...stranger, remoteAddress: "192.0.2.2" };
    expect((await ask("registration", registrationRequest, elsewhere)).status).toBe(403);
  });
});
