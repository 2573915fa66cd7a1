import { z } from "zod";
import {
  conditions,
  dataKey,
  duration,
  exactlyOneOf,
  type KindDefinition,
  labelName,
  labelSelector,
  listAtomic,
  listMap,
  localRef,
  namePattern,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";

/** What Azure accepts as the name of a Key Vault secret. */
const vaultEntryName = z
  .string()
  .min(1)
  .max(127)
  .regex(/^[0-9a-zA-Z-]+$/, "must be letters, digits and dashes, which is what Key Vault allows");

const keyVaultTarget = z.object({
  ref: localRef("KeyVault in this namespace").meta({
    description: "The KeyVault of this namespace to write to or to take from.",
  }),
  name: z
    .string()
    .min(14)
    .max(127)
    .regex(
      /^[0-9a-zA-Z-]*(\{secret\}[0-9a-zA-Z-]+\{key\}|\{key\}[0-9a-zA-Z-]+\{secret\})[0-9a-zA-Z-]*$/,
      "must contain {secret} and {key} once each, with a dash, letters or digits between them and nothing else around them",
    )
    .optional()
    .meta({
      description:
        "Pattern for the names of the vault's entries, with {secret} and {key}; {secret}--{key} when absent. Characters that Key Vault does not accept (dot and underscore) become a dash.",
    }),
});

export const syncRuleSpec = z
  .object({
    projectRef: localRef("Project whose secrets are synchronised").meta({
      description: "The Project whose secrets are synchronised. It must admit this namespace. Immutable.",
      ...rules({ rule: "self == oldSelf", message: "projectRef is immutable; create a new SyncRule" }),
    }),
    environment: labelName.meta({
      description: "The environment whose secrets are synchronised. Immutable.",
      ...rules({ rule: "self == oldSelf", message: "environment is immutable; create a new SyncRule" }),
    }),
    secrets: z
      .object({
        names: z
          .array(namePattern)
          .min(1)
          .max(64)
          .optional()
          .meta({ description: "Names of Secrets of this namespace; * stands for any characters.", ...listAtomic }),
        selector: labelSelector.optional().meta({ description: "Labels that the Secrets must have." }),
      })
      .optional()
      .meta({
        description: "Which Secrets of this namespace; all in that project and environment when absent.",
        ...rules({
          rule: "has(self.names) || has(self.selector)",
          message: "set names, selector or both; leave out secrets for all",
        }),
      }),
    direction: z.enum(["Push", "Pull", "Bidirectional"]).meta({
      description:
        "Push: the platform's value is written to the target. Pull: the target's value is taken over into the external entries of the Secrets, and nothing is written there. Bidirectional: external and generated entries may be changed on both sides; all others are pushed.",
    }),
    conflictPolicy: z.enum(["Manual", "PlatformWins", "TargetWins"]).optional().meta({
      description:
        "With direction Bidirectional: which value both sides have after both were changed. The other one stays as a version of the Secret. Manual: a person says it in the SyncConflict that is made, and until then nothing is written.",
    }),
    mappings: z
      .array(
        z.object({
          secret: objectName.meta({ description: "Name of a Secret of this namespace." }),
          key: dataKey.meta({ description: "Key of one of its entries." }),
          name: vaultEntryName.meta({ description: "Name of the entry in the vault." }),
        }),
      )
      .min(1)
      .max(200)
      .optional()
      .meta({
        description: "Names that differ from the pattern. They are looked at before it.",
        ...listMap("secret", "key"),
        ...rules({
          rule: "self.all(m, self.exists_one(n, n.name.lowerAscii() == m.name.lowerAscii()))",
          message: "two mappings may not have the same name (Key Vault ignores case)",
        }),
      }),
    target: z
      .object({
        keyVault: keyVaultTarget.optional().meta({ description: "An Azure Key Vault, one vault entry per key." }),
      })
      .meta({ description: "Where to synchronise to: exactly one.", ...rules(exactlyOneOf("keyVault")) }),
    interval: duration(
      "How often the target is looked at for changes; 60s when absent, at least 10s. Changes of the platform go at once.",
      "10s",
    ).optional(),
    suspend: z.boolean().optional().meta({ description: "Stop all work of this rule; what is in the target stays." }),
  })
  .meta(
    rules(
      {
        rule: "self.direction != 'Bidirectional' || has(self.conflictPolicy)",
        message: "direction Bidirectional needs conflictPolicy: Manual, PlatformWins or TargetWins",
      },
      {
        rule: "self.direction == 'Bidirectional' || !has(self.conflictPolicy)",
        message: "conflictPolicy is only for direction Bidirectional",
      },
    ),
  );
export type SyncRuleSpec = z.infer<typeof syncRuleSpec>;

export const syncRuleStatus = z.object({
  observedGeneration,
  items: z.int().min(0).optional().meta({ description: "Number of entries that the rule covers." }),
  inSync: z.int().min(0).optional().meta({ description: "How many of them have the same value on both sides." }),
  pending: z.int().min(0).optional().meta({ description: "How many are not." }),
  conflicts: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "How many were changed on both sides and wait for a person." }),
  failures: z
    .array(
      z.object({
        secret: z.string().max(253).meta({ description: "Name of the Secret." }),
        key: z.string().max(253).meta({ description: "Key of the entry." }),
        name: z.string().max(127).meta({ description: "Name of the entry in the vault." }),
        reason: z.string().max(64).meta({ description: "Constant in CamelCase." }),
        message: z.string().max(1024).meta({ description: "What happened and what to do." }),
      }),
    )
    .max(10)
    .optional()
    .meta({ description: "The first entries that could not be synchronised, at most 10.", ...listAtomic }),
  lastHandledSyncNow: z
    .string()
    .max(256)
    .optional()
    .meta({ description: "Value of the annotation mazevault.io/sync-now that was handled last." }),
  conditions,
});
export type SyncRuleStatus = z.infer<typeof syncRuleStatus>;

export type SyncRule = Resource<SyncRuleSpec, SyncRuleStatus>;

export const syncRuleKind: KindDefinition = {
  kind: "SyncRule",
  plural: "syncrules",
  singular: "syncrule",
  shortNames: ["mvsr"],
  scope: "Namespaced",
  description: "Keeps secrets of one project and environment in step with a target.",
  spec: syncRuleSpec,
  status: syncRuleStatus,
  columns: printerColumns(
    { name: "Items", type: "integer", jsonPath: ".status.items", description: "Entries that the rule covers." },
    { name: "Pending", type: "integer", jsonPath: ".status.pending", description: "Entries that are not in step." },
  ),
};
