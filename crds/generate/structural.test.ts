import { z } from "zod";
import { listAtomic, listMap, rules } from "../common.ts";
import { NotStructural, structural } from "./structural.ts";

const described = { description: "Something." };
const text = z.string().max(8).meta(described);
const field = (schema: z.ZodType): z.ZodType => z.object({ field: schema });

describe("structural() refuses", () => {
  test.each([
    ["a field without a description", z.string().max(8), "has no description"],
    ["a string without a bound", z.string().meta(described), "has no maxLength"],
    ["a list without a bound", z.array(text).meta({ ...described, ...listAtomic }), "has no maxItems"],
    ["a list without a list type", z.array(text).max(3).meta(described), "has no x-kubernetes-list-type"],
    [
      "an unbounded item",
      z
        .array(z.string())
        .max(3)
        .meta({ ...described, ...listAtomic }),
      "has no maxLength",
    ],
    ["a map without a bound", z.record(z.string().max(8), text).meta(described), "has no maxProperties"],
    [
      "a list keyed by an optional field",
      z
        .array(z.object({ name: text.optional() }))
        .max(3)
        .meta({ ...described, ...listMap("name") }),
      "list map key name is not required",
    ],
    ["a union", z.union([text, z.boolean()]).meta(described), "cannot express"],
    [
      "a discriminated union",
      z.discriminatedUnion("kind", [z.object({ kind: z.literal("a") })]).meta(described),
      "cannot",
    ],
    ["a reference", z.object({ name: text }).meta({ id: "referred", ...described }), "cannot express"],
    ["null", text.nullable(), "does not know nullable"],
    ["a default", text.default("a"), "does not know default"],
    ["any value", z.unknown().meta(described), "cannot express"],
    ["a fraction", z.number().min(0).max(1).meta(described), "cannot express"],
    ["a strict object", z.strictObject({ name: text }).meta(described), "does not know additionalProperties"],
    ["a refinement", text.refine((value) => value !== ""), "a custom check would be lost"],
    ["a normalisation", z.string().max(8).trim().meta(described), "a overwrite check would be lost"],
    ["a pattern without a message", z.string().max(8).regex(/^a$/).meta(described), "its pattern has no message"],
    ["a loose pattern", z.string().max(8).regex(/a$/, "must end").meta(described), "anchored at both ends"],
    [
      "look-ahead",
      z
        .string()
        .max(8)
        .regex(/^(?=a)$/, "must a")
        .meta(described),
      "RE2 has no look-around",
    ],
    [
      "a back-reference",
      z
        .string()
        .max(8)
        .regex(/^(a)\1$/, "must a")
        .meta(described),
      "RE2 has no look-around",
    ],
    ["a format that it does not know", z.email().max(99).meta(described), "does not know format"],
    [
      "a structural hint that it does not know",
      text.meta({ ...described, "x-kubernetes-int-or-string": true }),
      "int-or",
    ],
  ])("%s", (_, schema, problem) => {
    const convert = (): unknown => structural(field(schema), "Kind.spec");
    expect(convert).toThrow(NotStructural);
    expect(convert).toThrow(problem);
    expect(convert).toThrow("Kind.spec");
  });
});

describe("structural() keeps", () => {
  test("what a record asks of its keys, as a rule before the record's own", () => {
    const own = { rule: "self.size() > 0", message: "must not be empty" };
    const keys = z
      .string()
      .min(2)
      .max(9)
      .regex(/^a\/b$/, "must be a/b");
    const schema = structural(
      field(z.record(keys, text).meta({ ...described, maxProperties: 3, ...rules(own) })),
      "spec",
    );
    expect(schema.properties?.field).toEqual({
      ...described,
      type: "object",
      maxProperties: 3,
      "x-kubernetes-map-type": "atomic",
      additionalProperties: { ...described, type: "string", maxLength: 8 },
      "x-kubernetes-validations": [
        {
          rule: "self.all(k, k.size() >= 2 && k.size() <= 9 && k.matches(r'^a/b$'))",
          message: "each key must be a/b (at least 2 and at most 9 characters)",
        },
        own,
      ],
    });
  });

  test("a pattern for tools, and its message for people", () => {
    const schema = structural(field(z.string().max(8).regex(/^a\/$/, "must be a/").meta(described)), "spec");
    expect(schema.properties?.field).toEqual({
      ...described,
      type: "string",
      maxLength: 8,
      pattern: "^a/$",
      "x-kubernetes-validations": [{ rule: "self.matches(r'^a/$')", message: "must be a/" }],
    });
  });

  test("objects that may be empty as a whole, and others field by field", () => {
    const inner = (fields: z.ZodRawShape) => structural(field(z.object(fields).meta(described)), "spec");
    expect(inner({ a: text.optional() }).properties?.field?.["x-kubernetes-map-type"]).toBe("atomic");
    expect(inner({ a: text }).properties?.field?.["x-kubernetes-map-type"]).toBeUndefined();
    expect(inner({ a: text.optional() })["x-kubernetes-map-type"]).toBeUndefined();
  });

  test("which fields are required", () => {
    expect(structural(z.object({ a: text, b: text.optional() }), "spec").required).toEqual(["a"]);
  });
});
