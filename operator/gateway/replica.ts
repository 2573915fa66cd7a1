/** Mode gateway: what it holds of its primary's secrets and certificates, composed. */
import type { Stores } from "../../adapters/postgres/stores.ts";
import { durationMs } from "../../core/duration.ts";
import type { Membership } from "../../core/fleet/membership.ts";
import { Replica } from "../../core/fleet/replica.ts";
import { ReplicaDirectory } from "../../core/fleet/replica-directory.ts";
import { ReplicaPull } from "../../core/fleet/replica-pull.ts";
import type { PrimaryLink } from "../../core/ports/primary-link.ts";
import type { Logger } from "../../program/logging.ts";
import type { Config } from "../config.ts";

export interface ReplicaOfParts {
  readonly config: Config;
  readonly stores: Pick<Stores, "replica" | "keys" | "audit">;
  readonly membership: Pick<Membership, "status">;
  readonly link: PrimaryLink;
  readonly log: Logger;
}

export function openReplica({ config, stores, membership: of, link, log }: ReplicaOfParts): {
  /** For whoever serves it; on every replica of the gateway. */
  readonly replica: Replica;
  /** The leader's. */
  readonly pull: ReplicaPull;
} {
  const { environment = "", offlineLimit } = config.gateway;
  const { replica: store, keys, audit } = stores;
  const directory = new ReplicaDirectory(store, keys);
  const membership = () => of.status;
  const offlineLimitMs = durationMs(offlineLimit);
  const shared = { directory, store, keys, membership, offlineLimitMs };
  return {
    replica: new Replica({ ...shared, audit, environment }),
    pull: new ReplicaPull({
      ...shared,
      link,
      now: () => new Date(),
      log: { info: (message) => log.info(message), warn: (fields, message) => log.warn(fields, message) },
    }),
  };
}
