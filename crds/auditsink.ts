import { z } from "zod";
import {
  conditions,
  dataKey,
  exactlyOneOf,
  httpsUrl,
  type KindDefinition,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";

/** The kind belongs to the cluster, so what it refers to stands where the operator is. */
const keyOfInstallation = (what: string) =>
  z.object({
    name: objectName.meta({
      description: `Name of the core Secret in the installation's namespace that holds ${what}.`,
    }),
    key: dataKey.meta({ description: "Key in the data of that core Secret." }),
  });

const tls = {
  caBundle: z.string().min(1).max(65536).optional().meta({
    description: "Certificates (PEM) of the authorities that are trusted for the receiver beside the system's.",
  }),
  clientCertificateRef: z
    .object({
      name: objectName.meta({
        description: "Name of a core Secret of type kubernetes.io/tls in the installation's namespace.",
      }),
    })
    .optional()
    .meta({ description: "The client certificate that is shown to the receiver (mutual TLS)." }),
};

export const auditSinkSpec = z
  .object({
    file: z
      .object({
        name: z
          .string()
          .min(1)
          .max(128)
          .regex(
            /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/,
            "must be a file name of letters, digits, dashes, dots and underscores",
          )
          .meta({ description: "Name of the file in the operator's audit.fileDirectory." }),
      })
      .optional()
      .meta({ description: "Append JSON Lines to a file where the operator runs." }),
    otlp: z
      .object({
        url: httpsUrl.meta({
          description: "Where the collector takes logs, for example https://collector.example.com:4318/v1/logs.",
        }),
        ...tls,
        authorizationSecretRef: keyOfInstallation("the value of the header Authorization")
          .optional()
          .meta({ description: "The value of the header Authorization, for example Bearer and a token." }),
      })
      .optional()
      .meta({ description: "Send OpenTelemetry logs (OTLP/HTTP with JSON)." }),
    webhook: z
      .object({
        url: httpsUrl.meta({ description: "Where to send to." }),
        ...tls,
        hmacSecretRef: keyOfInstallation("the key of the HMAC")
          .optional()
          .meta({ description: "The key by which messages are signed (HMAC-SHA-256, header webhook-signature)." }),
      })
      .meta(
        rules({
          rule: "has(self.hmacSecretRef) || has(self.clientCertificateRef)",
          message: "set hmacSecretRef, clientCertificateRef or both, so that the receiver can tell who sends",
        }),
      )
      .optional()
      .meta({ description: "Send JSON after standardwebhooks.com." }),
  })
  .meta(rules(exactlyOneOf("file", "otlp", "webhook")));
export type AuditSinkSpec = z.infer<typeof auditSinkSpec>;

export const auditSinkStatus = z.object({ observedGeneration, conditions });
export type AuditSinkStatus = z.infer<typeof auditSinkStatus>;

export type AuditSink = Resource<AuditSinkSpec, AuditSinkStatus>;

export const auditSinkKind: KindDefinition = {
  kind: "AuditSink",
  plural: "auditsinks",
  singular: "auditsink",
  shortNames: ["mvas"],
  scope: "Cluster",
  description:
    "Where the audit record is streamed, in the order of its chain and with its checkpoints, from its beginning. At least once: records say their position. A sink that fails blocks nothing; it is caught up on later.",
  spec: auditSinkSpec,
  status: auditSinkStatus,
  columns: printerColumns(),
};
