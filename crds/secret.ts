import { z } from "zod";
import {
  type CelRule,
  conditions,
  dataKey,
  duration,
  exactlyOneOf,
  type KindDefinition,
  labelName,
  listAtomic,
  listMap,
  listSet,
  localRef,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
  secretKeyRef,
} from "./common.ts";
import { deliveredMetadata, deliveryBehaviour, overwriteNeedsAdopt } from "./delivery.ts";
import { applyRules, rotationApply } from "./rotation-apply.ts";

export const GENERATOR_KINDS = [
  "Password",
  "Passphrase",
  "Hex",
  "Base64",
  "UUID",
  "RSA",
  "EC",
  "Ed25519",
  "SSH",
  "WireGuard",
] as const;

const onlyFor = (field: string, ...kinds: (typeof GENERATOR_KINDS)[number][]): CelRule => ({
  rule: `self.kind in [${kinds.map((kind) => `'${kind}'`).join(", ")}] || !has(self.${field})`,
  message: `${field} is only for kind ${kinds.join(" or ")}`,
});

const least = (characters: string) =>
  z
    .int()
    .min(0)
    .max(64)
    .optional()
    .meta({ description: `Least number of ${characters}; 1 when absent.` });
const leastOf = (name: string, otherwise = "1"): string =>
  `(has(self.minimum.${name}) ? self.minimum.${name} : ${otherwise})`;
const NO_SYMBOLS = "(has(self.symbols) && self.symbols == '')";

const sshAlgorithm = (name: string): string =>
  `(self.kind == 'SSH' && has(self.algorithm) && self.algorithm == '${name}')`;
const RSA = `(self.kind == 'RSA' || ${sshAlgorithm("RSA")})`;
const EC = `(self.kind == 'EC' || ${sshAlgorithm("ECDSA")})`;

const generator = z
  .object({
    kind: z.enum(GENERATOR_KINDS).meta({
      description:
        "What to generate: Password (letters, digits, symbols), Passphrase (words of the EFF's long list), Hex or Base64 (of random bytes), UUID (version 4, RFC 9562); or a private key: RSA, EC or Ed25519 (PEM, PKCS #8), SSH (OpenSSH's own format), WireGuard (base64). A template derives what is public: {{ key | public_key }}.",
    }),
    length: z
      .int()
      .min(8)
      .max(256)
      .optional()
      .meta({ description: "Number of characters of a Password; 32 when absent." }),
    exclude: z.string().min(1).max(64).optional().meta({ description: "Characters that a Password must not contain." }),
    symbols: z
      .string()
      .max(32)
      .regex(/^[!-/:-@[-`{-~]*$/, "may contain only ASCII characters that are no letter, digit or space")
      .optional()
      .meta({
        description:
          "The symbols that a Password may contain, such as -_.; none with an empty text, and !#$%&()*+,-./:;<=>?@[]^_{|}~ when absent.",
      }),
    minimum: z
      .object({
        uppercase: least("upper-case letters"),
        lowercase: least("lower-case letters"),
        digits: least("digits"),
        symbols: least("symbols"),
      })
      .optional()
      .meta({
        description:
          "How many characters of each class a Password has at least. Classes that exclude or symbols leave empty do not count.",
      }),
    words: z.int().min(4).max(32).optional().meta({
      description:
        "Number of words of a Passphrase; 6 when absent. Each adds 12.9 bits: it is one of 7,772, all equally likely.",
    }),
    separator: z
      .string()
      .max(8)
      .optional()
      .meta({ description: "What stands between the words of a Passphrase; a dash when absent." }),
    bytes: z
      .int()
      .min(8)
      .max(512)
      .optional()
      .meta({ description: "Number of random bytes behind Hex or Base64; 32 when absent." }),
    algorithm: z
      .enum(["Ed25519", "RSA", "ECDSA"])
      .optional()
      .meta({ description: "Algorithm of an SSH key; Ed25519 when absent." }),
    size: z.int().min(256).max(4096).optional().meta({
      description:
        "Size of a key in bits: RSA 2048, 3072 (when absent) or 4096; EC, and SSH with ECDSA, 256 (when absent), 384 or 521.",
    }),
  })
  .meta(
    rules(
      onlyFor("length", "Password"),
      onlyFor("exclude", "Password"),
      onlyFor("symbols", "Password"),
      onlyFor("minimum", "Password"),
      onlyFor("words", "Passphrase"),
      onlyFor("separator", "Passphrase"),
      onlyFor("bytes", "Hex", "Base64"),
      onlyFor("algorithm", "SSH"),
      {
        rule: `!has(self.minimum) || ${leastOf("uppercase")} + ${leastOf("lowercase")} + ${leastOf("digits")} + ${leastOf("symbols", `(${NO_SYMBOLS} ? 0 : 1)`)} <= (has(self.length) ? self.length : 32)`,
        message:
          "minimum asks for more characters than length has, 32 when absent; a class that is not named counts as 1",
        fieldPath: ".minimum",
      },
      {
        rule: `!has(self.minimum) || !${NO_SYMBOLS} || ${leastOf("symbols", "0")} == 0`,
        message: "minimum.symbols must be 0 or absent when symbols is empty",
        fieldPath: ".minimum",
      },
      {
        rule: `!has(self.size) || ${RSA} || ${EC}`,
        message: "size is only for kind RSA or EC, and for SSH with algorithm RSA or ECDSA",
      },
      {
        rule: `!has(self.size) || !${RSA} || self.size in [2048, 3072, 4096]`,
        message: "size of RSA must be 2048, 3072 or 4096",
        fieldPath: ".size",
      },
      {
        rule: `!has(self.size) || !${EC} || self.size in [256, 384, 521]`,
        message: "size of EC and ECDSA must be 256, 384 or 521",
        fieldPath: ".size",
      },
    ),
  );
export type GeneratorSpec = z.infer<typeof generator>;

const entry = z
  .object({
    key: dataKey.meta({ description: "Name of the entry; a version holds all entries together." }),
    literal: z
      .string()
      .max(65536)
      .optional()
      .meta({ description: "A value that is not secret: it stands in the manifest for everybody to read." }),
    generate: generator
      .optional()
      .meta({ description: "A value made by MazeVault once, and again only when these parameters change." }),
    secretRef: secretKeyRef("the value").optional().meta({
      description: "A value taken over from a core Secret of this namespace, and followed when it changes.",
    }),
    // A rule over so long a text costs more than the API server allows; what is damaged is told by a condition.
    sealed: z.string().min(1).max(87_468).optional().meta({
      description:
        "A value that `mazevault seal` encrypted to the project's sealing key, so that it can stand in Git. It opens only in this project, environment, namespace, Secret and entry.",
    }),
    external: z.object({}).optional().meta({
      description:
        "A value that is written from outside, by `mazevault put NAMESPACE/NAME KEY`, and never made here. Nothing is delivered before every such entry has been written.",
    }),
    template: z.string().min(1).max(16384).optional().meta({
      description:
        "A Liquid template over the other entries of this Secret, for example postgres://{{ username }}:{{ password | url_encode }}@db/orders. Filters such as public_key, ssh_public_key, htpasswd and json_pointer derive a value from another.",
    }),
  })
  .meta(rules(exactlyOneOf("literal", "generate", "secretRef", "sealed", "external", "template")));
export type SecretEntry = z.infer<typeof entry>;

const reader = z.object({
  name: labelName.meta({ description: "What the reader is called." }),
  publicKey: z
    .string()
    .min(43)
    .max(43)
    .regex(/^[A-Za-z0-9_-]{43}$/, "must be an X25519 public key, 32 bytes in base64url")
    .meta({ description: "Public key of the reader (X25519), 32 bytes in base64url." }),
});
export type ReaderSpec = z.infer<typeof reader>;

export const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;

const timeOfDay = (description: string) =>
  z
    .string()
    .min(5)
    .max(5)
    .regex(/^([01][0-9]|2[0-3]):[0-5][0-9]$/, "must be a time of day from 00:00 to 23:59")
    .meta({ description });

const window = z.object({
  days: z
    .array(z.enum(WEEKDAYS))
    .min(1)
    .max(7)
    .optional()
    .meta({ description: "Days on which it opens; every day when absent.", ...listSet }),
  from: timeOfDay("When it opens, such as 22:00."),
  to: timeOfDay("When it closes; on the following day where it is not later than from."),
});
export type RotationWindow = z.infer<typeof window>;

const rotation = z
  .object({
    every: duration(
      "How long the values are used, at most: the next ones are made up to a tenth of it earlier, an hour at most, so that many Secrets do not change in the same moment. Counted from the last rotation, or from when this was first asked for.",
      "1h",
    ).optional(),
    // Once an hour at most: each rotation is a version, a delivery, and a restart of whoever uses it.
    schedule: z
      .string()
      .min(9)
      .max(128)
      .regex(
        /^([0-9]|[1-5][0-9])( [0-9A-Za-z*,/-]+){4}$/,
        "must be minute, hour, day of month, month and day of week as cron writes them, such as 0 3 1 * *, and one number as the minute",
      )
      .optional()
      .meta({
        description:
          "When new values are made: minute, hour, day of month, month and day of week as cron writes them, such as 0 3 1 * * for each month's first day at three. The minute is one number.",
      }),
    timeZone: z
      .string()
      .min(1)
      .max(64)
      .regex(/^[A-Za-z][-+_A-Za-z0-9/]*$/, "must be the name of a time zone, such as Europe/Berlin")
      .optional()
      .meta({
        description: "Time zone of schedule and windows by its IANA name, such as Europe/Berlin; UTC when absent.",
      }),
    windows: z
      .array(window)
      .min(1)
      .max(16)
      .optional()
      .meta({
        description:
          "When a rotation that is due may happen: outside of all of these it waits for the next one. What a person asks for does not wait.",
        ...listAtomic,
      }),
    keys: z
      .array(dataKey)
      .min(1)
      .max(256)
      .optional()
      .meta({ description: "Entries that get new values; all with generate when absent.", ...listSet }),
    overlap: duration(
      "How long the version before a rotation stays readable, at least, whatever retention.versions says; of the last 100 rotations. With apply.postgres also how long its role can log in after everything was restarted; 5m when absent.",
    ).optional(),
    apply: rotationApply.optional().meta({
      description:
        "Who must take the new values before they become current: until then they stand in a pending version, which nothing delivers or pushes. Current at once when absent.",
    }),
  })
  .meta(
    rules(exactlyOneOf("every", "schedule"), {
      rule: "!has(self.timeZone) || has(self.schedule) || has(self.windows)",
      message: "timeZone is only for schedule and windows",
      fieldPath: ".timeZone",
    }),
  );
export type RotationSpec = z.infer<typeof rotation>;

/** Types that hand out identities of the cluster, or that a controller of the cluster acts on, are not deliverable. */
export const DELIVERABLE_TYPES = [
  "Opaque",
  "kubernetes.io/basic-auth",
  "kubernetes.io/ssh-auth",
  "kubernetes.io/tls",
  "kubernetes.io/dockerconfigjson",
] as const;

const deliver = z
  .object({
    secretName: objectName
      .optional()
      .meta({ description: "Name of the core Secret to write; the name of this Secret when absent." }),
    type: z
      .enum(DELIVERABLE_TYPES)
      .optional()
      .meta({ description: "Type of the core Secret; Opaque when absent. Kubernetes does not let it change later." }),
    keys: z
      .array(
        z.object({
          from: dataKey.meta({ description: "Key of an entry of this Secret." }),
          to: dataKey.meta({ description: "Key in the data of the core Secret." }),
        }),
      )
      .min(1)
      .max(256)
      .optional()
      .meta({
        description: "Which entries to deliver and under which keys; all under their own when absent.",
        ...listMap("to"),
      }),
    ...deliveredMetadata,
    ...deliveryBehaviour,
  })
  .meta(rules(overwriteNeedsAdopt));
export type DeliverSpec = z.infer<typeof deliver>;

/** What Kubernetes itself refuses to store: a typed Secret without the keys of its type. */
const KEYS_OF_TYPE: Readonly<Partial<Record<(typeof DELIVERABLE_TYPES)[number], readonly string[]>>> = {
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
};

function deliversKeysOfType(type: string, keys: readonly string[]): CelRule {
  const list = keys.map((key) => `'${key}'`).join(", ");
  const delivered =
    "has(self.deliver.keys) ? self.deliver.keys.exists(d, d.to == k) : self.entries.exists(e, e.key == k)";
  return {
    rule: `!has(self.deliver) || !has(self.deliver.type) || self.deliver.type != '${type}' || [${list}].all(k, ${delivered})`,
    message: `type ${type} needs the delivered keys ${keys.join(" and ")}; add the entries or map them with deliver.keys`,
    fieldPath: ".deliver.type",
  };
}

const END_TO_END = "(has(self.protection) && self.protection == 'EndToEnd')";

export const secretSpec = z
  .object({
    projectRef: localRef("Project that this secret belongs to").meta({
      description: "The Project that this secret belongs to. It must admit this namespace. Immutable.",
      ...rules({
        rule: "self == oldSelf",
        message: "projectRef is immutable; create a new Secret in the other project",
      }),
    }),
    environment: labelName.meta({
      description: "One of the project's environments. Immutable.",
      ...rules({
        rule: "self == oldSelf",
        message: "environment is immutable; create a new Secret in the other environment",
      }),
    }),
    protection: z.enum(["Managed", "EndToEnd"]).optional().meta({
      description:
        "Managed when absent: MazeVault opens values in memory, to deliver and to push them. EndToEnd: the writer seals them for the readers, and MazeVault cannot open them; entries are external then, and nothing is delivered or pushed. Immutable.",
    }),
    readers: z
      .array(reader)
      .min(1)
      .max(16)
      .optional()
      .meta({
        description:
          "Who can open the values, with protection EndToEnd. A change counts for what is written from then on.",
        ...listMap("name"),
      }),
    entries: z
      .array(entry)
      .min(1)
      .max(256)
      .meta({
        description: "What the secret is made of. Every change makes one new version of all entries together.",
        ...listMap("key"),
      }),
    deliver: deliver
      .optional()
      .meta({ description: "The core Secret to keep beside this one, in the same namespace; none when absent." }),
    rotation: rotation.optional().meta({
      description:
        "When entries with generate get new values, in a new version in which all others stay as they are; never by itself when absent. The annotation mazevault.io/rotate asks for it at once: once for each value that it has.",
    }),
    deletionPolicy: z.enum(["SoftDelete", "Retain", "Purge"]).optional().meta({
      description:
        "What deleting this object does to the stored versions: SoftDelete (kept for retention.softDelete; applying it again recovers them) when absent; Retain (kept, and the core Secret too); Purge (gone at once).",
    }),
    retention: z
      .object({
        versions: z
          .int()
          .min(1)
          .max(1000)
          .optional()
          .meta({ description: "Number of versions that are kept; 10 when absent." }),
        softDelete: duration(
          "How long a soft-deleted secret can be recovered; 2160h (90 days) when absent.",
        ).optional(),
      })
      .optional()
      .meta({ description: "How long old values are kept." }),
  })
  .meta(
    rules(
      {
        rule: "!has(self.deliver) || !has(self.deliver.keys) || self.deliver.keys.all(k, self.entries.exists(e, e.key == k.from))",
        message: "every deliver.keys[].from must be the key of an entry",
        fieldPath: ".deliver.keys",
      },
      {
        rule: "!has(self.rotation) || !has(self.rotation.keys) || self.rotation.keys.all(k, self.entries.exists(e, e.key == k && has(e.generate)))",
        message: "every one of rotation.keys must be the key of an entry with generate",
        fieldPath: ".rotation.keys",
      },
      {
        rule: "!has(self.rotation) || self.entries.exists(e, has(e.generate))",
        message: "rotation needs an entry with generate: no other value is made here",
        fieldPath: ".rotation",
      },
      {
        rule: `!${END_TO_END} || self.entries.all(e, has(e.external))`,
        message:
          "with protection EndToEnd every entry is external: MazeVault can neither make nor render what it cannot open",
        fieldPath: ".entries",
      },
      {
        rule: `!${END_TO_END} || !has(self.deliver)`,
        message:
          "with protection EndToEnd nothing can be delivered: MazeVault cannot open the values; let the readers fetch them",
        fieldPath: ".deliver",
      },
      {
        rule: `${END_TO_END} == has(self.readers)`,
        message: "readers is required with protection EndToEnd, and not allowed without",
        fieldPath: ".readers",
      },
      ...applyRules,
      ...Object.entries(KEYS_OF_TYPE).map(([type, keys]) => deliversKeysOfType(type, keys)),
    ),
  );
export type SecretSpec = z.infer<typeof secretSpec>;

const time = (description: string) => z.iso.datetime().max(64).optional().meta({ description, format: "date-time" });

export const secretStatus = z.object({
  observedGeneration,
  version: z.int().min(1).optional().meta({ description: "Number of the current version." }),
  pendingVersion: z
    .int()
    .min(1)
    .optional()
    .meta({ description: "Number of the version that becomes current when it is applied." }),
  nextRotationTime: time("When generated entries get new values next; it waits for a window where there are some."),
  lastRotationTime: time("When generated entries got new values last, other than because their parameters changed."),
  lastHandledRotate: z
    .string()
    .max(256)
    .optional()
    .meta({ description: "Value of the annotation mazevault.io/rotate that was handled last." }),
  conditions,
});
export type SecretStatus = z.infer<typeof secretStatus>;

export type Secret = Resource<SecretSpec, SecretStatus>;

const deliveredName = (self: string): string =>
  `(has(${self}.spec.deliver.secretName) ? ${self}.spec.deliver.secretName : ${self}.metadata.name)`;
const deliveredType = (self: string): string =>
  `(has(${self}.spec.deliver.type) ? ${self}.spec.deliver.type : 'Opaque')`;

const protection = (self: string): string => `(has(${self}.spec.protection) ? ${self}.spec.protection : 'Managed')`;

export const secretKind: KindDefinition = {
  kind: "Secret",
  plural: "secrets",
  singular: "secret",
  shortNames: ["mvs"],
  scope: "Namespaced",
  description:
    "A versioned set of entries in one project and environment, stored encrypted, and delivered as a core Secret where asked for.",
  spec: secretSpec,
  status: secretStatus,
  rules: [
    {
      rule: `${protection("self")} == ${protection("oldSelf")}`,
      message: "protection is immutable; create a new Secret",
      fieldPath: ".spec.protection",
    },
    {
      rule: `!has(self.spec.deliver) || !has(oldSelf.spec.deliver) || ${deliveredName("self")} != ${deliveredName("oldSelf")} || ${deliveredType("self")} == ${deliveredType("oldSelf")}`,
      message: "type cannot change for the same core Secret; deliver to another secretName",
      fieldPath: ".spec.deliver.type",
    },
    {
      rule: `!has(self.spec.deliver) || self.spec.entries.all(e, !has(e.secretRef) || e.secretRef.name != ${deliveredName("self")})`,
      message: "an entry may not take its value from the core Secret that this object delivers; refer to another one",
      fieldPath: ".spec.entries",
    },
  ],
  columns: printerColumns({
    name: "Version",
    type: "integer",
    jsonPath: ".status.version",
    description: "Number of the current version.",
  }),
};
