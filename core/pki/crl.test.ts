import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import { X509Crl } from "@peculiar/x509";
import type { Revocation, RevokedEntry } from "../ports/pki-store.ts";
import { parseCertificate } from "./certificate.ts";
import { type CrlTemplate, parseCrl, REASON_CODES, signCrl } from "./crl.ts";
import { cRLDistributionPoints } from "./extension.ts";
import type { KeySpec } from "./key.ts";
import { pem } from "./pem.ts";
import { verifySignature } from "./signer.ts";
import { Judge } from "./testing/judge.ts";
import { type Party, party } from "./testing/party.ts";

const judge = new Judge();
afterAll(() => judge.dispose());
const at = new Date("2026-05-06T07:08:09Z");
const thisUpdate = new Date(Math.floor(Date.now() / 1000) * 1000);
const nextUpdate = new Date(thisUpdate.getTime() + 86_400_000);

const template = (ca: Party, entries: CrlTemplate["entries"]): CrlTemplate => ({
  issuer: ca.subject,
  authorityKeyIdentifier: ca.keyIdentifier,
  number: 0x80n,
  thisUpdate,
  nextUpdate,
  entries,
});
const entry = (serialNumber: string, revocation: Partial<Revocation> = {}): RevokedEntry => ({
  serialNumber,
  revocation: { at, reason: "unspecified", ...revocation },
});
const reasons = (Object.keys(REASON_CODES) as (keyof typeof REASON_CODES)[]).filter((r) => r !== "removeFromCRL");
const everyReason = reasons.map((reason, n) => entry(`7f0${n}`, { reason }));

test.each<KeySpec>([
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "ECDSA", size: 521 },
  { algorithm: "Ed25519" },
])("OpenSSL, @peculiar/x509 and parseCrl read the same CRL: %j", async (key) => {
  const ca = await party({ name: "CA", ca: true, key });
  const invalidityDate = new Date("2026-01-02T03:04:05Z");
  const entries = [
    ...everyReason,
    entry("00ff01", { reason: "keyCompromise", invalidityDate }),
    entry("01", { invalidityDate, at: new Date("2051-01-01T00:00:00Z") }),
  ];
  const der = await signCrl(template(ca, entries), ca.signer);

  const file = judge.write("crl.pem", pem("X509 CRL", der));
  const caFile = judge.write("ca.pem", pem("CERTIFICATE", ca.certificate));
  const text = judge.run("openssl", "crl", "-in", file, "-text", "-noout", "-CAfile", caFile);
  expect(text).toContain("verify OK");
  expect(text).toContain("Version 2 (0x1)");
  expect(text).toMatch(/CRL Number:\s+128\n/);
  expect(text).toContain(ca.keyIdentifier.toString("hex").toUpperCase().match(/../g)?.join(":"));
  expect([...text.matchAll(/CRL Reason Code:\s+(.*)/g)].map(([, reason]) => reason)).toEqual([
    ...["Key Compromise", "CA Compromise", "Affiliation Changed", "Superseded", "Cessation Of Operation"],
    ...["Certificate Hold", "Privilege Withdrawn", "AA Compromise", "Key Compromise"],
  ]);
  expect(text.match(/Invalidity Date:\s+Jan {2}2 03:04:05 2026 GMT/g)).toHaveLength(2);
  expect(text).toContain("Revocation Date: Jan  1 00:00:00 2051 GMT");

  const peer = new X509Crl(der);
  const crl = parseCrl(der);
  expect(crl).toMatchObject({
    issuer: ca.subject,
    thisUpdate,
    nextUpdate,
    number: 0x80n,
    distributionPoints: undefined,
  });
  expect(crl.authorityKeyIdentifier).toEqual(ca.keyIdentifier);
  const read = [...crl.entries()];
  expect(
    read.map(({ serialNumber, revokedAt, reason }) => [
      // The peer leaves out the octet that makes the number positive.
      serialNumber.replace(/^00/, ""),
      revokedAt,
      REASON_CODES[reason],
    ]),
  ).toEqual(peer.entries.map((one) => [one.serialNumber, one.revocationDate, one.reason ?? 0]));
  expect(read.map((one) => [one.serialNumber, one.reason, one.revokedAt, one.invalidityDate])).toEqual(
    entries.map(({ serialNumber, revocation: r }) => [serialNumber, r.reason, r.at, r.invalidityDate]),
  );
  const { publicKey } = new X509Certificate(ca.certificate);
  expect(verifySignature(crl.signatureAlgorithm, publicKey, crl.tbs, crl.signature)).toBe(true);
});

test("without entries the list is absent", async () => {
  const ca = await party({ name: "CA", ca: true });
  const der = await signCrl(template(ca, []), ca.signer);
  expect([...parseCrl(der).entries()]).toEqual([]);
  const text = judge.run("openssl", "crl", "-inform", "DER", "-in", judge.write("empty.crl", der), "-text", "-noout");
  expect(text).toContain("No Revoked Certificates.");
});

test("OpenSSL finds the revoked one, in the partition that its certificate names", async () => {
  const ca = await party({ name: "CA", ca: true });
  const url = (n: number) => `http://crl.example.com/a/1-${n}.crl`;
  const leaves = await Promise.all(
    [0, 0, 1].map((n, index) =>
      party({
        name: `leaf ${index}`,
        issuer: ca,
        extensions: (usual) => [...usual, cRLDistributionPoints([url(n)])],
      }),
    ),
  );
  const files = leaves.map((leaf, n) => judge.write(`leaf${n}.pem`, pem("CERTIFICATE", leaf.certificate)));
  const serials = leaves.map((leaf) => parseCertificate(leaf.certificate).serialNumber.toString("hex"));
  const crl = async (n: number, entries: RevokedEntry[]) =>
    pem("X509 CRL", await signCrl({ ...template(ca, entries), distributionPoint: url(n) }, ca.signer));
  const zero = await crl(0, [entry(serials[1] ?? "", { reason: "keyCompromise" })]);
  const one = await crl(1, [entry(serials[0] ?? "")]);
  const [caFile, both, onlyOne] = [
    judge.write("ca.pem", pem("CERTIFICATE", ca.certificate)),
    judge.write("both.crl", zero + one),
    judge.write("one.crl", one),
  ];
  const verify = (crls: string, leaf: string) =>
    judge.ask("openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", caFile, "-CRLfile", crls, leaf);
  // Revoked in the other partition does not count: the issuing distribution point is not its own.
  expect(files.map((file) => verify(both, file).ok)).toEqual([true, false, true]);
  expect(verify(both, files[1] ?? "").output).toContain("certificate revoked");
  expect(verify(onlyOne, files[0] ?? "").ok).toBe(false);
  const point = judge.run("openssl", "crl", "-in", onlyOne, "-text", "-noout");
  expect(point).toMatch(/Issuing Distribution Point: critical\s+Full Name:\s+URI:http:\/\/crl.example.com\/a\/1-1.crl/);
});

test("the work grows with the entries and no faster, and other work goes on; how long it takes, the benchmark tells", async () => {
  const ca = await party({ name: "CA", ca: true });
  async function* many(count: number): AsyncGenerator<RevokedEntry> {
    for (let n = 0; n < count; n += 1) {
      yield entry(`41${n.toString(16).padStart(30, "0")}`, { reason: reasons[n % reasons.length] ?? "unspecified" });
    }
  }
  let turns = 0;
  const signedOf = async (count: number): Promise<{ readonly der: Buffer; readonly cpu: number }> => {
    const before = process.cpuUsage();
    const der = await signCrl(template(ca, many(count)), ca.signer);
    const { user, system } = process.cpuUsage(before);
    return { der, cpu: user + system };
  };
  await signedOf(10_000);
  const tenth = await signedOf(10_000);
  const turn = setInterval(() => (turns += 1), 1);
  const { der, cpu } = await signedOf(100_000);
  clearInterval(turn);
  expect(cpu / tenth.cpu).toBeLessThan(30);
  expect(turns).toBeGreaterThan(20);
  const file = judge.write("large.crl", der);
  const text = judge.run("openssl", "crl", "-inform", "DER", "-in", file, "-noout", "-crlnumber", "-CAfile", "ca.pem");
  expect(text).toContain("crlNumber=0x80");
  let [count, last] = [0, ""];
  for (const one of parseCrl(der).entries()) [count, last] = [count + 1, one.serialNumber];
  expect([count, last]).toEqual([100_000, `41${(99_999).toString(16).padStart(30, "0")}`]);
});
