import "reflect-metadata";
import { createHash, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  AuthorityInfoAccessExtension,
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  CRLDistributionPointsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  type Extension as OracleExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { type CertificateTemplate, parseCertificate, signCertificate, verifySignedBy } from "./certificate.ts";
import { DerError } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import {
  authorityInfoAccess,
  authorityKeyIdentifier,
  basicConstraints,
  cRLDistributionPoints,
  type Extension,
  encodeExtensions,
  extendedKeyUsage,
  keyUsage,
  nameConstraintsExtension,
  ocspNoCheck,
  subjectAltName,
  subjectKeyIdentifier,
} from "./extension.ts";
import { nameConstraints, subjectAltNames } from "./general-name.ts";
import { generateKey, type KeySpec, keyIdentifier, readPublicKey, spkiOf } from "./key.ts";
import { encodeName, fromSubject } from "./name.ts";
import { oids } from "./oid.ts";
import { pem } from "./pem.ts";
import { newSerialNumber } from "./serial.ts";
import { LocalSigner, verifySignature } from "./signer.ts";
import { Judge } from "./testing/judge.ts";

const specs: readonly (readonly [
  string,
  KeySpec,
  webcrypto.EcKeyImportParams | webcrypto.RsaHashedImportParams,
  string,
])[] = [
  ["RSA-2048", { algorithm: "RSA", size: 2048 }, { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, "SHA-256"],
  ["P-256", { algorithm: "ECDSA", size: 256 }, { name: "ECDSA", namedCurve: "P-256" }, "SHA-256"],
  ["P-384", { algorithm: "ECDSA", size: 384 }, { name: "ECDSA", namedCurve: "P-384" }, "SHA-384"],
  ["P-521", { algorithm: "ECDSA", size: 521 }, { name: "ECDSA", namedCurve: "P-521" }, "SHA-512"],
  ["Ed25519", { algorithm: "Ed25519" }, { name: "Ed25519", namedCurve: "Ed25519" }, "SHA-512"],
];

const judge = new Judge();
afterAll(() => judge.dispose());

const subject = fromSubject({ commonName: "orders.payments.svc", organizations: ["Exämple"], countries: ["AT"] });
const issuer = fromSubject({ commonName: "Payments Issuing CA" });
const names = {
  dnsNames: ["orders.payments.svc", "*.bücher.example"],
  ipAddresses: ["10.0.0.1", "2001:db8::1"],
  uris: ["spiffe://example.com/ns/payments/sa/orders"],
  emailAddresses: ["orders@example.com"],
};
const identifier = Buffer.from("0102030405060708090a0b0c0d0e0f1011121314", "hex");
const urls = {
  ocsp: ["http://pki.example/ocsp"],
  caIssuers: ["http://pki.example/ca/1.cer"],
  crl: "http://pki.example/1.crl",
};

const extensions: readonly Extension[] = [
  basicConstraints({ ca: true, pathLength: 2 }),
  keyUsage(["digitalSignature", "keyCertSign", "cRLSign"]),
  extendedKeyUsage([oids.serverAuth, oids.clientAuth]),
  subjectKeyIdentifier(identifier),
  authorityKeyIdentifier(identifier),
  subjectAltName(subjectAltNames(names), false),
  cRLDistributionPoints([urls.crl]),
  authorityInfoAccess(urls),
];
const oracleExtensions: readonly OracleExtension[] = [
  new BasicConstraintsExtension(true, 2, true),
  new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  new ExtendedKeyUsageExtension([oids.serverAuth, oids.clientAuth]),
  new SubjectKeyIdentifierExtension(identifier.toString("hex")),
  new AuthorityKeyIdentifierExtension(identifier.toString("hex")),
  new SubjectAlternativeNameExtension([
    { type: "dns", value: "orders.payments.svc" },
    { type: "dns", value: "*.xn--bcher-kva.example" },
    { type: "ip", value: "10.0.0.1" },
    { type: "ip", value: "2001:db8::1" },
    { type: "url", value: names.uris[0] ?? "" },
    { type: "email", value: "orders@example.com" },
  ]),
  new CRLDistributionPointsExtension([urls.crl]),
  new AuthorityInfoAccessExtension({ ocsp: urls.ocsp, caIssuers: urls.caIssuers }),
];

async function template(spki: Buffer, change: Partial<CertificateTemplate> = {}): Promise<CertificateTemplate> {
  return {
    serialNumber: newSerialNumber(new Date()),
    issuer: encodeName(issuer),
    subject: encodeName(subject),
    notBefore: new Date("2026-01-01T00:00:00Z"),
    notAfter: new Date("2056-01-01T00:00:00Z"),
    spki,
    extensions,
    ...change,
  };
}

describe.each(specs)("a certificate signed with %s", (_, spec, algorithm, hash) => {
  test("has the octets that @peculiar/x509 writes, and both read it", async () => {
    const key = await generateKey(spec);
    const signer = new LocalSigner(key);
    const wanted = await template(signer.spki);
    const encoded = await signCertificate(wanted, signer);

    const pkcs8 = key.export({ type: "pkcs8", format: "der" });
    const signingKey = await webcrypto.subtle.importKey("pkcs8", new Uint8Array(pkcs8), algorithm, true, ["sign"]);
    const publicKey = await webcrypto.subtle.importKey("spki", new Uint8Array(signer.spki), algorithm, true, [
      "verify",
    ]);
    const oracle = await X509CertificateGenerator.create({
      serialNumber: wanted.serialNumber.toString("hex"),
      issuer: new Name([{ CN: [{ utf8String: "Payments Issuing CA" }] }]),
      subject: new Name([
        { C: [{ printableString: "AT" }] },
        { O: [{ utf8String: "Exämple" }] },
        { CN: [{ utf8String: "orders.payments.svc" }] },
      ]),
      notBefore: wanted.notBefore,
      notAfter: wanted.notAfter,
      publicKey,
      signingKey,
      signingAlgorithm: { ...algorithm, hash },
      extensions: [...oracleExtensions],
    });
    const theirs = parseCertificate(Buffer.from(oracle.rawData));
    const ours = parseCertificate(encoded);
    expect(ours.tbs.toString("hex")).toBe(theirs.tbs.toString("hex"));
    // ECDSA signatures are never twice the same.
    if (spec.algorithm !== "ECDSA") expect(encoded.toString("hex")).toBe(Buffer.from(oracle.rawData).toString("hex"));
    expect(verifySignedBy(theirs, signer.spki)).toBe(true);
    expect(await new X509Certificate(encoded).verify({ publicKey, signatureOnly: true })).toBe(true);

    expect(ours.serialNumber.equals(wanted.serialNumber)).toBe(true);
    expect(ours).toMatchObject({
      issuer,
      subject,
      notBefore: wanted.notBefore,
      notAfter: wanted.notAfter,
      basicConstraints: { ca: true, pathLength: 2 },
      keyUsage: ["digitalSignature", "keyCertSign", "cRLSign"],
      extendedKeyUsage: [oids.serverAuth, oids.clientAuth],
      subjectKeyIdentifier: identifier,
      authorityKeyIdentifier: { keyIdentifier: identifier },
      subjectAltNames: subjectAltNames(names),
      nameConstraints: undefined,
      crlUrls: [urls.crl],
      authorityInfoAccess: { ocsp: urls.ocsp, caIssuers: urls.caIssuers },
    });
  });

  test("is refused when a bit of it, its signature or the key is another", async () => {
    const signer = new LocalSigner(await generateKey(spec));
    const encoded = await signCertificate(await template(signer.spki), signer);
    const certificate = parseCertificate(encoded);
    const flipped = (bytes: Buffer) =>
      Buffer.from(bytes.map((octet, at) => (at === bytes.length - 1 ? octet ^ 1 : octet)));
    expect(verifySignedBy(certificate, signer.spki)).toBe(true);
    expect(verifySignedBy({ ...certificate, tbs: flipped(certificate.tbs) }, signer.spki)).toBe(false);
    expect(verifySignedBy({ ...certificate, signature: flipped(certificate.signature) }, signer.spki)).toBe(false);
    for (const [, other] of specs.slice(1)) {
      expect(verifySignedBy(certificate, spkiOf(await generateKey(other)))).toBe(false);
    }
  });
});

test("openssl reads every extension, critical where it must be", async () => {
  const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  const constraints = nameConstraints({
    permitted: {
      dnsDomains: ["example.com"],
      ipRanges: ["10.1.2.3/8", "2001:db8::/33"],
      emailAddresses: [".example.com"],
    },
    excluded: { dnsDomains: [".bad.example.com"], uriDomains: [".example.org"] },
  });
  const encoded = await signCertificate(
    await template(signer.spki, {
      subject: encodeName([]),
      extensions: [
        ...extensions.filter(({ oid }) => oid !== oids.subjectAltName),
        subjectAltName(
          subjectAltNames({
            ...names,
            emailAddresses: ["grün@bücher.example"],
            otherNames: [{ oid: "1.3.6.1.4.1.311.20.2.3", utf8Value: "jürgen@example.com" }],
          }),
          true,
        ),
        nameConstraintsExtension(constraints ?? { permitted: [], excluded: [] }),
        ocspNoCheck(),
      ],
    }),
    signer,
  );
  judge.write("all.pem", pem("CERTIFICATE", encoded));
  const text = judge.run(
    "openssl",
    "x509",
    "-in",
    "all.pem",
    "-noout",
    "-text",
    "-nameopt",
    "utf8",
    "-certopt",
    "ext_error",
  );
  const lines = text.split("\n").map((line) => line.trim().replaceAll("::", ":"));
  const after = (title: string, count = 1) => {
    const at = lines.indexOf(title);
    expect([title, at]).not.toEqual([title, -1]);
    return lines.slice(at + 1, at + 1 + count);
  };
  expect(after("X509v3 Basic Constraints: critical")).toEqual(["CA:TRUE, pathlen:2"]);
  expect(after("X509v3 Key Usage: critical")).toEqual(["Digital Signature, Certificate Sign, CRL Sign"]);
  expect(after("X509v3 Extended Key Usage:")).toEqual(["TLS Web Server Authentication, TLS Web Client Authentication"]);
  expect(after("X509v3 Subject Alternative Name: critical")).toEqual([
    "DNS:orders.payments.svc, DNS:*.xn--bcher-kva.example, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe://example.com/ns/payments/sa/orders, othername: SmtpUTF8Mailbox:grün@xn--bcher-kva.example, othername: UPN:jürgen@example.com",
  ]);
  expect(after("X509v3 Name Constraints: critical", 8)).toEqual([
    "Permitted:",
    "DNS:example.com",
    "IP:10.0.0.0/255.0.0.0",
    "IP:2001:DB8:0:0:0:0:0:0/FFFF:FFFF:8000:0:0:0:0:0",
    "email:.example.com",
    "Excluded:",
    "DNS:.bad.example.com",
    "URI:.example.org",
  ]);
  expect(after("X509v3 Subject Key Identifier:")).toEqual([
    "01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14",
  ]);
  expect(after("OCSP No Check:")).toEqual([""]);
  expect(lines).toContain("URI:http://pki.example/1.crl");
  expect(lines).toContain("OCSP - URI:http://pki.example/ocsp");
  expect(lines).toContain("CA Issuers - URI:http://pki.example/ca/1.cer");
  expect(parseCertificate(encoded).nameConstraints).toEqual(constraints);
});

test("openssl writes certificates that are read", () => {
  const args = "req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.der -outform DER -days 30".split(" ");
  const subject = ["-subj", "/C=AT/O=Example/CN=Somebody/emailAddress=a@example.com"];
  const points = ["-addext", "crlDistributionPoints=URI:http://a.example/1.crl,URI:http://b.example/2.crl"];
  judge.run("openssl", ...args, ...subject, ...points, "-addext", "certificatePolicies=1.2.3.4");
  const certificate = parseCertificate(readFileSync(judge.path("c.der")));
  expect(certificate.subject.flat().map(({ value }) => value)).toEqual(["AT", "Example", "Somebody", "a@example.com"]);
  expect(certificate.basicConstraints).toEqual({ ca: true });
  expect(certificate.crlUrls).toEqual(["http://a.example/1.crl", "http://b.example/2.crl"]);
  expect([...certificate.extensions.keys()]).toContain("2.5.29.32");
  expect(verifySignedBy(certificate, certificate.spki)).toBe(true);
});

describe("what is no certificate of version 3 is refused", () => {
  let good: Buffer;
  let parts: Buffer[];
  const signature = der.bitString(Buffer.alloc(8));
  const rebuilt = (change: (fields: Buffer[]) => Buffer[]): Buffer =>
    der.sequence(der.sequence(...change([...parts])), parts[2] ?? good, signature);

  beforeAll(async () => {
    const signer = new LocalSigner(await generateKey({ algorithm: "Ed25519" }));
    const wanted = await template(signer.spki);
    good = await signCertificate(wanted, signer);
    parts = [
      der.explicit(0, der.integer(2)),
      der.integer(wanted.serialNumber),
      signer.signatureAlgorithm,
      wanted.issuer,
      der.sequence(der.time(wanted.notBefore), der.time(wanted.notAfter)),
      wanted.subject,
      signer.spki,
      der.explicit(3, encodeExtensions(extensions)),
    ];
    const { tbs } = parseCertificate(good);
    expect(der.sequence(...parts).equals(tbs)).toBe(true);
  });

  test.each<[string, (fields: Buffer[]) => Buffer[], RegExp]>([
    ["version 1", (f) => f.slice(1), /version 3/],
    ["version 2", (f) => [der.explicit(0, der.integer(1)), ...f.slice(1)], /version 3/],
    ["a negative serial number", (f) => f.with(1, Buffer.from("0201ff", "hex")), /serial number/],
    ["a serial number of 21 octets", (f) => f.with(1, der.integer(Buffer.alloc(21, 1))), /serial number/],
    ["another inner algorithm", (f) => f.with(2, der.sequence(der.oid(oids.ecdsaWithSha256))), /algorithms differ/],
    [
      "an extension twice",
      (f) =>
        f.with(
          7,
          der.explicit(
            3,
            der.sequence(...[1, 2].map(() => der.sequence(der.oid(oids.ocspNoCheck), der.octetString(der.nothing())))),
          ),
        ),
      /twice/,
    ],
    [
      "an encoded criticality FALSE",
      (f) =>
        f.with(
          7,
          der.explicit(3, der.sequence(der.sequence(der.oid(oids.ocspNoCheck), der.boolean(false), der.octetString()))),
        ),
      /default value/,
    ],
    ["something after the extensions", (f) => [...f, der.nothing()], /unexpected data/],
    [
      "a malformed known extension",
      (f) =>
        f.with(7, der.explicit(3, der.sequence(der.sequence(der.oid(oids.keyUsage), der.octetString(der.nothing()))))),
      /0x05 where 0x03/,
    ],
  ])("%s", (_, change, message) => {
    expect(() => parseCertificate(rebuilt(change))).toThrow(DerError);
    expect(() => parseCertificate(rebuilt(change))).toThrow(message);
  });

  test("every cut and every single changed octet is either refused or read, but never another error", () => {
    let refused = 0;
    for (let at = 0; at < good.length; at++) {
      expect(() => parseCertificate(good.subarray(0, at))).toThrow(DerError);
      const changed = Buffer.from(good);
      changed[at] = (changed[at] ?? 0) ^ 0x80;
      try {
        parseCertificate(changed);
      } catch (error) {
        expect(error).toBeInstanceOf(DerError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(good.length / 4);
  });
});

test("the key identifier is method 1 of RFC 7093", async () => {
  const spki = spkiOf(await generateKey({ algorithm: "ECDSA", size: 256 }));
  expect(keyIdentifier(spki)).toEqual(createHash("sha256").update(spki.subarray(-65)).digest().subarray(0, 20));
});

test("RSA signatures are accepted without the NULL (RFC 4055 5), unknown algorithms are not", async () => {
  const signer = new LocalSigner(await generateKey({ algorithm: "RSA", size: 2048 }));
  const tbs = Buffer.from("tbs");
  const signature = await signer.sign(tbs);
  const publicKey = readPublicKey(signer.spki);
  const check = (algorithm: Buffer) => verifySignature(algorithm, publicKey, tbs, signature);
  expect(check(der.sequence(der.oid(oids.sha256WithRsa)))).toBe(true);
  expect(check(der.sequence(der.oid(oids.sha512WithRsa), der.nothing()))).toBe(false);
  expect(check(der.sequence(der.oid("1.2.840.113549.1.1.5"), der.nothing()))).toBe(false);
});
