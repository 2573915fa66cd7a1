/** A schema of OpenAPI 3 or of a custom resource definition, as far as it is looked into here. */
export interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly allOf?: readonly Schema[];
  readonly [keyword: string]: unknown;
}

/**
 * The schema as the API server uses it with strict field validation: an object has no field that its schema does not name.
 * Only the outermost object of an `allOf` names fields, `anyOf` and its like narrow them down: what Kubernetes calls structural.
 */
export function strict(schema: Schema): Schema {
  const { properties, additionalProperties, items, allOf } = schema;
  const open = additionalProperties !== undefined || schema["x-kubernetes-preserve-unknown-fields"] === true;
  return {
    ...schema,
    ...(properties && {
      properties: Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, strict(each)])),
      ...(!open && { additionalProperties: false }),
    }),
    ...(typeof additionalProperties === "object" && { additionalProperties: strict(additionalProperties) }),
    ...(items && { items: strict(items) }),
    // Where a field is described beside a reference, the reference stands in an allOf of its own.
    ...(allOf && { allOf: allOf.map(strict) }),
  };
}
