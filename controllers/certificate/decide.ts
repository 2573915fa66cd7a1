/**
 * What to do for one Certificate, from what was observed.
 *
 *   (no certificate) --Issue--> issued --Deliver--> delivered --RestartWorkloads--> settled
 *                                 ^                                                    |
 *                                 +-- renewal due, manifest or issuer changed, revoked -+
 *
 * Before all that comes what the manifest says about certificates that exist: RecordHolder, Revoke, ReleaseHold. The last
 * certificate stays delivered, and its core Secret is repaired, while another one cannot be had.
 */
import type { Finding } from "../../core/pki/lint/finding.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { checkAgainstPolicy } from "../../core/pki/profile.ts";
import { serialToText } from "../../core/pki/serial.ts";
import type {
  AuthorityRecord,
  CertificateHolder,
  CertificateRecord,
  RevocationReason,
} from "../../core/ports/pki-store.ts";
import type { Certificate } from "../../crds/certificate.ts";
import type { DeliveryOutcome } from "../delivery/perform.ts";
import { type DeliveryAction, type ObservedCoreSecret, planDelivery, type Refusal } from "../delivery/plan.ts";
import type { ReferredIssuer } from "../issuer/reference.ts";
import type { Next, OwnedCondition, Plan } from "../runtime/controller.ts";
import { bundleEntries, type Chain, certificateDelivery, deliveryDigests } from "./bundle.ts";
import type { PasswordFingerprints } from "./keystores.ts";
import { differences, parsedCertificate, renewalOf, type WantedCertificate, wantedCertificate } from "./request.ts";

export interface ListedRevocation {
  /** Position in spec.revocations. */
  readonly index: number;
  readonly reason: RevocationReason;
  /** Of those issued to this object; empty: none was. */
  readonly records: readonly CertificateRecord[];
}

/** The passwords of the keystores that the manifest asks for. */
export type ObservedPasswords =
  | { readonly kind: "Known"; readonly fingerprints: PasswordFingerprints }
  /** `waiting`: it can still come by itself. */
  | ({ readonly kind: "Refused"; readonly waiting: boolean } & Refusal);

export interface Observed {
  readonly installation: string;
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly holder: CertificateHolder | undefined;
  readonly issuer: ReferredIssuer;
  /** The newest certificate that was issued to this object, whatever became of it. */
  readonly current: { readonly record: CertificateRecord; readonly chain: Chain } | undefined;
  readonly revocations: readonly ListedRevocation[];
  /** Certificates on hold that the manifest does not list any more. */
  readonly forgottenHolds: readonly CertificateRecord[];
  readonly core: ObservedCoreSecret;
  readonly passwords: ObservedPasswords;
  /** What restarting brought to light, in this pass. */
  readonly restartProblems: readonly string[];
  /** Why another certificate could not be had, in this pass. */
  readonly failure?: Error;
}

interface Subject {
  readonly certificate: Certificate;
}

export type Action =
  | (Subject & { readonly kind: "RecordHolder"; readonly holder: Omit<CertificateHolder, "delivery"> })
  | (Subject & { readonly kind: "Revoke"; readonly record: CertificateRecord; readonly reason: RevocationReason })
  | (Subject & { readonly kind: "ReleaseHold"; readonly record: CertificateRecord })
  | (Subject & {
      readonly kind: "Issue";
      readonly namespaceUid: string;
      readonly authority: AuthorityRecord;
      readonly wanted: WantedCertificate;
      readonly revision: number;
      /** The certificate whose key is kept. */
      readonly reuse?: CertificateRecord;
    })
  | (DeliveryAction & Subject & { readonly record: CertificateRecord; readonly chain: Chain })
  /** Nothing else is left to do: say what went wrong, and try again with growing pauses. */
  | (Subject & { readonly kind: "ReportFailure"; readonly failure: Error });

export type Outcome =
  | { readonly kind: "Holder"; readonly holder: CertificateHolder }
  | { readonly kind: "Changed"; readonly record: CertificateRecord }
  | { readonly kind: "Issued"; readonly record: CertificateRecord; readonly chain: Chain }
  | { readonly kind: "NotIssued"; readonly failure: Error }
  | DeliveryOutcome;

/** Whether another certificate is needed, and why there is none. */
type Need =
  | { readonly kind: "None" }
  | { readonly kind: "Issue"; readonly wanted: WantedCertificate; readonly authority: AuthorityRecord }
  | ({ readonly kind: "Refused"; readonly waiting: boolean } & Refusal);

/** A watch tells when an issuer or a password changes; this is only the safety net. */
const RECHECK_MS = 60_000;

export const isFinallyRevoked = ({ revocation }: CertificateRecord): boolean =>
  revocation !== undefined && revocation.reason !== "certificateHold";

export const serialOf = ({ serialNumber }: CertificateRecord): string => serialToText(Buffer.from(serialNumber, "hex"));

export function decide(certificate: Certificate, seen: Observed, now: Date): Plan<Action> {
  const need = needOf(certificate, seen, now);
  const first = [...holderAction(certificate, seen), ...revocationActions(certificate, seen)];
  if (first.length > 0) return plan(certificate, seen, need, first, now);

  const { current, failure } = seen;
  if (need.kind === "Issue" && failure === undefined) {
    const { wanted, authority } = need;
    const revision = (current?.record.revision ?? 0) + 1;
    const reuse = keptKey(certificate, current?.record, wanted);
    const { namespaceUid } = seen;
    const issue = {
      kind: "Issue",
      certificate,
      namespaceUid,
      authority,
      wanted,
      revision,
      ...(reuse && { reuse }),
    } as const;
    return plan(certificate, seen, need, [issue], now);
  }

  const delivery = deliveryOf(certificate, seen, now);
  if (delivery.kind === "Act") return plan(certificate, seen, need, [delivery.action], now);
  const last: readonly Action[] = failure === undefined ? [] : [{ kind: "ReportFailure", certificate, failure }];
  return plan(certificate, seen, need, last, now, delivery);
}

/** It stands beside the certificates, since an object that disappeared while nobody watched can no longer say it. */
function holderAction(certificate: Certificate, { holder, namespace, namespaceUid }: Observed): Action[] {
  const { uid, name } = certificate.metadata;
  const { deletionPolicy = "Retain" } = certificate.spec;
  if (holder?.deletionPolicy === deletionPolicy) return [];
  const wanted = { kind: "Certificate", uid, namespace, namespaceUid, name, deletionPolicy } as const;
  return [{ kind: "RecordHolder", certificate, holder: wanted }];
}

function revocationActions(certificate: Certificate, { revocations, forgottenHolds }: Observed): Action[] {
  const revoke = revocations.flatMap(({ records, reason }) =>
    records
      .filter(({ revocation }) =>
        revocation === undefined ? true : revocation.reason === "certificateHold" && reason !== "certificateHold",
      )
      .map((record) => ({ kind: "Revoke", certificate, record, reason }) as const),
  );
  const release = forgottenHolds.map((record) => ({ kind: "ReleaseHold", certificate, record }) as const);
  return [...revoke, ...release];
}

function needOf(certificate: Certificate, { issuer, current, namespace }: Observed, now: Date): Need {
  let wanted: WantedCertificate;
  try {
    wanted = wantedCertificate(certificate.spec);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return { kind: "Refused", waiting: false, reason: "SubjectInvalid", message: `spec.${error.message}` };
  }
  const authorityId = issuer.kind === "Usable" ? issuer.authority.id : issuer.authorityId;
  if (current !== undefined && isUpToDate(certificate, current.record, wanted, authorityId, now))
    return { kind: "None" };
  if (issuer.kind === "Unusable") {
    const { waiting, reason, message } = issuer;
    return { kind: "Refused", waiting, reason, message };
  }
  const violations = checkAgainstPolicy(wanted, issuer.policy, { namespace });
  if (violations.length > 0) {
    const message = violations.map((violation) => `spec.${violation.field}: ${violation.message}`).join("; ");
    return { kind: "Refused", waiting: false, reason: "PolicyViolated", message };
  }
  return { kind: "Issue", wanted, authority: issuer.authority };
}

const isUpToDate = (
  certificate: Certificate,
  record: CertificateRecord,
  wanted: WantedCertificate,
  authorityId: string | undefined,
  now: Date,
): boolean =>
  !isFinallyRevoked(record) &&
  record.hasKey &&
  now < renewalOf(certificate, record) &&
  record.authorityId === authorityId &&
  differences(parsedCertificate(record), wanted).length === 0;

/** A key that may be compromised, or is of another kind, is not kept. */
function keptKey(
  { spec }: Certificate,
  record: CertificateRecord | undefined,
  wanted: WantedCertificate,
): CertificateRecord | undefined {
  if (spec.privateKey?.rotationPolicy !== "Never" || record?.hasKey !== true || record.revocation !== undefined) {
    return undefined;
  }
  return differences(parsedCertificate(record), wanted).includes("key") ? undefined : record;
}

type DeliveryStep =
  | { readonly kind: "Act"; readonly action: Action }
  | { readonly kind: "None" }
  | { readonly kind: "RecheckAt"; readonly at: Date }
  | ({ readonly kind: "Refused"; readonly waiting: boolean } & Refusal);

function deliveryOf(certificate: Certificate, seen: Observed, now: Date): DeliveryStep {
  const { current, holder, core, passwords, installation } = seen;
  if (current === undefined) return { kind: "None" };
  const { record, chain } = current;
  const desired = certificateDelivery(certificate, installation);
  const former = holder?.delivery;
  if (former !== undefined && former.secretName !== desired.secretName) {
    return { kind: "Act", action: { kind: "ReleaseDelivery", delivery: former, certificate, record, chain } };
  }
  // What is revoked is not handed out again; where it stands it is replaced by the next one.
  if (isFinallyRevoked(record)) return { kind: "None" };
  const faults = faultsOf(chain);
  if (faults !== "") {
    const message = `certificate ${serialOf(record)} is not handed out: ${faults}`;
    return { kind: "Refused", waiting: false, reason: "LintFailed", message };
  }
  if (passwords.kind === "Refused") return passwords;
  const entries = bundleEntries(certificate, chain, passwords.fingerprints);
  const version = record.revision;
  const step = planDelivery(desired, { digests: deliveryDigests, entries, version, record: former, core }, now);
  switch (step.kind) {
    case "Act":
      return { kind: "Act", action: { ...step.action, certificate, record, chain } };
    case "Settled":
      return { kind: "None" };
    case "Refused":
      return { ...step, waiting: false };
    default:
      return step;
  }
}

export const faultsOf = ({ findings }: Chain, severity: Finding["severity"] = "Error"): string =>
  findings
    .filter((finding) => finding.severity === severity)
    .map(({ code, message }) => `${message} (${code})`)
    .join("; ");

/** Status of what is there now: while actions are planned, it is only used if the first of them fails. */
function plan(
  certificate: Certificate,
  seen: Observed,
  need: Need,
  actions: readonly Action[],
  now: Date,
  delivery: DeliveryStep = { kind: "None" },
): Plan<Action> {
  const { record } = seen.current ?? {};
  const refusal = delivery.kind === "Refused" ? { reason: delivery.reason, message: delivery.message } : undefined;
  const renewal = record && renewalOf(certificate, record);
  const fields =
    record === undefined || renewal === undefined
      ? {}
      : {
          revision: record.revision,
          serialNumber: serialOf(record),
          notBefore: seconds(record.notBefore),
          notAfter: seconds(record.notAfter),
          renewalTime: seconds(renewal),
        };
  const conditions = [
    issued(seen, need, now),
    linted(seen),
    delivered(certificate, seen, actions.some(isDelivery), refusal),
    revoked(seen),
  ];
  return { actions, status: { conditions, fields }, next: nextOf(seen, need, delivery, renewal, now) };
}

const isDelivery = ({ kind }: Action): boolean =>
  kind === "Deliver" || kind === "ReleaseDelivery" || kind === "RestartWorkloads" || kind === "RecordDelivery";

function nextOf(seen: Observed, need: Need, delivery: DeliveryStep, renewal: Date | undefined, now: Date): Next {
  const stalled = [
    ...(need.kind === "Refused" && !need.waiting ? [need] : []),
    ...(delivery.kind === "Refused" && !delivery.waiting ? [delivery] : []),
    ...unknownSerials(seen),
  ].at(0);
  if (stalled !== undefined) return { kind: "stalled", reason: stalled.reason, message: stalled.message };
  const times = [
    ...(need.kind === "Refused" || delivery.kind === "Refused" ? [new Date(now.getTime() + RECHECK_MS)] : []),
    ...(delivery.kind === "RecheckAt" ? [delivery.at] : []),
    ...(need.kind === "None" && renewal !== undefined ? [renewal] : []),
  ];
  const at = times.toSorted((a, b) => a.getTime() - b.getTime()).at(0);
  return at === undefined ? { kind: "settled" } : { kind: "recheckAt", at };
}

function issued({ current }: Observed, need: Need, now: Date): OwnedCondition {
  const type = "Issued";
  const { record } = current ?? {};
  const inUse = record !== undefined && !isFinallyRevoked(record) && record.notAfter > now;
  const last = inUse ? `; certificate ${serialOf(record)} stays in use, until ${seconds(record.notAfter)}` : "";
  switch (need.kind) {
    case "Refused":
      return { type, status: "False", reason: need.reason, message: `${need.message}${last}` };
    case "Issue":
      return { type, status: "False", reason: "Progressing", message: `another certificate is to be issued${last}` };
    case "None":
      return {
        type,
        status: "True",
        reason: "Succeeded",
        message: record && `revision ${record.revision} is valid until ${seconds(record.notAfter)}${holdNote(record)}`,
      } as OwnedCondition;
  }
}

const holdNote = ({ revocation }: CertificateRecord): string =>
  revocation === undefined ? "" : ", and on hold: relying parties refuse it for now";

function linted({ current }: Observed): OwnedCondition {
  const type = "Linted";
  if (current === undefined) return { type, status: "False", reason: "Progressing", message: "nothing is issued yet" };
  const faults = faultsOf(current.chain);
  if (faults !== "") return { type, status: "False", reason: "LintFailed", message: faults };
  const warnings = faultsOf(current.chain, "Warning");
  const message = warnings === "" ? "no fault was found" : `no fault was found, but: ${warnings}`;
  return { type, status: "True", reason: "Succeeded", message };
}

function delivered(
  { spec }: Certificate,
  { current, holder, restartProblems }: Observed,
  busy: boolean,
  refusal: Refusal | undefined,
): OwnedCondition {
  const type = "Delivered";
  const { secretName } = spec;
  if (refusal !== undefined) return { type, status: "False", ...refusal };
  const delivery = holder?.delivery;
  if (busy || delivery === undefined || delivery.version !== current?.record.revision) {
    return { type, status: "False", reason: "Progressing", message: `core Secret ${secretName} is not up to date yet` };
  }
  const problems = restartProblems.length === 0 ? "" : `; not restarted: ${restartProblems.join(", ")}`;
  const message = `core Secret ${secretName} holds revision ${delivery.version}${problems}`;
  return { type, status: "True", reason: "Succeeded", message };
}

const unknownSerials = ({ revocations }: Observed): Refusal[] =>
  revocations
    .filter(({ records }) => records.length === 0)
    .map(({ index }) => ({
      reason: "SerialNumberUnknown",
      message:
        `spec.revocations[${index}].serialNumber: no certificate with this serial number was issued to this object; ` +
        "correct it, or take the entry out",
    }));

function revoked(seen: Observed): OwnedCondition {
  const type = "Revoked";
  const count = seen.revocations.length;
  if (count === 0) {
    return { type, status: "False", reason: "NotRequested", message: "spec.revocations lists none" };
  }
  const [unknown] = unknownSerials(seen);
  if (unknown !== undefined) return { type, status: "False", ...unknown };
  const open = seen.revocations.filter(({ records }) => records.some(({ revocation }) => revocation === undefined));
  return open.length > 0
    ? { type, status: "False", reason: "Progressing", message: `${open.length} of ${count} are not revoked yet` }
    : { type, status: "True", reason: "Succeeded", message: `what spec.revocations lists is revoked: ${count}` };
}

/** As the API server has times. */
export const seconds = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;
