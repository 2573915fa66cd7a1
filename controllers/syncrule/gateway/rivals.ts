/** Which other rules would write the same core Secret in clusters of gateways: found before anything is sent. */
import type { SyncRule } from "../../../crds/syncrule.ts";
import { type Cluster, tenancyOf } from "../../cluster.ts";
import { secretNameFor } from "../kubernetes/place.ts";
import { called, coveredNames, isOlder, type Rivalry } from "../kubernetes/rivals.ts";
import { gatewayEnvironmentOf, gatewayTargetOf } from "./place.ts";

export interface Rivals {
  /** An older rule through the same gateway. */
  readonly rivalry?: Rivalry;
  /** UIDs of rules through the gateway that acts in turn with this one: when it acts for it, they meet in one cluster. */
  readonly beyond: readonly string[];
}

export function rivalsBeyond(cluster: Cluster, rule: SyncRule): (coreName: string) => Rivals {
  const { ref, kubernetes } = gatewayTargetOf(rule);
  const gateways = new Set([ref.name, ...cluster.gatewaysPairedWith(ref.name)]);
  const others = cluster
    .syncRulesBeyond(kubernetes.namespace)
    .filter(
      (other) =>
        other.metadata.uid !== rule.metadata.uid &&
        gateways.has(gatewayTargetOf(other).ref.name) &&
        mayPass(cluster, other),
    )
    .map((other) => ({ other, names: coveredNames(cluster, other) }));
  return (coreName) => {
    const writing = others
      .filter(({ other, names }) => names.has(secretNameFor(other, coreName) ?? ""))
      .map(({ other }) => other);
    const rival = writing.find((other) => gatewayTargetOf(other).ref.name === ref.name && isOlder(other, rule));
    const beyond = writing
      .filter((other) => gatewayTargetOf(other).ref.name !== ref.name)
      .map(({ metadata }) => metadata.uid);
    if (rival === undefined) return { beyond };
    const message = `${called(rival, rule)} writes core Secret ${coreName} of namespace ${kubernetes.namespace} through Gateway ${ref.name} already; choose another spec.target.gateway.kubernetes.secretName, or leave the Secret out of one of them`;
    return { beyond, rivalry: { reason: "RulesOverlap", message } };
  };
}

/** A rule that is refused itself holds up nobody. */
function mayPass(cluster: Cluster, rule: SyncRule): boolean {
  try {
    return gatewayEnvironmentOf(tenancyOf(cluster, rule).project, rule) !== undefined;
  } catch {
    return false;
  }
}
