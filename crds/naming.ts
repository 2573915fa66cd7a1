/** How a project names what it has in Azure. The defaults, and what Azure accepts, are in `core/naming/`. */
import { z } from "zod";
import { labelName, listMap, type rules } from "./common.ts";

/** What names are made of: without dashes, since Key Vault names have none. */
const code = (what: string, example: string) =>
  z
    .string()
    .min(1)
    .max(12)
    .regex(/^[a-z0-9]+$/, "must be a code of lower-case letters and digits")
    .meta({ description: `${what}, for example ${example}.` });

export const namedTypes = ["KeyVault", "PostgreSQL", "Redis", "AKS", "AppRegistration", "ResourceGroup"] as const;
export const namedType = z.enum(namedTypes);

const pattern = z
  .string()
  .min(1)
  .max(200)
  .regex(
    /^([-0-9A-Za-z_.()]|\{(company|co|environment|env|zone|project|proj|region|type|number|nn)\}|\{(COMPANY|CO|ENVIRONMENT|ENV|ZONE|PROJECT|PROJ|REGION|TYPE)\})+$/,
    "must be letters, digits, dashes, underscores, dots, parentheses and the words {company}, {environment}, {zone}, {project}, {region}, {type}, {number}; in capitals for capitals",
  );

export const naming = z.object({
  company: code("Code of the company", "crd"),
  project: code("Code of the project", "mzv"),
  zone: code("Network zone", "int or dmz"),
  region: code("Code of the region", "gwc"),
  environments: z
    .array(
      z.object({
        name: labelName.meta({ description: "One of spec.environments[].name." }),
        production: z.boolean().meta({ description: "Whether it is named like production." }),
        code: code("What stands in names instead of its own name", "stg").optional(),
      }),
    )
    .min(1)
    .max(16)
    .optional()
    .meta({
      description:
        "Environments beyond pro, pre, drn, mig, eoy, hot (production) and dev, itg, tst (non-production), or other codes for these.",
      ...listMap("name"),
    }),
  patterns: z
    .array(
      z.object({
        type: namedType.meta({ description: "What is named." }),
        production: pattern.meta({ description: "In production environments." }),
        nonProduction: pattern.meta({ description: "In the others." }),
      }),
    )
    .min(1)
    .max(namedTypes.length)
    .optional()
    .meta({
      description: "Patterns other than the default ones. {number} is two digits, {type} kv, psql, redis or aks.",
      ...listMap("type"),
    }),
  required: z.boolean().optional().meta({
    description:
      "Whether the name of every Key Vault must be of this convention, and of the environment of each SyncRule that uses it: of another one nothing is read and nothing is written there. Absent or false: the KeyVault says so and works.",
  }),
});
export type NamingSpec = z.infer<typeof naming>;

/** On `Project.spec`. */
export const namedEnvironmentsExist = {
  rule: "!has(self.naming) || !has(self.naming.environments) || self.naming.environments.all(n, self.environments.exists(x, x.name == n.name))",
  message: "every name in naming.environments must be one of environments[].name",
  fieldPath: ".naming.environments",
} satisfies Parameters<typeof rules>[0];

export const names = z
  .array(
    z.object({
      environment: z.string().max(63).meta({ description: "One of the project's environments." }),
      type: namedType.meta({ description: "What has the name." }),
      name: z.string().max(1024).meta({ description: "The name; where it has a number, the first one." }),
    }),
  )
  .max(96)
  .meta({ description: "Names that the convention gives.", ...listMap("environment", "type") });
