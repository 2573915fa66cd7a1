import { type Change, changeOf, type Sides, type Verdict, verdictOn } from "./compare.ts";

const cases: readonly (readonly [title: string, sides: Partial<Sides>, Change])[] = [
  ["as both agreed", {}, "None"],
  ["changed here", { ours: "new" }, "Here"],
  ["changed there", { theirs: "new" }, "There"],
  ["changed to the same on both sides", { ours: "new", theirs: "new" }, "None"],
  ["changed on both sides", { ours: "mine", theirs: "yours" }, "Both"],
  ["never agreed, and equal", { base: undefined }, "None"],
  ["never agreed, and not equal", { base: undefined, theirs: "yours" }, "Both"],
  ["the key was removed there", { theirs: undefined }, "Here"],
  ["removed there and changed here", { ours: "new", theirs: undefined }, "Here"],
  ["never agreed, and the key is not there", { base: undefined, theirs: undefined }, "Here"],
  ["written by one who died over it", { ours: "later", theirs: "meant", meant: ["meant"] }, "Here"],
  ["written by the first of two who died over it", { ours: "later", theirs: "m1", meant: ["m1", "m2"] }, "Here"],
  ["meant, but another value stands there", { ours: "meant", theirs: "yours", meant: ["meant"] }, "Both"],
];

test.each(cases)("%s", (_, sides, expected) => {
  expect(changeOf({ ours: "base", theirs: "base", base: "base", meant: [], ...sides })).toBe(expected);
});

test.each<readonly [Change, Parameters<typeof verdictOn>[1], Parameters<typeof verdictOn>[2], Verdict]>([
  ["None", "Manual", undefined, "None"],
  ["Here", "TargetWins", undefined, "Write"],
  ["There", "PlatformWins", undefined, "Take"],
  ["Both", "PlatformWins", undefined, "Keep"],
  ["Both", "TargetWins", undefined, "Take"],
  ["Both", "Manual", undefined, "Conflict"],
  ["Both", "Manual", "KeepPlatform", "Keep"],
  ["Both", "Manual", "KeepTarget", "Take"],
  ["Both", undefined, undefined, "Conflict"],
])("changed: %s, policy %s, a person said %s", (change, policy, said, expected) => {
  expect(verdictOn(change, policy, said)).toBe(expected);
});
