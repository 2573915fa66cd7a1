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
  listSet,
  localRef,
  namePattern,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { deliveredMetadata } from "./delivery.ts";
import { gatewayName } from "./gateway.ts";
import { DELIVERABLE_TYPES } from "./secret.ts";

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

const KEPT_KEYS = "all under their own names when absent";

/** What core Secrets are made like, wherever they stand. */
const coreSecretSettings = {
  secretName: z
    .string()
    .min(8)
    .max(253)
    .regex(
      /^([a-z0-9]([-a-z0-9.]*))?(\{namespace\}[-a-z0-9.]*)?\{secret\}([-a-z0-9.]*[a-z0-9])?$/,
      "must contain {secret} once, and may contain {namespace} before it, with lower-case letters, digits, dashes and dots around them",
    )
    .optional()
    .meta({
      description:
        "Pattern for the names of the core Secrets, with {secret} and, before it, {namespace}, which is the namespace of the rule; {secret} when absent.",
    }),
  keys: z
    .array(
      z.object({
        from: dataKey.meta({ description: "Key of an entry of the Secrets." }),
        to: dataKey.meta({ description: "Key in the core Secrets." }),
      }),
    )
    .min(1)
    .max(256)
    .optional()
    .meta({
      description: `What every core Secret holds, and under which keys; ${KEPT_KEYS}. With direction Pull: which external entries are taken from which keys.`,
      ...listMap("to"),
    }),
  type: z
    .enum(DELIVERABLE_TYPES)
    .optional()
    .meta({ description: "Type of the core Secrets; Opaque when absent. Kubernetes does not let it change." }),
  ...deliveredMetadata,
  restartConsumers: z.boolean().optional().meta({
    description:
      "Restart every Deployment, StatefulSet and DaemonSet of those namespaces that uses the core Secret, after its data changed.",
  }),
  adopt: z.boolean().optional().meta({
    description:
      "Take over core Secrets of those names that exist already and are not ours, if their data is equal; nothing restarts.",
  }),
};

const keysDiffer = rules({
  rule: "!has(self.keys) || self.keys.all(k, self.keys.exists_one(n, n.from == k.from))",
  message: "two keys may not have the same from",
});

const kubernetesTarget = z
  .object({
    namespaces: z
      .array(labelName)
      .min(1)
      .max(32)
      .meta({
        description:
          "Names of other namespaces, which the Project must admit for the environment. With direction Pull or Bidirectional exactly one.",
        ...listSet,
      }),
    ...coreSecretSettings,
  })
  .meta(keysDiffer);

const gatewayTarget = z.object({
  ref: z.object({ name: gatewayName }).meta({
    description:
      "The Gateway whose cluster they are in. It must work for the environment that environments[].gatewayEnvironment of the Project names. While another gateway acts for it, they are in the cluster of that one.",
  }),
  kubernetes: z
    .object({
      namespace: labelName.meta({
        description:
          "Name of a namespace of that cluster. A Project of the same name there must admit it for the environment.",
      }),
      ...coreSecretSettings,
    })
    .meta({ description: "The core Secrets there.", ...keysDiffer }),
});

/** What only one of the targets knows. */
const SHARES_CORE_SECRETS = "has(self.target.kubernetes) && self.direction == 'Bidirectional'";
const TAKES_FROM_CORE_SECRETS = "has(self.target.kubernetes) && self.direction == 'Pull'";

const limits = z
  .object({
    deletions: z.int().min(0).max(100_000).optional().meta({
      description: "So many entries may be deleted at once; 10 when absent, and 0 for none without a release.",
    }),
    changes: z
      .string()
      .min(1)
      .max(6)
      .regex(
        /^([0-9]{1,6}|([0-9]{1,2}|100)%)$/,
        'must be a number of entries or a percentage of those that the rule covers, in quotes: "20" or "50%"',
      )
      .optional()
      .meta({
        description:
          "So many entries that were there before may get another value at once, on either side: a number or a percentage, as text. Unlimited when absent.",
      }),
    minimum: z.int().min(0).max(100_000).optional().meta({
      description: "Of fewer entries than this a percentage does not count; 5 when absent.",
    }),
  })
  .meta(
    rules({
      rule: "has(self.deletions) || has(self.changes)",
      message: "set deletions, changes or both; leave out limits for the usual ones",
    }),
  );

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
    conflictPolicy: z.enum(["Manual", "NewestWins", "PlatformWins", "TargetWins"]).optional().meta({
      description:
        "With direction Bidirectional: which value both sides have after both were changed. The other one stays as a version of the Secret. NewestWins: the one that was set last, by the vault's clock, to the second; not with target.kubernetes. Manual: a person says it in the SyncConflict that is made, and until then nothing is written.",
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
        kubernetes: kubernetesTarget.optional().meta({
          description:
            "Core Secrets in other namespaces of this cluster, one per Secret. Push: what stops being covered stays as it is. Pull and Bidirectional: a core Secret is taken from when it carries the annotation mazevault.io/allow-pull with the name of the rule's namespace; with Bidirectional, edits of one that does not are written over as with Push.",
        }),
        gateway: gatewayTarget.optional().meta({
          description:
            "Core Secrets in one namespace of a gateway's cluster, one per Secret; direction Push only. What stops being covered stays as it is.",
        }),
      })
      .meta({
        description: "Where to synchronise to: exactly one.",
        ...rules(exactlyOneOf("keyVault", "kubernetes", "gateway")),
      }),
    interval: duration(
      "How often the target is looked at for changes; 60s when absent, at least 10s. Changes of the platform go at once. Not with target.kubernetes, which is watched.",
      "10s",
    ).optional(),
    deletionPolicy: z.enum(["Retain", "Delete"]).optional().meta({
      description:
        "What becomes of an entry in the vault when its Secret is deleted, or its key is taken out of the Secret. Retain: it stays; also when absent. Delete: it is deleted, so that it can be recovered there, when it is as this rule wrote it. Nothing is ever deleted because of a changed rule, scope, label, reference or Project.",
    }),
    limits: limits.optional().meta({
      description:
        "How much may be deleted and changed at once. A plan beyond that stands still until the annotation mazevault.io/release has its hash, which status.planHash tells; new entries are made all the same.",
    }),
    dryRun: z.boolean().optional().meta({
      description: "Write nothing anywhere but into status, where plan says what would be done.",
    }),
    suspend: z.boolean().optional().meta({ description: "Stop all work of this rule; what is in the target stays." }),
  })
  .meta(
    rules(
      {
        rule: "self.direction != 'Bidirectional' || has(self.conflictPolicy)",
        message: "direction Bidirectional needs conflictPolicy: Manual, NewestWins, PlatformWins or TargetWins",
      },
      {
        rule: "self.direction != 'Pull' || !has(self.deletionPolicy) || self.deletionPolicy == 'Retain'",
        message: "direction Pull never deletes in the vault; leave out deletionPolicy",
      },
      {
        rule: "self.direction == 'Bidirectional' || !has(self.conflictPolicy)",
        message: "conflictPolicy is only for direction Bidirectional",
      },
      {
        rule: `!(${SHARES_CORE_SECRETS}) || self.target.kubernetes.namespaces.size() == 1`,
        message:
          "direction Bidirectional has one namespace; leave one in target.kubernetes.namespaces, and make a SyncRule for each other one",
      },
      {
        rule: "!has(self.target.kubernetes) || !has(self.conflictPolicy) || self.conflictPolicy != 'NewestWins'",
        message:
          "core Secrets do not tell when a value was set, so NewestWins is for target.keyVault; with target.kubernetes set Manual, PlatformWins or TargetWins",
      },
      {
        rule: "!has(self.target.kubernetes) || !has(self.mappings)",
        message: "mappings are for target.keyVault; with target.kubernetes use target.kubernetes.keys",
      },
      {
        rule: "!has(self.target.kubernetes) || !has(self.interval)",
        message: "interval is for target.keyVault; core Secrets are watched, so leave it out",
      },
      {
        rule: "!has(self.target.kubernetes) || !(has(self.deletionPolicy) || has(self.limits) || has(self.dryRun))",
        message:
          "deletionPolicy, limits and dryRun are for target.keyVault; core Secrets stay as they are when they are no longer covered, so leave them out",
      },
      {
        rule: `!(${TAKES_FROM_CORE_SECRETS}) || self.target.kubernetes.namespaces.size() == 1`,
        message: "direction Pull takes from one namespace; leave one in target.kubernetes.namespaces",
      },
      {
        rule: `!(${TAKES_FROM_CORE_SECRETS}) || !(${["type", "labels", "annotations", "restartConsumers", "adopt"]
          .map((field) => `has(self.target.kubernetes.${field})`)
          .join(" || ")})`,
        message:
          "direction Pull writes nothing there; leave type, labels, annotations, restartConsumers and adopt out of target.kubernetes",
      },
      {
        rule: "!has(self.target.gateway) || self.direction == 'Push'",
        message:
          "target.gateway has direction Push only; set Push, and take over values with a rule whose target is keyVault or kubernetes",
      },
      {
        rule: "!has(self.target.gateway) || !has(self.mappings)",
        message: "mappings are for target.keyVault; with target.gateway use target.gateway.kubernetes.keys",
      },
      {
        rule: "!has(self.target.gateway) || !(has(self.deletionPolicy) || has(self.limits) || has(self.dryRun))",
        message:
          "deletionPolicy, limits and dryRun are for target.keyVault; core Secrets of a gateway stay as they are when they are no longer covered, so leave them out",
      },
    ),
  );
export type KubernetesTarget = z.infer<typeof kubernetesTarget>;
export type GatewayTarget = z.infer<typeof gatewayTarget>;
/** Of the core Secrets that a rule makes, wherever they stand. */
export type CoreSecretSettings = Omit<KubernetesTarget, "namespaces">;
export type SyncRuleSpec = z.infer<typeof syncRuleSpec>;

export const syncRuleStatus = z.object({
  observedGeneration,
  items: z.int().min(0).optional().meta({
    description:
      "Number of entries that the rule covers; with target.gateway, and with direction Push or Bidirectional and target.kubernetes, of core Secrets.",
  }),
  inSync: z.int().min(0).optional().meta({ description: "How many of them have the same value on both sides." }),
  pending: z.int().min(0).optional().meta({ description: "How many are not." }),
  conflicts: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "How many were changed on both sides and wait for a person." }),
  lastConflict: z
    .object({
      secret: z.string().max(253).meta({ description: "Name of the Secret." }),
      key: z.string().max(253).meta({ description: "Key of the entry." }),
      name: z
        .string()
        .max(317)
        .meta({ description: "Name of the entry in the vault, or namespace/name of the core Secret." }),
      winner: z.enum(["Platform", "Target"]).meta({ description: "Whose value both sides have now." }),
      message: z.string().max(1024).meta({ description: "Why that one; where the other one is." }),
    })
    .optional()
    .meta({
      description: "The last entry that both sides had changed and of which the rule's policy, or a person, decided.",
    }),
  failures: z
    .array(
      z.object({
        secret: z.string().max(253).meta({ description: "Name of the Secret." }),
        key: z
          .string()
          .max(253)
          .optional()
          .meta({ description: "Key of the entry; absent where it is about all of the Secret." }),
        name: z
          .string()
          .max(317)
          .meta({ description: "Name of the entry in the vault, or namespace/name of the core Secret." }),
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
  plan: z
    .array(
      z.object({
        action: z.enum(["Create", "Update", "Recover", "TakeOver", "Delete"]).meta({
          description:
            "Create, Update, Recover and Delete are done in the vault; TakeOver takes its value over into the Secret, unless both sides changed.",
        }),
        secret: z.string().max(253).meta({ description: "Name of the Secret." }),
        key: z.string().max(253).meta({ description: "Key of the entry." }),
        target: z.string().max(127).meta({ description: "Name of the entry in the vault." }),
      }),
    )
    .max(20)
    .optional()
    .meta({
      description:
        "With dryRun what would be done, beyond the limits what stands still: the first 20, deletions before all others.",
      ...listAtomic,
    }),
  planTotal: z.int().min(0).optional().meta({ description: "How many there are in all." }),
  planHash: z.string().max(64).optional().meta({
    description:
      "Of the whole plan; as the value of the annotation mazevault.io/release it lets exactly this plan run.",
  }),
  lastHandledRelease: z.string().max(256).optional().meta({
    description: "Value of the annotation mazevault.io/release that was handled last; it lets nothing run again.",
  }),
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
