/** Looks at the core Secret that an object delivers. */
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { Cluster } from "../cluster.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type CoreSecret, liveCoreSecret, readCoreSecret } from "./core-secret.ts";
import { type DesiredDelivery, type Digests, type LiveCoreSecret, rivalOf } from "./desired.ts";
import type { ObservedCoreSecret } from "./plan.ts";

export interface DeliveryObserverDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Pick<Cluster, "coreSecret" | "secret" | "certificate">;
  readonly installation: string;
}

export class DeliveryObserver {
  readonly #deps: DeliveryObserverDependencies;

  constructor(deps: DeliveryObserverDependencies) {
    this.#deps = deps;
  }

  /** Reads it only where its resourceVersion is not the one on record. */
  async observe(
    desired: DesiredDelivery,
    digests: Digests,
    record: DeliveryRecord | undefined,
    signal: AbortSignal,
  ): Promise<ObservedCoreSecret> {
    const { namespace } = desired;
    const delivery = record?.secretName === desired.secretName ? record : undefined;
    const untouched = ({ metadata: { uid, resourceVersion } }: Pick<CoreSecret, "metadata">): boolean =>
      uid === delivery?.uid && resourceVersion === delivery.resourceVersion;
    const cached = this.#deps.cluster.coreSecret(namespace, desired.secretName);
    if (cached === undefined && delivery === undefined) return { kind: "Absent" };
    if (cached !== undefined && untouched(cached)) return { kind: "Untouched" };
    const live = await readCoreSecret(this.#deps.api, namespace, desired.secretName, signal);
    if (live === undefined) return { kind: "Absent" };
    return untouched(live) ? { kind: "Untouched" } : { kind: "Live", live: this.#look(desired, live, digests) };
  }

  /** What stands there after all, when something came between. */
  async lookAgain(desired: DesiredDelivery, digests: Digests, signal: AbortSignal): Promise<LiveCoreSecret> {
    const live = await readCoreSecret(this.#deps.api, desired.namespace, desired.secretName, signal);
    // It vanished again: whatever the cache says, the next pass sees.
    if (live === undefined) throw new Error(`core Secret ${desired.secretName} appeared and vanished`);
    return this.#look(desired, live, digests);
  }

  #look(desired: DesiredDelivery, live: CoreSecret, digests: Digests): LiveCoreSecret {
    const { cluster, installation } = this.#deps;
    const rival = rivalOf(live, desired, installation, cluster);
    return { ...liveCoreSecret(live, digests, desired.keys), ...(rival !== undefined && { rival }) };
  }
}
