/** Who else would write the same core Secret: found before anything is written, so that no two write in turn. */
import { admittedEnvironments } from "../../../core/access/admission.ts";
import type { Reason } from "../../../crds/conditions.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { type Cluster, namespaceFacts, tenancyOf } from "../../cluster.ts";
import { secretsOf } from "../coverage.ts";
import { coreSecretsOf, kubernetesOf, secretNameFor } from "./place.ts";

export interface Rivalry {
  readonly reason: Extract<Reason, "TargetNameCollision" | "RulesOverlap">;
  readonly message: string;
}

/**
 * What stands against writing a core Secret of this name in a namespace. What the namespace delivers itself comes first,
 * and of several rules the oldest.
 */
export function rivalsIn(
  cluster: Cluster,
  rule: SyncRule,
  namespace: string,
): (coreName: string) => Rivalry | undefined {
  const writerOf = writersIn(cluster, namespace, (other) => isOlder(other, rule));
  const { field } = coreSecretsOf(rule);
  return (coreName) => {
    const writer = writerOf(coreName);
    if (writer === undefined) return undefined;
    if (typeof writer === "string") {
      const message = `core Secret ${coreName} of namespace ${namespace} is delivered by ${writer} there; choose another ${field}.secretName`;
      return { reason: "TargetNameCollision", message };
    }
    const message = `${called(writer, rule)} writes core Secret ${coreName} of namespace ${namespace} already; choose another ${field}.secretName, or leave the Secret out of one of them`;
    return { reason: "RulesOverlap", message };
  };
}

/** What writes a core Secret of this name in a namespace of this cluster: an object there, such as `Secret orders-db`, or a rule. */
export function writersIn(
  cluster: Cluster,
  namespace: string,
  counts: (rule: SyncRule) => boolean,
): (coreName: string) => string | SyncRule | undefined {
  const others = cluster
    .syncRulesInto(namespace)
    .filter((other) => counts(other) && isWriting(other) && mayReach(cluster, other, namespace))
    .map((other) => ({ other, names: coveredNames(cluster, other) }));
  return (coreName) =>
    cluster.deliversTo(namespace, coreName) ??
    others.find(({ other, names }) => names.has(secretNameFor(other, coreName) ?? ""))?.other;
}

/** Names of the Secrets that a rule covers. */
export const coveredNames = (cluster: Cluster, rule: SyncRule): ReadonlySet<string> =>
  new Set(secretsOf(cluster, rule).map(({ metadata }) => metadata.name));

const isWriting = ({ spec }: SyncRule): boolean => spec.direction !== "Pull" && spec.target.kubernetes !== undefined;

/** A rule that is refused itself holds up nobody. */
function mayReach(cluster: Cluster, rule: SyncRule, namespace: string): boolean {
  const target = cluster.namespace(namespace);
  if (target === undefined || !kubernetesOf(rule).namespaces.includes(namespace)) return false;
  if (rule.metadata.namespace === namespace) return false;
  try {
    const { project } = tenancyOf(cluster, rule);
    return admittedEnvironments(project.spec, namespaceFacts(target)).has(rule.spec.environment);
  } catch {
    return false;
  }
}

/** A rule of another namespace may be another tenant's: its name is not told. */
export const called = ({ metadata: other }: SyncRule, { metadata: own }: SyncRule): string =>
  other.namespace === own.namespace ? `SyncRule ${other.name}` : `a SyncRule of another namespace (uid ${other.uid})`;

export function isOlder({ metadata: a }: SyncRule, { metadata: b }: SyncRule): boolean {
  const [first, second] = [a, b].map(
    ({ creationTimestamp = "", namespace, name }) => `${creationTimestamp} ${namespace}/${name}`,
  );
  return a.uid !== b.uid && (first ?? "") < (second ?? "");
}
