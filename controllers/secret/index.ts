/** The controller of `Secret`: stores a version when a source changed, delivers it, and notices when it is gone. */
import { failpoint } from "../../core/failpoints.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { SecretIdentity, VaultStore } from "../../core/ports/vault-store.ts";
import { type Secret, secretKind } from "../../crds/secret.ts";
import type { Metadata } from "../cluster.ts";
import { DeliveryObserver } from "../delivery/observe.ts";
import { DeliveryPerformer, type DeliveryPerformerDependencies } from "../delivery/perform.ts";
import { isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { type ResourceType, resourceType, splitKey } from "../runtime/resource-type.ts";
import { ApplyPerformer, type ApplyTargets } from "./apply/perform.ts";
import { type Action, decide, type Observed, type Outcome } from "./decide.ts";
import { SecretObserver } from "./observe.ts";
import { type PerformDependencies, SecretPerformer } from "./perform.ts";

export interface SecretControllerDependencies
  extends Omit<PerformDependencies, "observer" | "store" | "delivery" | "apply">,
    Pick<DeliveryPerformerDependencies, "events" | "absorb"> {
  readonly store: Pick<VaultStore, "recordDelivery" | "locate">;
  readonly targets: ApplyTargets;
  /** A restored database was taken over and is not settled: what another object of a name has left is kept. */
  readonly isRecovering?: () => boolean;
}

const NAMESPACES: ResourceType = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
};

const ACTOR: Actor = { kind: "Controller", name: "secret" };

export class SecretController implements Controller<Secret, Observed, Action, Outcome> {
  readonly name = "secret";
  readonly fieldManager = "mazevault-secret";
  readonly resource = resourceType(secretKind);
  readonly #deps: SecretControllerDependencies;
  readonly #observer: SecretObserver;
  readonly #performer: SecretPerformer;

  constructor(deps: SecretControllerDependencies) {
    this.#deps = deps;
    const delivery = new DeliveryObserver(deps);
    this.#observer = new SecretObserver(deps, delivery);
    this.#performer = new SecretPerformer({
      ...deps,
      observer: this.#observer,
      delivery: new DeliveryPerformer({ ...deps, observer: delivery }),
      apply: new ApplyPerformer(deps),
    });
  }

  observe(secret: Secret, signal: AbortSignal): Promise<Observed> {
    return this.#observer.observe(secret, signal);
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    if (action.kind === "StoreVersion" && action.seen?.state !== "Active") await this.#endFormer(action.secret, signal);
    return this.#performer.perform(action, signal);
  }

  learn(seen: Observed, _action: Action, outcome: Outcome): Observed {
    switch (outcome.kind) {
      case "Record":
        return {
          ...seen,
          record: { ...outcome.record, ...(seen.record?.delivery && { delivery: seen.record.delivery }) },
        };
      case "Underway":
        return { ...seen, underway: outcome };
      case "Found":
        return { ...seen, core: { kind: "Live", live: outcome.live } };
      case "Delivery": {
        if (seen.record === undefined) return seen;
        const { delivery: _before, ...record } = seen.record;
        return {
          ...seen,
          record: outcome.delivery === undefined ? record : { ...record, delivery: outcome.delivery },
          // After a release the name that is wanted now was observed already; a delivery makes it ours.
          core: outcome.delivery === undefined ? seen.core : { kind: "Untouched" },
          restartProblems: outcome.problems ?? seen.restartProblems,
        };
      }
    }
  }

  conditionFor(action: Action | undefined): OwnedConditionType {
    switch (action?.kind) {
      case undefined:
      case "StoreVersion":
        return "Stored";
      case "Rotate":
      case "ChangeRotation":
      case "Propose":
      case "Apply":
      case "Confirm":
      case "End":
      case "Abandon":
        return "Rotated";
      default:
        return "Delivered";
    }
  }

  /**
   * An object of this name in another project, environment or namespace of the same name was deleted, and this one applied
   * before anybody saw the name unused. Comes before the first version, so that a crash in between is made up for.
   */
  async #endFormer({ metadata: { namespace = "", name } }: Secret, signal: AbortSignal): Promise<void> {
    if (this.#deps.isRecovering?.()) return;
    const locations = await this.#deps.store.locate(namespace, name);
    if (locations.some(({ state }) => state === "Active")) await this.absent(`${namespace}/${name}`, signal);
  }

  /** The object is gone, or belongs to another secret now: what is stored goes the way its deletion policy says. */
  async absent(key: string, signal: AbortSignal): Promise<void> {
    const { api, cluster, store, vault, writer } = this.#deps;
    const { namespace = "", name } = splitKey(key);
    // Deletion is not decided by a cache: the API server itself must say that there is no such object.
    const present = await api.get<Secret>(this.resource, { namespace, name }, { signal }).catch((error: unknown) => {
      if (isNotFound(error, name)) return undefined;
      throw error;
    });
    const namespaceUid = cluster.namespace(namespace)?.metadata.uid;
    const evidence = { tombstone: present === undefined && (await this.#stands(namespace, namespaceUid, signal)) };
    const of = (identity: SecretIdentity) => (identity.namespaceUid === namespaceUid ? evidence : {});
    for (const location of await store.locate(namespace, name)) {
      const { identity } = location;
      const inUse =
        present !== undefined &&
        identity.namespaceUid === namespaceUid &&
        identity.project === present.spec.projectRef.name &&
        identity.environment === present.spec.environment;
      if (inUse || location.state !== "Active") continue;
      const record = await vault.describe(identity);
      // The sweep over vanished secrets may have come first.
      if (record?.state !== "Active") continue;
      failpoint("secret.beforeRemoval");
      if (record.lifecycle.deletionPolicy === "Retain") await vault.retain(writer(), record, ACTOR);
      else if (record.lifecycle.deletionPolicy === "Purge") await vault.purge(writer(), record, ACTOR, of(identity));
      else await vault.softDelete(writer(), record, ACTOR, of(identity));
    }
  }

  /**
   * Whether the namespace is there to stay. What goes along with its namespace, or is found in one that was made anew, nobody
   * has deleted by itself; a cache may lag behind that.
   */
  async #stands(namespace: string, uid: string | undefined, signal: AbortSignal): Promise<boolean> {
    if (uid === undefined) return false;
    const { metadata } = await this.#deps.api
      .get<Metadata>(NAMESPACES, { name: namespace }, { signal })
      .catch((error: unknown) => {
        if (isNotFound(error, namespace)) return { metadata: undefined };
        throw error;
      });
    if (metadata === undefined || metadata.deletionTimestamp !== undefined) return false;
    return this.#deps.cluster.held.of("Namespace", metadata) === uid;
  }
}
