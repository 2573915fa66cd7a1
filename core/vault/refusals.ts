/** What the vault refuses, and why: each says what to do. */
import type { GeneratorSpec, SecretEntry } from "../../crds/secret.ts";
import { Stalled } from "../errors.ts";
import type { SecretRecord } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { NOTHING_IS_PENDING_THERE, stateOfVersion } from "./apply.ts";
import { assertSealedFor } from "./end-to-end.ts";
import type { PutRequest } from "./requests.ts";
import type { ValueStorage } from "./storage.ts";

/** What a core Secret can hold. */
const LARGEST_VALUE = 1_048_576;

const inWords = (vaultUrl: string | undefined): string =>
  vaultUrl === undefined ? "PostgreSQL" : `Key Vault ${vaultUrl}`;

export const storageDiffers = (
  { identity: { namespace, name }, vaultUrl }: SecretRecord,
  storage: ValueStorage,
): Stalled =>
  new Stalled(
    "StorageDiffers",
    `the values of secret ${namespace}/${name} are in ${inWords(vaultUrl)}, and its project now says ${inWords(storage.vaultUrl)}; let the project say what it did, or purge the secret and apply it anew`,
  );

/**
 * The entries that get new values.
 *
 * @throws Stalled ValueInvalid
 */
export function rotated(
  entries: readonly SecretEntry[],
  { entries: stored }: SecretRecord,
  keys: readonly string[],
): readonly (SecretEntry & { readonly generate: GeneratorSpec })[] {
  if (keys.length === 0) throw new Stalled("ValueInvalid", "no entry is generated, so none can be rotated");
  return [...new Set(keys)].map((key) => {
    const entry = entries.find((each) => each.key === key);
    if (entry?.generate === undefined) {
      throw new Stalled(
        "ValueInvalid",
        `entry ${key} cannot be rotated: the manifest has no entry ${key} with generate`,
      );
    }
    if (!stored.some((each) => each.key === key)) {
      throw new Stalled("ValueInvalid", `entry ${key} cannot be rotated: it has no value yet`);
    }
    return { ...entry, generate: entry.generate };
  });
}

/**
 * Whether these values may be put.
 *
 * @throws Stalled ValueInvalid, SealedValueInvalid
 */
export function assertAccepted({
  entries,
  values,
  readers,
  alsoGenerated = false,
}: Pick<PutRequest, "entries" | "values" | "readers" | "alsoGenerated">): void {
  assertWritable(entries, values, alsoGenerated);
  if (readers !== undefined) for (const [key, value] of values) assertSealedFor(readers, key, value);
}

/** The entry that the operator writes itself, along with the password that it applies. */
export const assertNotApplied = (username: string | undefined, keys: Pick<ReadonlySet<string>, "has">): void => {
  if (username === undefined || !keys.has(username)) return;
  throw new Stalled(
    "ValueInvalid",
    `entry ${username} cannot be written: spec.rotation.apply.postgres writes it along with its password`,
  );
};

function assertWritable(
  entries: readonly SecretEntry[],
  values: ReadonlyMap<string, Sensitive>,
  alsoGenerated: boolean,
): void {
  const isWritable = ({ external, generate }: SecretEntry) =>
    external !== undefined || (alsoGenerated && generate !== undefined);
  const writable = new Set(entries.filter(isWritable).map(({ key }) => key));
  if (values.size === 0) throw new Stalled("ValueInvalid", "no value was given");
  for (const [key, value] of values) {
    if (!writable.has(key)) {
      throw new Stalled(
        "ValueInvalid",
        `entry ${key} cannot be written: the manifest has no entry ${key} with external: {}`,
      );
    }
    if (value.byteLength > LARGEST_VALUE) {
      throw new Stalled("ValueInvalid", `entry ${key}: the value is longer than ${LARGEST_VALUE} bytes`);
    }
  }
}

export const notActive = ({ identity: { namespace, name } }: SecretRecord): Stalled =>
  new Stalled("SecretNotStored", `secret ${namespace}/${name} was deleted; recover it before it is changed`);

/**
 * @throws Stalled RotationInvalid
 */
export function assertCanBePending({ vaultUrl }: SecretRecord): void {
  if (vaultUrl !== undefined) throw new Stalled("RotationInvalid", NOTHING_IS_PENDING_THERE);
}

/**
 * What uses the values of any other version does not know them.
 *
 * @throws Stalled Applying, ApplyFailed
 */
export function assertWasCurrent(record: SecretRecord, version: number): void {
  const state = stateOfVersion(record, version);
  const name = `version ${version} of secret ${record.identity.namespace}/${record.identity.name}`;
  if (state === "Pending") {
    throw new Stalled("Applying", `${name} is being applied: it becomes current by itself when that is done`);
  }
  if (state === "Failed") {
    throw new Stalled("ApplyFailed", `${name} was not applied and never was current; choose another one, or rotate`);
  }
}
