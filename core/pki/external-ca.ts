/** CAs whose certificate is signed elsewhere, such as by a root that is kept offline: request out, certificate in. */
import type { AuthorityGeneration } from "../ports/pki-store.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { type ChainFault, pathLengthLeft, validateChain } from "./chain.ts";
import { CsrError, parseCsr } from "./csr.ts";
import { DerError } from "./der/reader.ts";
import { lintCertificate } from "./lint/certificate.ts";
import { MalformedInput } from "./malformed-input.ts";
import { encodeName, nameToString, parseName } from "./name.ts";
import { parsePem } from "./pem.ts";

/** What a signer elsewhere made of a request, judged. */
export interface ExternalCertificate {
  /** DER. */
  readonly certificate: Buffer;
  readonly notAfter: Date;
  /** DER of the certificates above it, nearest first, the root last. */
  readonly chain: readonly Buffer[];
  /** How many CAs may stand in a row below it; undefined: any number. */
  readonly pathLength: number | undefined;
}

const FIELD = "external.certificate";
/** The longest path that relying parties must be expected to follow. */
const MOST_CERTIFICATES = 8;

/** Whether a text is a request for this CA, signed with its key. */
export function isRequestFor(text: string, { spki, subject }: Pick<AuthorityGeneration, "spki" | "subject">): boolean {
  try {
    const request = parseCsr(text);
    return request.spki.equals(spki) && encodeName(request.subject).equals(subject);
  } catch (error) {
    if (error instanceof CsrError) return false;
    throw error;
  }
}

/** Whether a text has exactly the certificate and the chain that a CA has already. */
export function isInstalled(text: string, { certificate, chain }: AuthorityGeneration): boolean {
  if (certificate === undefined) return false;
  try {
    const blocks = parsePem(text, FIELD);
    const stored = [certificate, ...chain];
    return blocks.length === stored.length && blocks.every(({ der }, at) => stored[at]?.equals(der));
  } catch (error) {
    if (error instanceof MalformedInput) return false;
    throw error;
  }
}

/**
 * Reads the certificate of a CA and those above it, and holds them against the CA: it certifies this key and subject, it
 * is a CA's, and relying parties that trust the root would accept it and what is below it. One that is to take the place
 * of another must keep what was issued before verifiable.
 *
 * @param text PEM, the CA's own certificate first, the self-signed root last
 * @throws MalformedInput of `external.certificate`, with what to do about it
 */
export function judgeExternal(text: string, generation: AuthorityGeneration, at: Date): ExternalCertificate {
  const path = readPath(text);
  const [own] = path;
  judgeIdentity(own, path, generation);
  judgeUse(own);
  const above = path.slice(1);
  judgeOrder(path);
  const root = path.at(-1) ?? own;
  const between = above.slice(0, -1).map(({ der }) => der);
  const verdict = validateChain(own.der, between, [root.der], { at });
  if (!verdict.ok) {
    const which = verdict.certificate === undefined ? "a certificate" : naming(verdict.certificate);
    throw refused(`${which} ${faults[verdict.fault]}`);
  }
  const pathLength = pathLengthLeft(path);
  if (pathLength !== undefined && pathLength < 0) {
    throw refused(
      "a path length above allows no CA in this place; have it signed by a CA whose path length leaves room",
    );
  }
  const nearest = above[0] ?? own;
  const findings = lintCertificate(own.der, { issuer: nearest.der, urls: false });
  const errors = findings.filter(({ severity }) => severity === "Error");
  if (errors.length > 0) {
    const list = errors.map(({ code, message }) => `${message} (${code})`).join("; ");
    throw refused(`the CA's certificate has faults, have it signed again: ${list}`);
  }
  judgeRenewal(own, generation);
  return { certificate: own.der, notAfter: own.notAfter, chain: above.map(({ der }) => der), pathLength };
}

function readPath(text: string): [Certificate, ...Certificate[]] {
  const path = parsePem(text, FIELD).map(({ label, der }, index) => {
    const place = `the PEM block ${index + 1}`;
    if (label !== "CERTIFICATE") throw refused(`${place} is a ${label}; only certificates belong here`);
    try {
      return parseCertificate(der);
    } catch (error) {
      if (!(error instanceof DerError)) throw error;
      throw refused(`${place} is no certificate: ${error.message}`);
    }
  });
  const [own, ...above] = path;
  if (own === undefined || path.length > MOST_CERTIFICATES) {
    throw refused(`has ${path.length} certificates; at most ${MOST_CERTIFICATES} can stand here`);
  }
  return [own, ...above];
}

function judgeIdentity(own: Certificate, path: readonly Certificate[], { spki, subject }: AuthorityGeneration): void {
  if (!own.spki.equals(spki)) {
    const elsewhere = path.some((each) => each.spki.equals(spki));
    throw refused(
      elsewhere
        ? "put the CA's own certificate first, then those above it up to the root"
        : `the first certificate, ${naming(own)}, is for another key; have status.certificateSigningRequest signed`,
    );
  }
  if (!own.subjectDer.equals(subject)) {
    throw refused(
      `its subject is ${nameToString(own.subject)} and not, octet for octet, ${nameToString(parseName(subject))}; ` +
        "have the request signed with its subject unchanged (openssl ca: -preserveDN)",
    );
  }
}

/** RFC 5280 4.2.1.3, 4.2.1.9: what signs certificates and CRLs must say so. */
function judgeUse({ basicConstraints, keyUsage = [] }: Certificate): void {
  if (basicConstraints?.ca !== true) {
    throw refused("it is not a CA's; have it signed with basicConstraints = critical, CA:TRUE");
  }
  const missing = (["keyCertSign", "cRLSign"] as const).filter((usage) => !keyUsage.includes(usage));
  if (missing.length > 0) {
    throw refused(
      `its key usage lacks ${missing.join(", ")}; have it signed with keyUsage = critical, keyCertSign, cRLSign`,
    );
  }
}

function judgeOrder(path: readonly Certificate[]): void {
  for (const [index, each] of path.entries()) {
    const above = path[index + 1];
    const issuer = nameToString(each.issuer);
    if (above === undefined) {
      const selfSigned = each.issuerDer.equals(each.subjectDer) && verifySignedBy(each, each.spki);
      if (!selfSigned)
        throw refused(`the chain ends with ${naming(each)}; add the certificates from ${issuer} up to the root`);
    } else if (!each.issuerDer.equals(above.subjectDer)) {
      throw refused(`${naming(each)} was issued by ${issuer}, but ${naming(above)} follows; put its issuer there`);
    } else if (!verifySignedBy(each, above.spki)) {
      throw refused(
        `${naming(each)} is not signed with the key of the ${naming(above)} that follows; put its issuer there`,
      );
    }
  }
}

/** What was issued under the certificate before must verify under this one, and not outlive it. */
function judgeRenewal(own: Certificate, { certificate }: AuthorityGeneration): void {
  if (certificate === undefined) return;
  const before = parseCertificate(certificate);
  if (own.notAfter < before.notAfter) {
    throw refused(
      `it ends at ${own.notAfter.toISOString()}, before the one in use (${before.notAfter.toISOString()}); have it signed for longer`,
    );
  }
  const [was, is] = [before.subjectKeyIdentifier, own.subjectKeyIdentifier];
  if (was !== undefined && is !== undefined && !was.equals(is)) {
    throw refused(
      "its subjectKeyIdentifier differs from that of the one in use, which certificates issued before refer to; have it signed with the same",
    );
  }
}

const naming = ({ subject }: Certificate): string => `certificate ${nameToString(subject)}`;

const refused = (problem: string): MalformedInput => new MalformedInput(FIELD, problem);

const faults: Readonly<Record<ChainFault, string>> = {
  malformed: "is malformed",
  issuerMissing: "has no issuer among those that follow",
  signature: "has a signature that is not its issuer's",
  weakKey: "has a key that is too weak",
  notYetValid: "is not valid yet; have it signed with an earlier notBefore",
  expired: "has expired; have it signed again",
  basicConstraints: "needs basicConstraints = critical, CA:TRUE",
  pathLength: "allows fewer CAs below it; have it signed by a CA whose path length leaves room",
  keyUsage: "needs a keyUsage with keyCertSign",
  extendedKeyUsage: "has an extended key usage that does not fit",
  criticalExtension: "has a critical extension that is unknown here",
  nameConstraints: "has name constraints that a name below it violates",
  names: "lacks a subject or an issuer",
  identifiers: "lacks subjectKeyIdentifier or authorityKeyIdentifier, or has a critical one",
  otherName: "has another name",
};
