import { z } from "zod";
import { type KindDefinition, kinds, listAtomic, listMap, rules, secretKind } from "../index.ts";
import { breakingChanges } from "./compatibility.ts";
import { customResourceDefinition } from "./crd.ts";

const described = { description: "Something." };
const text = z.string().max(8);

/** The kind Thing with one field in its spec. */
const thing = (field: z.ZodType | undefined, change: Partial<KindDefinition> = {}) =>
  customResourceDefinition({ ...secretKind, kind: "Thing", rules: [], spec: specWith(field), ...change });
const specWith = (field: z.ZodType | undefined) =>
  field === undefined ? z.object({}) : z.object({ field: field.meta({ ...described, ...field.meta() }) });

describe("a breaking change is found:", () => {
  const list = (keys: Readonly<Record<string, unknown>>) =>
    z
      .array(z.object({ a: text.meta(described) }))
      .max(9)
      .meta(keys);
  const pattern = (expression: RegExp) => text.regex(expression, "must match");

  test.each<[string, z.ZodType | undefined, z.ZodType | undefined, string]>([
    ["a field goes", text, undefined, "Thing.spec.field: was removed"],
    ["a field becomes required", text.optional(), text, "Thing.spec: requires field now"],
    ["a required field comes", undefined, text, "Thing.spec: requires field now"],
    ["another type", text, z.boolean(), "Thing.spec.field: was string, is boolean"],
    ["a shorter string", text, z.string().max(7), "Thing.spec.field: maxLength fell to 7"],
    ["a new lower bound", text, text.min(1), "Thing.spec.field: minLength rose to 1"],
    ["a smaller range", z.int().min(1).max(9), z.int().min(2).max(8), "Thing.spec.field: minimum rose to 2"],
    ["an enum loses a value", z.enum(["A", "B"]), z.enum(["B"]), "Thing.spec.field: no longer accepts A"],
    ["a string becomes an enum", text, z.enum(["A"]), "Thing.spec.field: accepts only A now"],
    ["another pattern", pattern(/^a*$/), pattern(/^b*$/), "Thing.spec.field: pattern became ^b*$"],
    [
      "a new rule",
      text,
      text.meta(rules({ rule: "self != ''", message: "m" })),
      "Thing.spec.field: has a new rule: self != ''",
    ],
    ["a list gets keys", list(listAtomic), list(listMap("a")), "Thing.spec.field: x-kubernetes-list-type became map"],
    [
      "a shorter item",
      z.array(text).max(3).meta(listAtomic),
      z.array(z.string().max(2)).max(3).meta(listAtomic),
      "Thing.spec.field[]: maxLength fell to 2",
    ],
  ])("%s", (_, before, now, problem) => {
    expect(breakingChanges(thing(before), thing(now))).toContain(problem);
  });

  test("the kind goes", () => {
    expect(breakingChanges(thing(text), undefined)).toEqual(["Thing: was removed"]);
  });

  test("the kind changes its scope", () => {
    expect(breakingChanges(thing(text), thing(text, { scope: "Cluster" }))).toEqual(["Thing: changed its scope"]);
  });
});

describe("what accepts at least as much is no breaking change:", () => {
  test.each<[string, z.ZodType | undefined, z.ZodType | undefined]>([
    ["an optional field comes", undefined, text.optional()],
    ["a field becomes optional", text, text.optional()],
    ["a longer string", text, z.string().max(9)],
    ["an enum gains a value", z.enum(["A"]), z.enum(["A", "B"])],
    ["a rule goes", text.meta(rules({ rule: "self != ''", message: "m" })), text],
    ["another description", text, text.meta({ description: "Other words." })],
  ])("%s", (_, before, now) => {
    expect(breakingChanges(thing(before), thing(now))).toEqual([]);
  });

  test.each(kinds)("$kind to itself", (kind) => {
    const definition = customResourceDefinition(kind);
    expect(breakingChanges(definition, definition)).toEqual([]);
  });
});
