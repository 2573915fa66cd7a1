/** How what uses a secret is told of new values before they are current: `spec.rotation.apply` of a Secret. */
import { z } from "zod";
import {
  type CelRule,
  dataKey,
  duration,
  exactlyOneOf,
  httpsUrl,
  listSet,
  localRef,
  rules,
  secretKeyRef,
} from "./common.ts";

const job = z.object({
  cronJobRef: localRef("CronJob in this namespace").meta({
    description:
      "The CronJob whose jobTemplate is used, normally a suspended one. It opts in by the annotation mazevault.io/rotation: allowed.",
  }),
});

const webhook = z.object({
  url: httpsUrl.meta({ description: "Where to send to. The operator's rotation.allowedHosts must name the host." }),
  caBundle: z.string().min(1).max(65536).optional().meta({
    description: "Certificates (PEM) of the authorities that are trusted for the receiver beside the system's.",
  }),
  hmacSecretRef: secretKeyRef("the key by which messages are signed").meta({
    description: "The key by which messages are signed (HMAC-SHA-256, header webhook-signature).",
  }),
  includeValues: z.boolean().optional().meta({
    description:
      "Send the new values along, in base64. Without it the message names the version and its keys, and the receiver fetches the values by REST.",
  }),
});

const roleName = z
  .string()
  .min(1)
  .max(63)
  .regex(
    /^[A-Za-z_][A-Za-z0-9_$-]*$/,
    "must be the name of a role: letters, digits, _, $ and dashes that do not begin with a digit, a dash or $",
  );

const postgres = z
  .object({
    host: z
      .string()
      .min(1)
      .max(253)
      .regex(/^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$/, "must be a host name or an address")
      .meta({
        description:
          "Where the server is, as its certificate names it. The operator's rotation.allowedHosts must name it too.",
      }),
    port: z.int().min(1).max(65535).optional().meta({ description: "Port of the server; 5432 when absent." }),
    database: z
      .string()
      .min(1)
      .max(63)
      .optional()
      .meta({ description: "Database to connect to; postgres when absent. Roles belong to all of them." }),
    caBundle: z.string().min(1).max(65536).optional().meta({
      description:
        "Certificates (PEM) of the authorities that the server's certificate must come from; the system's when absent. TLS is always used, and the name verified.",
    }),
    admin: z
      .object({
        username: roleName.meta({
          description:
            "Role that sets the passwords: with CREATEROLE, and from PostgreSQL 16 on ADMIN OPTION for both roles.",
        }),
        passwordSecretRef: secretKeyRef("its password").meta({ description: "Its password." }),
      })
      .meta({ description: "Who sets the passwords." }),
    roles: z
      .array(roleName)
      .min(2)
      .max(2)
      .meta({ description: "The two roles, which exist already and have the same rights; used in turn.", ...listSet }),
    username: dataKey.meta({
      description: "Entry that gets the name of the role that is in use; with external: {}, and not written by hand.",
    }),
    password: dataKey.meta({ description: "Entry that gets its password; with generate." }),
    endSessions: z.boolean().optional().meta({
      description:
        "When a role ends, end its sessions as well: the admin needs pg_signal_backend for it. They go on until they close when absent.",
    }),
  })
  .meta(
    rules({
      rule: "!(self.admin.username in self.roles)",
      message: "admin.username must not be one of roles: their passwords change",
      fieldPath: ".admin.username",
    }),
  );

export const rotationApply = z
  .object({
    job: job.optional().meta({
      description:
        "Run a Job: it finds the new values as files in /run/mazevault/pending, one for each entry. When it completes, they become current; when it fails, they do not.",
    }),
    webhook: webhook.optional().meta({
      description:
        "Send a signed POST after standardwebhooks.com. An answer of 2xx makes the new values current; 408, 429, 5xx and no answer are tried again; any other means that they are not taken, a redirect too, as none is followed.",
    }),
    postgres: postgres.optional().meta({
      description:
        "Alternate between two roles of PostgreSQL: the one that is not in use gets a new password, and becomes the current one; the other ends when everything that uses it was restarted, and the overlap is over.",
    }),
    timeout: duration(
      "How long applying may take; 10m when absent. Then the new values are given up, and the next attempt makes others.",
    ).optional(),
  })
  .meta(rules(exactlyOneOf("job", "webhook", "postgres")));
export type RotationApplySpec = z.infer<typeof rotationApply>;
export type PostgresApplySpec = z.infer<typeof postgres>;
export type WebhookApplySpec = z.infer<typeof webhook>;
export type JobApplySpec = z.infer<typeof job>;

const applied = "self.rotation.apply.postgres";
const withPostgres = `has(self.rotation) && has(self.rotation.apply) && has(${applied})`;

/** Over the spec of a Secret. */
export const applyRules: readonly CelRule[] = [
  {
    rule: `!(${withPostgres}) || self.entries.exists(e, e.key == ${applied}.username && has(e.external))`,
    message: "rotation.apply.postgres.username must be the key of an entry with external: {}",
    fieldPath: ".rotation.apply.postgres.username",
  },
  {
    rule: `!(${withPostgres}) || self.entries.exists(e, e.key == ${applied}.password && has(e.generate) && e.generate.kind in ['Password', 'Passphrase', 'Hex', 'Base64', 'UUID'])`,
    message:
      "rotation.apply.postgres.password must be the key of an entry with generate of kind Password, Passphrase, Hex, Base64 or UUID",
    fieldPath: ".rotation.apply.postgres.password",
  },
  {
    rule: `!(${withPostgres}) || !has(self.rotation.keys) || ${applied}.password in self.rotation.keys`,
    message: "rotation.keys must name rotation.apply.postgres.password too, or be absent",
    fieldPath: ".rotation.keys",
  },
];
