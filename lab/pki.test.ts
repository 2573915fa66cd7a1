import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LabPki } from "./pki.ts";

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-pki-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

function certificate(file: string): X509Certificate {
  return new X509Certificate(readFileSync(file));
}

test("a server certificate is signed by the authority and names loopback and its own names", async () => {
  const pki = await LabPki.open(dir);
  const { certFile } = await pki.issue("server", { commonName: "server", usage: "server", dnsNames: ["vault.test"] });
  const ca = certificate(pki.caFile);
  const issued = certificate(certFile);
  expect(ca.ca).toBe(true);
  expect(issued.checkIssued(ca) && issued.verify(ca.publicKey)).toBe(true);
  expect([issued.checkHost("localhost"), issued.checkHost("vault.test"), issued.checkIP("127.0.0.1")]).toEqual([
    "localhost",
    "vault.test",
    "127.0.0.1",
  ]);
});

test("a client certificate carries the user and the groups", async () => {
  const pki = await LabPki.open(dir);
  const { certFile } = await pki.issue("client", { commonName: "admin", organizations: ["a", "b"], usage: "client" });
  expect(certificate(certFile).subject.split("\n")).toEqual(["O=a", "O=b", "CN=admin"]);
});

test("the authority and what it issued stay the same over restarts", async () => {
  const request = { commonName: "server", usage: "server" } as const;
  const first = await (await LabPki.open(dir)).issue("server", request);
  const before = readFileSync(first.certFile, "utf8");
  const pki = await LabPki.open(dir);
  expect(readFileSync((await pki.issue("server", request)).certFile, "utf8")).toBe(before);
  const later = certificate((await pki.issue("later", request)).certFile);
  expect(later.verify(certificate(pki.caFile).publicKey)).toBe(true);
});

test("private keys are readable by their owner only", async () => {
  const pki = await LabPki.open(dir);
  const { keyFile } = await pki.issue("server", { commonName: "server", usage: "server" });
  const { privateKeyFile } = pki.signingKeys("signing");
  expect([pki.caKeyFile, keyFile, privateKeyFile].map((file) => statSync(file).mode & 0o777)).toEqual([
    0o600, 0o600, 0o600,
  ]);
});
