import fc from "fast-check";
import { checkRenewal, type RenewalSpec, renewalTime } from "./renewal.ts";

const hour = 3600_000;
const day = 24 * hour;
const issuedAt = new Date("2026-01-01T00:00:00Z");
/** Hours after the issue, of a certificate of 90 days. */
const hoursUntil = (spec: RenewalSpec, days = 90, seed = "a") =>
  (renewalTime(issuedAt, new Date(issuedAt.getTime() + days * day), spec, seed).getTime() - issuedAt.getTime()) / hour;

test.each<[string, RenewalSpec, number]>([
  ["a third before the end", {}, 60 * 24],
  ["renewBefore", { renewBeforeMs: 30 * day }, 60 * 24],
  ["renewBeforePercentage", { renewBeforePercentage: 25 }, 67.5 * 24],
  ["renewBefore longer than the certificate lives", { renewBeforeMs: 91 * day }, 60 * 24],
  ["renewBefore as long as the certificate lives", { renewBeforeMs: 90 * day }, 60 * 24],
])("%s, up to a day earlier", (_, spec, hours) => {
  const times = Array.from({ length: 500 }, (_, n) => hoursUntil(spec, 90, `uid-${n}`));
  expect(Math.max(...times)).toBeLessThanOrEqual(hours);
  expect(Math.max(...times)).toBeGreaterThan(hours - 1);
  expect(Math.min(...times)).toBeGreaterThanOrEqual(hours - 24);
  expect(Math.min(...times)).toBeLessThan(hours - 23);
  // Spread evenly: no hour of the day has three times its share.
  const perHour = Array.from({ length: 24 }, (_, n) => times.filter((time) => Math.floor(hours - time) === n).length);
  expect(Math.max(...perHour)).toBeLessThan((3 * 500) / 24);
});

test("the same seed gives the same time, another one another", () => {
  expect(hoursUntil({}, 90, "a")).toBe(hoursUntil({}, 90, "a"));
  expect(hoursUntil({}, 90, "a")).not.toBe(hoursUntil({}, 90, "b"));
});

test("it lies after the issue and before the end, whatever is asked for", () => {
  const some = fc.option(fc.integer({ min: 1, max: 10_000 * hour }), { nil: undefined });
  const percent = fc.option(fc.integer({ min: 1, max: 99 }), { nil: undefined });
  fc.assert(
    fc.property(
      fc.integer({ min: 60_000, max: 10_000 * hour }),
      some,
      percent,
      fc.string(),
      (lifetime, before, part, seed) => {
        const spec = {
          ...(before !== undefined && { renewBeforeMs: before }),
          ...(part !== undefined && { renewBeforePercentage: part }),
        };
        const at =
          renewalTime(issuedAt, new Date(issuedAt.getTime() + lifetime), spec, seed).getTime() - issuedAt.getTime();
        expect(at).toBeGreaterThanOrEqual(0);
        expect(at).toBeLessThan(lifetime);
        const configured = before ?? (lifetime * (part ?? 100 / 3)) / 100;
        if (configured < lifetime) expect(at).toBeGreaterThanOrEqual(Math.floor((lifetime - configured) * 0.97 - 1));
        if (configured < lifetime) expect(at).toBeLessThanOrEqual(lifetime - configured);
      },
    ),
  );
});

test.each<[number, RenewalSpec, string]>([
  [day, { renewBeforeMs: day }, "renewBefore: must be shorter than duration"],
  [day, { renewBeforeMs: 2 * day }, "renewBefore: must be shorter than duration"],
  [day, { renewBeforeMs: hour, renewBeforePercentage: 10 }, "renewBeforePercentage: stands beside renewBefore"],
  [day, { renewBeforePercentage: 0 }, "renewBeforePercentage: must lie between 1 and 99"],
  [day, { renewBeforePercentage: 100 }, "renewBeforePercentage: must lie between 1 and 99"],
])("%i ms with %p is refused", (duration, spec, message) => {
  expect(() => checkRenewal(duration, spec)).toThrow(message);
});

test.each<RenewalSpec>([{}, { renewBeforeMs: hour }, { renewBeforePercentage: 1 }, { renewBeforePercentage: 99 }])(
  "%p is fine for a day",
  (spec) => {
    expect(() => checkRenewal(day, spec)).not.toThrow();
  },
);
