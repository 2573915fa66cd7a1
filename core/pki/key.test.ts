import { createPublicKey, createSecretKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { rootCertificates } from "node:tls";
import { parseCaCertificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { generateKey, type KeySpec, keySpecOf, readPublicKey, spkiOf, weakKey } from "./key.ts";
import { parsePem } from "./pem.ts";
import { LocalSigner, verifySignature } from "./signer.ts";

test.each<KeySpec>([
  { algorithm: "RSA", size: 3072 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "ECDSA", size: 521 },
  { algorithm: "Ed25519" },
])("%p is made, recognized, strong, and signs", async (spec) => {
  const key = await generateKey(spec);
  expect(key.type).toBe("private");
  expect(keySpecOf(key)).toEqual(spec);
  const publicKey = readPublicKey(spkiOf(key));
  expect(keySpecOf(publicKey)).toEqual(spec);
  expect(spkiOf(key)).toEqual(createPublicKey(key).export({ type: "spki", format: "der" }));
  expect(weakKey(publicKey)).toBeUndefined();
  const signer = new LocalSigner(key);
  const signature = await signer.sign(Buffer.from("tbs"));
  expect(verifySignature(signer.signatureAlgorithm, publicKey, Buffer.from("tbs"), signature)).toBe(true);
});

test("the event loop goes on while an RSA key is made and signs", async () => {
  let turns = 0;
  let busy = true;
  const turning = (async () => {
    for (; busy; turns++) await setImmediate();
  })();
  const signer = new LocalSigner(await generateKey({ algorithm: "RSA", size: 4096 }));
  expect(turns).toBeGreaterThan(1);
  turns = 0;
  await signer.sign(Buffer.alloc(100));
  expect(turns).toBeGreaterThan(0);
  busy = false;
  await turning;
});

test("keys that MazeVault does not know", () => {
  expect(keySpecOf(createSecretKey(Buffer.alloc(32)))).toBeUndefined();
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
  expect(keySpecOf(privateKey)).toBeUndefined();
  expect(() => new LocalSigner(privateKey)).toThrow(RangeError);
});

test("the roots that node trusts are read as node reads them", () => {
  const verified = rootCertificates.filter((text) => {
    const [block] = parsePem(text, "root");
    const node = new X509Certificate(text);
    const ours = parseCertificate(block?.der ?? Buffer.alloc(0));
    expect(BigInt(`0x${ours.serialNumber.toString("hex")}`)).toBe(BigInt(`0x${node.serialNumber}`));
    expect([ours.notBefore, ours.notAfter]).toEqual([node.validFromDate, node.validToDate]);
    expect(ours.basicConstraints?.ca).toBe(node.ca);
    expect(ours.spki.equals(spkiOf(node.publicKey))).toBe(true);
    expect(parseCaCertificate(ours.der)).toEqual(ours);
    return verifySignedBy(ours, ours.spki);
  });
  // Some old ones signed themselves with SHA-1.
  expect(verified.length).toBeGreaterThan(rootCertificates.length * 0.9);
});

test("a CA's certificate is parsed once, and one that differs by a bit is another one", () => {
  const [block] = parsePem(rootCertificates[0] ?? "", "root");
  const encoded = block?.der ?? Buffer.alloc(0);
  const parsed = parseCaCertificate(encoded);
  expect(parseCaCertificate(Buffer.from(encoded))).toBe(parsed);
  // Nor does it change with the buffer that it was read from.
  encoded[encoded.length - 1] = (encoded.at(-1) ?? 0) ^ 1;
  expect(parseCaCertificate(encoded).der).toEqual(encoded);
  expect(parsed.der).not.toEqual(encoded);
});
