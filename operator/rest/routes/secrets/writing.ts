/** Writing values, as new versions. */
import { z } from "zod";
import { lifecycleOf } from "../../../../controllers/secret/observe.ts";
import type { Target } from "../../../../core/access/policy.ts";
import { Conflict, UNLED } from "../../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../../core/sensitive.ts";
import { assertNotApplied } from "../../../../core/vault/refusals.ts";
import { dataKey, labelName, objectName } from "../../../../crds/common.ts";
import type { Secret } from "../../../../crds/secret.ts";
import { Problem } from "../../problem.ts";
import { type Call, type Input, route } from "../../route.ts";
import { inNamespace } from "../names.ts";
import { externalObject, isOurs } from "./object.ts";
import { queued, waitingAnswer } from "./queued.ts";
import { replicatedAt, targetOfReplicated } from "./replicated.ts";
import {
  assertBelongs,
  assertUnchanged,
  dispose,
  encoding,
  etag,
  FIELD_MANAGER,
  identify,
  PATH,
  type Place,
  TAG,
  target,
  targetOf,
  type,
  written,
} from "./secret.ts";

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
  assertBelongs(place, body, { project: secret.spec.projectRef.name, environment: secret.spec.environment });
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

export const writingRoutes = [
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
      target: async (input, services) => {
        const held = await replicatedAt(input.params, services);
        if (held !== undefined) return targetOfReplicated(held);
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
        headers: { etag: "As it is now; for If-Match of the next write. Not told by a gateway." },
      },
      202: waitingAnswer,
    },
    problems: [404, 409, 412, 422],
    handle: async (call) => {
      const { input, services, actor } = call;
      const { params, body } = input;
      const values = decoded(body.values, body.encoding);
      try {
        const held = await replicatedAt(params, services);
        if (held !== undefined) {
          await call.assertMay("write", targetOfReplicated(held));
          return await queued(call as Call<Input>, held.secret, body, values);
        }
        const known = services.view.secret(params.namespace, params.name);
        const before = known && (await services.vault.describe(identify(known, services)));
        assertUnchanged(before, call);
        const secret = await prepared(params, body, known, call as Call<Input>);
        const identity = identify(secret, services);
        const { entries, readers, rotation } = secret.spec;
        assertNotApplied(rotation?.apply?.postgres?.username, values);
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
];
