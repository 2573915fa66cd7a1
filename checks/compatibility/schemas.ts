/**
 * What a new schema takes away from those who use the last release: manifests, values and answers that were right before. Nothing is
 * proven here that needs a person's eye: a pattern or rule that is new or other than before counts as stricter, and a keyword that
 * this comparison does not know as a change.
 */
import type { CustomResourceDefinition } from "../../crds/generate/crd.ts";
import { type Break, KEEP, WIDEN } from "./break.ts";

/** Of JSON Schema, also as OpenAPI and Kubernetes have it. */
export interface Schema {
  readonly [keyword: string]: unknown;
  readonly type?: string;
  readonly required?: readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly propertyNames?: Schema;
  /** Further names of a setting. */
  readonly aliases?: readonly string[];
  readonly "x-kubernetes-validations"?: readonly { readonly rule: string }[];
}

/** @param now undefined if the kind is no more */
export function brokenByDefinition(
  released: CustomResourceDefinition,
  now: CustomResourceDefinition | undefined,
): readonly Break[] {
  const { kind } = released.spec.names;
  const path = String(kind);
  if (now === undefined) return [{ path, change: "was removed", fix: KEEP }];
  return [...namesAndScope(released, now, path), ...versions(released, now, path)];
}

function namesAndScope(before: CustomResourceDefinition, now: CustomResourceDefinition, path: string): Break[] {
  const names = Object.entries(before.spec.names).flatMap(([what, name]) => {
    const present = [now.spec.names[what] ?? []].flat();
    const gone = [name].flat().filter((each) => !present.includes(each));
    return gone.map((each) => ({ path, change: `is not called ${each} any more (${what})`, fix: KEEP }));
  });
  if (before.spec.scope === now.spec.scope) return names;
  return [{ path, change: `was ${before.spec.scope}, is ${now.spec.scope}`, fix: "make another kind" }, ...names];
}

function versions(before: CustomResourceDefinition, now: CustomResourceDefinition, kind: string): readonly Break[] {
  return before.spec.versions.flatMap((version) => {
    const successor = now.spec.versions.find(({ name }) => name === version.name);
    const path = `${kind} ${version.name}`;
    if (successor?.served !== true) return [{ path, change: "is not served any more", fix: KEEP }];
    const resources = Object.keys(version.subresources).filter((name) => !(name in successor.subresources));
    const [schema, today] = [schemaOf(version), schemaOf(successor)];
    return [
      ...resources.map((name) => ({ path, change: `has no subresource ${name} any more`, fix: KEEP })),
      ...columns(version.additionalPrinterColumns, successor.additionalPrinterColumns, path),
      ...narrowed(schema, today, kind),
      ...moreValues(schema.properties?.status, today.properties?.status, `${kind}.status`),
    ];
  });
}

type Columns = CustomResourceDefinition["spec"]["versions"][0]["additionalPrinterColumns"];

/** Scripts read what `kubectl get` prints. */
function columns(before: Columns, now: Columns, path: string): readonly Break[] {
  return before.flatMap(({ name, jsonPath }) => {
    const successor = now.find((column) => column.name === name);
    if (successor === undefined) return [{ path, change: `has no column ${name} any more`, fix: KEEP }];
    if (successor.jsonPath === jsonPath) return [];
    const change = `column ${name} was ${jsonPath}, is ${successor.jsonPath}`;
    return [{ path, change, fix: "put another column beside it" }];
  });
}

/** Of a status, by which clients decide as by an answer of REST: they do not know what to make of a value that is new. */
function moreValues(before: Schema | undefined, now: Schema | undefined, path: string): readonly Break[] {
  if (before === undefined || now === undefined) return [];
  const fix = "say it in a field beside it";
  const added = now.enum?.filter((value) => before.enum !== undefined && !before.enum.includes(value)) ?? [];
  return [
    ...added.map((value) => ({ path, change: `may be ${value} now`, fix })),
    ...(before.enum !== undefined && now.enum === undefined ? [{ path, change: "may be anything now", fix }] : []),
    ...Object.entries(before.properties ?? {}).flatMap(([name, field]) =>
      moreValues(field, now.properties?.[name], `${path}.${name}`),
    ),
    ...moreValues(before.items, now.items, `${path}[]`),
    ...moreValues(schemaIn(before.additionalProperties), schemaIn(now.additionalProperties), `${path}{value}`),
  ];
}

const schemaIn = (schema: Schema | boolean | undefined): Schema | undefined =>
  typeof schema === "object" ? schema : undefined;

/** As `narrowed`; but how much of a machine a program asks for by itself is measured anew with each release. */
export const narrowedValues = (before: Schema, now: Schema): readonly Break[] =>
  narrowed(before, now, "values").filter(
    ({ path, change }) => !(/\.resources\.(requests|limits)$/.test(path) && change.startsWith("default was ")),
  );

const schemaOf = ({ schema }: CustomResourceDefinition["spec"]["versions"][0]): Schema =>
  schema.openAPIV3Schema as unknown as Schema;

/** What becomes of a field that the schema does not have: somebody misses it, or it is left out. */
type Unknown = "Missed" | "LeftOut";

/** @param path where the schema stands, for a person */
export function narrowed(before: Schema, now: Schema, path: string, unknown: Unknown = "Missed"): readonly Break[] {
  if (now.type !== undefined && before.type !== now.type) {
    const change = `was ${before.type ?? "anything"}, is ${now.type}`;
    return [{ path, change, fix: "put a field of the new type beside it" }];
  }
  return [...ownChanges(before, now, path), ...forms(before, now, path, unknown), ...below(before, now, path, unknown)];
}

const LEAST = ["minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum"] as const;
const MOST = ["maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum"] as const;
const SHAPE = ["format", "pattern"] as const;
/** By which the API server tells who has set what, and what is there where nobody has set it. */
const MEANING = ["x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "default"] as const;
const WORDS = ["$schema", "title", "description"] as const;
const COMPARED = ["type", "enum", "const", "oneOf", "required", "aliases", "x-kubernetes-validations"] as const;
const NESTED = ["properties", "items", "additionalProperties", "propertyNames"] as const;
const KNOWN: readonly string[] = [...LEAST, ...MOST, ...SHAPE, ...MEANING, ...WORDS, ...COMPARED, ...NESTED];

function ownChanges(before: Schema, now: Schema, path: string): readonly Break[] {
  const bound = (schema: Schema, name: string, none: number) => (schema[name] as number | undefined) ?? none;
  const [values, valuesNow] = [valuesOf(before), valuesOf(now)];
  const gone = values?.filter((value) => valuesNow !== undefined && !valuesNow.includes(value)) ?? [];
  const newlyRequired = now.required?.filter((name) => !before.required?.includes(name)) ?? [];
  const rules = before["x-kubernetes-validations"]?.map(({ rule }) => rule) ?? [];
  const newRules = now["x-kubernetes-validations"]?.filter(({ rule }) => !rules.includes(rule)) ?? [];
  const differs = (name: string): boolean => JSON.stringify(before[name]) !== JSON.stringify(now[name]);
  const keywords = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  const found: (readonly [change: string, fix: string])[] = [
    ...LEAST.filter((name) => bound(now, name, -Infinity) > bound(before, name, -Infinity)).map(
      (name) => [`${name} rose to ${now[name]}`, WIDEN] as const,
    ),
    ...MOST.filter((name) => bound(now, name, Infinity) < bound(before, name, Infinity)).map(
      (name) => [`${name} fell to ${now[name]}`, WIDEN] as const,
    ),
    // Dropping a pattern or format accepts more; any other change may accept less.
    ...SHAPE.filter((name) => now[name] !== undefined && differs(name)).map(
      (name) => [`${name} became ${now[name]}`, WIDEN] as const,
    ),
    ...MEANING.filter(differs).map(
      (name) =>
        [
          `${name} was ${JSON.stringify(before[name]) ?? "not there"}, is ${JSON.stringify(now[name]) ?? "not there"}`,
          "keep it: what is stored would mean something else. A new field may have another one",
        ] as const,
    ),
    ...(before.aliases ?? [])
      .filter((name) => !now.aliases?.includes(name))
      .map((name) => [`is not called ${name} any more`, KEEP] as const),
    ...gone.map((value) => [`no longer accepts ${value}`, WIDEN] as const),
    ...(values === undefined && valuesNow !== undefined
      ? [[`accepts only ${valuesNow.join(", ")} now`, WIDEN] as const]
      : []),
    ...newlyRequired.map((name) => [`requires ${name} now`, "make it optional, or give it a default"] as const),
    ...newRules.map(
      ({ rule }) =>
        [
          `has a new rule: ${rule}`,
          "let it say nothing of what was accepted before, as of objects without a new field",
        ] as const,
    ),
    ...keywords
      .filter((name) => !KNOWN.includes(name) && differs(name))
      .map((name) => [`${name} differs`, "have checks/compatibility/schemas.ts compare it"] as const),
  ];
  return found.map(([change, fix]) => ({ path, change, fix }));
}

const valuesOf = (schema: Schema): readonly unknown[] | undefined =>
  schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);

/** Each form of before must be one of today. */
function forms(before: Schema, now: Schema, path: string, unknown: Unknown): readonly Break[] {
  if (now.oneOf === undefined) return [];
  if (before.oneOf === undefined) return [{ path, change: "accepts only some forms now", fix: WIDEN }];
  return before.oneOf
    .filter((form) => !now.oneOf?.some((other) => narrowed(form, other, path, unknown).length === 0))
    .map((form) => ({ path, change: `no longer accepts all with ${signOf(form)}`, fix: WIDEN }));
}

/** By which a form is told from others. */
const signOf = ({ properties = {} }: Schema): string =>
  Object.entries(properties)
    .flatMap(([name, field]) => (valuesOf(field) === undefined ? [] : [`${name} ${valuesOf(field)?.join(" or ")}`]))
    .join(", ");

function below(before: Schema, now: Schema, path: string, unknown: Unknown): readonly Break[] {
  const fields = Object.entries(before.properties ?? {}).flatMap(([name, field]) => {
    const successor = now.properties?.[name];
    const at = `${path}.${name}`;
    if (successor !== undefined) return narrowed(field, successor, at, unknown);
    return unknown === "LeftOut" ? [] : [{ path: at, change: "was removed", fix: KEEP }];
  });
  return [
    ...fields,
    ...both(before.items, now.items, `${path}[]`, unknown),
    ...both(before.propertyNames, now.propertyNames, `${path}{key}`, unknown),
    ...both(before.additionalProperties, now.additionalProperties, `${path}{value}`, unknown),
  ];
}

/** Absent: anything goes. */
function both(
  before: Schema | boolean = true,
  now: Schema | boolean = true,
  path: string,
  unknown: Unknown,
): readonly Break[] {
  if (now === true || before === false) return [];
  if (now === false) return [{ path, change: "is not accepted any more", fix: WIDEN }];
  return narrowed(before === true ? {} : before, now, path, unknown);
}
