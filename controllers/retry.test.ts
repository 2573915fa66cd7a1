import { pauseMs } from "./retry.ts";

const NOW = new Date("2026-03-01T00:01:00Z");
const failed = (since: string) => ({
  type: "Reachable",
  status: "False" as const,
  reason: "VaultUnreachable",
  message: "",
  lastTransitionTime: since,
});

test.each([
  { because: "a first failure is tried again at once", conditions: undefined, pause: 1_000 },
  { because: "a fresh failure is tried again soon", conditions: [failed("2026-03-01T00:00:59Z")], pause: 1_000 },
  { because: "one that lasts is tried less often", conditions: [failed("2026-03-01T00:00:40Z")], pause: 10_000 },
  { because: "but never less than once a minute", conditions: [failed("2026-02-01T00:00:00Z")], pause: 60_000 },
  {
    because: "other conditions do not count",
    conditions: [{ ...failed("2026-02-01T00:00:00Z"), type: "Other" }],
    pause: 1_000,
  },
  {
    because: "nor does what holds",
    conditions: [{ ...failed("2026-02-01T00:00:00Z"), status: "True" as const }],
    pause: 1_000,
  },
])("$because", ({ conditions, pause }) => {
  expect(pauseMs(conditions, ["Reachable", "Authorized"], NOW)).toBe(pause);
});
