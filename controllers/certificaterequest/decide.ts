/**
 * What to do for one CertificateRequest, from what was observed.
 *
 *   (not signed) --judged, allowed, approved where the issuer wants it--> Issue --> issued <--Revoke, Release--> on hold
 *                                                                             --Revoke--> revoked, which is the end
 *
 * A person's word counts until it is signed; afterwards only its revocation changes, whatever becomes of the issuer. Before
 * all that comes RecordHolder: an object that disappeared can no longer say what is to become of its certificate.
 */
import { CsrError } from "../../core/pki/csr.ts";
import { generalNameToString } from "../../core/pki/general-name.ts";
import { MalformedInput, quoted } from "../../core/pki/malformed-input.ts";
import { nameToString } from "../../core/pki/name.ts";
import { checkAgainstPolicy, hours, namesOfUsages, type Violation } from "../../core/pki/profile.ts";
import type {
  AuthorityRecord,
  CertificateHolder,
  CertificateRecord,
  Revocation,
  RevocationReason,
} from "../../core/ports/pki-store.ts";
import type { CertificateRequest, CertificateRequestSpec } from "../../crds/certificaterequest.ts";
import type { Condition } from "../../crds/common.ts";
import type { Reason } from "../../crds/conditions.ts";
import { type Chain, certificatesPem, rootPem } from "../certificate/bundle.ts";
import { faultsOf, seconds, serialOf } from "../certificate/decide.ts";
import type { Refusal } from "../delivery/plan.ts";
import type { ReferredIssuer } from "../issuer/reference.ts";
import { present } from "../issuer/spec.ts";
import type { Next, OwnedCondition, OwnedStatus, Plan } from "../runtime/controller.ts";
import { type RequestedCertificate, requestedCertificate } from "./request.ts";

export type Observed = {
  readonly holder: CertificateHolder | undefined;
  /** By which the store knows the object. */
  readonly heldUid: string;
} & (
  | Issued
  /** It was signed so long ago that its record was removed; all that is left of it stands in status. */
  | { readonly kind: "Past" }
  | {
      readonly kind: "Open";
      readonly namespace: string;
      readonly namespaceUid: string;
      readonly issuer: ReferredIssuer;
    }
);

/** It is signed, and only its revocation is left to be decided. */
export interface Issued {
  readonly kind: "Issued";
  readonly record: CertificateRecord;
  readonly chain: Chain;
  /** Why the primary, whose CA signed it, will not revoke or release it, in this pass. */
  readonly refusedRevocation?: string;
}

interface Subject {
  readonly request: CertificateRequest;
}

export type Action =
  | (Subject & { readonly kind: "RecordHolder"; readonly holder: Omit<CertificateHolder, "delivery"> })
  | (Subject & { readonly kind: "Revoke"; readonly record: CertificateRecord; readonly reason: RevocationReason })
  | (Subject & { readonly kind: "ReleaseHold"; readonly record: CertificateRecord })
  | (Subject & {
      readonly kind: "Issue";
      readonly namespaceUid: string;
      readonly authority: AuthorityRecord;
      readonly wanted: RequestedCertificate;
    });

export type Outcome =
  | { readonly kind: "Holder"; readonly holder: CertificateHolder }
  | { readonly kind: "NotChanged"; readonly message: string }
  | Issued;

const HOLD: RevocationReason = "certificateHold";
/** A watch tells when an issuer changes; this is only the safety net. */
const ISSUER_RECHECK_MS = 60_000;
/** Names in a message; the request holds them all. */
const SHOWN = 10;

export function decide(request: CertificateRequest, seen: Observed, now: Date): Plan<Action> {
  if (seen.kind === "Past") return past(request);
  const plan = seen.kind === "Issued" ? issued(request, seen) : undecided(request, seen, now);
  const first = holderAction(request, seen);
  return first === undefined ? plan : { ...plan, actions: [first] };
}

/** Most requests go as Retain says, and need none. */
function holderAction(request: CertificateRequest, seen: Exclude<Observed, { kind: "Past" }>): Action | undefined {
  const { deletionPolicy = "Retain" } = request.spec;
  if (deletionPolicy === (seen.holder?.deletionPolicy ?? "Retain")) return undefined;
  const { namespace = "", name } = request.metadata;
  const { heldUid: uid } = seen;
  const namespaceUid = seen.kind === "Issued" ? seen.record.requester.namespaceUid : seen.namespaceUid;
  const holder = { kind: "CertificateRequest", uid, namespace, namespaceUid, name, deletionPolicy } as const;
  return { kind: "RecordHolder", request, holder };
}

function undecided(
  request: CertificateRequest,
  seen: Extract<Observed, { readonly kind: "Open" }>,
  now: Date,
): Plan<Action> {
  const denial = personal(request, "Denied");
  if (denial !== undefined) return refused("RequestDenied", `it was denied: ${quoted(denial.message)}`);
  if (request.spec.revocation !== undefined) {
    return refused("RequestWithdrawn", "spec.revocation is set, so it is not signed; take it out to have it signed");
  }
  const wanted = wantedOf(request.spec);
  if ("fault" in wanted) return refused("RequestInvalid", wanted.fault);
  const { issuer, namespace, namespaceUid } = seen;
  if (issuer.kind === "Unusable") {
    const at = new Date(now.getTime() + ISSUER_RECHECK_MS);
    const { reason, message, waiting } = issuer;
    return waiting ? pending(reason, message, { kind: "recheckAt", at }) : refused(reason, message);
  }
  const violations = issuer.policy === undefined ? [] : checkAgainstPolicy(wanted, issuer.policy, { namespace });
  if (violations.length > 0) {
    return refused("PolicyViolated", violations.map((violation) => sentence(request.spec, violation)).join("; "));
  }
  if (issuer.approval === "Manual" && personal(request, "Approved") === undefined) {
    return pending(
      "ApprovalPending",
      `waits for a person to set condition Approved or Denied; asked for: ${summary(wanted)}`,
      { kind: "settled" },
    );
  }
  const { authority } = issuer;
  const status = statusOf("Progressing", "it is to be signed");
  return { actions: [{ kind: "Issue", request, namespaceUid, authority, wanted }], status, next: { kind: "settled" } };
}

/** What a person said: status True only, since False and Unknown decide nothing. */
const personal = ({ status }: CertificateRequest, type: "Approved" | "Denied"): Condition | undefined =>
  status?.conditions?.find((condition) => condition.type === type && condition.status === "True");

function wantedOf(spec: CertificateRequestSpec): RequestedCertificate | { readonly fault: string } {
  try {
    return requestedCertificate(spec);
  } catch (error) {
    const fix = "create a new CertificateRequest";
    if (error instanceof CsrError) return { fault: `spec.request: ${error.message}; ${fix}` };
    if (error instanceof MalformedInput) return { fault: `spec.${error.message}; ${fix}` };
    throw error;
  }
}

/** Names stand in the request, the rest in fields of the manifest. */
function sentence({ usages }: CertificateRequestSpec, { field, message }: Violation): string {
  const written = field === "duration" || field === "profile" || (field === "usages" && usages !== undefined);
  return `${written ? "spec." : "spec.request: "}${field}: ${message}`;
}

/** What a person who approves has to know. */
function summary({ profile, subject, subjectAltNames, usages, durationMs }: RequestedCertificate): string {
  const names = subjectAltNames.slice(0, SHOWN).map((name) => quoted(generalNameToString(name)));
  const more = subjectAltNames.length > SHOWN ? `, and ${subjectAltNames.length - SHOWN} more` : "";
  return (
    `subject ${quoted(nameToString(subject))}, alternative names ${names.join(", ") || "none"}${more}, profile ${profile}, ` +
    `usages ${namesOfUsages(usages).join(", ")}, for ${hours(durationMs)}`
  );
}

function issued(request: CertificateRequest, { record, chain, refusedRevocation }: Issued): Plan<Action> {
  const refusal = refusedByPrimary(record, refusedRevocation);
  const action = refusal === undefined ? revocationAction(request, record) : undefined;
  const actions = action === undefined ? [] : [action];
  const told = refusal && ({ type: "Revoked", status: "False", ...refusal } as const);
  const revocation = told ?? revoked(request, record, action !== undefined);
  const faults = faultsOf(chain);
  if (faults !== "") {
    // Whoever has it already relies on it all the same, until it is revoked.
    const { status, next } = refused("LintFailed", `certificate ${serialOf(record)} is not handed out: ${faults}`);
    return { actions, status: { ...status, conditions: [...status.conditions, revocation] }, next };
  }
  const notAfter = seconds(record.notAfter);
  const condition: OwnedCondition = {
    type: "Issued",
    status: "True",
    reason: "Succeeded",
    message: `it was signed once, valid until ${notAfter}${revocationNote(record)}`,
  };
  const fields = {
    certificate: certificatesPem(chain),
    ca: rootPem(chain),
    serialNumber: serialOf(record),
    notAfter,
  };
  const conditions = [condition, revocation];
  const next: Next = refusal === undefined ? { kind: "settled" } : { kind: "stalled", ...refusal };
  return { actions, status: { conditions, fields }, next };
}

/** Asking again would not help. */
const refusedByPrimary = (record: CertificateRecord, message: string | undefined): Refusal | undefined =>
  message === undefined
    ? undefined
    : {
        reason: "SerialNumberUnknown",
        message: `spec.revocation: certificate ${serialOf(record)} cannot be revoked or released from here, since ${message}; have it done at the primary`,
      };

function past({ status = {} }: CertificateRequest): Plan<Action> {
  const { certificate, ca, serialNumber, notAfter } = status;
  const condition: OwnedCondition = {
    type: "Issued",
    status: "True",
    reason: "Succeeded",
    message: `it was signed once, valid until ${notAfter}`,
  };
  const fields = present({ certificate, ca, serialNumber, notAfter });
  return {
    actions: [],
    status: { conditions: [condition, ...standingRevocation(status.conditions)], fields },
    next: { kind: "settled" },
  };
}

/** What was told of its revocation while there was a record of it. */
const standingRevocation = (conditions: readonly Condition[] = []): OwnedCondition[] =>
  conditions
    .filter(({ type }) => type === "Revoked")
    .map(({ status, reason, message }) => ({ type: "Revoked", status, reason: reason as Reason, message }));

function revocationAction(request: CertificateRequest, record: CertificateRecord): Action | undefined {
  const reason = request.spec.revocation?.reason;
  const standing = record.revocation?.reason;
  if (reason === undefined) return standing === HOLD ? { kind: "ReleaseHold", request, record } : undefined;
  const due = standing === undefined || (standing === HOLD && reason !== HOLD);
  return due ? { kind: "Revoke", request, record, reason } : undefined;
}

function revocationNote({ revocation }: CertificateRecord): string {
  if (revocation === undefined) return "";
  return revocation.reason === HOLD
    ? ", and on hold: relying parties refuse it for now"
    : `, and revoked (${revocation.reason})`;
}

function revoked({ spec }: CertificateRequest, { revocation }: CertificateRecord, busy: boolean): OwnedCondition {
  const type = "Revoked";
  if (busy) return { type, status: "False", reason: "Progressing", message: "its revocation is being changed" };
  if (revocation !== undefined) {
    const message = `${revocation.reason === HOLD ? "on hold" : "revoked"} since ${seconds(revocation.at)}${unlike(spec, revocation)}`;
    return { type, status: "True", reason: "Succeeded", message };
  }
  return { type, status: "False", reason: "NotRequested", message: "spec.revocation is not set" };
}

/** What is revoked for good keeps its reason. */
const unlike = ({ revocation }: CertificateRequestSpec, { reason }: Revocation): string =>
  revocation === undefined || revocation.reason === reason ? "" : `, for the reason ${reason}, which is final`;

const statusOf = (reason: Reason, message: string): OwnedStatus => ({
  conditions: [{ type: "Issued", status: "False", reason, message }],
});

const pending = (reason: Reason, message: string, next: Next): Plan<Action> => ({
  actions: [],
  status: statusOf(reason, message),
  next,
});

const refused = (reason: Reason, message: string): Plan<Action> =>
  pending(reason, message, { kind: "stalled", reason, message });
