/**
 * Where the values of versions live. A version is sealed into PostgreSQL either way: with the values themselves, or with
 * the places where a Key Vault has them. Which of both it is stands with the pointer, under its MAC, for ever.
 */
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { EntryDigest, KeptWrite, SecretIdentity, SecretRecord, Unled, Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { Digester } from "./fingerprint.ts";
import type { MadeEntry } from "./material.ts";

/** Versions of one secret that are about to be committed. */
export interface NextValues {
  /** Of the secret. */
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly seen: SecretRecord | undefined;
  /** In their order; the last one becomes current. */
  readonly versions: readonly (readonly MadeEntry[])[];
  /** What is sealed into the current version, by key. Whoever asks disposes of it. */
  readonly sealed: () => Promise<ReadonlyMap<string, Sensitive>>;
  readonly actor: Actor;
}

/** They are where they should be. */
export interface StoredValues {
  /** What is to be sealed into each version. */
  readonly versions: readonly (readonly MadeEntry[])[];
  /** What was written outside PostgreSQL, for the transaction that commits the versions. */
  readonly write?: KeptWrite;
  readonly audit: readonly AuditEntry[];
  /** The versions were not committed. Does not throw. */
  release(): Promise<void>;
}

/** Some entries of a version that is stored. */
export interface SealedValues {
  readonly record: SecretRecord;
  readonly digester: Digester;
  readonly entries: readonly EntryDigest[];
  /** What is sealed into the version, by key; whatever is not returned is disposed of. */
  readonly sealed: ReadonlyMap<string, Sensitive>;
  readonly actor: Actor | undefined;
}

export interface ValueStorage {
  /** Of the Key Vault that has the values; absent: PostgreSQL has them. */
  readonly vaultUrl?: string;
  /** Before the commit. */
  store(writer: Writer | Unled, next: NextValues): Promise<StoredValues>;
  read(values: SealedValues): Promise<ReadonlyMap<string, Sensitive>>;
}

/** Where the values of a secret belong. Throws `Stalled` or `Waiting` while that cannot be told. */
export type StorageOf = (identity: SecretIdentity) => Promise<ValueStorage>;

/** PostgreSQL: values are sealed into their version. */
export const sealedStorage: ValueStorage = {
  store: async (_writer, { versions }) => ({ versions, audit: [], release: async () => {} }),
  read: async ({ sealed }) => sealed,
};
