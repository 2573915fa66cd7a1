/** What a CertificateRequest asks an issuer for. Pure. */
import { durationMs } from "../../core/duration.ts";
import { type Csr, parseCsr } from "../../core/pki/csr.ts";
import type { GeneralName } from "../../core/pki/general-name.ts";
import { type KeySpec, keySpecOf } from "../../core/pki/key.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import type { RdnSequence } from "../../core/pki/name.ts";
import { oids } from "../../core/pki/oid.ts";
import { completedUsages, namesOfUsages, type Profile, requestedUsages, type Usages } from "../../core/pki/profile.ts";
import type { CertificateRequestSpec } from "../../crds/certificaterequest.ts";

const DEFAULT_DURATION = "2160h";

export interface RequestedCertificate {
  readonly profile: Profile;
  readonly subject: RdnSequence;
  readonly subjectAltNames: readonly GeneralName[];
  readonly usages: Usages;
  readonly key: KeySpec;
  /** DER of its SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** DER of the whole. */
  readonly csr: Buffer;
  readonly durationMs: number;
}

/**
 * The request, its signature checked, as a whole: what it asks for and cannot have is refused and never left out.
 *
 * @throws CsrError, MalformedInput naming the field under `spec`
 */
export function requestedCertificate(spec: CertificateRequestSpec): RequestedCertificate {
  const csr = parseCsr(encodedRequest(spec.request));
  const key = keySpecOf(csr.publicKey);
  if (key === undefined) throw new MalformedInput("request", "its key is of a kind that is not signed");
  checkExtensions(csr);
  const { der, subject, subjectAltNames, spki } = csr;
  const duration = durationMs(spec.duration ?? DEFAULT_DURATION);
  return { subject, subjectAltNames, spki, csr: der, key, durationMs: duration, ...purposeOf(spec, csr, key) };
}

function encodedRequest(text: string): Buffer | string {
  if (text.startsWith("-")) return text;
  const base64 = text.replaceAll(/[\r\n]/g, "");
  const bytes = Buffer.from(base64, "base64");
  // Buffer skips what is not base64, so only text that comes out again was base64.
  if (bytes.toString("base64") !== base64) throw new MalformedInput("request", "is not base64; pad it with =");
  return bytes;
}

/** Ours to choose, so that asking for one is no wish of its own. */
const granted: readonly string[] = [
  oids.subjectAltName,
  oids.basicConstraints,
  oids.keyUsage,
  oids.extendedKeyUsage,
  oids.subjectKeyIdentifier,
];

function checkExtensions({ basicConstraints, extensions }: Csr): void {
  if (basicConstraints?.ca === true) {
    const help = "leave basicConstraints CA:TRUE out; a CA of its own is an Issuer with ca.parentRef";
    throw new MalformedInput("request", `asks for the certificate of a CA; ${help}`);
  }
  const unknown = [...extensions.keys()].filter((oid) => !granted.includes(oid));
  if (unknown.length === 0) return;
  const named = `${unknown.slice(0, 5).join(", ")}${unknown.length > 5 ? ", ..." : ""}`;
  throw new MalformedInput("request", `asks for extensions that are not issued (${named}); leave them out`);
}

/** The manifest says what the certificate is for, or else the request does; where both do, they must agree. */
function purposeOf(
  spec: CertificateRequestSpec,
  csr: Csr,
  key: KeySpec,
): Pick<RequestedCertificate, "profile" | "usages"> {
  const asked: Usages = { keyUsage: csr.keyUsage ?? [], extendedKeyUsage: csr.extendedKeyUsage ?? [] };
  const said = spec.usages ?? namesOfPurposes(asked);
  const onlyClient = said.includes("client auth") && !said.includes("server auth");
  const profile = spec.profile ?? (onlyClient ? "Client" : "Server");
  const whole = completedUsages(asked, profile, key, "request: usages");
  if (spec.usages === undefined && spec.profile === undefined) return { profile, usages: whole };
  const usages = requestedUsages(spec.usages, profile, key);
  const beyond = {
    keyUsage: (asked.keyUsage.length > 0 ? whole.keyUsage : []).filter((use) => !usages.keyUsage.includes(use)),
    extendedKeyUsage: asked.extendedKeyUsage.filter((purpose) => !usages.extendedKeyUsage.includes(purpose)),
  };
  const names = namesOfUsages(beyond);
  if (names.length > 0) {
    const field = spec.usages === undefined ? `profile ${profile}` : "usages";
    throw new MalformedInput(
      "request",
      `asks for ${names.join(", ")}, which spec.${field} does not hold; make them agree`,
    );
  }
  return { profile, usages };
}

const namesOfPurposes = ({ extendedKeyUsage }: Usages): string[] => [
  ...(extendedKeyUsage.includes(oids.clientAuth) ? ["client auth"] : []),
  ...(extendedKeyUsage.includes(oids.serverAuth) ? ["server auth"] : []),
];
