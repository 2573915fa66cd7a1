import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { QUICK_KEYTOOL } from "../../../lab/setup/needs.ts";
import { Sensitive } from "../../sensitive.ts";
import { Judge } from "../testing/judge.ts";
import { type KeyStoreContents, KeyStoreError } from "./contents.ts";
import { jks } from "./jks.ts";
import { pkcs12 } from "./pkcs12.ts";

const PASSWORDS = { JKS: "contraseña-š🔑", PKCS12: "p4ss word~" };
const ALIAS = "Orders";
const createdAt = new Date("2026-03-04T05:06:07Z");
const judge = new Judge();
const root = issue("root", generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
afterAll(() => judge.dispose());

/** A certificate by openssl, signed by root unless it is root. */
function issue(name: string, privateKey: KeyObject): Buffer {
  judge.write(`${name}.key`, privateKey.export({ type: "pkcs8", format: "pem" }));
  const signer = name === "root" ? [] : ["-CA", "root.pem", "-CAkey", "root.key"];
  judge.run("openssl", "req", "-x509", "-key", `${name}.key`, "-subj", `/CN=${name}`, "-out", `${name}.pem`, ...signer);
  return new X509Certificate(readFileSync(judge.path(`${name}.pem`))).raw;
}

function keytool(...args: string[]): string {
  return judge.run("keytool", ...QUICK_KEYTOOL, "-J-Dfile.encoding=UTF-8", ...args);
}

const stores = {
  JKS: async (contents: KeyStoreContents, password: string) => jks(contents, new Sensitive(password), createdAt),
  PKCS12: async (contents: KeyStoreContents, password: string) => pkcs12(contents, new Sensitive(password)),
} as const;

describe.each(["JKS", "PKCS12"] as const)("%s", (type) => {
  test.each([
    ["RSA", generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey],
    ["ECDSA", generateKeyPairSync("ec", { namedCurve: "P-384" }).privateKey],
    ["Ed25519", generateKeyPairSync("ed25519").privateKey],
  ])("keytool reads the same %s key and chain", async (algorithm, privateKey) => {
    const leaf = issue(algorithm, privateKey);
    const contents = { key: { alias: ALIAS, privateKey, chain: [leaf, root] } };
    const store = judge.write(`${algorithm}.${type}`, await stores[type](contents, PASSWORDS[type]));
    const password = judge.write("password", PASSWORDS[type]);

    const out = `${store}.copy`;
    // Java's own reading, written by Java, read by OpenSSL.
    keytool(
      ...["-importkeystore", "-srckeystore", store, "-srcstoretype", type, "-srcstorepass:file", password],
      ...["-destkeystore", out, "-deststoretype", "PKCS12", "-deststorepass", "abcdef"],
    );
    const text = judge.run("openssl", "pkcs12", "-in", out, "-passin", "pass:abcdef", "-nodes");
    expect(createPrivateKey(text).equals(privateKey)).toBe(true);
    const certificates = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    expect(certificates.map((pem) => new X509Certificate(pem).raw)).toEqual([leaf, root]);
    expect(text).toContain(`friendlyName: ${ALIAS.toLowerCase()}`);
  });

  test("keytool reads a trust store, and refuses another password", async () => {
    const store = judge.write(
      `trust.${type}`,
      await stores[type](
        {
          trusted: [
            { alias: "root", certificate: root },
            { alias: "Зáлог🔑", certificate: root },
          ],
        },
        PASSWORDS[type],
      ),
    );
    const list = keytool("-list", "-keystore", store, "-storepass:file", judge.write("password", PASSWORDS[type]));
    expect(list).toContain(`Keystore type: ${type === "JKS" ? "JKS" : "PKCS12"}`);
    expect(list).toContain("Your keystore contains 2 entries");
    expect(list.match(/trustedCertEntry/g)).toHaveLength(2);
    expect(list).toContain("зáлог🔑");
    if (type === "JKS") expect(list).toContain("Mar 4, 2026");
    const other = judge.ask("keytool", ...QUICK_KEYTOOL, "-list", "-keystore", store, "-storepass", "another");
    expect(other.ok).toBe(false);
    expect(other.output).toMatch(/password was incorrect/);
  });
});

test("a changed octet anywhere is noticed", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const contents = { key: { alias: "a", privateKey, chain: [issue("changed", privateKey)] } };
  const store = jks(contents, new Sensitive("changeit"), createdAt);
  store[store.length >> 1] = (store[store.length >> 1] ?? 0) ^ 1;
  const { ok, output } = judge.ask(
    "keytool",
    ...QUICK_KEYTOOL,
    "-list",
    "-keystore",
    judge.write("bad.jks", store),
    "-storepass",
    "changeit",
  );
  expect(ok).toBe(false);
  expect(output).toMatch(/tampered/);
});

test("OpenSSL reads PKCS#12, its MAC holds, and its algorithms are the modern ones", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const leaf = issue("leaf", privateKey);
  const contents = { key: { alias: ALIAS, privateKey, chain: [leaf, root] } };
  const store = judge.write("openssl.p12", await pkcs12(contents, new Sensitive(PASSWORDS.PKCS12)));
  const text = judge.run(
    "openssl",
    "pkcs12",
    "-in",
    store,
    "-passin",
    `file:${judge.write("password", PASSWORDS.PKCS12)}`,
    "-nodes",
    "-info",
  );
  expect(createPrivateKey(text).equals(privateKey)).toBe(true);
  expect(text).toMatch(/MAC: sha256, Iteration 10000/);
  expect(text.match(/PBES2, PBKDF2, AES-256-CBC, Iteration 10000, PRF hmacWithSHA256/g)).toHaveLength(2);
  // Decoding shows every element as DER.
  expect(judge.run("openssl", "asn1parse", "-inform", "DER", "-in", store)).not.toContain("Error");
});

test("OpenSSL refuses another password", async () => {
  const store = judge.write(
    "other.p12",
    await pkcs12({ trusted: [{ alias: "root", certificate: root }] }, new Sensitive("right")),
  );
  expect(judge.ask("openssl", "pkcs12", "-in", store, "-passin", "pass:wrong", "-nokeys").output).toMatch(
    /invalid password/,
  );
  expect(judge.ask("openssl", "pkcs12", "-in", store, "-passin", "pass:right", "-nokeys").ok).toBe(true);
});

test("a PKCS#12 password that Java could not use is refused", async () => {
  await expect(pkcs12({}, new Sensitive("contraseña"))).rejects.toThrow(KeyStoreError);
});
