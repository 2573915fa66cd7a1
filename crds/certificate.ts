/** `Certificate`: a certificate that is kept valid in a core Secret. Fields are named as in cert-manager where they mean the same. */
import { z } from "zod";
import {
  conditions,
  duration,
  type KindDefinition,
  listMap,
  listSet,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
  secretKeyRef,
} from "./common.ts";
import { deliveredMetadata, deliveryBehaviour, overwriteNeedsAdopt } from "./delivery.ts";
import { gatewayEnvironment } from "./gateway.ts";
import {
  CERTIFICATE_PROFILES,
  commonName,
  criticalNameConstraints,
  dnsName,
  emailAddress,
  ISSUER_KINDS,
  ipAddress,
  keyFields,
  keySizeRules,
  objectIdentifier,
  subjectAttributes,
  uri,
} from "./names.ts";

export const CERTIFICATE_USAGES = [
  "digital signature",
  "key encipherment",
  "key agreement",
  "server auth",
  "client auth",
] as const;
/** Of a CA's key. */
const CA_USAGES = ["cert sign", "crl sign"] as const;

/** RFC 5280 5.3.1, as far as they can be said of a certificate. */
export const REVOCATION_REASONS = [
  "unspecified",
  "keyCompromise",
  "cACompromise",
  "affiliationChanged",
  "superseded",
  "cessationOfOperation",
  "certificateHold",
  "privilegeWithdrawn",
] as const;

export const writtenSerialNumber = z
  .string()
  .min(2)
  .max(59)
  .regex(
    /^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*$/,
    "must be the bytes in hexadecimal, with or without colons, such as 3f:0a:77",
  );

const revocation = z.object({
  serialNumber: writtenSerialNumber.meta({
    description: "Serial number of a certificate that was issued to this object; see status.serialNumber.",
  }),
  reason: z.enum(REVOCATION_REASONS).meta({
    description:
      "Why it is revoked (RFC 5280, section 5.3.1). certificateHold lasts until this entry is taken out; every other one is final. cACompromise is for a CA's certificate.",
  }),
});

/** Who is asked for a certificate. */
export const issuerRef = z
  .object({
    kind: z.enum(ISSUER_KINDS).optional().meta({ description: "Kind of the issuer; Issuer when absent." }),
    name: objectName.meta({ description: "Name of the issuer; an Issuer must stand in this namespace." }),
  })
  .meta({ description: "Who issues the certificate." });
export type IssuerRef = z.infer<typeof issuerRef>;

const time = (description: string) => z.iso.datetime().max(64).optional().meta({ description, format: "date-time" });

/** What duration() of CEL understands of what `duration` of this group allows. */
const DURATION = "^([0-9]+[hms])+$";

const names = <T extends z.ZodType>(item: T, what: string) =>
  z
    .array(item)
    .min(1)
    .max(100)
    .optional()
    .meta({ description: what, ...listSet });

export const OUTPUT_FORMATS = ["DER", "CombinedPEM"] as const;

const keystore = {
  create: z.boolean().meta({ description: "Whether to write it." }),
  passwordSecretRef: secretKeyRef("the password of both files").meta({
    description: "Where the password stands; the files are written again when it changes.",
  }),
};

const IS_CA = "has(self.isCA) && self.isCA";

/** The password would be lost with the next delivery. */
const passwordElsewhere = (format: "pkcs12" | "jks") => ({
  rule: `!has(self.keystores) || !has(self.keystores.${format}) || self.keystores.${format}.passwordSecretRef.name != self.secretName`,
  message: `the password must stand in another core Secret than spec.secretName, whose data is replaced`,
  fieldPath: `.keystores.${format}.passwordSecretRef.name`,
});

export const certificateSpec = z
  .object({
    secretName: objectName.meta({
      description:
        "Name of the core Secret of type kubernetes.io/tls to write: tls.key, tls.crt (the certificate and the CAs above it, without the root) and ca.crt (the root).",
    }),
    issuerRef,
    commonName: commonName.optional().meta({ description: "Common name (CN) of the subject." }),
    subject: z
      .object(subjectAttributes())
      .optional()
      .meta({ description: "Attributes of the subject beside the common name." }),
    literalSubject: z
      .string()
      .min(1)
      .max(1024)
      .regex(
        /^[A-Za-z0-9.]+=[^\s]+( +[^\s]+)*$/,
        "must be a distinguished name as RFC 4514 writes it, such as CN=orders,O=Example",
      )
      .optional()
      .meta({
        description:
          "The whole subject as RFC 4514 writes it, the most specific attribute first, such as CN=orders,O=Example. Instead of commonName and subject.",
      }),
    dnsNames: names(dnsName, "DNS names; international names are encoded."),
    ipAddresses: names(ipAddress, "IP addresses."),
    uris: names(uri, "URIs, such as SPIFFE identities."),
    emailAddresses: names(emailAddress, "Email addresses."),
    otherNames: z
      .array(
        z.object({
          oid: objectIdentifier.meta({
            description:
              "Object identifier of the kind of name, such as 1.3.6.1.4.1.311.20.2.3 for a user principal name.",
          }),
          utf8Value: z.string().min(1).max(1024).meta({ description: "The name, as text." }),
        }),
      )
      .min(1)
      .max(100)
      .optional()
      .meta({ description: "Names of other kinds, whose value is text.", ...listMap("oid", "utf8Value") }),
    duration: duration(
      "How long a certificate is valid; 2160h (90 days) when absent. A change counts from the next certificate on, and makes that due earlier where it is shorter.",
      "5m",
    ).optional(),
    renewBefore: duration(
      "How long before its end a certificate is renewed; a third of its validity when neither this nor renewBeforePercentage is set.",
      "1m",
    ).optional(),
    renewBeforePercentage: z.int().min(1).max(99).optional().meta({
      description: "The same in percent of the validity: 25 renews when a quarter of it is left.",
    }),
    usages: z
      .array(z.enum([...CERTIFICATE_USAGES, ...CA_USAGES]))
      .min(1)
      .max(CERTIFICATE_USAGES.length + CA_USAGES.length)
      .optional()
      .meta({
        description:
          "Key usages and extended key usages, instead of a profile. cert sign and crl sign are a CA's, which has both in any case.",
        ...listSet,
      }),
    isCA: z.boolean().optional().meta({
      description:
        "Whether it is the certificate of a CA, with whose key another program signs. The issuer's policy.allowSubordinates must admit it, and says how many CAs may stand below and for which names; when that changes, another certificate is issued.",
    }),
    nameConstraints: criticalNameConstraints.optional().meta({
      description:
        "Names that this CA may sign for; must lie within the issuer's policy.allowSubordinates.nameConstraints, which stand in the certificate in any case.",
    }),
    gateways: z
      .object({
        environment: gatewayEnvironment.meta({
          description:
            "Environment of the gateways that get the certificate, its chain and its private key, such as NPR. A Project must admit this namespace for an environment with this gatewayEnvironment; otherwise no gateway gets it.",
        }),
      })
      .optional()
      .meta({
        description:
          "The gateways whose REST serves this certificate too; they hold it encrypted. One that revocations lists is not there any more. Absent: it stays here.",
      }),
    profile: z.enum(CERTIFICATE_PROFILES).optional().meta({
      description:
        "What the certificate is for. When absent it is Client if usages has client auth and not server auth, otherwise Server.",
    }),
    privateKey: z
      .object({
        ...keyFields,
        encoding: z.enum(["PKCS1", "PKCS8"]).optional().meta({
          description:
            "How tls.key is written: PKCS8 when absent; PKCS1 is the older form of the algorithm (for ECDSA that of SEC 1).",
        }),
        rotationPolicy: z.enum(["Never", "Always"]).optional().meta({
          description: "Whether renewal makes a new key (Always, when absent) or keeps the one that there is (Never).",
        }),
      })
      .meta(
        rules(...keySizeRules, {
          rule: "!has(self.algorithm) || self.algorithm != 'Ed25519' || !has(self.encoding) || self.encoding == 'PKCS8'",
          message: "Ed25519 has the encoding PKCS8 only",
        }),
      )
      .optional()
      .meta({ description: "The private key; ECDSA with 256 bits when absent." }),
    secretTemplate: z
      .object(deliveredMetadata)
      .optional()
      .meta({ description: "Labels and annotations of the core Secret." }),
    keystores: z
      .object({
        pkcs12: z.object(keystore).optional().meta({
          description:
            "PKCS#12: keystore.p12 (the key and the certificates of tls.crt, with the alias certificate) and truststore.p12 (the root, with the alias ca). The password must be printable ASCII.",
        }),
        jks: z
          .object({
            ...keystore,
            alias: z
              .string()
              .min(1)
              .max(64)
              .regex(/^[!-~]+( [!-~]+)*$/, "must be printable ASCII with single spaces at most")
              .optional()
              .meta({ description: "Alias of the key; certificate when absent. Java takes it in lower case." }),
          })
          .optional()
          .meta({
            description:
              "Java's older format: keystore.jks (the key and the certificates of tls.crt) and truststore.jks (the root, with the alias ca).",
          }),
      })
      .meta(rules({ rule: "has(self.pkcs12) || has(self.jks)", message: "set pkcs12, jks or both" }))
      .optional()
      .meta({ description: "Keystores to write into the core Secret as well." }),
    additionalOutputFormats: z
      .array(
        z.object({
          type: z.enum(OUTPUT_FORMATS).meta({
            description:
              "DER: key.der, the private key in binary. CombinedPEM: tls-combined.pem, tls.key and tls.crt in one file.",
          }),
        }),
      )
      .min(1)
      .max(OUTPUT_FORMATS.length)
      .optional()
      .meta({ description: "Further forms of key and certificate in the core Secret.", ...listMap("type") }),
    revocations: z
      .array(revocation)
      .max(256)
      .optional()
      .meta({
        description:
          "Certificates to revoke; unless the current one is only on hold, another one with a new key takes its place at once.",
        ...listMap("serialNumber"),
      }),
    revisionHistoryLimit: z.int().min(1).max(1000).optional().meta({
      description:
        "How many revisions stay on record, the current one included: older ones are removed from two days after their end instead of after the installation's pki.keepExpiredMs. What is still valid always stays, since CRL and OCSP tell about it, and so does what was revoked.",
    }),
    deletionPolicy: z.enum(["Retain", "Revoke"]).optional().meta({
      description:
        "What deleting this object does: Retain (the certificates stay valid, and the core Secret stays) when absent; Revoke (every one is revoked, and the core Secret goes).",
    }),
    ...deliveryBehaviour,
    adopt: z.boolean().optional().meta({
      description:
        "Take over a core Secret of that name that exists already and is not ours, if it holds a valid certificate of another CA with the names and the kind of key that are asked for here. No byte of its data changes and nothing restarts; the issuer takes over when that certificate is to be renewed.",
    }),
  })
  .meta(
    rules(
      overwriteNeedsAdopt,
      {
        rule: "has(self.commonName) || has(self.literalSubject) || has(self.dnsNames) || has(self.ipAddresses) || has(self.uris) || has(self.emailAddresses) || has(self.otherNames)",
        message:
          "the certificate needs a name: set at least one of commonName, literalSubject, dnsNames, ipAddresses, uris, emailAddresses, otherNames",
      },
      {
        rule: "!has(self.literalSubject) || !(has(self.commonName) || has(self.subject))",
        message: "literalSubject is the whole subject; leave out commonName and subject",
        fieldPath: ".literalSubject",
      },
      {
        rule: "!(has(self.renewBefore) && has(self.renewBeforePercentage))",
        message: "set renewBefore or renewBeforePercentage, not both",
        fieldPath: ".renewBefore",
      },
      {
        // duration() fails on what is none, and the patterns have said so already.
        rule: `!has(self.renewBefore) || !self.renewBefore.matches('${DURATION}') || (has(self.duration) && !self.duration.matches('${DURATION}')) || duration(self.renewBefore) < duration(has(self.duration) ? self.duration : '2160h')`,
        message: "must be shorter than duration (2160h when absent)",
        fieldPath: ".renewBefore",
      },
      {
        rule: "!(has(self.profile) && has(self.usages))",
        message: "set usages or profile, not both",
        fieldPath: ".usages",
      },
      {
        rule: `${IS_CA} || !has(self.usages) || !self.usages.exists(usage, usage in [${CA_USAGES.map((usage) => `'${usage}'`).join(", ")}])`,
        message: `${CA_USAGES.join(" and ")} are for a CA; set isCA, or leave them out`,
        fieldPath: ".usages",
      },
      {
        rule: `!(${IS_CA}) || !has(self.profile)`,
        message: "profiles are for certificates that are not a CA's; leave profile or isCA out",
        fieldPath: ".profile",
      },
      {
        rule: `!(${IS_CA}) || has(self.commonName) || has(self.subject) || has(self.literalSubject)`,
        message: "a CA needs a subject; set commonName, subject or literalSubject",
        fieldPath: ".isCA",
      },
      {
        rule: `!(${IS_CA}) || !has(self.gateways)`,
        message: "the key of a CA does not go to gateways; leave gateways or isCA out",
        fieldPath: ".gateways",
      },
      {
        rule: `${IS_CA} || !has(self.nameConstraints)`,
        message: "name constraints are for a CA; set isCA, or leave them out",
        fieldPath: ".nameConstraints",
      },
      {
        rule: `${IS_CA} || !has(self.revocations) || self.revocations.all(each, each.reason != 'cACompromise')`,
        message: "cACompromise is for a CA; set isCA, or give keyCompromise as the reason",
        fieldPath: ".revocations",
      },
      passwordElsewhere("pkcs12"),
      passwordElsewhere("jks"),
    ),
  );
export type CertificateSpec = z.infer<typeof certificateSpec>;

export const certificateStatus = z.object({
  observedGeneration,
  revision: z.int().min(1).optional().meta({
    description: "Number of the current certificate, from 1; absent while that of another CA is in use.",
  }),
  serialNumber: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Serial number of the current certificate, such as 3f:0a:77." }),
  notBefore: time("When the current certificate begins to be valid."),
  notAfter: time("When it ends."),
  renewalTime: time("When it is renewed."),
  conditions,
});
export type CertificateStatus = z.infer<typeof certificateStatus>;

export type Certificate = Resource<CertificateSpec, CertificateStatus>;

export const certificateKind: KindDefinition = {
  kind: "Certificate",
  plural: "certificates",
  singular: "certificate",
  shortNames: ["mvc"],
  scope: "Namespaced",
  description: "A certificate that is kept valid, with its private key, in a core Secret of type kubernetes.io/tls.",
  spec: certificateSpec,
  status: certificateStatus,
  columns: printerColumns(
    { name: "Secret", type: "string", jsonPath: ".spec.secretName", description: "The core Secret that it stands in." },
    {
      name: "Not After",
      type: "string",
      jsonPath: ".status.notAfter",
      description: "When the current certificate ends.",
    },
    {
      name: "Serial",
      type: "string",
      jsonPath: ".status.serialNumber",
      description: "Serial number of the current certificate.",
      priority: 1,
    },
  ),
};
