import { Urgency } from "./urgency.ts";

let now = 0;
let urgency: Urgency;

beforeEach(() => {
  now = 0;
  urgency = new Urgency(() => now);
});

test("healing goes on while nothing else is to be done", () => {
  const givesWay = urgency.healing("a/rule");
  now = 9_999;
  expect(givesWay()).toBe(false);
});

test("it gives way at once to what changed, of the same rule only", () => {
  const givesWay = urgency.healing("a/rule");
  urgency.hurry("a/other");
  expect(givesWay()).toBe(false);
  urgency.hurry("a/rule");
  expect(givesWay()).toBe(true);
});

test("what changed before the pass began is part of the pass", () => {
  urgency.hurry("a/rule");
  urgency.passBegins("a/rule");
  expect(urgency.healing("a/rule")()).toBe(false);
});

test("a rule with much to heal lets others have the worker", () => {
  const givesWay = urgency.healing("a/rule");
  now = 10_000;
  expect(givesWay()).toBe(true);
});

test("in a stream of changes healing has its time too", () => {
  const first = urgency.healing("a/rule");
  urgency.hurry("a/rule");
  expect(first()).toBe(true);
  urgency.passBegins("a/rule");
  now = 100;
  const second = urgency.healing("a/rule");
  urgency.hurry("a/rule");
  expect(second()).toBe(false);
  now = 5_099;
  expect(second()).toBe(false);
  now = 5_100;
  expect(second()).toBe(true);
});
