import { kinds } from "../index.ts";
import { resourceSchema } from "./crd.ts";
import { references, unasked } from "./references.ts";
import type { StructuralSchema } from "./structural.ts";

/** Names of fields by which the operator gets at something else, or does something to it. */
const REFERS = /^(\w+Ref|ref|keyVault|managedIdentity|restart|restartConsumers|adopt|overwrite|projects|namespaces)$/;
/** Of that name, and no reference: allow-lists of their own kind, and parts whose fields are looked at by themselves. */
const NONE = new Set([
  "Project spec.namespaces[]",
  "ClusterIssuer spec.namespaces",
  "ClusterIssuer spec.policy.allowSubordinates.namespaces",
  "SyncRule spec.target.keyVault",
]);

const fieldsOf = (schema: StructuralSchema | undefined, at: string): string[] =>
  Object.entries(schema?.properties ?? {}).flatMap(([name, field]) => {
    const here = `${at}.${name}${field.items === undefined ? "" : "[]"}`;
    return [...(REFERS.test(name) ? [here] : []), ...fieldsOf(field.items ?? field, here)];
  });

test.each(kinds)("$kind: of every reference it is decided whose right is asked for", (kind) => {
  const found = fieldsOf(resourceSchema(kind).properties?.spec, "spec").filter((at) => !NONE.has(`${kind.kind} ${at}`));
  const decided = [
    ...references.filter((each) => each.kind === kind).map(({ field }) => field),
    ...unasked.filter((each) => each.kind === kind.kind).map(({ field }) => field),
  ];
  expect(decided.toSorted()).toEqual(found.toSorted());
});
