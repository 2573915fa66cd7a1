import { randomUUID } from "node:crypto";
import type { AuthorityRecord } from "../ports/pki-store.ts";
import { actor } from "../ports/samples.ts";
import { newest } from "./authority.ts";
import { parseCertificate, verifySignedBy } from "./certificate.ts";
import { parseCrl } from "./crl.ts";
import { CrlPublication } from "./crl-publication.ts";
import { createCsr } from "./csr.ts";
import { generateKey, type KeySpec, keyIdentifier, readPublicKey } from "./key.ts";
import { oids } from "./oid.ts";
import { ResponderCertificates } from "./responder-certificates.ts";
import { LocalSigner, verifySignature } from "./signer.ts";
import { leafRequest, TestPki } from "./testing/installation.ts";

const HOUR_MS = 3_600_000;

let pki: TestPki;
let root: AuthorityRecord;

beforeEach(async () => {
  pki = await TestPki.start();
  root = await pki.root();
});

describe("CRLs", () => {
  let publication: CrlPublication;
  beforeEach(() => {
    const { store, authorities, urls } = pki;
    publication = new CrlPublication({ store, authorities, urls, now: () => pki.now });
  });
  const publish = () => publication.publishDue(pki.writer, 10);
  const current = async (partition = 0) => {
    const stored = await pki.store.crl({ authorityId: root.id, generation: 1, partition });
    if (stored === undefined) throw new Error("expected a CRL");
    const crl = parseCrl(stored.der);
    const serials = [...crl.entries()].map(({ serialNumber, reason }) => `${serialNumber} ${reason}`);
    return { stored, crl, serials };
  };

  test("the first one is empty, signed, and says what it covers", async () => {
    expect(await publish()).toBe(1);
    const { stored, crl, serials } = await current();
    expect(serials).toEqual([]);
    expect(crl.issuer).toEqual(newest(root).subject);
    expect(crl.number).toBe(1n);
    expect(crl.authorityKeyIdentifier).toEqual(keyIdentifier(newest(root).spki));
    expect(crl.distributionPoints).toBeUndefined();
    expect([crl.thisUpdate, crl.nextUpdate]).toEqual([stored.thisUpdate, stored.nextUpdate]);
    expect(crl.nextUpdate).toEqual(new Date("2026-03-03T00:00:00Z"));
    const key = readPublicKey(newest(root).spki);
    expect(verifySignature(crl.signatureAlgorithm, key, crl.tbs, crl.signature)).toBe(true);
    expect(await publish()).toBe(0);
  });

  test("a revocation is in the next one at once, a released hold no more", async () => {
    const [one, two] = [await pki.issue(root, "one"), await pki.issue(root, "two")];
    await publish();
    await pki.authorities.revoke(pki.writer, one, { reason: "keyCompromise" }, actor);
    await pki.authorities.revoke(pki.writer, two, { reason: "certificateHold" }, actor);
    expect(await publish()).toBe(1);
    const first = await current();
    expect([...first.serials].sort()).toEqual(
      [`${one.serialNumber} keyCompromise`, `${two.serialNumber} certificateHold`].sort(),
    );
    expect(first.crl.number).toBe(2n);
    await pki.authorities.release(pki.writer, two, actor);
    expect(await publish()).toBe(1);
    expect((await current()).serials).toEqual([`${one.serialNumber} keyCompromise`]);
  });

  test("a revocation while one is made is in the one after", async () => {
    const record = await pki.issue(root, "uid");
    const { store } = pki;
    const revoked = store.changedStatuses.bind(store);
    store.changedStatuses = async (...args) => {
      const entries = await revoked(...args);
      await pki.authorities.revoke(pki.writer, record, { reason: "superseded" }, actor);
      return entries;
    };
    await publish();
    store.changedStatuses = revoked;
    expect((await current()).serials).toEqual([]);
    expect(await publish()).toBe(1);
    expect((await current()).serials).toEqual([`${record.serialNumber} superseded`]);
  });

  test("it is made again when its time has come, and before it ends", async () => {
    await publish();
    pki.passes(24 * HOUR_MS - 1_000);
    expect(await publish()).toBe(0);
    pki.passes(1_000);
    expect((await current()).stored.nextUpdate > pki.now).toBe(true);
    expect(await publish()).toBe(1);
    expect((await current()).crl.number).toBe(2n);
  });

  test("an entry stays until one CRL after the end of its certificate", async () => {
    const record = await pki.issue(root, "uid", 1, { durationMs: HOUR_MS });
    await pki.authorities.revoke(pki.writer, record, { reason: "superseded" }, actor);
    await publish();
    pki.passes(25 * HOUR_MS);
    await publish();
    expect((await current()).serials).toHaveLength(1);
    pki.passes(25 * HOUR_MS);
    await publish();
    expect((await current()).serials).toEqual([]);
  });

  test("each partition has its own, and a retired CA's go on", async () => {
    pki.store.countCertificates = async () => 50_000;
    const authorities = pki.restarted();
    const record = await pki.issue(root, "uid");
    const other = await authorities.issue(pki.writer, leafRequest(root, "other"));
    expect([record.crlPartition, other.crlPartition]).toEqual([0, 1]);
    await authorities.revoke(pki.writer, other, { reason: "superseded" }, actor);
    await authorities.change(pki.writer, root, { state: "Retired" }, actor);
    expect(await publish()).toBe(2);
    expect((await current(0)).serials).toEqual([]);
    expect((await current(1)).serials).toEqual([`${other.serialNumber} superseded`]);
    const points = [(await current(0)).crl.distributionPoints, (await current(1)).crl.distributionPoints];
    expect(points).toEqual([
      [`http://pki.example.com/crl/${root.id}/1.crl`],
      [`http://pki.example.com/crl/${root.id}/1-1.crl`],
    ]);
  });

  test("without URLs it covers all certificates of the CA", async () => {
    const { store, authorities } = pki;
    await new CrlPublication({ store, authorities, now: () => pki.now }).publishDue(pki.writer, 10);
    expect((await current()).crl.distributionPoints).toBeUndefined();
  });

  test("one that cannot be made does not hold up the others", async () => {
    await pki.root("other");
    const { store } = pki;
    const authority = store.authority.bind(store);
    store.authority = async (id) => (id === root.id ? undefined : authority(id));
    await expect(publish()).rejects.toThrow(`authority ${root.id}`);
    store.authority = authority;
    expect(await store.listDueCrls(pki.now, 10)).toMatchObject([{ authorityId: root.id }]);
  });
});

describe("responder certificates", () => {
  let responders: ResponderCertificates;
  beforeEach(() => {
    pki.now = new Date();
    const { store, authorities } = pki;
    responders = new ResponderCertificates({ store, authorities, now: () => pki.now });
  });
  const P256 = { algorithm: "ECDSA", size: 256 } as const;
  const ask = async (key: KeySpec = P256, spoil = (csr: Buffer) => csr) => {
    const signer = new LocalSigner(await generateKey(key));
    const id = randomUUID();
    const csr = spoil(await createCsr([[{ type: oids.commonName, value: "anything" }]], [], signer));
    await pki.store.requestResponder({ id, authorityId: root.id, generation: 1, csr });
    return { id, spki: signer.spki };
  };

  test("are short-lived, only for OCSP, and nobody need check them", async () => {
    const { id, spki } = await ask();
    expect(await responders.sign(pki.writer)).toBe(1);
    const answer = await pki.store.responder(id);
    if (typeof answer === "string") throw new Error("expected a certificate");
    const certificate = parseCertificate(answer);
    expect(certificate.spki).toEqual(spki);
    expect(verifySignedBy(certificate, newest(root).spki)).toBe(true);
    expect(certificate.extendedKeyUsage).toEqual([oids.ocspSigning]);
    expect(certificate.keyUsage).toEqual(["digitalSignature"]);
    expect(certificate.extensions.has(oids.ocspNoCheck)).toBe(true);
    expect([certificate.crlUrls, certificate.authorityInfoAccess]).toEqual([[], undefined]);
    expect(certificate.notAfter.getTime() - certificate.notBefore.getTime()).toBe(48 * HOUR_MS - 1_000);
    expect(await responders.sign(pki.writer)).toBe(0);
    const record = await pki.store.certificate(root.id, certificate.serialNumber.toString("hex"));
    expect(record).toMatchObject({ state: "Issued", requester: { kind: "Responder", uid: id } });
  });

  test("are not given for a weak or foreign request", async () => {
    const requests = [
      await ask({ algorithm: "RSA", size: 2048 }),
      await ask({ algorithm: "ECDSA", size: 384 }),
      await ask(P256, (csr) => csr.subarray(0, 40)),
      await ask(P256, (csr) => Buffer.concat([csr.subarray(0, -1), Buffer.of((csr.at(-1) ?? 0) ^ 1)])),
    ];
    expect(await responders.sign(pki.writer)).toBe(0);
    for (const { id } of requests) expect(await pki.store.responder(id)).toBe("Pending");
    pki.passes(11 * 60_000);
    expect(await responders.forget(pki.writer)).toBe(requests.length);
    for (const { id } of requests) expect(await pki.store.responder(id)).toBe("Gone");
  });

  test("are given to a retired CA's responders too", async () => {
    await pki.authorities.change(pki.writer, root, { state: "Retired" }, actor);
    await ask();
    expect(await responders.sign(pki.writer)).toBe(1);
  });

  test("are bounded for each CA in an hour", async () => {
    for (let count = 0; count < 65; count += 1) await ask();
    expect(await responders.sign(pki.writer)).toBe(60);
    expect(await responders.sign(pki.writer)).toBe(0);
  });

  test("are not signed twice when the answer got lost", async () => {
    const { id } = await ask();
    const { store } = pki;
    const answer = store.answerResponder.bind(store);
    store.answerResponder = async () => {
      throw new Error("killed");
    };
    await expect(responders.sign(pki.writer)).rejects.toThrow("killed");
    store.answerResponder = answer;
    expect(await responders.sign(pki.writer)).toBe(1);
    expect(await store.certificatesOf(id, 10)).toHaveLength(1);
  });
});
