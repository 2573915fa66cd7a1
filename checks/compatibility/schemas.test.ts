import { z } from "zod";
import { type CustomResourceDefinition, customResourceDefinition } from "../../crds/generate/crd.ts";
import { type KindDefinition, kinds, listAtomic, listMap, rules, secretKind } from "../../crds/index.ts";
import { sentence } from "./break.ts";
import { brokenByDefinition, narrowed, narrowedValues, type Schema } from "./schemas.ts";

const described = { description: "Something." };
const text = z.string().max(8);

/** The kind Thing with one field in its spec. */
const thing = (field: z.ZodType | undefined, change: Partial<KindDefinition> = {}) =>
  customResourceDefinition({ ...secretKind, kind: "Thing", rules: [], spec: specWith(field), ...change });
const specWith = (field: z.ZodType | undefined) =>
  field === undefined ? z.object({}) : z.object({ field: field.meta({ ...described, ...field.meta() }) });
const broken = (before: CustomResourceDefinition, now: CustomResourceDefinition | undefined) =>
  brokenByDefinition(before, now).map(sentence);

describe("a breaking change of a kind is found:", () => {
  const list = (keys: Readonly<Record<string, unknown>>) =>
    z
      .array(z.object({ a: text.meta(described) }))
      .max(9)
      .meta(keys);
  const pattern = (expression: RegExp) => text.regex(expression, "must match");
  const map = (values: z.ZodType) => z.record(pattern(/^[a-z]*$/), values).meta({ maxProperties: 3 });

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
    [
      "a stricter rule",
      text.meta(rules({ rule: "self != ''", message: "m" })),
      text.meta(rules({ rule: "self.size() > 1", message: "m" })),
      "Thing.spec.field: has a new rule: self.size() > 1",
    ],
    [
      "a list gets keys",
      list(listAtomic),
      list(listMap("a")),
      'Thing.spec.field: x-kubernetes-list-type was "atomic", is "map"',
    ],
    [
      "an object that one writer owned becomes one of many",
      z.object({ a: text.optional().meta(described) }),
      z.object({ a: text.meta(described) }),
      'Thing.spec.field: x-kubernetes-map-type was "atomic", is not there',
    ],
    [
      "a shorter item",
      z.array(text).max(3).meta(listAtomic),
      z.array(z.string().max(2)).max(3).meta(listAtomic),
      "Thing.spec.field[]: maxLength fell to 2",
    ],
    ["a shorter value", map(text), map(z.string().max(2)), "Thing.spec.field{value}: maxLength fell to 2"],
  ])("%s", (_, before, now, problem) => {
    expect(broken(thing(before), thing(now))).toContain(problem);
  });

  test("the kind goes", () => {
    expect(broken(thing(text), undefined)).toEqual(["Thing: was removed"]);
  });

  test("the kind changes its scope", () => {
    expect(broken(thing(text), thing(text, { scope: "Cluster" }))).toEqual(["Thing: was Namespaced, is Cluster"]);
  });

  test("the kind loses a short name", () => {
    expect(broken(thing(text, { shortNames: ["th", "tg"] }), thing(text, { shortNames: ["th"] }))).toEqual([
      "Thing: is not called tg any more (shortNames)",
    ]);
  });

  test("the kind loses a column, or one shows something else", () => {
    const column = (name: string, jsonPath: string) => ({ name, type: "string", jsonPath, ...described }) as const;
    const before = thing(text, { columns: [column("Ready", ".a"), column("State", ".b")] });
    expect(broken(before, thing(text, { columns: [column("State", ".c"), column("More", ".d")] }))).toEqual([
      "Thing v1: has no column Ready any more",
      "Thing v1: column State was .b, is .c",
    ]);
  });

  test("its status may have a value more", () => {
    const stating = (state: z.ZodType) =>
      thing(text, {
        status: z.object({
          state: state.meta(described),
          list: z
            .array(state)
            .max(3)
            .meta({ ...described, ...listAtomic }),
        }),
      });
    expect(broken(stating(z.enum(["A"])), stating(z.enum(["A", "B"])))).toEqual([
      "Thing.status.state: may be B now",
      "Thing.status.list[]: may be B now",
    ]);
    expect(broken(stating(z.enum(["A"])), stating(text))).toContain("Thing.status.state: may be anything now");
  });

  test("a version goes, or is not served any more", () => {
    const other = (change: object): CustomResourceDefinition => {
      const { spec, ...rest } = thing(text);
      return { ...rest, spec: { ...spec, versions: [{ ...spec.versions[0], ...change }] } };
    };
    const problem = ["Thing v1: is not served any more"];
    expect(broken(thing(text), other({ name: "v2" }))).toEqual(problem);
    expect(broken(thing(text), other({ served: false }))).toEqual(problem);
    expect(broken(thing(text), other({ subresources: {} }))).toEqual(["Thing v1: has no subresource status any more"]);
  });
});

describe("what accepts at least as much is no breaking change:", () => {
  test.each<[string, z.ZodType | undefined, z.ZodType | undefined]>([
    ["an optional field comes", undefined, text.optional()],
    ["a field becomes optional", text, text.optional()],
    ["a longer string", text, z.string().max(9)],
    ["an enum gains a value", z.enum(["A"]), z.enum(["A", "B"])],
    ["a rule goes", text.meta(rules({ rule: "self != ''", message: "m" })), text],
    [
      "a rule says it in other words",
      text.meta(rules({ rule: "self != ''", message: "m" })),
      text.meta(rules({ rule: "self != ''", message: "n" })),
    ],
    ["another description", text, text.meta({ description: "Other words." })],
  ])("%s", (_, before, now) => {
    expect(broken(thing(before), thing(now))).toEqual([]);
  });

  test.each(kinds)("$kind to itself", (kind) => {
    const definition = customResourceDefinition(kind);
    expect(broken(definition, definition)).toEqual([]);
  });
});

describe("in any other schema", () => {
  const values = (replicas: Schema, more: Schema = {}): Schema => ({
    type: "object",
    additionalProperties: false,
    properties: { replicas },
    ...more,
  });
  const integer = { type: "integer", minimum: 0, maximum: 50 };

  test.each<[string, Schema, Schema, string]>([
    ["anything becomes something", {}, integer, "values.replicas: was anything, is integer"],
    [
      "names that were free are not any more",
      { type: "object" },
      { type: "object", additionalProperties: false },
      "values.replicas{value}: is not accepted any more",
    ],
    [
      "names get a pattern",
      { type: "object", propertyNames: { type: "string" } },
      { type: "object", propertyNames: { type: "string", pattern: "^a$" } },
      "values.replicas{key}: pattern became ^a$",
    ],
    ["another default", { ...integer, default: 1 }, { ...integer, default: 2 }, "values.replicas: default was 1, is 2"],
    ["a default comes", integer, { ...integer, default: 2 }, "values.replicas: default was not there, is 2"],
    ["a default goes", { ...integer, default: 1 }, integer, "values.replicas: default was 1, is not there"],
    [
      "a second name goes",
      { ...integer, aliases: ["A", "B"] },
      { ...integer, aliases: ["B", "C"] },
      "values.replicas: is not called A any more",
    ],
    ["a keyword that is not known here", integer, { ...integer, multipleOf: 2 }, "values.replicas: multipleOf differs"],
  ])("%s", (_, before, now, problem) => {
    expect(narrowed(values(before), values(now), "values").map(sentence)).toEqual([problem]);
  });

  test("what a program asks for of a machine may change, and nothing else of it", () => {
    const asking = (memory: string, maximum: number): Schema => {
      const requests = { type: "object", default: { memory }, maxProperties: maximum };
      const resources = { type: "object", properties: { requests } };
      return values({ type: "object", properties: { resources } });
    };
    expect(narrowedValues(asking("1Gi", 3), asking("2Gi", 3))).toEqual([]);
    expect(narrowedValues(asking("1Gi", 3), asking("2Gi", 2)).map(sentence)).toEqual([
      "values.replicas.resources.requests: maxProperties fell to 2",
    ]);
  });

  test("a name more is no breaking change", () => {
    const more = { properties: { replicas: integer, image: { type: "string", default: "a" } } };
    expect(narrowed(values(integer), values(integer, more), "values")).toEqual([]);
    expect(narrowed(values({ type: "object", additionalProperties: false }), values({ type: "object" }), "v")).toEqual(
      [],
    );
  });
});
