/**
 * Path validation (RFC 5280 6.1), as strict as OpenSSL's `-x509_strict` and with its reading of extended key usages. Policies
 * are not processed: a certificate that insists on one is refused.
 */
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { DerError } from "./der/reader.ts";
import type { KeyUsage } from "./extension.ts";
import { type GeneralName, inIpRange } from "./general-name.ts";
import { readPublicKey, weakKey } from "./key.ts";
import { sameName } from "./name.ts";
import { constrainedName } from "./name-constraints.ts";
import { oids } from "./oid.ts";

export type ChainPurpose = "serverAuth" | "clientAuth";

export type ChainFault =
  | "malformed"
  | "issuerMissing"
  | "signature"
  | "weakKey"
  | "notYetValid"
  | "expired"
  | "basicConstraints"
  | "pathLength"
  | "keyUsage"
  | "extendedKeyUsage"
  | "criticalExtension"
  | "nameConstraints"
  | "names"
  | "identifiers"
  | "otherName";

export interface ChainOptions {
  readonly at: Date;
  /** What the leaf is to be used for; every certificate with extended key usages must have this one. */
  readonly purpose?: ChainPurpose;
  /** Each must be a name of the leaf: what a client would connect to. */
  readonly names?: readonly (GeneralName & { readonly kind: "dns" | "ip" })[];
}

export type ChainVerdict =
  /** The leaf first, the trust anchor last. */
  | { readonly ok: true; readonly path: readonly Certificate[] }
  /** `certificate`: in which one; undefined: in one that cannot be read. */
  | { readonly ok: false; readonly fault: ChainFault; readonly certificate: Certificate | undefined };

/** Longest path that is looked for, and how many certificates are looked at on the way: loops and mazes end. */
const MAX_PATH = 10;
const MAX_STEPS = 200;

/**
 * Looks for a path from `leaf` to one of `roots`, all in DER.
 *
 * @param roots trust anchors: trusted as they are, yet held to the same rules
 * @returns the first path without a fault, else the fault of the first path
 */
export function validateChain(
  leaf: Buffer,
  intermediates: readonly Buffer[],
  roots: readonly Buffer[],
  options: ChainOptions,
): ChainVerdict {
  try {
    const anchors = roots.map(parseCertificate);
    const search = new PathSearch(anchors, [...anchors, ...intermediates.map(parseCertificate)], options);
    return search.from([parseCertificate(leaf)]);
  } catch (error) {
    if (error instanceof DerError) return { ok: false, fault: "malformed", certificate: undefined };
    throw error;
  }
}

class PathSearch {
  readonly #anchors: readonly Certificate[];
  readonly #issuers: readonly Certificate[];
  readonly #options: ChainOptions;
  #steps = 0;

  constructor(anchors: readonly Certificate[], issuers: readonly Certificate[], options: ChainOptions) {
    this.#anchors = anchors;
    this.#issuers = issuers;
    this.#options = options;
  }

  from(path: readonly [Certificate, ...Certificate[]]): ChainVerdict {
    const last = path.at(-1) ?? path[0];
    if (this.#anchors.some(({ der }) => der.equals(last.der))) return judge(path, this.#options);
    let failure: ChainVerdict | undefined;
    for (const issuer of this.#issuers) {
      if (!mayIssue(issuer, last) || path.includes(issuer)) continue;
      this.#steps += 1;
      if (path.length >= MAX_PATH || this.#steps > MAX_STEPS) break;
      const verdict = verifySignedBy(last, issuer.spki) ? this.from([...path, issuer]) : fault("signature", last);
      if (verdict.ok) return verdict;
      failure ??= verdict;
    }
    return failure ?? fault("issuerMissing", last);
  }
}

function fault(what: ChainFault, certificate: Certificate): ChainVerdict {
  return { ok: false, fault: what, certificate };
}

function mayIssue(issuer: Certificate, certificate: Certificate): boolean {
  const wanted = certificate.authorityKeyIdentifier?.keyIdentifier;
  const own = issuer.subjectKeyIdentifier;
  return sameName(issuer.subject, certificate.issuer) && (!wanted || !own || wanted.equals(own));
}

function judge(path: readonly [Certificate, ...Certificate[]], options: ChainOptions): ChainVerdict {
  for (const [index, certificate] of path.entries()) {
    const what =
      faultOfOne(certificate, options, index === 0) ??
      (path.length > 1 ? formFault(certificate, index === path.length - 1) : undefined) ??
      faultBelow(certificate, path.slice(0, index));
    if (what !== undefined) return fault(what, certificate);
  }
  const [leaf] = path;
  return options.names?.every((name) => hasName(leaf, name)) === false ? fault("otherName", leaf) : { ok: true, path };
}

/** Extensions whose meaning is known here, or has none for whom policies do not matter. */
const KNOWN: ReadonlySet<string> = new Set([
  oids.basicConstraints,
  oids.keyUsage,
  oids.extendedKeyUsage,
  oids.subjectAltName,
  oids.nameConstraints,
  oids.cRLDistributionPoints,
  oids.certificatePolicies,
  oids.ocspNoCheck,
]);

const PURPOSES: Record<ChainPurpose, { oid: string; leaf: readonly KeyUsage[] }> = {
  serverAuth: { oid: oids.serverAuth, leaf: ["digitalSignature", "keyEncipherment", "keyAgreement"] },
  clientAuth: { oid: oids.clientAuth, leaf: ["digitalSignature", "keyAgreement"] },
};

function faultOfOne(certificate: Certificate, { at, purpose }: ChainOptions, isLeaf: boolean): ChainFault | undefined {
  const { keyUsage, extendedKeyUsage, basicConstraints } = certificate;
  if (at < certificate.notBefore) return "notYetValid";
  if (at > certificate.notAfter) return "expired";
  if (weakKey(readPublicKey(certificate.spki)) !== undefined) return "weakKey";
  for (const { oid, critical } of certificate.extensions.values()) {
    if (critical && !KNOWN.has(oid) && !IDENTIFIERS.has(oid)) return "criticalExtension";
  }
  if (!isLeaf && basicConstraints?.ca !== true) return "basicConstraints";
  if (!isLeaf && keyUsage?.includes("keyCertSign") === false) return "keyUsage";
  if (purpose === undefined) return undefined;
  const { oid, leaf } = PURPOSES[purpose];
  // Also in CA certificates, where they limit what is below (RFC 5280 4.2.1.12 leaves it open; this is what everyone does).
  if (extendedKeyUsage?.includes(oid) === false) return "extendedKeyUsage";
  return isLeaf && keyUsage?.some((usage) => leaf.includes(usage)) === false ? "keyUsage" : undefined;
}

const IDENTIFIERS: ReadonlySet<string> = new Set([oids.authorityKeyIdentifier, oids.subjectKeyIdentifier]);

/** What RFC 5280 4 demands of every certificate that a conforming CA issues, as far as it bears on trust. */
function formFault(certificate: Certificate, isAnchor: boolean): ChainFault | undefined {
  const { basicConstraints, keyUsage = [], extensions, subject, subjectAltNames } = certificate;
  const ca = basicConstraints?.ca === true;
  const critical = (oid: string) => extensions.get(oid)?.critical === true;
  // 4.2.1.9, 4.2.1.3
  if (ca && !critical(oids.basicConstraints)) return "basicConstraints";
  if (ca ? certificate.keyUsage === undefined : keyUsage.includes("keyCertSign")) return "keyUsage";
  if (basicConstraints?.pathLength !== undefined && !keyUsage.includes("keyCertSign")) return "keyUsage";
  // 4.1.2.4, 4.1.2.6, 4.2.1.6
  if (certificate.issuer.length === 0) return "names";
  if (subject.length === 0) {
    if (ca || keyUsage.includes("cRLSign") || subjectAltNames.length === 0) return "names";
    if (!critical(oids.subjectAltName)) return "names";
  }
  // 4.2.1.1, 4.2.1.2
  if ([...IDENTIFIERS].some(critical)) return "identifiers";
  if (!isAnchor && certificate.authorityKeyIdentifier?.keyIdentifier === undefined) return "identifiers";
  return ca && certificate.subjectKeyIdentifier === undefined ? "identifiers" : undefined;
}

/** What a CA's certificate says about those below it, the leaf first. */
function faultBelow(issuer: Certificate, below: readonly Certificate[]): ChainFault | undefined {
  const { basicConstraints, nameConstraints } = issuer;
  const counted = below.filter((one, index) => index > 0 && !selfIssued(one));
  if (counted.length > (basicConstraints?.pathLength ?? Number.POSITIVE_INFINITY)) return "pathLength";
  if (nameConstraints === undefined) return undefined;
  const bound = below.filter((one, index) => index === 0 || !selfIssued(one));
  const violated = bound.some((one) => constrainedName(nameConstraints, namesOf(one, one === below[0])) !== undefined);
  return violated ? "nameConstraints" : undefined;
}

/**
 * How many CAs may stand in a row below the first of a path; undefined: any number; negative: it may not stand there.
 *
 * @param path a CA's certificate, then those above it (RFC 5280 6.1.4 (l), (m): self-issued ones do not count)
 */
export function pathLengthLeft(path: readonly Certificate[]): number | undefined {
  const limits = path.flatMap(({ basicConstraints }, index) => {
    const length = basicConstraints?.pathLength;
    return length === undefined ? [] : [length - path.slice(0, index).filter((each) => !selfIssued(each)).length];
  });
  return limits.length === 0 ? undefined : Math.min(...limits);
}

const selfIssued = ({ subject, issuer }: Certificate): boolean => sameName(subject, issuer);

/** All names that constraints are about, also those that older software takes from the subject. */
function namesOf({ subject, subjectAltNames }: Certificate, isLeaf: boolean): GeneralName[] {
  const names: GeneralName[] = [...subjectAltNames];
  if (subject.length > 0) names.push({ kind: "directory", rdns: subject });
  const hasDns = subjectAltNames.some(({ kind }) => kind === "dns");
  for (const { type, value } of subject.flat()) {
    if (type === oids.emailAddress) names.push({ kind: "email", value });
    const host = type === oids.commonName && /^[\w*-]+(\.[\w-]+)+$/.test(value);
    if (isLeaf && !hasDns && host) names.push({ kind: "dns", value });
  }
  return names;
}

/** RFC 9525 6.3: a wildcard stands for the whole first label, and names in the subject do not count. */
function hasName(
  { subjectAltNames }: Certificate,
  wanted: { readonly kind: "dns" | "ip"; readonly value: string },
): boolean {
  const value = wanted.value.toLowerCase();
  return subjectAltNames.some((name) => {
    if (name.kind !== wanted.kind) return false;
    if (name.kind === "ip") return inIpRange(value, `${name.value}/${name.value.includes(":") ? 128 : 32}`);
    const own = (name as { value: string }).value.toLowerCase();
    return own === value || (own.startsWith("*.") && own.slice(1) === value.slice(Math.max(0, value.indexOf("."))));
  });
}
