import type { Verb } from "./policy.ts";

export type Role = "admin" | "operator" | "auditor" | "reader";

/** Who asks; immutable identities, never display names. */
export type Subject =
  | {
      readonly kind: "LocalUser";
      readonly id: string;
      readonly email: string;
      /** In the whole installation. */
      readonly role?: Role;
    }
  | { readonly kind: "ServiceAccount"; readonly namespace: string; readonly name: string; readonly uid: string }
  /** Of a client certificate: its subject's common name or URI, and its SHA-256. */
  | { readonly kind: "Client"; readonly name: string; readonly fingerprint: string }
  | {
      readonly kind: "External";
      readonly provider: string;
      readonly tenant: string;
      readonly objectId: string;
      readonly appRoles: readonly string[];
      readonly groups: readonly string[];
    };

/** A subject as it came in: an API key narrows what its owner may do. */
export interface Authenticated {
  readonly subject: Subject;
  readonly via: "Password" | "Token" | "ApiKey" | "ServiceAccountToken" | "ClientCertificate";
  /** All that the subject may do when absent. */
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
