import { z } from "zod";
import { grantFields, roleOrVerbs, subjects } from "./access.ts";
import {
  conditions,
  exactlyOneOf,
  type KindDefinition,
  labelName,
  labelSelector,
  listAtomic,
  listMap,
  listSet,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { gatewayEnvironment } from "./gateway.ts";
import { namedEnvironmentsExist, names, naming } from "./naming.ts";

/** Host names only: whoever lists a vault means all of it, at the port where Azure serves it. */
export const vaultUrl = z
  .string()
  .min(12)
  .max(255)
  .regex(
    /^https:\/\/[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+\/?$/,
    "must be https:// and the host name of the vault in lower case, without port, path or query",
  );

/** The host of a vault URL: what two spellings of one vault, with and without the last slash, have in common. */
export const vaultHost = (url: string): string => new URL(url).host;

const admission = z
  .object({
    name: labelName.optional().meta({ description: "Name of one namespace that may use the project." }),
    selector: labelSelector.optional().meta({ description: "Labels of the namespaces that may use the project." }),
    environments: z
      .array(labelName)
      .min(1)
      .max(16)
      .meta({ description: "Environments that these namespaces may use.", ...listSet }),
  })
  .meta(rules(exactlyOneOf("name", "selector")));

const access = z.object({ subjects, ...grantFields }).meta(rules(roleOrVerbs));

const storageVault = z.object({
  namespace: labelName.meta({ description: "Namespace of the KeyVault. The project must admit it." }),
  name: objectName.meta({ description: "Name of the KeyVault." }),
});
export type StorageVaultRef = z.infer<typeof storageVault>;

export const projectSpec = z
  .object({
    storage: z.enum(["Platform", "Orchestrator"]).optional().meta({
      description:
        "Where the values of the project's Secrets are. Platform: encrypted in PostgreSQL. Orchestrator: only in the Key Vault of their environment, see environments[].keyVault; PostgreSQL has metadata and fingerprints. Platform when absent. Immutable.",
    }),
    environments: z
      .array(
        z.object({
          name: labelName.meta({ description: "Name of the environment, for example dev or pro." }),
          keyVault: storageVault.optional().meta({
            description:
              "With storage Orchestrator: the KeyVault whose vault has the values of this environment. It must belong to this project. Immutable.",
            ...rules({
              rule: "self == oldSelf",
              message:
                "keyVault is immutable, since the values are in that vault; add an environment with the other one and move the Secrets there",
            }),
          }),
          gatewayEnvironment: gatewayEnvironment.optional().meta({
            description:
              "Environment of the gateways that may have to do with this one, such as NPR or PRO: they get its Secrets, and may write external entries for whom it is granted; nothing of it reaches a gateway that works for another. Absent: nothing of it reaches any gateway.",
          }),
          protected: z.boolean().optional().meta({
            description:
              "In SyncRules of this environment to a Key Vault more than 3 deletions or more than 10 changes at once need a release, whatever limits a rule has. Rules with target.kubernetes or target.gateway have no limits: they delete nothing.",
          }),
        }),
      )
      .min(1)
      .max(16)
      .meta({ description: "The project's environments; a Secret belongs to exactly one.", ...listMap("name") }),
    namespaces: z
      .array(admission)
      .max(128)
      .optional()
      .meta({
        description: "Who may refer to this project, and for which environments. Absent or empty admits nobody.",
        ...listAtomic,
      }),
    keyVaults: z
      .array(vaultUrl)
      .max(64)
      .optional()
      .meta({
        description:
          "URLs of the Azure Key Vaults where the operator's own identity (managed identity) may be used for this project. Absent or empty allows none.",
        ...listSet,
      }),
    access: z
      .array(access)
      .max(32)
      .optional()
      .meta({
        description:
          "Who may do what with this project's objects in every namespace that it admits. An AccessPolicy covers its own namespace only. An item that names secrets, certificates or issuers covers only those; another one covers everything of its environments.",
        ...listAtomic,
      }),
    naming: naming.optional().meta({
      description:
        "How the project names what it has in Azure; status.names lists the names, and what is wrong with them is found before anything is made. Absent: nothing is checked.",
    }),
  })
  .meta(
    rules(
      {
        rule: "!has(self.namespaces) || self.namespaces.all(n, n.environments.all(e, self.environments.exists(x, x.name == e)))",
        message: "every name in namespaces[].environments must be one of environments[].name",
        fieldPath: ".namespaces",
      },
      {
        rule: "!has(self.access) || self.access.all(a, a.environments.all(e, self.environments.exists(x, x.name == e)))",
        message: "every name in access[].environments must be one of environments[].name",
        fieldPath: ".access",
      },
      namedEnvironmentsExist,
      {
        rule: "(has(self.storage) ? self.storage : 'Platform') == (has(oldSelf.storage) ? oldSelf.storage : 'Platform')",
        message:
          "storage is immutable, since values would be left behind; create another Project with it and move the Secrets there",
        fieldPath: ".storage",
      },
      {
        rule: "!has(self.storage) || self.storage != 'Orchestrator' || self.environments.all(e, has(e.keyVault))",
        message:
          "storage Orchestrator needs environments[].keyVault of every environment: the KeyVault that has its values",
        fieldPath: ".environments",
      },
      {
        rule: "(has(self.storage) && self.storage == 'Orchestrator') || self.environments.all(e, !has(e.keyVault))",
        message: "environments[].keyVault is only for storage Orchestrator; set storage: Orchestrator, or leave it out",
        fieldPath: ".environments",
      },
    ),
  );
export type ProjectSpec = z.infer<typeof projectSpec>;

export const projectStatus = z.object({
  observedGeneration,
  keyVersion: z
    .int()
    .min(1)
    .optional()
    .meta({ description: "Version of the project key that new secret versions are encrypted under." }),
  sealingKey: z
    .object({
      id: z.string().max(36).meta({ description: "Id of the key; what is sealed names it." }),
      publicKey: z.string().max(43).meta({ description: "Public half (X25519), 32 bytes in base64url." }),
    })
    .optional()
    .meta({ description: "Where `mazevault seal` encrypts to; values that were sealed to an earlier one still open." }),
  namespaces: z.int().min(0).optional().meta({ description: "Number of existing namespaces that the project admits." }),
  names: names.optional(),
  conditions,
});
export type ProjectStatus = z.infer<typeof projectStatus>;

export type Project = Resource<ProjectSpec, ProjectStatus>;

export const projectKind: KindDefinition = {
  kind: "Project",
  plural: "projects",
  singular: "project",
  shortNames: ["mvp"],
  scope: "Cluster",
  description:
    "A tenant: its environments, the namespaces that may use it, and the Key Vaults where the operator may act as itself.",
  spec: projectSpec,
  status: projectStatus,
  columns: printerColumns({
    name: "Namespaces",
    type: "integer",
    jsonPath: ".status.namespaces",
    description: "Number of namespaces that the project admits.",
  }),
};
