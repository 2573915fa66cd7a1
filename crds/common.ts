/**
 * The pieces that several kinds share. Each schema carries its own description and its own structural
 * hints (`x-kubernetes-*`), so that the generator adds nothing of its own.
 */
import { z } from "zod";

export const GROUP = "mazevault.io";
export const VERSION = "v1";
export const API_VERSION = `${GROUP}/${VERSION}`;

/** A rule in the API server's Common Expression Language, evaluated at admission. */
export interface CelRule {
  readonly rule: string;
  readonly message: string;
  readonly fieldPath?: string;
  readonly reason?: "FieldValueInvalid" | "FieldValueForbidden" | "FieldValueRequired" | "FieldValueDuplicate";
}

/** Metadata of a schema node that becomes part of the CRD: `rules` turn into `x-kubernetes-validations`. */
export const rules = (...list: CelRule[]): { "x-kubernetes-validations": CelRule[] } => ({
  "x-kubernetes-validations": list,
});

/** A list that the API server merges and checks for duplicates by these keys. */
export const listMap = (...keys: string[]): Record<string, unknown> => ({
  "x-kubernetes-list-type": "map",
  "x-kubernetes-list-map-keys": keys,
});

/** A list of unique scalars. */
export const listSet = { "x-kubernetes-list-type": "set" } as const;

/** A list that one writer owns as a whole. */
export const listAtomic = { "x-kubernetes-list-type": "atomic" } as const;

/** CEL: exactly one of these sibling fields is set. */
export const exactlyOneOf = (...fields: string[]): CelRule => ({
  rule: `[${fields.map((field) => `has(self.${field})`).join(", ")}].filter(x, x).size() == 1`,
  message: `set exactly one of ${fields.join(", ")}`,
});

/** The fields of which the rule wants exactly one; undefined if it is about something else. */
export function fieldsOfOne({ rule, message }: CelRule): readonly string[] | undefined {
  const fields = /^set exactly one of (.+)$/.exec(message)?.[1]?.split(", ") ?? [];
  return exactlyOneOf(...fields).rule === rule ? fields : undefined;
}

// Every pattern has a message: without one the API server answers with nothing but the pattern.

/** RFC 1123 subdomain, what Kubernetes accepts as the name of most objects. */
export const objectName = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    "must be a name of lower-case letters, digits, dashes and dots that begins and ends with a letter or digit",
  );

/** RFC 1123 label: names of namespaces and environments. */
export const labelName = z
  .string()
  .min(1)
  .max(63)
  .regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    "must be a name of lower-case letters, digits and dashes that begins and ends with a letter or digit",
  );

/** Names of objects, several at once. */
export const namePattern = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^[-a-z0-9.*]+$/,
    "must be a name of lower-case letters, digits, dashes and dots, in which * stands for any characters",
  );

/** What a core Secret accepts as a key of its data: not `.`, and nothing that begins with two dots. */
export const dataKey = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$/,
    "must be a key of letters, digits, dashes, dots and underscores that does not begin with two dots",
  );

/** Go style duration of whole hours, minutes and seconds, for example `2160h`, `1h30m`, `60s`. */
export const duration = (description: string, least = "1s") =>
  z
    .string()
    .min(2)
    .max(24)
    .regex(
      /^([0-9]{1,6}h([0-9]{1,6}m)?([0-9]{1,9}s)?|[0-9]{1,6}m([0-9]{1,9}s)?|[0-9]{1,9}s)$/,
      "must be a duration in hours, minutes and seconds, such as 2160h, 1h30m or 60s",
    )
    .meta({
      description,
      // duration() fails on what is none, and the pattern has said so already.
      ...rules({
        rule: `!self.matches('^([0-9]+[hms])+$') || duration(self) >= duration('${least}')`,
        message: `must be at least ${least}`,
      }),
    });

export const httpsUrl = z
  .string()
  .min(9)
  .max(2048)
  .regex(/^https:\/\/[^\s/@?#]+(\/[^\s@#]*)?$/, "must be an https URL without user, password or fragment");

export const localRef = (what: string) => z.object({ name: objectName.meta({ description: `Name of the ${what}.` }) });

export const secretKeyRef = (what: string) =>
  z.object({
    name: objectName.meta({ description: `Name of the core Secret in this namespace that holds ${what}.` }),
    key: dataKey.meta({ description: "Key in the data of that core Secret." }),
  });

export const labelValue = z
  .string()
  .max(63)
  .regex(
    /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/,
    "must be a label value: letters, digits, dashes, dots and underscores that begin and end with a letter or digit",
  );
const labelKey = z
  .string()
  .min(1)
  .max(317)
  .regex(
    /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/,
    "must be a label key, such as team or example.com/team",
  );

/** A label selector as core Kubernetes writes it: all requirements hold together. */
export const labelSelector = z
  .object({
    matchLabels: z
      .record(labelKey, labelValue)
      .optional()
      .meta({ description: "Labels that must be present with exactly these values.", maxProperties: 16 }),
    matchExpressions: z
      .array(
        z
          .object({
            key: labelKey.meta({ description: "Label key that the requirement is about." }),
            operator: z
              .enum(["In", "NotIn", "Exists", "DoesNotExist"])
              .meta({ description: "How the label's value relates to `values`." }),
            values: z
              .array(labelValue)
              .max(16)
              .optional()
              .meta({ description: "Values for In and NotIn; absent for Exists and DoesNotExist.", ...listAtomic }),
          })
          .meta(
            rules({
              rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values)",
              message: "values is required for In and NotIn, and not allowed for Exists and DoesNotExist",
            }),
          ),
      )
      .max(8)
      .optional()
      .meta({ description: "Requirements beyond equality.", ...listAtomic }),
  })
  .meta(
    rules({
      rule: "(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
      message: "an empty selector is not allowed; set matchLabels or matchExpressions",
    }),
  );
export type LabelSelector = z.infer<typeof labelSelector>;

/** A condition as `metav1.Condition` defines it. */
export const condition = z.object({
  type: z.string().min(1).max(316).meta({ description: "What the condition is about, for example Ready." }),
  status: z.enum(["True", "False", "Unknown"]).meta({ description: "Whether the condition holds." }),
  observedGeneration: z
    .int()
    .min(0)
    .optional()
    .meta({ description: "Generation of the object that the condition was computed for." }),
  lastTransitionTime: z.iso
    .datetime()
    .max(64)
    .meta({ description: "When the status of the condition last changed.", format: "date-time" }),
  reason: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/, "must be a constant in CamelCase")
    .meta({ description: "Constant in CamelCase that a program can act on." }),
  message: z.string().max(32768).meta({ description: "What a person should know and do. Never holds a value." }),
});
export type Condition = z.infer<typeof condition>;

/** Of an object that nobody has looked at: no generation that there is. */
export const UNSEEN_GENERATION = -1;

export const observedGeneration = z
  .int()
  .min(UNSEEN_GENERATION)
  .optional()
  .meta({ description: "Generation of the spec that this status describes; -1 until somebody has looked at it." });

export const conditions = z
  .array(condition)
  .max(16)
  .optional()
  .meta({ description: "What was last observed about this object.", ...listMap("type") });

/** Object metadata as far as MazeVault reads it. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

/** Any object of the API with the parts that every kind has. */
export interface Resource<Spec = unknown, Status = unknown> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec: Spec;
  readonly status?: Status;
}

/** What the generator and the controllers need to know of a kind beside its schemas. */
export interface KindDefinition {
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly scope: "Cluster" | "Namespaced";
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status: z.ZodType;
  /** Rules over the whole object, for example ones that need metadata.name. */
  readonly rules?: readonly CelRule[];
  readonly columns: readonly PrinterColumn[];
}

export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "date" | "boolean";
  readonly jsonPath: string;
  readonly description: string;
  readonly priority?: number;
}

/** The columns that every kind shows around its own one number. */
export const printerColumns = (...own: PrinterColumn[]): PrinterColumn[] => [
  {
    name: "Ready",
    type: "string",
    jsonPath: '.status.conditions[?(@.type=="Ready")].status',
    description: "Whether everything that was asked for is in place.",
  },
  {
    name: "Reason",
    type: "string",
    jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
    description: "Why Ready has its status.",
  },
  ...own,
  { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp", description: "Time since creation." },
];
