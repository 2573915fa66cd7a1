/** What the issuer that an object refers to is to that object. */
import type { NamespaceFacts } from "../../core/access/admission.ts";
import { parseCaCertificate } from "../../core/pki/certificate.ts";
import type { NameConstraints } from "../../core/pki/general-name.ts";
import type { IssuePolicy } from "../../core/pki/profile.ts";
import type { AuthorityIdentity, AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { IssuerRef } from "../../crds/certificate.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { AnyIssuer, IssuerApproval } from "../../crds/issuer.ts";
import type { Cluster } from "../cluster.ts";
import { issuePolicy, listsNamespace } from "./spec.ts";
import { type AllowedBelow, allowedBelow, type Refused, subjectOf } from "./subordinate.ts";

export type ReferredIssuer =
  | {
      readonly kind: "Usable";
      readonly authority: AuthorityRecord;
      /** Undefined: that of the primary's issuer alone counts. */
      readonly policy: IssuePolicy | undefined;
      /** What it allows of CAs of that namespace. */
      readonly subordinates: AllowedBelow | Refused;
      /** Of CertificateRequests. */
      readonly approval: IssuerApproval;
    }
  | {
      readonly kind: "Unusable";
      readonly authorityId: string | undefined;
      /** It can still come by itself. */
      readonly waiting: boolean;
      readonly reason: Reason;
      readonly message: string;
    };

/** The CA that is meant, for an object of that namespace. */
export const issuerIdentity = ({ kind = "Issuer", name }: IssuerRef, namespace: NamespaceFacts): AuthorityIdentity =>
  kind === "ClusterIssuer"
    ? { kind, namespace: "", namespaceUid: "", name }
    : { kind, namespace: namespace.name, namespaceUid: namespace.uid, name };

/**
 * @param namespace of the object that refers to it
 * @param authority of `issuerIdentity`
 */
export function referredIssuer(
  cluster: Cluster,
  { kind = "Issuer", name }: IssuerRef,
  namespace: NamespaceFacts,
  authority: AuthorityRecord | undefined,
): ReferredIssuer {
  const ofCluster = kind === "ClusterIssuer";
  const issuer: AnyIssuer | undefined = ofCluster ? cluster.clusterIssuer(name) : cluster.issuer(namespace.name, name);
  const unusable = { kind: "Unusable", authorityId: authority?.id } as const;
  if (issuer === undefined) {
    const message = `spec.issuerRef: there is no ${kind} ${name} yet; apply it`;
    return { ...unusable, waiting: true, reason: "IssuerNotFound", message };
  }
  if (ofCluster && !listsNamespace(cluster.clusterIssuer(name)?.spec.namespaces, namespace)) {
    const message =
      `spec.issuerRef: ClusterIssuer ${name} does not admit namespace ${namespace.name}; ` +
      "its owner can add it to its spec.namespaces";
    return { ...unusable, waiting: false, reason: "IssuerNotAllowed", message };
  }
  // Who may have the primary sign is for the cluster to say, also where its rules came after the object.
  if (!ofCluster && (issuer.spec.primary !== undefined || authority?.primaryIssuer !== undefined)) {
    const message = `spec.issuerRef: Issuer ${name} cannot have the primary sign; refer to a ClusterIssuer`;
    return { ...unusable, waiting: false, reason: "IssuerNotAllowed", message };
  }
  if (authority === undefined || !isReady(authority)) {
    const message = `spec.issuerRef: ${kind} ${name} has no certificate of its own yet; its conditions say why`;
    return { ...unusable, waiting: true, reason: "IssuerNotReady", message };
  }
  const approval = issuer.spec.policy?.approval ?? "Automatic";
  if (authority.primaryIssuer !== undefined) {
    const policy = issuer.spec.policy && { ...issuePolicy(issuer.spec), ownSubject: subjectOf(authority) };
    const refusal = `${kind} ${name} has the primary sign, which signs no CA for a gateway`;
    return { kind: "Usable", authority, policy, subordinates: { refusal }, approval };
  }
  const caConstraints = constraintsOf(authority);
  const policy = { ...issuePolicy(issuer.spec), caConstraints, ownSubject: subjectOf(authority) };
  const subordinates = allowedBelow(issuer, authority, namespace);
  return { kind: "Usable", authority, policy, subordinates, approval };
}

export function constraintsOf({ generations }: AuthorityRecord): readonly NameConstraints[] {
  const { certificate, chain } = generations.at(-1) ?? { chain: [] };
  const path = certificate === undefined ? [] : [certificate, ...chain];
  return path.flatMap((der) => parseCaCertificate(der).nameConstraints ?? []);
}

const isReady = ({ state, generations }: AuthorityRecord): boolean =>
  state === "Active" && generations.at(-1)?.certificate !== undefined;
