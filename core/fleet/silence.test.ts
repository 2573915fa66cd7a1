import type { GatewayRecord } from "../ports/fleet-store.ts";
import { heardSince } from "./silence.ts";

const SECOND = 1_000;
const start = Date.parse("2026-03-01T12:00:00Z");

/** Who beat at which second. */
const heard = (...beats: readonly (readonly [number, "primary" | "standby"])[]): number => {
  const last: { primary?: GatewayRecord; standby?: GatewayRecord } = {};
  let seen = heardSince(undefined, undefined, undefined);
  for (const [second, name] of beats) {
    last[name] = record(second);
    seen = heardSince(seen, last.primary, last.standby);
    // However often it is looked at.
    seen = heardSince(seen, last.primary, last.standby);
  }
  return seen.standbyAlone;
};

const record = (second: number): GatewayRecord => ({
  id: "gw",
  name: "gw",
  environment: "NPR",
  role: "primary",
  registeredAt: new Date(start - 3_600 * SECOND),
  confirmedAt: new Date(start - 3_600 * SECOND),
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: {
    version: "1.5.0",
    problems: [],
    queueLength: 0,
    certificateNotAfter: "2026-06-01T12:00:00Z",
    at: new Date(start + second * SECOND),
  },
});

test.each<[string, readonly (readonly [number, "primary" | "standby"])[], number]>([
  [
    "both are heard",
    [
      [0, "primary"],
      [1, "standby"],
      [60, "primary"],
      [61, "standby"],
    ],
    1,
  ],
  [
    "the primary is not heard any more",
    [
      [0, "primary"],
      [1, "standby"],
      [61, "standby"],
      [121, "standby"],
    ],
    3,
  ],
  [
    "it is heard again",
    [
      [0, "primary"],
      [1, "standby"],
      [61, "standby"],
      [90, "primary"],
    ],
    0,
  ],
  [
    "nobody was heard for two heartbeats",
    [
      [0, "primary"],
      [1, "standby"],
      [61, "standby"],
      [181, "standby"],
    ],
    0,
  ],
  [
    "one was late",
    [
      [0, "primary"],
      [1, "standby"],
      [61, "standby"],
      [180, "standby"],
    ],
    3,
  ],
  [
    "after a gap",
    [
      [0, "primary"],
      [1, "standby"],
      [300, "standby"],
      [360, "standby"],
    ],
    1,
  ],
  [
    "it comes back again and again after a gap",
    [
      [0, "primary"],
      [1, "standby"],
      [300, "standby"],
      [305, "standby"],
      [310, "standby"],
      [315, "standby"],
    ],
    0,
  ],
  [
    "the clock was set back",
    [
      [900, "primary"],
      [901, "standby"],
      [61, "standby"],
    ],
    0,
  ],
])("how often the standby was heard alone, when %s", (_, beats, alone) => {
  // The first sight of both begins the count.
  expect(heard([-60, "standby"], ...beats)).toBe(alone);
});
