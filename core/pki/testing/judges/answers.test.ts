/** Who may sign OCSP answers, with each kind of key, as others see it. */
import { createPrivateKey } from "node:crypto";
import { parseCertificate } from "../../certificate.ts";
import { pem } from "../../pem.ts";
import { LocalSigner } from "../../signer.ts";
import { Judge } from "../judge.ts";
import { answer, JudgedPki, keyName, keySpecs } from "./artefacts.ts";
import * as gnutls from "./gnutls.ts";
import { ocspStatus } from "./openssl.ts";
import { type LintCall, lint } from "./pkilint.ts";
import { ocsptool, python } from "./programs.ts";

const judge = new Judge();
afterAll(() => judge.dispose());

const signers = ["the CA itself", "OCSPResponder", "Server"] as const;
type By = (typeof signers)[number];

/** An answer about a good certificate, and the files that it is judged with. */
async function write(pki: JudgedPki, by: By) {
  const ca = pki.cas[1];
  const find = (wanted: string) => pki.cases.find(({ profile, state }) => profile === wanted && state === "good");
  const [about, own] = [find("Server"), find(by)];
  if (ca === undefined || about === undefined) throw new Error("no certificate");
  const ownKey = new LocalSigner(createPrivateKey({ key: pki.leafKey, format: "der", type: "pkcs8" }));
  const responder = own === undefined ? { signer: ca.signer } : { signer: ownKey, certificate: own.certificate };
  const serial = parseCertificate(about.certificate).serialNumber.toString("hex");
  const name = `${keyName(pki.key)}-${by}`;
  const chain = ca.chain.map((der) => pem("CERTIFICATE", der));
  return {
    response: judge.write(`${name}.ocsp`, await answer(responder, "sha256", ca, serial, "good")),
    issuer: judge.write(`${name}.issuer.pem`, chain[0] ?? ""),
    chain: judge.write(`${name}.chain.pem`, chain.join("")),
    root: judge.write(`${name}.root.pem`, chain.at(-1) ?? ""),
    about: judge.write(`${name}.about.pem`, pem("CERTIFICATE", about.certificate)),
  };
}

const pkis = await Promise.all(keySpecs.map((key) => JudgedPki.make(key)));
const answers = await Promise.all(
  pkis.flatMap((pki) => signers.map(async (by) => ({ key: keyName(pki.key), by, files: await write(pki, by) }))),
);

const rows = answers.map(({ key, by, files }) => {
  const good = by !== "Server";
  return [`${key.padEnd(8)} | by ${by.padEnd(13)} | ${good ? "good" : "refused"}`, by, good, files] as const;
});
test.each(rows)("%s", async (_, by, good, { response, issuer, chain, root, about }) => {
  const options = ["-sha256", "-issuer", issuer, "-CAfile", root, "-verify_other", chain];
  expect(await ocspStatus(options, about, response)).toBe(good ? "good" : "Response Verify Failure");
  if (ocsptool === undefined) return;
  // Where no certificate comes along, GnuTLS takes the hash of the responder's key for a subjectKeyIdentifier, which need
  // not be that hash (RFC 7093): it has to be told who signed.
  const who = [by === "the CA itself" ? "--load-signer" : "--load-trust", issuer];
  const said = await gnutls.ocspStatus(ocsptool, who, response);
  expect(said).toBe(good ? "good" : "Failure, Signer cert is not trusted");
});

if (python) {
  const able = python;
  test("pkilint: clean", async () => {
    const calls = answers.map(({ files }): LintCall => {
      return { program: "lint_ocsp_response", options: [], files: [files.response] };
    });
    expect((await lint(able, calls)).flat()).toEqual([]);
  });
}
