/**
 * Everything that can be wrong with one field, for every field that a schema knows: made from a valid manifest by one
 * change, together with what the API server has to say about it.
 */
import type { StructuralSchema } from "./structural.ts";

export interface WrongManifest {
  readonly title: string;
  readonly manifest: Json;
  /** Path that the answer must name, as the API server writes it. */
  readonly field: string;
  /** What the answer must say at that path. */
  readonly says: RegExp;
}

export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

type Step = string | number;

/** A value in a valid manifest, the schema that it follows, and how to get there. */
interface Place {
  readonly schema: StructuralSchema;
  readonly value: Json;
  readonly steps: readonly Step[];
}

interface Change {
  readonly what: string;
  /** undefined removes the value. */
  readonly to: Json | undefined;
  readonly says: RegExp;
  /** Steps from the place to the value that the answer names, where it is not the place itself. */
  readonly below?: readonly Step[];
}

/**
 * @param schema of the whole object
 * @param valid manifests of the kind; a field that none of them sets is reported by `unsetFields`
 */
export function wrongManifests(schema: StructuralSchema, valid: readonly Json[]): WrongManifest[] {
  const cases = new Map<string, WrongManifest>();
  for (const manifest of valid) {
    for (const place of placesOf(schema, manifest)) {
      for (const { what, to, says, below = [] } of changesOf(place)) {
        const field = fieldPath([...place.steps, ...below]);
        const title = `${schemaPath([...place.steps, ...below])}: ${what}`;
        if (!cases.has(title)) cases.set(title, { title, field, says, manifest: changed(manifest, place.steps, to) });
      }
    }
  }
  return [...cases.values()];
}

export interface EmptiedManifest {
  readonly field: string;
  readonly manifest: Json;
  /** What stands at the field. */
  readonly at: (manifest: Json) => Json | undefined;
}

/** A valid manifest with each object, map or list taken empty that the schema lets be empty. */
export function emptiedManifests(schema: StructuralSchema, valid: Json): EmptiedManifest[] {
  return placesOf(schema, valid)
    .filter(({ steps, value }) => steps.length > 1 && typeof value === "object" && value !== null)
    .filter((place) => (place.schema.required ?? []).length === 0 && place.schema.minItems === undefined)
    .map(({ steps, value }) => ({
      field: fieldPath(steps),
      manifest: changed(valid, steps, isList(value) ? [] : {}),
      at: (manifest) => valueAt(manifest, steps),
    }));
}

const valueAt = (value: Json | undefined, [step, ...rest]: readonly Step[]): Json | undefined =>
  step === undefined ? value : valueAt((value as Readonly<Record<Step, Json>> | undefined)?.[step], rest);

/** Fields of the schema, as `spec.entries[].key`, that no valid manifest sets. */
export function unsetFields(schema: StructuralSchema, valid: readonly Json[]): string[] {
  const set = new Set(valid.flatMap((manifest) => placesOf(schema, manifest)).map(({ steps }) => schemaPath(steps)));
  return allFields(schema, "").filter((field) => !set.has(field));
}

function allFields(schema: StructuralSchema, at: string): string[] {
  const inner = schema.items === undefined ? schema : schema.items;
  const here = schema.items === undefined ? at : `${at}[]`;
  const children = Object.entries(userFields(inner)).flatMap(([name, child]) =>
    allFields(child, here === "" ? name : `${here}.${name}`),
  );
  return at === "" ? children : [at, ...children];
}

/** Status is the operator's: what stands there in a user's manifest is dropped by the API server. */
const userFields = (schema: StructuralSchema): Readonly<Record<string, StructuralSchema>> => {
  const { status: _, ...fields } = schema.properties ?? {};
  return fields;
};

function placesOf(schema: StructuralSchema, value: Json, steps: readonly Step[] = []): Place[] {
  const children: Place[] = [];
  if (isObject(value)) {
    const known = Object.entries(userFields(schema));
    const values = Object.keys(value).map((name) => [name, schema.additionalProperties] as const);
    for (const [name, child] of schema.properties === undefined ? values : known) {
      const inner = value[name];
      if (child !== undefined && inner !== undefined) children.push(...placesOf(child, inner, [...steps, name]));
    }
  } else if (isList(value)) {
    for (const [index, item] of value.entries()) {
      if (schema.items !== undefined) children.push(...placesOf(schema.items, item, [...steps, index]));
    }
  }
  return steps.length === 0 ? children : [{ schema, value, steps }, ...children];
}

function changesOf(place: Place): Change[] {
  return [...wrongTypes(place.schema), ...wrongValues(place), ...wrongChildren(place)];
}

function wrongTypes({ type }: StructuralSchema): Change[] {
  const others: Record<StructuralSchema["type"], readonly Json[]> = {
    string: [42, true, ["text"], {}],
    integer: ["8", 8.5, true],
    boolean: ["true", 1],
    array: ["text", {}],
    object: ["text", ["text"], 42],
  };
  return others[type].map((to) => ({ what: `is ${JSON.stringify(to)}`, to, says: /must be of type/ }));
}

function wrongValues({ schema, value }: Place): Change[] {
  const list: Change[] = [];
  const { minLength = 0, maxLength, minItems = 0, maxItems, maxProperties, minimum, maximum } = schema;
  if (schema.enum !== undefined) list.push({ what: "is no such value", to: "Unheard-of", says: /supported values/ });
  if (typeof value === "string" && maxLength !== undefined) {
    list.push({ what: "is too long", to: value.padEnd(maxLength + 1, "a"), says: /[Tt]oo long/ });
    if (minLength > 0) {
      list.push({ what: "is too short", to: value.slice(0, minLength - 1), says: /at least \d+ chars long/ });
    }
    const odd = `${value.slice(0, maxLength - 1)} `;
    if (schema.pattern !== undefined)
      list.push({ what: "has an odd character", to: odd, says: /(must|may) (be|contain)/ });
  }
  if (minimum !== undefined) list.push({ what: "is too small", to: minimum - 1, says: /greater than or equal to/ });
  if (maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER) {
    list.push({ what: "is too large", to: maximum + 1, says: /less than or equal to/ });
  }
  if (isList(value)) {
    if (minItems > 0) list.push({ what: "is empty", to: [], says: /at least \d+ items/ });
    if (maxItems !== undefined) {
      list.push({ what: "has too many items", to: variants(schema, value, maxItems + 1), says: /at most \d+ items/ });
    }
    const [first] = value;
    if (first !== undefined && schema["x-kubernetes-list-type"] !== "atomic") {
      const last = value.length;
      list.push({ what: "has an item twice", to: [...value, first], says: /[Dd]uplicate value/, below: [last] });
    }
  }
  if (isObject(value) && maxProperties !== undefined) {
    const many = Array.from({ length: maxProperties + 1 }, (_, index) => [`key${index}`, "value"]);
    list.push({ what: "has too many keys", to: Object.fromEntries(many), says: /at most \d+ items/ });
    list.push({ what: "has an odd key", to: { "odd key!": "value" }, says: /each key / });
  }
  return list;
}

function wrongChildren({ schema, value }: Place): Change[] {
  if (!isObject(value) || schema.properties === undefined) return [];
  // To the API server null is the same as absent.
  const missing = (schema.required ?? []).flatMap((name): Change[] => {
    const { [name]: _, ...rest } = value;
    const answer = { says: /Required value/, below: [name] };
    return [
      { what: "is missing", to: rest, ...answer },
      { what: "is null", to: { ...rest, [name]: null }, ...answer },
    ];
  });
  const unknown = { ...value, unheardOf: "value" };
  return [...missing, { what: "is unknown", to: unknown, says: /unknown field/, below: ["unheardOf"] }];
}

/** So many items, all different from each other and each valid by itself. */
function variants(schema: StructuralSchema, items: readonly Json[], count: number): Json[] {
  const [first = null] = items;
  const key = schema["x-kubernetes-list-map-keys"]?.find(
    (name) => schema.items?.properties?.[name]?.enum === undefined,
  );
  return Array.from({ length: count }, (_, index) => {
    if (typeof first === "string") return `${first}${index}`;
    return isObject(first) && key !== undefined ? { ...first, [key]: `name${index}` } : first;
  });
}

function changed(value: Json, [step, ...rest]: readonly Step[], to: Json | undefined): Json {
  if (step === undefined) return to ?? null;
  if (isList(value)) return value.map((item, index) => (index === step ? changed(item, rest, to) : item));
  if (!isObject(value)) throw new Error(`nothing to change at ${step}`);
  return { ...value, [step]: changed(value[step] ?? null, rest, to) };
}

const fieldPath = (steps: readonly Step[]): string =>
  steps.map((step, index) => (typeof step === "number" ? `[${step}]` : index === 0 ? step : `.${step}`)).join("");

const schemaPath = (steps: readonly Step[]): string =>
  fieldPath(steps)
    .replaceAll(/\[\d+\]/g, "[]")
    .replace(/\[\]$/, "");

const isList = (value: Json): value is readonly Json[] => Array.isArray(value);
const isObject = (value: Json): value is { readonly [name: string]: Json } =>
  typeof value === "object" && value !== null && !isList(value);
