import { z } from "zod";
import { grantFields, roleOrVerbs, subjects } from "./access.ts";
import {
  conditions,
  type KindDefinition,
  listAtomic,
  listSet,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";

const accessRule = z
  .object({
    projects: z
      .array(objectName)
      .min(1)
      .max(16)
      .meta({ description: "Projects that it is given for. Each must admit this namespace.", ...listSet }),
    ...grantFields,
  })
  .meta(
    rules(roleOrVerbs, {
      rule: "!has(self.verbs) || !('administer' in self.verbs)",
      message: "administer is about a Project itself; grant it in the Project's spec.access",
      fieldPath: ".verbs",
    }),
  );

export const accessPolicySpec = z.object({
  subjects,
  rules: z
    .array(accessRule)
    .min(1)
    .max(32)
    .meta({
      description:
        "What they may do with the objects of this namespace. A rule that names secrets, certificates or issuers covers only those; another one covers everything of its projects and environments in this namespace.",
      ...listAtomic,
    }),
});
export type AccessPolicySpec = z.infer<typeof accessPolicySpec>;

export const accessPolicyStatus = z.object({
  observedGeneration,
  rules: z.int().min(0).optional().meta({ description: "Number of rules that count." }),
  conditions,
});
export type AccessPolicyStatus = z.infer<typeof accessPolicyStatus>;

export type AccessPolicy = Resource<AccessPolicySpec, AccessPolicyStatus>;

export const accessPolicyKind: KindDefinition = {
  kind: "AccessPolicy",
  plural: "accesspolicies",
  singular: "accesspolicy",
  shortNames: ["mvap"],
  scope: "Namespaced",
  description:
    "Who may do what through REST and the command line with the objects of this namespace. Whoever is named by no policy, no Project and no role of the installation may do nothing.",
  spec: accessPolicySpec,
  status: accessPolicyStatus,
  columns: printerColumns({
    name: "Rules",
    type: "integer",
    jsonPath: ".status.rules",
    description: "Number of rules that count.",
  }),
};
