/** The keystores of a certificate of each kind of key, as Java reads them. Without Java this file is left out, as jest.config.mjs says. */
import { createPrivateKey } from "node:crypto";
import { QUICK_KEYTOOL } from "../../../../lab/setup/needs.ts";
import { Sensitive } from "../../../sensitive.ts";
import { parseCertificate } from "../../certificate.ts";
import type { KeyStoreContents } from "../../keystore/contents.ts";
import { jks } from "../../keystore/jks.ts";
import { pkcs12 } from "../../keystore/pkcs12.ts";
import { Judge } from "../judge.ts";
import { JudgedPki, keyName, keySpecs } from "./artefacts.ts";
import { ask, keytool } from "./programs.ts";

const PASSWORD = "changeit";
const judge = new Judge();
afterAll(() => judge.dispose());

const stores = {
  JKS: async (contents: KeyStoreContents) => jks(contents, new Sensitive(PASSWORD), new Date()),
  PKCS12: (contents: KeyStoreContents) => pkcs12(contents, new Sensitive(PASSWORD)),
} as const;

/** How Java calls what signed the certificates. */
const signatures: Readonly<Record<string, string>> = {
  "RSA-2048": "SHA256withRSA",
  "RSA-3072": "SHA256withRSA",
  "P-256": "SHA256withECDSA",
  "P-384": "SHA384withECDSA",
  "P-521": "SHA512withECDSA",
  Ed25519: "Ed25519",
};

const rows = keySpecs.flatMap((key) => (["JKS", "PKCS12"] as const).map((type) => [keyName(key), type, key] as const));

test.each(rows)("%s in %s", async (name, type, key) => {
  const { cases, leafKey } = await JudgedPki.make(key);
  const leaf = cases.find(({ profile, state }) => profile === "Server" && state === "good");
  if (leaf?.issuer === undefined) throw new Error("no leaf");
  const chain = [leaf.certificate, ...leaf.issuer.chain];
  const privateKey = createPrivateKey({ key: leafKey, format: "der", type: "pkcs8" });
  const store = await stores[type]({ key: { alias: "orders", privateKey, chain } });
  const file = judge.write(`${name}.${type}`, store);

  if (keytool === undefined) throw new Error("there is no keytool on this machine");
  const { ok, output } = await ask(keytool, [
    ...QUICK_KEYTOOL,
    "-list",
    "-v",
    "-keystore",
    file,
    "-storepass",
    PASSWORD,
  ]);
  expect(output).toContain(`Keystore type: ${type}`);
  expect(output).toContain("Alias name: orders");
  expect(output).toContain("Entry type: PrivateKeyEntry");
  expect(output).toContain("Certificate chain length: 3");
  const serials = [...output.matchAll(/^Serial number: ([0-9a-f]+)$/gm)].map(([, serial]) => serial);
  expect(serials).toEqual(chain.map((der) => parseCertificate(der).serialNumber.toString("hex")));
  const algorithms = [...output.matchAll(/^Signature algorithm name: (\S+)/gm)].map(([, algorithm]) => algorithm);
  expect(algorithms).toEqual(chain.map(() => signatures[name]));
  expect(ok).toBe(true);
});
