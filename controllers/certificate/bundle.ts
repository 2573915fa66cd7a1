/** What stands in the core Secret of a certificate: `tls.key`, `tls.crt`, `ca.crt`. */
import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import { encodeFields } from "../../core/canonical.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { spkiOf } from "../../core/pki/key.ts";
import { lintCertificate } from "../../core/pki/lint/certificate.ts";
import type { Finding } from "../../core/pki/lint/finding.ts";
import { pem } from "../../core/pki/pem.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Certificate } from "../../crds/certificate.ts";
import { type Delivered, type DesiredDelivery, type Digests, desiredDelivery, sourceOf } from "../delivery/desired.ts";

export type KeyEncoding = "PKCS1" | "PKCS8";

export const encodingOf = ({ spec }: Certificate): KeyEncoding => spec.privateKey?.encoding ?? "PKCS8";

const KEYS = ["tls.key", "tls.crt", "ca.crt"] as const;

/** The core Secret that the manifest asks for. */
export function certificateDelivery(certificate: Certificate, installation: string): DesiredDelivery {
  const { spec } = certificate;
  const what = {
    source: sourceOf("Certificate", certificate),
    secretName: spec.secretName,
    type: "kubernetes.io/tls",
    keys: KEYS.map((key) => ({ from: key, to: key })),
    owned: spec.deletionPolicy === "Revoke",
    field: "spec",
  } as const;
  return desiredDelivery(what, { ...spec, ...spec.secretTemplate }, installation);
}

/** The public part of a bundle. */
export interface Chain {
  /** DER of the certificate. */
  readonly certificate: Buffer;
  /** DER of the CAs above it, the root last. */
  readonly authorities: readonly Buffer[];
  /** DER of its SubjectPublicKeyInfo. */
  readonly spki: Buffer;
  /** What our own reading of it finds. */
  readonly findings: readonly Finding[];
}

/** @param authorities as in `Chain` */
export function chainOf(certificate: Buffer, authorities: readonly Buffer[]): Chain {
  const { spki, crlUrls, authorityInfoAccess } = parseCertificate(certificate);
  // The installation may have got its URLs, or lost them, since it was issued: it must have all of them or none.
  const urls = crlUrls.length > 0 || authorityInfoAccess !== undefined;
  const [issuer = certificate] = authorities;
  return { certificate, authorities, spki, findings: lintCertificate(certificate, { issuer, urls }) };
}

/** Servers send the chain without the root, which clients must know anyway (RFC 8446 4.4.2). */
export const certificatesPem = ({ certificate, authorities }: Chain): string =>
  [certificate, ...authorities.slice(0, -1)].map((der) => pem("CERTIFICATE", der)).join("");

export const rootPem = ({ authorities }: Chain): string => pem("CERTIFICATE", authorities.at(-1) ?? Buffer.alloc(0));

/** @param pkcs8 DER of the private key */
export function bundleValues(chain: Chain, pkcs8: Sensitive, encoding: KeyEncoding): Map<string, Sensitive> {
  const key = createPrivateKey({ key: pkcs8.reveal(), format: "der", type: "pkcs8" });
  return new Map([
    ["tls.key", new Sensitive(keyPem(key, encoding))],
    ["tls.crt", new Sensitive(certificatesPem(chain))],
    ["ca.crt", new Sensitive(rootPem(chain))],
  ]);
}

function keyPem(key: KeyObject, encoding: KeyEncoding): string {
  const type = encoding === "PKCS8" ? "pkcs8" : key.asymmetricKeyType === "rsa" ? "pkcs1" : "sec1";
  return key.export({ format: "pem", type } as { format: "pem"; type: "pkcs8" }).toString();
}

/**
 * What the bundle should be, without its key: a private key is known by its public one and by how it is written, so that
 * looking for drift decrypts nothing.
 */
export const bundleEntries = (chain: Chain, encoding: KeyEncoding): Delivered => [
  { key: "tls.key", fingerprint: keyFingerprint(chain.spki, encoding) },
  { key: "tls.crt", fingerprint: hash("tls.crt", [Buffer.from(certificatesPem(chain))]) },
  { key: "ca.crt", fingerprint: hash("ca.crt", [Buffer.from(rootPem(chain))]) },
];

const hash = (purpose: string, fields: readonly (string | Buffer)[]): string =>
  createHash("sha256")
    .update(encodeFields(`mazevault bundle ${purpose}`, [...fields]))
    .digest("hex");

const keyFingerprint = (spki: Buffer, encoding: KeyEncoding): string => hash("tls.key", [encoding, spki]);

/** Not keyed: certificates are public, and a private key cannot be guessed from a digest. */
export const bundleDigests: Digests = {
  fingerprint(key, value) {
    return (key === "tls.key" ? wellFormedKey(value.revealText()) : undefined) ?? hash(key, [value.reveal()]);
  },
  digest: hash,
};

/** The fingerprint of a private key that is written exactly as we would write it. */
function wellFormedKey(text: string): string | undefined {
  try {
    const key = createPrivateKey(text);
    const encoding = text.startsWith("-----BEGIN PRIVATE KEY-----") ? "PKCS8" : "PKCS1";
    return keyPem(key, encoding) === text ? keyFingerprint(spkiOf(key), encoding) : undefined;
  } catch {
    return undefined;
  }
}
