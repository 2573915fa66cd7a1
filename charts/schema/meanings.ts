/** What values mean and what they are unless said, from `values.yaml` into their schema: for editors, and for types. */
import { isCollection, isMap, isScalar, type Node, parseDocument, type YAMLMap } from "yaml";
import type { JsonSchema } from "./settings.ts";

/** What Helm hands to a chart that another one depends on; nobody sets it for this one. */
const NOT_IN_VALUES = ["global"];

/**
 * The schema with a description and a default where `values.yaml` has them.
 * @throws when it lacks a value of the schema, or has one that the schema does not know
 */
export function withMeanings(schema: JsonSchema, valuesYaml: string): JsonSchema {
  const { contents } = parseDocument(valuesYaml);
  if (!isMap(contents)) throw new Error("values.yaml is no map");
  const properties = { ...propertiesOf(schema) };
  for (const name of NOT_IN_VALUES) delete properties[name];
  describe(properties, contents as YAMLMap<Node, Node>, "");
  // A component's own `pod` is empty, and has the same fields.
  const { pod, ...components } = propertiesOf(schema);
  for (const component of Object.values(components)) {
    const own = propertiesOf(propertiesOf(component).pod ?? {});
    for (const [name, field] of Object.entries(own)) {
      const { description } = propertiesOf(pod ?? {})[name] ?? {};
      if (description !== undefined) field.description = description;
    }
  }
  return schema;
}

function describe(properties: Readonly<Record<string, JsonSchema>>, values: YAMLMap<Node, Node>, path: string): void {
  for (const [index, { key, value }] of values.items.entries()) {
    const name = String(key);
    const field = properties[name];
    if (field === undefined) throw new Error(`values.yaml has ${path}${name}, which charts/schema/values.ts does not`);
    const meaning = meaningOf((index === 0 && values.commentBefore) || key.commentBefore);
    if (meaning !== undefined) field.description = meaning;
    if (isMap<Node, Node>(value) && value.items.length > 0 && field.properties !== undefined)
      describe(propertiesOf(field), value, `${path}${name}.`);
    else if (value !== null && !isEmpty(value)) field.default = value.toJSON();
  }
  const missing = Object.keys(properties).filter((name) => !values.has(name));
  if (missing.length > 0) throw new Error(`values.yaml does not say what ${path}${missing.join(` and ${path}`)} is`);
}

/** What stands right above a value; what is set apart by an empty line is about more than it. */
const meaningOf = (comment: string | null | undefined): string | undefined =>
  comment?.split(/\n\n/).at(-1)?.replace(/^ /gm, "").replaceAll("\n", " ");

/** Says only that nothing is said. */
const isEmpty = (value: Node): boolean =>
  (isScalar(value) && value.value === "") || (isCollection(value) && value.items.length === 0);

const propertiesOf = (schema: JsonSchema) => (schema.properties ?? {}) as Readonly<Record<string, JsonSchema>>;
