/** What a manifest asks an issuer for, and how a certificate that exists compares. Pure. */
import { durationMs } from "../../core/duration.ts";
import type { Certificate as ParsedCertificate } from "../../core/pki/certificate.ts";
import { encodeGeneralName, type GeneralName, subjectAltNames } from "../../core/pki/general-name.ts";
import { type KeySpec, keySpecOf, readPublicKey } from "../../core/pki/key.ts";
import { fromSubject, nameToString, parseLiteralSubject, type RdnSequence } from "../../core/pki/name.ts";
import { type Profile, requestedUsages, type Usages } from "../../core/pki/profile.ts";
import { renewalTime } from "../../core/pki/renewal.ts";
import type { CertificateRecord } from "../../core/ports/pki-store.ts";
import type { Certificate, CertificateSpec } from "../../crds/certificate.ts";
import { keySpec, present } from "../issuer/spec.ts";

const DEFAULT_DURATION = "2160h";

export interface WantedCertificate {
  readonly profile: Profile;
  readonly subject: RdnSequence;
  readonly subjectAltNames: readonly GeneralName[];
  readonly usages: Usages;
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
  const profile = spec.profile ?? profileOf(usages);
  return {
    profile,
    subject:
      literalSubject === undefined
        ? fromSubject(present({ ...subject, commonName }))
        : parseLiteralSubject(literalSubject, "literalSubject"),
    subjectAltNames: subjectAltNames(present({ dnsNames, ipAddresses, uris, emailAddresses, otherNames })),
    usages: requestedUsages(usages, profile, key),
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

const keyText = (key: KeySpec | undefined): string =>
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
  const { renewBefore, renewBeforePercentage } = spec;
  const when = {
    ...(renewBefore !== undefined && { renewBeforeMs: durationMs(renewBefore) }),
    ...(renewBeforePercentage !== undefined && { renewBeforePercentage }),
  };
  return renewalTime(issuedAt, end, when, `${metadata.uid}/${revision}`);
}
