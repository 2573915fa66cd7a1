/** Deleting, and bringing back what was deleted. */
import { z } from "zod";
import type { SecretRecord } from "../../../../core/ports/vault-store.ts";
import { isSealedForReaders } from "../../../../core/vault/end-to-end.ts";
import { Problem } from "../../problem.ts";
import { type Call, type Input, route } from "../../route.ts";
import type { Services } from "../../services.ts";
import { inNamespace } from "../names.ts";
import { externalObject } from "./object.ts";
import {
  assertUnchanged,
  dispose,
  FIELD_MANAGER,
  identify,
  PATH,
  type Place,
  TAG,
  target,
  targetOf,
  theSecret,
  type,
} from "./secret.ts";

export const deletionRoutes = [
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
