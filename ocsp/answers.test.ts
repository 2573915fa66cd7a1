import { Unavailable } from "../core/errors.ts";
import { parseCertificate } from "../core/pki/certificate.ts";
import { integer, octetString, oid, sequence } from "../core/pki/der/writer.ts";
import { ExpiredCertificates, SHORTEST_KEPT_MS } from "../core/pki/expired-certificates.ts";
import { readPublicKey } from "../core/pki/key.ts";
import { issuerHashes } from "../core/pki/ocsp/cert-id.ts";
import { parseOcspRequest } from "../core/pki/ocsp/request.ts";
import { type BasicOcspResponse, errorResponse, parseOcspResponse } from "../core/pki/ocsp/response.ts";
import { oids } from "../core/pki/oid.ts";
import { type Signer, verifySignature } from "../core/pki/signer.ts";
import type { AuthorityRecord, CertificateRecord, Revocation } from "../core/ports/pki-store.ts";
import { actor } from "../core/ports/samples.ts";
import { derOf } from "./answers.ts";
import { readiness } from "./readiness.ts";
import { certIdOf, requestFor, verdictOf } from "./testing/asking.ts";
import { TestResponder } from "./testing/responder.ts";

const HOUR_MS = 3_600_000;
const away = new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");

let responder: TestResponder;
let root: AuthorityRecord;
let leaf: CertificateRecord;

beforeEach(async () => {
  responder = await TestResponder.start();
  root = await responder.pki.root();
  leaf = await responder.pki.issue(root, "leaf");
});
afterEach(() => responder.stop());

async function ask(der: Buffer): Promise<Buffer> {
  const reply = await responder.answers.reply(parseOcspRequest(der));
  if (reply.kind === "error") return errorResponse(reply.status);
  return reply.kind === "kept" ? derOf(reply.answer) : reply.der;
}

const about = (serialNumber: string, hash: "sha1" | "sha256" = "sha256") =>
  requestFor([certIdOf(root, serialNumber, hash)]);
const verdict = async (serialNumber = leaf.serialNumber) => verdictOf(await ask(about(serialNumber)));

async function basicOf(der: Buffer): Promise<BasicOcspResponse> {
  const { basic } = parseOcspResponse(await ask(der));
  if (basic === undefined) throw new Error("not answered");
  return basic;
}

const revoke = (reason: "keyCompromise" | "certificateHold") =>
  responder.pki.authorities.revoke(responder.pki.writer, leaf, { reason }, actor);

test("a certificate is good, on hold, good again, revoked; a change is answered once it is known", async () => {
  await responder.caughtUp();
  expect(await verdict()).toBe("good");
  await revoke("certificateHold");
  await responder.caughtUp();
  expect(await verdict()).toBe("certificateHold");
  await responder.pki.authorities.release(responder.pki.writer, leaf, actor);
  await responder.caughtUp();
  expect(await verdict()).toBe("good");
  await revoke("keyCompromise");
  await responder.caughtUp();
  expect(await verdict()).toBe("keyCompromise");
  expect(verdictOf(await ask(about(leaf.serialNumber, "sha1")))).toBe("keyCompromise");
});

test("what is answered is signed by a key that the CA certified, for as long as its settings say", async () => {
  await responder.caughtUp();
  const basic = await basicOf(about(leaf.serialNumber));
  const [certificate, ...others] = basic.certificates.map(parseCertificate);
  expect(others).toEqual([]);
  if (certificate === undefined) throw new Error("no certificate");
  expect(certificate.extendedKeyUsage).toEqual([oids.ocspSigning]);
  expect(certificate.extensions.has(oids.ocspNoCheck)).toBe(true);
  const key = readPublicKey(certificate.spki);
  expect(verifySignature(basic.signatureAlgorithm, key, basic.tbs, basic.signature)).toBe(true);
  const [answer] = basic.responses;
  expect(answer?.nextUpdate?.getTime()).toBe((answer?.thisUpdate.getTime() ?? 0) + 24 * HOUR_MS);
});

test("kept answers are signed once; refreshed after half of their time, not before", async () => {
  await responder.caughtUp();
  const { signal } = new AbortController();
  await responder.answers.prepare(signal);
  // The leaf, the root and the responder itself, by both hashes.
  expect(responder.traffic.signatures).toBe(6);
  for (const hash of ["sha1", "sha256", "sha1"] as const) await ask(about(leaf.serialNumber, hash));
  responder.pki.passes(11 * HOUR_MS);
  await responder.caughtUp();
  await responder.answers.prepare(signal);
  expect(responder.traffic.signatures).toBe(6);
  const before = await basicOf(about(leaf.serialNumber));
  responder.pki.passes(HOUR_MS);
  await responder.caughtUp();
  await responder.answers.prepare(signal);
  expect(responder.traffic.signatures).toBe(12);
  const after = await basicOf(about(leaf.serialNumber));
  expect(after.producedAt.getTime() - before.producedAt.getTime()).toBe(12 * HOUR_MS);
});

test("while the database is away answers go on and end when they said they would", async () => {
  await responder.caughtUp();
  const before = await basicOf(about(leaf.serialNumber));
  responder.failure = away;
  expect(await responder.synchronisation.caughtUp()).toBe(false);
  expect(responder.synchronisation.problem).toBeDefined();
  responder.pki.passes(20 * HOUR_MS);
  await responder.answers.prepare(new AbortController().signal);
  // With a nonce it is signed now, and holds no longer than what is known.
  const fresh = await basicOf(requestFor([certIdOf(root, leaf.serialNumber)], Buffer.alloc(32, 1)));
  expect(fresh.producedAt.getTime() - before.producedAt.getTime()).toBe(20 * HOUR_MS);
  for (const { responses } of [await basicOf(about(leaf.serialNumber)), fresh]) {
    expect(responses[0]?.nextUpdate).toEqual(before.responses[0]?.nextUpdate);
  }
  responder.pki.passes(4 * HOUR_MS);
  expect(await verdict()).toBe("tryLater");
  responder.failure = undefined;
  await responder.caughtUp();
  expect(await verdict()).toBe("good");
});

test("a certificate that ended is forgotten in time, before and after its row is removed: unknown, never good", async () => {
  const { store, writer, authorities } = responder.pki;
  const revoked = await responder.pki.issue(root, "revoked");
  await authorities.revoke(writer, revoked, { reason: "superseded" }, actor);
  const prepared = async () => {
    await responder.caughtUp();
    await responder.answers.prepare(new AbortController().signal);
  };
  const verdicts = async () => [await verdict(), await verdict(revoked.serialNumber)];
  await prepared();
  responder.pki.now = new Date(leaf.notAfter.getTime() + 23 * HOUR_MS);
  await prepared();
  expect(await verdicts()).toEqual(["good", "superseded"]);
  responder.pki.passes(2 * HOUR_MS);
  await prepared();
  expect(await verdicts()).toEqual(["unknown", "unknown"]);
  responder.pki.passes(24 * HOUR_MS);
  await responder.crls.publishDue(writer, 10);
  const expired = new ExpiredCertificates({
    store,
    authorities: responder.pki.authorities,
    keepMs: SHORTEST_KEPT_MS,
    now: () => responder.pki.now,
  });
  // Beside these two those of responders that came and went.
  expect(await expired.purge(writer, 100)).toBeGreaterThanOrEqual(2);
  for (const { serialNumber } of [leaf, revoked]) {
    expect(await store.certificate(root.id, serialNumber)).toBeUndefined();
  }
  await prepared();
  expect(await verdicts()).toEqual(["unknown", "unknown"]);
});

test("a serial number that was not issued is unknown, and only when that is certain", async () => {
  await responder.caughtUp();
  expect(await verdict("7f01")).toBe("unknown");
  const issued = await responder.pki.issue(root, "another");
  const { signatures } = responder.traffic;
  // Nobody told, yet it is not unknown; and what is said of it is kept for whoever asks next.
  for (const _ of [1, 2]) expect(await verdict(issued.serialNumber)).toBe("good");
  expect(responder.traffic.signatures).toBe(signatures + 1);
  responder.failure = away;
  expect(await verdict("7f01")).toBe("tryLater");
});

test("a certificate of another CA is none of ours, nor are two of different CAs", async () => {
  const other = await responder.pki.root("other");
  const stranger = await TestResponder.start();
  const foreign = await stranger.pki.root();
  await responder.caughtUp();
  expect(verdictOf(await ask(requestFor([certIdOf(foreign, leaf.serialNumber)])))).toBe("unauthorized");
  const both = requestFor([certIdOf(root, leaf.serialNumber), certIdOf(other, leaf.serialNumber)]);
  expect(verdictOf(await ask(both))).toBe("unauthorized");
  expect(verdictOf(await ask(requestFor([certIdOf(other, leaf.serialNumber)])))).toBe("unknown");
  await stranger.stop();
});

test("several certificates of a CA are answered in one response", async () => {
  await responder.caughtUp();
  const request = requestFor([certIdOf(root, leaf.serialNumber), certIdOf(root, "01", "sha1")]);
  expect(verdictOf(await ask(request))).toBe("good, unknown");
});

test("a nonce comes back, each time in a response of its own", async () => {
  await responder.caughtUp();
  const certId = certIdOf(root, leaf.serialNumber);
  for (const nonce of [Buffer.alloc(1, 1), Buffer.alloc(32, 2), Buffer.alloc(128, 3)]) {
    const basic = await basicOf(requestFor([certId], nonce));
    expect(basic.nonce).toEqual(nonce);
    expect(basic.responses).toMatchObject([{ status: "good" }]);
  }
  expect((await basicOf(requestFor([certId]))).nonce).toBeUndefined();
});

test("a CertID comes back octet for octet, also one whose hash lacks its parameters", async () => {
  await responder.caughtUp();
  const [generation] = root.generations;
  if (generation === undefined) throw new Error("no key");
  const { issuerNameHash, issuerKeyHash } = issuerHashes("sha256", generation.subject, generation.spki);
  const unusual = sequence(
    sequence(oid(oids.sha256)),
    octetString(issuerNameHash),
    octetString(issuerKeyHash),
    integer(Buffer.from(leaf.serialNumber, "hex")),
  );
  for (const certId of [unusual, certIdOf(root, leaf.serialNumber), certIdOf(root, leaf.serialNumber, "sha1")]) {
    const { responses } = await basicOf(requestFor([certId]));
    expect(responses.map((one) => one.certId.der)).toEqual([certId]);
  }
});

test("as long as nothing is known, or nobody may sign, clients are to come later", async () => {
  const fresh = await TestResponder.start();
  const request = parseOcspRequest(about(leaf.serialNumber));
  fresh.failure = away;
  expect(fresh.answers.reply(request)).toEqual({ kind: "error", status: "tryLater" });
  await fresh.stop();
  await responder.synchronisation.caughtUp();
  expect(await verdict()).toBe("tryLater");
  await responder.caughtUp();
  expect(await verdict()).toBe("good");
});

test("is ready when the database was read and somebody may sign, whoever looked before", async () => {
  const fresh = await TestResponder.start();
  fresh.failure = away;
  const checks = readiness(fresh.register);
  const problems = () => checks.flatMap(({ check }) => check() ?? []);
  expect(problems()).toHaveLength(2);
  fresh.failure = undefined;
  await fresh.pki.root();
  await fresh.synchronisation.caughtUp();
  expect(problems()).toEqual(["none was signed yet"]);
  await fresh.caughtUp();
  expect(problems()).toEqual([]);
  // Another CA, whose responder is not certified yet, takes nothing from the first one.
  await fresh.pki.root("another");
  await fresh.synchronisation.caughtUp();
  expect(problems()).toEqual([]);
  await fresh.stop();
});

test("what was revoked while its answer was signed is not called good", async () => {
  await responder.caughtUp();
  const [authority] = responder.register.authorities;
  const { responder: current } = authority ?? {};
  if (authority === undefined || current === undefined) throw new Error("nobody signs");
  const { signer } = current;
  let signed = 0;
  const slow: Signer = {
    ...signer,
    spki: signer.spki,
    signatureAlgorithm: signer.signatureAlgorithm,
    async sign(tbs) {
      signed += 1;
      if (signed === 1) {
        await revoke("keyCompromise");
        await responder.synchronisation.caughtUp();
      }
      return signer.sign(tbs);
    },
  };
  authority.responder = { ...current, signer: slow };
  expect(await verdict()).toBe("keyCompromise");
  expect(signed).toBe(2);
});

describe("somebody who may write to the database", () => {
  const row = (revocation?: Revocation) => {
    const { authorityId, generation, serialNumber, notAfter } = leaf;
    const status = { authorityId, generation, serialNumber, notAfter, partition: 0, ...(revocation && { revocation }) };
    responder.register.apply([status], responder.pki.now.getTime());
  };
  const nonce = Buffer.alloc(32, 1);
  const verdicts = async () => [
    await verdict(),
    verdictOf(await ask(about(leaf.serialNumber, "sha1"))),
    verdictOf(await ask(requestFor([certIdOf(root, leaf.serialNumber)], nonce))),
  ];

  test("cannot take a revocation back, nor make it milder or later, once a CRL lists it", async () => {
    await responder.caughtUp();
    await revoke("keyCompromise");
    await responder.caughtUp();
    expect(responder.synchronisation.tampered).toBe(0);
    const at = responder.pki.now;
    for (const revocation of [
      undefined,
      { at, reason: "certificateHold" },
      { at, reason: "superseded" },
      { at: new Date(at.getTime() + 60_000), reason: "keyCompromise" },
    ] as const) {
      row(revocation);
      await responder.synchronisation.caughtUp();
      await responder.synchronisation.caughtUp();
      expect(await verdicts()).toEqual(["keyCompromise", "keyCompromise", "keyCompromise"]);
      expect(responder.synchronisation.tampered).toBe(1);
    }
    row({ at, reason: "keyCompromise" });
    await responder.synchronisation.caughtUp();
    await responder.synchronisation.caughtUp();
    expect(responder.synchronisation.tampered).toBe(0);
  });

  test("cannot release: a hold goes on until a CRL without it is there", async () => {
    await revoke("certificateHold");
    await responder.caughtUp();
    row();
    expect(await verdicts()).toEqual(["certificateHold", "certificateHold", "certificateHold"]);
    await responder.pki.authorities.release(responder.pki.writer, leaf, actor);
    await responder.caughtUp();
    expect(await verdicts()).toEqual(["good", "good", "good"]);
  });

  test("gets no good answer without the CRL that would list it, or with one that is over", async () => {
    await responder.responders.sign(responder.pki.writer);
    for (let round = 0; round < 3; round += 1) {
      await responder.synchronisation.caughtUp();
      await responder.responders.sign(responder.pki.writer);
    }
    await responder.synchronisation.caughtUp();
    expect(await verdicts()).toEqual(["tryLater", "tryLater", "tryLater"]);
    await responder.caughtUp();
    expect(await verdicts()).toEqual(["good", "good", "good"]);
    // The leader makes none any more.
    responder.pki.passes(36 * HOUR_MS);
    await responder.synchronisation.caughtUp();
    expect(await verdicts()).toEqual(["tryLater", "tryLater", "tryLater"]);
  });

  test("cannot bring another CRL, or an older one", async () => {
    await responder.caughtUp();
    const key = { authorityId: root.id, generation: 1, partition: 0 };
    const { store } = responder.pki;
    const before = await store.crl(key);
    await revoke("keyCompromise");
    await responder.caughtUp();
    const current = await store.crl(key);
    if (before === undefined || current === undefined) throw new Error("no CRL");
    const [authority] = responder.register.authorities;
    const flipped = Buffer.from(current.der);
    flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
    expect(await authority?.takeCrl({ ...current, der: flipped })).toBe("it is not signed by the CA");
    expect(await authority?.takeCrl({ ...current, der: before.der })).toBe("it is another one");
    expect(await authority?.takeCrl(before)).toBe("it is older than the one before");
    expect(await authority?.takeCrl({ ...current, der: Buffer.of(0x30, 0) })).toBe("it cannot be read");
    row();
    expect(await verdict()).toBe("keyCompromise");
  });
});

test("what was revoked by a clock that is ahead is revoked now", async () => {
  await responder.caughtUp();
  responder.pki.passes(60_000);
  await revoke("keyCompromise");
  responder.pki.passes(-60_000);
  await responder.synchronisation.caughtUp();
  const { producedAt, responses } = await basicOf(about(leaf.serialNumber));
  expect(responses).toMatchObject([{ status: { reason: "keyCompromise", at: producedAt } }]);
});

test("an answer that has faults is not given", async () => {
  await responder.caughtUp();
  const [authority] = responder.register.authorities;
  const { responder: current } = authority ?? {};
  if (authority === undefined || current === undefined) throw new Error("nobody signs");
  const { spki, signatureAlgorithm } = current.signer;
  const wrong: Signer = { spki, signatureAlgorithm, sign: () => current.signer.sign(Buffer.from("something else")) };
  const nonce = Buffer.alloc(32, 1);
  const certId = certIdOf(root, leaf.serialNumber);
  const wayOfAsking = [
    about(leaf.serialNumber),
    about(leaf.serialNumber, "sha1"),
    requestFor([certId], nonce),
    requestFor([certId, certIdOf(root, "01")]),
    about("7f01"),
  ];
  for (const request of wayOfAsking) {
    responder.faults.length = 0;
    authority.responder = { ...current, signer: wrong };
    expect(verdictOf(await ask(request))).toBe("tryLater");
    expect(responder.faults).toEqual(["signature"]);
    authority.responder = current;
    expect(verdictOf(await ask(request))).toMatch(/^(good|good, unknown|unknown)$/);
    expect(responder.faults).toEqual(["signature"]);
  }
});

test("a responder certificate is replaced half-way, and what the old one signed still holds", async () => {
  await responder.caughtUp();
  const signerOf = async () => (await basicOf(about(leaf.serialNumber))).responderKeyHash;
  const first = await signerOf();
  // 48 hours for answers of 24: not yet.
  responder.pki.passes(11 * HOUR_MS);
  await responder.caughtUp();
  await responder.answers.prepare(new AbortController().signal);
  expect(await signerOf()).toEqual(first);
  responder.pki.passes(13 * HOUR_MS);
  await responder.caughtUp();
  const [kept] = (await basicOf(about(leaf.serialNumber))).certificates.map(parseCertificate);
  expect(kept?.notAfter.getTime()).toBeGreaterThan(responder.pki.now.getTime() + 23 * HOUR_MS);
  expect(await signerOf()).not.toEqual(first);
});

test("an answer never outlives the certificate of who signed it", async () => {
  await responder.caughtUp();
  const { signal } = new AbortController();
  // The leader signs nothing: the old key goes on to its end.
  for (let hours = 0; hours < 46; hours += 4.6) {
    responder.pki.passes(4.6 * HOUR_MS);
    await responder.crls.publishDue(responder.pki.writer, 10);
    await responder.synchronisation.caughtUp();
    await responder.synchronisation.caughtUp();
    await responder.answers.prepare(signal);
    const { certificates, responses } = await basicOf(about(leaf.serialNumber));
    const [certificate] = certificates.map(parseCertificate);
    expect(responses[0]?.nextUpdate?.getTime()).toBeLessThanOrEqual(certificate?.notAfter.getTime() ?? 0);
  }
  responder.pki.passes(2 * HOUR_MS);
  await responder.synchronisation.caughtUp();
  expect(await verdict()).toBe("tryLater");
});

test("a certificate that is for another key or of another CA is not used", async () => {
  const { pki } = responder;
  const foreign = await pki.issue(root, "foreign");
  const requests = async () =>
    (await pki.store.pendingResponders(new Date(0), 10)).filter(({ authorityId }) => authorityId === root.id);
  await responder.synchronisation.caughtUp();
  await responder.synchronisation.caughtUp();
  const [request] = await requests();
  if (request === undefined || foreign.certificate === undefined) throw new Error("nothing was asked for");
  await pki.store.answerResponder(pki.writer, request.id, {
    certificate: foreign.certificate,
    notAfter: foreign.notAfter,
  });
  await responder.synchronisation.caughtUp();
  await responder.synchronisation.caughtUp();
  expect(await verdict()).toBe("tryLater");
  expect(await requests()).toEqual([]);
  responder.pki.passes(60_000);
  await responder.caughtUp();
  expect(await verdict()).toBe("good");
});

test("a certificate that has ended is answered for a day, and then forgotten", async () => {
  await responder.caughtUp();
  const { signal } = new AbortController();
  const [authority] = responder.register.authorities;
  const passDays = async (days: number) => {
    responder.pki.passes(days * 24 * HOUR_MS);
    await responder.synchronisation.caughtUp();
    await responder.answers.prepare(signal);
  };
  await passDays((leaf.notAfter.getTime() - responder.pki.now.getTime()) / (24 * HOUR_MS) + 0.5);
  expect(authority?.certificates.has(leaf.serialNumber)).toBe(true);
  await passDays(1);
  expect(authority?.certificates.has(leaf.serialNumber)).toBe(false);
});

test("signing in advance lets requests through in between", async () => {
  await responder.caughtUp();
  const [authority] = responder.register.authorities;
  if (authority === undefined) throw new Error("no authority");
  const { authorityId, generation } = authority.issuer;
  responder.register.apply(
    Array.from({ length: 2_000 }, (_, n) => ({
      authorityId,
      generation,
      serialNumber: `40${n.toString(16).padStart(4, "0")}`,
      notAfter: leaf.notAfter,
      partition: 0,
    })),
    responder.pki.now.getTime(),
  );
  let turns = 0;
  const turn = () => {
    turns += 1;
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  await responder.answers.prepare(new AbortController().signal);
  clearImmediate(next);
  expect(responder.traffic.signatures).toBeGreaterThanOrEqual(4_000);
  expect(turns).toBeGreaterThan(5);
});
