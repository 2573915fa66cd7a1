/** The primary's side of replicas, composed: of every process that serves the channel. */
import type { HintListener } from "../../adapters/postgres/hint-listener.ts";
import type { Stores } from "../../adapters/postgres/stores.ts";
import type { ChangeType } from "../../controllers/runtime/cache.ts";
import { ReplicaCertificates } from "../../core/fleet/replica-certificates.ts";
import { ReplicaFeed } from "../../core/fleet/replica-feed.ts";
import { ReplicaValues } from "../../core/fleet/replica-values.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import type { Logger } from "../../program/logging.ts";
import type { Caches } from "../caches.ts";
import { endWithin } from "../shutdown.ts";
import type { FleetServices } from "./services.ts";

export interface ReplicaSourceParts {
  readonly stores: Pick<Stores, "secretHeads" | "listenSecrets" | "pki">;
  readonly view: Caches;
  readonly vault: Vault;
  readonly authorities: Pick<Authorities, "judgeStatus" | "openKey">;
  readonly unready: () => string | undefined;
  readonly isRecovering: () => boolean;
  readonly log: Pick<Logger, "debug" | "warn">;
}

export interface ReplicaSource {
  readonly services: Pick<FleetServices, "replica" | "replicaValues">;
  stop(): Promise<void>;
}

const STOP_WITHIN_MS = 2_000;

/** Told when an object may count as another one: not of its status and annotations, which are written all the time. */
export function whenAnother(
  changed: () => void,
): (type: ChangeType, object: { readonly metadata: ObjectMeta }) => void {
  const known = new Map<string, string>();
  return (type, { metadata: { name, uid, generation, deletionTimestamp, labels = {} } }) => {
    const now = JSON.stringify([uid, generation, deletionTimestamp, Object.entries(labels).sort()]);
    const isAnother = type === "deleted" || known.get(name) !== now;
    if (type === "deleted") known.delete(name);
    else known.set(name, now);
    if (isAnother) changed();
  };
}

export function openReplicaSource({
  stores,
  view,
  vault,
  authorities,
  unready,
  isRecovering,
  log,
}: ReplicaSourceParts): ReplicaSource {
  const feed = new ReplicaFeed({
    view,
    heads: stores.secretHeads,
    unready,
    isRecovering,
    onProblem: (error) => log.warn({ error }, "what gateways may have cannot be read"),
  });
  const hints: HintListener = stores.listenSecrets({
    onHint: (isAnew) => (isAnew ? feed.forget() : feed.hint()),
    onError: (error) => log.debug({ error }, "hints of secrets interrupted"),
  });
  const stopFollowing = [
    view.secretCache.onChange((_type, secret) => feed.secretChanged(secret)),
    view.certificateCache.onChange((_type, certificate) => feed.certificateChanged(certificate)),
    view.projectCache.onChange(whenAnother(() => feed.tenantsChanged())),
    view.namespaceCache.onChange(whenAnother(() => feed.tenantsChanged())),
    view.accessPolicyCache.onChange(() => feed.grantsChanged()),
  ];
  feed.start();
  return {
    services: {
      replica: feed,
      replicaValues: new ReplicaValues({
        view,
        feed,
        vault,
        certificates: new ReplicaCertificates({
          view,
          feed,
          pki: stores.pki,
          authorities,
          onProblem: ({ namespace, name }, error) =>
            log.warn({ certificate: `${namespace}/${name}`, error }, "a certificate for gateways cannot be opened"),
        }),
        onProblem: ({ namespace, name }, error) =>
          log.warn({ secret: `${namespace}/${name}`, error }, "a value for gateways cannot be opened"),
      }),
    },
    async stop() {
      for (const stop of stopFollowing) stop();
      await endWithin(STOP_WITHIN_MS, [hints.stop(), feed.stop()]);
    },
  };
}
