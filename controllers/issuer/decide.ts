/** What to do for one Issuer or ClusterIssuer: its CA, and what to say of it. Pure. */
import type { NamespaceFacts } from "../../core/access/admission.ts";
import { durationMs } from "../../core/duration.ts";
import { type AuthoritySpec, differenceFrom, newest } from "../../core/pki/authority.ts";
import { isInstalled, judgeExternal } from "../../core/pki/external-ca.ts";
import { nameConstraints } from "../../core/pki/general-name.ts";
import { lintCertificate } from "../../core/pki/lint/certificate.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { encodeName, fromSubject } from "../../core/pki/name.ts";
import type { AuthorityIdentity, AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { AnyIssuer } from "../../crds/issuer.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";
import { decideOfPrimary, type ObservedPrimary, type PrimaryAction } from "./primary.ts";
import { type GatewayRevocation, type RevokeAction, withRevocations } from "./revocations.ts";
import { keySpec, present } from "./spec.ts";
import { caFields, seconds } from "./status.ts";
import { limitsBelow, writtenConstraints } from "./subordinate.ts";

/** Looked up only while the CA has no certificate. */
export interface ObservedParent {
  readonly issuer: AnyIssuer | undefined;
  readonly authority: AuthorityRecord | undefined;
}

export interface Observed {
  readonly identity: AuthorityIdentity;
  /** Undefined for a ClusterIssuer. */
  readonly namespace: NamespaceFacts | undefined;
  readonly authority: AuthorityRecord | undefined;
  /** Undefined for a root, and for a CA that has its certificate. */
  readonly parent: ObservedParent | undefined;
  /** Of an external CA: its request in PEM, as it was made once. */
  readonly request: string | undefined;
  /** Where revocations are published; undefined when the installation has no URL for it. */
  readonly publishedAt: string | undefined;
  /** Why no CRL is made any more: what it would say was tampered with. */
  readonly unpublished: string | undefined;
  /** Of an issuer that has the primary sign. */
  readonly primary?: ObservedPrimary;
  /** What it signed for gateways and is to revoke. */
  readonly revocations?: readonly GatewayRevocation[];
}

type CaAction =
  | { readonly kind: "Ensure"; readonly spec: Omit<AuthoritySpec, "actor"> }
  | PrimaryAction
  /** Of an external CA: makes its request. */
  | { readonly kind: "Request"; readonly authority: AuthorityRecord }
  /** Of an external CA: what came back, in PEM. */
  | { readonly kind: "Install"; readonly authority: AuthorityRecord; readonly certificate: string };

export type Action = CaAction | RevokeAction;

const WAITING_FOR_CERTIFICATE =
  "have status.certificateSigningRequest signed by the CA above, and put its certificate, then those above it up to the " +
  "root, into spec.ca.external.certificate";
const DEFAULT_INTERVAL = "24h";
const ROOT_DURATION = "87600h";
const SUBORDINATE_DURATION = "43800h";
/** A watch wakes the object when the issuer above changes; this is only the safety net. */
const PARENT_RECHECK_MS = 60_000;

export const decide = (issuer: AnyIssuer, seen: Observed, now: Date): Plan<Action> =>
  withRevocations(decideCa(issuer, seen, now), seen.revocations ?? []);

function decideCa(issuer: AnyIssuer, seen: Observed, now: Date): Plan<CaAction> {
  const { authority, primary } = seen;
  if (primary !== undefined) return decideOfPrimary(issuer, { ...seen, primary }, now);
  let wanted: Omit<AuthoritySpec, "actor">;
  try {
    wanted = wantedAuthority(issuer, seen.identity);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return stalled(seen, "SubjectInvalid", `spec.ca.${error.message}`);
  }
  const { external } = issuer.spec.ca ?? {};
  if (external === undefined && (authority === undefined || newest(authority).certificate === undefined)) {
    return certify(issuer, seen, wanted, now);
  }
  const difference = authority && differenceFrom(authority, wanted);
  if (difference !== undefined) return stalled(seen, "AuthorityDiffers", difference);
  if (authority === undefined) return ensuring(wanted);
  if (!isSettled(authority, wanted)) return underWay({ kind: "Ensure", spec: wanted }, seen, authority, now);
  return external === undefined
    ? { actions: [], ...statusOf(seen, authority, now) }
    : certifiedElsewhere(issuer, external.certificate, seen, authority, now);
}

const ensuring = (spec: Omit<AuthoritySpec, "actor">): Plan<CaAction> => ({
  actions: [{ kind: "Ensure", spec }],
  status: { conditions: [missing("Progressing", "the CA is being made")] },
  next: { kind: "settled" },
});

/** What holds goes on holding meanwhile. */
function underWay(action: CaAction, seen: Observed, authority: AuthorityRecord, now: Date): Plan<CaAction> {
  if (newest(authority).certificate !== undefined) return { actions: [action], ...statusOf(seen, authority, now) };
  const conditions = [missing("Progressing", "the CA is being made")];
  return { actions: [action], status: { fields: fieldsOf(seen, authority), conditions }, next: { kind: "settled" } };
}

const isSettled = ({ state, revocation }: AuthorityRecord, wanted: Omit<AuthoritySpec, "actor">): boolean =>
  state === "Active" &&
  revocation.crlEveryMs === wanted.revocation.crlEveryMs &&
  revocation.ocspValidityMs === wanted.revocation.ocspValidityMs;

function certifiedElsewhere(
  issuer: AnyIssuer,
  given: string | undefined,
  seen: Observed,
  authority: AuthorityRecord,
  now: Date,
): Plan<CaAction> {
  if (seen.request === undefined) return underWay({ kind: "Request", authority }, seen, authority, now);
  const generation = newest(authority);
  if (given === undefined && generation.certificate === undefined) {
    const fields = fieldsOf(seen, authority);
    const conditions = [missing("WaitingForCertificate", WAITING_FOR_CERTIFICATE), published(seen)];
    return { actions: [], status: { fields, conditions }, next: { kind: "settled" } };
  }
  if (given === undefined || isInstalled(given, generation)) return { actions: [], ...statusOf(seen, authority, now) };
  try {
    const { pathLength } = judgeExternal(given, generation, now);
    if (pathLength !== 0 || issuer.spec.policy?.allowSubordinates === undefined) {
      return underWay({ kind: "Install", authority, certificate: given }, seen, authority, now);
    }
    const message =
      "spec.ca.external.certificate: its path length allows no CA below it; have it signed with a longer one, or remove " +
      "spec.policy.allowSubordinates";
    return refusing(seen, authority, message, now);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return refusing(seen, authority, `spec.ca.${error.message}`, now);
  }
}

/** A CA that has a certificate goes on with that. */
function refusing(seen: Observed, authority: AuthorityRecord, message: string, now: Date): Plan<CaAction> {
  const next = { kind: "stalled", reason: "CertificateRefused", message } as const;
  if (newest(authority).certificate !== undefined) return { actions: [], ...statusOf(seen, authority, now), next };
  const conditions = [missing("CertificateRefused", message), published(seen)];
  return { actions: [], status: { fields: fieldsOf(seen, authority), conditions }, next };
}

function certify(issuer: AnyIssuer, seen: Observed, wanted: Omit<AuthoritySpec, "actor">, now: Date): Plan<CaAction> {
  const { parentRef } = issuer.spec.ca ?? {};
  if (parentRef === undefined) return ensuring(wanted);
  const parent = seen.parent ?? { issuer: undefined, authority: undefined };
  const at = `${parentRef.kind} ${parentRef.name}`;
  if (parent.issuer === undefined) {
    return waiting(seen, "IssuerNotFound", `spec.ca.parentRef: there is no ${at} yet; apply it`, now);
  }
  const notAfter = parent.authority && newest(parent.authority).notAfter;
  if (parent.authority === undefined || notAfter === undefined || notAfter <= now) {
    const message = `spec.ca.parentRef: ${at} has no valid certificate of its own yet; its conditions say why`;
    return waiting(seen, "IssuerNotReady", message, now);
  }
  const { subject, durationMs: duration, nameConstraints: requested } = wanted;
  const below = { subject, durationMs: duration, nameConstraints: requested };
  const limits = limitsBelow(parent.issuer, parent.authority, below, seen.namespace);
  if ("refusal" in limits) return stalled(seen, "SubordinateNotAllowed", limits.refusal);
  const { nameConstraints: _, ...rest } = wanted;
  return ensuring({
    ...rest,
    pathLength: limits.pathLength,
    ...(limits.nameConstraints && { nameConstraints: limits.nameConstraints }),
    parent: { kind: "Authority", authority: parent.authority },
  });
}

/** What the manifest asks for, as of a root. */
function wantedAuthority({ spec }: AnyIssuer, identity: AuthorityIdentity): Omit<AuthoritySpec, "actor"> {
  const { ca, revocation } = spec;
  if (ca === undefined) throw new MalformedInput("ca", "is missing");
  const subject = fromSubject(present(ca.subject));
  // What cannot be encoded is told before anything is made.
  encodeName(subject, "subject");
  const constraints = nameConstraints(writtenConstraints(ca.nameConstraints));
  const lasting = ca.duration ?? (ca.parentRef === undefined ? ROOT_DURATION : SUBORDINATE_DURATION);
  return {
    identity,
    subject,
    key: keySpec(ca.key),
    durationMs: durationMs(lasting),
    ...(constraints && { nameConstraints: constraints }),
    revocation: {
      crlEveryMs: durationMs(revocation?.crl?.every ?? DEFAULT_INTERVAL),
      ocspValidityMs: durationMs(revocation?.ocsp?.validity ?? DEFAULT_INTERVAL),
    },
    parent: { kind: ca.external === undefined ? "Self" : "External" },
  };
}

/** What is known of the CA, also while it has no certificate. */
const fieldsOf = ({ request }: Observed, authority: AuthorityRecord): Readonly<Record<string, unknown>> => ({
  ...caFields(authority),
  ...(request !== undefined && { certificateSigningRequest: request }),
});

function statusOf(seen: Observed, authority: AuthorityRecord, now: Date): Omit<Plan<CaAction>, "actions"> {
  const { certificate, notAfter, chain } = newest(authority);
  if (certificate === undefined || notAfter === undefined)
    throw new TypeError("a CA without a certificate has no status");
  const fields = fieldsOf(seen, authority);
  if (notAfter <= now) {
    const fix =
      seen.request === undefined
        ? "create an issuer under another name and refer to that"
        : "have status.certificateSigningRequest signed again and set spec.ca.external.certificate";
    const message = `the CA ended at ${seconds(notAfter)}; ${fix}`;
    const status = { fields, conditions: [missing("IssuerExpired", message), published(seen)] };
    return { status, next: { kind: "stalled", reason: "IssuerExpired", message } };
  }
  const issued: OwnedCondition = {
    type: "Issued",
    status: "True",
    reason: "Succeeded",
    message: `the CA has a certificate until ${seconds(notAfter)}`,
  };
  // What has a fault is not recorded as issued; a signer elsewhere may have done what is not good, yet no fault.
  const findings =
    seen.request === undefined ? [] : lintCertificate(certificate, { issuer: chain[0] ?? certificate, urls: false });
  const linted: OwnedCondition = {
    type: "Linted",
    status: "True",
    reason: "Succeeded",
    message:
      findings.length === 0
        ? "the check before it left found no fault"
        : `no fault, but: ${findings.map(({ code, message }) => `${message} (${code})`).join("; ")}`,
  };
  return {
    status: { fields, conditions: [issued, linted, published(seen)] },
    next: { kind: "recheckAt", at: notAfter },
  };
}

const missing = (reason: Reason, message: string): OwnedCondition => ({
  type: "Issued",
  status: "False",
  reason,
  message,
});

function published({ publishedAt, unpublished }: Observed): OwnedCondition {
  if (unpublished !== undefined) {
    return { type: "Published", status: "False", reason: "TamperDetected", message: unpublished };
  }
  return publishedAt === undefined
    ? {
        type: "Published",
        status: "False",
        reason: "NotRequested",
        message:
          "the installation has no pki.baseUrl, so certificates do not say where their revocation can be checked",
      }
    : {
        type: "Published",
        status: "True",
        reason: "Available",
        message: `certificates say that CRL and OCSP are below ${publishedAt}`,
      };
}

function stalled(seen: Observed, reason: Reason, message: string): Plan<CaAction> {
  return {
    actions: [],
    status: { conditions: [missing(reason, message), published(seen)] },
    next: { kind: "stalled", reason, message },
  };
}

function waiting(seen: Observed, reason: Reason, message: string, now: Date): Plan<CaAction> {
  return {
    actions: [],
    status: { conditions: [missing(reason, message), published(seen)] },
    next: { kind: "recheckAt", at: new Date(now.getTime() + PARENT_RECHECK_MS) },
  };
}
