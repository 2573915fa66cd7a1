import { readFileSync } from "node:fs";
import type { RevocationReason } from "../../ports/pki-store.ts";
import { parseCertificate } from "../certificate.ts";
import { REASON_CODES } from "../crl.ts";
import { extendedKeyUsage, ocspNoCheck } from "../extension.ts";
import type { KeySpec } from "../key.ts";
import { readPublicKey } from "../key.ts";
import { oids } from "../oid.ts";
import { pem } from "../pem.ts";
import { verifySignature } from "../signer.ts";
import { Judge } from "../testing/judge.ts";
import { type Party, party } from "../testing/party.ts";
import { encodeCertId, issuerHashes, keyHash } from "./cert-id.ts";
import { parseOcspRequest } from "./request.ts";
import {
  errorResponse,
  type OcspResponseTemplate,
  parseOcspResponse,
  type SingleResponse,
  signOcspResponse,
} from "./response.ts";

const judge = new Judge();
afterAll(() => judge.dispose());
const seconds = (offset = 0) => new Date((Math.floor(Date.now() / 1000) + offset) * 1000);
const [producedAt, thisUpdate, nextUpdate] = [seconds(), seconds(-60), seconds(86_400)];

const responderOf = (ca: Party, key: KeySpec) =>
  party({
    name: "Responder",
    issuer: ca,
    key,
    extensions: (usual) => [
      ...usual.filter(({ oid }) => oid !== oids.extendedKeyUsage && oid !== oids.subjectAltName),
      extendedKeyUsage([oids.ocspSigning]),
      ocspNoCheck(),
    ],
  });

const keys: KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "Ed25519" },
];
const ca = await party({ name: "CA", ca: true });
const leaf = await party({ name: "leaf", issuer: ca });
const caFile = judge.write("ca.pem", pem("CERTIFICATE", ca.certificate));
const leafFile = judge.write("leaf.pem", pem("CERTIFICATE", leaf.certificate));
const responder = await responderOf(ca, { algorithm: "ECDSA", size: 256 });

/** Asks as OpenSSL does, answers as `status` says, and has OpenSSL judge the answer. */
async function answer(
  status: SingleResponse["status"],
  { by = responder, ask = [] as string[], change = {} as Partial<OcspResponseTemplate> } = {},
) {
  judge.run("openssl", "ocsp", ...ask, "-issuer", caFile, "-cert", leafFile, "-reqout", "request.der");
  const { certIds, nonce } = parseOcspRequest(readFileSync(judge.path("request.der")));
  const template: OcspResponseTemplate = {
    responderKeyHash: keyHash("sha1", by.signer.spki),
    producedAt,
    responses: certIds.map(({ der }) => ({ certId: der, status, thisUpdate, nextUpdate })),
    ...(nonce && { nonce }),
    certificates: by === ca ? [] : [by.certificate],
    ...change,
  };
  const der = await signOcspResponse(template, by.signer);
  const hash = ask.filter((option) => option.startsWith("-sha"));
  const response = ["-CAfile", caFile, "-issuer", caFile, "-respin", judge.write("response.der", der)];
  // OpenSSL compares the nonce only where it is given no certificate, and says the status only where it is.
  const noncePart = judge.ask("openssl", "ocsp", ...response, "-reqin", "request.der", "-resp_text").output;
  const statusPart = judge.ask("openssl", "ocsp", ...response, ...hash, "-cert", leafFile, "-no_nonce").output;
  const verdict = `${noncePart}${statusPart}`;
  return { template, der, verdict };
}

describe.each(["-sha1", "-sha256"])("%s", (hash) => {
  test.each(keys)("good, with the nonce, by a delegated responder with %j", async (key) => {
    const { verdict } = await answer("good", { by: await responderOf(ca, key), ask: [hash] });
    expect(verdict).toContain("Response verify OK");
    expect(verdict).toContain(`${leafFile}: good`);
    expect(verdict).not.toMatch(/WARNING|Error/i);
  });
});

test("good, by the CA itself, without a nonce", async () => {
  const { verdict } = await answer("good", { by: ca, ask: ["-no_nonce"] });
  expect(verdict).toContain("Response verify OK");
  expect(verdict).toContain(`${leafFile}: good`);
});

const reasons = (Object.keys(REASON_CODES) as (keyof typeof REASON_CODES)[]).filter((r) => r !== "removeFromCRL");
test.each(reasons)("revoked: %s", async (reason: RevocationReason) => {
  const { verdict } = await answer({ at: new Date("2026-03-04T05:06:07Z"), reason });
  expect(verdict).toContain("Response verify OK");
  expect(verdict).toContain(`${leafFile}: revoked`);
  expect(verdict).toContain("Revocation Time: Mar  4 05:06:07 2026 GMT");
  if (reason === "unspecified") expect(verdict).not.toContain("Reason:");
  // OpenSSL has no names for the last two.
  else expect(verdict).toContain(`(0x${REASON_CODES[reason].toString(16)})`);
});

test("unknown", async () => {
  const { verdict } = await answer("unknown");
  expect(verdict).toContain("Response verify OK");
  expect(verdict).toContain(`${leafFile}: unknown`);
});

test("OpenSSL notices another nonce, another signer and an old answer", async () => {
  const other = await answer("good", { change: { nonce: Buffer.alloc(16) } });
  expect(other.verdict).toContain("Nonce Verify error");
  const stranger = await party({ name: "CA", ca: true });
  const foreign = await answer("good", { by: await responderOf(stranger, { algorithm: "Ed25519" }) });
  expect(foreign.verdict).toContain("Response Verify Failure");
  const plain = await answer("good", { by: leaf });
  expect(plain.verdict).toContain("Response Verify Failure");
  const { certId } = other.template.responses[0] ?? { certId: Buffer.alloc(0) };
  const old = { certId, status: "good" as const, thisUpdate: seconds(-7_200), nextUpdate: seconds(-3_600) };
  const { verdict } = await answer("good", { change: { responses: [old] } });
  expect(verdict).toContain("Status times invalid");
});

test("what was written is read again, with many answers", async () => {
  const hashes = issuerHashes("sha256", ca.subject, parseCertificate(ca.certificate).spki);
  const statuses: SingleResponse["status"][] = [
    "good",
    "unknown",
    { at: thisUpdate, reason: "certificateHold" },
    { at: thisUpdate, reason: "unspecified" },
  ];
  const responses = statuses.map((status, n) => ({
    certId: encodeCertId("sha256", hashes, `7f0${n}`),
    status,
    thisUpdate,
    nextUpdate,
  }));
  const responderKeyHash = keyHash("sha1", responder.signer.spki);
  const certificates = [responder.certificate];
  const nonce = Buffer.alloc(32, 9);
  const der = await signOcspResponse(
    { responderKeyHash, producedAt, responses, nonce, certificates },
    responder.signer,
  );
  const { status, basic } = parseOcspResponse(der);
  expect(status).toBe("successful");
  expect(basic).toMatchObject({ responderKeyHash, producedAt, nonce, certificates });
  expect(basic?.responses.map((one) => ({ ...one, certId: one.certId.der }))).toEqual(responses);
  if (basic === undefined) throw new Error("expected a basic response");
  const key = readPublicKey(responder.signer.spki);
  expect(verifySignature(basic.signatureAlgorithm, key, basic.tbs, basic.signature)).toBe(true);
});

test.each([
  ["malformedRequest", 1],
  ["internalError", 2],
  ["tryLater", 3],
  ["sigRequired", 5],
  ["unauthorized", 6],
] as const)("%s", (status, code) => {
  const der = errorResponse(status);
  expect(parseOcspResponse(der)).toEqual({ status });
  const { output } = judge.ask("openssl", "ocsp", "-respin", judge.write("error.der", der), "-noverify");
  expect(output.toLowerCase()).toContain(`responder error: ${status.toLowerCase()} (${code})`);
});
