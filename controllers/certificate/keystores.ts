/** The keystores that a Certificate asks for, and their passwords. */
import { isUtf8 } from "node:buffer";
import type { KeyObject } from "node:crypto";
import { Stalled, Waiting } from "../../core/errors.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { KeyStoreContents } from "../../core/pki/keystore/contents.ts";
import { jks } from "../../core/pki/keystore/jks.ts";
import { pkcs12 } from "../../core/pki/keystore/pkcs12.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Certificate } from "../../crds/certificate.ts";
import type { Cluster } from "../cluster.ts";
import { readCoreSecret } from "../delivery/core-secret.ts";
import type { KubernetesApi } from "../runtime/transport.ts";

export type KeystoreFormat = "pkcs12" | "jks";

export interface WantedKeystore {
  readonly format: KeystoreFormat;
  readonly passwordSecretRef: { readonly name: string; readonly key: string };
  /** Of the key. */
  readonly alias: string;
}

/** Keys of the core Secret: with the private key, and with the root. */
export const KEYSTORE_FILES = {
  pkcs12: { key: "keystore.p12", trust: "truststore.p12" },
  jks: { key: "keystore.jks", trust: "truststore.jks" },
} as const;

const KEY_ALIAS = "certificate";
const ROOT_ALIAS = "ca";

export function wantedKeystores({ spec: { keystores = {} } }: Certificate): WantedKeystore[] {
  const { pkcs12: p12, jks: java } = keystores;
  return [
    ...(p12?.create === true
      ? [{ format: "pkcs12" as const, passwordSecretRef: p12.passwordSecretRef, alias: KEY_ALIAS }]
      : []),
    ...(java?.create === true
      ? [{ format: "jks" as const, passwordSecretRef: java.passwordSecretRef, alias: java.alias ?? KEY_ALIAS }]
      : []),
  ];
}

/** By format, for each keystore that is wanted. */
export type PasswordFingerprints = ReadonlyMap<KeystoreFormat, string>;
export type Passwords = ReadonlyMap<KeystoreFormat, Sensitive>;

export interface KeystoreContents {
  readonly privateKey: KeyObject;
  /** DER, the certificate of the key first. */
  readonly chain: readonly Buffer[];
  readonly root: Buffer;
  readonly createdAt: Date;
}

/** Both files of one format, by their keys in the core Secret; other bytes each time. */
export async function keystoreValues(
  { format, alias }: WantedKeystore,
  contents: KeystoreContents,
  password: Sensitive,
): Promise<[string, Sensitive][]> {
  const { root, createdAt } = contents;
  const trust = { trusted: [{ alias: ROOT_ALIAS, certificate: root }] };
  const files = KEYSTORE_FILES[format];
  return [
    [files.key, await keystoreOf(format, contents, password, alias)],
    [files.trust, await written(format, trust, password, createdAt)],
  ];
}

/** The key with its chain; other bytes each time. */
export const keystoreOf = (
  format: KeystoreFormat,
  { privateKey, chain, createdAt }: Omit<KeystoreContents, "root">,
  password: Sensitive,
  alias = KEY_ALIAS,
): Promise<Sensitive> => written(format, { key: { alias, privateKey, chain } }, password, createdAt);

const written = async (
  format: KeystoreFormat,
  contents: KeyStoreContents,
  password: Sensitive,
  createdAt: Date,
): Promise<Sensitive> =>
  new Sensitive(format === "pkcs12" ? await pkcs12(contents, password) : jks(contents, password, createdAt));

/** A watch tells at once when it appears; this is only the safety net. */
const PASSWORD_RECHECK_MS = 60_000;
/** Of fingerprints in memory. */
const MOST_REMEMBERED = 20_000;

export interface PasswordReaderDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Pick<Cluster, "coreSecret">;
  readonly authorities: Pick<Authorities, "fingerprint">;
}

/** Reads passwords, and remembers by keyed fingerprints which ones it has seen. */
export class PasswordReader {
  readonly #deps: PasswordReaderDependencies;
  /** By reader, and by `uid/resourceVersion/key` of the core Secret. */
  readonly #seen = new Map<string, string>();

  constructor(deps: PasswordReaderDependencies) {
    this.#deps = deps;
  }

  /**
   * Reads only what changed since it was last looked at.
   *
   * @throws Waiting SourceNotFound or SourceKeyNotFound; Stalled ValueInvalid when the format cannot have the password
   */
  async fingerprints(certificate: Certificate, signal: AbortSignal): Promise<PasswordFingerprints> {
    const { cluster } = this.#deps;
    const { namespace = "", uid } = certificate.metadata;
    const found = new Map<KeystoreFormat, string>();
    for (const wanted of wantedKeystores(certificate)) {
      const { format, passwordSecretRef: ref } = wanted;
      const source = cluster.coreSecret(namespace, ref.name);
      if (source === undefined) throw notFound(wanted, namespace);
      const id = [uid, format, source.metadata.uid, source.metadata.resourceVersion, ref.key].join("/");
      let fingerprint = this.#seen.get(id);
      if (fingerprint === undefined) {
        const password = await this.#read(wanted, namespace, signal);
        fingerprint = this.fingerprintOf(certificate, format, password);
        password.dispose();
        // Bounded: the oldest are read again, which costs one request each.
        if (this.#seen.size >= MOST_REMEMBERED) this.#seen.delete(this.#seen.keys().next().value ?? "");
        this.#seen.set(id, fingerprint);
      }
      found.set(format, fingerprint);
    }
    return found;
  }

  /** The passwords themselves, to be disposed of; throws as `fingerprints` does. */
  async read(certificate: Certificate, signal: AbortSignal): Promise<Map<KeystoreFormat, Sensitive>> {
    const { namespace = "" } = certificate.metadata;
    const found = new Map<KeystoreFormat, Sensitive>();
    try {
      for (const wanted of wantedKeystores(certificate)) {
        found.set(wanted.format, await this.#read(wanted, namespace, signal));
      }
      return found;
    } catch (error) {
      for (const password of found.values()) password.dispose();
      throw error;
    }
  }

  fingerprintOf({ metadata: { uid } }: Certificate, format: KeystoreFormat, password: Sensitive): string {
    return this.#deps.authorities.fingerprint(uid, `password ${format}`, password);
  }

  async #read(wanted: WantedKeystore, namespace: string, signal: AbortSignal): Promise<Sensitive> {
    const { name, key } = wanted.passwordSecretRef;
    const source = await readCoreSecret(this.#deps.api, namespace, name, signal);
    if (source === undefined) throw notFound(wanted, namespace);
    const value = source.data?.[key];
    if (value === undefined) {
      throw new Waiting(
        "SourceKeyNotFound",
        `${fieldOf(wanted)}: core Secret ${namespace}/${name} has no key ${key}; add it there or correct the reference`,
        PASSWORD_RECHECK_MS,
      );
    }
    const password = new Sensitive(Buffer.from(value, "base64"));
    const fault = passwordFault(wanted.format, password);
    if (fault === undefined) return password;
    password.dispose();
    throw new Stalled(
      "ValueInvalid",
      `${fieldOf(wanted)}: the password in core Secret ${namespace}/${name}, key ${key}, ${fault}; correct it there`,
    );
  }
}

const fieldOf = ({ format }: WantedKeystore): string => `spec.keystores.${format}.passwordSecretRef`;

const notFound = (wanted: WantedKeystore, namespace: string): Waiting =>
  new Waiting(
    "SourceNotFound",
    `${fieldOf(wanted)}: there is no core Secret ${namespace}/${wanted.passwordSecretRef.name} yet; ` +
      "create it or correct the reference",
    PASSWORD_RECHECK_MS,
  );

/** Why no program could open a keystore with this password; undefined when it is good. */
export function passwordFault(format: KeystoreFormat, password: Sensitive): string | undefined {
  if (password.byteLength === 0) return "is empty";
  if (!isUtf8(password.reveal())) return "is not UTF-8";
  const text = password.revealText();
  if (/[\r\n]$/.test(text)) return "ends with a line break, which nobody could type";
  if (/\p{Cc}/u.test(text)) return "has a control character, which nobody could type";
  if (format === "pkcs12" && !/^[ -~]*$/.test(text)) {
    return "has characters outside of printable ASCII, which Java does not take for PKCS#12";
  }
  return undefined;
}
