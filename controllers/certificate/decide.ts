/**
 * What to do for one Certificate, from what was observed.
 *
 *   (no certificate) --Issue--> issued --Deliver--> delivered --RestartWorkloads--> settled
 *                                 ^                                                    |
 *                                 +-- renewal due, manifest or issuer changed, revoked -+
 *
 *   (certificate of another CA in the core Secret, adopt) --Adopt--> in use --renewal due, manifest changed--> Issue
 *
 * Before all that comes what the manifest says about certificates that exist: RecordHolder, Revoke, ReleaseHold. The last
 * certificate stays delivered, and its core Secret is repaired, while another one cannot be had.
 */
import type { Finding } from "../../core/pki/lint/finding.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { nameToString } from "../../core/pki/name.ts";
import { checkAgainstPolicy, subordinateConstraints } from "../../core/pki/profile.ts";
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
import { type Adoption, adoptionOf, naming } from "./adoption.ts";
import { bundleEntries, type Chain, certificateDelivery, deliveryDigests } from "./bundle.ts";
import type { PasswordFingerprints } from "./keystores.ts";
import { differences, readSerial, renewalOf, type WantedCertificate, wantedCertificate } from "./request.ts";

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

/** A certificate that was issued to this object, with the CAs above it. */
export interface Issued {
  readonly record: CertificateRecord;
  readonly chain: Chain;
}

export interface Observed {
  readonly installation: string;
  readonly namespace: string;
  readonly namespaceUid: string;
  /** By which the store knows the object. */
  readonly heldUid: string;
  readonly holder: CertificateHolder | undefined;
  /** An object of this name was deleted, and this one applied before anybody saw the name unused. */
  readonly hasFormer: boolean;
  readonly issuer: ReferredIssuer;
  /** The newest certificate that was issued to this object, whatever became of it. */
  readonly current: Issued | undefined;
  readonly revocations: readonly ListedRevocation[];
  /** Certificates on hold that the manifest does not list any more. */
  readonly forgottenHolds: readonly CertificateRecord[];
  readonly core: ObservedCoreSecret;
  readonly passwords: ObservedPasswords;
  /** What restarting brought to light, in this pass. */
  readonly restartProblems: readonly string[];
  /** Why another certificate could not be had, in this pass. */
  readonly failure?: Error;
  /** What the primary, whose CA signed it, will not revoke or release, in this pass. */
  readonly refusedRevocations?: readonly RefusedRevocation[];
}

export interface RefusedRevocation {
  readonly record: CertificateRecord;
  readonly message: string;
}

type NewHolder = Omit<CertificateHolder, "delivery">;

interface Subject {
  readonly certificate: Certificate;
}

export type Action =
  | (Subject & { readonly kind: "RecordHolder"; readonly holder: NewHolder; readonly hasFormer: boolean })
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
  /** `issued`: what is to be delivered; absent: a certificate of another CA is taken over. */
  | (DeliveryAction & Subject & { readonly issued?: Issued })
  /** Nothing else is left to do: say what went wrong, and try again with growing pauses. */
  | (Subject & { readonly kind: "ReportFailure"; readonly failure: Error });

export type Outcome =
  | { readonly kind: "Holder"; readonly holder: NewHolder }
  | { readonly kind: "Changed"; readonly record: CertificateRecord }
  | ({ readonly kind: "NotChanged" } & RefusedRevocation)
  | ({ readonly kind: "Issued" } & Issued)
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
  const asked = wantedBy(certificate);
  const adoption = adoptionBy(certificate, asked, seen, now);
  const need = needOf(certificate, asked, seen, adoption, now);
  const about = { certificate, seen, adoption, need, now };
  const first = [...holderAction(certificate, seen), ...revocationActions(certificate, seen)];
  if (first.length > 0) return plan(about, first);

  const { current, failure } = seen;
  if (need.kind === "Issue" && failure === undefined) {
    const { wanted, authority } = need;
    const revision = (current?.record.revision ?? 0) + 1;
    const reuse = keptKey(certificate, current, wanted);
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
    return plan(about, [issue]);
  }

  const delivery = deliveryOf(about);
  if (delivery.kind === "Act") return plan(about, [delivery.action]);
  return plan(about, failure === undefined ? [] : [{ kind: "ReportFailure", certificate, failure }], delivery);
}

/** All that a plan is made from. */
interface About {
  readonly certificate: Certificate;
  readonly seen: Observed;
  readonly adoption: Adoption;
  readonly need: Need;
  readonly now: Date;
}

/** It stands beside the certificates, since an object that disappeared while nobody watched can no longer say it. */
function holderAction(certificate: Certificate, seen: Observed): Action[] {
  const { holder, hasFormer, namespace, namespaceUid, heldUid: uid } = seen;
  const { name } = certificate.metadata;
  const { deletionPolicy = "Retain", revisionHistoryLimit } = certificate.spec;
  if (holder?.deletionPolicy === deletionPolicy && holder.revisionHistoryLimit === revisionHistoryLimit) return [];
  const limit = revisionHistoryLimit !== undefined && { revisionHistoryLimit };
  const wanted = { kind: "Certificate", uid, namespace, namespaceUid, name, deletionPolicy, ...limit } as const;
  return [{ kind: "RecordHolder", certificate, holder: wanted, hasFormer }];
}

function revocationActions(
  certificate: Certificate,
  { revocations, forgottenHolds, refusedRevocations = [] }: Observed,
): Action[] {
  const revoke = revocations.flatMap(({ records, reason }) =>
    records
      .filter(({ revocation }) =>
        revocation === undefined ? true : revocation.reason === "certificateHold" && reason !== "certificateHold",
      )
      .map((record) => ({ kind: "Revoke", certificate, record, reason }) as const),
  );
  const release = forgottenHolds.map((record) => ({ kind: "ReleaseHold", certificate, record }) as const);
  const refused = new Set(refusedRevocations.map(({ record }) => serialOf(record)));
  return [...revoke, ...release].filter(({ record }) => !refused.has(serialOf(record)));
}

/** What the manifest asks for, or why nobody can issue that. */
function wantedBy({ spec }: Certificate): WantedCertificate | Refusal {
  try {
    return wantedCertificate(spec);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return { reason: "SubjectInvalid", message: `spec.${error.message}` };
  }
}

function adoptionBy(
  certificate: Certificate,
  asked: WantedCertificate | Refusal,
  { holder, core, installation }: Observed,
  now: Date,
): Adoption {
  if ("reason" in asked) return { kind: "None" };
  const desired = certificateDelivery(certificate, installation);
  return adoptionOf(certificate, asked, desired, { record: holder?.delivery, core }, now);
}

function needOf(
  certificate: Certificate,
  asked: WantedCertificate | Refusal,
  { issuer, current, namespace }: Observed,
  adoption: Adoption,
  now: Date,
): Need {
  if ("reason" in asked) return { kind: "Refused", waiting: false, ...asked };
  if (adoption.kind === "InUse") return { kind: "None" };
  // A leaf keeps a name that is not allowed any more until it is renewed. But what a CA may sign goes on growing while it is
  // valid, so that its issuer's change of mind counts at once.
  const objection = asked.ca && issuer.kind === "Usable" ? refusalBy(issuer, asked, namespace) : undefined;
  if (objection !== undefined) return { kind: "Refused", waiting: false, ...objection };
  const wanted = narrowed(asked, issuer);
  const authorityId = issuer.kind === "Usable" ? issuer.authority.id : issuer.authorityId;
  if (current !== undefined && isUpToDate(certificate, current, wanted, authorityId, now)) return { kind: "None" };
  if (issuer.kind === "Unusable") {
    const { waiting, reason, message } = issuer;
    return { kind: "Refused", waiting, reason, message };
  }
  const refusal = refusalBy(issuer, asked, namespace);
  if (refusal !== undefined) return { kind: "Refused", waiting: false, ...refusal };
  // What could not be delivered is not issued.
  if (adoption.kind === "Refused") return { waiting: false, ...adoption };
  return { kind: "Issue", wanted, authority: issuer.authority };
}

type UsableIssuer = Extract<ReferredIssuer, { kind: "Usable" }>;

/** Why the issuer may not sign this. */
function refusalBy(
  { policy, subordinates }: UsableIssuer,
  asked: WantedCertificate,
  namespace: string,
): Refusal | undefined {
  if (asked.ca !== undefined && "refusal" in subordinates) {
    return { reason: "SubordinateNotAllowed", message: `spec.isCA: ${subordinates.refusal}` };
  }
  if (policy === undefined) return undefined;
  const allowed = "refusal" in subordinates ? policy : { ...policy, allowSubordinates: subordinates };
  const violations = checkAgainstPolicy(asked, allowed, { namespace });
  if (violations.length === 0) return undefined;
  const message = violations.map((violation) => `spec.${violation.field}: ${violation.message}`).join("; ");
  return { reason: "PolicyViolated", message };
}

/** A CA with the limits that its issuer puts into the certificate, as far as that can be asked. */
function narrowed(asked: WantedCertificate, issuer: ReferredIssuer): WantedCertificate {
  if (asked.ca === undefined || issuer.kind === "Unusable" || "refusal" in issuer.subordinates) return asked;
  const { pathLength, nameConstraints: limits } = issuer.subordinates;
  const nameConstraints = subordinateConstraints(asked.ca.nameConstraints, limits);
  return { ...asked, ca: { pathLength, ...(nameConstraints && { nameConstraints }) } };
}

const isUpToDate = (
  certificate: Certificate,
  { record, chain }: Issued,
  wanted: WantedCertificate,
  authorityId: string | undefined,
  now: Date,
): boolean =>
  !isFinallyRevoked(record) &&
  record.hasKey &&
  now < renewalOf(certificate, record) &&
  record.authorityId === authorityId &&
  differences(chain.certificate, wanted).length === 0;

/** A key that may be compromised, or is of another kind, is not kept. */
function keptKey(
  { spec }: Certificate,
  current: Issued | undefined,
  wanted: WantedCertificate,
): CertificateRecord | undefined {
  if (spec.privateKey?.rotationPolicy !== "Never" || current === undefined) return undefined;
  const { record, chain } = current;
  if (!record.hasKey || record.revocation !== undefined) return undefined;
  return differences(chain.certificate, wanted).includes("key") ? undefined : record;
}

type DeliveryStep =
  | { readonly kind: "Act"; readonly action: Action }
  | { readonly kind: "None" }
  | { readonly kind: "RecheckAt"; readonly at: Date }
  | ({ readonly kind: "Refused"; readonly waiting: boolean } & Refusal);

function deliveryOf({ certificate, seen, adoption, now }: About): DeliveryStep {
  const { current, holder, core, passwords, installation } = seen;
  if (adoption.kind === "InUse") {
    const { action } = adoption;
    return action === undefined ? { kind: "None" } : { kind: "Act", action: { ...action, certificate } };
  }
  if (adoption.kind === "Refused") return { waiting: false, ...adoption };
  if (current === undefined) return { kind: "None" };
  const { record, chain } = current;
  const desired = certificateDelivery(certificate, installation);
  const former = holder?.delivery;
  if (former !== undefined && former.secretName !== desired.secretName) {
    return { kind: "Act", action: { kind: "ReleaseDelivery", delivery: former, certificate, issued: current } };
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
      return { kind: "Act", action: { ...step.action, certificate, issued: current } };
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
function plan(about: About, actions: readonly Action[], delivery: DeliveryStep = { kind: "None" }): Plan<Action> {
  const refusal = delivery.kind === "Refused" ? { reason: delivery.reason, message: delivery.message } : undefined;
  const conditions = [
    issued(about),
    linted(about),
    delivered(about, actions.some(isDelivery), refusal),
    revoked(about),
  ];
  return { actions, status: { conditions, fields: fieldsOf(about) }, next: nextOf(about, delivery) };
}

/** The certificate in use: of another CA, or issued to this object. */
function fieldsOf(about: About): Readonly<Record<string, string | number>> {
  const { adoption, seen } = about;
  const renewal = renewalIn(about);
  const times = ({ notBefore, notAfter }: { readonly notBefore: Date; readonly notAfter: Date }) => ({
    notBefore: seconds(notBefore),
    notAfter: seconds(notAfter),
    ...(renewal !== undefined && { renewalTime: seconds(renewal) }),
  });
  if (adoption.kind === "InUse" || (adoption.kind === "Due" && seen.current === undefined)) {
    const { certificate } = adoption;
    return { serialNumber: serialToText(certificate.serialNumber), ...times(certificate) };
  }
  const { record } = seen.current ?? {};
  return record === undefined ? {} : { revision: record.revision, serialNumber: serialOf(record), ...times(record) };
}

function renewalIn({ certificate, seen, adoption }: About): Date | undefined {
  if (adoption.kind === "InUse") return adoption.renewal;
  return seen.current && renewalOf(certificate, seen.current.record);
}

const isDelivery = ({ kind }: Action): boolean =>
  kind === "Adopt" ||
  kind === "Deliver" ||
  kind === "ReleaseDelivery" ||
  kind === "RestartWorkloads" ||
  kind === "RecordDelivery";

function nextOf(about: About, delivery: DeliveryStep): Next {
  const { need, now } = about;
  const renewal = renewalIn(about);
  const stalled = [
    ...(need.kind === "Refused" && !need.waiting ? [need] : []),
    ...(delivery.kind === "Refused" && !delivery.waiting ? [delivery] : []),
    ...unknownSerials(about),
    ...refusedByPrimary(about),
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

function issued({ seen: { current }, adoption, need, now }: About): OwnedCondition {
  const type = "Issued";
  const { record } = current ?? {};
  if (adoption.kind === "InUse") {
    const { certificate, renewal } = adoption;
    const message = `${naming(certificate)} is used as it was found, until ${seconds(renewal)}; then the issuer replaces it`;
    return { type, status: "True", reason: "Adopted", message };
  }
  const inUse = record !== undefined && !isFinallyRevoked(record) && record.notAfter > now;
  const last = inUse
    ? `; certificate ${serialOf(record)} stays in use, until ${seconds(record.notAfter)}`
    : adoption.kind === "Due" && adoption.certificate.notAfter > now
      ? `; ${naming(adoption.certificate)} stays in use, until ${seconds(adoption.certificate.notAfter)}`
      : "";
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

function linted({ seen: { current }, adoption }: About): OwnedCondition {
  const type = "Linted";
  if (adoption.kind === "InUse" || (adoption.kind === "Due" && current === undefined)) {
    return { type, status: "False", reason: "NotRequested", message: "certificates of other CAs are not checked" };
  }
  if (current === undefined) return { type, status: "False", reason: "Progressing", message: "nothing is issued yet" };
  const faults = faultsOf(current.chain);
  if (faults !== "") return { type, status: "False", reason: "LintFailed", message: faults };
  const warnings = faultsOf(current.chain, "Warning");
  const message = warnings === "" ? "no fault was found" : `no fault was found, but: ${warnings}`;
  return { type, status: "True", reason: "Succeeded", message };
}

function delivered(
  { certificate, seen, adoption }: About,
  busy: boolean,
  refusal: Refusal | undefined,
): OwnedCondition {
  const type = "Delivered";
  const { current, holder, restartProblems } = seen;
  const { secretName } = certificate.spec;
  if (refusal !== undefined) return { type, status: "False", ...refusal };
  const delivery = holder?.delivery;
  const adopted = adoption.kind === "InUse" || (adoption.kind === "Due" && current === undefined);
  if (busy || delivery === undefined || (!adopted && delivery.version !== current?.record.revision)) {
    return { type, status: "False", reason: "Progressing", message: `core Secret ${secretName} is not up to date yet` };
  }
  if (adopted) {
    const message = `core Secret ${secretName} holds ${naming(adoption.certificate)} as it was found`;
    return { type, status: "True", reason: "Adopted", message };
  }
  const problems = restartProblems.length === 0 ? "" : `; not restarted: ${restartProblems.join(", ")}`;
  const message = `core Secret ${secretName} holds revision ${delivery.version}${problems}`;
  return { type, status: "True", reason: "Succeeded", message };
}

const unknownSerials = ({ certificate, seen, adoption }: About): Refusal[] =>
  seen.revocations
    .filter(({ records }) => records.length === 0)
    .map(({ index }) => ({
      reason: "SerialNumberUnknown",
      message: `spec.revocations[${index}].serialNumber: ${strangerNote(certificate, index, adoption)}`,
    }));

/** The certificate is looked after all the same, and renewed in time. */
const refusedByPrimary = ({ seen: { refusedRevocations = [] } }: About): Refusal[] =>
  refusedRevocations.map(({ record, message }) => ({
    reason: "SerialNumberUnknown",
    message: `spec.revocations: certificate ${serialOf(record)} cannot be revoked or released from here, since ${message}; have it done at the primary`,
  }));

function strangerNote({ spec }: Certificate, index: number, adoption: Adoption): string {
  const serial = readSerial(spec.revocations?.[index]?.serialNumber ?? "");
  if (
    (adoption.kind === "InUse" || adoption.kind === "Due") &&
    adoption.certificate.serialNumber.toString("hex") === serial
  ) {
    return (
      `it was taken over from ${nameToString(adoption.certificate.issuer)}, and only that CA can revoke it; revoke it there, ` +
      "and take the entry out"
    );
  }
  return "no certificate with this serial number was issued to this object; correct it, or take the entry out";
}

function revoked(about: About): OwnedCondition {
  const type = "Revoked";
  const { seen } = about;
  const count = seen.revocations.length;
  const [refused] = refusedByPrimary(about);
  if (refused !== undefined) return { type, status: "False", ...refused };
  if (count === 0) {
    return { type, status: "False", reason: "NotRequested", message: "spec.revocations lists none" };
  }
  const [unknown] = unknownSerials(about);
  if (unknown !== undefined) return { type, status: "False", ...unknown };
  const open = seen.revocations.filter(({ records }) => records.some(({ revocation }) => revocation === undefined));
  return open.length > 0
    ? { type, status: "False", reason: "Progressing", message: `${open.length} of ${count} are not revoked yet` }
    : { type, status: "True", reason: "Succeeded", message: `what spec.revocations lists is revoked: ${count}` };
}

/** As the API server has times. */
export const seconds = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;
