/** What there is, and the values of one. */
import { z } from "zod";
import { dataKey } from "../../../../crds/common.ts";
import type { Secret } from "../../../../crds/secret.ts";
import { pageOf, pageQuery, visiblePage } from "../../page.ts";
import { Problem } from "../../problem.ts";
import { route } from "../../route.ts";
import { inNamespace, readiness, readinessOf, scopeQuery } from "../names.ts";
import { encoding, etag, inScope, keyOf, PATH, TAG, target, targetOf, theRecordToOpen, theSecret } from "./secret.ts";
import { read } from "./values.ts";

const SOURCES = ["literal", "generate", "secretRef", "sealed", "external", "template"] as const;

const summary = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  project: z.string(),
  environment: z.string(),
  version: z.int().optional().meta({ description: "Number of the current version; absent: nothing is stored yet." }),
  entries: z
    .array(z.strictObject({ key: z.string(), source: z.string() }))
    .meta({ description: "Its entries, and where each value comes from." }),
  protection: z.enum(["Managed", "EndToEnd"]).meta({
    description: "EndToEnd: values are sealed by their writer for the readers, and are handed out so.",
  }),
  readers: z
    .array(z.strictObject({ name: z.string(), publicKey: z.string() }))
    .optional()
    .meta({ description: "With protection EndToEnd: whom values are sealed for." }),
  ...readiness,
});

const sourceOf = (entry: Secret["spec"]["entries"][number]): string =>
  SOURCES.find((source) => entry[source] !== undefined) ?? "unknown";

const shown = (secret: Secret): z.infer<typeof summary> => ({
  namespace: secret.metadata.namespace ?? "",
  name: secret.metadata.name,
  project: secret.spec.projectRef.name,
  environment: secret.spec.environment,
  ...(secret.status?.version !== undefined && { version: secret.status.version }),
  entries: secret.spec.entries.map((entry) => ({ key: entry.key, source: sourceOf(entry) })),
  protection: secret.spec.protection ?? "Managed",
  ...(secret.spec.readers !== undefined && {
    readers: secret.spec.readers.map(({ name, publicKey }) => ({ name, publicKey })),
  }),
  ...readinessOf(secret),
});

export const readingRoutes = [
  route({
    id: "listSecrets",
    method: "get",
    path: "/api/v1/secrets",
    tag: TAG,
    summary: "Secrets, without values.",
    query: z.object({ ...scopeQuery, ...pageQuery }),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by namespace and name.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const wanted = inScope(input.query);
      const mayShow = (secret: Secret) => wanted(secret) && may("list", targetOf(secret)).allowed;
      const secrets = hasNoGrant ? [] : services.view.secrets();
      return { status: 200, body: await visiblePage(secrets, keyOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "getSecret",
    method: "get",
    path: PATH,
    tag: TAG,
    summary: "One secret, without values.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target },
    answers: { 200: { description: "The secret.", schema: summary } },
    problems: [404],
    handle: async ({ input, services }) => ({ status: 200, body: shown(theSecret(input.params, services)) }),
  }),
  route({
    id: "getSecretValues",
    method: "get",
    path: `${PATH}/values`,
    tag: TAG,
    summary: "The values of a version.",
    params: inNamespace,
    query: z.object({
      version: z.coerce
        .number()
        .int()
        .min(1)
        .max(2_147_483_647)
        .optional()
        .meta({ description: "The current one when absent." }),
      key: dataKey.optional().meta({ description: "Only this one; all when absent." }),
      encoding,
    }),
    access: { kind: "Allowed", verb: "read", target },
    answers: {
      200: {
        description: "The values.",
        schema: z.strictObject({ version: z.int(), values: z.record(z.string(), z.string()) }),
        headers: { etag: "Changes whenever the secret does; for If-None-Match, and for If-Match of a write." },
      },
      304: { description: "It is still what If-None-Match says. Nothing was read." },
    },
    problems: [404, 409],
    handle: async (call) => {
      const { input, services, ifNoneMatch } = call;
      const { version, key, encoding: as } = input.query;
      const record = await theRecordToOpen(theSecret(input.params, services), services);
      if (ifNoneMatch === record.generation.toString()) return { status: 304, headers: etag(record) };
      if (key !== undefined && version === undefined && !record.entries.some((entry) => entry.key === key)) {
        throw new Problem(404, "EntryUnknown", `version ${record.currentVersion} has no value of ${key}`);
      }
      const kept =
        version === undefined || (await services.vault.versions(record)).some((each) => each.version === version);
      if (!kept) throw new Problem(404, "VersionNotKept", `version ${version} is not kept`);
      const body = await read(record, call, { version, ...(key !== undefined && { keys: [key] }) }, as);
      return { status: 200, body, headers: etag(record) };
    },
  }),
];
