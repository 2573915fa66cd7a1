/** What a core Secret of type kubernetes.io/tls holds, without its private key. */
import { createPrivateKey } from "node:crypto";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { DerError } from "../../core/pki/der/reader.ts";
import { spkiOf } from "../../core/pki/key.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { parsePem } from "../../core/pki/pem.ts";
import { Sensitive } from "../../core/sensitive.ts";

export type TlsBundle =
  | {
      readonly kind: "Readable";
      /** DER of the first certificate in tls.crt. */
      readonly certificate: Buffer;
      /** Whether tls.key is its key. */
      readonly keyMatches: boolean;
      /** Names of all data. */
      readonly keys: readonly string[];
    }
  | { readonly kind: "Unreadable"; readonly problem: string };

/** @param data in base64, as the API server has it */
export function tlsBundle(data: Readonly<Record<string, string>>): TlsBundle {
  try {
    const [first] = parsePem(decoded(data["tls.crt"]).toString(), "tls.crt");
    if (first?.label !== "CERTIFICATE") return unreadable(`tls.crt begins with a PEM block ${first?.label}`);
    const { spki } = parseCertificate(first.der);
    const keyMatches = isKeyOf(new Sensitive(decoded(data["tls.key"])), spki);
    return { kind: "Readable", certificate: first.der, keyMatches, keys: Object.keys(data) };
  } catch (error) {
    if (error instanceof MalformedInput) return unreadable(error.message);
    if (error instanceof DerError) return unreadable(`tls.crt: ${error.message}`);
    throw error;
  }
}

const decoded = (base64 = ""): Buffer => Buffer.from(base64, "base64");

const unreadable = (problem: string): TlsBundle => ({ kind: "Unreadable", problem });

function isKeyOf(key: Sensitive, spki: Buffer): boolean {
  try {
    return spkiOf(createPrivateKey(key.revealText())).equals(spki);
  } catch {
    return false;
  } finally {
    key.dispose();
  }
}
