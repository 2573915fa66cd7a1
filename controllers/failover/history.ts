/** Which Failovers have been kept for long enough. Pure. */
import type { Failover } from "../../crds/failover.ts";

/** As many that have ended stay to be looked at; all of them are on the audit record. */
export const KEPT_ENDED = 10;

/**
 * Those that have ended and are older than the last ten that have, of each GatewayEnvironment for itself. One that an older one could
 * still be waiting behind stays: without it that one would be done after all.
 */
export function outlived(failovers: Iterable<Failover>): readonly Failover[] {
  return [...Map.groupBy(failovers, ({ spec }) => spec.environmentRef.name).values()].flatMap((of) => {
    const oldestFirst = of.toSorted((one, other) => (age(one) < age(other) ? -1 : 1));
    const open = oldestFirst.findIndex(({ status }) => status?.outcome === undefined);
    const ended = oldestFirst.filter(({ status }) => status?.outcome !== undefined);
    return oldestFirst.slice(0, open === -1 ? undefined : open).slice(0, Math.max(0, ended.length - KEPT_ENDED));
  });
}

const age = ({ metadata: { creationTimestamp = "", uid } }: Failover): string => `${creationTimestamp} ${uid}`;
