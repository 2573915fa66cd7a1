/** Where a rule's core Secrets stand: which namespaces it may reach, and what each core Secret is called there. */
import { admittedEnvironments } from "../../../core/access/admission.ts";
import { Stalled, Waiting } from "../../../core/errors.ts";
import type { CoreSecretSettings, KubernetesTarget, SyncRule } from "../../../crds/syncrule.ts";
import { assertAdopted, type Cluster, namespaceFacts, type Tenancy } from "../../cluster.ts";

export interface TargetNamespace {
  readonly name: string;
  readonly uid: string;
}

export const kubernetesOf = ({ spec }: SyncRule): KubernetesTarget => {
  const { kubernetes } = spec.target;
  if (kubernetes === undefined) throw new TypeError("the rule has no target.kubernetes");
  return kubernetes;
};

/** How the core Secrets of a rule are made, wherever they stand, and where its manifest says so. */
export function coreSecretsOf({ spec: { target } }: SyncRule): {
  readonly settings: CoreSecretSettings;
  readonly field: "spec.target.kubernetes" | "spec.target.gateway.kubernetes";
} {
  if (target.gateway !== undefined) {
    const { namespace, ...settings } = target.gateway.kubernetes;
    return { settings, field: "spec.target.gateway.kubernetes" };
  }
  if (target.kubernetes === undefined) throw new TypeError("the rule makes no core Secrets");
  const { namespaces, ...settings } = target.kubernetes;
  return { settings, field: "spec.target.kubernetes" };
}

const RECHECK_MS = 60_000;

/**
 * A namespace that the rule names, after every check that it may be reached: nothing is written to or read from one that
 * did not pass. A namespace that the Project does not admit is refused alike whether it exists or not.
 *
 * @throws Stalled TargetIsOwnNamespace, NamespaceNotAdmitted
 * @throws Waiting TargetNamespaceNotFound, NotAdopted, NamespaceNotOnboarded
 */
export function targetNamespace(cluster: Cluster, rule: SyncRule, { project }: Tenancy, name: string): TargetNamespace {
  const { environment } = rule.spec;
  const field = `spec.target.kubernetes.namespaces: ${name}`;
  if (name === rule.metadata.namespace) {
    throw new Stalled(
      "TargetIsOwnNamespace",
      `${field} is the rule's own namespace; there, use ${rule.spec.direction === "Pull" ? "secretRef of an entry" : "spec.deliver of the Secret"}`,
    );
  }
  const namespace = cluster.namespace(name);
  const facts = namespace === undefined ? { name, uid: "", labels: {} } : namespaceFacts(namespace);
  if (!admittedEnvironments(project.spec, facts).has(environment)) {
    throw new Stalled(
      "NamespaceNotAdmitted",
      `${field} is not admitted by Project ${project.metadata.name} for environment ${environment}; ` +
        "add it to the Project's spec.namespaces, or leave it out here",
    );
  }
  if (namespace === undefined || namespace.metadata.deletionTimestamp !== undefined) {
    const what = namespace === undefined ? "does not exist yet; create it" : "is being deleted; create it anew";
    throw new Waiting("TargetNamespaceNotFound", `${field} ${what}, or leave it out here`, RECHECK_MS);
  }
  assertAdopted(namespace);
  // Throws while the operator has no access there.
  cluster.coreSecret(name, "");
  return { name, uid: facts.uid };
}

const patternOf = (rule: SyncRule): string =>
  (coreSecretsOf(rule).settings.secretName ?? "{secret}").replace("{namespace}", rule.metadata.namespace ?? "");

export const coreSecretName = (rule: SyncRule, secretName: string): string =>
  patternOf(rule).replace("{secret}", () => secretName);

/** The Secret whose core Secret would have this name, if there is such a Secret. */
export function secretNameFor(rule: SyncRule, coreName: string): string | undefined {
  const [before = "", after = ""] = patternOf(rule).split("{secret}");
  if (coreName.length <= before.length + after.length) return undefined;
  if (!coreName.startsWith(before) || !coreName.endsWith(after)) return undefined;
  return coreName.slice(before.length, coreName.length - after.length);
}

const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const LONGEST_NAME = 253;

export const isCoreSecretName = (name: string): boolean => name.length <= LONGEST_NAME && NAME.test(name);
