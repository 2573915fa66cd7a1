import type { KeyVault } from "../../crds/keyvault.ts";
import { decide, type Observed } from "./decide.ts";

const now = new Date("2026-03-01T10:00:00Z");

const keyVault = (callsPer10Seconds?: number): KeyVault => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name: "kv", namespace: "payments", uid: "u", resourceVersion: "1", generation: 1 },
  spec: {
    projectRef: { name: "payments" },
    vaultUrl: "https://crdprointmzvgwckv01.vault.azure.net/",
    auth: { managedIdentity: {} },
    ...(callsPer10Seconds !== undefined && { budget: { callsPer10Seconds } }),
  },
});

const answered = { kind: "Answered", at: now, named: false } as const;
const decided = (seen: Partial<Observed>, budget?: number) => {
  const { status } = decide(keyVault(budget), { probe: answered, intervalsMs: [], ...seen }, now);
  return { fields: status.fields, affordable: status.conditions.find(({ type }) => type === "Affordable") };
};

test.each<{ because: string; seen: Partial<Observed>; calls: number }>([
  { because: "without a rule only the probe calls, every five minutes", seen: { entries: 3 }, calls: 288 },
  { because: "an empty vault has one page", seen: { entries: 0, intervalsMs: [60_000] }, calls: 1_440 + 288 },
  { because: "a page holds 25 entries", seen: { entries: 118, intervalsMs: [60_000] }, calls: 5 * 1_440 + 288 },
  {
    because: "a full last page is no further one",
    seen: { entries: 125, intervalsMs: [60_000] },
    calls: 5 * 1_440 + 288,
  },
  {
    because: "each rule looks in its own interval",
    seen: { entries: 1_000, intervalsMs: [60_000, 600_000] },
    calls: 40 * (1_440 + 144) + 288,
  },
])("$because", ({ seen, calls }) => {
  expect(decided(seen)).toMatchObject({
    fields: { secrets: seen.entries, forecastCallsPerDay: calls },
    affordable: { status: "True" },
  });
});

test("as long as nobody knows how many entries there are, nothing is said", () => {
  expect(decided({ intervalsMs: [60_000] })).toEqual({ fields: {}, affordable: undefined });
});

test("more than the budget has is told with what to do about it", () => {
  // A thousand entries each 10 s are 40 calls, of 39.
  const { affordable } = decided({ entries: 1_000, intervalsMs: [10_000] }, 39);
  expect(affordable).toMatchObject({ status: "False", reason: "ForecastExceedsBudget" });
  expect(affordable?.message).toMatch(/345888 calls a day, and its budget has 336960: raise spec\.interval .*\(1\)/);
});

test("what it costs is still told while the vault does not answer", () => {
  const probe = { kind: "Refused", reason: "VaultUnreachable", message: "m", stalled: false } as const;
  expect(decided({ probe, entries: 30, intervalsMs: [60_000] }).fields).toEqual({
    secrets: 30,
    forecastCallsPerDay: 2 * 1_440 + 288,
  });
});
