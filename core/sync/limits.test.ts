import {
  approvalOf,
  hashOf,
  heldOf,
  inOrder,
  type LimitsSpec,
  limitsOf,
  type PlannedAction,
  planned,
} from "./limits.ts";

const entry = (at: number) => ({ secretName: "orders", key: `key-${at}`, entryName: `Orders--key-${at}` });
const deletions = (count: number): PlannedAction[] =>
  Array.from({ length: count }, (_, at) => planned("Delete", entry(at), "Deletions"));
const changes = (count: number): PlannedAction[] =>
  Array.from({ length: count }, (_, at) => planned("Update", entry(at), "Changes"));
const creations = (count: number): PlannedAction[] =>
  Array.from({ length: count }, (_, at) => planned("Create", entry(at)));
const none = { approved: new Set<string>(), place: "rule" };
const held = (plan: readonly PlannedAction[], spec: LimitsSpec = {}, covered = 100, isProtected = false) => {
  const found = heldOf(plan, limitsOf(spec, covered, isProtected), none);
  return found === undefined ? "nothing" : [...found.kinds].sort().join(" and ");
};

describe("limits", () => {
  it.each<[string, string, string]>([
    ["as many deletions as are usual", held(deletions(10)), "nothing"],
    ["one more", held(deletions(11)), "Deletions"],
    ["any number of changes and of new entries", held([...changes(1_000), ...creations(1_000)]), "nothing"],
    ["as many deletions as the rule says", held(deletions(20), { deletions: 20 }), "nothing"],
    ["a single deletion where none may be", held(deletions(1), { deletions: 0 }), "Deletions"],
    ["as many changes as the rule says", held(changes(20), { changes: "20" }), "nothing"],
    ["one more change", held(changes(21), { changes: "20" }), "Changes"],
    ["half of them", held(changes(50), { changes: "50%" }), "nothing"],
    ["more than half", held(changes(51), { changes: "50%" }), "Changes"],
    ["an odd half", held(changes(4), { changes: "50%" }, 7), "Changes"],
    ["all of few", held(changes(4), { changes: "50%" }, 4), "nothing"],
    ["all of few where few are none", held(changes(4), { changes: "50%", minimum: 0 }, 4), "Changes"],
    ["a change where none may be", held(changes(1), { changes: "0%" }), "Changes"],
    ["both", held([...deletions(11), ...changes(2)], { changes: "1" }), "Changes and Deletions"],
    ["few in a protected environment", held([...deletions(3), ...changes(10)], {}, 100, true), "nothing"],
    ["more deletions there, whatever the rule says", held(deletions(4), { deletions: 100 }, 100, true), "Deletions"],
    ["more changes there", held(changes(11), {}, 100, true), "Changes"],
    ["less there where the rule says less", held(deletions(2), { deletions: 1 }, 100, true), "Deletions"],
  ])("%s", (_, found, expected) => expect(found).toBe(expected));
});

describe("a plan that stands still", () => {
  const limits = { deletions: 10, changes: 10 };

  it("is of the kind that exceeds its limit, and has the same hash in any order", () => {
    const plan = [...deletions(11), ...changes(3), ...creations(3)];
    const found = heldOf(plan, limits, none);
    expect(found).toMatchObject({ deletions: 11, changes: 3 });
    expect(found?.actions).toHaveLength(11);
    expect(heldOf(plan.toReversed(), limits, none)?.hash).toBe(found?.hash);
    expect(heldOf([...plan, ...creations(5)], limits, none)?.hash).toBe(found?.hash);
  });

  it("has another hash when it grew, for another rule, and after a release", () => {
    const hash = heldOf(deletions(11), limits, none)?.hash ?? "";
    expect(hash).toMatch(/^[0-9a-f]{16}$/);
    const others = [
      heldOf(deletions(12), limits, none),
      heldOf(deletions(11), limits, { ...none, place: "another" }),
      heldOf(deletions(11), limits, { ...none, release: hash }),
    ];
    expect(new Set([hash, ...others.map((each) => each?.hash)]).size).toBe(4);
    expect(hashOf(deletions(11), "rule")).toBe(hash);
  });

  it("goes on with what was approved, and counts only what comes on top", () => {
    const approved = new Set(deletions(11).map(approvalOf));
    expect(heldOf(deletions(11), limits, { ...none, approved })).toBeUndefined();
    expect(heldOf(deletions(21), limits, { ...none, approved })).toBeUndefined();
    expect(heldOf(deletions(22), limits, { ...none, approved })?.actions).toHaveLength(11);
  });
});

it("a plan is read with deletions first, then by name", () => {
  const plan = [...creations(1), ...changes(2).toReversed(), ...deletions(1)];
  expect(inOrder(plan).map(({ action, key }) => `${action} ${key}`)).toEqual([
    "Delete key-0",
    "Update key-0",
    "Update key-1",
    "Create key-0",
  ]);
});
