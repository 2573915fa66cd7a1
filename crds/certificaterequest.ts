/** `CertificateRequest`: one signature under a PKCS #10 request, whose private key only the requester has. */
import { z } from "zod";
import { CERTIFICATE_USAGES, issuerRef, REVOCATION_REASONS } from "./certificate.ts";
import {
  conditions,
  duration,
  type KindDefinition,
  listSet,
  observedGeneration,
  printerColumns,
  type Resource,
  rules,
} from "./common.ts";
import { CERTIFICATE_PROFILES } from "./names.ts";

/** A transition rule: these fields are as they were, and absent where they were. */
const unchanged = (...fields: readonly string[]): string =>
  fields
    .map(
      (field) =>
        `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
    )
    .join(" && ");

export const certificateRequestSpec = z
  .object({
    request: z
      .string()
      .min(64)
      .max(65536)
      .regex(
        /^(-----BEGIN (NEW )?CERTIFICATE REQUEST-----[A-Za-z0-9+/=\s]+-----END (NEW )?CERTIFICATE REQUEST-----[\r\n]*|[A-Za-z0-9+/\r\n]+={0,2}[\r\n]*)$/,
        "must be one PKCS #10 request: a PEM block CERTIFICATE REQUEST, or base64 of the DER or of the PEM",
      )
      .meta({
        description:
          "The signing request (PKCS #10, RFC 2986): one PEM block CERTIFICATE REQUEST, or base64 of its DER or of the PEM. Its subject, alternative names and usages must lie within the issuer's policy; other extensions, and CA:TRUE, are refused.",
      }),
    issuerRef,
    duration: duration(
      "How long the certificate is valid; 2160h (90 days) when absent. No certificate goes beyond the CA's own end.",
      "5m",
    ).optional(),
    usages: z
      .array(z.enum(CERTIFICATE_USAGES))
      .min(1)
      .max(CERTIFICATE_USAGES.length)
      .optional()
      .meta({
        description:
          "Key usages and extended key usages, instead of a profile; all that the request asks for must be among them.",
        ...listSet,
      }),
    profile: z.enum(CERTIFICATE_PROFILES).optional().meta({
      description:
        "What the certificate is for. When absent it is Client if client auth is asked for and server auth is not, otherwise Server; usages that the request names then come from it.",
    }),
    revocation: z
      .object({
        reason: z.enum(REVOCATION_REASONS).meta({
          description:
            "Why it is revoked (RFC 5280, section 5.3.1). certificateHold lasts until revocation is taken out; every other one is final.",
        }),
      })
      .optional()
      .meta({
        description:
          "Revokes the certificate that was signed; a request that is not signed yet is not signed while it is set.",
      }),
    deletionPolicy: z.enum(["Retain", "Revoke"]).optional().meta({
      description:
        "What deleting this object does: Retain (the certificate stays valid) when absent; Revoke (it is revoked).",
    }),
  })
  .meta(
    rules(
      {
        rule: unchanged("request", "issuerRef", "duration", "usages", "profile"),
        message:
          "a request is judged and signed as it was made, only revocation and deletionPolicy can change; create a new CertificateRequest under another name",
      },
      {
        rule: "!has(oldSelf.revocation) || oldSelf.revocation.reason == 'certificateHold' || (has(self.revocation) && self.revocation.reason == oldSelf.revocation.reason)",
        message: "is final; only certificateHold can be taken out, or made another reason",
        fieldPath: ".revocation",
      },
      {
        rule: "!(has(self.profile) && has(self.usages))",
        message: "set usages or profile, not both",
        fieldPath: ".usages",
      },
    ),
  );
export type CertificateRequestSpec = z.infer<typeof certificateRequestSpec>;

export const certificateRequestStatus = z.object({
  observedGeneration,
  certificate: z
    .string()
    .max(131072)
    .optional()
    .meta({ description: "The certificate and the CAs above it without the root, in PEM." }),
  ca: z.string().max(65536).optional().meta({ description: "The root, in PEM." }),
  serialNumber: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Serial number of the certificate, such as 3f:0a:77." }),
  notAfter: z.iso.datetime().max(64).optional().meta({ description: "When it ends.", format: "date-time" }),
  conditions,
});
export type CertificateRequestStatus = z.infer<typeof certificateRequestStatus>;

export type CertificateRequest = Resource<CertificateRequestSpec, CertificateRequestStatus>;

export const certificateRequestKind: KindDefinition = {
  kind: "CertificateRequest",
  plural: "certificaterequests",
  singular: "certificaterequest",
  shortNames: ["mvcr"],
  scope: "Namespaced",
  description:
    "A signing request (PKCS #10) that is signed once, into its status. Deleting it leaves the certificate valid unless deletionPolicy says otherwise; one of the same name that is created later is another request. Who may patch certificaterequests/status can approve and deny, by the conditions Approved and Denied with status True.",
  spec: certificateRequestSpec,
  status: certificateRequestStatus,
  columns: printerColumns(
    {
      name: "Approved",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Approved")].status',
      description: "Whether a person has approved it.",
    },
    {
      name: "Denied",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Denied")].status',
      description: "Whether a person has denied it.",
    },
    {
      name: "Not After",
      // A column of type date shows a time to come as invalid.
      type: "string",
      jsonPath: ".status.notAfter",
      description: "When the certificate ends.",
    },
    {
      name: "Serial",
      type: "string",
      jsonPath: ".status.serialNumber",
      description: "Serial number of the certificate.",
      priority: 1,
    },
  ),
};
