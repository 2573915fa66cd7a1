/** Who asks, and by which names policies know them. */
import type { AccessSubject, Role, Verb } from "../../crds/access.ts";

export type { Role } from "../../crds/access.ts";

/** Who asks; immutable identities, never display names. */
export type Subject =
  /** `role` holds in the whole installation. */
  | { readonly kind: "LocalUser"; readonly id: string; readonly email: string; readonly role?: Role }
  | { readonly kind: "ServiceAccount"; readonly namespace: string; readonly name: string; readonly uid: string }
  /** A client certificate: common name or URI of its subject, SHA-256 over its DER in hexadecimal. */
  | { readonly kind: "Client"; readonly name: string; readonly fingerprint: string }
  /** Somebody whom an identity provider vouches for. */
  | {
      readonly kind: "External";
      readonly provider: string;
      readonly tenant: string;
      readonly objectId: string;
      readonly appRoles: readonly string[];
      readonly groups: readonly string[];
    };

/** A subject as it came in. */
export interface Authenticated {
  readonly subject: Subject;
  readonly via: "Password" | "Token" | "ApiKey" | "ServiceAccountToken" | "ClientCertificate";
  /** An API key narrows what its owner may do; absent: it does not. */
  readonly scopes?: readonly Verb[];
  /** Of the session, key or token, for the audit row. */
  readonly id: string;
}

/** The subject in audit rows and reasons, for example `LocalUser alice@example.com`. */
export function describeSubject(subject: Subject): string {
  switch (subject.kind) {
    case "LocalUser":
      return `LocalUser ${subject.email}`;
    case "ServiceAccount":
      return `ServiceAccount ${subject.namespace}/${subject.name}`;
    case "Client":
      return `Client ${subject.name}`;
    case "External":
      return `${subject.provider} ${subject.tenant}/${subject.objectId}`;
  }
}

/** What tells this subject from every other one, also from a later one of its name. */
export function immutableSubject(subject: Subject): readonly string[] {
  switch (subject.kind) {
    case "LocalUser":
      return [subject.kind, subject.id];
    case "ServiceAccount":
      return [subject.kind, subject.uid];
    case "Client":
      return [subject.kind, subject.fingerprint];
    case "External":
      return [subject.kind, subject.provider, subject.tenant, subject.objectId];
  }
}

/** The subject as a policy names it. */
export function describeAccessSubject({ localUser, serviceAccount, clientCertificate }: AccessSubject): string {
  if (localUser !== undefined) return `LocalUser ${localUser.id}`;
  if (serviceAccount !== undefined) return `ServiceAccount ${serviceAccount.namespace}/${serviceAccount.name}`;
  return `Client ${clientCertificate?.name ?? clientCertificate?.fingerprint}`;
}

/** Every name by which a policy can mean this subject. Policies cannot name External ones yet. */
export function subjectKeys(subject: Subject): readonly string[] {
  switch (subject.kind) {
    case "LocalUser":
      return [`LocalUser/${subject.id}`];
    case "ServiceAccount":
      return [`ServiceAccount/${subject.namespace}/${subject.name}`];
    case "Client":
      return [`Client/name/${subject.name}`, `Client/fingerprint/${canonicalFingerprint(subject.fingerprint)}`];
    case "External":
      return [];
  }
}

/** The name that a policy uses, in the form of `subjectKeys`; `undefined` for a kind that a later version brings. */
export function accessSubjectKey({ localUser, serviceAccount, clientCertificate }: AccessSubject): string | undefined {
  if (localUser !== undefined) return `LocalUser/${localUser.id}`;
  if (serviceAccount !== undefined) return `ServiceAccount/${serviceAccount.namespace}/${serviceAccount.name}`;
  const { name, fingerprint } = clientCertificate ?? {};
  if (name !== undefined) return `Client/name/${name}`;
  return fingerprint === undefined ? undefined : `Client/fingerprint/${canonicalFingerprint(fingerprint)}`;
}

const canonicalFingerprint = (fingerprint: string): string => fingerprint.replaceAll(":", "").toLowerCase();
