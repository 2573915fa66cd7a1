import type { AuthorityRecord, CertificateRecord } from "../ports/pki-store.ts";
import { PkiConflict } from "../ports/pki-store.ts";
import { actor } from "../ports/samples.ts";
import { Sensitive } from "../sensitive.ts";
import { newest } from "./authority.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { generateKey, keyIdentifier, spkiOf } from "./key.ts";
import { nameToString } from "./name.ts";
import { oids } from "./oid.ts";
import { leafRequest, rootSpec, TestPki } from "./testing/installation.ts";

let pki: TestPki;

beforeEach(async () => {
  pki = await TestPki.start();
});

const parsed = ({ certificate }: { readonly certificate?: Buffer }): Certificate => {
  if (certificate === undefined) throw new Error("expected a certificate");
  return parseCertificate(certificate);
};
const below = (name: string, authority: AuthorityRecord, durationMs = 1_000 * 3_600_000) =>
  pki.root(name, { parent: { kind: "Authority", authority }, durationMs, pathLength: 0 });

describe("a CA", () => {
  test("signs itself, and its serial number is one of its own certificates", async () => {
    const root = await pki.root();
    const certificate = parsed(newest(root));
    expect(certificate.basicConstraints).toEqual({ ca: true });
    expect(certificate.keyUsage).toEqual(["keyCertSign", "cRLSign"]);
    expect(certificate.issuerDer).toEqual(certificate.subjectDer);
    expect(nameToString(certificate.subject)).toBe("CN=root CA");
    expect(verifySignedBy(certificate, certificate.spki)).toBe(true);
    expect([certificate.crlUrls, certificate.authorityInfoAccess]).toEqual([[], undefined]);
    const record = await pki.store.certificate(root.id, certificate.serialNumber.toString("hex"));
    expect(record).toMatchObject({ state: "Issued", profile: "CA", hasKey: false, revision: 1 });
    expect(pki.authorities.chainOf(root)).toEqual([certificate.der]);
    expect(pki.actions).toEqual([
      "LeadershipTaken",
      "KeyCreated",
      "AuthorityCreated",
      "CertificateReserved",
      "CertificateIssued",
      "AuthorityCertified",
    ]);
  });

  test("below another one is signed by that, and never ends after it", async () => {
    const root = await pki.root("root", { durationMs: 100 * 3_600_000 });
    const subordinate = await below("payments", root);
    const [own, above] = pki.authorities.chainOf(subordinate).map(parseCertificate);
    if (own === undefined || above === undefined) throw new Error("expected a chain");
    expect(above.der).toEqual(newest(root).certificate);
    expect(verifySignedBy(own, above.spki)).toBe(true);
    expect(own.basicConstraints).toEqual({ ca: true, pathLength: 0 });
    expect(own.authorityKeyIdentifier?.keyIdentifier).toEqual(keyIdentifier(above.spki));
    expect([own.notBefore >= above.notBefore, own.notAfter <= above.notAfter]).toEqual([true, true]);
    expect(own.crlUrls).toEqual([`http://pki.example.com/crl/${root.id}/1.crl`]);
    const leaf = await pki.issue(subordinate, "uid");
    expect(leaf.notAfter).toEqual(above.notAfter);
  });

  test("that is there already is found, and nothing is written", async () => {
    const root = await pki.root();
    const before = pki.database.audit.length;
    expect(await pki.root()).toEqual(root);
    expect(await pki.restarted().ensure(pki.writer, rootSpec("root"))).toEqual(root);
    expect(pki.database.audit).toHaveLength(before);
  });

  test("is finished wherever its making was interrupted", async () => {
    const { store } = pki;
    const failures = ["createAuthority", "reserve", "complete", "installCertificate"] as const;
    let serialNumber: string | undefined;
    for (const method of failures) {
      const original = store[method].bind(store) as (...args: unknown[]) => Promise<unknown>;
      // The write happens, and its answer is lost.
      const lost = async (...args: unknown[]) => {
        await original(...args);
        throw new Error("the answer was lost");
      };
      Object.assign(store, { [method]: lost });
      await expect(pki.restarted().ensure(pki.writer, rootSpec("root"))).rejects.toThrow("the answer was lost");
      Object.assign(store, { [method]: original });
      const found = await store.findAuthority(rootSpec("root").identity);
      const certificate = await store.certificateFor(found?.id ?? "", 1);
      if (serialNumber !== undefined) expect(certificate?.serialNumber).toBe(serialNumber);
      serialNumber = certificate?.serialNumber;
    }
    const root = await pki.root();
    expect(parsed(newest(root)).serialNumber.toString("hex")).toBe(serialNumber);
    expect(await store.countCertificates(root.id, 1)).toBe(1);
  });

  test("of the same name with another subject or key is refused, whichever came first stays", async () => {
    const root = await pki.root();
    const refusal = { code: "AuthorityDiffers" };
    const subject = [[{ type: oids.commonName, value: "another" }]];
    await expect(pki.root("root", { subject })).rejects.toMatchObject(refusal);
    await expect(pki.root("root", { key: { algorithm: "ECDSA", size: 384 } })).rejects.toMatchObject(refusal);
    await expect(pki.root("root", { key: { algorithm: "Ed25519" } })).rejects.toMatchObject(refusal);
    expect(await pki.root()).toEqual(root);
  });

  test.each([
    [{ algorithm: "RSA", size: 2048 }],
    [{ algorithm: "ECDSA", size: 384 }],
    [{ algorithm: "ECDSA", size: 521 }],
    [{ algorithm: "Ed25519" }],
  ] as const)("can have a key of %p", async (key) => {
    const root = await pki.root("root", { key });
    const leaf = await pki.issue(await pki.root("root", { key }), "uid");
    expect(verifySignedBy(parsed(leaf), parsed(newest(root)).spki)).toBe(true);
  });

  test("is retired and taken up again, and its settings follow", async () => {
    const root = await pki.root();
    const retired = await pki.authorities.change(pki.writer, root, { state: "Retired" }, actor);
    expect(await pki.authorities.describe(root.identity)).toEqual(retired);
    await expect(pki.issue(retired, "uid")).rejects.toThrow(PkiConflict);
    const revocation = { crlEveryMs: 60_000, ocspValidityMs: 120_000 };
    expect(await pki.root("root", { revocation })).toEqual({ ...root, state: "Active", revocation });
    expect(pki.actions.filter((action) => action === "AuthorityChanged")).toHaveLength(2);
  });

  test("that has ended signs nothing", async () => {
    const root = await pki.root("root", { durationMs: 3_600_000 });
    pki.passes(3_600_000);
    await expect(pki.issue(root, "uid")).rejects.toMatchObject({ code: "IssuerNotReady" });
  });

  test("needs one above it that can sign", async () => {
    const root = await pki.root();
    const { certificate: _, notAfter: __, ...bare } = newest(root);
    const authority = { ...root, generations: [bare] };
    await expect(below("payments", authority)).rejects.toMatchObject({ code: "IssuerNotReady" });
  });
});

describe("a certificate", () => {
  let root: AuthorityRecord;
  beforeEach(async () => {
    root = await pki.root();
  });

  test("says what was asked for, and where its issuer's publications are", async () => {
    const record = await pki.issue(root, "uid");
    const certificate = parsed(record);
    expect(record).toMatchObject({ state: "Issued", generation: 1, crlPartition: 0, hasKey: true });
    expect(certificate.serialNumber.toString("hex")).toBe(record.serialNumber);
    expect(verifySignedBy(certificate, newest(root).spki)).toBe(true);
    expect(certificate.subjectAltNames).toEqual([{ kind: "dns", value: "orders.payments.svc" }]);
    expect(certificate.extendedKeyUsage).toEqual([oids.serverAuth]);
    expect(certificate.basicConstraints).toEqual({ ca: false });
    expect(certificate.subjectKeyIdentifier).toEqual(keyIdentifier(certificate.spki));
    expect(certificate.crlUrls).toEqual([`http://pki.example.com/crl/${root.id}/1.crl`]);
    expect(certificate.authorityInfoAccess).toEqual({
      ocsp: ["http://pki.example.com/ocsp"],
      caIssuers: [`http://pki.example.com/ca/${root.id}/1.cer`],
    });
    // Five minutes for slow clocks, whole seconds, both ends included.
    expect(certificate.notBefore).toEqual(new Date("2026-03-01T11:55:00Z"));
    expect(certificate.notAfter).toEqual(new Date("2026-05-30T11:54:59Z"));
    expect([record.notBefore, record.notAfter]).toEqual([certificate.notBefore, certificate.notAfter]);
  });

  test("with a short validity is backdated by a tenth of it", async () => {
    const { notBefore, notAfter } = await pki.issue(root, "uid", 1, { durationMs: 300_000 });
    expect(pki.now.getTime() - notBefore.getTime()).toBeLessThanOrEqual(31_000);
    expect(notAfter.getTime() - notBefore.getTime()).toBe(299_000);
  });

  test("is issued once for a revision, however many ask at the same time", async () => {
    const records = await Promise.all(Array.from({ length: 100 }, () => pki.issue(root, "uid")));
    expect(new Set(records.map((record) => record.certificate?.toString("hex"))).size).toBe(1);
    expect(pki.actions.filter((action) => action === "CertificateReserved")).toHaveLength(2);
    expect(await pki.restarted().issue(pki.writer, leafRequest(root, "uid"))).toEqual(records[0]);
  });

  test("for something else under the same revision is a conflict, under the next one it is issued", async () => {
    await pki.issue(root, "uid");
    const change = { subjectAltNames: [{ kind: "dns", value: "other.payments.svc" }] } as const;
    await expect(pki.issue(root, "uid", 1, change)).rejects.toThrow(PkiConflict);
    expect(await pki.issue(root, "uid", 2, change)).toMatchObject({ revision: 2, state: "Issued" });
  });

  /** Reserves, and then dies before it signs. */
  const interrupted = async (revision = 1): Promise<CertificateRecord> => {
    const { store } = pki;
    const complete = store.complete.bind(store);
    store.complete = async () => {
      throw new Error("killed");
    };
    await expect(pki.restarted().issue(pki.writer, leafRequest(root, "uid", revision))).rejects.toThrow("killed");
    store.complete = complete;
    const reserved = await store.certificateFor("uid", revision);
    if (reserved?.state !== "Reserved") throw new Error("expected a reservation");
    return reserved;
  };

  test("that was interrupted is finished with the same serial number, key and times", async () => {
    const reserved = await interrupted();
    pki.passes(3_600_000);
    const key = await pki.authorities.openKey(pki.writer, reserved, { actor, purpose: "Test" });
    const issued = await pki.restarted().issue(pki.writer, leafRequest(root, "uid"));
    expect({ ...issued, state: "Reserved", certificate: undefined }).toEqual({ ...reserved, certificate: undefined });
    expect(parsed(issued).spki).toEqual(spkiOf(key));
    expect(parsed(issued).notBefore).toEqual(reserved.notBefore);
  });

  test("that was interrupted is given up when something else is asked for, or too late", async () => {
    const first = await interrupted();
    const change = { durationMs: 3_600_000 };
    const issued = await pki.issue(root, "uid", 1, change);
    expect(issued.serialNumber).not.toBe(first.serialNumber);
    expect(await pki.store.certificate(root.id, first.serialNumber)).toMatchObject({ state: "Abandoned" });
    const second = await interrupted(2);
    pki.passes(10 * 24 * 3_600_000);
    expect((await pki.issue(root, "uid", 2)).serialNumber).not.toBe(second.serialNumber);
    expect(pki.actions.filter((action) => action === "CertificateAbandoned")).toHaveLength(2);
  });

  test("for a key of the requester's keeps no key", async () => {
    const spki = spkiOf(await generateKey({ algorithm: "Ed25519" }));
    const record = await pki.issue(root, "uid", 1, { key: { spki } });
    expect(parsed(record).spki).toEqual(spki);
    expect(record.hasKey).toBe(false);
    await expect(pki.authorities.openKey(pki.writer, record, { actor, purpose: "Test" })).rejects.toThrow(PkiConflict);
  });

  test("can have the key of the one before, and only its own requester's", async () => {
    const first = await pki.issue(root, "uid");
    const second = await pki.issue(root, "uid", 2, { key: { reuse: first } });
    expect(parsed(second).spki).toEqual(parsed(first).spki);
    expect(second.serialNumber).not.toBe(first.serialNumber);
    const key = await pki.authorities.openKey(pki.writer, second, { actor, purpose: "Test" });
    expect(spkiOf(key)).toEqual(parsed(first).spki);
    await expect(pki.issue(root, "other", 1, { key: { reuse: second } })).rejects.toThrow(PkiConflict);
  });

  test("gives its key only on record", async () => {
    const record = await pki.issue(root, "uid");
    await pki.authorities.openKey(pki.writer, record, { actor, purpose: "Delivery" });
    expect(pki.database.audit.at(-1)?.entry).toMatchObject({
      action: "CertificateKeyRead",
      subject: { kind: "Certificate", name: "payments/orders" },
      details: { purpose: "Delivery" },
    });
  });

  test("of another row does not come with this row's key", async () => {
    const [one, two] = [await pki.issue(root, "one"), await pki.issue(root, "two")];
    const swapped = { ...one, ...(two.certificate && { certificate: two.certificate }) };
    const options = { actor, purpose: "Test" };
    const tampered = { code: "TamperDetected" };
    await expect(pki.authorities.openKey(pki.writer, swapped, options)).rejects.toMatchObject(tampered);
    for (const change of [
      { revision: 2 },
      { templateDigest: two.templateDigest.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) },
      { requester: { ...one.requester, namespaceUid: "re-created" } },
      { requester: { ...one.requester, uid: "two" } },
    ]) {
      await expect(pki.authorities.openKey(pki.writer, { ...one, ...change }, options)).rejects.toMatchObject(tampered);
    }
  });

  test("with a fault is not recorded as issued, and does not leave", async () => {
    const nameConstraints = { permitted: [{ kind: "dns", value: "example.com" }], excluded: [] } as const;
    const limited = await pki.root("limited", { nameConstraints });
    await expect(pki.issue(limited, "uid")).rejects.toMatchObject({ code: "LintFailed" });
    expect(await pki.store.certificateFor("uid", 1)).toMatchObject({ state: "Reserved" });
    expect(await pki.store.certificateFor("uid", 1)).not.toHaveProperty("certificate");
    const subjectAltNames = [{ kind: "dns", value: "orders.example.com" }] as const;
    const subject = [[{ type: oids.commonName, value: "orders.example.com" }]];
    expect(await pki.issue(limited, "uid", 1, { subject, subjectAltNames })).toMatchObject({ state: "Issued" });
  });

  test("falls into the next CRL partition when one is full", async () => {
    pki.store.countCertificates = async () => 49_999;
    const authorities = pki.restarted();
    const [last, first] = [
      await authorities.issue(pki.writer, leafRequest(root, "last")),
      await authorities.issue(pki.writer, leafRequest(root, "first")),
    ];
    expect([last.crlPartition, first.crlPartition]).toEqual([0, 1]);
    expect(parsed(first).crlUrls).toEqual([`http://pki.example.com/crl/${root.id}/1-1.crl`]);
  });

  test("is revoked once, and held and released", async () => {
    const record = await pki.issue(root, "uid");
    const { authorities, writer } = pki;
    expect(await authorities.revoke(writer, record, { reason: "certificateHold" }, actor)).toBe(true);
    expect(await authorities.release(writer, record, actor)).toBe(true);
    expect(await authorities.revoke(writer, record, { reason: "keyCompromise" }, actor)).toBe(true);
    expect(await authorities.revoke(writer, record, { reason: "superseded" }, actor)).toBe(false);
    expect(await pki.store.certificate(root.id, record.serialNumber)).toMatchObject({
      revocation: { at: pki.now, reason: "keyCompromise" },
    });
    expect(pki.actions.slice(-3)).toEqual(["CertificateRevoked", "CertificateReleased", "CertificateRevoked"]);
  });
});

describe("a CA that somebody changed in the store", () => {
  const tampered = { code: "TamperDetected" };

  test("does not sign with another CA's key, certificate or name", async () => {
    const [one, two] = [await pki.root("one"), await pki.root("two")];
    const [own, other] = [newest(one), newest(two)];
    const authorities = pki.restarted();
    for (const change of [
      { sealedKey: other.sealedKey },
      { sealedKey: other.sealedKey, spki: other.spki, certificate: other.certificate ?? Buffer.alloc(0) },
      { certificate: other.certificate ?? Buffer.alloc(0) },
      { subject: other.subject },
      { spki: other.spki },
      { chain: [other.certificate ?? Buffer.alloc(0)] },
      { certificate: Buffer.from("30", "hex") },
    ]) {
      const authority = { ...one, generations: [{ ...own, ...change }] };
      await expect(authorities.issue(pki.writer, leafRequest(authority, "uid"))).rejects.toMatchObject(tampered);
    }
    expect(await authorities.issue(pki.writer, leafRequest(one, "uid"))).toMatchObject({ state: "Issued" });
  });

  test("does not lend its key to a CA of another identity", async () => {
    const one = await pki.root("one");
    for (const identity of [
      { ...one.identity, name: "two" },
      { ...one.identity, kind: "Issuer", namespace: "payments", namespaceUid: "uid" } as const,
    ]) {
      const request = leafRequest({ ...one, identity }, "uid");
      await expect(pki.restarted().issue(pki.writer, request)).rejects.toMatchObject(tampered);
    }
  });
});

test("a fingerprint tells values, purposes, requesters and installations apart, and is the same after a restart", async () => {
  const of = (authorities = pki.authorities, uid = "a", purpose = "p", value = "v"): string =>
    authorities.fingerprint(uid, purpose, new Sensitive(value));
  const { authorities } = pki;
  const elsewhere = (await TestPki.start()).authorities;
  const all = [of(), of(authorities, "b"), of(authorities, "a", "q"), of(authorities, "a", "p", "w"), of(elsewhere)];
  expect(new Set(all).size).toBe(5);
  expect(of(pki.restarted())).toBe(of());
});
