/** What there is, and the values of one. */
import { z } from "zod";
import type { Target } from "../../../../core/access/policy.ts";
import type { HeldSecret } from "../../../../core/fleet/replica-directory.ts";
import { dataKey } from "../../../../crds/common.ts";
import type { Secret } from "../../../../crds/secret.ts";
import { pageOf, pageQuery, visiblePage } from "../../page.ts";
import { Problem } from "../../problem.ts";
import { route } from "../../route.ts";
import { inNamespace, readiness, readinessOf, scopeQuery } from "../names.ts";
import {
  heldNow,
  keyOfReplicated,
  OF_GATEWAYS,
  OF_LISTS,
  readTarget,
  replicatedAt,
  replicatedValues,
  shownReplicated,
  syncedAtHeader,
  targetOfReplicated,
} from "./replicated.ts";
import { encoding, etag, inScope, keyOf, PATH, TAG, targetOf, theRecordToOpen, theSecret } from "./secret.ts";
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
  replicated: z
    .literal(true)
    .optional()
    .meta({ description: "It is the primary's, of which this gateway holds a copy." }),
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

/** A secret in a list, wherever it is. */
interface Listed {
  readonly key: string;
  readonly scope: Parameters<ReturnType<typeof inScope>>[0];
  readonly target: Target;
  readonly show: () => z.infer<typeof summary>;
}

const ofOwn = (secret: Secret): Listed => ({
  key: keyOf(secret),
  scope: secret,
  target: targetOf(secret),
  show: () => shown(secret),
});

const ofPrimary = (held: HeldSecret): Listed => ({
  key: keyOfReplicated(held),
  scope: {
    metadata: held.secret,
    spec: { projectRef: { name: held.secret.project }, environment: held.secret.environment },
  },
  target: targetOfReplicated(held),
  show: () => shownReplicated(held),
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
    answers: {
      200: {
        description: "A page of them, by namespace and name.",
        schema: pageOf(summary),
        headers: {
          ...OF_GATEWAYS,
          ...OF_LISTS,
        },
      },
    },
    problems: [503],
    handle: async ({ input, services, may, hasNoGrant }) => {
      const { held, leftOut } = await heldNow(services.replica, (replica) => replica.list());
      const replicated = held.filter(
        ({ secret: { namespace, name } }) => services.view.secret(namespace, name) === undefined,
      );
      const listed: Listed[] = hasNoGrant
        ? []
        : [...[...services.view.secrets()].map(ofOwn), ...replicated.map(ofPrimary)];
      const wanted = inScope(input.query);
      const mayShow = ({ scope, target }: Listed) => wanted(scope) && may("list", target).allowed;
      const body = await visiblePage(
        listed,
        ({ key }) => key,
        input.query,
        mayShow,
        ({ show }) => show(),
      );
      const told = body.items.some((item) => item.replicated === true) ? syncedAtHeader(services) : {};
      return { status: 200, body, headers: { ...told, ...leftOut } };
    },
  }),
  route({
    id: "getSecret",
    method: "get",
    path: PATH,
    tag: TAG,
    summary: "One secret, without values.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target: readTarget },
    answers: { 200: { description: "The secret.", schema: summary, headers: OF_GATEWAYS } },
    problems: [404],
    handle: async ({ input, services, assertMay }) => {
      // What is there now may be another one than the caller was let in for.
      const held = await replicatedAt(input.params, services);
      if (held !== undefined) {
        await assertMay("list", targetOfReplicated(held));
        return { status: 200, body: shownReplicated(held), headers: syncedAtHeader(services) };
      }
      const secret = theSecret(input.params, services);
      await assertMay("list", targetOf(secret));
      return { status: 200, body: shown(secret) };
    },
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
    access: { kind: "Allowed", verb: "read", target: readTarget },
    answers: {
      200: {
        description: "The values.",
        schema: z.strictObject({ version: z.int(), values: z.record(z.string(), z.string()) }),
        headers: {
          etag: "Changes whenever the secret does; for If-None-Match, and, but for that of a gateway, for If-Match of a write.",
          ...OF_GATEWAYS,
        },
      },
      304: { description: "It is still what If-None-Match says. Nothing was read." },
    },
    problems: [404, 409],
    handle: async (call) => {
      const { input, services, ifNoneMatch, assertMay } = call;
      // As above.
      const held = await replicatedAt(input.params, services);
      if (held !== undefined) {
        await assertMay("read", targetOfReplicated(held));
        return replicatedValues(held, input.query, call);
      }
      const secret = theSecret(input.params, services);
      await assertMay("read", targetOf(secret));
      const { version, key, encoding: as } = input.query;
      const record = await theRecordToOpen(secret, services);
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
