import { withMeanings } from "./meanings.ts";
import type { JsonSchema } from "./settings.ts";

const text = (): JsonSchema => ({ type: "string" });
const object = (properties: Record<string, JsonSchema>): JsonSchema => ({ type: "object", properties });
const open = (): JsonSchema => ({ type: "object", additionalProperties: {} });

test("a value means what stands right above it, and is what values.yaml says", () => {
  const schema = object({ mode: text(), size: { type: "integer" }, inner: object({ name: text() }) });
  const values = `# Of the file.

# What it is,
# in two lines.
mode: primary
size: 3
# An object.
inner:
  # Its name.
  name: a
`;
  expect(withMeanings(schema, values).properties).toEqual({
    mode: { type: "string", description: "What it is, in two lines.", default: "primary" },
    size: { type: "integer", default: 3 },
    inner: {
      type: "object",
      description: "An object.",
      properties: { name: { type: "string", description: "Its name.", default: "a" } },
    },
  });
});

test("nothing is no default, and of an object that Kubernetes knows the whole is one", () => {
  const schema = object({ empty: text(), list: { type: "array" }, map: open(), limits: open() });
  expect(withMeanings(schema, "empty: ''\nlist: []\nmap: {}\nlimits: {cpu: 1}\n").properties).toEqual({
    empty: text(),
    list: { type: "array" },
    map: open(),
    limits: { ...open(), default: { cpu: 1 } },
  });
});

test("a component's own pod has the meanings of the common one, but not its defaults", () => {
  const pod = () => object({ labels: open(), grace: { type: "integer" } });
  const schema = object({ pod: pod(), rest: object({ pod: pod() }) });
  const { properties } = withMeanings(schema, "pod:\n  labels: {}\n  # Seconds.\n  grace: 45\nrest: {pod: {}}\n");
  expect(properties).toMatchObject({
    pod: { properties: { grace: { description: "Seconds.", default: 45 } } },
    rest: { properties: { pod: { properties: { grace: { type: "integer", description: "Seconds." } } } } },
  });
  expect(JSON.stringify(properties).match(/45/g)).toHaveLength(1);
});

test("neither has a value that the other does not know", () => {
  const schema = () => object({ inner: object({ name: text() }) });
  expect(() => withMeanings(schema(), "inner: {nam: a}\n")).toThrow("values.yaml has inner.nam, which");
  expect(() => withMeanings(schema(), "inner: {other: a, name: b}\n")).toThrow("values.yaml has inner.other, which");
  expect(() => withMeanings(object({ a: text(), b: text() }), "a: x\n")).toThrow("values.yaml does not say what b is");
});
