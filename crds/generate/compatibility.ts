/**
 * What a new schema takes away from those who have manifests of the last release. Nothing is proven here that needs a
 * person's eye: a pattern or rule that is new or other than before counts as stricter.
 */
import type { CustomResourceDefinition } from "./crd.ts";
import type { StructuralSchema } from "./structural.ts";

/**
 * @param now undefined if the kind is no more
 * @returns one sentence for each breaking change, beginning with the path of the field; none if all is well
 */
export function breakingChanges(
  released: CustomResourceDefinition,
  now: CustomResourceDefinition | undefined,
): string[] {
  const { kind } = released.spec.names;
  if (now === undefined) return [`${kind}: was removed`];
  const scope = released.spec.scope === now.spec.scope ? [] : [`${kind}: changed its scope`];
  return [...scope, ...narrowed(schemaOf(released), schemaOf(now), `${kind}`)];
}

const schemaOf = ({ spec }: CustomResourceDefinition): StructuralSchema => spec.versions[0].schema.openAPIV3Schema;

function narrowed(before: StructuralSchema, now: StructuralSchema, path: string): string[] {
  if (before.type !== now.type) return [`${path}: was ${before.type}, is ${now.type}`];
  return [...ownChanges(before, now).map((change) => `${path}: ${change}`), ...below(before, now, path)];
}

const LEAST = ["minLength", "minItems", "minimum"] as const;
const MOST = ["maxLength", "maxItems", "maxProperties", "maximum"] as const;
const SHAPE = ["format", "pattern", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] as const;

function ownChanges(before: StructuralSchema, now: StructuralSchema): string[] {
  const gone = before.enum?.filter((value) => now.enum !== undefined && !now.enum.includes(value)) ?? [];
  const newlyRequired = now.required?.filter((name) => !before.required?.includes(name)) ?? [];
  const known = before["x-kubernetes-validations"]?.map(({ rule }) => rule) ?? [];
  const newRules = now["x-kubernetes-validations"]?.filter(({ rule }) => !known.includes(rule)) ?? [];
  return [
    ...LEAST.filter((bound) => (now[bound] ?? -Infinity) > (before[bound] ?? -Infinity)).map(
      (bound) => `${bound} rose to ${now[bound]}`,
    ),
    ...MOST.filter((bound) => (now[bound] ?? Infinity) < (before[bound] ?? Infinity)).map(
      (bound) => `${bound} fell to ${now[bound]}`,
    ),
    // Dropping a pattern or format accepts more; any other change may accept less.
    ...SHAPE.filter((name) => now[name] !== undefined && String(now[name]) !== String(before[name])).map(
      (name) => `${name} became ${now[name]}`,
    ),
    ...gone.map((value) => `no longer accepts ${value}`),
    ...(before.enum === undefined && now.enum !== undefined ? [`accepts only ${now.enum.join(", ")} now`] : []),
    ...newlyRequired.map((name) => `requires ${name} now`),
    ...newRules.map(({ rule }) => `has a new rule: ${rule}`),
  ];
}

function below(before: StructuralSchema, now: StructuralSchema, path: string): string[] {
  const fields = Object.entries(before.properties ?? {}).flatMap(([name, field]) => {
    const successor = now.properties?.[name];
    const at = `${path}.${name}`;
    return successor === undefined ? [`${at}: was removed`] : narrowed(field, successor, at);
  });
  return [
    ...fields,
    ...both(before.items, now.items, `${path}[]`),
    ...both(before.additionalProperties, now.additionalProperties, `${path}{value}`),
  ];
}

function both(before: StructuralSchema | undefined, now: StructuralSchema | undefined, path: string): string[] {
  if (before === undefined) return [];
  return now === undefined ? [`${path}: was removed`] : narrowed(before, now, path);
}
