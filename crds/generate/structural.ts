/**
 * From a zod schema to the structural schema that a CustomResourceDefinition takes.
 *
 * The pass knows a small language and throws on everything outside it: what the API server would refuse, drop or
 * leave unbounded is found when the schema is written, not when a cluster meets it.
 */
import { z } from "zod";
import type { CelRule } from "../common.ts";

/** A node of a structural schema, as far as MazeVault's kinds use them. */
export interface StructuralSchema {
  readonly description?: string;
  readonly type: "object" | "array" | "string" | "integer" | "boolean";
  readonly format?: string;
  readonly enum?: readonly string[];
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly "x-kubernetes-map-type"?: "atomic";
  readonly "x-kubernetes-list-type"?: "map" | "set" | "atomic";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-validations"?: readonly CelRule[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, StructuralSchema>>;
  readonly additionalProperties?: StructuralSchema;
  readonly items?: StructuralSchema;
  readonly default?: unknown;
}

/** The schema at `path` says something that a CRD cannot say, or leaves out something that it needs. */
export class NotStructural extends Error {
  constructor(path: string, problem: string) {
    super(`${path}: ${problem}`);
    this.name = "NotStructural";
  }
}

type Node = Readonly<Record<string, unknown>>;

/**
 * @param path where the schema will stand in the resource, for example `Secret.spec`; errors begin with it.
 * @throws NotStructural
 */
export function structural(schema: z.ZodType, path: string): StructuralSchema {
  const node = z.toJSONSchema(schema, {
    target: "openapi-3.0",
    io: "input",
    reused: "inline",
    override: ({ zodSchema, jsonSchema, path: at }) => keepWhatZodDrops(zodSchema, jsonSchema, [path, ...at].join(".")),
  });
  return convert(node as Node, path, "described by parent");
}

/** What a schema says that has no place in OpenAPI 3.0, so that zod leaves it out without a word. */
function keepWhatZodDrops(schema: z.core.$ZodType, json: Record<string, unknown>, path: string): void {
  const { def } = schema._zod;
  if (def.type === "record") json.propertyNames = keySchema((def as z.core.$ZodRecordDef).keyType, `${path}{key}`);
  for (const check of def.checks ?? []) {
    const { check: kind, error } = check._zod.def;
    if (kind === "custom" || kind === "overwrite") {
      throw new NotStructural(path, `a ${kind} check would be lost; write it as a CEL rule`);
    }
    if (kind === "string_format" && error !== undefined) json[PATTERN_MESSAGE] = error({ input: "" } as never);
  }
}

function keySchema(keys: z.core.$ZodType, path: string): Node {
  return z.toJSONSchema(keys, {
    target: "openapi-3.0",
    override: ({ zodSchema, jsonSchema }) => keepWhatZodDrops(zodSchema, jsonSchema, path),
  }) as Node;
}

const PATTERN_MESSAGE = "patternMessage";

type Described = "describes itself" | "described by parent";

function convert(node: Node, path: string, described: Described): StructuralSchema {
  if (node.type !== undefined && described === "describes itself" && typeof node.description !== "string") {
    throw new NotStructural(path, "has no description");
  }
  switch (node.type) {
    case "object":
      return node.properties === undefined ? map(node, path) : object(node, path);
    case "array":
      return list(node, path);
    case "string":
      return text(node, path);
    case "integer":
      need(node, path, "minimum", "maximum");
      return take({ ...node, format: "int64" }, path, "format", "minimum", "maximum");
    case "boolean":
      return take(node, path);
    default:
      throw new NotStructural(path, `cannot express ${JSON.stringify(node).slice(0, 200)}`);
  }
}

function object(node: Node, path: string): StructuralSchema {
  const properties = Object.entries(node.properties as Record<string, Node>).map(([name, child]) => [
    name,
    whole(convert(child, `${path}.${name}`, "describes itself")),
  ]);
  return { ...take(node, path, "required", "properties"), properties: Object.fromEntries(properties) };
}

/**
 * What may be empty belongs to one writer as a whole. Server-side apply takes fields away one by one otherwise, and leaves
 * null where the last one was, which is refused although `{}` is a valid value.
 */
function whole(schema: StructuralSchema): StructuralSchema {
  const mayBeEmpty = schema.type === "object" && (schema.required ?? []).length === 0;
  return mayBeEmpty ? { ...schema, "x-kubernetes-map-type": "atomic" } : schema;
}

function map(node: Node, path: string): StructuralSchema {
  need(node, path, "maxProperties", "additionalProperties", "propertyNames");
  const { propertyNames, ...rest } = node;
  const taken = take(rest, path, "maxProperties", "additionalProperties");
  return {
    ...taken,
    "x-kubernetes-validations": [
      keyRule(propertyNames as Node, `${path}{key}`),
      ...(taken["x-kubernetes-validations"] ?? []),
    ],
    additionalProperties: convert(node.additionalProperties as Node, `${path}{value}`, "described by parent"),
  };
}

/** Structural schemas have no propertyNames: what a record asks of its keys becomes a CEL rule over them. */
function keyRule(keys: Node, path: string): CelRule {
  need(keys, path, "maxLength", "pattern");
  const { minLength, maxLength, pattern = "" } = take(keys, path, "minLength", "maxLength", "pattern", PATTERN_MESSAGE);
  const tests = [
    ...(minLength === undefined ? [] : [`k.size() >= ${minLength}`]),
    `k.size() <= ${maxLength}`,
    `k.matches(${celString(portable(pattern, path), path)})`,
  ];
  const length = [...(minLength === undefined ? [] : [`at least ${minLength}`]), `at most ${maxLength}`];
  const message = `each key ${patternMessage(keys, path)} (${length.join(" and ")} characters)`;
  return { rule: `self.all(k, ${tests.join(" && ")})`, message };
}

function celString(value: string, path: string): string {
  if (value.includes("'")) throw new NotStructural(path, "a pattern for keys cannot contain a single quote");
  return `r'${value}'`;
}

function list(node: Node, path: string): StructuralSchema {
  need(node, path, "maxItems", "items", "x-kubernetes-list-type");
  const items = convert(node.items as Node, `${path}[]`, "described by parent");
  const taken = take(
    node,
    path,
    "items",
    "minItems",
    "maxItems",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
  );
  for (const key of taken["x-kubernetes-list-map-keys"] ?? []) {
    if (!items.required?.includes(key))
      throw new NotStructural(path, `list map key ${key} is not required in its items`);
  }
  return { ...taken, items };
}

function text(node: Node, path: string): StructuralSchema {
  if (node.enum !== undefined) return take(node, path, "enum");
  need(node, path, "maxLength");
  // The API server checks this format itself; the pattern that zod adds says the same in 300 characters.
  if (node.format === "date-time") {
    const { pattern: _, ...rest } = node;
    return take(rest, path, "format", "maxLength");
  }
  const { [PATTERN_MESSAGE]: _, ...rest } = node;
  const taken = take(rest, path, "minLength", "maxLength", "pattern");
  if (taken.pattern === undefined) return taken;
  const pattern = portable(taken.pattern, path);
  const rule = { rule: `self.matches(${celString(pattern, path)})`, message: patternMessage(node, path) };
  return { ...taken, pattern, "x-kubernetes-validations": [rule, ...(taken["x-kubernetes-validations"] ?? [])] };
}

/** The pattern in the words that JavaScript and Go's RE2 share. */
function portable(pattern: string, path: string): string {
  if (!/^\^.*\$$/s.test(pattern)) throw new NotStructural(path, "a pattern must be anchored at both ends");
  if (/\(\?(?!:)|\\[1-9]/.test(pattern)) throw new NotStructural(path, "RE2 has no look-around or back-reference");
  return pattern.replaceAll("\\/", "/");
}

function patternMessage(node: Node, path: string): string {
  const message = node[PATTERN_MESSAGE];
  if (typeof message !== "string") {
    throw new NotStructural(path, "its pattern has no message, so the API server would answer with the pattern alone");
  }
  return message;
}

function need(node: Node, path: string, ...names: string[]): void {
  for (const name of names) if (node[name] === undefined) throw new NotStructural(path, `has no ${name}`);
}

/** The node, once it is sure that it says nothing beyond these; in a fixed order, so that a diff shows only changes. */
function take(node: Node, path: string, ...known: string[]): StructuralSchema {
  const order = ["description", "type", ...known, "x-kubernetes-validations"];
  const unknown = Object.keys(node).filter((name) => !order.includes(name));
  if (unknown.length > 0) throw new NotStructural(path, `does not know ${unknown.join(", ")}`);
  const present = order.filter((name) => node[name] !== undefined);
  return Object.fromEntries(present.map((name) => [name, node[name]])) as unknown as StructuralSchema;
}
