/** Secrets: what there is, their values, their versions. A value leaves only after its read is on record. */
import { setImmediate as turn } from "node:timers/promises";
import { z } from "zod";
import { tenancyOf } from "../../../controllers/cluster.ts";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import { identityOf, lifecycleOf } from "../../../controllers/secret/observe.ts";
import type { Target } from "../../../core/access/policy.ts";
import { Conflict, type SecretRecord, UNLED } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import { isSealedForReaders } from "../../../core/vault/end-to-end.ts";
import { API_VERSION, dataKey, labelName, objectName } from "../../../crds/common.ts";
import { type Secret, secretKind } from "../../../crds/secret.ts";
import { problemOf } from "../failure.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";
import { inNamespace, readiness, readinessOf, type Scope, scopeQuery } from "./names.ts";

const TAG = "Secrets";
const PATH = "/api/v1/namespaces/{namespace}/secrets/{name}";
/** Whose objects may be changed here: what stands in Git would be changed back. */
export const MADE_BY = "mazevault.io/made-by";
const FIELD_MANAGER = "mazevault-rest";
const type = resourceType(secretKind);

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

const encoding = z
  .enum(["utf8", "base64"])
  .default("utf8")
  .meta({ description: "How values stand in JSON: as text, or as base64 of their bytes." });

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

interface Place {
  readonly namespace: string;
  readonly name: string;
}

const targetOf = ({ metadata, spec }: Secret): Target => ({
  kind: "Secret",
  project: spec.projectRef.name,
  environment: spec.environment,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
});

/** Of what is not there only the place is known: whoever may not look there learns nothing of it. */
const target = ({ params }: { params: Place }, { view }: Services): Target => {
  const secret = view.secret(params.namespace, params.name);
  return secret === undefined ? { kind: "Secret", ...params } : targetOf(secret);
};

function theSecret({ namespace, name }: Place, { view }: Services): Secret {
  const secret = view.secret(namespace, name);
  if (secret === undefined) throw new Problem(404, "NotFound", `there is no Secret ${namespace}/${name}`);
  return secret;
}

const identify = (secret: Secret, { view }: Services) => identityOf(secret, tenancyOf(view, secret).namespace.uid);

async function theRecord(secret: Secret, services: Services): Promise<SecretRecord> {
  const record = await services.vault.describe(identify(secret, services));
  if (record !== undefined) return record;
  const { namespace, name } = secret.metadata;
  throw new Problem(
    404,
    "SecretNotStored",
    `nothing is stored for Secret ${namespace}/${name} yet; its status says why`,
  );
}

/** As RFC 9110, section 8.8.3, writes it. */
const etag = ({ generation }: SecretRecord): Readonly<Record<string, string>> => ({ etag: `"${generation}"` });

function assertUnchanged(record: SecretRecord | undefined, { ifMatch }: Pick<Call<Input>, "ifMatch">): void {
  if (ifMatch === undefined || (ifMatch === "*" && record !== undefined)) return;
  if (ifMatch === record?.generation.toString()) return;
  throw new Problem(412, "ChangedMeanwhile", "it is not what If-Match says any more; read it again and decide anew");
}

function encoded(values: ReadonlyMap<string, Sensitive>, as: "utf8" | "base64"): Record<string, string> {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return Object.fromEntries(
    [...values].map(([key, value]) => {
      if (as === "base64") return [key, value.reveal().toString("base64")];
      try {
        return [key, text.decode(value.reveal())];
      } catch {
        throw new Problem(409, "ValueIsNotText", `the value of ${key} is no text; ask for it with encoding=base64`);
      }
    }),
  );
}

function decoded(values: Readonly<Record<string, string>>, from: "utf8" | "base64"): Map<string, Sensitive> {
  return new Map(
    Object.entries(values).map(([key, value]) => {
      const bytes = Buffer.from(value, from);
      if (from === "base64" && bytes.toString("base64").replaceAll("=", "") !== value.replaceAll("=", "")) {
        const field = `body.values.${key}`;
        throw new Problem(400, "InvalidRequest", `${field}: must be base64`, {
          errors: [{ field, message: "must be base64" }],
        });
      }
      return [key, new Sensitive(bytes)];
    }),
  );
}

const dispose = (values: ReadonlyMap<string, Sensitive>): void => {
  for (const value of values.values()) value.dispose();
};

/** Reads values for the caller; they are on record before this resolves. */
async function read(
  record: SecretRecord,
  call: Call<Input>,
  wanted: { readonly version?: number | undefined; readonly keys?: readonly string[] | undefined },
  as: "utf8" | "base64",
): Promise<{ version: number; values: Record<string, string> }> {
  const { services, actor, grant } = call;
  const { version, values } = await services.vault.open(record, {
    actor,
    purpose: `REST: ${grant}`,
    ...(wanted.version !== undefined && { version: wanted.version }),
    ...(wanted.keys !== undefined && { keys: wanted.keys }),
  });
  try {
    return { version, values: encoded(values, as) };
  } finally {
    dispose(values);
  }
}

const inScope =
  ({ project, environment, namespace }: Scope) =>
  ({ metadata, spec }: Secret): boolean =>
    (project === undefined || spec.projectRef.name === project) &&
    (environment === undefined || spec.environment === environment) &&
    (namespace === undefined || metadata.namespace === namespace);

const keyOf = ({ metadata }: Secret): string => `${metadata.namespace}/${metadata.name}`;

const written = z.strictObject({
  version: z.int(),
  changed: z.array(z.string()).meta({ description: "Keys that have another value now; none: nothing was done." }),
});

/** A `Secret` whose values come through here. */
const externalObject = (
  place: Place,
  scope: { readonly project: string; readonly environment: string },
  keys: readonly string[],
) => ({
  apiVersion: API_VERSION,
  kind: "Secret",
  metadata: { ...place, annotations: { [MADE_BY]: "rest" } },
  spec: {
    projectRef: { name: scope.project },
    environment: scope.environment,
    entries: keys.map((key) => ({ key, external: {} })),
  },
});

const isOurs = ({ metadata }: Secret): boolean => metadata.annotations?.[MADE_BY] === "rest";

/**
 * The object to write to: as it is, made where there is none, or with entries for new keys where it was made here. `secret`
 * is what the decision to let the caller in was about, so it is not looked up again.
 */
async function prepared(
  place: Place,
  body: { readonly project?: string | undefined; readonly environment?: string | undefined; readonly values: object },
  secret: Secret | undefined,
  { services, signal, announce, assertMay }: Call<Input>,
): Promise<Secret> {
  const { api } = services;
  const keys = Object.keys(body.values);
  if (secret === undefined) {
    const { project, environment } = body;
    if (project === undefined || environment === undefined) {
      throw new Problem(
        404,
        "NotFound",
        `there is no Secret ${place.namespace}/${place.name}; give project and environment to make it`,
      );
    }
    const made: Target = { kind: "Secret", ...place, project, environment };
    await assertMay("write", made);
    await announce("Create", made);
    return api.create<Secret>(type, externalObject(place, { project, environment }, keys), {
      fieldManager: FIELD_MANAGER,
      signal,
    });
  }
  await assertMay("write", targetOf(secret));
  for (const [field, given, is] of [
    ["project", body.project, secret.spec.projectRef.name],
    ["environment", body.environment, secret.spec.environment],
  ] as const) {
    if (given === undefined || given === is) continue;
    const message = `Secret ${place.namespace}/${place.name} is of ${field} ${is}`;
    throw new Problem(409, "BelongsElsewhere", message, { errors: [{ field: `body.${field}`, message }] });
  }
  const known = new Set(secret.spec.entries.map(({ key }) => key));
  const added = keys.filter((key) => !known.has(key));
  if (added.length === 0) return secret;
  if (!isOurs(secret)) {
    const field = `body.values.${added[0]}`;
    const message = `the manifest of this Secret has no entry ${added[0]}; add {key: ${added[0]}, external: {}} to it`;
    throw new Problem(409, "EntryUnknown", message, { errors: [{ field, message }] });
  }
  const { uid, resourceVersion } = secret.metadata;
  await announce("Change", targetOf(secret));
  const entries = [...secret.spec.entries, ...added.map((key) => ({ key, external: {} }))];
  return api.jsonPatch<Secret>(
    type,
    place,
    [
      { op: "test", path: "/metadata/uid", value: uid },
      { op: "test", path: "/metadata/resourceVersion", value: resourceVersion },
      { op: "replace", path: "/spec/entries", value: entries },
    ],
    { fieldManager: FIELD_MANAGER, signal },
  );
}

const CONFLICTS = 5;

/** Again, while somebody else is faster: the leader looks at a Secret in the same moment as it is written here. */
async function settling<T>({ ifMatch }: Pick<Call<Input>, "ifMatch">, write: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await write();
    } catch (error) {
      if (!(error instanceof Conflict) || ifMatch !== undefined || attempt === CONFLICTS) throw error;
    }
  }
}

export const secretRoutes = [
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
      const record = await theRecord(theSecret(input.params, services), services);
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
  route({
    id: "putSecretValues",
    method: "put",
    path: `${PATH}/values`,
    tag: TAG,
    summary: "Writes values of external entries, as one new version.",
    description:
      "Entries that are not named stay as they are. A Secret that does not exist is made when project and environment are given.",
    params: inNamespace,
    body: z.strictObject({
      values: z
        .record(dataKey, z.string().max(1_048_576))
        .refine((values) => Object.keys(values).length > 0, "must have at least one key")
        .meta({ description: "By key.", minProperties: 1, maxProperties: 256 }),
      encoding,
      project: objectName.optional().meta({ description: "Project of a Secret that is to be made." }),
      environment: labelName.optional().meta({ description: "Environment of a Secret that is to be made." }),
    }),
    access: {
      kind: "Allowed",
      verb: "write",
      target: (input, services) => {
        const { project, environment } = input.body;
        return {
          ...(project !== undefined && { project }),
          ...(environment !== undefined && { environment }),
          ...target(input, services),
        };
      },
    },
    answers: {
      200: {
        description: "The version that has them.",
        schema: written,
        headers: { etag: "As it is now; for If-Match of the next write." },
      },
    },
    problems: [404, 409, 412, 422],
    handle: async (call) => {
      const { input, services, actor } = call;
      const { params, body } = input;
      const values = decoded(body.values, body.encoding);
      try {
        const known = services.view.secret(params.namespace, params.name);
        const before = known && (await services.vault.describe(identify(known, services)));
        assertUnchanged(before, call);
        const secret = await prepared(params, body, known, call as Call<Input>);
        const identity = identify(secret, services);
        const { entries, readers } = secret.spec;
        const request = { identity, entries, readers, values, lifecycle: lifecycleOf(secret), actor };
        const { record, changedKeys } = await settling(call, async () => {
          // Who said what they had seen means that one, whatever came since.
          const seen = call.ifMatch === undefined ? await services.vault.describe(identity) : before;
          return services.vault.put(UNLED, { ...request, seen });
        });
        return {
          status: 200,
          body: { version: record.currentVersion, changed: [...changedKeys].sort() },
          headers: etag(record),
        };
      } finally {
        dispose(values);
      }
    },
  }),
  route({
    id: "listSecretVersions",
    method: "get",
    path: `${PATH}/versions`,
    tag: TAG,
    summary: "The versions that are kept, newest first.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target },
    answers: {
      200: {
        description: "All of them.",
        schema: z.strictObject({
          items: z.array(
            z.strictObject({
              version: z.int(),
              createdAt: z.iso.datetime(),
              current: z.boolean(),
              keys: z.array(z.string()),
            }),
          ),
        }),
      },
    },
    problems: [404, 409],
    handle: async ({ input, services }) => {
      const record = await theRecord(theSecret(input.params, services), services);
      const items = (await services.vault.versions(record)).map(({ version, createdAt, keys }) => ({
        version,
        createdAt: createdAt.toISOString(),
        current: version === record.currentVersion,
        keys: [...keys],
      }));
      return { status: 200, body: { items }, headers: etag(record) };
    },
  }),
  route({
    id: "rollBackSecret",
    method: "post",
    path: `${PATH}/rollback`,
    tag: TAG,
    summary: "Makes a new version with the values of an older one.",
    description:
      "Generated and external entries are rolled back; those of the manifest and of core Secrets follow their source.",
    params: inNamespace,
    body: z.strictObject({ version: z.int().min(1).max(2_147_483_647).meta({ description: "One that is kept." }) }),
    access: { kind: "Allowed", verb: "write", target },
    answers: {
      200: {
        description: "The new version.",
        schema: z.strictObject({
          ...written.shape,
          kept: z.array(z.string()).meta({ description: "Keys that differ and follow their source." }),
        }),
        headers: { etag: "As it is now." },
      },
    },
    problems: [404, 409, 412],
    handle: async (call) => {
      const { input, services, actor } = call;
      const secret = theSecret(input.params, services);
      const seen = await theRecord(secret, services);
      assertUnchanged(seen, call);
      const { version } = input.body;
      const kept = await services.vault.versions(seen);
      if (!kept.some((each) => each.version === version)) {
        throw new Problem(
          404,
          "VersionNotKept",
          `version ${version} is not kept; there are ${kept.map((each) => each.version).join(", ")}`,
        );
      }
      const rolledBack = await services.vault.rollback(UNLED, seen, { version, entries: secret.spec.entries, actor });
      return {
        status: 200,
        body: {
          version: rolledBack.record.currentVersion,
          changed: [...rolledBack.changedKeys].sort(),
          kept: [...rolledBack.kept].sort(),
        },
        headers: etag(rolledBack.record),
      };
    },
  }),
  route({
    id: "deleteSecret",
    method: "delete",
    path: PATH,
    tag: TAG,
    summary: "Deletes the Secret object, as kubectl delete does.",
    description: "Its deletionPolicy says what becomes of the versions.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "delete", target },
    answers: { 204: { description: "It is gone; what it leaves is dealt with in a moment." } },
    problems: [404, 409, 412],
    handle: async (call) => {
      const { input, services, signal } = call;
      const secret = theSecret(input.params, services);
      assertUnchanged(await services.vault.describe(identify(secret, services)), call);
      const { uid } = secret.metadata;
      await call.announce("Delete", targetOf(secret));
      await services.api.delete(type, input.params, { preconditions: { uid }, signal });
      return { status: 204 };
    },
  }),
  route({
    id: "recoverSecret",
    method: "post",
    path: `${PATH}/recover`,
    tag: TAG,
    summary: "Brings a deleted secret back.",
    description: "Makes a Secret object whose entries are external and have the values that they had.",
    params: inNamespace,
    access: {
      kind: "Allowed",
      verb: "write",
      target: async ({ params }, services) => {
        const lost = await deletedSecret(params, services);
        return lost === undefined
          ? target({ params }, services)
          : {
              kind: "Secret",
              ...params,
              namespaceUid: lost.namespaceUid,
              project: lost.project,
              environment: lost.environment,
            };
      },
    },
    answers: { 200: { description: "It is back.", schema: z.strictObject({ version: z.int() }) } },
    problems: [404, 409, 422],
    handle: async (call) => {
      const { input, services, signal, announce } = call;
      const { namespace, name } = input.params;
      if (services.view.secret(namespace, name) !== undefined) {
        throw new Problem(409, "NotDeleted", `Secret ${namespace}/${name} is there; roll it back to have older values`);
      }
      const identity = await deletedSecret(input.params, services);
      const record = identity && (await services.vault.describe(identity));
      if (record === undefined) {
        throw new Problem(404, "NotFound", `no deleted secret ${namespace}/${name} is kept`);
      }
      await refuseEndToEnd(record, call);
      const keys = record.entries.map(({ key }) => key);
      const object = externalObject(input.params, record.identity, keys);
      const { deletionPolicy, keepVersions, softDeleteMs } = record.lifecycle;
      // With other settings the leader would delete versions that were meant to be kept.
      const retention = { versions: keepVersions, softDelete: `${Math.round(softDeleteMs / 1000)}s` };
      await announce("Create", { kind: "Secret", ...input.params, ...scopeOf(record) });
      await services.api.create(
        type,
        { ...object, spec: { ...object.spec, deletionPolicy, retention } },
        { fieldManager: FIELD_MANAGER, signal },
      );
      return { status: 200, body: { version: record.currentVersion } };
    },
  }),
  route({
    id: "exportSecrets",
    method: "get",
    path: "/api/v1/export",
    tag: TAG,
    summary: "The current values of many secrets, one JSON object a line.",
    description: "Each read is on record before its line leaves. A line without values says why.",
    query: z.object({ ...scopeQuery, encoding }),
    access: { kind: "Filtered", verb: "read" },
    answers: { 200: { description: "JSON Lines.", type: "application/x-ndjson" } },
    handle: async (call) => ({
      status: 200,
      stream: { type: "application/x-ndjson", pieces: exported(call, call.input.query) },
    }),
  }),
];

const scopeOf = ({ identity: { project, environment } }: SecretRecord) => ({ project, environment });

/** Its readers are not kept with the record, and without them it would come back as one that anybody may write in the clear. */
async function refuseEndToEnd(record: SecretRecord, { services, actor }: Call<Input>): Promise<void> {
  const { values } = await services.vault.open(record, { actor, purpose: "REST: is it sealed for readers?" });
  const sealed = [...values.values()].every(isSealedForReaders);
  dispose(values);
  if (!sealed) return;
  const { namespace, name } = record.identity;
  const message = `secret ${namespace}/${name} is sealed for its readers; apply its manifest again, which names them`;
  throw new Problem(409, "EndToEndProtected", message);
}

/** Of which project it was: what a re-created namespace does not inherit does not count. */
async function deletedSecret({ namespace, name }: Place, { vaultStore, view }: Services) {
  const uid = view.namespace(namespace)?.metadata.uid;
  const found = await vaultStore.locate(namespace, name);
  return found.find(({ identity, state }) => identity.namespaceUid === uid && state !== "Active")?.identity;
}

async function* exported(
  call: Call<Input>,
  { encoding: as, ...scope }: Scope & { readonly encoding: "utf8" | "base64" },
): AsyncGenerator<string> {
  const { services, may, hasNoGrant } = call;
  if (hasNoGrant) return;
  const secrets = [...services.view.secrets()].filter(inScope(scope)).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  for (const secret of secrets) {
    await turn();
    const { allowed, reason } = may("read", targetOf(secret));
    if (!allowed) continue;
    const { namespace, name } = secret.metadata;
    const place = { namespace, name, project: secret.spec.projectRef.name, environment: secret.spec.environment };
    let line: object;
    try {
      const record = await theRecord(secret, services);
      line = { ...place, ...(await read(record, { ...call, grant: reason } as Call<Input>, {}, as)) };
    } catch (error) {
      const problem = problemOf(error);
      // Without the database, or after a defect, nothing that follows can be right.
      if (problem.status >= 500 && problem.code !== "TamperDetected") throw error;
      line = { ...place, problem: problem.code };
    }
    yield `${JSON.stringify(line)}\n`;
  }
}
