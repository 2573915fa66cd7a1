/** Who the audit record says it was: a controller sees objects, not people (authority rule 9). */
import type { Actor } from "../core/ports/audit-log.ts";
import type { ObjectMeta } from "../crds/common.ts";
import { keyOf, type ResourceType, resourceLabel } from "./runtime/resource-type.ts";

export const objectActor = (type: ResourceType, object: { readonly metadata: ObjectMeta }): Actor => ({
  kind: "Object",
  resource: `${resourceLabel(type)} ${keyOf(object)}`,
  uid: object.metadata.uid,
  generation: object.metadata.generation ?? 0,
});
