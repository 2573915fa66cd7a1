/** How a gateway protects what it holds of its primary: values by its own keys, and by a MAC which items are all of them. */
import { createHmac, createSecretKey, randomBytes } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type { SealedKey } from "../ports/pki-store.ts";
import type { ReplicaState } from "../ports/replica-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { KEY_BYTES, openOrTampered, seal } from "../vault/envelope.ts";
import type { KeyRing, PkiKeys } from "../vault/keyring.ts";
import { type FleetKeys, sameMac } from "./authenticity.ts";
import type { Digested } from "./replica-item.ts";

export type ReplicaKeys = FleetKeys & Pick<KeyRing, "pki">;

/** By entry. */
export type Values = ReadonlyMap<string, Sensitive>;

const DATA_KEY = "mazevault replica data key";
const VALUES = "mazevault replica values";

/** An item has all that tells one version of a secret from another, so its values open with no other's. */
const context = (purpose: string, installationId: string, { key, digest }: Digested, keyId: string): Buffer =>
  encodeFields(purpose, [installationId, key, digest, keyId]);

/** Under a data key of their own, wrapped by the installation's key as private keys are. */
export async function sealValues(
  writer: Writer,
  keys: PkiKeys,
  installationId: string,
  item: Digested,
  values: Readonly<Record<string, string>>,
): Promise<SealedKey> {
  const keyId = keys.current.id;
  const material = randomBytes(KEY_BYTES);
  const plaintext = Buffer.from(JSON.stringify(values), "utf8");
  try {
    const ciphertext = seal(createSecretKey(material), plaintext, context(VALUES, installationId, item, keyId));
    const wrappedKey = await keys.current.wrap(writer, material, context(DATA_KEY, installationId, item, keyId));
    return { wrappedKey, keyId, ciphertext };
  } finally {
    material.fill(0);
    plaintext.fill(0);
  }
}

/** @throws Unavailable TamperDetected when they are not of this item */
export function openValues(keys: PkiKeys, installationId: string, item: Digested, sealed: SealedKey): Values {
  const { wrappedKey, keyId, ciphertext } = sealed;
  const name = `the replica of ${item.key}`;
  const wrapping = context(DATA_KEY, installationId, item, keyId);
  const material = openOrTampered(keys.byId(keyId), wrappedKey, wrapping, `the data key of ${name}`);
  try {
    const sealing = context(VALUES, installationId, item, keyId);
    const plaintext = openOrTampered(createSecretKey(material), ciphertext, sealing, name);
    try {
      const values = JSON.parse(plaintext.toString("utf8")) as Readonly<Record<string, string>>;
      return new Map(
        Object.entries(values).map(([key, base64]) => [key, new Sensitive(Buffer.from(base64, "base64"))]),
      );
    } finally {
      plaintext.fill(0);
    }
  } finally {
    material.fill(0);
  }
}

/** Covers which items are all, of whom, and since when: none can be put back, taken out, or be said to be newer than it is. */
export const stateMac = (
  { installationId, fleet }: FleetKeys,
  { revision, gatewayId, environment, digest, syncedAt }: Omit<ReplicaState, "mac">,
): Buffer =>
  createHmac("sha256", fleet)
    .update(
      encodeFields("mazevault replica state", [installationId, revision, gatewayId, environment, digest, syncedAt]),
    )
    .digest();

/** @throws Unavailable TamperDetected */
export function assertState(keys: FleetKeys, state: ReplicaState): void {
  if (!sameMac(state.mac, stateMac(keys, state)))
    throw new Unavailable("TamperDetected", "the replica's state does not match its MAC; see the runbook");
}
