/**
 * Values of a queued write, sealed for the gateway's own database: they open for this write, by this author, of this secret, to this
 * recipient only.
 */
import { createHmac, createSecretKey, randomBytes } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { UNLED, type Unled, type Writer } from "../ports/vault-store.ts";
import type { NewQueuedWrite, SealedValues } from "../ports/write-queue.ts";
import type { Sensitive } from "../sensitive.ts";
import { KEY_BYTES, openOrTampered, seal } from "../vault/envelope.ts";
import type { KeyRing, PkiKeys } from "../vault/keyring.ts";
import type { GatewayWrite } from "./writes.ts";

export interface QueueKeys extends Pick<KeyRing, "installationId" | "fleet"> {
  pki(writer: Writer | Unled): Promise<PkiKeys>;
}

export type SealedWrite = Pick<
  NewQueuedWrite,
  "id" | "recipient" | "place" | "secret" | "baseVersion" | "author" | "writer" | "fingerprint"
>;

const DATA_KEY = "mazevault queued write data key";
const VALUES = "mazevault queued write values";

const context = (purpose: string, installationId: string, write: SealedWrite, keyId: string): Buffer => {
  const { id, recipient, place, secret, baseVersion, author, writer, fingerprint } = write;
  return encodeFields(purpose, [
    installationId,
    id,
    recipient.gatewayEnvironment,
    recipient.rootDigest,
    place.namespace,
    place.name,
    secret.id,
    secret.project,
    secret.environment,
    secret.namespaceUid,
    baseVersion,
    author.subject,
    author.via,
    writer,
    fingerprint,
    keyId,
  ]);
};

/** Keyed digest of what a write asks for. */
export function writeFingerprint(
  { installationId, fleet }: QueueKeys,
  { namespace, name }: NewQueuedWrite["place"],
  values: ReadonlyMap<string, Sensitive>,
): Buffer {
  const fields = [...values].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([key, value]) => [key, value.reveal()]);
  return createHmac("sha256", fleet)
    .update(encodeFields("mazevault queued write", [installationId, namespace, name, ...fields]))
    .digest();
}

/** @throws Unavailable KeyUnavailable while the leader has not made the key yet */
export async function sealValues(
  keys: QueueKeys,
  write: SealedWrite,
  values: ReadonlyMap<string, Sensitive>,
): Promise<SealedValues> {
  const { current } = await keys.pki(UNLED);
  const material = randomBytes(KEY_BYTES);
  const encoded = Object.fromEntries([...values].map(([key, value]) => [key, value.reveal().toString("base64")]));
  const plaintext = Buffer.from(JSON.stringify(encoded));
  try {
    const { installationId } = keys;
    const sealing = createSecretKey(material);
    const ciphertext = seal(sealing, plaintext, context(VALUES, installationId, write, current.id));
    const wrappedKey = await current.wrap(UNLED, material, context(DATA_KEY, installationId, write, current.id));
    return { wrappedKey, keyId: current.id, ciphertext };
  } finally {
    material.fill(0);
    plaintext.fill(0);
  }
}

/**
 * As the primary takes them: base64 by key.
 *
 * @throws Unavailable TamperDetected when they are not those of this write
 */
export async function openValues(
  writer: Writer,
  keys: QueueKeys,
  write: SealedWrite,
  { wrappedKey, keyId, ciphertext }: SealedValues,
): Promise<GatewayWrite["values"]> {
  const pki = await keys.pki(writer);
  const { installationId } = keys;
  const what = `queued write ${write.id}`;
  const wrapping = context(DATA_KEY, installationId, write, keyId);
  const material = openOrTampered(pki.byId(keyId), wrappedKey, wrapping, `the data key of ${what}`);
  try {
    const sealing = context(VALUES, installationId, write, keyId);
    const plaintext = openOrTampered(createSecretKey(material), ciphertext, sealing, what);
    try {
      return JSON.parse(plaintext.toString("utf8")) as GatewayWrite["values"];
    } finally {
      plaintext.fill(0);
    }
  } finally {
    material.fill(0);
  }
}
