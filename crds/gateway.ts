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

export const GATEWAY_ROLES = ["primary", "dr-standby"] as const;

/** Such as NPR or PRO: environments of different names never mix. */
export const gatewayEnvironment = z
  .string()
  .min(1)
  .max(16)
  .regex(/^[A-Z][A-Z0-9]*$/, "must be 1 to 16 capital letters and digits, such as NPR");

export const gatewayRole = z.enum(GATEWAY_ROLES);

/** It becomes the common name of a certificate, which has 64 characters at most (RFC 5280, appendix A.1). */
export const gatewayName = z
  .string()
  .min(1)
  .max(63)
  .regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    "must be the name of a Gateway: lower-case letters, digits and dashes that begin and end with a letter or digit",
  )
  .meta({ description: "Name of the Gateway." });

/** What the certificate of a gateway says cannot become something else. */
const immutableOnceSet = (field: string): CelRule => ({
  rule: `!has(oldSelf.${field}) || (has(self.${field}) && self.${field} == oldSelf.${field})`,
  message: `${field} is immutable once it is set; delete the Gateway, which revokes it, and create it anew`,
  fieldPath: `.${field}`,
});

export const gatewaySpec = z
  .object({
    environment: gatewayEnvironment.optional().meta({
      description:
        "The environment that the gateway works for, such as NPR or PRO. Absent: as the gateway says when it first registers.",
    }),
    role: gatewayRole.optional().meta({
      description: "Its place in the pair of its environment. Absent: as the gateway says when it first registers.",
    }),
  })
  .meta(rules(immutableOnceSet("environment"), immutableOnceSet("role")));
export type GatewaySpec = z.infer<typeof gatewaySpec>;

const time = (description: string) => z.iso.datetime().max(64).optional().meta({ description, format: "date-time" });

export const gatewayStatus = z.object({
  observedGeneration,
  gatewayId: z.string().max(36).optional().meta({
    description: "UUID by which it is known everywhere; the same when a gateway registers anew under this name.",
  }),
  environment: z.string().max(16).optional().meta({ description: "The environment that it works for." }),
  role: gatewayRole.optional().meta({ description: "Its place in the pair of its environment." }),
  version: z.string().max(64).optional().meta({ description: "Version of the program there." }),
  bootstrapSecretRef: z
    .object({
      namespace: z.string().max(63).meta({ description: "The installation's namespace." }),
      name: objectName.meta({ description: "Name of the core Secret; its key token has the token." }),
      expiresAt: z.iso.datetime().max(64).meta({
        description: "When the token ends; another one stands there before.",
        format: "date-time",
      }),
    })
    .optional()
    .meta({
      description: "Where the token stands that a gateway registers with, once; absent when it has registered.",
    }),
  certificateNotAfter: time("When its certificate ends, as it said last; it renews it before."),
  registeredAt: time("When it registered last."),
  conditions,
});
export type GatewayStatus = z.infer<typeof gatewayStatus>;

export type Gateway = Resource<GatewaySpec, GatewayStatus>;

export const gatewayKind: KindDefinition = {
  kind: "Gateway",
  plural: "gateways",
  singular: "gateway",
  shortNames: ["mvgw"],
  scope: "Cluster",
  description:
    "MazeVault in another cluster, which keeps in touch with this one. It registers once, with a token that stands in a core Secret; deleting the object revokes it. `kubectl get gateways` may mean a kind of Gateway API; write gateways.mazevault.io, or mvgw.",
  spec: gatewaySpec,
  status: gatewayStatus,
  rules: [
    {
      // It becomes the common name of a certificate, which has 64 characters at most (RFC 5280, appendix A.1).
      rule: "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
      message:
        "metadata.name must have at most 63 characters and no dot; choose a shorter name, such as gw-npr-primary",
    },
  ],
  columns: printerColumns(
    {
      name: "Environment",
      type: "string",
      jsonPath: ".status.environment",
      description: "The environment that it works for.",
    },
    {
      name: "Role",
      type: "string",
      jsonPath: ".status.role",
      description: "Its place in the pair of its environment.",
    },
    {
      name: "Connected",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Connected")].status',
      description: "Whether its heartbeats arrive.",
    },
    {
      name: "Since",
      type: "date",
      jsonPath: '.status.conditions[?(@.type=="Connected")].lastTransitionTime',
      description: "For how long that has been so.",
    },
    { name: "Version", type: "string", jsonPath: ".status.version", description: "Version of the program there." },
  ),
};
