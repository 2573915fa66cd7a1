/** The resource definitions that the API server serves, held against those of this program. */
import { GROUP, type KindDefinition, VERSION } from "../../crds/common.ts";
import { resourceSchema } from "../../crds/generate/crd.ts";
import { kinds } from "../../crds/index.ts";
import { type Finding, failing, warning } from "./finding.ts";

/** Where every authenticated account may read the schemas that are served. */
export const DEFINITIONS_PATH = `/openapi/v3/apis/${GROUP}/${VERSION}`;
export const DEFINITIONS = "kubernetes.definitions";

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
}

export interface ServedDefinitions {
  readonly components?: {
    readonly schemas?: Readonly<
      Record<string, Schema & { readonly "x-kubernetes-group-version-kind"?: readonly { readonly kind: string }[] }>
    >;
  };
}

const SHOWN = 3;

/** @param served what stands at `DEFINITIONS_PATH`; undefined when there is nothing */
export function judgeDefinitions(served: ServedDefinitions | undefined): readonly Finding[] {
  const schemas = Object.values(served?.components?.schemas ?? {});
  return kinds.flatMap((kind) => {
    const schema = schemas.find((each) => each["x-kubernetes-group-version-kind"]?.some((of) => of.kind === kind.kind));
    return schema === undefined ? [absent(kind)] : differing(kind, schema);
  });
}

const fix = ({ plural }: KindDefinition): string =>
  `kubectl apply --server-side --force-conflicts -f crds/generated/${GROUP}_${plural}.yaml`;

const absent = (kind: KindDefinition): Finding =>
  failing(DEFINITIONS, {
    subject: `CustomResourceDefinition ${kind.plural}.${GROUP}`,
    problem: "the API server does not know this kind: its definition is missing",
    fix: `${fix(kind)}; objects that went with it come back from Git or a backup, and their stored versions with them`,
  });

function differing(kind: KindDefinition, schema: Schema): readonly Finding[] {
  const wanted = fieldsOf(resourceSchema(kind));
  const there = fieldsOf({
    properties: { spec: schema.properties?.spec ?? {}, status: schema.properties?.status ?? {} },
  });
  const lacking = [...wanted].filter((field) => !there.has(field));
  const foreign = [...there].filter((field) => !wanted.has(field));
  const subject = `CustomResourceDefinition ${kind.plural}.${GROUP}`;
  const listed = (fields: readonly string[]): string =>
    `${fields.slice(0, SHOWN).join(", ")}${fields.length > SHOWN ? ` and ${fields.length - SHOWN} more` : ""}`;
  if (lacking.length > 0) {
    const problem = `the definition is older than the program: it lacks ${listed(lacking)}`;
    return [failing(DEFINITIONS, { subject, problem, fix: fix(kind) })];
  }
  if (foreign.length === 0) return [];
  const problem = `the definition is newer than the program, which does not know ${listed(foreign)}`;
  return [
    warning(DEFINITIONS, { subject, problem, fix: "update the program, or apply the definitions of its version" }),
  ];
}

/** `spec.entries[].key`, for every field. */
function fieldsOf(schema: Schema, at = ""): Set<string> {
  const fields = new Set<string>();
  const add = (inner: Schema, where: string) => {
    fields.add(where);
    for (const field of fieldsOf(inner, where)) fields.add(field);
  };
  for (const [name, inner] of Object.entries(schema.properties ?? {})) add(inner, at === "" ? name : `${at}.${name}`);
  if (schema.items !== undefined) for (const field of fieldsOf(schema.items, `${at}[]`)) fields.add(field);
  if (typeof schema.additionalProperties === "object") {
    for (const field of fieldsOf(schema.additionalProperties, `${at}{}`)) fields.add(field);
  }
  return fields;
}
