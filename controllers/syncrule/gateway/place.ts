/** Which gateway a rule's core Secrets go through, after every check that they may. */
import { Stalled, Waiting } from "../../../core/errors.ts";
import { isRegistered } from "../../../core/fleet/health.ts";
import type { FleetStore } from "../../../core/ports/fleet-store.ts";
import type { Project } from "../../../crds/project.ts";
import type { GatewayTarget, SyncRule } from "../../../crds/syncrule.ts";
import type { Cluster } from "../../cluster.ts";

const RECHECK_MS = 60_000;

export const gatewayTargetOf = ({ spec }: SyncRule): GatewayTarget => {
  const { gateway } = spec.target;
  if (gateway === undefined) throw new TypeError("the rule has no target.gateway");
  return gateway;
};

export interface Passage {
  /** Name of the gateway. */
  readonly gateway: string;
  /** Of gateways. */
  readonly environment: string;
}

/**
 * Asked before each value leaves: what the Project says, what the Gateway says, and what the gateway registered as. Nothing goes
 * to one of another environment.
 *
 * @throws Waiting GatewayNotFound, AwaitingRegistration
 * @throws Stalled GatewayEnvironmentDiffers
 */
export async function passageOf(
  cluster: Pick<Cluster, "gateway">,
  fleet: Pick<FleetStore, "gateway">,
  rule: SyncRule,
  project: Project,
): Promise<Passage> {
  const { name } = gatewayTargetOf(rule).ref;
  const gateway = cluster.gateway(name);
  if (gateway === undefined) {
    throw new Waiting(
      "GatewayNotFound",
      `spec.target.gateway.ref: there is no Gateway ${name} yet; apply it`,
      RECHECK_MS,
    );
  }
  const environment = gatewayEnvironmentOf(project, rule);
  const record = await fleet.gateway(name);
  // The record is the one that counts; what the object says otherwise is somebody's mistake, or somebody's attempt.
  const told = [record?.environment, gateway.spec.environment, gateway.status?.environment];
  const other = told.find((each) => each !== undefined && each !== environment);
  const of = `environment ${rule.spec.environment} of Project ${project.metadata.name}`;
  if (environment === undefined || other !== undefined) {
    const known = other ?? record?.environment ?? gateway.spec.environment;
    const works = known === undefined ? `Gateway ${name}` : `Gateway ${name}, which works for ${known}`;
    const may =
      environment === undefined
        ? "may go through no gateway; if they may, set spec.environments[].gatewayEnvironment of the Project to the environment of the gateway"
        : `may go through gateways of ${environment} only; refer to one of those`;
    throw new Stalled("GatewayEnvironmentDiffers", `spec.target.gateway.ref: ${works}: secrets of ${of} ${may}`);
  }
  if (record?.environment === undefined || !isRegistered(record)) {
    const message = `spec.target.gateway.ref: Gateway ${name} has not registered yet; its status says where its token is`;
    throw new Waiting("AwaitingRegistration", message, RECHECK_MS);
  }
  return { gateway: name, environment };
}

/** Of gateways that secrets of the rule may go through; undefined: none. */
export const gatewayEnvironmentOf = ({ spec }: Project, rule: SyncRule): string | undefined =>
  spec.environments.find(({ name }) => name === rule.spec.environment)?.gatewayEnvironment;
