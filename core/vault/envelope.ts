import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type { SecretIdentity } from "../ports/vault-store.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Size of every symmetric key here: AES-256 and HMAC-SHA-256. */
export const KEY_BYTES = 32;

/**
 * AES-256-GCM with a random nonce (NIST SP 800-38D, section 8.2.2). Returns nonce (12 bytes), ciphertext, tag
 * (16 bytes). A key may be used for at most 2^32 calls; `WrappingKey` counts them.
 */
export function seal(key: KeyObject, plaintext: Buffer, additionalData: Buffer): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(additionalData);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The plaintext; undefined when key, ciphertext and additional data do not belong together. */
export function open(key: KeyObject, sealed: Buffer, additionalData: Buffer): Buffer | undefined {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(additionalData);
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES));
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    return undefined;
  }
}

/** As `open`, for what the platform stored itself: a mismatch means that somebody changed it. */
export function openOrTampered(key: KeyObject, sealed: Buffer, additionalData: Buffer, what: string): Buffer {
  const plaintext = open(key, sealed, additionalData);
  if (plaintext === undefined) {
    throw new Unavailable("TamperDetected", `${what} does not match its authentication tag; see the runbook`);
  }
  return plaintext;
}

/** The bytes are zeroed. */
export function importKey(material: Buffer): KeyObject {
  const key = createSecretKey(material);
  material.fill(0);
  return key;
}

const identityFields = (installationId: string, identity: SecretIdentity) => [
  installationId,
  identity.project,
  identity.environment,
  identity.namespace,
  identity.namespaceUid,
  identity.name,
];

/** What a wrapped data key is bound to: the version of the secret it encrypts, and the project key that wraps it. */
export function dataKeyContext(
  installationId: string,
  identity: SecretIdentity,
  version: number,
  projectKeyId: string,
): Buffer {
  return encodeFields("mazevault data key", [...identityFields(installationId, identity), version, projectKeyId]);
}

/**
 * What an entry is bound to; its digests are part of it, so that they cannot be exchanged either. `entriesKeyId` is the
 * project key that wrapped the data key when the version was made: it stays when another one wraps it.
 */
export function entryContext(
  installationId: string,
  identity: SecretIdentity,
  version: number,
  entriesKeyId: string,
  digest: { readonly key: string; readonly recipe: string; readonly fingerprint: string },
): Buffer {
  return encodeFields("mazevault entry", [
    ...identityFields(installationId, identity),
    version,
    entriesKeyId,
    digest.key,
    digest.recipe,
    digest.fingerprint,
  ]);
}

/** What a wrapped key of the hierarchy is bound to. */
export function keyContext(
  installationId: string,
  key: {
    readonly id: string;
    readonly purpose: string;
    readonly scope: string;
    readonly version: number;
    readonly wrappedBy: string;
  },
): Buffer {
  return encodeFields("mazevault key", [installationId, key.purpose, key.scope, key.version, key.id, key.wrappedBy]);
}
