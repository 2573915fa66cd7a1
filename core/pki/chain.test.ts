import { generateKeyPairSync, sign } from "node:crypto";
import { type ChainFault, type ChainOptions, validateChain } from "./chain.ts";
import * as der from "./der/writer.ts";
import {
  authorityKeyIdentifier,
  basicConstraints,
  cRLDistributionPoints,
  type Extension,
  extendedKeyUsage,
  keyUsage,
  nameConstraintsExtension,
  subjectAltName,
} from "./extension.ts";
import type { GeneralName, NameConstraints } from "./general-name.ts";
import { spkiOf } from "./key.ts";
import type { RdnSequence } from "./name.ts";
import { oids } from "./oid.ts";
import { pem } from "./pem.ts";
import type { Signer } from "./signer.ts";
import { Judge } from "./testing/judge.ts";
import { type Party, type PartyRequest, party } from "./testing/party.ts";

const judge = new Judge();
afterAll(() => judge.dispose());

const DAY = 86_400_000;
const later = (ms: number) => new Date(Math.floor(Date.now() / 1000) * 1000 + ms);
const dns = (value: string): GeneralName => ({ kind: "dns", value });
const ip = (value: string): GeneralName => ({ kind: "ip", value });
const email = (value: string): GeneralName => ({ kind: "email", value });
const uri = (value: string): GeneralName => ({ kind: "uri", value });
const directory = (rdns: RdnSequence): GeneralName => ({ kind: "directory", rdns });
const mailbox = (text: string): GeneralName => ({ kind: "other", oid: oids.smtpUtf8Mailbox, value: der.utf8(text) });
const name = (...parts: [type: string, value: string][]): RdnSequence =>
  parts.map(([type, value]) => [{ type, value }]);
const example = (commonName: string) => name([oids.organizationName, "Example"], [oids.commonName, commonName]);

type Change = NonNullable<PartyRequest["extensions"]>;
const without =
  (...types: string[]): Change =>
  (usual) =>
    usual.filter(({ oid }) => !types.includes(oid));
const replaced =
  (...own: Extension[]): Change =>
  (usual) => [...usual.filter(({ oid }) => !own.some((one) => one.oid === oid)), ...own];
const criticality =
  (type: string, critical: boolean): Change =>
  (usual) =>
    usual.map((one) => (one.oid === type ? { ...one, critical } : one));
const both =
  (first: Change, second: Change): Change =>
  (usual) =>
    second(first(usual));
const sans = (...names: GeneralName[]) => replaced(subjectAltName(names, false));
const constrained = (constraints: Partial<NameConstraints>) =>
  replaced(nameConstraintsExtension({ permitted: [], excluded: [], ...constraints }));
const unknown = (critical: boolean): Extension => ({ oid: "1.3.6.1.4.1.99999.1", critical, value: der.nothing() });

interface Chain extends Partial<ChainOptions> {
  leaf: Party;
  intermediates?: Party[];
  roots?: Party[];
}
interface Parts {
  root?: Partial<PartyRequest>;
  ca?: Partial<PartyRequest>;
  leaf?: Partial<PartyRequest>;
}

/** root, CA, leaf; all right but for what is asked for. */
async function three(parts: Parts = {}, options: Partial<ChainOptions> = {}): Promise<Chain> {
  const root = await party({ name: "Root", ca: true, ...parts.root });
  const ca = await party({ name: "CA", ca: true, issuer: root, ...parts.ca });
  const leaf = await party({ name: "leaf", issuer: ca, ...parts.leaf });
  return { leaf, intermediates: [ca], roots: [root], ...options };
}
const named =
  (constraints: Partial<NameConstraints>, ...names: GeneralName[]) =>
  () =>
    three({ ca: { extensions: constrained(constraints) }, leaf: { extensions: sans(...names) } });
const subject = (constraints: Partial<NameConstraints>, leaf: Partial<PartyRequest>) => () =>
  three({ ca: { extensions: constrained(constraints) }, leaf });

/** CAs one below the other with these path lengths, and a leaf. */
async function tower(...levels: (true | number)[]): Promise<Chain> {
  const cas: Party[] = [];
  for (const [level, ca] of levels.entries()) {
    const above = cas.at(-1);
    cas.push(await party({ name: `CA ${level}`, ca, ...(above && { issuer: above }) }));
  }
  const issuer = cas.at(-1);
  if (issuer === undefined) throw new Error("expected a level");
  return { leaf: await party({ name: "leaf", issuer }), intermediates: cas.slice(1), roots: cas.slice(0, 1) };
}

/** A signer that signs with SHA-1, or a part of a signature that is wrong. */
function sha1Signer(): Signer {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return {
    spki: spkiOf(privateKey),
    signatureAlgorithm: der.sequence(der.oid("1.2.840.113549.1.1.5"), der.nothing()),
    sign: async (tbs) => sign("sha1", tbs, privateKey),
  };
}
function broken(signer: Signer): Signer {
  return {
    spki: signer.spki,
    signatureAlgorithm: signer.signatureAlgorithm,
    sign: (tbs) => signer.sign(Buffer.concat([tbs, Buffer.of(0)])),
  };
}
function weakSigner(): Signer {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
  return {
    spki: spkiOf(privateKey),
    signatureAlgorithm: der.sequence(der.oid(oids.sha256WithRsa), der.nothing()),
    sign: async (tbs) => sign("sha256", tbs, privateKey),
  };
}

const server = { purpose: "serverAuth" } as const;
const client = { purpose: "clientAuth" } as const;
const usages = (...oidsOf: string[]) => replaced(extendedKeyUsage(oidsOf));
const CODE = oids.codeSigning;

const cases: [string, "good" | ChainFault, () => Promise<Chain>][] = [
  // Paths
  ["root, CA, leaf", "good", () => three()],
  ["a leaf directly below the root", "good", () => tower(true)],
  ["five CAs", "good", () => tower(true, true, true, true, true)],
  ["the root itself", "good", rootOnly],
  ["RSA", "good", () => three({ ca: { key: { algorithm: "RSA", size: 2048 } } })],
  [
    "P-384 and P-521",
    "good",
    () => three({ root: { key: { algorithm: "ECDSA", size: 521 } }, ca: { key: { algorithm: "ECDSA", size: 384 } } }),
  ],
  ["Ed25519", "good", () => three({ root: { key: { algorithm: "Ed25519" } }, ca: { key: { algorithm: "Ed25519" } } })],
  [
    "names that differ in case and spaces",
    "good",
    async () => {
      const root = await party({ name: "The  Root", ca: true });
      const same = await party({ name: "the root", ca: true, key: root.signer });
      const leaf = await party({ name: "leaf", issuer: same });
      return { leaf, roots: [root] };
    },
  ],
  [
    "two CAs of one name, told apart by their keys",
    "good",
    async () => {
      const root = await party({ name: "Root", ca: true });
      const [one, other] = [
        await party({ name: "CA", ca: true, issuer: root }),
        await party({ name: "CA", ca: true, issuer: root }),
      ];
      return { leaf: await party({ name: "leaf", issuer: other }), intermediates: [one, other], roots: [root] };
    },
  ],
  [
    "a CA that two roots have signed",
    "good",
    async () => {
      const [root, other] = [await party({ name: "Root", ca: true }), await party({ name: "Other", ca: true })];
      const ca = await party({ name: "CA", ca: true, issuer: other });
      const cross = await party({ name: "CA", ca: true, issuer: root, key: ca.signer });
      return { leaf: await party({ name: "leaf", issuer: ca }), intermediates: [cross, ca], roots: [root] };
    },
  ],
  ["a CA that is not at hand", "issuerMissing", async () => ({ ...(await three()), intermediates: [] })],
  [
    "another root of the same name",
    "issuerMissing",
    async () => ({ ...(await three()), roots: [await party({ name: "Root", ca: true })] }),
  ],
  [
    "a self-signed leaf that nobody trusts",
    "issuerMissing",
    async () => ({ leaf: await party({ name: "leaf" }), roots: [await party({ name: "Root", ca: true })] }),
  ],
  [
    "an issuer of another name",
    "issuerMissing",
    async () => {
      const chain = await three();
      const [ca] = chain.intermediates ?? [];
      if (ca === undefined) throw new Error("expected a CA");
      return {
        ...chain,
        leaf: await party({ name: "leaf", issuer: { ...ca, subject: (await party({ name: "Else" })).subject } }),
      };
    },
  ],
  [
    "an authority key identifier of another key",
    "issuerMissing",
    () => three({ leaf: { extensions: replaced(authorityKeyIdentifier(Buffer.alloc(20, 1))) } }),
  ],
  ["a leaf that is not signed by its issuer", "signature", () => wrongly("leaf")],
  ["a CA that is not signed by its issuer", "signature", () => wrongly("ca")],
  ["SHA-1", "signature", () => three({ ca: { key: sha1Signer() } })],
  ["RSA of 1024 bits in a leaf", "weakKey", () => three({ leaf: { key: weakSigner() } })],
  ["RSA of 1024 bits in a CA", "weakKey", () => three({ ca: { key: weakSigner() } })],
  ["RSA of 1024 bits in the root", "weakKey", () => three({ root: { key: weakSigner() } })],
  // Times
  ["a leaf that has expired", "expired", () => three({}, { at: later(2 * DAY) })],
  ["a leaf that is not valid yet", "notYetValid", () => three({}, { at: later(-2 * DAY) })],
  ["a CA that has expired", "expired", () => three({ ca: { template: { notAfter: later(-1_000) } } })],
  ["a CA that is not valid yet", "notYetValid", () => three({ ca: { template: { notBefore: later(DAY / 2) } } })],
  ["a root that has expired", "expired", () => three({ root: { template: { notAfter: later(-1_000) } } })],
  [
    "a leaf that outlives its CA, while both are valid",
    "good",
    () => three({ ca: { template: { notAfter: later(DAY / 2) } } }),
  ],
  [
    "a root that is valid beyond 2050",
    "good",
    () => three({ root: { template: { notAfter: new Date("2060-01-01T00:00:00Z") } } }),
  ],
  // Basic constraints, path length
  [
    "a CA without basic constraints",
    "basicConstraints",
    () => three({ ca: { extensions: without(oids.basicConstraints) } }),
  ],
  ["a leaf as a CA", "basicConstraints", () => three({ ca: { ca: false } })],
  [
    "a CA that says it is none",
    "basicConstraints",
    () => three({ ca: { extensions: replaced(basicConstraints({ ca: false })) } }),
  ],
  [
    "basic constraints that are not critical",
    "basicConstraints",
    () => three({ ca: { extensions: criticality(oids.basicConstraints, false) } }),
  ],
  [
    "a root whose basic constraints are not critical",
    "basicConstraints",
    () => three({ root: { extensions: criticality(oids.basicConstraints, false) } }),
  ],
  [
    "a path length without being a CA",
    "malformed",
    () =>
      three({
        leaf: {
          extensions: replaced({ oid: oids.basicConstraints, critical: true, value: der.sequence(der.integer(0)) }),
        },
      }),
  ],
  [
    "a CA as the leaf",
    "good",
    async () => {
      const { intermediates = [], roots = [] } = await three();
      return { leaf: intermediates[0] as Party, roots };
    },
  ],
  ["path lengths that are just enough", "good", () => tower(2, 1, 0)],
  ["a path length of 0 and a CA below", "pathLength", () => tower(0, true)],
  ["a path length of 1 and two CAs below", "pathLength", () => tower(1, true, true)],
  ["a path length of 0 in the middle", "pathLength", () => tower(true, 0, true)],
  ["a longer path length below a shorter one", "pathLength", () => tower(1, 5, 5)],
  ["a self-issued CA, which does not count", "good", () => selfIssued(1)],
  ["a self-issued CA, and one that counts", "pathLength", () => selfIssued(0)],
  // Key usage
  [
    "a CA that may not sign certificates",
    "keyUsage",
    () => three({ ca: { extensions: replaced(keyUsage(["cRLSign", "digitalSignature"])) } }),
  ],
  ["a CA without key usage", "keyUsage", () => three({ ca: { extensions: without(oids.keyUsage) } })],
  ["a root without key usage", "keyUsage", () => three({ root: { extensions: without(oids.keyUsage) } })],
  [
    "a leaf that may sign certificates",
    "keyUsage",
    () => three({ leaf: { extensions: replaced(keyUsage(["digitalSignature", "keyCertSign"])) } }),
  ],
  ["a leaf without key usage", "good", () => three({ leaf: { extensions: without(oids.keyUsage) } }, server)],
  [
    "a server that may only sign CRLs",
    "keyUsage",
    () => three({ leaf: { extensions: replaced(keyUsage(["cRLSign"])) } }, server),
  ],
  [
    "a server by key encipherment",
    "good",
    () => three({ leaf: { extensions: replaced(keyUsage(["keyEncipherment"])) } }, server),
  ],
  [
    "a client by key encipherment",
    "keyUsage",
    () => three({ leaf: { extensions: replaced(keyUsage(["keyEncipherment"])) } }, client),
  ],
  // Extended key usage
  ["a server", "good", () => three({}, server)],
  ["a client", "good", () => three({}, client)],
  ["a client as a server", "extendedKeyUsage", () => three({ leaf: { extensions: usages(oids.clientAuth) } }, server)],
  ["a server as a client", "extendedKeyUsage", () => three({ leaf: { extensions: usages(oids.serverAuth) } }, client)],
  [
    "any usage is not this one",
    "extendedKeyUsage",
    () => three({ leaf: { extensions: usages(oids.anyExtendedKeyUsage) } }, server),
  ],
  [
    "no extended key usage at all",
    "good",
    () => three({ leaf: { extensions: without(oids.extendedKeyUsage) } }, server),
  ],
  ["a CA for code signing only", "extendedKeyUsage", () => three({ ca: { extensions: usages(CODE) } }, server)],
  ["a CA for servers only", "good", () => three({ ca: { extensions: usages(oids.serverAuth) } }, server)],
  [
    "a CA for servers only and a client",
    "extendedKeyUsage",
    () => three({ ca: { extensions: usages(oids.serverAuth) } }, client),
  ],
  ["a root for code signing only", "extendedKeyUsage", () => three({ root: { extensions: usages(CODE) } }, server)],
  ["a leaf for code signing, for whatever purpose", "good", () => three({ leaf: { extensions: usages(CODE) } })],
  // Extensions
  [
    "an unknown critical extension in a leaf",
    "criticalExtension",
    () => three({ leaf: { extensions: replaced(unknown(true)) } }),
  ],
  [
    "an unknown critical extension in a CA",
    "criticalExtension",
    () => three({ ca: { extensions: replaced(unknown(true)) } }),
  ],
  [
    "an unknown critical extension in the root",
    "criticalExtension",
    () => three({ root: { extensions: replaced(unknown(true)) } }),
  ],
  ["an unknown extension", "good", () => three({ ca: { extensions: replaced(unknown(false)) } })],
  [
    "a critical extended key usage",
    "good",
    () => three({ leaf: { extensions: criticality(oids.extendedKeyUsage, true) } }, server),
  ],
  [
    "critical distribution points",
    "good",
    () =>
      three({
        leaf: {
          extensions: both(
            replaced(cRLDistributionPoints(["http://a/b"])),
            criticality(oids.cRLDistributionPoints, true),
          ),
        },
      }),
  ],
  [
    "a CA without a subject key identifier",
    "identifiers",
    () => three({ ca: { extensions: without(oids.subjectKeyIdentifier) } }),
  ],
  [
    "a leaf without an authority key identifier",
    "identifiers",
    () => three({ leaf: { extensions: without(oids.authorityKeyIdentifier) } }),
  ],
  [
    "a root without an authority key identifier",
    "good",
    () => three({ root: { extensions: without(oids.authorityKeyIdentifier) } }),
  ],
  [
    "a critical authority key identifier",
    "identifiers",
    () => three({ leaf: { extensions: criticality(oids.authorityKeyIdentifier, true) } }),
  ],
  [
    "a critical subject key identifier",
    "identifiers",
    () => three({ ca: { extensions: criticality(oids.subjectKeyIdentifier, true) } }),
  ],
  [
    "the same extension twice",
    "malformed",
    () => three({ leaf: { extensions: (usual) => [...usual, ...usual.slice(0, 1)] } }),
  ],
  // Names
  [
    "no subject, and critical alternative names",
    "good",
    () => three({ leaf: { name: [], extensions: criticality(oids.subjectAltName, true) } }),
  ],
  ["no subject, and alternative names that are not critical", "names", () => three({ leaf: { name: [] } })],
  ["no name at all", "names", () => three({ leaf: { name: [], extensions: without(oids.subjectAltName) } })],
  [
    "alternative names without a name",
    "malformed",
    () => three({ leaf: { extensions: replaced(subjectAltName([], false)) } }),
  ],
  ["its DNS name", "good", () => three({}, { names: [{ kind: "dns", value: "Leaf.example.com" }] })],
  ["another DNS name", "otherName", () => three({}, { names: [{ kind: "dns", value: "example.com" }] })],
  [
    "a wildcard",
    "good",
    () =>
      three({ leaf: { extensions: sans(dns("*.example.com")) } }, { names: [{ kind: "dns", value: "a.example.com" }] }),
  ],
  [
    "a wildcard for two labels",
    "otherName",
    () =>
      three(
        { leaf: { extensions: sans(dns("*.example.com")) } },
        { names: [{ kind: "dns", value: "a.b.example.com" }] },
      ),
  ],
  [
    "a wildcard for no label",
    "otherName",
    () =>
      three({ leaf: { extensions: sans(dns("*.example.com")) } }, { names: [{ kind: "dns", value: "example.com" }] }),
  ],
  [
    "its address",
    "good",
    () => three({ leaf: { extensions: sans(ip("10.0.0.1")) } }, { names: [{ kind: "ip", value: "10.0.0.1" }] }),
  ],
  [
    "its IPv6 address",
    "good",
    () =>
      three({ leaf: { extensions: sans(ip("2001:db8::1")) } }, { names: [{ kind: "ip", value: "2001:db8:0:0::1" }] }),
  ],
  [
    "another address",
    "otherName",
    () => three({ leaf: { extensions: sans(ip("10.0.0.1")) } }, { names: [{ kind: "ip", value: "10.0.0.2" }] }),
  ],
  // Name constraints
  ["DNS permitted: the domain itself", "good", named({ permitted: [dns("example.com")] }, dns("example.com"))],
  [
    "DNS permitted: below the domain, in capitals",
    "good",
    named({ permitted: [dns("example.com")] }, dns("A.B.EXAMPLE.COM")),
  ],
  [
    "DNS permitted: a wildcard below the domain",
    "good",
    named({ permitted: [dns("example.com")] }, dns("*.example.com")),
  ],
  ["DNS permitted: another domain", "nameConstraints", named({ permitted: [dns("example.com")] }, dns("example.org"))],
  [
    "DNS permitted: one that only ends alike",
    "nameConstraints",
    named({ permitted: [dns("example.com")] }, dns("badexample.com")),
  ],
  [
    "DNS permitted: one of two outside",
    "nameConstraints",
    named({ permitted: [dns("example.com")] }, dns("a.example.com"), dns("a.example.org")),
  ],
  [
    "DNS permitted: either of two",
    "good",
    named({ permitted: [dns("example.com"), dns("example.org")] }, dns("a.example.com"), dns("a.example.org")),
  ],
  ["DNS permitted: everything", "good", named({ permitted: [dns("")] }, dns("a.example.org"))],
  ["DNS permitted with a dot: below", "good", named({ permitted: [dns(".example.com")] }, dns("a.example.com"))],
  [
    "DNS permitted with a dot: the domain itself",
    "nameConstraints",
    named({ permitted: [dns(".example.com")] }, dns("example.com")),
  ],
  ["DNS excluded: below", "nameConstraints", named({ excluded: [dns("example.com")] }, dns("a.example.com"))],
  ["DNS excluded: elsewhere", "good", named({ excluded: [dns("example.com")] }, dns("a.example.org"))],
  [
    "DNS permitted and excluded inside",
    "nameConstraints",
    named({ permitted: [dns("example.com")], excluded: [dns("bad.example.com")] }, dns("x.bad.example.com")),
  ],
  ["DNS excluded: everything", "nameConstraints", named({ excluded: [dns("")] }, dns("a.example.org"))],
  [
    "a kind that no constraint is about",
    "good",
    named({ permitted: [dns("example.com")] }, ip("10.0.0.1"), email("a@b.example")),
  ],
  [
    "the common name is taken for a DNS name",
    "nameConstraints",
    subject({ permitted: [dns("example.com")] }, { name: "a.example.org", extensions: without(oids.subjectAltName) }),
  ],
  [
    "the common name is no DNS name",
    "good",
    subject({ permitted: [dns("example.com")] }, { name: "Some Body", extensions: without(oids.subjectAltName) }),
  ],
  [
    "the common name does not count beside a DNS name",
    "good",
    subject({ permitted: [dns("example.com")] }, { name: "a.example.org", extensions: sans(dns("a.example.com")) }),
  ],
  ["IP permitted: inside", "good", named({ permitted: [ip("10.0.0.0/8")] }, ip("10.255.0.1"))],
  ["IP permitted: outside", "nameConstraints", named({ permitted: [ip("10.0.0.0/8")] }, ip("11.0.0.1"))],
  ["IP permitted: another family", "nameConstraints", named({ permitted: [ip("10.0.0.0/8")] }, ip("2001:db8::1"))],
  [
    "IP excluded: inside a range that ends within an octet",
    "nameConstraints",
    named({ excluded: [ip("192.168.16.0/20")] }, ip("192.168.31.255")),
  ],
  ["IP excluded: just beside it", "good", named({ excluded: [ip("192.168.16.0/20")] }, ip("192.168.32.0"))],
  ["IPv6 permitted: inside", "good", named({ permitted: [ip("2001:db8::/32")] }, ip("2001:db8:ffff::1"))],
  ["IPv6 permitted: outside", "nameConstraints", named({ permitted: [ip("2001:db8::/32")] }, ip("2001:db9::1"))],
  ["email permitted: the host", "good", named({ permitted: [email("example.com")] }, email("a@Example.com"))],
  [
    "email permitted: below the host",
    "nameConstraints",
    named({ permitted: [email("example.com")] }, email("a@b.example.com")),
  ],
  [
    "email permitted with a dot: below",
    "good",
    named({ permitted: [email(".example.com")] }, email("a@b.example.com")),
  ],
  ["email permitted: one mailbox", "good", named({ permitted: [email("a@example.com")] }, email("a@example.com"))],
  [
    "email permitted: another mailbox",
    "nameConstraints",
    named({ permitted: [email("a@example.com")] }, email("b@example.com")),
  ],
  [
    "email permitted: the mailbox in capitals is another",
    "nameConstraints",
    named({ permitted: [email("a@example.com")] }, email("A@example.com")),
  ],
  ["email excluded: the host", "nameConstraints", named({ excluded: [email("example.com")] }, email("a@example.com"))],
  [
    "email permitted: internationalised",
    "good",
    named({ permitted: [email("example.com")] }, mailbox("é@example.com")),
  ],
  [
    "email permitted: internationalised elsewhere",
    "nameConstraints",
    named({ permitted: [email("example.com")] }, mailbox("é@example.org")),
  ],
  [
    "email in the subject",
    "nameConstraints",
    subject(
      { permitted: [email("example.com")] },
      { name: name([oids.emailAddress, "a@example.org"]), extensions: without(oids.subjectAltName) },
    ),
  ],
  ["URI permitted: the host", "good", named({ permitted: [uri("example.com")] }, uri("https://example.com:8443/a?b"))],
  [
    "URI permitted: below the host",
    "nameConstraints",
    named({ permitted: [uri("example.com")] }, uri("https://a.example.com/")),
  ],
  [
    "URI permitted with a dot: below",
    "good",
    named({ permitted: [uri(".example.com")] }, uri("spiffe://a.example.com/b")),
  ],
  ["URI permitted: no host", "nameConstraints", named({ permitted: [uri("example.com")] }, uri("urn:example.com"))],
  [
    "URI excluded with a dot: below",
    "nameConstraints",
    named({ excluded: [uri(".example.com")] }, uri("https://a.example.com/")),
  ],
  [
    "directory permitted: below",
    "good",
    subject({ permitted: [directory(name([oids.organizationName, "EXAMPLE"]))] }, { name: example("leaf") }),
  ],
  [
    "directory permitted: elsewhere",
    "nameConstraints",
    subject({ permitted: [directory(name([oids.organizationName, "Other"]))] }, { name: example("leaf") }),
  ],
  [
    "directory permitted: more than the subject",
    "nameConstraints",
    subject({ permitted: [directory(example("leaf"))] }, { name: name([oids.organizationName, "Example"]) }),
  ],
  [
    "directory excluded: below",
    "nameConstraints",
    subject({ excluded: [directory(name([oids.organizationName, "Example"]))] }, { name: example("leaf") }),
  ],
  [
    "directory excluded: among the alternative names",
    "nameConstraints",
    named({ excluded: [directory(name([oids.organizationName, "Example"]))] }, directory(example("leaf"))),
  ],
  [
    "constraints of the root",
    "nameConstraints",
    () => three({ root: { extensions: constrained({ permitted: [dns("example.org")] }) } }),
  ],
  [
    "constraints bind a CA too",
    "nameConstraints",
    () =>
      three({
        root: { extensions: constrained({ excluded: [directory(name([oids.organizationName, "Example"]))] }) },
        ca: { name: example("CA") },
      }),
  ],
  [
    "constraints of both, the leaf inside one only",
    "nameConstraints",
    () =>
      three({
        root: { extensions: constrained({ permitted: [dns("example.com")] }) },
        ca: { extensions: constrained({ permitted: [dns("other.example.com")] }) },
      }),
  ],
];

async function rootOnly(): Promise<Chain> {
  const root = await party({ name: "Root", ca: true });
  return { leaf: root, roots: [root] };
}

async function wrongly(which: "ca" | "leaf"): Promise<Chain> {
  const root = await party({ name: "Root", ca: true });
  const forged = { ...root, signer: broken(root.signer) };
  const ca = await party({ name: "CA", ca: true, issuer: which === "ca" ? forged : root });
  const leaf = await party({ name: "leaf", issuer: which === "leaf" ? { ...ca, signer: broken(ca.signer) } : ca });
  return { leaf, intermediates: [ca], roots: [root] };
}

/** root (pathLength), CA of the same name with another key, CA, leaf. */
async function selfIssued(pathLength: number): Promise<Chain> {
  const root = await party({ name: "Root", ca: pathLength });
  const again = await party({ name: "Root", ca: true, issuer: root });
  const ca = await party({ name: "CA", ca: true, issuer: again });
  return { leaf: await party({ name: "leaf", issuer: ca }), intermediates: [again, ca], roots: [root] };
}

test.each(cases)("%s: %s", async (_, expected, build) => {
  const { leaf, intermediates = [], roots = [], at = new Date(), ...rest } = await build();
  const ders = (parties: readonly Party[]) => parties.map(({ certificate }) => certificate);
  const verdict = validateChain(leaf.certificate, ders(intermediates), ders(roots), { at, ...rest });

  const file = (title: string, parties: readonly Party[]) =>
    judge.write(
      title,
      ders(parties)
        .map((one) => pem("CERTIFICATE", one))
        .join(""),
    );
  const purpose =
    rest.purpose === undefined ? [] : ["-purpose", rest.purpose === "serverAuth" ? "sslserver" : "sslclient"];
  const names = (rest.names ?? []).flatMap(({ kind, value }) => [
    kind === "dns" ? "-verify_hostname" : "-verify_ip",
    value,
  ]);
  const { ok, output } = judge.ask(
    ...["openssl", "verify", "-x509_strict", "-auth_level", "2", "-no-CApath", "-no-CAstore"],
    ...["-attime", String(Math.floor(at.getTime() / 1000)), ...purpose, ...names],
    ...["-CAfile", file("roots.pem", roots)],
    ...(intermediates.length > 0 ? ["-untrusted", file("intermediates.pem", intermediates)] : []),
    file("leaf.pem", [leaf]),
  );
  expect({ verdict: verdict.ok ? "good" : verdict.fault, openssl: ok ? "good" : `bad: ${output}` }).toEqual({
    verdict: expected,
    openssl: expected === "good" ? "good" : expect.stringMatching(/^bad/),
  });
});

test("where RFC 5280 asks for more than OpenSSL does: name constraints without a name", async () => {
  const empty = replaced({ oid: oids.nameConstraints, critical: true, value: der.sequence() });
  const { leaf, intermediates = [], roots = [] } = await three({ ca: { extensions: empty } });
  const [[ca], [root]] = [intermediates, roots];
  if (ca === undefined || root === undefined) throw new Error("expected a chain");
  const verdict = validateChain(leaf.certificate, [ca.certificate], [root.certificate], { at: new Date() });
  expect(verdict).toMatchObject({ ok: false, fault: "malformed" });
});

test("another path is tried where the first one ends, as OpenSSL does not", async () => {
  const [root, other] = [await party({ name: "Root", ca: true }), await party({ name: "Other", ca: true })];
  const ca = await party({ name: "CA", ca: true, issuer: other });
  const cross = await party({ name: "CA", ca: true, issuer: root, key: ca.signer });
  const leaf = await party({ name: "leaf", issuer: ca });
  const both = [ca.certificate, cross.certificate];
  const verdict = validateChain(leaf.certificate, both, [root.certificate], { at: new Date() });
  if (!verdict.ok) throw new Error(verdict.fault);
  expect(verdict.path.map((one) => one.der)).toEqual([leaf.certificate, cross.certificate, root.certificate]);
});

test("at least 60 chains are judged, good ones and bad ones", () => {
  expect(cases.length).toBeGreaterThanOrEqual(60);
  const good = cases.filter(([, expected]) => expected === "good").length;
  expect(Math.min(good, cases.length - good)).toBeGreaterThanOrEqual(20);
  expect(new Set(cases.map(([title]) => title)).size).toBe(cases.length);
});

test("a maze of CAs that sign each other ends", async () => {
  const keys = await Promise.all(Array.from({ length: 6 }, () => party({ name: "Maze", ca: true })));
  const maze = await Promise.all(
    keys.flatMap((of) =>
      keys.map((by) =>
        party({ name: "Maze", ca: true, key: of.signer, issuer: by, extensions: without(oids.authorityKeyIdentifier) }),
      ),
    ),
  );
  const [first] = keys;
  if (first === undefined) throw new Error("expected a key");
  const leaf = await party({ name: "leaf", issuer: first });
  const root = await party({ name: "Root", ca: true });
  const start = performance.now();
  const verdict = validateChain(
    leaf.certificate,
    maze.map((one) => one.certificate),
    [root.certificate],
    { at: new Date() },
  );
  expect(verdict.ok).toBe(false);
  expect(performance.now() - start).toBeLessThan(2_000);
});
