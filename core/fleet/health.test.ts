import type { GatewayRecord } from "../ports/fleet-store.ts";
import { healthOf } from "./health.ts";
import type { Heartbeat } from "./protocol.ts";

const now = new Date("2026-03-01T12:00:00Z");
const DAY_MS = 86_400_000;
const after = (ms: number): Date => new Date(now.getTime() + ms);
const ago = (seconds: number): Date => after(-seconds * 1_000);

function record(change: Partial<GatewayRecord> = {}): GatewayRecord {
  return {
    id: "0197f0a4-2f1c-7b3e-9d55-6f0f3c1f2a77",
    name: "gw-npr-primary",
    environment: "NPR",
    role: "primary",
    registeredAt: ago(86_400),
    confirmedAt: ago(86_399),
    revokedAt: undefined,
    tokenExpiresAt: undefined,
    heartbeat: heartbeat(),
    ...change,
  };
}

function heartbeat({ age = 0, days = 90, ...told }: Partial<Heartbeat> & { age?: number; days?: number } = {}) {
  return {
    version: "1.0.0",
    problems: [],
    queueLength: 0,
    certificateNotAfter: after(days * DAY_MS).toISOString(),
    at: ago(age),
    ...told,
  };
}

describe("the score, and what takes from it:", () => {
  test.each([
    ["nothing is wrong", {}, 1, "healthy"],
    ["the heartbeat is as old as it may be", { age: 60 }, 1, "healthy"],
    ["it is late by a moment", { age: 66 }, 0.95, "healthy"],
    ["two heartbeats are missing", { age: 120 }, 0.5, "degraded"],
    ["three are almost missing", { age: 179 }, 0.01, "degraded"],
    ["it is on the edge", { age: 180 }, 0, "degraded"],
    ["more are missing than may be", { age: 181 }, 0, "offline"],
    ["its clock is ahead of ours", { age: -30 }, 1, "healthy"],
    ["a problem", { problems: ["database"] }, 0.75, "degraded"],
    ["two problems", { problems: ["database", "disk"] }, 0.5, "degraded"],
    ["many problems", { problems: ["a", "b", "c", "d", "e"] }, 0.5, "degraded"],
    ["a queue", { queueLength: 100 }, 0.97, "healthy"],
    ["a long queue", { queueLength: 1_000 }, 0.7, "degraded"],
    ["a longer one", { queueLength: 100_000 }, 0.7, "degraded"],
    ["its certificate ends in 30 days", { days: 30 }, 1, "healthy"],
    ["its certificate ends in 15 days", { days: 15 }, 0.85, "healthy"],
    ["its certificate ends in 3 days", { days: 3 }, 0.73, "degraded"],
    ["its certificate has ended", { days: -3 }, 0.7, "degraded"],
    ["everything at once", { age: 100, problems: ["a", "b"], queueLength: 2_000, days: 1 }, 0, "degraded"],
  ] as const)("%s", (_, told, score, state) => {
    const problems = "problems" in told ? [...told.problems] : [];
    expect(healthOf(record({ heartbeat: heartbeat({ ...told, problems }) }), now)).toMatchObject({ score, state });
  });
});

test.each([
  [
    "it has never registered",
    { registeredAt: undefined, confirmedAt: undefined, heartbeat: undefined },
    "awaitingRegistration",
    undefined,
  ],
  ["it was revoked", { revokedAt: ago(1) }, "revoked", undefined],
  ["it has just registered, and told nothing yet", { registeredAt: ago(30), heartbeat: undefined }, "healthy", 30],
  ["it has registered, and never told anything", { registeredAt: ago(200), heartbeat: undefined }, "offline", 200],
  [
    "it has registered anew after a long silence",
    { registeredAt: ago(5), heartbeat: heartbeat({ age: 9_999, days: -1 }) },
    "healthy",
    5,
  ],
] as const)("%s", (_, change, state, ageSeconds) => {
  expect(healthOf(record(change), now)).toMatchObject({ state, ageSeconds, score: state === "healthy" ? 1 : 0 });
});

test("what is wrong is told: what it says itself, and what is seen from here", () => {
  const told = heartbeat({ age: 150, problems: ["database"], queueLength: 1_200, days: 2.5 });
  expect(healthOf(record({ heartbeat: told }), now).problems).toEqual([
    "2 heartbeats are missing",
    "database",
    "1200 writes wait for the primary",
    "its certificate ends in 2 days",
  ]);
  const ended = healthOf(record({ heartbeat: heartbeat({ days: -1 }) }), now).problems;
  expect(ended).toEqual([expect.stringMatching(/certificate has ended; make a token/)]);
});
