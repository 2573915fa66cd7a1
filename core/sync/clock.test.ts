/** Named cases of who is newer; how it works out in the end is in `exchange.property.test.ts`. */
import { type Aged, isNewer, platformStamp, SOMEBODY, stampTag, targetStamp, writtenAt } from "./clock.ts";
import { INSTALLATION_TAG, SHARED_TAG } from "./ownership.ts";

const at = (text: string): number => Date.parse(`2026-01-01T${text}Z`);
const time = (text: string): Date => new Date(at(text));

describe("the vault's side", () => {
  const stamped = (edited: string, asOf: string) => ({
    [INSTALLATION_TAG]: "other",
    [SHARED_TAG]: stampTag(at(edited), at(asOf)),
  });
  const somebody = { at: at("10:00:00.999"), by: SOMEBODY };

  test.each([
    ["a person's is of when it was made, to the second", {}, somebody],
    [
      "another platform says when it was set there",
      stamped("09:30:00.123", "09:59:59"),
      { at: at("09:30:00.123"), by: "other" },
    ],
    ["one that only pushes says nothing", { [INSTALLATION_TAG]: "other" }, { ...somebody, by: "other" }],
    [
      "one of a version that did not say it yet",
      { [INSTALLATION_TAG]: "other", [SHARED_TAG]: "true" },
      { ...somebody, by: "other" },
    ],
    ["whoever copied the tags of an older version is a person", stamped("09:30:00.123", "09:58:00"), somebody],
    ["nothing was set in the future", stamped("10:05:00.000", "10:00:00"), somebody],
    ["a tag that is no time", { [INSTALLATION_TAG]: "other", [SHARED_TAG]: "x/y" }, { ...somebody, by: "other" }],
  ])("%s", (_, tags, expected) => {
    expect(targetStamp({ tags, createdOn: time("10:00:00") }, { base: undefined, copied: false })).toEqual(expected);
  });

  test("our tags that were copied are a person's", () => {
    const tags = stamped("09:30:00.123", "09:59:59");
    expect(targetStamp({ tags, createdOn: time("10:00:00") }, { base: undefined, copied: true })).toEqual(somebody);
  });

  test("it is after what both sides agreed on, which it was written over", () => {
    const base = at("11:00:00");
    expect(targetStamp({ tags: {}, createdOn: time("10:00:00") }, { base, copied: false }).at).toBe(base + 1);
  });
});

describe("the platform's side", () => {
  const aged = (change: Partial<Aged> = {}): Aged => ({
    asOf: time("10:00:00"),
    elapsedMs: 0,
    heldForMs: 60_000,
    base: undefined,
    installation: "ours",
    ...change,
  });

  test.each<[string, Partial<Aged>, string]>([
    ["it is as old as the store says, by the vault's clock", {}, "09:59:00.999"],
    ["what passed since the vault's answer is no age of it", { elapsedMs: 500 }, "09:59:01.499"],
    ["a database whose clock went back makes nothing younger than now", { heldForMs: -600_000 }, "10:00:00.999"],
    ["it is after what both sides agreed on", { heldForMs: 600_000, base: at("09:59:30.000") }, "09:59:30.001"],
  ])("%s", (_, change, expected) => {
    expect(platformStamp(aged(change))).toEqual({ at: at(expected), by: "ours" });
  });
});

test("of the same millisecond a person wins, then the greater installation: the same on every platform", () => {
  const now = writtenAt(time("10:00:00"));
  const [a, b, person] = ["a", "b", SOMEBODY].map((by) => ({ at: now, by }));
  const later = { at: now + 1, by: "a" };
  if (a === undefined || b === undefined || person === undefined) throw new Error("three stamps");
  expect([isNewer(b, a), isNewer(a, b), isNewer(person, b), isNewer(b, person), isNewer(a, a)]).toEqual([
    true,
    false,
    true,
    false,
    false,
  ]);
  expect(isNewer(later, person)).toBe(true);
});
