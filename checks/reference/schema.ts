/** A JSON Schema in words, for tables of the reference. */

export interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema | boolean;
  readonly anyOf?: readonly JsonSchema[];
}

/** A field, wherever it lies; `[]` in its path is each item of a list, `.*` each value of a map. */
export interface Field {
  readonly path: string;
  readonly schema: JsonSchema;
  readonly required: boolean;
}

/** All fields of an object, each before those in it. */
export function fields({ properties = {}, required = [] }: JsonSchema, prefix = ""): Field[] {
  return Object.entries(properties).flatMap(([name, schema]) => {
    const path = `${prefix}${name}`;
    return [{ path, schema, required: required.includes(name) }, ...within(schema, path)];
  });
}

/** Of what a value is made of, where that has fields. */
function within(schema: JsonSchema, path: string): Field[] {
  if (schema.items !== undefined) return within(schema.items, `${path}[]`);
  if (typeof schema.additionalProperties === "object") return within(schema.additionalProperties, `${path}.*`);
  return fields(schema, `${path}.`);
}

/** A value as it is written; text without quotes. */
export const code = (value: unknown): string => `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;

export function typeOf(schema: JsonSchema): string {
  const { type, format, items, additionalProperties, minimum, maximum, anyOf } = schema;
  if (schema.const !== undefined) return code(schema.const);
  if (schema.enum !== undefined) return schema.enum.map(code).join(" or ");
  if (anyOf !== undefined) return anyOf.map(typeOf).join(" or ");
  switch (type) {
    case "array":
      return `list of ${typeOf(items ?? {})}${inBrackets(range(schema.minItems, schema.maxItems), " items")}`;
    case "object":
      if (typeof additionalProperties !== "object") return "object";
      return `map to ${typeOf(additionalProperties)}${inBrackets(range(schema.minProperties, schema.maxProperties), " keys")}`;
    case "integer":
    case "number":
      return `${type}${inBrackets(range(bound(minimum), bound(maximum)))}`;
    case "string": {
      if (format !== undefined) return `string (${format})`;
      // That something must not be empty goes without saying.
      const least = schema.minLength === 1 ? undefined : schema.minLength;
      return `string${inBrackets(range(least, schema.maxLength), " characters")}`;
    }
    case "null":
      return "`null`";
    case undefined:
      return "any";
    default:
      return type;
  }
}

/** JSON Schema says the bounds of what a number can be at all. */
const bound = (value: number | undefined): number | undefined =>
  value === undefined || Math.abs(value) === Number.MAX_SAFE_INTEGER ? undefined : value;

function range(least: number | undefined, most: number | undefined): string {
  if (least === undefined) return most === undefined ? "" : `at most ${most}`;
  if (most === undefined) return `at least ${least}`;
  return least === most ? `${most}` : `${least} to ${most}`;
}

const inBrackets = (text: string, unit = ""): string => (text === "" ? "" : ` (${text}${unit})`);

/** As it may stand in a table. An address that is an example is no link. */
const cell = (text: string): string =>
  text
    .replaceAll("|", "\\|")
    .replaceAll("\n", " ")
    .replaceAll(/(?<![`\w(])[a-z]+:\/\/[^\s`]*[\w/]/g, (address) => `\`${address}\``);

/** A table of Markdown; none where there are no rows. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(" | ")} |`;
  return [line(heads), `|${"---|".repeat(heads.length)}`, ...rows.map(line), ""];
}
