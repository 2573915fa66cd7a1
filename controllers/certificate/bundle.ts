/** What stands in the core Secret of a certificate: `tls.key`, `tls.crt`, `ca.crt`, and the forms of them that are asked for. */
import { createHash, createPrivateKey, type KeyObject } from "node:crypto";
import { encodeFields } from "../../core/canonical.ts";
import { type Certificate as ParsedCertificate, parseCertificate } from "../../core/pki/certificate.ts";
import { spkiOf } from "../../core/pki/key.ts";
import { lintCertificate } from "../../core/pki/lint/certificate.ts";
import type { Finding } from "../../core/pki/lint/finding.ts";
import { pem } from "../../core/pki/pem.ts";
import type { MadeValue } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Certificate, OUTPUT_FORMATS } from "../../crds/certificate.ts";
import { type Delivered, type DesiredDelivery, type Digests, desiredDelivery, sourceOf } from "../delivery/desired.ts";
import {
  KEYSTORE_FILES,
  keystoreValues,
  type PasswordFingerprints,
  type Passwords,
  wantedKeystores,
} from "./keystores.ts";

export type KeyEncoding = "PKCS1" | "PKCS8";

export const encodingOf = ({ spec }: Certificate): KeyEncoding => spec.privateKey?.encoding ?? "PKCS8";

const KEYS = ["tls.key", "tls.crt", "ca.crt"] as const;

type OutputFormat = (typeof OUTPUT_FORMATS)[number];
const FORMAT_FILES = { DER: "key.der", CombinedPEM: "tls-combined.pem" } as const satisfies Record<
  OutputFormat,
  string
>;

const outputFormats = ({ spec: { additionalOutputFormats = [] } }: Certificate): OutputFormat[] =>
  additionalOutputFormats.map(({ type }) => type);

/** Keys of the core Secret. */
const keysOf = (certificate: Certificate): string[] => [
  ...KEYS,
  ...outputFormats(certificate).map((format) => FORMAT_FILES[format]),
  ...wantedKeystores(certificate).flatMap(({ format }) => Object.values(KEYSTORE_FILES[format])),
];

/** The core Secret that the manifest asks for. */
export function certificateDelivery(certificate: Certificate, installation: string): DesiredDelivery {
  const { metadata, spec } = certificate;
  const what = {
    source: sourceOf("Certificate", certificate),
    namespace: metadata.namespace ?? "",
    secretName: spec.secretName,
    type: "kubernetes.io/tls",
    keys: keysOf(certificate).map((key) => ({ from: key, to: key })),
    owned: spec.deletionPolicy === "Revoke",
    field: "spec",
  } as const;
  return desiredDelivery(what, { ...spec, ...spec.secretTemplate }, installation);
}

/** The public part of a bundle. */
export interface Chain {
  readonly certificate: ParsedCertificate;
  /** DER of the CAs above it, the root last. */
  readonly authorities: readonly Buffer[];
  /** What our own reading of it finds. */
  readonly findings: readonly Finding[];
}

/**
 * @param der of the certificate
 * @param authorities as in `Chain`
 */
export function chainOf(der: Buffer, authorities: readonly Buffer[]): Chain {
  const certificate = parseCertificate(der);
  const { crlUrls, authorityInfoAccess } = certificate;
  // The installation may have got its URLs, or lost them, since it was issued: it must have all of them or none.
  const urls = crlUrls.length > 0 || authorityInfoAccess !== undefined;
  const [issuer = der] = authorities;
  return { certificate, authorities, findings: lintCertificate(certificate, { issuer, urls }) };
}

/** Servers send the chain without the root, which clients must know anyway (RFC 8446 4.4.2). */
const sentChain = ({ certificate, authorities }: Chain): Buffer[] => [certificate.der, ...authorities.slice(0, -1)];

export const certificatesPem = (chain: Chain): string =>
  sentChain(chain)
    .map((der) => pem("CERTIFICATE", der))
    .join("");

const rootOf = ({ authorities }: Chain): Buffer => authorities.at(-1) ?? Buffer.alloc(0);

export const rootPem = (chain: Chain): string => pem("CERTIFICATE", rootOf(chain));

/** @param passwords of each keystore that the manifest asks for */
export async function bundleValues(
  certificate: Certificate,
  chain: Chain,
  privateKey: KeyObject,
  passwords: Passwords = new Map(),
): Promise<Map<string, Sensitive>> {
  const keyText = keyPem(privateKey, encodingOf(certificate));
  const formats = {
    DER: () => keyDer(privateKey, encodingOf(certificate)),
    CombinedPEM: () => keyText + certificatesPem(chain),
  } satisfies Record<OutputFormat, () => string | Buffer>;
  const values = new Map([
    ["tls.key", new Sensitive(keyText)],
    ["tls.crt", new Sensitive(certificatesPem(chain))],
    ["ca.crt", new Sensitive(rootPem(chain))],
    ...outputFormats(certificate).map((format) => [FORMAT_FILES[format], new Sensitive(formats[format]())] as const),
  ]);
  const { notBefore: createdAt } = chain.certificate;
  const contents = { privateKey, chain: sentChain(chain), root: rootOf(chain), createdAt };
  for (const wanted of wantedKeystores(certificate)) {
    const password = passwords.get(wanted.format);
    if (password === undefined) throw new TypeError(`the password of the keystore ${wanted.format} was not read`);
    for (const [key, value] of await keystoreValues(wanted, contents, password)) values.set(key, value);
  }
  return values;
}

const keyType = (key: KeyObject, encoding: KeyEncoding) =>
  (encoding === "PKCS8" ? "pkcs8" : key.asymmetricKeyType === "rsa" ? "pkcs1" : "sec1") as "pkcs8";

const keyPem = (key: KeyObject, encoding: KeyEncoding): string =>
  key.export({ format: "pem", type: keyType(key, encoding) }).toString();

const keyDer = (key: KeyObject, encoding: KeyEncoding): Buffer =>
  key.export({ format: "der", type: keyType(key, encoding) });

/**
 * What the bundle should be, without its key: a private key is known by its public one and by how it is written, so that
 * looking for drift decrypts nothing.
 */
export function bundleEntries(
  certificate: Certificate,
  chain: Chain,
  passwords: PasswordFingerprints = new Map(),
): Delivered {
  const encoding = encodingOf(certificate);
  const { spki } = chain.certificate;
  const key = keyFingerprint(spki, encoding);
  const certificates = hash("tls.crt", [Buffer.from(certificatesPem(chain))]);
  const root = hash("ca.crt", [Buffer.from(rootPem(chain))]);
  const formats: Record<OutputFormat, string> = {
    DER: derFingerprint(spki, encoding),
    CombinedPEM: combinedFingerprint(key, certificates),
  };
  return [
    { key: "tls.key", fingerprint: key },
    { key: "tls.crt", fingerprint: certificates },
    { key: "ca.crt", fingerprint: root },
    ...outputFormats(certificate).map((format) => ({ key: FORMAT_FILES[format], fingerprint: formats[format] })),
    ...wantedKeystores(certificate).flatMap(({ format, alias }) => {
      const files = KEYSTORE_FILES[format];
      const password = passwords.get(format) ?? "";
      return [
        { key: files.key, fingerprint: hash(files.key, [alias, spki, certificates, password]) },
        { key: files.trust, fingerprint: hash(files.trust, [root, password]) },
      ];
    }),
  ];
}

/** Which bytes were made for which contents, of the values that have other bytes each time. */
export function madeValues(
  entries: Delivered,
  values: ReadonlyMap<string, Sensitive>,
  ofBytes: BytesFingerprint,
): MadeValue[] {
  return entries.flatMap(({ key, fingerprint }) => {
    const value = values.get(key);
    return isKeystore(key) && value !== undefined ? [{ key, bytes: ofBytes(key, value), contents: fingerprint }] : [];
  });
}

/** Keyed: the bytes of a trust store in Java's format follow from certificate and password alone. */
export type BytesFingerprint = (key: string, value: Sensitive) => string;

const isKeystore = (key: string): boolean =>
  Object.values(KEYSTORE_FILES).some((files) => files.key === key || files.trust === key);

const hash = (purpose: string, fields: readonly (string | Buffer)[]): string =>
  createHash("sha256")
    .update(encodeFields(`mazevault bundle ${purpose}`, [...fields]))
    .digest("hex");

const keyFingerprint = (spki: Buffer, encoding: KeyEncoding): string => hash("tls.key", [encoding, spki]);

const derFingerprint = (spki: Buffer, encoding: KeyEncoding): string => hash(FORMAT_FILES.DER, [encoding, spki]);

const combinedFingerprint = (key: string, certificates: string): string =>
  hash(FORMAT_FILES.CombinedPEM, [key, certificates]);

/** Not keyed: certificates are public, a private key cannot be guessed from a digest, and passwords are keyed already. */
export const deliveryDigests: Pick<Digests, "digest"> = { digest: hash };

/** Recognises what stands in a core Secret; a keystore by the bytes that were delivered, since opening it takes longer. */
export const bundleDigests = (made: readonly MadeValue[], ofBytes: BytesFingerprint): Digests => ({
  fingerprint(key, value) {
    return wellFormed(key, value, made, ofBytes) ?? hash(`other ${key}`, [value.reveal()]);
  },
  digest: hash,
});

function wellFormed(
  key: string,
  value: Sensitive,
  made: readonly MadeValue[],
  ofBytes: BytesFingerprint,
): string | undefined {
  switch (key) {
    case "tls.key":
      return wellFormedKey(value.revealText());
    case "tls.crt":
    case "ca.crt":
      return hash(key, [value.reveal()]);
    case FORMAT_FILES.DER:
      return wellFormedDer(value.reveal());
    case FORMAT_FILES.CombinedPEM:
      return wellFormedCombination(value.revealText());
    default: {
      const known = made.find((each) => each.key === key);
      return known?.bytes === (known && ofBytes(key, value)) ? known?.contents : undefined;
    }
  }
}

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

/** As `wellFormedKey`, of the same key in binary. */
function wellFormedDer(der: Buffer): string | undefined {
  for (const type of ["pkcs8", "pkcs1", "sec1"] as const) {
    try {
      const key = createPrivateKey({ key: der, format: "der", type });
      const encoding = type === "pkcs8" ? "PKCS8" : "PKCS1";
      if (keyDer(key, encoding).equals(der)) return derFingerprint(spkiOf(key), encoding);
    } catch {
      // Not in this form.
    }
  }
  return undefined;
}

function wellFormedCombination(text: string): string | undefined {
  const end = text.indexOf("-----BEGIN CERTIFICATE-----");
  const key = wellFormedKey(text.slice(0, end));
  return end < 0 || key === undefined
    ? undefined
    : combinedFingerprint(key, hash("tls.crt", [Buffer.from(text.slice(end))]));
}
