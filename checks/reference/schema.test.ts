import { fields, type JsonSchema, table, typeOf } from "./schema.ts";

const types: readonly (readonly [says: string, schema: JsonSchema])[] = [
  ["string", { type: "string", minLength: 1 }],
  ["string (at most 63 characters)", { type: "string", minLength: 1, maxLength: 63 }],
  ["string (32 characters)", { type: "string", minLength: 32, maxLength: 32 }],
  ["string (date-time)", { type: "string", format: "date-time" }],
  ["`a` or `b`", { type: "string", enum: ["a", "b"] }],
  ["`true`", { type: "boolean", const: true }],
  ["boolean", { type: "boolean" }],
  ["integer", { type: "integer", minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }],
  ["integer (at least 0)", { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER }],
  ["integer (1 to 9)", { type: "integer", minimum: 1, maximum: 9 }],
  ["list of string (at most 4 items)", { type: "array", items: { type: "string" }, maxItems: 4 }],
  [
    "map to integer (1 to 2 keys)",
    { type: "object", additionalProperties: { type: "integer" }, minProperties: 1, maxProperties: 2 },
  ],
  ["object", { type: "object", additionalProperties: false, properties: {} }],
  ["string or `null`", { anyOf: [{ type: "string" }, { type: "null" }] }],
  ["any", {}],
];

test.each(types)("%s", (says, schema) => expect(typeOf(schema)).toBe(says));

test("fields are told with those in lists and maps, and whether they must be there", () => {
  const leaf: JsonSchema = { type: "string" };
  const inner: JsonSchema = { type: "object", properties: { leaf }, required: ["leaf"] };
  const schema: JsonSchema = {
    type: "object",
    required: ["list"],
    properties: {
      list: { type: "array", items: inner },
      map: { type: "object", additionalProperties: inner },
      object: inner,
    },
  };
  expect(fields(schema).map(({ path, required }) => `${path}${required ? "!" : ""}`)).toEqual([
    "list!",
    "list[].leaf!",
    "map",
    "map.*.leaf!",
    "object",
    "object.leaf!",
  ]);
});

test("an address in a table is no link", () => {
  const [, , row] = table(["a"], [["at https://HOST:PORT, or rediss://x/, `https://y` too."]]);
  expect(row).toBe("| at `https://HOST:PORT`, or `rediss://x/`, `https://y` too. |");
});

test("a table holds what would end a cell or a row, and is none without rows", () => {
  expect(table(["a", "b"], [["1|2", "3\n4"]])).toEqual(["| a | b |", "|---|---|", "| 1\\|2 | 3 4 |", ""]);
  expect(table(["a"], [])).toEqual([]);
});
