/**
 * Taking over a certificate of another CA as it stands in a core Secret: what fits, and what that becomes. Its private key is
 * not kept here, so it can be used and replaced, but not written again. Pure.
 */
import { type Certificate as ParsedCertificate, parseCertificate } from "../../core/pki/certificate.ts";
import { type GeneralName, generalNameToString } from "../../core/pki/general-name.ts";
import { keySpecOf, readPublicKey } from "../../core/pki/key.ts";
import { quoted } from "../../core/pki/malformed-input.ts";
import { nameToString, type RdnSequence } from "../../core/pki/name.ts";
import { serialToText } from "../../core/pki/serial.ts";
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { Certificate } from "../../crds/certificate.ts";
import {
  type DesiredDelivery,
  deliveryFingerprint,
  isOurs,
  type LiveCoreSecret,
  sameFrame,
} from "../delivery/desired.ts";
import type { DeliveryAction, ObservedCoreSecret, Refusal } from "../delivery/plan.ts";
import type { TlsBundle } from "../delivery/tls-bundle.ts";
import { deliveryDigests } from "./bundle.ts";
import { differences, keyText, renewalOfAdopted, type WantedCertificate } from "./request.ts";

export type Adoption =
  | { readonly kind: "None" }
  /** It is used until it is to be renewed; `action`: what is missing for it. */
  | {
      readonly kind: "InUse";
      readonly certificate: ParsedCertificate;
      readonly renewal: Date;
      readonly action?: DeliveryAction;
    }
  /** It ought to be replaced, and stays until it is. */
  | { readonly kind: "Due"; readonly certificate: ParsedCertificate }
  | ({ readonly kind: "Refused" } & Refusal);

const NONE: Adoption = { kind: "None" };

/** @param record of what was delivered, wherever */
export function adoptionOf(
  certificate: Certificate,
  wanted: WantedCertificate,
  desired: DesiredDelivery,
  { record, core }: { readonly record: DeliveryRecord | undefined; readonly core: ObservedCoreSecret },
  now: Date,
): Adoption {
  const adopted = record?.secretName === desired.secretName ? adoptedCertificate(record) : undefined;
  // Who has delivered a certificate of its own has no use for another one.
  if (record !== undefined && adopted === undefined) return NONE;
  if (core.kind === "Untouched" && record !== undefined && adopted !== undefined) {
    const parsed = parseCertificate(adopted);
    const renewal = renewalOfAdopted(certificate, parsed);
    const fits = misfits(parsed, wanted, now).length === 0 && now < renewal;
    if (!fits) return { kind: "Due", certificate: parsed };
    const taken = takenOver(desired, adopted, record);
    const settled = taken.fingerprint === record.fingerprint;
    return { kind: "InUse", certificate: parsed, renewal, ...(!settled && { action: adopt(desired, taken) }) };
  }
  if (core.kind !== "Live" || (adopted === undefined && !desired.adopt)) return NONE;
  const { live } = core;
  const { bundle } = live;
  if (bundle === undefined || live.terminating || live.rival !== undefined) return NONE;
  const problems = problemsOf(bundle, desired, wanted, now);
  if (bundle.kind === "Unreadable" || problems.length > 0) {
    return isOurs(live, desired, record) || desired.overwrite ? NONE : refused(desired, problems);
  }
  const parsed = parseCertificate(bundle.certificate);
  const renewal = renewalOfAdopted(certificate, parsed);
  if (adopted?.equals(bundle.certificate) && now >= renewal) return { kind: "Due", certificate: parsed };
  // One that is due is ours first, so that its successor may take its place.
  const taken = takenOver(desired, bundle.certificate, live);
  const action: DeliveryAction = sameFrame(live, desired)
    ? { kind: "RecordDelivery", delivery: taken }
    : adopt(desired, taken);
  return { kind: "InUse", certificate: parsed, renewal, action };
}

export const adoptedCertificate = (record: DeliveryRecord | undefined): Buffer | undefined =>
  record?.adopted === undefined ? undefined : Buffer.from(record.adopted, "base64");

const adopt = (desired: DesiredDelivery, delivery: DeliveryRecord): DeliveryAction => ({
  kind: "Adopt",
  desired,
  delivery,
});

/** As it goes on record. Revisions count from 1; this is none of them. */
const takenOver = (
  desired: DesiredDelivery,
  der: Buffer,
  { uid, resourceVersion }: Pick<LiveCoreSecret, "uid" | "resourceVersion">,
): DeliveryRecord => ({
  secretName: desired.secretName,
  uid,
  resourceVersion,
  version: 0,
  fingerprint: deliveryFingerprint(deliveryDigests, desired, [
    { key: "tls.crt", fingerprint: deliveryDigests.digest("adopted", [der.toString("hex")]) },
  ]),
  pendingRestarts: [],
  adopted: der.toString("base64"),
});

const refused = ({ secretName, field }: DesiredDelivery, problems: readonly string[]): Adoption => ({
  kind: "Refused",
  reason: "TargetDiffers",
  message:
    `core Secret ${secretName} cannot be taken over: ${problems.join("; ")}; correct the manifest where that is what is ` +
    `wanted, set ${field}.overwrite to lose that data, or deliver to another secretName`,
});

function problemsOf(bundle: TlsBundle, desired: DesiredDelivery, wanted: WantedCertificate, now: Date): string[] {
  if (bundle.kind === "Unreadable") return [`it holds no certificate with its key (${bundle.problem})`];
  const { certificate, keyMatches, keys } = bundle;
  const missing = desired.keys.map(({ to }) => to).filter((key) => key !== "ca.crt" && !keys.includes(key));
  return [
    ...(keyMatches ? [] : ["tls.key is not the key of tls.crt"]),
    ...misfits(parseCertificate(certificate), wanted, now),
    ...(missing.length === 0 ? [] : [`it lacks ${missing.join(", ")}`]),
  ];
}

/**
 * What another CA's certificate does not have of what is asked for. Usages are left to the next certificate: CAs differ in
 * their defaults, and who serves with it has lived with them.
 */
function misfits(certificate: ParsedCertificate, wanted: WantedCertificate, now: Date): string[] {
  const { subject, subjectAltNames, spki, notBefore, notAfter } = certificate;
  const different = new Set(differences(certificate, wanted));
  if (attributes(subject) === attributes(wanted.subject)) different.delete("subject");
  const said: Readonly<Record<string, string>> = {
    subject: `its subject is ${quoted(nameToString(subject))}, not ${quoted(nameToString(wanted.subject))}`,
    "alternative names": `its alternative names are ${listed(subjectAltNames)}, not ${listed(wanted.subjectAltNames)}`,
    key: `its key is ${keyText(keySpecOf(readPublicKey(spki))) || "of another kind"}, not ${keyText(wanted.key)}`,
    isCA: wanted.ca === undefined ? "it is a CA's" : "it is no CA's",
  };
  return [
    ...(now > notAfter ? [`its certificate ended at ${notAfter.toISOString()}`] : []),
    ...(now < notBefore ? [`its certificate begins at ${notBefore.toISOString()}`] : []),
    ...Object.entries(said).flatMap(([field, sentence]) => (different.has(field) ? [sentence] : [])),
  ];
}

/** Other CAs write the attributes of a subject in other orders. */
const attributes = (subject: RdnSequence): string =>
  JSON.stringify(
    subject
      .flat()
      .map(({ type, value }) => [type, value])
      .sort(),
  );

/** Names in a message; the certificate holds them all. */
const SHOWN = 10;

function listed(names: readonly GeneralName[]): string {
  const shown = names.slice(0, SHOWN).map((name) => quoted(generalNameToString(name)));
  return `${shown.join(", ") || "none"}${names.length > SHOWN ? `, and ${names.length - SHOWN} more` : ""}`;
}

/** `certificate 3f:0a of CN=Other CA`. */
export const naming = ({ serialNumber, issuer }: ParsedCertificate): string =>
  `certificate ${serialToText(serialNumber)} of ${nameToString(issuer)}`;
