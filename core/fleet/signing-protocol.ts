/** What gateways ask the CAs of their primary for; JSON, judged by these schemas on arrival. What is not understood may limit it, and is refused. */
import { z } from "zod";
import { REVOCATION_REASONS } from "../../crds/certificate.ts";
import { objectName } from "../../crds/common.ts";
import { CERTIFICATE_PROFILES } from "../../crds/names.ts";
import { keyUsages } from "../pki/extension.ts";

export const SIGNING_ROUTES = {
  issuer: "/fleet/v1/certificate-issuers",
  sign: "/fleet/v1/certificate-requests",
  revoke: "/fleet/v1/certificate-requests/revocation",
} as const;

/** Each gateway may have nothing but what belongs to the cluster sign: an Issuer is of a namespace there. */
const issuer = z.strictObject({ kind: z.literal("ClusterIssuer"), name: objectName });

const pem = z.string().min(64).max(65_536);

export const issuerQuestion = z.strictObject({ issuer });

/** PEM: the CA's certificate first, the root last. */
export const issuerAnswer = z.object({ certificates: z.string().max(524_288) });

const DAY_SECONDS = 86_400;

export const signingRequest = z.strictObject({
  /** Whoever repeats it gets the same certificate. */
  id: z.uuid(),
  issuer,
  /** PKCS #10 (RFC 2986), PEM: its names, and the key that has signed it. */
  csr: pem,
  profile: z.enum(CERTIFICATE_PROFILES),
  /** Names of RFC 5280, section 4.2.1.3, and dotted OIDs; instead of what the CSR says of them. */
  usages: z.strictObject({
    keyUsage: z.array(z.enum(keyUsages)).max(keyUsages.length),
    extendedKeyUsage: z
      .array(
        z
          .string()
          .max(128)
          .regex(/^\d+(\.\d+)+$/, "must be a dotted OID"),
      )
      .max(32),
  }),
  durationSeconds: z
    .int()
    .min(60)
    .max(20_000 * DAY_SECONDS),
  /** The object in the gateway's cluster; for the record. */
  requester: z.strictObject({
    kind: z.enum(["Certificate", "CertificateRequest"]),
    namespace: z.string().min(1).max(63),
    name: z.string().min(1).max(253),
    uid: z.string().min(1).max(64),
  }),
});
export type SigningRequest = z.infer<typeof signingRequest>;

/** PEM: the certificate first, the root last. */
export const signingAnswer = issuerAnswer;

/** removeFromCRL ends a hold (RFC 5280, section 5.3.1). */
export const revocationReason = z.enum([...REVOCATION_REASONS, "removeFromCRL"]);

export const revocationRequest = z.strictObject({
  id: z.uuid(),
  /** Lower-case hex without separators. */
  serialNumber: z
    .string()
    .max(64)
    .regex(/^([0-9a-f]{2})+$/, "must be bytes in lower-case hexadecimal, such as 3f0a77"),
  reason: revocationReason,
});
export type RevocationRequest = z.infer<typeof revocationRequest>;
