import { z } from "zod";
import { conditions, type KindDefinition, objectName, observedGeneration, type Resource } from "./common.ts";

export const RESOLUTIONS = ["KeepPlatform", "KeepTarget"] as const;

export const syncConflictSpec = z.object({
  resolution: z.enum(RESOLUTIONS).optional().meta({
    description:
      "Set by a person: which value both sides shall have. KeepPlatform: the one that is stored here. KeepTarget: the one in the vault or core Secret. The other one stays as a version of the Secret.",
  }),
});
export type SyncConflictSpec = z.infer<typeof syncConflictSpec>;

export const syncConflictStatus = z.object({
  observedGeneration,
  rule: objectName.optional().meta({ description: "The SyncRule that found it." }),
  secret: objectName.optional().meta({ description: "The Secret whose entry was changed on both sides." }),
  key: z.string().max(253).optional().meta({ description: "Key of the entry." }),
  name: z
    .string()
    .max(317)
    .optional()
    .meta({ description: "Name of the entry in the vault, or namespace/name of the core Secret." }),
  platformVersion: z.int().min(1).optional().meta({ description: "Version of the Secret that stands here." }),
  targetVersion: z.string().max(64).optional().meta({
    description: "What stands in the target: version of the vault's entry, or uid/resourceVersion of the core Secret.",
  }),
  targetUpdatedOn: z.iso
    .datetime()
    .max(64)
    .optional()
    .meta({ description: "When the vault, or the API server, says that it was changed.", format: "date-time" }),
  conditions,
});
export type SyncConflictStatus = z.infer<typeof syncConflictStatus>;

export type SyncConflict = Resource<SyncConflictSpec, SyncConflictStatus>;

export const syncConflictKind: KindDefinition = {
  kind: "SyncConflict",
  plural: "syncconflicts",
  singular: "syncconflict",
  shortNames: ["mvsc"],
  scope: "Namespaced",
  description:
    "An entry of a Secret that was changed here and in the target, under a SyncRule with conflictPolicy Manual. Made by the operator, resolved by setting spec.resolution, and deleted once both sides have the same value.",
  spec: syncConflictSpec,
  status: syncConflictStatus,
  columns: [
    { name: "Secret", type: "string", jsonPath: ".status.secret", description: "The Secret." },
    { name: "Key", type: "string", jsonPath: ".status.key", description: "Key of the entry." },
    { name: "Rule", type: "string", jsonPath: ".status.rule", description: "The SyncRule that found it." },
    {
      name: "Resolution",
      type: "string",
      jsonPath: ".spec.resolution",
      description: "Which value both sides shall have.",
    },
    { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since it was found." },
  ],
};
