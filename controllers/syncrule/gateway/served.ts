/** Whether a gateway may write into a namespace of its own cluster for its primary. */
import { admittedEnvironments } from "../../../core/access/admission.ts";
import { Stalled, Waiting } from "../../../core/errors.ts";
import type { DeliveryFrame } from "../../../core/fleet/delivery-tasks.ts";
import { type Cluster, namespaceFacts } from "../../cluster.ts";

const RECHECK_MS = 60_000;

/**
 * @param own the gateway's environment, by its own settings
 * @throws Stalled GatewayEnvironmentDiffers, NamespaceNotServed, NamespaceNotAdmitted
 * @throws Waiting TargetNamespaceNotFound, NamespaceNotOnboarded
 */
export function assertServed(
  cluster: Pick<Cluster, "project" | "namespace" | "coreSecret">,
  own: string,
  frame: Pick<DeliveryFrame, "environment" | "project" | "projectEnvironment" | "namespace">,
): void {
  const { environment, project: name, projectEnvironment, namespace } = frame;
  if (environment !== own) {
    const message = `the gateway works for ${own} and was asked to do what is for gateways of ${environment}; it did nothing of it`;
    throw new Stalled("GatewayEnvironmentDiffers", message);
  }
  const project = cluster.project(name);
  if (project === undefined) {
    throw new Stalled(
      "NamespaceNotServed",
      `the gateway's cluster has no Project ${name}, so nothing is written to namespace ${namespace} there; ` +
        `apply a Project ${name} to that cluster which has ${projectEnvironment} in spec.environments and admits namespace ${namespace} for it in spec.namespaces`,
    );
  }
  const there = project.spec.environments.find((each) => each.name === projectEnvironment)?.gatewayEnvironment;
  if (there !== undefined && there !== own) {
    const message = `Project ${name} of the gateway's cluster has its environment ${projectEnvironment} for gateways of ${there}, and the gateway works for ${own}; correct gatewayEnvironment there`;
    throw new Stalled("GatewayEnvironmentDiffers", message);
  }
  const found = cluster.namespace(namespace);
  const facts = found === undefined ? { name: namespace, uid: "", labels: {} } : namespaceFacts(found);
  if (!admittedEnvironments(project.spec, facts).has(projectEnvironment)) {
    throw new Stalled(
      "NamespaceNotAdmitted",
      `Project ${name} of the gateway's cluster does not admit namespace ${namespace} for environment ${projectEnvironment}; ` +
        "add it to spec.namespaces of that Project there",
    );
  }
  if (found === undefined || found.metadata.deletionTimestamp !== undefined) {
    const what = found === undefined ? "does not exist yet; create it" : "is being deleted; create it anew";
    throw new Waiting("TargetNamespaceNotFound", `namespace ${namespace} of the gateway's cluster ${what}`, RECHECK_MS);
  }
  // Throws while the gateway has no access there.
  cluster.coreSecret(namespace, "");
}
