import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { CsrError, createCsr, maxCsr, parseCsr } from "./csr.ts";
import * as der from "./der/writer.ts";
import {
  basicConstraints,
  type Extension,
  encodeExtensions,
  extendedKeyUsage,
  keyUsage,
  nameConstraintsExtension,
  subjectAltName,
} from "./extension.ts";
import { subjectAltNames } from "./general-name.ts";
import { generateKey, type KeySpec, spkiOf } from "./key.ts";
import { encodeName, fromSubject } from "./name.ts";
import { oids } from "./oid.ts";
import { pem } from "./pem.ts";
import { LocalSigner, signed } from "./signer.ts";
import { Judge } from "./testing/judge.ts";

const judge = new Judge();
afterAll(() => judge.dispose());

const subject = fromSubject({ commonName: "orders", organizations: ["Example"] });
const names = subjectAltNames({
  dnsNames: ["orders.example.com"],
  ipAddresses: ["10.0.0.1", "2001:db8::1"],
  uris: ["spiffe://example.com/orders"],
  emailAddresses: ["orders@example.com", "grün@example.com"],
});
const sanExtension = subjectAltName(names, false);

const specs: KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "ECDSA", size: 521 },
  { algorithm: "Ed25519" },
];

describe.each(specs)("a request of $algorithm $size", (spec) => {
  test("ours is read by us and verified by openssl", async () => {
    const signer = new LocalSigner(await generateKey(spec));
    const constraints = { permitted: subjectAltNames({ dnsNames: ["example.com"] }), excluded: [] };
    const encoded = await createCsr(
      subject,
      [
        sanExtension,
        basicConstraints({ ca: true, pathLength: 0 }),
        keyUsage(["digitalSignature", "keyCertSign"]),
        extendedKeyUsage([oids.serverAuth]),
        nameConstraintsExtension(constraints),
      ],
      signer,
    );
    const csr = parseCsr(encoded);
    expect(csr).toMatchObject({
      subject,
      subjectAltNames: names,
      basicConstraints: { ca: true, pathLength: 0 },
      keyUsage: ["digitalSignature", "keyCertSign"],
      extendedKeyUsage: [oids.serverAuth],
      nameConstraints: constraints,
    });
    expect(csr.spki.equals(signer.spki)).toBe(true);
    expect(csr.extensions.size).toBe(5);
    expect(parseCsr(pem("CERTIFICATE REQUEST", encoded)).spki.equals(signer.spki)).toBe(true);
    judge.write("ours.pem", pem("CERTIFICATE REQUEST", encoded));
    expect(judge.run("openssl", "req", "-in", "ours.pem", "-verify", "-noout", "-text")).toContain(
      "DNS:orders.example.com, IP Address:10.0.0.1",
    );
  });

  test("openssl's is read", () => {
    const kind = {
      RSA: ["rsa:2048"],
      Ed25519: ["ed25519"],
      ECDSA: ["ec", "-pkeyopt", `ec_paramgen_curve:P-${"size" in spec ? spec.size : ""}`],
    };
    judge.run(
      "openssl",
      ...["req", "-new", "-nodes", "-keyout", "theirs.key", "-out", "theirs.pem", "-newkey", ...kind[spec.algorithm]],
      ...["-subj", "/C=AT/O=Example/CN=orders", "-addext", "subjectAltName=DNS:Orders.example.com,IP:10.0.0.1"],
    );
    const csr = parseCsr(readFileSync(judge.path("theirs.pem")));
    expect(csr.subjectAltNames).toEqual(
      subjectAltNames({ dnsNames: ["orders.example.com"], ipAddresses: ["10.0.0.1"] }),
    );
    expect(csr.subject).toEqual(fromSubject({ countries: ["AT"], organizations: ["Example"], commonName: "orders" }));
    expect(csr.basicConstraints).toBeUndefined();
  });
});

test("a request may ask for nothing but a subject, and say things that do not matter", async () => {
  const signer = new LocalSigner(await generateKey({ algorithm: "Ed25519" }));
  expect(parseCsr(await createCsr(subject, [], signer))).toMatchObject({ subject, subjectAltNames: [] });
  const challenge = der.sequence(der.oid("1.2.840.113549.1.9.7"), der.setOf(der.utf8("x")));
  const info = der.sequence(der.integer(0), encodeName(subject), signer.spki, der.explicit(0, challenge));
  expect(parseCsr(await signed(info, signer)).extensions.size).toBe(0);
});

describe("what is refused", () => {
  let key: KeyObject;
  let signer: LocalSigner;
  beforeAll(async () => {
    key = await generateKey({ algorithm: "ECDSA", size: 256 });
    signer = new LocalSigner(key);
  });

  const attribute = (...extensions: Extension[]) =>
    der.sequence(der.oid(oids.extensionRequest), der.setOf(encodeExtensions(extensions)));
  const refusal = (input: Buffer | string): CsrError => {
    try {
      parseCsr(input);
    } catch (error) {
      if (error instanceof CsrError) return error;
      throw error;
    }
    throw new Error("was accepted");
  };
  /** A well signed request with these parts. */
  const request = (parts: { version?: number; name?: Buffer; spki?: Buffer; attributes?: Buffer }) =>
    signed(
      der.sequence(
        der.integer(parts.version ?? 0),
        parts.name ?? encodeName(subject),
        parts.spki ?? signer.spki,
        parts.attributes ?? der.explicit(0),
      ),
      signer,
    );
  const dns = (text: string) => subjectAltName([{ kind: "dns", value: text }], false);

  test.each<[string, CsrError["code"], () => Promise<Buffer> | Buffer | string, RegExp]>([
    ["more than 64 KiB", "TooLarge", () => Buffer.alloc(maxCsr + 1, 0x30), /at most 65536/],
    ["nothing", "Malformed", () => Buffer.alloc(0), /PEM/],
    ["a certificate in PEM", "Malformed", () => pem("CERTIFICATE", Buffer.of(0x30, 0)), /CERTIFICATE REQUEST/],
    ["two requests", "Malformed", () => pem("CERTIFICATE REQUEST", Buffer.of(0x30, 0)).repeat(2), /one PEM block/],
    ["an empty SEQUENCE", "Malformed", () => Buffer.of(0x30, 0), /ends inside/],
    ["version 2", "Malformed", () => request({ version: 1 }), /version 1/],
    ["no attributes", "Malformed", () => request({ attributes: Buffer.alloc(0) }), /0xa0 is expected/],
    [
      "something after it",
      "Malformed",
      async () => Buffer.concat([await request({}), Buffer.of(5, 0)]),
      /unexpected data/,
    ],
    [
      "extensions twice",
      "Malformed",
      () => request({ attributes: der.explicit(0, attribute(dns("a")), attribute(dns("a"))) }),
      /attribute stands there twice/,
    ],
    [
      "an extension twice",
      "Malformed",
      () => request({ attributes: der.explicit(0, attribute(dns("a"), dns("b"))) }),
      /2.5.29.17 stands there twice/,
    ],
    [
      "two values of extensions",
      "Malformed",
      () =>
        request({
          attributes: der.explicit(
            0,
            der.sequence(
              der.oid(oids.extensionRequest),
              der.setOf(encodeExtensions([dns("a")]), encodeExtensions([dns("b")])),
            ),
          ),
        }),
      /unexpected data/,
    ],
    [
      "a malformed extension",
      "Malformed",
      () => request({ attributes: der.explicit(0, attribute({ ...dns("a"), value: Buffer.of(5, 0) })) }),
      /0x30 is expected/,
    ],
    [
      "a name that is no host",
      "MalformedName",
      () => request({ attributes: der.explicit(0, attribute(dns("a b"))) }),
      /subjectAltName: "a b"/,
    ],
    ["a long common name", "MalformedName", async () => request({ name: longName() }), /CN has 65 characters/],
    [
      "another signer",
      "WrongSignature",
      async () => request({ spki: spkiOf(await generateKey({ algorithm: "ECDSA", size: 256 })) }),
      /own key/,
    ],
    [
      "another algorithm",
      "WrongSignature",
      async () => request({ spki: spkiOf(await generateKey({ algorithm: "Ed25519" })) }),
      /own key/,
    ],
    ["RSA with 1024 bits", "WeakKey", () => foreign("rsa", { modulusLength: 1024 }), /1024 bits/],
    ["a public exponent of 3", "WeakKey", () => foreign("rsa", { modulusLength: 2048, publicExponent: 3 }), /exponent/],
    ["P-224", "WeakKey", () => foreign("ec", { namedCurve: "secp224r1" }), /P-256/],
    ["secp256k1", "WeakKey", () => foreign("ec", { namedCurve: "secp256k1" }), /P-256/],
    ["Ed448", "WeakKey", () => foreign("ed448", {}), /Ed25519/],
    [
      "X25519",
      "WeakKey",
      () => request({ spki: generateKeyPairSync("x25519").publicKey.export({ type: "spki", format: "der" }) }),
      /Ed25519/,
    ],
    [
      "explicit curve parameters",
      "Malformed",
      () => foreign("ec", { namedCurve: "P-256", paramEncoding: "explicit" }),
      /not named/,
    ],
    ["a compressed point", "Malformed", () => request({ spki: compressed(signer.spki) }), /uncompressed/],
    ["a point that is not on the curve", "Malformed", () => request({ spki: offCurve(signer.spki) }), /cannot be read/],
    [
      "a modulus with a small factor",
      "WeakKey",
      () => request({ spki: rsaSpki(3n * ((1n << 2046n) + 1n)) }),
      /small factor/,
    ],
  ])("%s", async (_, code, make, message) => {
    const error = refusal(await make());
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  const longName = () => der.sequence(der.setOf(der.sequence(der.oid(oids.commonName), der.utf8("x".repeat(65)))));

  /** A request of a key that MazeVault does not make; the signature is whatever node makes of it. */
  function foreign(type: string, options: object): Buffer {
    const { privateKey, publicKey } = generateKeyPairSync(type as "ec", options as { namedCurve: string });
    const spki = publicKey.export({ type: "spki", format: "der" });
    const info = der.sequence(der.integer(0), encodeName(subject), spki, der.explicit(0));
    const hash = type.startsWith("ed") ? null : "sha256";
    return der.sequence(info, signer.signatureAlgorithm, der.bitString(sign(hash, info, privateKey)));
  }

  const ecSpki = (point: Buffer) =>
    der.sequence(der.sequence(der.oid(oids.ecPublicKey), der.oid("1.2.840.10045.3.1.7")), der.bitString(point));
  const compressed = (spki: Buffer) =>
    ecSpki(Buffer.concat([Buffer.of(2 + ((spki.at(-1) ?? 0) & 1)), spki.subarray(-64, -32)]));
  const offCurve = (spki: Buffer) => ecSpki(Buffer.concat([spki.subarray(-65, -1), Buffer.of((spki.at(-1) ?? 0) ^ 1)]));
  const rsaSpki = (modulus: bigint) =>
    der.sequence(
      der.sequence(der.oid(oids.rsaEncryption), der.nothing()),
      der.bitString(der.sequence(der.integer(modulus), der.integer(65537))),
    );
});
