import "reflect-metadata";
import { createPrivateKey, generateKeyPairSync, KeyObject, randomBytes, webcrypto } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonName,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** What a certificate of the lab is for. */
export interface CertificateRequest {
  readonly commonName: string;
  /** Kubernetes reads these as groups. */
  readonly organizations?: readonly string[];
  readonly usage: "server" | "client" | "both";
  /** RSA-2048 instead of P-256: Entra ID takes no other key of a client. */
  readonly rsa?: boolean;
  /** Added to localhost and 127.0.0.1, which every server certificate names unless it is for `elsewhere`. */
  readonly dnsNames?: readonly string[];
  readonly elsewhere?: boolean;
  /** From now for ten years when absent. */
  readonly validity?: { readonly notBefore: Date; readonly notAfter: Date };
}

/** PEM files; the key is readable by its owner only. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const rsa = {
  name: "RSASSA-PKCS1-v1_5",
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
  hash: "SHA-256",
};
const yearsValid = 10;

/** The lab's certificate authority. Everything it issued stays in its directory and is issued only once. */
export class LabPki {
  readonly caFile: string;
  readonly caKeyFile: string;
  readonly #dir: string;
  readonly #ca: X509Certificate;
  readonly #caKey: webcrypto.CryptoKey;

  private constructor(dir: string, ca: X509Certificate, caKey: webcrypto.CryptoKey) {
    this.#dir = dir;
    this.#ca = ca;
    this.#caKey = caKey;
    this.caFile = path.join(dir, "ca.crt");
    this.caKeyFile = path.join(dir, "ca.key");
  }

  /** Opens the directory, creating it and the authority at first. */
  static async open(dir: string): Promise<LabPki> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const certFile = path.join(dir, "ca.crt");
    const keyFile = path.join(dir, "ca.key");
    if (!existsSync(certFile)) {
      const keys = await webcrypto.subtle.generateKey(ecdsa, true, ["sign", "verify"]);
      const name: JsonName = [{ CN: ["MazeVault lab"] }];
      const ca = await X509CertificateGenerator.create({
        ...validity(),
        serialNumber: serialNumber(),
        subject: name,
        issuer: name,
        publicKey: keys.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ecdsa,
        extensions: [
          new BasicConstraintsExtension(true, undefined, true),
          new KeyUsagesExtension(
            KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign | KeyUsageFlags.digitalSignature,
            true,
          ),
          await SubjectKeyIdentifierExtension.create(keys.publicKey),
        ],
      });
      writeKey(keyFile, keys.privateKey);
      // The certificate comes last: where it exists, the pair is complete.
      writeFileSync(certFile, `${ca.toString("pem")}\n`);
    }
    const pkcs8 = createPrivateKey(readFileSync(keyFile)).export({ type: "pkcs8", format: "der" });
    const caKey = await webcrypto.subtle.importKey("pkcs8", new Uint8Array(pkcs8), ecdsa, false, ["sign"]);
    return new LabPki(dir, new X509Certificate(readFileSync(certFile, "utf8")), caKey);
  }

  /** The certificate of that file name; issued at the first call, kept afterwards. */
  async issue(name: string, request: CertificateRequest): Promise<CertificateFiles> {
    const files = { certFile: path.join(this.#dir, `${name}.crt`), keyFile: path.join(this.#dir, `${name}.key`) };
    if (existsSync(files.certFile)) return files;
    const keys = await webcrypto.subtle.generateKey(request.rsa ? rsa : ecdsa, true, ["sign", "verify"]);
    const certificate = await X509CertificateGenerator.create({
      ...(request.validity ?? validity()),
      serialNumber: serialNumber(),
      subject: [...(request.organizations ?? []).map((name) => ({ O: [name] })), { CN: [request.commonName] }],
      issuer: this.#ca.subjectName.toJSON(),
      publicKey: keys.publicKey,
      signingKey: this.#caKey,
      signingAlgorithm: ecdsa,
      extensions: await this.#extensions(request, keys.publicKey),
    });
    writeKey(files.keyFile, keys.privateKey);
    writeFileSync(files.certFile, `${certificate.toString("pem")}\n`);
    return files;
  }

  /** An RSA-2048 key pair, for what signs with RS256. */
  signingKeys(name: string): { privateKeyFile: string; publicKeyFile: string } {
    const files = {
      privateKeyFile: path.join(this.#dir, `${name}.key`),
      publicKeyFile: path.join(this.#dir, `${name}.pub`),
    };
    if (!existsSync(files.publicKeyFile)) {
      const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
      writeFileSync(files.privateKeyFile, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
      writeFileSync(files.publicKeyFile, publicKey.export({ type: "spki", format: "pem" }));
    }
    return files;
  }

  async #extensions(request: CertificateRequest, publicKey: webcrypto.CryptoKey): Promise<Extension[]> {
    const purposes = {
      server: [ExtendedKeyUsage.serverAuth],
      client: [ExtendedKeyUsage.clientAuth],
      both: [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth],
    };
    const extensions = [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension(purposes[request.usage]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      await AuthorityKeyIdentifierExtension.create(this.#ca.publicKey),
    ];
    if (request.usage === "client") return extensions;
    const here = [{ type: "dns", value: "localhost" } as const, { type: "ip", value: "127.0.0.1" } as const];
    const names = new SubjectAlternativeNameExtension([
      ...(request.elsewhere === true ? [] : here),
      ...(request.dnsNames ?? []).map((value) => ({ type: "dns" as const, value })),
    ]);
    return [...extensions, names];
  }
}

function validity(): { notBefore: Date; notAfter: Date } {
  const notBefore = new Date(Date.now() - 60_000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + yearsValid);
  return { notBefore, notAfter };
}

function serialNumber(): string {
  // RFC 5280 4.1.2.2: positive, at most 20 octets.
  const octets = randomBytes(16);
  octets.writeUInt8(octets.readUInt8(0) & 0x7f, 0);
  return octets.toString("hex");
}

function writeKey(file: string, key: webcrypto.CryptoKey): void {
  writeFileSync(file, KeyObject.from(key).export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
}
