import { z } from "zod";
import {
  type CelRule,
  conditions,
  type KindDefinition,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { gatewayEnvironment } from "./gateway.ts";

export const SIDES = ["Primary", "Standby"] as const;

/** Fewer could be a hiccup of the network. */
const LEAST_MISSED = 3;
const MOST_MISSED = 1_440;

const immutable = (field: string): CelRule => ({
  rule: `self.${field} == oldSelf.${field}`,
  message: `${field} is immutable; delete the GatewayEnvironment, from when on each gateway acts by its role, and create it anew`,
  fieldPath: `.${field}`,
});

const gatewayRef = (description: string) =>
  z.object({ name: objectName.meta({ description: "Name of the Gateway." }) }).meta({ description });

export const gatewayEnvironmentSpec = z
  .object({
    environment: gatewayEnvironment.meta({ description: "The environment whose gateways act in turn, such as NPR." }),
    primaryRef: gatewayRef("The Gateway with role primary, which acts unless DR is active."),
    standbyRef: gatewayRef("The Gateway with role dr-standby, which acts while DR is active."),
    automaticFailover: z
      .object({
        missedHeartbeats: z
          .int()
          .min(LEAST_MISSED)
          .max(MOST_MISSED)
          .meta({ description: "After so many heartbeats of the primary that did not come; they come each minute." }),
      })
      .optional()
      .meta({
        description:
          "Activates DR by itself when the primary is silent and the standby is not, at most once in ten minutes; never goes back by itself. Absent: a person decides.",
      }),
  })
  .meta(
    rules(immutable("environment"), immutable("primaryRef"), immutable("standbyRef"), {
      rule: "self.primaryRef.name != self.standbyRef.name",
      message: "must be another Gateway than primaryRef names",
      fieldPath: ".standbyRef",
    }),
  );
export type GatewayEnvironmentSpec = z.infer<typeof gatewayEnvironmentSpec>;

export const gatewayEnvironmentStatus = z.object({
  observedGeneration,
  active: z.enum(SIDES).optional().meta({ description: "Which of the two is in charge." }),
  activeGateway: z.string().max(253).optional().meta({ description: "Name of the Gateway that is in charge." }),
  epoch: z.int().min(1).optional().meta({ description: "One more with each change of who acts." }),
  since: z.iso.datetime().max(64).optional().meta({ description: "When that changed last.", format: "date-time" }),
  conditions,
});
export type GatewayEnvironmentStatus = z.infer<typeof gatewayEnvironmentStatus>;

export type GatewayEnvironment = Resource<GatewayEnvironmentSpec, GatewayEnvironmentStatus>;

export const gatewayEnvironmentKind: KindDefinition = {
  kind: "GatewayEnvironment",
  plural: "gatewayenvironments",
  singular: "gatewayenvironment",
  shortNames: ["mvge"],
  scope: "Cluster",
  description:
    "Two gateways of one environment of which one acts: the primary, or its standby for disaster recovery. Which one is changed by a Failover. While there is none for an environment each gateway acts by its role.",
  spec: gatewayEnvironmentSpec,
  status: gatewayEnvironmentStatus,
  rules: [
    {
      // Names of Failovers begin with it.
      rule: "self.metadata.name.size() <= 63",
      message: "metadata.name must have at most 63 characters; choose a shorter name, such as npr",
    },
  ],
  columns: printerColumns(
    { name: "Environment", type: "string", jsonPath: ".spec.environment", description: "The environment." },
    { name: "Active", type: "string", jsonPath: ".status.active", description: "Which of the two is in charge." },
    {
      name: "Gateway",
      type: "string",
      jsonPath: ".status.activeGateway",
      description: "Name of the Gateway that is in charge.",
    },
    { name: "Since", type: "date", jsonPath: ".status.since", description: "For how long that has been so." },
    { name: "Epoch", type: "integer", jsonPath: ".status.epoch", description: "Of who acts.", priority: 1 },
  ),
};
