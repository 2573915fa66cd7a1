/** A CA with more certificates than one CRL is for, as others see what is in which. */
import { pem } from "../../pem.ts";
import { Judge } from "../judge.ts";
import { partitionedPki } from "./artefacts.ts";
import * as gnutls from "./gnutls.ts";
import { verify } from "./openssl.ts";
import { type LintCall, lint } from "./pkilint.ts";
import { certtool, python } from "./programs.ts";

const judge = new Judge();
afterAll(() => judge.dispose());
const made = await partitionedPki();
const write = (name: string, der: Buffer) => judge.write(`${name}.pem`, pem("CERTIFICATE", der));
const root = write("root", made.root);
const leaves = {
  first: write("first", made.first),
  good: write("good", made.good),
  revoked: write("revoked", made.revoked),
};
const crls = made.crls.map((crl, at) => ({
  der: judge.write(`${at}.crl`, crl),
  pem: judge.write(`${at}.crl.pem`, pem("X509 CRL", crl)),
}));

test.each([
  ["first", 0, "OK"],
  ["first", 1, "different CRL scope at 0"],
  ["good", 1, "OK"],
  ["good", 0, "different CRL scope at 0"],
  ["revoked", 1, "certificate revoked at 0"],
  ["revoked", 0, "different CRL scope at 0"],
] as const)("OpenSSL: %s by CRL %i: %s", async (certificate, at, verdict) => {
  const options = ["-x509_strict", "-crl_check", "-CAfile", root, "-CRLfile", crls[at]?.pem ?? ""];
  expect(await verify(options, leaves[certificate])).toBe(verdict);
});

if (certtool) {
  const tool = certtool;
  test.each([0, 1])("GnuTLS: CRL %i is signed by the CA", async (at) => {
    expect(await gnutls.verifyCrl(tool, root, crls[at]?.pem ?? "")).toBe("trusted");
  });
}

if (python) {
  const able = python;
  test("pkilint: clean", async () => {
    const options = ["--type", "CRL", "--profile", "PKIX"];
    const calls = crls.map(({ der }): LintCall => ({ program: "lint_crl", options, files: [der] }));
    expect(await lint(able, calls)).toEqual([[], []]);
  });
}
