import { generateKeyPairSync, sign } from "node:crypto";
import type { RevokedEntry } from "../../ports/pki-store.ts";
import { parseCertificate } from "../certificate.ts";
import { type CrlTemplate, signCrl } from "../crl.ts";
import { readDer } from "../der/reader.ts";
import * as der from "../der/writer.ts";
import {
  authorityInfoAccess,
  authorityKeyIdentifier,
  cRLDistributionPoints,
  type Extension,
  encodeExtensions,
  extendedKeyUsage,
  keyUsage,
  nameConstraintsExtension,
  ocspNoCheck,
  subjectAltName,
} from "../extension.ts";
import { type KeySpec, spkiOf } from "../key.ts";
import { type CertId, encodeCertId, issuerHashes, keyHash, readCertId } from "../ocsp/cert-id.ts";
import type { OcspRequest } from "../ocsp/request.ts";
import { errorResponse, type OcspResponseTemplate, type SingleResponse, signOcspResponse } from "../ocsp/response.ts";
import { oids } from "../oid.ts";
import { type Signer, signed } from "../signer.ts";
import { type Party, type PartyRequest, party } from "../testing/party.ts";
import { type CertificateExpectations, lintCertificate } from "./certificate.ts";
import { lintCrl } from "./crl.ts";
import type { Finding } from "./finding.ts";
import { OcspResponseLint } from "./ocsp-response.ts";

const DAY = 86_400_000;
const now = new Date();
const offset = (ms: number) => new Date(Math.floor(now.getTime() / 1000) * 1000 + ms);
const codes = (findings: readonly Finding[]) => findings.map(({ code }) => code).sort();

const keys: KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "ECDSA", size: 521 },
  { algorithm: "Ed25519" },
];

type Change = NonNullable<PartyRequest["extensions"]>;
const without =
  (...types: string[]): Change =>
  (usual) =>
    usual.filter(({ oid }) => !types.includes(oid));
const replaced =
  (...own: Extension[]): Change =>
  (usual) => [...without(...own.map(({ oid }) => oid))(usual), ...own];
const flipped =
  (type: string): Change =>
  (usual) =>
    usual.map((one) => (one.oid === type ? { ...one, critical: !one.critical } : one));
const url = "http://pki.example.com/";
const withUrls = (scheme = "http"): Change =>
  replaced(
    cRLDistributionPoints([`${scheme}://pki.example.com/1.crl`]),
    authorityInfoAccess({ ocsp: [url], caIssuers: [`${url}1.cer`] }),
  );
const responder: Change = (usual) => [
  ...without(oids.extendedKeyUsage, oids.subjectAltName)(usual),
  extendedKeyUsage([oids.ocspSigning]),
  ocspNoCheck(),
];
const dns = (...values: string[]) =>
  subjectAltName(
    values.map((value) => ({ kind: "dns", value })),
    false,
  );

const root = await party({ name: "Root", ca: true });
const leafOf = (change: Partial<PartyRequest> = {}, issuer: Party = root) =>
  party({ name: "leaf.example.com", issuer, template: { notAfter: offset(DAY / 2) }, ...change });
const template = (change: PartyRequest["template"]) => ({ template: { notAfter: offset(DAY / 2), ...change } });

const leaf = await leafOf();
const serialNumber = parseCertificate(leaf.certificate).serialNumber.toString("hex");
const delegated = await leafOf({ name: "Responder", extensions: responder, template: { notAfter: offset(DAY) } });

type Rule<T> = [code: string, change: T, severity?: "Warning"];
const withSeverity = <T>(rules: readonly Rule<T>[]) =>
  rules.map(([code, change, severity = "Error"]): [string, T, string] => [code, change, severity]);

describe("certificates", () => {
  test.each(keys)("nothing is found in a root, a CA, a leaf and a responder of %j", async (key) => {
    const top = await party({ name: "Root", ca: true, key });
    const ca = await party({ name: "CA", ca: 0, key, issuer: top, extensions: withUrls() });
    const leaf = await leafOf({ key, extensions: withUrls() }, ca);
    const signer = await leafOf({ key, name: "Responder", extensions: responder }, ca);
    const lint = (one: Party, issuer: Party) =>
      lintCertificate(one.certificate, { issuer: issuer.certificate, urls: true });
    expect([lint(top, top), lint(ca, top), lint(leaf, ca), lint(signer, ca)]).toEqual([[], [], [], []]);
  });

  const ca = (change: Change) => ({ name: "CA", ca: true, extensions: change });
  const rules: Rule<Partial<PartyRequest>>[] = [
    ["malformed", template({ serialNumber: Buffer.alloc(21, 0x41) })],
    ["malformed", { extensions: replaced({ oid: oids.keyUsage, critical: true, value: der.nothing() }) }],
    ["serialNumberShort", template({ serialNumber: Buffer.from("41a3c2f5097e12", "hex") })],
    ["serialNumberPattern", template({ serialNumber: Buffer.alloc(16, 0x41) })],
    ["serialNumberPattern", template({ serialNumber: Buffer.from("4142434445464748494a", "hex") })],
    ["issuerName", template({ issuer: der.sequence() })],
    ["weakKey", { key: rsa1024() }],
    ["validityEmpty", template({ notAfter: offset(-DAY) })],
    ["outlivesIssuer", template({ notAfter: offset(DAY + 60_000) })],
    ["olderThanIssuer", template({ notBefore: offset(-DAY) }), "Warning"],
    ["basicConstraintsCritical", ca(flipped(oids.basicConstraints))],
    ["keyCertSign", ca(replaced(keyUsage(["cRLSign"])))],
    ["keyCertSign", { extensions: replaced(keyUsage(["digitalSignature", "keyCertSign"])) }],
    ["cRLSign", { extensions: replaced(keyUsage(["digitalSignature", "cRLSign"])) }],
    ["cRLSignMissing", ca(replaced(keyUsage(["keyCertSign"]))), "Warning"],
    ["keyUsageMissing", { extensions: without(oids.keyUsage) }],
    ["keyUsageCritical", { extensions: flipped(oids.keyUsage) }, "Warning"],
    ["keyUsageAlgorithm", { extensions: replaced(keyUsage(["digitalSignature", "keyEncipherment"])) }],
    ["extendedKeyUsageMissing", { extensions: without(oids.extendedKeyUsage) }, "Warning"],
    ["extendedKeyUsageAny", { extensions: replaced(extendedKeyUsage([oids.anyExtendedKeyUsage])) }, "Warning"],
    ["ocspNoCheck", { extensions: (usual) => without(oids.ocspNoCheck)(responder(usual)) }],
    ["ocspNoCheck", { extensions: replaced(ocspNoCheck()) }],
    ["responderUsage", { extensions: (usual) => replaced(keyUsage(["contentCommitment"]))(responder(usual)) }],
    [
      "responderCa",
      ca(
        replaced(
          extendedKeyUsage([oids.ocspSigning]),
          ocspNoCheck(),
          keyUsage(["digitalSignature", "keyCertSign", "cRLSign"]),
        ),
      ),
    ],
    ["critical", { extensions: flipped(oids.subjectKeyIdentifier) }],
    ["critical", { extensions: replaced({ oid: "1.3.6.1.4.1.99999.1", critical: true, value: der.nothing() }) }],
    ["subjectEmpty", { name: [], extensions: without(oids.subjectAltName, oids.extendedKeyUsage) }],
    ["subjectAltNameCritical", { name: [] }],
    ["subjectAltNameNotCritical", { extensions: flipped(oids.subjectAltName) }, "Warning"],
    ["subjectAltNameMissing", { extensions: without(oids.subjectAltName) }],
    ["dnsName", { extensions: replaced(dns("leaf.example.com", "Leaf.Example.com")) }],
    ["dnsName", { extensions: replaced(dns("leaf.example.com", "a..b")) }],
    ["namesTwice", { extensions: replaced(dns("leaf.example.com", "leaf.example.com")) }, "Warning"],
    ["commonNameAlone", { name: "other.example.com" }, "Warning"],
    [
      "nameConstraints",
      { extensions: replaced(nameConstraintsExtension({ permitted: [{ kind: "dns", value: "a" }], excluded: [] })) },
    ],
    ["subjectKeyIdentifier", { extensions: without(oids.subjectKeyIdentifier) }],
    ["authorityKeyIdentifierMissing", { extensions: without(oids.authorityKeyIdentifier) }],
    ["authorityKeyIdentifier", { extensions: replaced(authorityKeyIdentifier(Buffer.alloc(20))) }],
    ["urlScheme", { extensions: withUrls("https") }, "Warning"],
  ];
  test.each(withSeverity(rules))("%s %#", async (code, change, severity) => {
    const one = await leafOf(change);
    const findings = lintCertificate(one.certificate, { issuer: root.certificate, urls: false });
    expect(codes(findings)).toContain(code);
    expect(findings.filter((finding) => finding.code === code).map((finding) => finding.severity)).toEqual([severity]);
    for (const { message } of findings) expect(message).not.toBe("");
  });

  test("the serial number 0", async () => {
    const one = await leafOf(template({ serialNumber: Buffer.of(0) }));
    const findings = lintCertificate(one.certificate, { issuer: root.certificate, urls: false });
    expect(codes(findings)).toEqual(["serialNumberPattern", "serialNumberShort", "serialNumberZero"]);
  });

  test("a time in the wrong form", async () => {
    const { tbs, notBefore } = parseCertificate(leaf.certificate);
    const general = tbs.indexOf(der.time(offset(DAY / 2)));
    const wrong = Buffer.concat([
      tbs.subarray(0, general),
      der.generalizedTime(offset(DAY / 2)),
      tbs.subarray(general + 15),
    ]);
    // Two octets longer: the lengths of the validity and of the whole.
    wrong[tbs.indexOf(der.time(notBefore)) - 1] = 32;
    wrong.writeUInt16BE(wrong.readUInt16BE(2) + 2, 2);
    const findings = lintCertificate(await signed(wrong, root.signer), { issuer: root.certificate, urls: false });
    expect(findings).toEqual([
      { code: "malformed", severity: "Error", message: expect.stringContaining("GeneralizedTime before 2050") },
    ]);
  });

  test("URLs that are missing, and other usages than the profile's", async () => {
    const { certificate } = await leafOf();
    const wanted = { issuer: root.certificate, urls: true, extendedKeyUsage: [oids.serverAuth] };
    expect(codes(lintCertificate(certificate, wanted))).toEqual(["crlUrl", "extendedKeyUsage", "issuerUrl", "ocspUrl"]);
  });

  test("a CA that should be none, is none, or is not limited as it should be", async () => {
    const example = { permitted: [{ kind: "dns" as const, value: "example.com" }], excluded: [] };
    const narrow = replaced(nameConstraintsExtension(example));
    const limited = await party({ name: "CA", ca: 0, issuer: root, extensions: narrow });
    const lint = ({ certificate }: Party, ca: CertificateExpectations["ca"]) =>
      codes(lintCertificate(certificate, { issuer: root.certificate, urls: false, ...(ca !== undefined && { ca }) }));
    expect(lint(limited, undefined)).toEqual([]);
    expect(lint(limited, { pathLength: 0, nameConstraints: example })).toEqual([]);
    expect(lint(limited, false)).toEqual(["caUnexpected"]);
    expect(lint(limited, { pathLength: 1, nameConstraints: example })).toEqual(["pathLengthDiffers"]);
    expect(lint(limited, { nameConstraints: example })).toEqual(["pathLengthDiffers"]);
    const wider = { permitted: [...example.permitted, { kind: "dns" as const, value: "example.org" }], excluded: [] };
    expect(lint(limited, { pathLength: 0, nameConstraints: wider })).toEqual(["nameConstraintsDiffer"]);
    expect(lint(limited, { pathLength: 0 })).toEqual(["nameConstraintsDiffer"]);
    expect(lint(leaf, {})).toEqual(["caMissing"]);
    expect(lint(leaf, false)).toEqual([]);
  });

  test("another issuer's signature, an issuer that may not sign, names outside its constraints, too deep", async () => {
    const other = await party({ name: "Root", ca: true });
    const lint = (one: Party, issuer: Party) =>
      codes(lintCertificate(one.certificate, { issuer: issuer.certificate, urls: false }));
    expect(lint(await leafOf(), other)).toEqual(expect.arrayContaining(["authorityKeyIdentifier", "signature"]));
    const leaf = await leafOf();
    expect(lint(await leafOf({ template: { notAfter: offset(DAY / 4) } }, leaf), leaf)).toEqual(["issuerUsage"]);
    const narrow = replaced(
      nameConstraintsExtension({ permitted: [{ kind: "dns", value: "example.org" }], excluded: [] }),
    );
    const bounded = await party({ name: "Bounded", ca: 0, extensions: narrow });
    expect(lint(await leafOf({}, bounded), bounded)).toEqual(["constrained"]);
    expect(lint(await party({ name: "CA", ca: true, issuer: bounded }), bounded)).toContain("pathLength");
  });
});

function rsa1024(): Signer {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
  return {
    spki: spkiOf(privateKey),
    signatureAlgorithm: der.sequence(der.oid(oids.sha256WithRsa), der.nothing()),
    sign: async (tbs) => sign("sha256", tbs, privateKey),
  };
}

describe("CRLs", () => {
  const entry = (serialNumber: string, at = offset(-1_000)): RevokedEntry => ({
    serialNumber,
    revocation: { at, reason: "superseded" },
  });
  const whole: CrlTemplate = {
    issuer: root.subject,
    authorityKeyIdentifier: root.keyIdentifier,
    number: 1n,
    thisUpdate: offset(0),
    nextUpdate: offset(DAY),
    entries: [entry("41"), entry("42")],
  };
  const lint = async (change: Partial<CrlTemplate>, by = root, distributionPoint?: string) =>
    lintCrl(await signCrl({ ...whole, ...change }, by.signer), {
      issuer: root.certificate,
      at: now,
      ...(distributionPoint !== undefined && { distributionPoint }),
    });

  test("nothing is found in a whole one, an empty one and a partition", async () => {
    expect(await lint({})).toEqual([]);
    expect(await lint({ entries: [] })).toEqual([]);
    expect(await lint({ distributionPoint: url }, root, url)).toEqual([]);
  });

  test.each<[string, Partial<CrlTemplate>]>([
    ["issuerName", { issuer: der.sequence() }],
    ["authorityKeyIdentifier", { authorityKeyIdentifier: Buffer.alloc(20) }],
    ["number", { number: 1n << 160n }],
    ["thisUpdate", { thisUpdate: offset(60_000) }],
    ["nextUpdate", { nextUpdate: offset(-60_000) }],
    ["distributionPoint", { distributionPoint: url }],
    ["entryTwice", { entries: [entry("41"), entry("42"), entry("41")] }],
    ["revokedAt", { entries: [entry("41", offset(60_000))] }],
  ])("%s", async (code, change) => {
    expect(await lint(change)).toEqual([{ code, severity: "Error", message: expect.any(String) }]);
  });

  test("another CA's, a leaf's, and none at all", async () => {
    expect(codes(await lint({}, await party({ name: "Root", ca: true })))).toEqual(["signature"]);
    const leaf = await leafOf();
    const own = { ...whole, issuer: leaf.subject, authorityKeyIdentifier: leaf.keyIdentifier };
    const crl = await signCrl(own, leaf.signer);
    expect(codes(await lintCrl(crl, { issuer: leaf.certificate, at: now }))).toEqual(["issuerUsage"]);
    expect(codes(await lintCrl(crl.subarray(1), { issuer: leaf.certificate, at: now }))).toEqual(["malformed"]);
  });

  test("what signCrl never writes", async () => {
    const extension = (oid: string, value: Buffer, critical = false) => ({ oid, critical, value });
    const crl = (entries: Buffer[], ...extensions: Extension[]) =>
      signed(
        der.sequence(
          ...[der.integer(1), root.signer.signatureAlgorithm, root.subject, der.time(offset(0)), der.time(offset(DAY))],
          ...(entries.length > 0 ? [der.sequence(...entries)] : []),
          der.explicit(0, encodeExtensions([authorityKeyIdentifier(root.keyIdentifier), ...extensions])),
        ),
        root.signer,
      );
    const revoked = (value: Extension) =>
      der.sequence(der.integer(0x41), der.time(offset(-1_000)), encodeExtensions([value]));
    const number = extension(oids.cRLNumber, der.integer(1));
    const found = async (entries: Buffer[], ...extensions: Extension[]) =>
      codes(await lintCrl(await crl(entries, ...extensions), { issuer: root.certificate, at: now }));
    expect(await found([], number)).toEqual([]);
    expect(await found([])).toEqual(["number"]);
    expect(await found([], { ...number, critical: true })).toEqual(["critical"]);
    expect(await found([], number, extension(oids.deltaCRLIndicator, der.integer(1), true))).toEqual([
      "critical",
      "extension",
    ]);
    expect(await found([revoked(extension(oids.cRLReason, der.enumerated(8)))], number)).toEqual(["removeFromCRL"]);
    expect(await found([revoked(extension(oids.cRLReason, der.enumerated(0)))], number)).toEqual(["unspecified"]);
    expect(await found([revoked(extension(oids.cRLReason, der.enumerated(1), true))], number)).toEqual([
      "entryCritical",
    ]);
    expect(await found([der.sequence(der.integer(1), der.generalizedTime(now))], number)).toEqual(["malformed"]);
  });
});

describe("OCSP responses", () => {
  const hashes = (ca: Party) => issuerHashes("sha256", ca.subject, ca.signer.spki);
  const answer: SingleResponse = {
    certId: encodeCertId("sha256", hashes(root), serialNumber),
    status: "good",
    thisUpdate: offset(-60_000),
    nextUpdate: offset(DAY / 2),
  };
  const judge = new OcspResponseLint(root.certificate);
  const lint = async (change: Partial<OcspResponseTemplate>, by = delegated, request?: OcspRequest) => {
    const usual = { producedAt: offset(0), responses: [answer], certificates: by === root ? [] : [by.certificate] };
    const response = { responderKeyHash: keyHash("sha1", by.signer.spki), ...usual, ...change };
    return judge.lint(await signOcspResponse(response, by.signer), { at: now, ...(request && { request }) });
  };
  const one = (change: Partial<SingleResponse>) => ({ responses: [{ ...answer, ...change }] });

  test("nothing is found in answers of the CA and of its responder, with a nonce", async () => {
    expect(await lint({ nonce: Buffer.alloc(32) })).toEqual([]);
    expect(await lint({}, root)).toEqual([]);
    expect(await lint(one({ status: { at: offset(-1_000), reason: "keyCompromise" } }))).toEqual([]);
  });

  const rules: Rule<Partial<OcspResponseTemplate>>[] = [
    ["responder", { responderKeyHash: Buffer.alloc(20) }],
    ["responder", { certificates: [] }],
    ["certificates", { certificates: [delegated.certificate, root.certificate] }, "Warning"],
    ["outlivesResponder", one({ nextUpdate: offset(2 * DAY) }), "Warning"],
    ["producedAt", { producedAt: offset(60_000) }],
    ["empty", { responses: [] }],
    ["nonce", { nonce: Buffer.alloc(129) }],
    ["answerTwice", { responses: [answer, answer] }],
    ["thisUpdate", one({ thisUpdate: offset(60_000) })],
    ["nextUpdate", one({ nextUpdate: offset(-1_000) })],
    ["revokedAt", one({ status: { at: offset(60_000), reason: "unspecified" } })],
    ["certId", one({ certId: encodeCertId("sha256", hashes(leaf), serialNumber) })],
  ];
  test.each(withSeverity(rules))("%s %#", async (code, change, severity) => {
    expect(await lint(change)).toEqual([{ code, severity, message: expect.any(String) }]);
  });

  test("responders that the CA has not appointed, or not well", async () => {
    const stranger = await party({ name: "Root", ca: true });
    const foreign = await leafOf({ name: "Responder", extensions: responder }, stranger);
    expect(codes(await lint({}, foreign))).toEqual(["delegation"]);
    expect(codes(await lint({}, leaf))).toEqual(["ocspNoCheck", "ocspSigning"]);
    const old = await leafOf({ name: "Responder", extensions: responder, template: { notAfter: offset(-1_000) } });
    expect(codes(await lint({}, old))).toEqual(["outlivesResponder", "responderValidity"]);
    const forged = {
      ...delegated,
      signer: {
        ...delegated.signer,
        spki: delegated.signer.spki,
        signatureAlgorithm: delegated.signer.signatureAlgorithm,
        sign: leaf.signer.sign.bind(leaf.signer),
      },
    };
    expect(codes(await lint({}, forged))).toEqual(["signature"]);
  });

  test("answers to another request, in its certificates, their order, their encoding, or its nonce", async () => {
    const certId = (serial: string): CertId => {
      const der = encodeCertId("sha256", hashes(root), serial);
      return readDer(der, readCertId);
    };
    const [asked, other] = [certId(serialNumber), certId("41")];
    const nonce = Buffer.alloc(32, 1);
    const both = { responses: [answer, { ...answer, certId: other.der }] };
    const foundIn = async (change: Partial<OcspResponseTemplate>, request: OcspRequest) =>
      codes(await lint(change, delegated, request));
    expect(await foundIn({ nonce }, { certIds: [asked], nonce })).toEqual([]);
    expect(await foundIn({}, { certIds: [asked] })).toEqual([]);
    expect(await foundIn(both, { certIds: [asked, other] })).toEqual([]);
    for (const certIds of [
      [other],
      [asked, other],
      [],
      [{ ...asked, der: Buffer.concat([asked.der, Buffer.of(0)]) }],
    ]) {
      expect(await foundIn({ nonce }, { certIds, nonce })).toEqual(["otherCertIds"]);
    }
    expect(await foundIn(both, { certIds: [other, asked] })).toEqual(["otherCertIds"]);
    for (const wrong of [undefined, Buffer.alloc(32, 2), nonce.subarray(1)]) {
      expect(await foundIn({ ...(wrong && { nonce: wrong }) }, { certIds: [asked], nonce })).toEqual(["otherNonce"]);
    }
    expect(await foundIn({ nonce }, { certIds: [asked] })).toEqual(["otherNonce"]);
  });

  test("errors and what is none", () => {
    const lintDer = (response: Buffer) => codes(judge.lint(response, { at: now }));
    expect(lintDer(errorResponse("tryLater"))).toEqual(["status"]);
    expect(lintDer(Buffer.of(0x30, 0))).toEqual(["malformed"]);
  });
});
