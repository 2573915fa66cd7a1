/** What a manifest asks an issuer for, and how a certificate that exists compares. Pure. */
import { durationMs } from "../../core/duration.ts";
import type { Certificate as ParsedCertificate } from "../../core/pki/certificate.ts";
import {
  encodeGeneralName,
  type GeneralName,
  type NameConstraints,
  nameConstraints,
  subjectAltNames,
} from "../../core/pki/general-name.ts";
import { type KeySpec, keySpecOf, readPublicKey } from "../../core/pki/key.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { fromSubject, nameToString, parseLiteralSubject, type RdnSequence } from "../../core/pki/name.ts";
import { sameConstraints } from "../../core/pki/name-constraints.ts";
import { type Profile, requestedUsages, type Usages } from "../../core/pki/profile.ts";
import { type RenewalSpec, renewalTime } from "../../core/pki/renewal.ts";
import { parseSerial } from "../../core/pki/serial.ts";
import type { CertificateRecord } from "../../core/ports/pki-store.ts";
import type { Certificate, CertificateSpec } from "../../crds/certificate.ts";
import { keySpec, present } from "../issuer/spec.ts";
import { writtenConstraints } from "../issuer/subordinate.ts";

const DEFAULT_DURATION = "2160h";

export interface WantedCertificate {
  readonly profile: Profile;
  readonly subject: RdnSequence;
  readonly subjectAltNames: readonly GeneralName[];
  readonly usages: Usages;
  /** Of a CA. Without a path length it is what the manifest asks for, not yet what the issuer makes of it. */
  readonly ca?: { readonly pathLength?: number; readonly nameConstraints?: NameConstraints };
  readonly key: KeySpec;
  readonly durationMs: number;
}

export const wantedDurationMs = ({ duration = DEFAULT_DURATION }: CertificateSpec): number => durationMs(duration);

/** @throws MalformedInput naming the field under `spec` */
export function wantedCertificate(spec: CertificateSpec): WantedCertificate {
  const {
    literalSubject,
    commonName,
    subject = {},
    dnsNames,
    ipAddresses,
    uris,
    emailAddresses,
    otherNames,
    usages,
  } = spec;
  const key = keySpec(spec.privateKey);
  const profile = spec.isCA === true ? "CA" : (spec.profile ?? profileOf(usages));
  const constraints = nameConstraints(writtenConstraints(spec.nameConstraints));
  return {
    profile,
    subject:
      literalSubject === undefined
        ? fromSubject(present({ ...subject, commonName }))
        : parseLiteralSubject(literalSubject, "literalSubject"),
    subjectAltNames: subjectAltNames(present({ dnsNames, ipAddresses, uris, emailAddresses, otherNames })),
    usages: requestedUsages(usages, profile, key),
    ...(spec.isCA === true && { ca: { ...(constraints && { nameConstraints: constraints }) } }),
    key,
    durationMs: wantedDurationMs(spec),
  };
}

const profileOf = (usages: CertificateSpec["usages"]): Profile =>
  usages?.includes("client auth") === true && !usages.includes("server auth") ? "Client" : "Server";

const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && new Set([...a, ...b]).size === new Set(a).size;

const namesOf = (names: readonly GeneralName[]): string[] =>
  names.map((name) => encodeGeneralName(name).toString("hex"));

export const keyText = (key: KeySpec | undefined): string =>
  key === undefined ? "" : `${key.algorithm} ${key.algorithm === "Ed25519" ? "" : key.size}`;

/** DER of a certificate that was issued, as every one is that belongs to a requester's list. */
export function issuedDer({ certificate, serialNumber }: CertificateRecord): Buffer {
  if (certificate === undefined) throw new TypeError(`certificate ${serialNumber} is not issued`);
  return certificate;
}

/**
 * Fields in which a certificate is not what is wanted. It compares what certificates say, not how: a release that encodes
 * something in another way must not issue every certificate again.
 */
export function differences(certificate: ParsedCertificate, wanted: WantedCertificate): string[] {
  const same = {
    subject: nameToString(certificate.subject) === nameToString(wanted.subject),
    "alternative names": sameSet(namesOf(certificate.subjectAltNames), namesOf(wanted.subjectAltNames)),
    usages:
      sameSet(certificate.keyUsage ?? [], wanted.usages.keyUsage) &&
      sameSet(certificate.extendedKeyUsage ?? [], wanted.usages.extendedKeyUsage),
    key: keyText(keySpecOf(readPublicKey(certificate.spki))) === keyText(wanted.key),
    isCA: (certificate.basicConstraints?.ca === true) === (wanted.ca !== undefined),
    ...(wanted.ca?.pathLength !== undefined && {
      "path length": certificate.basicConstraints?.pathLength === wanted.ca.pathLength,
      "name constraints": sameConstraints(certificate.nameConstraints, wanted.ca.nameConstraints),
    }),
  };
  return Object.entries(same).flatMap(([field, equal]) => (equal ? [] : [field]));
}

/** notBefore lies in the past for skewed clocks: 5 minutes, or a tenth of a short validity. */
const MAX_BACKDATE_MS = 300_000;

/** When this certificate is to be replaced. A duration that was made shorter since counts at once. */
export function renewalOf({ metadata, spec }: Certificate, { notBefore, notAfter, revision }: CertificateRecord): Date {
  const validityMs = notAfter.getTime() - notBefore.getTime();
  const issuedAt = new Date(notBefore.getTime() + Math.min(MAX_BACKDATE_MS, validityMs / 10));
  const end = new Date(notBefore.getTime() + Math.min(validityMs, wantedDurationMs(spec)));
  return renewalTime(issuedAt, end, renewalSpec(spec), `${metadata.uid}/${revision}`);
}

/** The same for one of another CA: by its own validity, since nobody asked for a duration when it was issued. */
export const renewalOfAdopted = (
  { metadata, spec }: Certificate,
  { notBefore, notAfter }: Pick<ParsedCertificate, "notBefore" | "notAfter">,
): Date => renewalTime(notBefore, notAfter, renewalSpec(spec), `${metadata.uid}/0`);

const renewalSpec = ({ renewBefore, renewBeforePercentage }: CertificateSpec): RenewalSpec => ({
  ...(renewBefore !== undefined && { renewBeforeMs: durationMs(renewBefore) }),
  ...(renewBeforePercentage !== undefined && { renewBeforePercentage }),
});

/** Lower-case hex; empty when it is none, which then was issued to nobody. */
export function readSerial(text: string): string {
  try {
    return parseSerial(text, "serialNumber").toString("hex");
  } catch (error) {
    if (error instanceof MalformedInput) return "";
    throw error;
  }
}
