import type { MembershipStatus } from "../../../core/fleet/membership.ts";
import type { Answer, DocumentedAnswer } from "../route.ts";
import type { HealthPart, Services } from "../services.ts";
import { systemRoutes } from "./system.ts";

const STATUS: MembershipStatus = {
  state: "Confirmed",
  identity: {
    gatewayId: "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    name: "gw-npr-1",
    environment: "NPR",
    role: "dr-standby",
  },
  certificateNotAfter: new Date("2026-06-17T10:00:00Z"),
  channel: "Open",
  active: false,
  fault: undefined,
  heartbeats: { failures: 0, consecutiveFailures: 0, lastAnsweredAt: new Date("2026-03-19T10:00:00Z") },
};
const FAULT = { code: "PrimaryUnreachable", problem: "no answer", fix: "check it" };

async function ask(id: string, services: Partial<Services>): Promise<Answer> {
  const route = systemRoutes.find((each) => each.id === id);
  if (route === undefined) throw new Error(`there is no route ${id}`);
  const answer = await route.handle({ services } as never);
  const documented: Readonly<Record<number, DocumentedAnswer>> = route.answers;
  documented[200]?.schema?.parse(answer.body);
  return answer;
}

const health = (parts: readonly HealthPart[], membership?: MembershipStatus) =>
  ask("getHealth", {
    mode: membership === undefined ? "primary" : "gateway",
    version: "1.5.0",
    health: () => parts,
    ...(membership && { membership: () => membership }),
  });

test("the mode is told as it is", async () => {
  expect(JSON.stringify((await ask("getMode", { mode: "gateway" })).body)).toBe('{"mode":"gateway"}');
  expect((await ask("getMode", { mode: "primary" })).body).toEqual({ mode: "primary" });
});

test("a primary says nothing of a gateway", async () => {
  expect((await health([])).body).toEqual({ status: "ok", mode: "primary", version: "1.5.0", checks: [] });
});

test("a gateway in touch is well", async () => {
  expect(await health([], STATUS)).toMatchObject({
    status: 200,
    body: {
      status: "ok",
      gateway: {
        registration: { state: "Confirmed", name: "gw-npr-1", certificateNotAfter: "2026-06-17T10:00:00.000Z" },
        channel: { state: "Open", lastHeartbeatAt: "2026-03-19T10:00:00.000Z" },
        circuitBreaker: { state: "Closed" },
      },
    },
  });
});

test.each<[string, Partial<MembershipStatus>, object]>([
  ["apart", { channel: "Closed", fault: FAULT }, { channel: { problem: "no answer", fix: "check it" } }],
  [
    "not registered",
    { state: "Unregistered", identity: undefined, fault: FAULT },
    { registration: { fix: "check it" } },
  ],
  ["revoked", { state: "Revoked", channel: "Standby" }, { registration: { state: "Revoked" } }],
])("one that is %s answers 200, and tells it where it belongs", async (_what, change, gateway) => {
  const answer = await health([], { ...STATUS, ...change });
  expect(answer).toMatchObject({ status: 200, body: { status: "degraded", gateway } });
});

test("what is broken here makes it 503, in whichever mode", async () => {
  const broken = [{ name: "database", problem: "away", fix: "look" }];
  expect(await health(broken, STATUS)).toMatchObject({ status: 503, body: { status: "degraded" } });
  expect(await health(broken)).toMatchObject({ status: 503, body: { status: "degraded" } });
});

test("a gateway tells its write queue; of one that is revoked, why it is not sent", async () => {
  const writes = { length: { waiting: 7, oldestAgeMs: 90_400, refused: 2 }, most: 10_000 };
  const told = async (standing: MembershipStatus) => {
    const services = {
      mode: "gateway",
      version: "1.5.0",
      health: () => [],
      membership: () => standing,
      writes,
    } as const;
    const { body } = await ask("getHealth", services as unknown as Partial<Services>);
    return (body as { gateway: { writeQueue: object } }).gateway.writeQueue;
  };
  expect(await told(STATUS)).toEqual({ length: 7, limit: 10_000, oldestAgeSeconds: 90, refused: 2 });
  expect(await told({ ...STATUS, state: "Revoked" })).toMatchObject({
    length: 7,
    problem: expect.stringContaining("revoked"),
    fix: expect.stringContaining("register the gateway anew"),
  });
  Object.assign(writes.length, { stranded: 3 });
  expect(await told(STATUS)).toMatchObject({ length: 7, problem: expect.stringContaining("3 writes") });
});
