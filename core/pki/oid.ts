/** Object identifiers by name, and their DER form. */

export const oids = {
  // Attribute types of names (RFC 5280 A.1, RFC 4519)
  commonName: "2.5.4.3",
  surname: "2.5.4.4",
  serialNumber: "2.5.4.5",
  countryName: "2.5.4.6",
  localityName: "2.5.4.7",
  stateOrProvinceName: "2.5.4.8",
  streetAddress: "2.5.4.9",
  organizationName: "2.5.4.10",
  organizationalUnitName: "2.5.4.11",
  title: "2.5.4.12",
  postalCode: "2.5.4.17",
  givenName: "2.5.4.42",
  userId: "0.9.2342.19200300.100.1.1",
  domainComponent: "0.9.2342.19200300.100.1.25",
  emailAddress: "1.2.840.113549.1.9.1",
  // Public keys and signatures (RFC 3279, 4055, 5480, 8410)
  rsaEncryption: "1.2.840.113549.1.1.1",
  sha256WithRsa: "1.2.840.113549.1.1.11",
  sha384WithRsa: "1.2.840.113549.1.1.12",
  sha512WithRsa: "1.2.840.113549.1.1.13",
  ecPublicKey: "1.2.840.10045.2.1",
  prime256v1: "1.2.840.10045.3.1.7",
  secp384r1: "1.3.132.0.34",
  secp521r1: "1.3.132.0.35",
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  ecdsaWithSha384: "1.2.840.10045.4.3.3",
  ecdsaWithSha512: "1.2.840.10045.4.3.4",
  ed25519: "1.3.101.112",
  sha1: "1.3.14.3.2.26",
  sha256: "2.16.840.1.101.3.4.2.1",
  // Certificate extensions (RFC 5280 4.2)
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  cRLDistributionPoints: "2.5.29.31",
  certificatePolicies: "2.5.29.32",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  authorityInfoAccess: "1.3.6.1.5.5.7.1.1",
  accessOcsp: "1.3.6.1.5.5.7.48.1",
  accessCaIssuers: "1.3.6.1.5.5.7.48.2",
  // CRL extensions (RFC 5280 5.2, 5.3)
  cRLNumber: "2.5.29.20",
  cRLReason: "2.5.29.21",
  invalidityDate: "2.5.29.24",
  deltaCRLIndicator: "2.5.29.27",
  issuingDistributionPoint: "2.5.29.28",
  // OCSP (RFC 6960, 9654)
  ocspBasic: "1.3.6.1.5.5.7.48.1.1",
  ocspNonce: "1.3.6.1.5.5.7.48.1.2",
  ocspNoCheck: "1.3.6.1.5.5.7.48.1.5",
  // Extended key usages (RFC 5280 4.2.1.12)
  anyExtendedKeyUsage: "2.5.29.37.0",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  emailProtection: "1.3.6.1.5.5.7.3.4",
  ipsecEndSystem: "1.3.6.1.5.5.7.3.5",
  ipsecTunnel: "1.3.6.1.5.5.7.3.6",
  ipsecUser: "1.3.6.1.5.5.7.3.7",
  timeStamping: "1.3.6.1.5.5.7.3.8",
  ocspSigning: "1.3.6.1.5.5.7.3.9",
  microsoftSgc: "1.3.6.1.4.1.311.10.3.3",
  netscapeSgc: "2.16.840.1.113730.4.1",
  // PKCS #10 (RFC 2985) and internationalised mail (RFC 9598)
  extensionRequest: "1.2.840.113549.1.9.14",
  smtpUtf8Mailbox: "1.3.6.1.5.5.7.8.9",
} as const;

/** Longest content of an OID that is read or written; RFC 5280 asks for less than 100 characters. */
export const maxOidOctets = 64;

const dottedForm = /^(?:[01]\.(?:\d|[1-3]\d)|2\.(?:0|[1-9]\d*))(?:\.(?:0|[1-9]\d*))*$/;

/** Whether the text is a dotted OID that can be encoded. */
export function isOid(text: string): boolean {
  return text.length <= 200 && dottedForm.test(text) && encode(text).length <= maxOidOctets + 2;
}

const named = new Map<string, Buffer>(Object.values(oids).map((text) => [text, encode(text)]));
/** By content, an octet for each character. */
const dotted = new Map([...named].map(([text, der]) => [der.toString("latin1", 2), text]));

/** The dotted form of an OID's content when it is one of {@link oids}, as almost all are that are read. */
export const knownOid = (content: Buffer): string | undefined => dotted.get(content.toString("latin1"));

/** The complete DER element of a dotted OID; throws RangeError on what {@link isOid} refuses. Not to be written to. */
export function encodedOid(dotted: string): Buffer {
  const known = named.get(dotted);
  if (known) return known;
  if (!isOid(dotted)) throw new RangeError(`${JSON.stringify(dotted.slice(0, 200))} is not an object identifier`);
  return encode(dotted);
}

function encode(dotted: string): Buffer {
  const [first = 0n, second = 0n, ...rest] = dotted.split(".").map(BigInt);
  const content: number[] = [];
  for (const arc of [first * 40n + second, ...rest]) {
    const groups: number[] = [];
    for (let left = arc; groups.length === 0 || left > 0n; left >>= 7n) groups.unshift(Number(left & 0x7fn));
    content.push(...groups.map((group, at) => (at < groups.length - 1 ? group | 0x80 : group)));
  }
  return Buffer.from([0x06, content.length, ...content]);
}
