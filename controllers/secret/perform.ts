/**
 * The effects on one Secret, each idempotent. The order around an effect outside PostgreSQL: the read of the values is
 * audited before they leave, and what was delivered is recorded afterwards; after a crash in between, the next pass finds
 * the core Secret as it should be and records it.
 */
import { failpoint } from "../../core/failpoints.ts";
import type { Actor, AuditEntry } from "../../core/ports/audit-log.ts";
import type { DeliveryRecord, SecretRecord, VaultStore } from "../../core/ports/vault-store.ts";
import { type Secret, secretKind } from "../../crds/secret.ts";
import { objectActor } from "../actor.ts";
import type { DeliveryContext, DeliveryPerformer } from "../delivery/perform.ts";
import type { DeliveryAction } from "../delivery/plan.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { ApplyPerformer } from "./apply/perform.ts";
import { type Action, keptValues, type Outcome } from "./decide.ts";
import { identityOf, overlapMs, type SecretDependencies, type SecretObserver } from "./observe.ts";
import { assertFitsType } from "./typed-values.ts";

export interface PerformDependencies extends SecretDependencies {
  readonly store: Pick<VaultStore, "recordDelivery">;
  readonly observer: SecretObserver;
  readonly delivery: DeliveryPerformer;
  readonly apply: ApplyPerformer;
}

type Of<K extends Action["kind"]> = Extract<Action, { kind: K }>;

const actorOf = (secret: Secret): Actor => objectActor(resourceType(secretKind), secret);

export class SecretPerformer {
  readonly #deps: PerformDependencies;

  constructor(deps: PerformDependencies) {
    this.#deps = deps;
  }

  perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    switch (action.kind) {
      case "StoreVersion":
        return this.#storeVersion(action, signal);
      case "Rotate":
        return this.#rotate(action);
      case "ChangeRotation":
        return this.#changeRotation(action);
      case "Propose":
      case "Apply":
      case "Confirm":
      case "End":
      case "Abandon":
        return this.#deps.apply.perform(action, signal);
    }
    return this.#deps.delivery.perform(action, this.#contextOf(action), signal);
  }

  async #storeVersion(
    { secret, seen, lifecycle, rotation }: Of<"StoreVersion">,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { vault, writer, cluster, observer } = this.#deps;
    const sources = await observer.readSources(secret, signal);
    const namespaceUid = cluster.namespace(secret.metadata.namespace ?? "")?.metadata.uid ?? "";
    failpoint("secret.beforeStore");
    const { record } = await vault.store(writer(), {
      identity: identityOf(secret, namespaceUid),
      seen,
      entries: secret.spec.entries,
      sources,
      keeps: keptValues(secret.spec, seen),
      lifecycle,
      rotation,
      actor: actorOf(secret),
    });
    failpoint("secret.afterStore");
    for (const value of sources.values()) value.dispose();
    return { kind: "Record", record };
  }

  async #rotate({ secret, record: seen, keys, cause }: Of<"Rotate">): Promise<Outcome> {
    const { vault, writer } = this.#deps;
    failpoint("secret.beforeRotate");
    const { record } = await vault.rotate(writer(), seen, {
      entries: secret.spec.entries,
      keys,
      cause,
      overlapMs: overlapMs(secret),
      actor: actorOf(secret),
    });
    failpoint("secret.afterRotate");
    return { kind: "Record", record };
  }

  async #changeRotation({ secret, record: seen, rotation }: Of<"ChangeRotation">): Promise<Outcome> {
    const { vault, writer } = this.#deps;
    const record = await vault.changeRotation(writer(), seen, rotation, actorOf(secret));
    return { kind: "Record", record };
  }

  #contextOf(action: Of<DeliveryAction["kind"]>): DeliveryContext {
    const { vault, store, writer, cluster } = this.#deps;
    const { secret, record } = action;
    const { namespace = "" } = secret.metadata;
    return {
      object: secret,
      namespace,
      digests: () => {
        const namespaceUid = cluster.namespace(namespace)?.metadata.uid ?? "";
        return vault.digester(writer(), identityOf(secret, namespaceUid));
      },
      record: (delivery) =>
        store.recordDelivery(writer(), record.id, delivery, [deliveryAudit(secret, record, delivery)]),
      open: async (keys) => {
        const desired = action.kind === "Deliver" ? action.desired : undefined;
        const opened = await vault.open(record, {
          keys,
          actor: actorOf(secret),
          purpose: `deliver to core Secret ${namespace}/${desired?.secretName}`,
        });
        try {
          if (desired !== undefined) assertFitsType(desired, opened.values);
        } catch (error) {
          for (const value of opened.values.values()) value.dispose();
          throw error;
        }
        return opened;
      },
    };
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
