/** Which Secrets gateways of an environment may write: those of projects that give theirs to it. */
import { type Cluster, type TenancyCluster, tenancyOf } from "../../controllers/cluster.ts";
import { identityOf, lifecycleOf } from "../../controllers/secret/observe.ts";
import { Unavailable } from "../../core/errors.ts";
import type { WritableSecrets } from "../../core/fleet/gateway-writes.ts";

/** `unready`: why the caches cannot tell yet what there is. */
export const writableSecrets = (
  cluster: TenancyCluster & Pick<Cluster, "secret">,
  unready: () => string | undefined,
): WritableSecrets => ({
  find({ namespace, name }, gatewayEnvironment) {
    const problem = unready();
    if (problem !== undefined) throw new Unavailable("FleetNotReady", problem);
    const secret = cluster.secret(namespace, name);
    const project = secret && cluster.project(secret.spec.projectRef.name);
    const environment = project?.spec.environments.find((each) => each.name === secret?.spec.environment);
    if (secret === undefined || environment?.gatewayEnvironment !== gatewayEnvironment) return undefined;
    const { entries, readers, rotation } = secret.spec;
    return {
      identity: identityOf(secret, tenancyOf(cluster, secret).namespace.uid),
      entries,
      readers,
      lifecycle: lifecycleOf(secret),
      appliedUsername: rotation?.apply?.postgres?.username,
    };
  },
});
