import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseCertificate } from "../certificate.ts";
import { bitString, boolean, element, explicit, integer, nothing, octetString, oid, sequence } from "../der/writer.ts";
import { encodeGeneralName } from "../general-name.ts";
import { oids } from "../oid.ts";
import { pem } from "../pem.ts";
import { Judge } from "../testing/judge.ts";
import { party } from "../testing/party.ts";
import { encodeCertId, issuerHashes } from "./cert-id.ts";
import { MAX_REQUEST_OCTETS, type OcspRequest, OcspRequestError, parseOcspRequest } from "./request.ts";

const judge = new Judge();
afterAll(() => judge.dispose());
const ca = await party({ name: "CA", ca: true });
const { spki } = parseCertificate(ca.certificate);
const hashes = { sha1: issuerHashes("sha1", ca.subject, spki), sha256: issuerHashes("sha256", ca.subject, spki) };
const id = (serialNumber = "7f01", hash: "sha1" | "sha256" = "sha256") =>
  encodeCertId(hash, hashes[hash], serialNumber);

const requestOf = (certIds: readonly Buffer[], ...after: Buffer[]) =>
  sequence(sequence(sequence(...certIds.map((one) => sequence(one))), ...after));
const extension = (name: string, value: Buffer, ...critical: Buffer[]) =>
  sequence(oid(name), ...critical, octetString(value));
const extensions = (...all: Buffer[]) => explicit(2, sequence(...all));
const nonce = (octets: number) => extension(oids.ocspNonce, octetString(Buffer.alloc(octets, 7)));
const UNKNOWN = "1.3.6.1.5.5.7.48.1.99";

describe("what OpenSSL asks is read", () => {
  const caFile = judge.write("ca.pem", pem("CERTIFICATE", ca.certificate));
  const ask = (...args: string[]): OcspRequest => {
    judge.run("openssl", "ocsp", "-issuer", caFile, "-reqout", "request.der", ...args);
    return parseOcspRequest(readFileSync(judge.path("request.der")));
  };

  test.each(["sha1", "sha256"] as const)("%s", (hash) => {
    const request = ask(`-${hash}`, "-serial", "0xff00000000000001", "-no_nonce");
    expect(request).toEqual({
      certIds: [
        { hash, ...hashes[hash], serialNumber: Buffer.from("00ff00000000000001", "hex"), der: expect.any(Buffer) },
      ],
    });
    expect(request.certIds[0]?.der).toEqual(id("ff00000000000001", hash));
  });

  test("a nonce", () => {
    const { nonce } = ask("-serial", "1");
    expect(nonce?.length).toBeGreaterThanOrEqual(16);
    expect(judge.run("openssl", "ocsp", "-reqin", "request.der", "-req_text")).toContain(
      nonce?.toString("hex").toUpperCase(),
    );
  });

  test("many serial numbers by different hashes, in their order", () => {
    const { certIds } = ask("-serial", "1", "-sha256", "-serial", "2", "-sha1", "-serial", "127");
    expect(certIds.map(({ hash, serialNumber }) => [hash, serialNumber.toString("hex")])).toEqual([
      ["sha1", "01"],
      ["sha256", "02"],
      ["sha1", "7f"],
    ]);
  });

  test("a signed request, with and without certificates", async () => {
    const key = judge.run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256");
    judge.write("client.key", key);
    judge.run("openssl", "req", "-x509", "-key", "client.key", "-subj", "/CN=client", "-out", "client.pem");
    for (const certs of [[], ["-sign_other", caFile], ["-no_certs"]]) {
      const { certIds, nonce } = ask("-serial", "5", "-signer", "client.pem", "-signkey", "client.key", ...certs);
      expect(certIds).toHaveLength(1);
      expect(nonce).toBeDefined();
    }
  });
});

test.each<[string, Buffer, number]>([
  ["64 certificates", requestOf(Array.from({ length: 64 }, (_, n) => id(`01${n.toString(16).padStart(2, "0")}`))), 64],
  ["a nonce of 1 octet", requestOf([id()], extensions(nonce(1))), 1],
  ["a nonce of 128 octets", requestOf([id()], extensions(nonce(128))), 1],
  ["an unknown extension", requestOf([id()], extensions(extension(UNKNOWN, nothing()))), 1],
  [
    "a critical nonce",
    requestOf([id()], extensions(extension(oids.ocspNonce, octetString(Buffer.of(1)), boolean(true)))),
    1,
  ],
  [
    "hash parameters left out",
    requestOf([
      sequence(sequence(oid(oids.sha256)), octetString(Buffer.alloc(32)), octetString(Buffer.alloc(32)), integer(1)),
    ]),
    1,
  ],
  [
    "a service locator",
    sequence(sequence(sequence(sequence(id(), explicit(0, sequence(extension("1.3.6.1.5.5.7.48.1.7", nothing()))))))),
    1,
  ],
  [
    "a requestor's name",
    sequence(sequence(explicit(1, encodeGeneralName({ kind: "dns", value: "a" })), sequence(sequence(id())))),
    1,
  ],
])("read: %s", (_, der, count) => {
  expect(parseOcspRequest(der).certIds).toHaveLength(count);
});

const hash = octetString(Buffer.alloc(32));
const sha256 = sequence(oid(oids.sha256), nothing());
test.each<[string, Buffer, OcspRequestError["status"], RegExp]>([
  ["nothing", Buffer.alloc(0), "malformedRequest", /ends where/],
  ["no certificate", requestOf([]), "malformedRequest", /asks for no certificate/],
  ["65 certificates", requestOf(Array.from({ length: 65 }, () => id("01"))), "malformedRequest", /more than 64/],
  [
    "more than 10 KiB",
    requestOf([id()], extensions(extension(UNKNOWN, Buffer.alloc(MAX_REQUEST_OCTETS)))),
    "malformedRequest",
    /longer than 10240/,
  ],
  [
    "something after the request",
    Buffer.concat([requestOf([id()]), Buffer.of(0)]),
    "malformedRequest",
    /after the last/,
  ],
  [
    "something after the CertID's fields",
    requestOf([sequence(sha256, hash, hash, integer(1), nothing())]),
    "malformedRequest",
    /after the last/,
  ],
  [
    "a version, though it is the default",
    sequence(sequence(explicit(0, integer(0)), sequence(sequence(id())))),
    "malformedRequest",
    /0xa0/,
  ],
  [
    "a version that does not exist",
    sequence(sequence(explicit(0, integer(1)), sequence(sequence(id())))),
    "malformedRequest",
    /0xa0/,
  ],
  ["a nonce of no octets", requestOf([id()], extensions(nonce(0))), "malformedRequest", /1 to 128/],
  ["a nonce of 129 octets", requestOf([id()], extensions(nonce(129))), "malformedRequest", /1 to 128/],
  [
    "a nonce without its own OCTET STRING",
    requestOf([id()], extensions(extension(oids.ocspNonce, randomBytes(16).fill(1, 0, 1)))),
    "malformedRequest",
    /0x01/,
  ],
  ["two nonces", requestOf([id()], extensions(nonce(16), nonce(16))), "malformedRequest", /two nonces/],
  [
    "an unknown critical extension",
    requestOf([id()], extensions(extension(UNKNOWN, nothing(), boolean(true)))),
    "malformedRequest",
    /critical/,
  ],
  [
    "an unknown critical extension of one certificate",
    sequence(sequence(sequence(sequence(id(), explicit(0, sequence(extension(UNKNOWN, nothing(), boolean(true)))))))),
    "malformedRequest",
    /critical/,
  ],
  [
    "critical FALSE written out",
    requestOf([id()], extensions(extension(UNKNOWN, nothing(), boolean(false)))),
    "malformedRequest",
    /default/,
  ],
  [
    "a hash of the wrong length",
    requestOf([sequence(sha256, octetString(Buffer.alloc(20)), hash, integer(1))]),
    "malformedRequest",
    /another length/,
  ],
  [
    "a serial number that is not minimal",
    requestOf([sequence(sha256, hash, hash, element(2, [Buffer.of(0, 1)]))]),
    "malformedRequest",
    /canonical/,
  ],
  [
    "a serial number of no octets",
    requestOf([sequence(sha256, hash, hash, element(2, []))]),
    "malformedRequest",
    /canonical/,
  ],
  [
    "an indefinite length",
    Buffer.concat([Buffer.of(0x30, 0x80), requestOf([id()]).subarray(2), Buffer.of(0, 0)]),
    "malformedRequest",
    /indefinite/,
  ],
  [
    "a signature that is none",
    sequence(sequence(sequence(sequence(id()))), explicit(0, nothing())),
    "malformedRequest",
    /0x05/,
  ],
  [
    "a signature of odd bits",
    sequence(sequence(sequence(sequence(id()))), explicit(0, sequence(sha256, oddBits()))),
    "malformedRequest",
    /whole octets/,
  ],
  [
    "SHA-512",
    requestOf([sequence(sequence(oid("2.16.840.1.101.3.4.2.3")), hash, hash, integer(1))]),
    "unauthorized",
    /SHA-1 and SHA-256/,
  ],
])("refused: %s", (_, der, status, message) => {
  const refusal = caught(der);
  expect(refusal).toBeInstanceOf(OcspRequestError);
  expect(refusal).toMatchObject({ status, message: expect.stringMatching(message) });
});

function oddBits(): Buffer {
  const bits = bitString(Buffer.of(1));
  bits[2] = 3;
  return bits;
}

function caught(der: Buffer): unknown {
  try {
    return parseOcspRequest(der);
  } catch (error) {
    return error;
  }
}
