import { createSecretKey, randomBytes } from "node:crypto";
import type { DataKey, SealedVersion, SecretIdentity, Unled, Writer } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { dataKeyContext, entryContext, KEY_BYTES, openOrTampered, seal } from "./envelope.ts";
import type { ProjectKeys } from "./keyring.ts";
import type { MadeEntry } from "./material.ts";

/** Encrypts all entries under a data key of their own, made for this version and wrapped by the project key. */
export async function sealVersion(
  writer: Writer | Unled,
  keys: ProjectKeys,
  installationId: string,
  identity: SecretIdentity,
  version: number,
  entries: readonly MadeEntry[],
): Promise<SealedVersion> {
  const projectKeyId = keys.current.id;
  const material = randomBytes(KEY_BYTES);
  try {
    const dataKey = createSecretKey(material);
    const sealed = entries.map(({ value, ...digest }) => ({
      ...digest,
      ciphertext: seal(dataKey, value.reveal(), entryContext(installationId, identity, version, projectKeyId, digest)),
    }));
    const context = dataKeyContext(installationId, identity, version, projectKeyId);
    const wrappedKey = await keys.current.wrap(writer, material, context);
    return { version, wrappedKey, projectKeyId, entriesKeyId: projectKeyId, entries: sealed };
  } finally {
    material.fill(0);
  }
}

/** The data key of a version, wrapped by the newest project key instead of the one that wraps it; its entries stay as they are. */
export async function rewrapDataKey(
  writer: Writer,
  keys: ProjectKeys,
  installationId: string,
  from: string,
  { identity, version, wrappedKey }: DataKey,
): Promise<Buffer> {
  const name = `the data key of version ${version} of secret ${identity.namespace}/${identity.name}`;
  const bound = dataKeyContext(installationId, identity, version, from);
  const material = openOrTampered(keys.byId(from), wrappedKey, bound, name);
  try {
    const { current } = keys;
    return await current.wrap(writer, material, dataKeyContext(installationId, identity, version, current.id));
  } finally {
    material.fill(0);
  }
}

/** Decrypts the entries of a version, or those of `only`. A key of `only` that the version lacks is left out. */
export function openVersion(
  keys: ProjectKeys,
  installationId: string,
  identity: SecretIdentity,
  sealed: SealedVersion,
  only?: readonly string[],
): ReadonlyMap<string, Sensitive> {
  const { version, projectKeyId, entriesKeyId } = sealed;
  const name = `version ${version} of secret ${identity.namespace}/${identity.name}`;
  const context = dataKeyContext(installationId, identity, version, projectKeyId);
  const material = openOrTampered(keys.byId(projectKeyId), sealed.wrappedKey, context, `the data key of ${name}`);
  const values = new Map<string, Sensitive>();
  try {
    const dataKey = createSecretKey(material);
    for (const { ciphertext, ...digest } of sealed.entries) {
      if (only !== undefined && !only.includes(digest.key)) continue;
      const bound = entryContext(installationId, identity, version, entriesKeyId, digest);
      const value = openOrTampered(dataKey, ciphertext, bound, `entry ${digest.key} of ${name}`);
      values.set(digest.key, new Sensitive(value));
    }
    return values;
  } catch (error) {
    for (const value of values.values()) value.dispose();
    throw error;
  } finally {
    material.fill(0);
  }
}
