/**
 * The effects on one Secret, each idempotent. The order around an effect outside PostgreSQL: the read of the values is
 * audited before they leave, and what was delivered is recorded afterwards; after a crash in between, the next pass finds
 * the core Secret as it should be and records it.
 */
import { Stalled } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import type { Actor, AuditEntry } from "../../core/ports/audit-log.ts";
import type { DeliveryRecord, SecretRecord, VaultStore } from "../../core/ports/vault-store.ts";
import type { Secret } from "../../crds/secret.ts";
import { ApiError, isAlreadyExists, isConflict, isNotFound } from "../runtime/api-error.ts";
import type { EventRecorder } from "../runtime/events.ts";
import { coreSecrets } from "../runtime/resource-type.ts";
import {
  coreSecretManifest,
  coreSecretPatch,
  DELIVERY_FIELD_MANAGER,
  readCoreSecret,
  releasePatch,
  type WrittenCoreSecret,
} from "./core-secret.ts";
import type { Action, Outcome } from "./decide.ts";
import { identityOf, type SecretDependencies, type SecretObserver } from "./observe.ts";
import { restartWorkloads } from "./restart.ts";
import { assertFitsType } from "./typed-values.ts";

export interface PerformDependencies extends SecretDependencies {
  readonly store: Pick<VaultStore, "recordDelivery">;
  readonly observer: SecretObserver;
  readonly events: Pick<EventRecorder, "record">;
  /** Takes over the answer to a write, before the watch brings it. */
  readonly absorb: (written: WrittenCoreSecret) => void;
}

type Of<K extends Action["kind"]> = Extract<Action, { kind: K }>;

export const actorOf = ({ metadata }: Secret): Actor => ({
  kind: "Object",
  resource: `secrets.mazevault.io ${metadata.namespace}/${metadata.name}`,
  uid: metadata.uid,
  generation: metadata.generation ?? 0,
});

export class SecretPerformer {
  readonly #deps: PerformDependencies;

  constructor(deps: PerformDependencies) {
    this.#deps = deps;
  }

  perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    switch (action.kind) {
      case "StoreVersion":
        return this.#storeVersion(action, signal);
      case "Deliver":
        return this.#deliver(action, signal);
      case "RecordDelivery":
        return this.#recordDelivery(action.secret, action.record, action.delivery);
      case "ReleaseDelivery":
        return this.#release(action, signal);
      case "RestartWorkloads":
        return this.#restart(action, signal);
    }
  }

  async #storeVersion({ secret, seen, lifecycle }: Of<"StoreVersion">, signal: AbortSignal): Promise<Outcome> {
    const { vault, writer, cluster, observer } = this.#deps;
    const sources = await observer.readSources(secret, signal);
    const namespaceUid = cluster.namespace(secret.metadata.namespace ?? "")?.metadata.uid ?? "";
    failpoint("secret.beforeStore");
    const { record } = await vault.store(writer(), {
      identity: identityOf(secret, namespaceUid),
      seen,
      entries: secret.spec.entries,
      sources,
      lifecycle,
      actor: actorOf(secret),
    });
    failpoint("secret.afterStore");
    for (const value of sources.values()) value.dispose();
    return { kind: "Record", record };
  }

  async #deliver(action: Of<"Deliver">, signal: AbortSignal): Promise<Outcome> {
    const { api, vault, absorb } = this.#deps;
    const { secret, record, desired, replaces } = action;
    const namespace = secret.metadata.namespace ?? "";
    const live = replaces && (await readCoreSecret(api, namespace, desired.secretName, signal));
    if (live !== undefined && live.metadata.resourceVersion !== replaces?.resourceVersion) {
      return { kind: "Found", live: await this.#look(action, signal) };
    }
    const opened = await vault.open(record, {
      keys: desired.keys.map(({ from }) => from),
      actor: actorOf(secret),
      purpose: `deliver to core Secret ${namespace}/${desired.secretName}`,
    });
    let written: WrittenCoreSecret;
    try {
      assertFitsType(desired, opened.values);
      const options = { fieldManager: DELIVERY_FIELD_MANAGER, metadataOnly: true, signal };
      const key = { namespace, name: desired.secretName };
      failpoint("secret.beforeDeliver");
      written =
        live === undefined
          ? await api.create(coreSecrets, coreSecretManifest(secret, desired, opened.values), options)
          : await api.mergePatch(coreSecrets, key, coreSecretPatch(secret, desired, opened.values, live), options);
    } catch (error) {
      if (isAlreadyExists(error) || isConflict(error)) return { kind: "Found", live: await this.#look(action, signal) };
      throw refusedByApiServer(error, desired.secretName);
    } finally {
      for (const value of opened.values.values()) value.dispose();
    }
    absorb(written);
    failpoint("secret.afterDeliver");
    const { uid, resourceVersion } = written.metadata;
    return this.#recordDelivery(secret, record, {
      secretName: desired.secretName,
      uid,
      resourceVersion,
      version: opened.version,
      ...action.delivery,
    });
  }

  /** What stands there after all, when something came between. */
  async #look({ secret, desired }: Of<"Deliver">, signal: AbortSignal) {
    const { api, cluster, vault, writer, observer } = this.#deps;
    const namespace = secret.metadata.namespace ?? "";
    const live = await readCoreSecret(api, namespace, desired.secretName, signal);
    // It vanished again: whatever the cache says, the next pass sees.
    if (live === undefined) throw new Error(`core Secret ${desired.secretName} appeared and vanished`);
    const namespaceUid = cluster.namespace(namespace)?.metadata.uid ?? "";
    const digests = await vault.digester(writer(), identityOf(secret, namespaceUid));
    return observer.look(secret, live, desired, digests);
  }

  async #recordDelivery(
    secret: Secret,
    record: SecretRecord,
    delivery: DeliveryRecord | undefined,
    problems?: readonly string[],
  ): Promise<Outcome> {
    await this.#deps.store.recordDelivery(this.#deps.writer(), record.id, delivery, [
      deliveryAudit(secret, record, delivery),
    ]);
    failpoint("secret.afterRecordDelivery");
    return { kind: "Delivery", delivery, ...(problems && { problems }) };
  }

  async #release({ secret, record, delivery }: Of<"ReleaseDelivery">, signal: AbortSignal): Promise<Outcome> {
    const { api, absorb, events } = this.#deps;
    const namespace = secret.metadata.namespace ?? "";
    const live = await readCoreSecret(api, namespace, delivery.secretName, signal);
    if (live !== undefined && live.metadata.uid === delivery.uid) {
      const options = { fieldManager: DELIVERY_FIELD_MANAGER, metadataOnly: true, signal };
      const key = { namespace, name: delivery.secretName };
      absorb(await api.mergePatch(coreSecrets, key, releasePatch(live, secret.metadata.uid), options));
      failpoint("secret.afterRelease");
      events.record(secret, {
        type: "Normal",
        reason: "DeliveryReleased",
        action: "Release",
        note: `core Secret ${delivery.secretName} is no longer kept up to date; it stays, delete it by hand if nobody uses it`,
      });
    }
    return this.#recordDelivery(secret, record, undefined);
  }

  async #restart({ secret, record, delivery }: Of<"RestartWorkloads">, signal: AbortSignal): Promise<Outcome> {
    const { api, events } = this.#deps;
    const [digest = ""] = delivery.fingerprint.split(".");
    const at = { namespace: secret.metadata.namespace ?? "", secretName: delivery.secretName, digest };
    const { restarted, problems } = await restartWorkloads(api, at, delivery.pendingRestarts, signal);
    failpoint("secret.afterRestart");
    const version = `version ${delivery.version} of ${delivery.secretName}`;
    if (restarted.length > 0) {
      const note = `${restarted.join(", ")} for ${version}`;
      events.record(secret, { type: "Normal", reason: "WorkloadsRestarted", action: "Restart", note });
    }
    if (problems.length > 0) {
      const note = `not restarted for ${version}: ${problems.join(", ")}`;
      events.record(secret, { type: "Warning", reason: "WorkloadsNotRestarted", action: "Restart", note });
    }
    return this.#recordDelivery(secret, record, { ...delivery, pendingRestarts: [] }, problems);
  }
}

function deliveryAudit(secret: Secret, record: SecretRecord, delivery: DeliveryRecord | undefined): AuditEntry {
  const { namespace, name } = secret.metadata;
  return {
    action: delivery === undefined ? "SecretDeliveryRemoved" : "SecretDelivered",
    actor: actorOf(secret),
    subject: { kind: "Secret", id: record.id, name: `${namespace}/${name}` },
    outcome: "Success",
    details:
      delivery === undefined
        ? {}
        : {
            coreSecret: `${namespace}/${delivery.secretName}`,
            uid: delivery.uid,
            version: delivery.version,
            pendingRestarts: delivery.pendingRestarts.length,
          },
  };
}

/** A value that does not have the form which the core Secret's type demands is the manifest's fault. */
function refusedByApiServer(error: unknown, secretName: string): unknown {
  if (error instanceof ApiError && error.status === 422) {
    const fields = [...new Set((error.details.causes ?? []).map(({ field }) => field))].join(", ");
    return new Stalled(
      "ValueInvalid",
      `the API server refuses core Secret ${secretName} (${fields || error.reason}); correct the entries, or deliver with another type to another secretName`,
      { cause: error },
    );
  }
  if (isNotFound(error, secretName)) return new Error(`core Secret ${secretName} vanished`, { cause: error });
  return error;
}
