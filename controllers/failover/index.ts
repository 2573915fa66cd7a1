/** The controller of `Failover`: hands an environment over, once. */
import { type Environments, environmentEntry } from "../../core/fleet/environments.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { FleetStore } from "../../core/ports/fleet-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Failover, failoverKind } from "../../crds/failover.ts";
import type { GatewayEnvironment } from "../../crds/gatewayenvironment.ts";
import { objectActor } from "../actor.ts";
import type { Controller } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { type Action, decide, type Observed } from "./decide.ts";

export interface FailoverControllerDependencies {
  readonly cluster: {
    gatewayEnvironment(name: string): GatewayEnvironment | undefined;
    /** Of the GatewayEnvironment of this name. */
    failoversOf(environment: string): readonly Failover[];
  };
  readonly environments: Pick<Environments, "find" | "switch">;
  readonly store: Pick<FleetStore, "gateway">;
  readonly audit: Pick<AuditLog, "append">;
  readonly writer: () => Writer;
  /** The environment of this GatewayEnvironment was handed over: what is left is its controller's to do, at once. */
  readonly onSwitched: (environment: string) => void;
}

type Outcome = Partial<Pick<Observed, "state" | "refusal">>;

export class FailoverController implements Controller<Failover, Observed, Action, Outcome> {
  readonly name = "failover";
  readonly fieldManager = "mazevault-failover";
  readonly resource = resourceType(failoverKind);
  readonly #deps: FailoverControllerDependencies;

  constructor(deps: FailoverControllerDependencies) {
    this.#deps = deps;
  }

  async observe(failover: Failover): Promise<Observed> {
    const { cluster, environments, store } = this.#deps;
    const { name } = failover.spec.environmentRef;
    const nothing = {
      remembered: 0n,
      newer: undefined,
      refusal: undefined,
      records: { Primary: undefined, Standby: undefined },
    };
    const object = cluster.gatewayEnvironment(name);
    if (failover.status?.outcome !== undefined || object === undefined) return { ...nothing, state: undefined };
    const { environment, primaryRef, standbyRef } = object.spec;
    const [state, primary, standby] = await Promise.all([
      environments.find(environment),
      store.gateway(primaryRef.name),
      store.gateway(standbyRef.name),
    ]);
    const newer = newerThan(failover, cluster.failoversOf(name));
    const remembered = BigInt(object.status?.epoch ?? 0);
    return { state, records: { Primary: primary, Standby: standby }, remembered, newer, refusal: undefined };
  }

  decide = decide;

  async perform(action: Action): Promise<Outcome> {
    const { environments, audit, writer, onSwitched } = this.#deps;
    const { failover } = action;
    const { uid, name } = failover.metadata;
    const { activate, force = false, environmentRef } = failover.spec;
    const actor = objectActor(this.resource, failover);
    if (action.kind === "Refuse") {
      const { environment, why } = action;
      const details = { activate, failover: name, reason: why.reason };
      await audit.append([environmentEntry("FailoverRefused", environment, actor, details, "Denied")]);
      return { refusal: why };
    }
    const state = await environments.switch(writer(), action.state, activate, { uid, name }, actor, { force });
    onSwitched(environmentRef.name);
    return { state };
  }

  learn(seen: Observed, _action: Action, outcome: Outcome): Observed {
    return { ...seen, ...outcome };
  }

  conditionFor(): "Fenced" {
    return "Fenced";
  }
}

/**
 * One that was made later. What became of it does not matter: this one may have been done too, without its status being written. One
 * that has ended within the second of this one was seen to end by whoever made this one.
 */
function newerThan({ metadata }: Failover, others: readonly Failover[]): string | undefined {
  const { creationTimestamp: made = "", uid } = metadata;
  return others.find(({ metadata: { creationTimestamp = "", uid: other }, status }) =>
    creationTimestamp === made ? status?.outcome === undefined && other > uid : creationTimestamp > made,
  )?.metadata.name;
}
