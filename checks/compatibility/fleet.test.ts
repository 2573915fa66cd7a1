import { sentence } from "./break.ts";
import { brokenByExchanges, type Exchanges, exchanges } from "./fleet.ts";
import type { Schema } from "./schemas.ts";

const object = (properties: Readonly<Record<string, Schema>>, more: Schema = {}): Schema => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  ...more,
});
const text: Schema = { type: "string", maxLength: 8 };
const longer: Schema = { type: "string", maxLength: 9 };
const form = (kind: string, more: Readonly<Record<string, Schema>> = {}): Schema =>
  object({ kind: { type: "string", const: kind }, ...more });
const one = (...forms: Schema[]): Schema => ({ oneOf: forms });

const broken = (before: Exchanges[string], now: Exchanges[string] | undefined) =>
  brokenByExchanges({ "/a": before }, now === undefined ? {} : { "/a": now }).map(sentence);

test.each<[string, Exchanges[string], Exchanges[string] | undefined, string]>([
  ["a route goes", { body: text }, undefined, "/a: was removed"],
  ["a body may be less", { body: longer }, { body: text }, "/a body: maxLength fell to 8"],
  ["a body must have more", { body: object({}) }, { body: object({ a: text }) }, "/a body: requires a now"],
  [
    "a body may not have a form",
    { body: one(form("A"), form("B")) },
    { body: one(form("A")) },
    "/a body: no longer accepts all with kind B",
  ],
  [
    "an answer says more than is read",
    { body: {}, answer: object({ a: text }) },
    { body: {}, answer: object({ a: longer }) },
    "/a answer.a: maxLength fell to 8, as the last release reads it",
  ],
  [
    "an answer lacks what is read",
    { body: {}, answer: object({ a: text, b: text }) },
    { body: {}, answer: object({ a: text }) },
    "/a answer: requires b now, as the last release reads it",
  ],
  [
    "an answer may lack what is read",
    { body: {}, answer: object({ a: text }) },
    { body: {}, answer: object({ a: text }, { required: [] }) },
    "/a answer: requires a now, as the last release reads it",
  ],
  [
    "an answer has another form",
    { body: {}, answer: one(form("A")) },
    { body: {}, answer: one(form("A"), form("B")) },
    "/a answer: no longer accepts all with kind B, as the last release reads it",
  ],
  [
    "an answer has another value",
    { body: {}, answer: object({ a: { type: "string", enum: ["A"] } }) },
    { body: {}, answer: object({ a: { type: "string", enum: ["A", "B"] } }) },
    "/a answer.a: no longer accepts B, as the last release reads it",
  ],
  [
    "an answer is none any more",
    { body: {}, answer: object({ a: text }) },
    { body: {} },
    "/a answer: was anything, is object, as the last release reads it",
  ],
])("what the last release does not send or read is found: %s", (_, before, now, problem) => {
  expect(broken(before, now)).toEqual([problem]);
});

test.each<[string, Exchanges[string], Exchanges[string]]>([
  ["a body may be more", { body: object({ a: text }) }, { body: object({ a: longer }) }],
  ["a body may have more", { body: object({ a: text }) }, { body: object({ a: text, b: text }, { required: ["a"] }) }],
  ["a body may have another form", { body: one(form("A")) }, { body: one(form("B"), form("A")) }],
  [
    "an answer has a field more, also in one of its forms",
    { body: {}, answer: object({ a: one(form("A")) }) },
    { body: {}, answer: object({ a: one(form("A", { c: text })), b: text }) },
  ],
  ["an answer has a form less", { body: {}, answer: one(form("A"), form("B")) }, { body: {}, answer: one(form("A")) }],
  ["an answer is shorter", { body: {}, answer: object({ a: longer }) }, { body: {}, answer: object({ a: text }) }],
  ["there is an answer", { body: {} }, { body: {}, answer: object({ a: text }) }],
])("what it sends and reads all the same is none of it: %s", (_, before, now) => {
  expect(broken(before, now)).toEqual([]);
});

test("what is said today is the same as what is said today", () => {
  expect(brokenByExchanges(exchanges(), exchanges())).toEqual([]);
});
