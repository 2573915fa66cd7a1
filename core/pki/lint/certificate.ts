import { type Certificate, parseCaCertificate, parseCertificate, verifySignedBy } from "../certificate.ts";
import { readTime } from "../crl.ts";
import { DerError, readDer } from "../der/reader.ts";
import { contextTag } from "../der/writer.ts";
import type { KeyUsage } from "../extension.ts";
import { encodeGeneralName, generalNameToString, type NameConstraints } from "../general-name.ts";
import { type KeySpec, keySpecOf, readPublicKey, weakKey } from "../key.ts";
import { constrainedName, sameConstraints } from "../name-constraints.ts";
import { oids } from "../oid.ts";
import { type Finding, Findings } from "./finding.ts";

export interface CertificateExpectations {
  /** DER of the issuer's certificate; of the certificate itself when it is self-signed. */
  readonly issuer: Buffer;
  /** Extended key usages that it must have, exactly; absent: any. */
  readonly extendedKeyUsage?: readonly string[];
  /** What it must say as the certificate of a CA, exactly; false: it must be no CA's; absent: either. */
  readonly ca?: { readonly pathLength?: number; readonly nameConstraints?: NameConstraints } | false;
  /** Whether it must say where its CRL, its OCSP responder and its issuer's certificate are. */
  readonly urls: boolean;
}

/**
 * Holds a certificate against RFC 5280 and what MazeVault itself promises. It reads the DER and shares no code with what
 * wrote it but the grammar.
 *
 * @param read the DER, or what `parseCertificate` read from it
 */
export function lintCertificate(read: Buffer | Certificate, expectations: CertificateExpectations): Finding[] {
  const findings = new Findings();
  try {
    const certificate = Buffer.isBuffer(read) ? parseCertificate(read) : read;
    const issuer = parseCaCertificate(expectations.issuer);
    lintSerialNumber(certificate, findings);
    lintSignature(certificate, issuer, findings);
    lintValidity(certificate, issuer, findings);
    lintUsages(certificate, expectations, findings);
    lintLimits(certificate, expectations, findings);
    lintNames(certificate, issuer, findings);
    lintIdentifiers(certificate, issuer, findings);
    lintUrls(certificate, expectations, findings);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    findings.error(true, "malformed", error.message);
  }
  return findings.all;
}

const isCa = ({ basicConstraints }: Certificate) => basicConstraints?.ca === true;
const isSelfSigned = ({ der }: Certificate, issuer: Certificate) => der.equals(issuer.der);
const isCritical = ({ extensions }: Certificate, oid: string) => extensions.get(oid)?.critical === true;

/** RFC 5280 4.1.2.2; entropy cannot be seen, but its lack can. */
function lintSerialNumber({ serialNumber }: Certificate, findings: Findings): void {
  const octets = new Set(serialNumber);
  findings.error(
    serialNumber.every((octet) => octet === 0),
    "serialNumberZero",
    "the serial number is 0",
  );
  findings.error(serialNumber.length < 8, "serialNumberShort", "the serial number has less than 64 bits");
  const steps = new Set([...serialNumber.subarray(1)].map((octet, at) => (octet - (serialNumber[at] ?? 0)) & 0xff));
  findings.error(octets.size < 4 || steps.size < 3, "serialNumberPattern", "the serial number is not random");
}

function lintSignature(certificate: Certificate, issuer: Certificate, findings: Findings): void {
  const right = verifySignedBy(certificate, issuer.spki);
  findings.error(!right, "signature", "the signature is not the issuer's, or of an algorithm that nobody should trust");
  findings.error(
    !certificate.issuerDer.equals(issuer.subjectDer),
    "issuerName",
    "the issuer is not the issuer's subject",
  );
  const weak = weakKey(readPublicKey(certificate.spki));
  findings.error(weak !== undefined, "weakKey", weak ?? "");
  const maySign = isCa(issuer) && issuer.keyUsage?.includes("keyCertSign") === true;
  findings.error(!maySign && !isSelfSigned(certificate, issuer), "issuerUsage", "the issuer may not sign certificates");
  const tooDeep = isCa(certificate) && issuer.basicConstraints?.pathLength === 0 && !isSelfSigned(certificate, issuer);
  findings.error(tooDeep, "pathLength", "the issuer may have no CA below it");
}

function lintValidity(certificate: Certificate, issuer: Certificate, findings: Findings): void {
  readDer(certificate.tbs, (r) =>
    r.sequence((tbs) => {
      tbs.optional(contextTag(0, true), (version) => version.any());
      for (const _ of ["serialNumber", "signature", "issuer"]) tbs.any();
      // Throws DerError for the wrong form (4.1.2.5).
      tbs.sequence((validity) => [readTime(validity), readTime(validity)]);
      while (!tbs.done) tbs.any();
    }),
  );
  const { notBefore, notAfter } = certificate;
  findings.error(notBefore >= notAfter, "validityEmpty", "notAfter is not after notBefore");
  findings.error(notAfter > issuer.notAfter, "outlivesIssuer", "notAfter is after the issuer's");
  findings.warning(notBefore < issuer.notBefore, "olderThanIssuer", "notBefore is before the issuer's");
}

/** What keys of an algorithm cannot do: RFC 4055 1.2, RFC 8813 3, RFC 8410 5. */
const IMPOSSIBLE: Readonly<Record<KeySpec["algorithm"], readonly KeyUsage[]>> = {
  RSA: ["keyAgreement", "encipherOnly", "decipherOnly"],
  ECDSA: ["keyEncipherment", "dataEncipherment"],
  Ed25519: ["keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"],
};

function lintUsages(certificate: Certificate, expectations: CertificateExpectations, findings: Findings): void {
  const { keyUsage, extendedKeyUsage = [], basicConstraints, extensions } = certificate;
  const ca = isCa(certificate);
  const constraints = extensions.get(oids.basicConstraints);
  findings.error(
    ca && constraints?.critical !== true,
    "basicConstraintsCritical",
    "basicConstraints of a CA is not critical",
  );
  const signsCertificates = keyUsage?.includes("keyCertSign") === true;
  findings.error(signsCertificates !== ca, "keyCertSign", "keyCertSign and basicConstraints do not say the same");
  findings.error(!ca && keyUsage?.includes("cRLSign") === true, "cRLSign", "cRLSign without being a CA");
  findings.warning(ca && keyUsage?.includes("cRLSign") === false, "cRLSignMissing", "a CA that cannot revoke");
  findings.error(
    basicConstraints?.pathLength !== undefined && !signsCertificates,
    "pathLengthUse",
    "a path length without keyCertSign",
  );
  findings.error(keyUsage === undefined || keyUsage.length === 0, "keyUsageMissing", "there is no keyUsage");
  findings.warning(
    keyUsage !== undefined && !isCritical(certificate, oids.keyUsage),
    "keyUsageCritical",
    "keyUsage is not critical",
  );
  const algorithm = keySpecOf(readPublicKey(certificate.spki))?.algorithm;
  const cannot = keyUsage?.filter((usage) => algorithm !== undefined && IMPOSSIBLE[algorithm].includes(usage)) ?? [];
  findings.error(
    cannot.length > 0,
    "keyUsageAlgorithm",
    `a key of ${algorithm} cannot be used for ${cannot.join(", ")}`,
  );

  findings.warning(!ca && extendedKeyUsage.length === 0, "extendedKeyUsageMissing", "it is good for every purpose");
  findings.warning(
    extendedKeyUsage.includes(oids.anyExtendedKeyUsage),
    "extendedKeyUsageAny",
    "it is good for any purpose",
  );
  const wanted = expectations.extendedKeyUsage;
  const same = wanted?.length === extendedKeyUsage.length && wanted.every((one) => extendedKeyUsage.includes(one));
  findings.error(
    wanted !== undefined && !same,
    "extendedKeyUsage",
    "the extended key usages are not those of its profile",
  );
  const responder = extendedKeyUsage.includes(oids.ocspSigning);
  findings.error(responder && ca, "responderCa", "an OCSP responder that is a CA");
  findings.error(
    responder !== extensions.has(oids.ocspNoCheck),
    "ocspNoCheck",
    "id-pkix-ocsp-nocheck belongs into OCSP responders' certificates, and only there",
  );
  findings.error(
    responder && keyUsage?.includes("digitalSignature") !== true,
    "responderUsage",
    "an OCSP responder that may not sign",
  );
  for (const { oid, critical } of extensions.values()) {
    findings.error(critical && !MAY_BE_CRITICAL.has(oid), "critical", `the extension ${oid} is critical`);
  }
}

/** What a CA must not grow beyond. */
function lintLimits(certificate: Certificate, { ca: wanted }: CertificateExpectations, findings: Findings): void {
  const { basicConstraints, nameConstraints } = certificate;
  if (wanted === undefined) return;
  findings.error(wanted === false && isCa(certificate), "caUnexpected", "a CA's certificate that should be none");
  if (wanted === false) return;
  findings.error(!isCa(certificate), "caMissing", "no CA's certificate that should be one");
  const longer = basicConstraints?.pathLength !== wanted.pathLength;
  findings.error(longer, "pathLengthDiffers", "the path length is not the one that its issuer allows");
  const wider = !sameConstraints(nameConstraints, wanted.nameConstraints);
  findings.error(wider, "nameConstraintsDiffer", "the name constraints are not those that its issuer allows");
}

/** RFC 5280 4.2.1; every other extension that a relying party may not know must not stop it. */
const MAY_BE_CRITICAL: ReadonlySet<string> = new Set([
  oids.basicConstraints,
  oids.keyUsage,
  oids.extendedKeyUsage,
  oids.subjectAltName,
  oids.nameConstraints,
  oids.certificatePolicies,
]);

const DNS_NAME = /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?$/;

function lintNames(certificate: Certificate, issuer: Certificate, findings: Findings): void {
  const { subject, subjectAltNames: names, extendedKeyUsage, nameConstraints } = certificate;
  const ca = isCa(certificate);
  findings.error(subject.length === 0 && (ca || names.length === 0), "subjectEmpty", "there is no name");
  const critical = isCritical(certificate, oids.subjectAltName);
  findings.error(
    subject.length === 0 && names.length > 0 && !critical,
    "subjectAltNameCritical",
    "without a subject subjectAltName must be critical",
  );
  findings.warning(
    subject.length > 0 && critical,
    "subjectAltNameNotCritical",
    "beside a subject subjectAltName should not be critical",
  );
  const server = extendedKeyUsage?.includes(oids.serverAuth) === true;
  findings.error(server && !ca && names.length === 0, "subjectAltNameMissing", "a server without subjectAltName");
  const wrong = names.filter((name) => name.kind === "dns" && !DNS_NAME.test(name.value)).map(generalNameToString);
  findings.error(wrong.length > 0, "dnsName", `no DNS names in lower case: ${wrong.join(", ")}`);
  const distinct = new Set(names.map((name) => encodeGeneralName(name).toString("hex")));
  findings.warning(distinct.size < names.length, "namesTwice", "the same alternative name stands there twice");
  const commonNames = subject.flat().filter(({ type }) => type === oids.commonName);
  findings.error(
    commonNames.some(({ value }) => [...value].length > 64),
    "commonNameLong",
    "the common name has more than 64 characters",
  );
  const common = commonNames.map(({ value }) => value.toLowerCase());
  const missing =
    server && !ca && common.some((value) => !names.some((name) => "value" in name && name.value === value));
  findings.warning(missing, "commonNameAlone", "a server's common name that is not among its alternative names");
  findings.error(
    nameConstraints !== undefined && (!ca || !isCritical(certificate, oids.nameConstraints)),
    "nameConstraints",
    "nameConstraints must be critical and belong into CA certificates",
  );
  const all = subject.length === 0 ? names : [...names, { kind: "directory" as const, rdns: subject }];
  const outside =
    issuer.nameConstraints && !isSelfSigned(certificate, issuer) && constrainedName(issuer.nameConstraints, all);
  findings.error(
    Boolean(outside),
    "constrained",
    `outside the issuer's name constraints: ${outside ? generalNameToString(outside) : ""}`,
  );
}

/** RFC 5280 4.2.1.1, 4.2.1.2 */
function lintIdentifiers(certificate: Certificate, issuer: Certificate, findings: Findings): void {
  const { subjectKeyIdentifier: own, authorityKeyIdentifier } = certificate;
  const authority = authorityKeyIdentifier?.keyIdentifier;
  findings.error(own === undefined, "subjectKeyIdentifier", "there is no subjectKeyIdentifier");
  const needed = !isSelfSigned(certificate, issuer);
  findings.error(
    needed && authority === undefined,
    "authorityKeyIdentifierMissing",
    "there is no authorityKeyIdentifier",
  );
  const other = authority && !authority.equals(issuer.subjectKeyIdentifier ?? Buffer.alloc(0));
  findings.error(
    Boolean(other),
    "authorityKeyIdentifier",
    "the authorityKeyIdentifier is not the issuer's subjectKeyIdentifier",
  );
}

function lintUrls(certificate: Certificate, { urls, issuer }: CertificateExpectations, findings: Findings): void {
  const { crlUrls, authorityInfoAccess: { ocsp = [], caIssuers = [] } = {}, der, extensions } = certificate;
  // Nobody asks about trust anchors, nor about a responder (RFC 6960 4.2.2.2.1).
  const asked = urls && !der.equals(issuer) && !extensions.has(oids.ocspNoCheck);
  findings.error(asked && crlUrls.length === 0, "crlUrl", "it does not say where its CRL is");
  findings.error(asked && ocsp.length === 0, "ocspUrl", "it does not say where its OCSP responder is");
  findings.error(asked && caIssuers.length === 0, "issuerUrl", "it does not say where its issuer's certificate is");
  // RFC 5280 8: fetching them by https would need what they are fetched for.
  const others = [...crlUrls, ...ocsp, ...caIssuers].filter((url) => !url.startsWith("http://"));
  findings.warning(others.length > 0, "urlScheme", `not http: ${others.join(", ")}`);
}
