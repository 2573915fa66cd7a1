import { z } from "zod";
import {
  conditions,
  type KindDefinition,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { SIDES } from "./gatewayenvironment.ts";

/** Completed: the side that was asked for acts. Refused, Superseded: nothing was changed. */
export const FAILOVER_OUTCOMES = ["Completed", "Refused", "Superseded"] as const;

export const failoverSpec = z
  .object({
    environmentRef: z
      .object({ name: objectName.meta({ description: "Name of the GatewayEnvironment." }) })
      .meta({ description: "The environment whose gateways change places." }),
    activate: z.enum(SIDES).meta({
      description:
        "Standby: DR is activated, without waiting for the primary. Primary: back to the primary, once its heartbeats arrive and nothing waits in the queue of the standby.",
    }),
    force: z.boolean().optional().meta({
      description:
        "Does it also when the gateway that is to act is not heard of, or writes wait in the queue of the other one; they stay there until it is in charge again.",
    }),
  })
  .meta(
    rules({
      rule: "self == oldSelf",
      message: "a Failover is done once, as it was made; create another one",
    }),
  );
export type FailoverSpec = z.infer<typeof failoverSpec>;

export const failoverStatus = z.object({
  observedGeneration,
  outcome: z.enum(FAILOVER_OUTCOMES).optional().meta({
    description:
      "What came of it; nothing more is done then. Superseded: a newer Failover of the environment came first.",
  }),
  epoch: z.int().min(1).optional().meta({ description: "Of the environment, from this Failover on." }),
  conditions,
});
export type FailoverStatus = z.infer<typeof failoverStatus>;

export type Failover = Resource<FailoverSpec, FailoverStatus>;

export const failoverKind: KindDefinition = {
  kind: "Failover",
  plural: "failovers",
  singular: "failover",
  shortNames: ["mvfo"],
  scope: "Cluster",
  description:
    "Asks once for the other gateway of an environment to act; for `kubectl create -f` with generateName, since Git would ask for it again. What was not begun after ten minutes is refused. Deleting one that still waits takes it back. The last ten that have ended are kept for each GatewayEnvironment; all are on the audit record.",
  spec: failoverSpec,
  status: failoverStatus,
  columns: printerColumns(
    {
      name: "Environment",
      type: "string",
      jsonPath: ".spec.environmentRef.name",
      description: "Name of the GatewayEnvironment.",
    },
    { name: "Activate", type: "string", jsonPath: ".spec.activate", description: "Which of the two is to act." },
    { name: "Outcome", type: "string", jsonPath: ".status.outcome", description: "What came of it." },
    { name: "Epoch", type: "integer", jsonPath: ".status.epoch", description: "From this Failover on.", priority: 1 },
  ),
};
