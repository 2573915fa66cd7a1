/** The end of a recovery: what the cluster does not have by then was deleted, and goes the way that it would have gone. */
import { Unavailable } from "../errors.ts";
import type { Actor } from "../ports/audit-log.ts";
import type { ClusterObjects } from "../ports/cluster-objects.ts";
import type { HomeRecord, HomeStore } from "../ports/home-store.ts";
import type { Leadership } from "../ports/leadership.ts";
import { type HomeKeys, homeEntry, homeMac, judgedHome } from "./home.ts";
import type { MissingObject } from "./missing.ts";

export interface SettlementParts {
  readonly store: HomeStore;
  readonly keys: HomeKeys;
  readonly cluster: Pick<ClusterObjects, "clusterUid">;
  readonly leadership: Leadership;
}

/** Who leads begins anew, and looks for what is gone. False when there was nothing to settle. @throws Unavailable, Fenced, Conflict */
export async function settleRecovery(
  { store, keys, cluster, leadership }: SettlementParts,
  missing: readonly MissingObject[],
  actor: Actor,
): Promise<boolean> {
  const stored = await store.home();
  const home = stored && judgedHome(keys, stored);
  if (stored === undefined || home?.state === "Settled") return false;
  if (home?.state !== "Adopted" || home.clusterUid !== (await cluster.clusterUid()))
    throw new Unavailable(
      "Failed",
      "the database is not taken over for this cluster yet: mazevault-backup adopt comes first",
    );
  const writer = { epoch: await leadership.acquireEpoch("recovery") };
  const record: HomeRecord = { ...home, state: "Settled" };
  const generation = stored.generation + 1n;
  const entry = homeEntry("RecoverySettled", generation, actor, { missing: missing.length });
  await store.writeHome(writer, stored.generation, record, homeMac(keys, record, generation), [entry]);
  return true;
}
