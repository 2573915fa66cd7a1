/** Entries that were changed on both sides, and what a person says of them. */
import { z } from "zod";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import type { Target } from "../../../core/access/policy.ts";
import { RESOLUTIONS, type SyncConflict, syncConflictKind } from "../../../crds/syncconflict.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";
import type { Services } from "../services.ts";
import { inNamespace } from "./names.ts";
import { FIELD_MANAGER, type Place, target as secretTarget } from "./secrets/secret.ts";

const TAG = "Sync conflicts";

const summary = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  rule: z.string().optional().meta({ description: "The SyncRule that found it." }),
  secret: z.string().optional(),
  key: z.string().optional(),
  entry: z.string().optional().meta({ description: "Name of the entry in the vault." }),
  platformVersion: z.int().optional().meta({ description: "Version of the Secret that stands here." }),
  targetVersion: z.string().optional().meta({ description: "Version of the entry that stands in the vault." }),
  resolution: z.enum(RESOLUTIONS).optional().meta({ description: "What a person has said; absent: it waits." }),
  since: z.string().optional().meta({ description: "When it was found." }),
});

const shown = ({ metadata, spec, status = {} }: SyncConflict): z.infer<typeof summary> => {
  const { rule, secret, key, name: entry, platformVersion, targetVersion } = status;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    ...(rule !== undefined && { rule }),
    ...(secret !== undefined && { secret }),
    ...(key !== undefined && { key }),
    ...(entry !== undefined && { entry }),
    ...(platformVersion !== undefined && { platformVersion }),
    ...(targetVersion !== undefined && { targetVersion }),
    ...(spec.resolution !== undefined && { resolution: spec.resolution }),
    ...(metadata.creationTimestamp !== undefined && { since: metadata.creationTimestamp }),
  };
};

/** Who may do something with its Secret may do it with the conflict. */
const targetOf = ({ metadata: { namespace = "" }, status }: SyncConflict, services: Services): Target =>
  secretTarget({ params: { namespace, name: status?.secret ?? "" } }, services);

const find = ({ namespace, name }: Place, { view }: Services): SyncConflict | undefined =>
  view.syncConflictsIn(namespace).find(({ metadata }) => metadata.name === name);

export const syncConflictRoutes = [
  route({
    id: "listSyncConflicts",
    method: "get",
    path: "/api/v1/sync-conflicts",
    tag: TAG,
    summary: "Entries that were changed here and in the vault, and wait for a person.",
    query: z.object({ ...pageQuery }),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by namespace and name.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const mayShow = (conflict: SyncConflict) => may("list", targetOf(conflict, services)).allowed;
      const conflicts = hasNoGrant ? [] : services.view.syncConflicts();
      const keyOf = ({ metadata }: SyncConflict) => `${metadata.namespace}/${metadata.name}`;
      return { status: 200, body: await visiblePage(conflicts, keyOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "resolveSyncConflict",
    method: "post",
    path: "/api/v1/namespaces/{namespace}/sync-conflicts/{name}/resolve",
    tag: TAG,
    summary: "Says which value both sides shall have; the other one stays as a version.",
    params: inNamespace,
    body: z.strictObject({ resolution: z.enum(RESOLUTIONS) }),
    access: {
      kind: "Allowed",
      verb: "write",
      // Of what is not there only the namespace is known.
      target: ({ params }, services) => {
        const conflict = find(params, services);
        return conflict === undefined ? secretTarget({ params }, services) : targetOf(conflict, services);
      },
    },
    answers: { 200: { description: "It is said; the conflict goes when both sides agree.", schema: summary } },
    problems: [404, 409],
    handle: async ({ input, services, signal, announce }) => {
      const { namespace, name } = input.params;
      const conflict = find(input.params, services);
      if (conflict === undefined) {
        throw new Problem(
          404,
          "NotFound",
          `there is no SyncConflict ${namespace}/${name}; it goes when both sides agree`,
        );
      }
      await announce("Change", targetOf(conflict, services));
      const { resourceVersion } = conflict.metadata;
      const changed = await services.api.mergePatch<SyncConflict>(
        resourceType(syncConflictKind),
        { namespace, name },
        { metadata: { resourceVersion }, spec: { resolution: input.body.resolution } },
        { fieldManager: FIELD_MANAGER, signal },
      );
      return { status: 200, body: shown(changed) };
    },
  }),
];
