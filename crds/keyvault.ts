import { z } from "zod";
import {
  conditions,
  exactlyOneOf,
  type KindDefinition,
  localRef,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
  secretKeyRef,
} from "./common.ts";
import { vaultUrl } from "./project.ts";

/** Identifiers of Entra ID are UUIDs in lower case. */
const entraId = (what: string) =>
  z
    .string()
    .length(36)
    .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, "must be a UUID in lower case")
    .meta({ description: `${what}, a UUID in lower case.` });

const servicePrincipal = z
  .object({
    tenantId: entraId("Entra ID tenant of the service principal"),
    clientId: entraId("Application (client) ID of the service principal"),
    clientSecretRef: secretKeyRef("the client secret")
      .optional()
      .meta({ description: "The client secret, in a core Secret of this namespace." }),
    certificateSecretRef: secretKeyRef("the client certificate").optional().meta({
      description:
        "The client certificate with its private key (PEM, both in one value), in a core Secret of this namespace.",
    }),
  })
  .meta(rules(exactlyOneOf("clientSecretRef", "certificateSecretRef")));

const auth = z
  .object({
    workloadIdentity: z
      .object({
        tenantId: entraId("Entra ID tenant of the identity"),
        clientId: entraId("Client ID of the identity that trusts the ServiceAccount"),
        serviceAccountRef: localRef("ServiceAccount in this namespace whose token is exchanged").meta({
          description: "The ServiceAccount of this namespace that the identity trusts (federated credential).",
        }),
      })
      .optional()
      .meta({ description: "Act as a ServiceAccount of this namespace, by workload identity federation." }),
    servicePrincipal: servicePrincipal
      .optional()
      .meta({ description: "Act as a service principal with a client secret or certificate of this namespace." }),
    managedIdentity: z
      .object({
        clientId: entraId(
          "Client ID of a user-assigned managed identity; when absent that of the setting azure.managedIdentityClientId, or else the system-assigned one",
        ).optional(),
      })
      .optional()
      .meta({
        description: "Act as the operator's own managed identity. Only for vaults that the Project lists in keyVaults.",
      }),
    gateway: z
      .object({
        ref: localRef("Gateway that calls the vault").meta({
          description:
            "The Gateway that calls the vault, or the one that acts for it. Its environment must be the gatewayEnvironment that the Project says for the environment of each rule.",
        }),
        clientId: entraId(
          "Client ID of a user-assigned managed identity of the gateway; when absent that of its setting azure.managedIdentityClientId, or else the system-assigned one",
        ).optional(),
      })
      .optional()
      .meta({
        description:
          "Have a gateway call the vault, with its own managed identity and from its own network. Only for vaults that the Project lists in keyVaults.",
      }),
  })
  .meta(rules(exactlyOneOf("workloadIdentity", "servicePrincipal", "managedIdentity", "gateway")));
export type KeyVaultAuth = z.infer<typeof auth>;

export const keyVaultSpec = z.object({
  projectRef: localRef("Project that this vault belongs to").meta({
    description: "The Project that this vault belongs to. It must admit this namespace. Immutable.",
    ...rules({ rule: "self == oldSelf", message: "projectRef is immutable; create a new KeyVault" }),
  }),
  vaultUrl: vaultUrl.meta({
    description: "URL of the vault, for example https://crdprointmzvgwckv01.vault.azure.net/. Immutable.",
    ...rules({ rule: "self == oldSelf", message: "vaultUrl is immutable; create a new KeyVault and refer to that" }),
  }),
  auth: auth.meta({ description: "How the operator gets in: exactly one method." }),
  budget: z
    .object({
      callsPer10Seconds: z.int().min(1).max(4000).meta({
        description:
          "Highest number of calls to the vault in 10 seconds, over all rules. Azure allows 4,000 per vault.",
      }),
    })
    .optional()
    .meta({ description: "How much of the vault's limit MazeVault may use; 400 calls per 10 seconds when absent." }),
});
export type KeyVaultSpec = z.infer<typeof keyVaultSpec>;

export const keyVaultStatus = z.object({
  observedGeneration,
  secrets: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "Number of entries in the vault, whoever made them, when a rule looked at it last." }),
  forecastCallsPerDay: z.int().min(0).optional().meta({
    description:
      "Calls to the vault in a day while nothing changes: each rule lists its entries, 25 in a call, in its interval.",
  }),
  conditions,
});
export type KeyVaultStatus = z.infer<typeof keyVaultStatus>;

export type KeyVault = Resource<KeyVaultSpec, KeyVaultStatus>;

export const keyVaultKind: KindDefinition = {
  kind: "KeyVault",
  plural: "keyvaults",
  singular: "keyvault",
  shortNames: ["mvkv"],
  scope: "Namespaced",
  description: "An Azure Key Vault, how to get into it, and how much of its call limit may be used.",
  spec: keyVaultSpec,
  status: keyVaultStatus,
  columns: printerColumns(
    { name: "URL", type: "string", jsonPath: ".spec.vaultUrl", description: "URL of the vault." },
    { name: "Secrets", type: "integer", jsonPath: ".status.secrets", description: "Entries in the vault." },
    {
      name: "Calls/Day",
      type: "integer",
      jsonPath: ".status.forecastCallsPerDay",
      description: "Calls in a day while nothing changes.",
    },
  ),
};
