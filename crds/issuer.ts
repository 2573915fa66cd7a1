/** `Issuer` and `ClusterIssuer`: a certification authority of one namespace, or of the cluster. */
import { z } from "zod";
import { REVOCATION_REASONS, writtenSerialNumber } from "./certificate.ts";
import {
  type CelRule,
  conditions,
  duration,
  exactlyOneOf,
  type KindDefinition,
  labelName,
  labelSelector,
  listMap,
  listSet,
  objectName,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { gatewayEnvironment } from "./gateway.ts";
import {
  allowedNames,
  CERTIFICATE_PROFILES,
  commonName,
  ISSUER_KINDS,
  nameConstraints,
  nameConstraintsByNamespace,
  signingKey,
  subjectAttributes,
} from "./names.ts";

/** An allow-list of namespaces. */
const namespaceList = z
  .object({
    names: z
      .array(labelName)
      .min(1)
      .max(128)
      .optional()
      .meta({ description: "Names of namespaces.", ...listSet }),
    selector: labelSelector.optional().meta({ description: "Labels of namespaces." }),
  })
  .meta(rules(exactlyOneOf("names", "selector")));
export type NamespaceList = z.infer<typeof namespaceList>;

const external = z.object({
  certificate: z.string().min(1).max(65536).optional().meta({
    description:
      "The signed certificate in PEM: the CA's own first, then those above it, the self-signed root last. The only field of ca that can change: to a renewed certificate of the same key. Removing it changes nothing.",
  }),
});

const caFields = z.object({
  subject: z
    .object({
      commonName: commonName.meta({ description: "Common name (CN) of the CA, such as Payments Issuing CA." }),
      ...subjectAttributes(),
    })
    .meta({ description: "Subject of the CA's certificate." }),
  parentRef: z
    .object({
      kind: z.enum(ISSUER_KINDS).meta({ description: "Kind of the issuer above." }),
      name: objectName.meta({ description: "Name of the issuer above; an Issuer must stand in the same namespace." }),
    })
    .optional()
    .meta({
      description:
        "The issuer that signs this CA's certificate; its policy.allowSubordinates must admit this one. Absent, as external is: a root that signs itself.",
    }),
  external: external.optional().meta({
    description:
      "Another CA signs this CA's certificate, such as a root that is kept offline: it gets status.certificateSigningRequest, and what it signed goes into external.certificate. May be empty.",
  }),
  duration: duration(
    "How long the CA's certificate is valid; 87600h (10 years) for a root and 43800h (5 years) below one when absent. Never longer than the issuer above.",
    "1h",
  ).optional(),
  key: signingKey.optional().meta({ description: "The CA's key; ECDSA with 256 bits when absent." }),
  nameConstraints: nameConstraints.optional().meta({
    description:
      "Names that this CA, and every one below it, may issue for; stands in its certificate, so that relying parties refuse others.",
  }),
});

/** A field that is there before and after with the same value, or neither time. */
const unchanged = (field: string): string =>
  `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`;

const ca = caFields.meta(
  rules(
    {
      rule: "!has(self.external) || !has(self.parentRef)",
      message: "set parentRef or external, not both; without either it is a root that signs itself",
    },
    {
      rule: "!has(self.external) || (!has(self.duration) && !has(self.nameConstraints))",
      message: "whoever signs an external CA decides on duration and nameConstraints; remove them",
    },
    {
      rule: Object.keys(caFields.shape)
        .map((field) => `(${field === "external" ? "has(self.external) == has(oldSelf.external)" : unchanged(field)})`)
        .join(" && "),
      message: "ca is immutable but for external.certificate; create a new issuer under another name and refer to that",
    },
  ),
);
export type CaSpec = z.infer<typeof ca>;

const primary = z
  .object({
    issuerRef: z
      .object({
        kind: z.enum(["ClusterIssuer"]).optional().meta({ description: "Kind of the issuer; always ClusterIssuer." }),
        name: objectName.meta({ description: "Name of the ClusterIssuer in the primary's cluster." }),
      })
      .meta({ description: "The issuer of the primary; its spec.gatewayEnvironments must list this environment." }),
  })
  .meta(
    rules({
      rule: "self == oldSelf",
      message: "primary is immutable; create a new issuer under another name and refer to that",
    }),
  );

const ALLOW_SUBORDINATES =
  "Which CAs may stand below this one, of issuers by parentRef and of Certificates with isCA; absent: none. Each gets no more than this.";

const subordinates = z.object({
  pathLength: z.int().min(0).max(8).optional().meta({
    description: "How many CAs may stand in a row below such a one; 0 when absent: it issues to no further CA.",
  }),
  nameConstraints: nameConstraints.optional().meta({
    description:
      "Put into the certificate of every such CA, whose own ca.nameConstraints must lie within. Where names are permitted, kinds of names of which none is permitted are closed.",
  }),
});

export const ISSUER_APPROVALS = ["Automatic", "Manual"] as const;
export type IssuerApproval = (typeof ISSUER_APPROVALS)[number];

const policy = z.object({
  profiles: z
    .array(z.enum(CERTIFICATE_PROFILES))
    .min(1)
    .max(CERTIFICATE_PROFILES.length)
    .optional()
    .meta({
      description: "What certificates may be for. Absent: nothing, this CA signs CAs only.",
      ...listSet,
    }),
  maxDuration: duration(
    "Longest validity that may be asked for; 9552h (398 days) when absent. No certificate goes beyond the CA's own end.",
    "1m",
  ).optional(),
  ...allowedNames,
  subject: z
    .object(subjectAttributes(" that may be asked for"))
    .optional()
    .meta({ description: "Attributes of subjects that may be asked for beside the common name. Absent: none." }),
  approval: z.enum(ISSUER_APPROVALS).optional().meta({
    description:
      "Whether a CertificateRequest that this policy allows is signed at once (Automatic, when absent), or only after a person has set its condition Approved (Manual). Certificates are not asked about.",
  }),
  allowSubordinates: subordinates.optional().meta({ description: ALLOW_SUBORDINATES }),
});

const spec = z.object({
  ca: ca.optional().meta({
    description: "A CA whose key MazeVault keeps, encrypted, in PostgreSQL. Immutable but for external.certificate.",
  }),
  primary: primary.optional().meta({
    description:
      "Of a ClusterIssuer of a gateway: a CA of the primary signs. The private key is made and stays in this cluster; what may be signed is for the primary's issuer to say, and for policy where that is set. Immutable.",
  }),
  policy: policy.optional().meta({ description: "What this CA may sign. What is not named here is refused." }),
  revocation: z
    .object({
      crl: z
        .object({
          every: duration(
            "How often a revocation list is made, beside at once for each revocation; 24h when absent. It is valid for half as long again.",
            "1m",
          ),
        })
        .optional()
        .meta({ description: "Certificate revocation lists (RFC 5280)." }),
      ocsp: z
        .object({
          validity: duration("How long an OCSP answer is valid; 24h when absent.", "1m"),
        })
        .optional()
        .meta({ description: "OCSP answers (RFC 6960)." }),
    })
    .optional()
    .meta({ description: "How revocations are published. The URLs come from the installation's pki.baseUrl." }),
});

const gatewayRevocation = z.object({
  serialNumber: writtenSerialNumber.meta({
    description: "Serial number of a certificate that this CA signed for an object in a gateway's cluster.",
  }),
  // A hold is its gateway's to set and to take back, and for a gateway no CA is signed.
  reason: z.enum(REVOCATION_REASONS).exclude(["certificateHold", "cACompromise"]).meta({
    description: "Why it is revoked (RFC 5280, section 5.3.1), for good.",
  }),
});

const ofOneSigner: readonly CelRule[] = [
  exactlyOneOf("ca", "primary"),
  {
    rule: "!has(self.primary) || !has(self.revocation)",
    message: "the primary publishes revocations of what it signs; remove revocation",
    fieldPath: ".revocation",
  },
  {
    rule: "!has(self.primary) || !has(self.policy) || !has(self.policy.allowSubordinates)",
    message: "the primary signs no CA for a gateway; remove allowSubordinates",
    fieldPath: ".policy.allowSubordinates",
  },
  {
    rule: "has(self.ca) == has(oldSelf.ca)",
    message: "ca and primary cannot take each other's place; create a new issuer under another name and refer to that",
  },
];

export const issuerSpec = spec.meta(
  rules(...ofOneSigner, {
    rule: "!has(self.primary)",
    message: "who may have the primary sign is for the cluster to say; use a ClusterIssuer that lists this namespace",
    fieldPath: ".primary",
  }),
);

export const clusterIssuerSpec = spec
  .extend({
    policy: policy
      .extend({
        allowSubordinates: subordinates
          .extend({
            namespaces: namespaceList.optional().meta({
              description:
                "Namespaces whose Issuers, and Certificates with isCA, may stand below; absent: ClusterIssuers only.",
            }),
            nameConstraints: nameConstraintsByNamespace.optional().meta({
              description:
                "Put into the certificate of every such CA, whose own ca.nameConstraints must lie within. Where names are permitted, kinds of names of which none is permitted are closed.",
            }),
          })
          .optional()
          .meta({ description: ALLOW_SUBORDINATES }),
      })
      .optional()
      .meta({ description: "What this CA may sign. What is not named here is refused." }),
    namespaces: namespaceList
      .optional()
      .meta({ description: "Namespaces whose Certificates may refer to this issuer. Absent: none." }),
    gatewayEnvironments: z
      .array(gatewayEnvironment)
      .min(1)
      .max(16)
      .optional()
      .meta({
        description:
          "Environments, such as NPR, whose gateways may have this CA sign for objects of their own clusters, within policy. What policy says of {namespace} does not count for them, as their namespaces are none of this cluster. Absent: no gateway.",
        ...listSet,
      }),
    gatewayRevocations: z
      .array(gatewayRevocation)
      .max(256)
      .optional()
      .meta({
        description:
          "Certificates that were signed for gateways and are to be revoked from here, also when their gateway is gone. Nobody renews them for it: that is done in the gateway's cluster. An entry whose certificate is revoked may be taken out.",
        ...listMap("serialNumber"),
      }),
  })
  .meta(
    rules(
      ...ofOneSigner,
      {
        rule: "!has(self.ca) || !has(self.ca.parentRef) || self.ca.parentRef.kind == 'ClusterIssuer'",
        message: "the issuer above a ClusterIssuer must be a ClusterIssuer",
        fieldPath: ".ca.parentRef.kind",
      },
      {
        rule: "!has(self.primary) || !has(self.gatewayEnvironments)",
        message: "a gateway has no gateways; remove gatewayEnvironments",
        fieldPath: ".gatewayEnvironments",
      },
      {
        rule: "!has(self.primary) || !has(self.gatewayRevocations)",
        message: "a gateway has no gateways; remove gatewayRevocations",
        fieldPath: ".gatewayRevocations",
      },
    ),
  );

export type IssuerSpec = z.infer<typeof issuerSpec>;
export type ClusterIssuerSpec = z.infer<typeof clusterIssuerSpec>;

export const issuerStatus = z.object({
  observedGeneration,
  serialNumber: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Serial number of the CA's certificate, such as 3f:0a." }),
  notAfter: z.iso
    .datetime()
    .max(64)
    .optional()
    .meta({ description: "When the CA's certificate ends.", format: "date-time" }),
  caBundle: z
    .string()
    .max(131072)
    .optional()
    .meta({ description: "The CA's certificate and those above it up to the root, in PEM." }),
  certificateSigningRequest: z
    .string()
    .max(16384)
    .optional()
    .meta({ description: "Of an external CA: the request (PKCS #10, PEM) that another CA is to sign." }),
  conditions,
});
export type IssuerStatus = z.infer<typeof issuerStatus>;

export type Issuer = Resource<IssuerSpec, IssuerStatus>;
export type ClusterIssuer = Resource<ClusterIssuerSpec, IssuerStatus>;
export type AnyIssuer = Issuer | ClusterIssuer;

// The type date is for ages: kubectl prints a time in the future as invalid.
const notAfter = {
  name: "Not After",
  type: "string",
  jsonPath: ".status.notAfter",
  description: "When the CA's certificate ends.",
} as const;
const primaryIssuer = {
  name: "Primary Issuer",
  type: "string",
  jsonPath: ".spec.primary.issuerRef.name",
  description: "The primary's ClusterIssuer that signs.",
  priority: 1,
} as const;
const subject = {
  name: "Subject",
  type: "string",
  jsonPath: ".spec.ca.subject.commonName",
  description: "Common name of the CA.",
  priority: 1,
} as const;

export const issuerKind: KindDefinition = {
  kind: "Issuer",
  plural: "issuers",
  singular: "issuer",
  shortNames: ["mvi"],
  scope: "Namespaced",
  description: "A certification authority for the Certificates of its own namespace.",
  spec: issuerSpec,
  status: issuerStatus,
  columns: printerColumns(notAfter, subject),
};

export const clusterIssuerKind: KindDefinition = {
  kind: "ClusterIssuer",
  plural: "clusterissuers",
  singular: "clusterissuer",
  shortNames: ["mvci"],
  scope: "Cluster",
  description: "A certification authority for the Certificates of the namespaces that it lists.",
  spec: clusterIssuerSpec,
  status: issuerStatus,
  columns: printerColumns(notAfter, primaryIssuer, subject),
};
