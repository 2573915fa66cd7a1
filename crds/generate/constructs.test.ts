import { z } from "zod";
import { exactlyOneOf, type KindDefinition, listAtomic, rules } from "../common.ts";
import { kinds } from "../index.ts";
import { constructModules, typeDeclarations } from "./constructs.ts";

const text = z.string().max(8).meta({ description: "A text." });
const kindOf = (shape: z.ZodRawShape, more: Partial<KindDefinition> = {}): KindDefinition => ({
  kind: "Thing",
  plural: "things",
  singular: "thing",
  shortNames: [],
  scope: "Namespaced",
  description: "A thing.",
  spec: z.object(shape),
  status: z.object({}),
  columns: [],
  ...more,
});
const moduleOf = (kind: KindDefinition): string => constructModules([kind]).get("thing.ts") ?? "";

test("there is a module for each kind, and an index of them", () => {
  const files = constructModules(kinds);
  expect(files.size).toBe(kinds.length + 1);
  expect(files.get("index.ts")?.match(/^export \* from/gm)).toHaveLength(kinds.length);
});

test("a rule over the whole object stands with its spec", () => {
  const rule = { rule: "self.metadata.name.size() < 9", message: "the name must be short" };
  expect(moduleOf(kindOf({ text }, { rules: [rule] }))).toContain(
    " * - the name must be short\n */\nexport interface ThingSpec",
  );
});

test("of an exclusive choice every field is required in its own case", () => {
  const choice = z.object({ a: text.optional(), b: text.optional(), c: text }).meta(rules(exactlyOneOf("a", "b")));
  expect(moduleOf(kindOf({ choice: choice.meta({ description: "A choice." }) }))).toContain(`export type ThingChoice = {
  /** A text. */
  readonly c: string;
} & OneOf<{
  /** A text. */
  readonly a: string;
  /** A text. */
  readonly b: string;
}>;`);
});

test("two objects of one name are refused, as TypeScript would merge them", () => {
  const inner = z.object({ text }).meta({ description: "An object." });
  const list = z
    .array(z.object({ text }))
    .max(3)
    .meta({ description: "A list.", ...listAtomic });
  expect(() => moduleOf(kindOf({ entry: inner, entries: list }))).toThrow("two objects would be of type ThingEntry");
});

test("of JSON Schema: what is left open, defaults, and no comment where nothing is said", () => {
  const properties = {
    volumes: { type: "array", items: { type: "object", additionalProperties: {} }, description: "Volumes." },
    labels: { type: "object", additionalProperties: { type: "string" } },
    ratio: { type: "number", default: 0.5 },
    inner: { type: "object", properties: { list: { type: "array", items: { type: "string" }, default: ["a"] } } },
  } as const;
  expect(
    typeDeclarations({ type: "object", properties, additionalProperties: false }, "Values"),
  ).toBe(`export interface Values {
  /** Volumes. */
  readonly volumes?: readonly object[];
  readonly labels?: Readonly<Record<string, string>>;
  /** @default 0.5 */
  readonly ratio?: number;
  readonly inner?: ValuesInner;
}

export interface ValuesInner {
  /** @default ["a"] */
  readonly list?: readonly string[];
}
`);
});

test("a description does not end its comment", () => {
  expect(moduleOf(kindOf({ text: text.meta({ description: "Such as */5 * * * *." }) }))).toContain(
    "/** Such as *\\/5 * * * *. */",
  );
});
