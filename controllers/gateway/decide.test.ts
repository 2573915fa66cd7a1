import type { GatewayRecord } from "../../core/ports/fleet-store.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { Gateway, GatewaySpec, GatewayStatus } from "../../crds/gateway.ts";
import { type Action, decide, type Observed, type TokenSecret } from "./decide.ts";

const now = new Date("2026-03-01T12:00:00Z");
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const at = (ms: number): Date => new Date(now.getTime() + ms);
const place = { namespace: "mazevault-system", name: "gw-npr-dr-bootstrap" };

interface Given {
  readonly spec?: GatewaySpec;
  readonly status?: GatewayStatus;
  readonly madeAt?: Date;
  readonly byRest?: boolean;
}

const gateway = ({ spec = {}, status, madeAt = at(-10 * DAY), byRest = false }: Given = {}): Gateway => ({
  apiVersion: API_VERSION,
  kind: "Gateway",
  metadata: {
    name: "gw-npr-dr",
    uid: "uid-1",
    resourceVersion: "1",
    creationTimestamp: madeAt.toISOString(),
    ...(byRest && { annotations: { "mazevault.io/made-by": "rest" } }),
  },
  spec,
  ...(status && { status }),
});

const record = (change: Partial<GatewayRecord> = {}): GatewayRecord => ({
  id: "0197f0a4-2f1c-7b3e-9d55-6f0f3c1f2a77",
  name: "gw-npr-dr",
  environment: undefined,
  role: undefined,
  registeredAt: undefined,
  confirmedAt: undefined,
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: undefined,
  ...change,
});

const heartbeat = (age: number, certificateNotAfter = at(80 * DAY)) => ({
  version: "1.5.0",
  problems: ["database"],
  queueLength: 7,
  certificateNotAfter: certificateNotAfter.toISOString(),
  at: at(-age),
});

const registered = (change: Partial<GatewayRecord> = {}): GatewayRecord =>
  record({
    environment: "NPR",
    role: "dr-standby",
    registeredAt: at(-DAY),
    confirmedAt: at(-DAY + 1_000),
    heartbeat: heartbeat(30_000),
    ...change,
  });

const secret = (expiresAt: Date | undefined, ownerUid: string | undefined = "uid-1"): TokenSecret => ({
  uid: "uid-secret",
  resourceVersion: "7",
  ownerUid,
  expiresAt,
});
const foreign: TokenSecret = { uid: "uid-secret", resourceVersion: "7", ownerUid: undefined, expiresAt: undefined };

function decided(given: Given, seen: Partial<Observed>) {
  const plan = decide(gateway(given), { record: undefined, secret: undefined, place, ...seen }, now);
  const condition = (type: string) => plan.status.conditions.find((each) => each.type === type);
  return { ...plan, kinds: plan.actions.map(({ kind }) => kind), condition };
}

const issue = (actions: readonly Action[]) => actions.find((each) => each.kind === "IssueToken");

describe("a gateway that has not registered:", () => {
  const end = at(20 * HOUR);
  const refTo = (expiresAt: Date) => ({
    gatewayId: record().id,
    bootstrapSecretRef: { ...place, expiresAt: expiresAt.toISOString() },
  });

  test.each<[string, Given, Partial<Observed>, Action["kind"][]]>([
    ["nothing is known of it", {}, {}, ["IssueToken"]],
    ["its token stands there", {}, { record: record({ tokenExpiresAt: end }), secret: secret(end) }, []],
    [
      "its token ends within the hour",
      {},
      { record: record({ tokenExpiresAt: at(59 * MINUTE) }), secret: secret(at(59 * MINUTE)) },
      ["IssueToken"],
    ],
    ["its token has ended", {}, { record: record({ tokenExpiresAt: at(-1) }), secret: secret(at(-1)) }, ["IssueToken"]],
    ["the core Secret was written, and the token never counted", {}, { secret: secret(end) }, ["IssueToken"]],
    [
      "a newer token was made through REST",
      {},
      { record: record({ tokenExpiresAt: end }), secret: secret(at(HOUR)) },
      ["DeleteSecret"],
    ],
    ["a token was made through REST, and there is no other", {}, { record: record({ tokenExpiresAt: end }) }, []],
    ["that token has ended", {}, { record: record({ tokenExpiresAt: at(-1) }) }, ["IssueToken"]],
    [
      "somebody deleted the core Secret with the token",
      { status: refTo(end) },
      { record: record({ tokenExpiresAt: end }) },
      ["IssueToken"],
    ],
    [
      "a token was made through REST after that",
      { status: refTo(at(HOUR)) },
      { record: record({ tokenExpiresAt: end }) },
      [],
    ],
    [
      "the core Secret is of an object before this one",
      {},
      { record: record({ tokenExpiresAt: end }), secret: secret(end, "uid-0") },
      ["DeleteSecret"],
    ],
    ["REST makes it, and its token in a moment", { byRest: true, madeAt: at(-1_000) }, {}, []],
    ["REST made it, and died", { byRest: true, madeAt: at(-2 * MINUTE) }, {}, ["IssueToken"]],
    [
      "it registered, and its token ended before it came again",
      {},
      { record: registered({ confirmedAt: undefined, heartbeat: undefined, tokenExpiresAt: at(-1) }) },
      ["IssueToken"],
    ],
    [
      "it was revoked with an object before this one",
      { status: { gatewayId: record().id } },
      { record: registered({ revokedAt: at(-HOUR) }) },
      ["IssueToken"],
    ],
    ["a core Secret there is not ours", {}, { secret: foreign }, []],
    ["and a token was made through REST", {}, { record: record({ tokenExpiresAt: end }), secret: foreign }, []],
  ])("%s", (_, given, seen, kinds) => {
    expect(decided(given, seen).kinds).toEqual(kinds);
  });

  test("is told how to use the token, and looked at again soon", () => {
    const { condition, status, next } = decided(
      { spec: { environment: "NPR" } },
      { record: record({ tokenExpiresAt: end }), secret: secret(end) },
    );
    expect(condition("Registered")).toMatchObject({ status: "False", reason: "AwaitingRegistration" });
    expect(condition("Registered")?.message).toMatch(
      /kubectl -n mazevault-system get secret gw-npr-dr-bootstrap .* base64 -d/,
    );
    expect(condition("Registered")?.message).toContain("GATEWAY_BOOTSTRAP_TOKEN until 2026-03-02T08:00:00.000Z");
    expect(condition("Connected")).toMatchObject({ status: "False", reason: "AwaitingRegistration" });
    expect(status.fields).toEqual({
      gatewayId: record().id,
      environment: "NPR",
      bootstrapSecretRef: { ...place, expiresAt: end.toISOString() },
    });
    expect(next).toEqual({ kind: "recheckAt", at: at(5_000) });
  });

  test("is told where the token is when REST made it; the core Secret that goes is not named any more", () => {
    const { condition, status } = decided({}, { record: record({ tokenExpiresAt: end }), secret: secret(at(HOUR)) });
    expect(condition("Registered")?.message).toMatch(/made through REST.*mazevault gateways bootstrap gw-npr-dr/);
    expect(status.fields).toEqual({ gatewayId: record().id });
  });

  test("never has a core Secret overwritten that is not ours", () => {
    const { condition, next } = decided({}, { secret: foreign });
    expect(condition("Registered")).toMatchObject({ status: "False", reason: "TargetNotOwned" });
    expect(condition("Registered")?.message).toMatch(
      /mazevault-system\/gw-npr-dr-bootstrap.*not ours.*gateways bootstrap/,
    );
    expect(next).toEqual({ kind: "recheckAt", at: at(5_000) });
  });

  test("gets a token for the place that its object names, instead of the one that stands there", () => {
    const standing = secret(at(MINUTE));
    const spec = { environment: "NPR", role: "dr-standby" } as const;
    const { actions } = decided({ spec }, { record: record({ tokenExpiresAt: at(MINUTE) }), secret: standing });
    expect(issue(actions)).toMatchObject({ place: spec, secret: standing, knownEnd: at(MINUTE) });
  });

  test.each([
    ["nobody registered under its name before", undefined],
    ["the one before it was revoked", registered({ revokedAt: at(-HOUR) })],
  ])("through REST is waited for no longer than a minute, where %s", (_, known) => {
    const made = (age: number) => decided({ byRest: true, madeAt: at(-age) }, { record: known });
    expect(made(1_000).next).toEqual({ kind: "recheckAt", at: at(5_000) });
    expect(made(MINUTE - 1_000)).toMatchObject({ kinds: [], next: { kind: "recheckAt", at: at(1_000) } });
    expect(made(MINUTE + 1_000).kinds).toEqual(["IssueToken"]);
  });
});

describe("a gateway that has registered:", () => {
  test("is in touch, and its token is deleted", () => {
    const { kinds, condition, status, next } = decided({}, { record: registered(), secret: secret(at(HOUR)) });
    expect(kinds).toEqual(["DeleteSecret"]);
    expect(condition("Registered")).toMatchObject({ status: "True" });
    expect(condition("Connected")).toMatchObject({ status: "True", reason: "Available" });
    expect(status.fields).toMatchObject({
      environment: "NPR",
      role: "dr-standby",
      version: "1.5.0",
      certificateNotAfter: at(80 * DAY).toISOString(),
      registeredAt: at(-DAY).toISOString(),
    });
    // Three intervals after the heartbeat of half a minute ago.
    expect(next).toEqual({ kind: "recheckAt", at: at(180_000 - 30_000 + 1_000) });
  });

  test("leaves a core Secret alone that is not ours", () => {
    expect(decided({}, { record: registered(), secret: foreign }).kinds).toEqual([]);
  });

  test("keeps its token until it has come with its certificate", () => {
    const end = at(20 * HOUR);
    const seen = {
      record: registered({ confirmedAt: undefined, heartbeat: undefined, tokenExpiresAt: end }),
      secret: secret(end),
    };
    expect(decided({}, seen).kinds).toEqual([]);
    expect(decided({}, { ...seen, record: registered({ confirmedAt: undefined }) }).kinds).toEqual(["DeleteSecret"]);
  });

  test("says nothing in status that moves all the time", () => {
    const one = decided({}, { record: registered({ heartbeat: heartbeat(10_000) }) });
    const other = decided({}, { record: registered({ heartbeat: heartbeat(55_000) }) });
    expect(one.status).toEqual(other.status);
  });

  test.each([
    [180_000, "True", undefined],
    [180_001, "False", "HeartbeatMissing"],
  ])("is silent after three intervals: %d ms", (age, status, reason) => {
    const { condition } = decided({}, { record: registered({ heartbeat: heartbeat(age) }) });
    expect(condition("Connected")).toMatchObject({ status, ...(reason !== undefined && { reason }) });
  });

  test("is told to be silent once, and noticed within 5 seconds when it comes back", () => {
    const early = decided({}, { record: registered({ heartbeat: heartbeat(181_000) }) });
    const late = decided({}, { record: registered({ heartbeat: heartbeat(9 * HOUR) }) });
    expect(early.status).toEqual(late.status);
    expect(early.condition("Connected")?.message).toMatch(/its log, and whether it reaches port 8443/);
    expect(late.next).toEqual({ kind: "recheckAt", at: at(5_000) });
  });

  test("is told how to come back when its certificate has ended", () => {
    const { condition } = decided(
      { status: { gatewayId: record().id } },
      { record: registered({ registeredAt: at(-90 * DAY), heartbeat: heartbeat(9 * DAY, at(-DAY)) }) },
    );
    expect(condition("Connected")?.message).toMatch(/certificate has ended.*mazevault gateways bootstrap gw-npr-dr/);
  });

  test("is awaited after it registered anew, whatever it said before", () => {
    const { condition, status } = decided(
      {},
      { record: registered({ registeredAt: at(-1_000), heartbeat: heartbeat(DAY) }) },
    );
    expect(condition("Connected")).toMatchObject({ status: "False", reason: "Progressing" });
    expect(status.fields).not.toHaveProperty("version");
  });
});

describe("a manifest that contradicts what is known stalls, and names both and what to do:", () => {
  test.each([
    [{ environment: "PRO" }, /spec.environment says PRO.*registered as NPR.*delete the Gateway/],
    [{ role: "primary" }, /spec.role says primary.*registered as dr-standby.*delete the Gateway/],
  ] as const)("%j", (spec, message) => {
    const { kinds, next, condition } = decided({ spec }, { record: registered(), secret: secret(at(HOUR)) });
    expect(kinds).toEqual([]);
    expect(next).toMatchObject({ kind: "stalled", reason: "PlaceDiffers", message: expect.stringMatching(message) });
    expect(condition("Registered")).toMatchObject({ status: "False", reason: "PlaceDiffers" });
    expect(condition("Connected")).toMatchObject({ status: "True" });
  });

  test("also when a token was made for another place", () => {
    const seen = { record: record({ environment: "NPR", tokenExpiresAt: at(HOUR) }) };
    expect(decided({ spec: { environment: "PRO" } }, seen).next).toMatchObject({
      kind: "stalled",
      message: expect.stringMatching(/has a token as NPR/),
    });
  });

  test("not when what is known was revoked", () => {
    const seen = { record: registered({ revokedAt: at(-HOUR) }) };
    expect(decided({ spec: { environment: "PRO" } }, seen).kinds).toEqual(["IssueToken"]);
  });
});

describe("an object that was deleted and made anew while nobody watched revokes what was known under its name:", () => {
  const fresh = { madeAt: at(-10 * MINUTE) };
  test.each<[string, Given, GatewayRecord, boolean]>([
    ["it had registered", fresh, registered(), true],
    ["it had a token", fresh, record({ tokenExpiresAt: at(DAY - HOUR) }), true],
    ["also when the new object says another place", { ...fresh, spec: { environment: "PRO" } }, registered(), true],
    ["it had registered, and a token was made since", fresh, registered({ tokenExpiresAt: at(DAY - MINUTE) }), true],
    [
      "it registered since, by a token of long before",
      fresh,
      registered({ registeredAt: at(-5 * MINUTE), tokenExpiresAt: at(HOUR) }),
      false,
    ],
    ["it registered since", fresh, registered({ registeredAt: at(-5 * MINUTE) }), false],
    ["its token was made since", fresh, record({ tokenExpiresAt: at(DAY - MINUTE) }), false],
    ["clocks differ by seconds", fresh, record({ tokenExpiresAt: at(DAY - 10 * MINUTE - 30_000) }), false],
    ["its status names the gateway, so it is the same", { ...fresh, status: { gatewayId: "x" } }, registered(), false],
    ["it was revoked already", fresh, registered({ revokedAt: at(-HOUR) }), false],
  ])("%s", (_, given, known, ends) => {
    expect(decided(given, { record: known }).kinds.includes("EndFormer")).toBe(ends);
  });

  test("and stays the object's own while the database is taken over: the object was applied anew", () => {
    const { status, kinds } = decided(fresh, { record: registered(), recovering: true });
    expect(kinds).toEqual([]);
    expect(status.fields).toMatchObject({ gatewayId: expect.any(String) });
  });

  test("and is not named in status, which would keep it from being revoked later", () => {
    const { status, kinds } = decided(fresh, { record: registered(), secret: secret(at(HOUR), "uid-0") });
    expect(kinds).toEqual(["EndFormer"]);
    expect(status.fields).toEqual({});
  });
});
