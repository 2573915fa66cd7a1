/**
 * What gateways hold of their primary: secrets, certificates, and what is granted on them. Each is an item, a key and a text; the digest of a
 * whole replica is the same however it came about, so both sides compute it from what changed alone.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { encodeFields } from "../canonical.ts";

export interface ReplicaItem {
  /** `secret/NAMESPACE/NAME`, `certificate/NAMESPACE/NAME`, `project/NAME` or `policy/NAMESPACE/NAME`. */
  readonly key: string;
  /** JSON. */
  readonly body: string;
}

export interface Digested extends ReplicaItem {
  /** 32 bytes. */
  readonly digest: Buffer;
}

export interface PlaceOfItem {
  readonly namespace: string;
  readonly name: string;
}

export const secretKey = ({ namespace, name }: PlaceOfItem): string => `secret/${namespace}/${name}`;
export const certificateKey = ({ namespace, name }: PlaceOfItem): string => `certificate/${namespace}/${name}`;
export const projectKey = (name: string): string => `project/${name}`;
export const policyKey = ({ namespace, name }: PlaceOfItem): string => `policy/${namespace}/${name}`;

export const isSecretKey = (key: string): boolean => key.startsWith("secret/");
export const isCertificateKey = (key: string): boolean => key.startsWith("certificate/");
/** Of what values belong to, which are asked for apart from it and stored sealed; everything else is a grant. */
export const isValuedKey = (key: string): boolean => isSecretKey(key) || isCertificateKey(key);

export function digested(key: string, body: string): Digested {
  const digest = createHash("sha256")
    .update(encodeFields("mazevault replica item", [key, body]))
    .digest();
  return { key, body, digest };
}

/** Of nothing. */
export const noDigest = (): Buffer => Buffer.alloc(32);

/** Takes an item in, or out again, in place. Items come from the primary alone, so nobody can choose them to collide. */
export function fold(sum: Buffer, { digest }: Pick<Digested, "digest">): void {
  for (let at = 0; at < sum.length; at += 1) sum[at] = (sum[at] ?? 0) ^ (digest[at] ?? 0);
}

const text = z.string();

/** A secret without its values. Fields that a newer primary adds are not looked at. */
export const replicatedSecret = z.object({
  /** Of its row at the primary. */
  id: z.uuid(),
  project: text,
  environment: text,
  namespace: text,
  namespaceUid: text,
  name: text,
  version: z.int().positive(),
  /** Decimal digits. */
  generation: z.string().regex(/^\d{1,19}$/),
  entries: z.array(z.object({ key: text, source: text })),
  protection: z.enum(["Managed", "EndToEnd"]),
  readers: z.array(z.object({ name: text, publicKey: text })).optional(),
  /** Hex; other values have another one. */
  values: text,
});
export type ReplicatedSecret = z.infer<typeof replicatedSecret>;

/** A certificate without its chain and its private key, which are its values. */
export const replicatedCertificate = z.object({
  /** Of its object at the primary. */
  uid: text,
  namespace: text,
  namespaceUid: text,
  name: text,
  /** Kind and name. */
  issuer: text,
  revision: z.int().positive(),
  /** As `status.serialNumber` has it; another certificate has another one. */
  serialNumber: text,
  notBefore: text.optional(),
  notAfter: text.optional(),
  renewalTime: text.optional(),
});
export type ReplicatedCertificate = z.infer<typeof replicatedCertificate>;

/** Names of a certificate's values: PEM of the certificate and of the CAs above it, the root last; PKCS #8 in PEM. */
export const CHAIN = "chain";
export const PRIVATE_KEY = "key";

const names = z.array(text);
const subjects = z.array(z.record(z.string(), z.record(z.string(), text)));
/** Roles and verbs of a later version grant nothing here, see `core/access/grant.ts`. */
const granted = {
  environments: names,
  role: text.optional(),
  verbs: names.optional(),
  secrets: names.optional(),
  certificates: names.optional(),
  issuers: names.optional(),
};

/** As far as it is about the gateway's environment. What it says of others is left out, and items of lists keep their places. */
export const replicatedProject = z.object({
  name: text,
  environments: names,
  /** Those that it admits, each once. */
  namespaces: z.array(z.object({ name: text, uid: text, environments: names })),
  access: z.array(z.object({ subjects, ...granted })),
});
export type ReplicatedProject = z.infer<typeof replicatedProject>;

export const replicatedPolicy = z.object({
  namespace: text,
  name: text,
  subjects,
  rules: z.array(z.object({ projects: names, ...granted })),
});
export type ReplicatedPolicy = z.infer<typeof replicatedPolicy>;
