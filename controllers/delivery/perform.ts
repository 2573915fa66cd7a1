/**
 * The effects on one core Secret, each idempotent. What was delivered is recorded afterwards; after a crash in between,
 * the next pass finds the core Secret as it should be and records it.
 */
import { Stalled } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import type { DeliveryRecord, MadeValue } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import type { Resource } from "../../crds/common.ts";
import { ApiError, isAlreadyExists, isConflict, isNotFound } from "../runtime/api-error.ts";
import type { EventRecorder } from "../runtime/events.ts";
import { coreSecrets } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import {
  adoptionPatch,
  coreSecretManifest,
  coreSecretPatch,
  DELIVERY_FIELD_MANAGER,
  readCoreSecret,
  releasePatch,
  type WrittenCoreSecret,
} from "./core-secret.ts";
import type { DesiredDelivery, Digests, LiveCoreSecret } from "./desired.ts";
import type { DeliveryObserver } from "./observe.ts";
import type { DeliveryAction } from "./plan.ts";
import { restartWorkloads } from "./restart.ts";

export interface DeliveryPerformerDependencies {
  readonly api: KubernetesApi;
  readonly events: Pick<EventRecorder, "record">;
  /** Takes over the answer to a write, before the watch brings it. */
  readonly absorb: (written: WrittenCoreSecret) => void;
  readonly observer: DeliveryObserver;
}

/** Of one object: what only its controller knows. */
export interface DeliveryContext {
  readonly object: Resource;
  /** Where its core Secret stands. */
  readonly namespace: string;
  readonly digests: () => Promise<Digests>;
  /** Puts it on record, audited; undefined: nothing is delivered any more. */
  readonly record: (delivery: DeliveryRecord | undefined) => Promise<void>;
  /** The values to deliver, by key of the source; disposed here. The read is on record before it resolves. */
  readonly open: (keys: readonly string[]) => Promise<OpenedValues>;
}

export interface OpenedValues {
  readonly version: number;
  readonly values: ReadonlyMap<string, Sensitive>;
  readonly made?: readonly MadeValue[];
}

export type DeliveryOutcome =
  | { readonly kind: "Delivery"; readonly delivery: DeliveryRecord | undefined; readonly problems?: readonly string[] }
  /** Something stands there after all; look at it. */
  | { readonly kind: "Found"; readonly live: LiveCoreSecret };

type Of<K extends DeliveryAction["kind"]> = Extract<DeliveryAction, { kind: K }>;

export class DeliveryPerformer {
  readonly #deps: DeliveryPerformerDependencies;

  constructor(deps: DeliveryPerformerDependencies) {
    this.#deps = deps;
  }

  perform(action: DeliveryAction, context: DeliveryContext, signal: AbortSignal): Promise<DeliveryOutcome> {
    switch (action.kind) {
      case "Deliver":
        return this.#deliver(action, context, signal);
      case "Adopt":
        return this.#adopt(action, context, signal);
      case "RecordDelivery":
        return this.#record(context, action.delivery);
      case "ReleaseDelivery":
        return this.#release(action, context, signal);
      case "RestartWorkloads":
        return this.#restart(action, context, signal);
    }
  }

  async #deliver(
    { desired, replaces, delivery }: Of<"Deliver">,
    context: DeliveryContext,
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { api, absorb } = this.#deps;
    const { namespace } = desired;
    const found = () => this.#found(desired, context, signal);
    const live = replaces && (await readCoreSecret(api, namespace, desired.secretName, signal));
    if (live !== undefined && live.metadata.resourceVersion !== replaces?.resourceVersion) return found();
    const opened = await context.open(desired.keys.map(({ from }) => from));
    let written: WrittenCoreSecret;
    try {
      const options = { fieldManager: DELIVERY_FIELD_MANAGER, metadataOnly: true, signal };
      const key = { namespace, name: desired.secretName };
      failpoint("delivery.beforeDeliver");
      written =
        live === undefined
          ? await api.create(coreSecrets, coreSecretManifest(desired, opened.values), options)
          : await api.mergePatch(coreSecrets, key, coreSecretPatch(desired, opened.values, live), options);
    } catch (error) {
      if (isAlreadyExists(error) || isConflict(error)) return found();
      throw refusedByApiServer(error, desired.secretName);
    } finally {
      for (const value of opened.values.values()) value.dispose();
    }
    absorb(written);
    failpoint("delivery.afterDeliver");
    const { uid, resourceVersion } = written.metadata;
    const { version, made } = opened;
    const { secretName } = desired;
    return this.#record(context, { secretName, uid, resourceVersion, version, ...delivery, ...(made && { made }) });
  }

  async #adopt(
    { desired, delivery }: Of<"Adopt">,
    context: DeliveryContext,
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { api, absorb } = this.#deps;
    const { namespace } = desired;
    const { secretName: name } = delivery;
    const live = await readCoreSecret(api, namespace, name, signal);
    if (live?.metadata.resourceVersion !== delivery.resourceVersion) return this.#found(desired, context, signal);
    let written: WrittenCoreSecret;
    try {
      const options = { fieldManager: DELIVERY_FIELD_MANAGER, metadataOnly: true, signal };
      failpoint("delivery.beforeAdopt");
      written = await api.mergePatch(coreSecrets, { namespace, name }, adoptionPatch(desired, live), options);
    } catch (error) {
      if (isConflict(error)) return this.#found(desired, context, signal);
      throw refusedByApiServer(error, name);
    }
    absorb(written);
    failpoint("delivery.afterAdopt");
    const { uid, resourceVersion } = written.metadata;
    return this.#record(context, { ...delivery, uid, resourceVersion });
  }

  async #found(desired: DesiredDelivery, context: DeliveryContext, signal: AbortSignal): Promise<DeliveryOutcome> {
    return { kind: "Found", live: await this.#deps.observer.lookAgain(desired, await context.digests(), signal) };
  }

  async #record(
    { record }: DeliveryContext,
    delivery: DeliveryRecord | undefined,
    problems?: readonly string[],
  ): Promise<DeliveryOutcome> {
    await record(delivery);
    failpoint("delivery.afterRecord");
    return { kind: "Delivery", delivery, ...(problems && { problems }) };
  }

  async #release(
    { delivery }: Of<"ReleaseDelivery">,
    context: DeliveryContext,
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { api, absorb, events } = this.#deps;
    const { object, namespace } = context;
    const live = await readCoreSecret(api, namespace, delivery.secretName, signal);
    if (live !== undefined && live.metadata.uid === delivery.uid) {
      const options = { fieldManager: DELIVERY_FIELD_MANAGER, metadataOnly: true, signal };
      const key = { namespace, name: delivery.secretName };
      absorb(await api.mergePatch(coreSecrets, key, releasePatch(live, object.metadata.uid), options));
      failpoint("delivery.afterRelease");
      events.record(object, {
        type: "Normal",
        reason: "DeliveryReleased",
        action: "Release",
        note: `core Secret ${delivery.secretName} is no longer kept up to date; it stays, delete it by hand if nobody uses it`,
      });
    }
    return this.#record(context, undefined);
  }

  async #restart(
    { delivery }: Of<"RestartWorkloads">,
    context: DeliveryContext,
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { api, events } = this.#deps;
    const { object, namespace } = context;
    const [digest = ""] = delivery.fingerprint.split(".");
    const at = { namespace, secretName: delivery.secretName, digest };
    const { restarted, problems } = await restartWorkloads(api, at, delivery.pendingRestarts, signal);
    failpoint("delivery.afterRestart");
    const version = `version ${delivery.version} of ${delivery.secretName}`;
    if (restarted.length > 0) {
      const note = `${restarted.join(", ")} for ${version}`;
      events.record(object, { type: "Normal", reason: "WorkloadsRestarted", action: "Restart", note });
    }
    if (problems.length > 0) {
      const note = `not restarted for ${version}: ${problems.join(", ")}`;
      events.record(object, { type: "Warning", reason: "WorkloadsNotRestarted", action: "Restart", note });
    }
    return this.#record(context, { ...delivery, pendingRestarts: [] }, problems);
  }
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
