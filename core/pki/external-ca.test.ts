import type { AuthorityRecord } from "../ports/pki-store.ts";
import { actor } from "../ports/samples.ts";
import { newest } from "./authority.ts";
import { parseCertificate } from "./certificate.ts";
import { pathLengthLeft, validateChain } from "./chain.ts";
import { parseCsr } from "./csr.ts";
import { type Extension, keyUsage, subjectKeyIdentifier } from "./extension.ts";
import { isRequestFor, judgeExternal } from "./external-ca.ts";
import { nameToString } from "./name.ts";
import { pem } from "./pem.ts";
import type { Signer } from "./signer.ts";
import { TestPki } from "./testing/installation.ts";
import { type Party, type PartyRequest, party } from "./testing/party.ts";

let pki: TestPki;
let record: AuthorityRecord;
let root: Party;

beforeEach(async () => {
  pki = await TestPki.start();
  pki.now = new Date();
  record = await pki.root("issuing", { parent: { kind: "External" } });
  root = await party({ name: "Offline Root", ca: true });
});

const bundle = (...parties: readonly Party[]): string =>
  parties.map(({ certificate }) => pem("CERTIFICATE", certificate)).join("");
/** Of the CA's key, which only the CA can sign with. */
const ownKey = (): Signer => ({
  spki: newest(record).spki,
  signatureAlgorithm: Buffer.alloc(0),
  sign: () => Promise.reject(new Error("the key is not here")),
});
const signedFor = (change: Partial<PartyRequest> = {}): Promise<Party> =>
  party({ name: "issuing CA", key: ownKey(), issuer: root, ca: true, ...change });
const install = (text: string, authorities = pki.authorities) => authorities.install(pki.writer, record, text, actor);
const replaced =
  (extension: Extension): NonNullable<PartyRequest["extensions"]> =>
  (usual) => [...usual.filter(({ oid }) => oid !== extension.oid), extension];

test("a CA whose certificate comes from elsewhere has a key, and waits", async () => {
  expect(newest(record).certificate).toBeUndefined();
  expect(await pki.root("issuing", { parent: { kind: "External" } })).toEqual(record);
  await expect(pki.issue(record, "uid")).rejects.toMatchObject({ code: "IssuerNotReady" });
});

test("its request asks for a CA of its subject and key, and is on record", async () => {
  const request = await pki.authorities.certificateRequest(pki.writer, record, actor);
  const { spki, subject, basicConstraints: wanted, keyUsage: usage } = parseCsr(request);
  expect(spki).toEqual(newest(record).spki);
  expect([nameToString(subject), wanted, usage]).toEqual(["CN=issuing CA", { ca: true }, ["keyCertSign", "cRLSign"]]);
  expect(pki.actions.at(-1)).toBe("AuthorityRequested");
  const text = pem("CERTIFICATE REQUEST", request);
  expect(isRequestFor(text, newest(record))).toBe(true);
  const other = await pki.root("other", { parent: { kind: "External" } });
  expect(isRequestFor(text, newest(other))).toBe(false);
  expect(isRequestFor("nothing", newest(record))).toBe(false);
});

test("with its certificate it issues what verifies up to the root elsewhere", async () => {
  const between = await party({ name: "Between", issuer: root, ca: 1 });
  const own = await signedFor({ issuer: between, ca: 0 });
  record = await install(bundle(own, between, root));
  expect(pki.actions.at(-1)).toBe("AuthorityCertified");
  const [, ...above] = pki.authorities.chainOf(record);
  expect(above).toEqual([between.certificate, root.certificate]);
  const leaf = await pki.issue(record, "uid");
  const verdict = validateChain(
    leaf.certificate as Buffer,
    [own.certificate, between.certificate],
    [root.certificate],
    {
      at: pki.now,
      purpose: "serverAuth",
    },
  );
  expect(verdict.ok).toBe(true);
});

test("what it issues refers to the key identifier that its certificate has", async () => {
  const identifier = Buffer.alloc(20, 7);
  record = await install(bundle(await signedFor({ extensions: replaced(subjectKeyIdentifier(identifier)) }), root));
  const leaf = await pki.issue(record, "uid");
  expect(parseCertificate(leaf.certificate as Buffer).authorityKeyIdentifier?.keyIdentifier).toEqual(identifier);
});

test("the same again writes nothing, also by a process that lost the first answer", async () => {
  const text = bundle(await signedFor(), root);
  const installed = await install(text);
  const written = pki.actions.length;
  // From what it knew before, and from what it knows now.
  expect(await install(text, pki.restarted())).toEqual(installed);
  record = installed;
  expect(await install(`\n${text}\n`)).toEqual(installed);
  expect(pki.actions).toHaveLength(written);
});

describe("refused is", () => {
  const cases: readonly (readonly [what: string, text: () => Promise<string>, says: RegExp])[] = [
    ["no PEM", async () => "certificate", /holds no PEM block/],
    ["another PEM block", async () => pem("PRIVATE KEY", Buffer.from("key")), /block 1 is a PRIVATE KEY; only certif/],
    ["what is no certificate", async () => pem("CERTIFICATE", Buffer.from([0x30, 0])), /block 1 is no certificate/],
    [
      "a chain without end",
      async () => bundle(...new Array(9).fill(await signedFor())),
      /has 9 certificates; at most 8/,
    ],
    [
      "that of another key",
      async () => bundle(await party({ name: "issuing CA", issuer: root, ca: true }), root),
      /is for another key; have status.certificateSigningRequest signed/,
    ],
    ["the root first", async () => bundle(root, await signedFor()), /put the CA's own certificate first/],
    [
      "another subject",
      async () => bundle(await signedFor({ name: "someone else" }), root),
      /its subject is CN=someone else and not, octet for octet, CN=issuing CA/,
    ],
    ["no CA", async () => bundle(await signedFor({ ca: false }), root), /it is not a CA's.*CA:TRUE/],
    [
      "a CA that may not sign CRLs",
      async () => bundle(await signedFor({ extensions: replaced(keyUsage(["keyCertSign"])) }), root),
      /lacks cRLSign;/,
    ],
    ["one without its root", async () => bundle(await signedFor()), /add the certificates from CN=Offline Root up to/],
    [
      "another root",
      async () => bundle(await signedFor(), await party({ name: "Other Root", ca: true })),
      /was issued by CN=Offline Root, but certificate CN=Other Root follows/,
    ],
    [
      "a root of the same name",
      async () => bundle(await signedFor(), await party({ name: "Offline Root", ca: true })),
      /is not signed with the key of the certificate CN=Offline Root/,
    ],
    [
      "one that has ended",
      async () => bundle(await signedFor({ template: { notAfter: new Date(Date.now() - 60_000) } }), root),
      /certificate CN=issuing CA has expired/,
    ],
    [
      "one that has not begun",
      async () => bundle(await signedFor({ template: { notBefore: new Date(Date.now() + 60_000) } }), root),
      /certificate CN=issuing CA is not valid yet/,
    ],
    [
      "one below a CA that allows none",
      async () => {
        const narrow = await party({ name: "Narrow Root", ca: 0 });
        return bundle(await signedFor({ issuer: narrow }), narrow);
      },
      /path length above allows no CA in this place/,
    ],
    [
      "one with a serial number that can be guessed",
      async () => bundle(await signedFor({ template: { serialNumber: Buffer.from([1]) } }), root),
      /has faults.*\(serialNumberShort\)/,
    ],
  ];

  test.each(cases)("%s", async (_, text, says) => {
    const given = await text();
    const written = pki.actions.length;
    const refusal = { field: "external.certificate", problem: expect.stringMatching(says) };
    await expect(install(given)).rejects.toMatchObject(refusal);
    expect(newest((await pki.authorities.describe(record.identity)) ?? record).certificate).toBeUndefined();
    expect(pki.actions).toHaveLength(written);
  });
});

describe("a renewed certificate", () => {
  const lasting = (ms: number) => ({ template: { notAfter: new Date(Date.now() + ms) } });

  beforeEach(async () => {
    record = await install(bundle(await signedFor(lasting(3_600_000)), root));
  });

  test("takes the place of the one before, and what was issued before verifies under it", async () => {
    const before = await pki.issue(record, "before");
    const own = await signedFor(lasting(7_200_000));
    record = await install(bundle(own, root));
    expect(newest(record)).toMatchObject({ certificate: own.certificate, chain: [root.certificate] });
    const after = await pki.issue(record, "after");
    expect(after.notAfter.getTime()).toBeGreaterThan(before.notAfter.getTime());
    for (const { certificate } of [before, after]) {
      const verdict = validateChain(certificate as Buffer, [own.certificate], [root.certificate], { at: pki.now });
      expect(verdict.ok).toBe(true);
    }
  });

  test("is not put over what another writer installed meanwhile", async () => {
    const known = record;
    record = await install(bundle(await signedFor(lasting(7_200_000)), root));
    const late = bundle(await signedFor(lasting(8_000_000)), root);
    await expect(pki.authorities.install(pki.writer, known, late, actor)).rejects.toMatchObject({
      name: "PkiConflict",
    });
  });

  test("must not end before it", async () => {
    await expect(install(bundle(await signedFor(lasting(1_800_000)), root))).rejects.toThrow(/before the one in use/);
  });

  test("must keep the key identifier", async () => {
    const own = await signedFor({
      ...lasting(7_200_000),
      extensions: replaced(subjectKeyIdentifier(Buffer.alloc(20, 9))),
    });
    await expect(install(bundle(own, root))).rejects.toThrow(/subjectKeyIdentifier differs/);
  });
});

test.each([
  [[undefined, undefined], undefined],
  [[0, undefined], 0],
  [[undefined, 1], 0],
  [[3, 2], 1],
  [[3, 0], -1],
  [[undefined, undefined, 4], 2],
])("path lengths %p leave room for %p", async (lengths, left) => {
  const parties: Party[] = [];
  for (const [index, length] of [...lengths].reverse().entries()) {
    const issuer = parties.at(-1);
    parties.push(await party({ name: `CA ${index}`, ca: length ?? true, ...(issuer && { issuer }) }));
  }
  const path = parties.reverse().map(({ certificate }) => parseCertificate(certificate));
  expect(pathLengthLeft(path)).toBe(left);
});

test("how many CAs may stand below it is what the path leaves", async () => {
  const narrow = await party({ name: "Narrow Root", ca: 2 });
  const text = bundle(await signedFor({ issuer: narrow }), narrow);
  expect(judgeExternal(text, newest(record), pki.now).pathLength).toBe(1);
});
