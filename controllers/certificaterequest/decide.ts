/**
 * What to do for one CertificateRequest, from what was observed.
 *
 *   (not signed) --judged, allowed, approved where the issuer wants it--> Issue --> issued, which is the end
 *
 * A person's word counts until it is signed; afterwards nothing changes any more, whatever becomes of the issuer.
 */
import { CsrError } from "../../core/pki/csr.ts";
import { generalNameToString } from "../../core/pki/general-name.ts";
import { MalformedInput, quoted } from "../../core/pki/malformed-input.ts";
import { nameToString } from "../../core/pki/name.ts";
import { checkAgainstPolicy, hours, namesOfUsages, type Violation } from "../../core/pki/profile.ts";
import type { AuthorityRecord, CertificateRecord } from "../../core/ports/pki-store.ts";
import type { CertificateRequest, CertificateRequestSpec } from "../../crds/certificaterequest.ts";
import type { Condition } from "../../crds/common.ts";
import type { Reason } from "../../crds/conditions.ts";
import { type Chain, certificatesPem, rootPem } from "../certificate/bundle.ts";
import { faultsOf, seconds, serialOf } from "../certificate/decide.ts";
import type { ReferredIssuer } from "../issuer/reference.ts";
import { present } from "../issuer/spec.ts";
import type { Next, OwnedCondition, OwnedStatus, Plan } from "../runtime/controller.ts";
import { type RequestedCertificate, requestedCertificate } from "./request.ts";

export type Observed =
  /** It is signed, and all else is past. */
  | { readonly kind: "Issued"; readonly record: CertificateRecord; readonly chain: Chain }
  /** It was signed so long ago that its record was removed; all that is left of it stands in status. */
  | { readonly kind: "Past" }
  | {
      readonly kind: "Open";
      readonly namespace: string;
      readonly namespaceUid: string;
      readonly issuer: ReferredIssuer;
    };

export interface Action {
  readonly kind: "Issue";
  readonly request: CertificateRequest;
  readonly namespaceUid: string;
  readonly authority: AuthorityRecord;
  readonly wanted: RequestedCertificate;
}

/** A watch tells when an issuer changes; this is only the safety net. */
const ISSUER_RECHECK_MS = 60_000;
/** Names in a message; the request holds them all. */
const SHOWN = 10;

export function decide(request: CertificateRequest, seen: Observed, now: Date): Plan<Action> {
  if (seen.kind === "Issued") return issued(seen);
  if (seen.kind === "Past") return past(request);

  const denial = personal(request, "Denied");
  if (denial !== undefined) return refused("RequestDenied", `it was denied: ${quoted(denial.message)}`);
  const wanted = wantedOf(request.spec);
  if ("fault" in wanted) return refused("RequestInvalid", wanted.fault);
  const { issuer, namespace, namespaceUid } = seen;
  if (issuer.kind === "Unusable") {
    const at = new Date(now.getTime() + ISSUER_RECHECK_MS);
    const { reason, message, waiting } = issuer;
    return waiting ? pending(reason, message, { kind: "recheckAt", at }) : refused(reason, message);
  }
  const violations = checkAgainstPolicy(wanted, issuer.policy, { namespace });
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

function issued({ record, chain }: Extract<Observed, { kind: "Issued" }>): Plan<Action> {
  const faults = faultsOf(chain);
  if (faults !== "") return refused("LintFailed", `certificate ${serialOf(record)} is not handed out: ${faults}`);
  const notAfter = seconds(record.notAfter);
  const condition: OwnedCondition = {
    type: "Issued",
    status: "True",
    reason: "Succeeded",
    message: `it was signed once, valid until ${notAfter}`,
  };
  const fields = {
    certificate: certificatesPem(chain),
    ca: rootPem(chain),
    serialNumber: serialOf(record),
    notAfter,
  };
  return { actions: [], status: { conditions: [condition], fields }, next: { kind: "settled" } };
}

function past({ status = {} }: CertificateRequest): Plan<Action> {
  const { certificate, ca, serialNumber, notAfter } = status;
  const condition: OwnedCondition = {
    type: "Issued",
    status: "True",
    reason: "Succeeded",
    message: `it was signed once, valid until ${notAfter}`,
  };
  const fields = present({ certificate, ca, serialNumber, notAfter });
  return { actions: [], status: { conditions: [condition], fields }, next: { kind: "settled" } };
}

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
