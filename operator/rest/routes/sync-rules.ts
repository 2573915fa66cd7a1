import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { route } from "../route.ts";
import { readiness, readinessOf, type Scope, scopeQuery } from "./names.ts";

const summary = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  project: z.string(),
  environment: z.string(),
  direction: z.string(),
  items: z.int().optional().meta({ description: "What the rule covers." }),
  inSync: z.int().optional(),
  pending: z.int().optional(),
  ...readiness,
});

const shown = (rule: SyncRule): z.infer<typeof summary> => {
  const { metadata, spec, status = {} } = rule;
  const { items, inSync, pending } = status as { items?: number; inSync?: number; pending?: number };
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    project: spec.projectRef.name,
    environment: spec.environment,
    direction: spec.direction,
    ...(items !== undefined && { items }),
    ...(inSync !== undefined && { inSync }),
    ...(pending !== undefined && { pending }),
    ...readinessOf(rule),
  };
};

const targetOf = ({ metadata, spec }: SyncRule): Target => ({
  kind: "SyncRule",
  project: spec.projectRef.name,
  environment: spec.environment,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
});

const inScope =
  ({ project, environment, namespace }: Scope) =>
  ({ metadata, spec }: SyncRule): boolean =>
    (project === undefined || spec.projectRef.name === project) &&
    (environment === undefined || spec.environment === environment) &&
    (namespace === undefined || metadata.namespace === namespace);

export const syncRuleRoutes = [
  route({
    id: "listSyncRules",
    method: "get",
    path: "/api/v1/sync-rules",
    tag: "Sync rules",
    summary: "Sync rules, and how far they are.",
    query: z.object({ ...scopeQuery, ...pageQuery }),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by namespace and name.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const wanted = inScope(input.query);
      const mayShow = (rule: SyncRule) => wanted(rule) && may("list", targetOf(rule)).allowed;
      const rules = hasNoGrant ? [] : services.view.syncRules();
      const keyOf = ({ metadata }: SyncRule) => `${metadata.namespace}/${metadata.name}`;
      return { status: 200, body: await visiblePage(rules, keyOf, input.query, mayShow, shown) };
    },
  }),
];
