/** Whether a gateway may have an issuer of the primary sign what it asks for. Pure. */
import type { Member } from "../../core/fleet/member.ts";
import type { SigningRequest } from "../../core/fleet/signing-protocol.ts";
import { newest } from "../../core/pki/authority.ts";
import { CsrError } from "../../core/pki/csr.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { checkAgainstPolicy, type IssuePolicy } from "../../core/pki/profile.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { CertificateRequestSpec } from "../../crds/certificaterequest.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { ClusterIssuer } from "../../crds/issuer.ts";
import { type RequestedCertificate, requestedCertificate } from "../certificaterequest/request.ts";
import { constraintsOf } from "../issuer/reference.ts";
import { issuePolicy } from "../issuer/spec.ts";
import { subjectOf } from "../issuer/subordinate.ts";

export interface Refused {
  readonly kind: "Refused";
  /** It can still come by itself. */
  readonly waiting: boolean;
  readonly code: Reason;
  readonly message: string;
}

export interface SignsForGateways {
  readonly kind: "Usable";
  readonly authority: AuthorityRecord;
  readonly policy: IssuePolicy;
}

export interface Allowed {
  readonly kind: "Allowed";
  readonly authority: AuthorityRecord;
  readonly wanted: RequestedCertificate;
}

const refused = (code: Reason, message: string, waiting = false): Refused => ({
  kind: "Refused",
  waiting,
  code,
  message,
});

/**
 * Whether gateways of that environment may have it sign at all. Whether an issuer exists that does not admit them is not told.
 *
 * @param authority of that issuer
 */
export function issuerForGateway(
  { environment }: Pick<Member, "environment">,
  name: string,
  issuer: ClusterIssuer | undefined,
  authority: AuthorityRecord | undefined,
): SignsForGateways | Refused {
  const at = `ClusterIssuer ${name}`;
  if (issuer?.spec.gatewayEnvironments?.includes(environment) !== true) {
    return refused(
      "IssuerNotAllowed",
      `there is no ${at}, or its spec.gatewayEnvironments does not list ${environment}; its owner can add it`,
    );
  }
  if (issuer.spec.policy?.approval === "Manual") {
    return refused(
      "IssuerNotAllowed",
      `spec.policy.approval of ${at} is Manual, and for what a gateway asks there is no object that a person could approve; use another issuer`,
    );
  }
  if (authority?.state !== "Active" || newest(authority).certificate === undefined) {
    return refused("IssuerNotReady", `${at} has no certificate of its own yet; its conditions say why`, true);
  }
  const policy = withoutNamespaces(issuePolicy(issuer.spec));
  const own = { caConstraints: constraintsOf(authority), ownSubject: subjectOf(authority) };
  return { kind: "Usable", authority, policy: { ...policy, ...own } };
}

/** The request, judged by the issuer's policy as any other. */
export function judgeForGateway({ authority, policy }: SignsForGateways, request: SigningRequest): Allowed | Refused {
  const at = `ClusterIssuer ${request.issuer.name}`;
  let wanted: RequestedCertificate;
  try {
    wanted = wantedBy(request);
  } catch (error) {
    if (error instanceof CsrError) return refused("RequestInvalid", `csr: ${error.message}`);
    if (error instanceof MalformedInput) return refused("RequestInvalid", error.message);
    throw error;
  }
  const violations = checkAgainstPolicy(wanted, policy, { namespace: "" });
  if (violations.length === 0) return { kind: "Allowed", authority, wanted };
  const list = violations.map(({ field, message }) => `${field}: ${message}`).join("; ");
  return refused("PolicyViolated", `spec.policy of ${at} does not allow it: ${list}`);
}

/** What the gateway says of profile and usages counts instead of what the CSR says, which it has judged for its own objects. */
function wantedBy({ csr, profile, usages, durationSeconds }: SigningRequest): RequestedCertificate {
  const spec = { request: csr, duration: `${durationSeconds}s` } as CertificateRequestSpec;
  return { ...requestedCertificate(spec), profile, usages };
}

/** A pattern with {namespace} is about namespaces of this cluster, which a gateway's are not. */
function withoutNamespaces(policy: IssuePolicy): IssuePolicy {
  const plain = (patterns: readonly string[]) => patterns.filter((pattern) => !pattern.includes("{namespace}"));
  const { dnsNames, uris, emailDomains, commonNames, subject } = policy;
  const attributes = Object.entries(subject ?? {}).map(([field, values]) => [field, plain(values)]);
  return {
    ...policy,
    ...(dnsNames && { dnsNames: plain(dnsNames) }),
    ...(uris && { uris: plain(uris) }),
    ...(emailDomains && { emailDomains: plain(emailDomains) }),
    ...(commonNames && { commonNames: plain(commonNames) }),
    ...(subject && { subject: Object.fromEntries(attributes) }),
  };
}
