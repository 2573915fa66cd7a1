import { createPrivateKey, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type { SealedKey } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { KEY_BYTES, openOrTampered, seal } from "../vault/envelope.ts";
import type { PkiKeys } from "../vault/keyring.ts";

/** What a private key belongs to. It opens for this only: a row that was exchanged for another does not decrypt. */
export interface KeyOwner {
  readonly kind: "Authority" | "Certificate" | "Membership";
  readonly namespace: string;
  readonly namespaceUid: string;
  readonly name: string;
  /** Id of the authority, UID of the requester; the key's own digest in hex where it is this gateway's. */
  readonly id: string;
  /** Generation of the authority, revision of the certificate. */
  readonly number: number;
  /** DER of the authority's subject; authority, serial number and template digest of the certificate; digests of the primary's root and of the token of a gateway. */
  readonly bound: readonly (string | Buffer)[];
}

const nameOf = ({ kind, namespace, name, number }: KeyOwner): string =>
  `the private key ${number} of ${kind} ${namespace === "" ? name : `${namespace}/${name}`}`;

const context = (purpose: string, installationId: string, owner: KeyOwner, keyId: string): Buffer =>
  encodeFields(purpose, [
    installationId,
    owner.kind,
    owner.namespace,
    owner.namespaceUid,
    owner.name,
    owner.id,
    owner.number,
    ...owner.bound,
    keyId,
  ]);

const DATA_KEY = "mazevault certificate data key";
const PRIVATE_KEY = "mazevault certificate private key";

/** Encrypts a private key (PKCS #8) under a data key of its own, wrapped by the installation's PKI key. */
export async function sealPrivateKey(
  writer: Writer,
  keys: PkiKeys,
  installationId: string,
  owner: KeyOwner,
  key: KeyObject,
): Promise<SealedKey> {
  const keyId = keys.current.id;
  const material = randomBytes(KEY_BYTES);
  const plaintext = key.export({ type: "pkcs8", format: "der" });
  try {
    const dataKey = createSecretKey(material);
    const ciphertext = seal(dataKey, plaintext, context(PRIVATE_KEY, installationId, owner, keyId));
    const wrappedKey = await keys.current.wrap(writer, material, context(DATA_KEY, installationId, owner, keyId));
    return { wrappedKey, keyId, ciphertext };
  } finally {
    material.fill(0);
    plaintext.fill(0);
  }
}

/** The private key as PKCS #8 in DER; the caller disposes of it. */
function openPrivateKey(
  keys: PkiKeys,
  installationId: string,
  owner: KeyOwner,
  { wrappedKey, keyId, ciphertext }: SealedKey,
): Sensitive {
  const name = nameOf(owner);
  const wrapping = context(DATA_KEY, installationId, owner, keyId);
  const material = openOrTampered(keys.byId(keyId), wrappedKey, wrapping, `the data key of ${name}`);
  try {
    const sealing = context(PRIVATE_KEY, installationId, owner, keyId);
    return new Sensitive(openOrTampered(createSecretKey(material), ciphertext, sealing, name));
  } finally {
    material.fill(0);
  }
}

/**
 * The private key, ready to sign; nothing of it is left in a buffer.
 *
 * @throws Unavailable TamperDetected when it is not the key of this owner
 */
export function importPrivateKey(keys: PkiKeys, installationId: string, owner: KeyOwner, sealed: SealedKey): KeyObject {
  const pkcs8 = openPrivateKey(keys, installationId, owner, sealed);
  try {
    return createPrivateKey({ key: pkcs8.reveal(), format: "der", type: "pkcs8" });
  } catch {
    throw new Unavailable("TamperDetected", `${nameOf(owner)} cannot be read; see the runbook`);
  } finally {
    pkcs8.dispose();
  }
}
