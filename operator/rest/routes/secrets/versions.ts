/** The versions that are kept, the way back to one, and new values of generated entries. */
import { z } from "zod";
import { overlapMs } from "../../../../controllers/secret/observe.ts";
import { UNLED } from "../../../../core/ports/vault-store.ts";
import { stateOfVersion } from "../../../../core/vault/apply.ts";
import { rotatableKeys } from "../../../../core/vault/due.ts";
import { dataKey } from "../../../../crds/common.ts";
import { Problem } from "../../problem.ts";
import { route } from "../../route.ts";
import { inNamespace } from "../names.ts";
import { assertUnchanged, etag, PATH, TAG, target, theRecord, theSecret, written } from "./secret.ts";

export const versionRoutes = [
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
              state: z.enum(["Current", "Pending", "Failed", "Kept"]).meta({
                description:
                  "Pending: it becomes current when it is applied. Failed: it was not applied, and never was current.",
              }),
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
        state: stateOfVersion(record, version),
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
      "Generated and external entries are rolled back; those of the manifest and of core Secrets follow their source. Refused with spec.rotation.apply, and for versions that never were current.",
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
      // Where a Key Vault has the values none is applied.
      if (secret.spec.rotation?.apply !== undefined && seen.vaultUrl === undefined) {
        throw new Problem(
          409,
          "NotRolledBack",
          "the values of older versions do not count any more where spec.rotation.apply is set; rotate instead",
        );
      }
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
    id: "rotateSecret",
    method: "post",
    path: `${PATH}/rotate`,
    tag: TAG,
    summary: "Makes a new version in which generated entries have new values.",
    description:
      "All others stay as they are, but for templates that refer to them. It counts like a rotation that was due: the next one is counted from it. With spec.rotation.apply it is requested: the version becomes current when it is applied.",
    params: inNamespace,
    body: z.strictObject({
      keys: z
        .array(dataKey)
        .min(1)
        .max(256)
        .optional()
        .meta({ description: "Entries with generate; those of spec.rotation.keys, else all, when absent." }),
    }),
    access: { kind: "Allowed", verb: "rotate", target },
    answers: {
      200: {
        description: "The new version.",
        schema: z.strictObject({
          ...written.shape,
          requested: z
            .boolean()
            .optional()
            .meta({ description: "It is to be applied; the version is the one that is current until then." }),
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
      if (secret.spec.rotation?.apply !== undefined) {
        if (input.body.keys !== undefined) {
          throw new Problem(
            409,
            "KeysNotApplied",
            "keys: with spec.rotation.apply all entries of spec.rotation.keys are rotated together; leave keys out",
          );
        }
        const record = await services.vault.applied.requestApply(UNLED, seen, actor);
        const body = { version: record.currentVersion, changed: [], requested: true };
        return { status: 200, body, headers: etag(record) };
      }
      const rotated = await services.vault.rotate(UNLED, seen, {
        entries: secret.spec.entries,
        keys: input.body.keys ?? rotatableKeys(secret.spec, seen),
        cause: { kind: "Request" },
        overlapMs: overlapMs(secret),
        actor,
      });
      const changed = [...rotated.changedKeys].sort();
      return { status: 200, body: { version: rotated.record.currentVersion, changed }, headers: etag(rotated.record) };
    },
  }),
];
