/** What a cluster has of objects that the database knows of, as far as it takes to tell whether they are there. */
import type { PresentObject } from "../recovery/home.ts";

export const recoveredKinds = [
  "Namespace",
  "Secret",
  "Issuer",
  "ClusterIssuer",
  "Certificate",
  "CertificateRequest",
  "SyncRule",
  "Gateway",
  "GatewayEnvironment",
  "AuditSink",
] as const;
export type RecoveredKind = (typeof recoveredKinds)[number];

/** A Secret is one of its project and environment. */
export interface ClusterObject extends PresentObject {
  readonly project?: string;
  readonly environment?: string;
}

/** Throws `Unavailable` when the API server does not answer. */
export interface ClusterObjects {
  /** UID of the namespace kube-system. */
  clusterUid(): Promise<string>;
  /** Those that are not being deleted, page by page. */
  list(kind: RecoveredKind): AsyncIterable<ClusterObject>;
}
