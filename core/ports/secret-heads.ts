/**
 * What is stored of secrets, as far as it tells whether a copy elsewhere is the same; for whoever follows all of them. Not judged:
 * who hands out a value verifies its record. `fake-vault-store.ts` has it in memory; it and the adapter pass
 * `secret-heads.contract.ts`.
 */
import type { SecretIdentity, SecretState } from "./vault-store.ts";

export interface SecretHead {
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly state: SecretState;
  readonly currentVersion: number;
  readonly generation: bigint;
  /** Of the current version, ordered by key; other values have others. */
  readonly fingerprints: readonly { readonly key: string; readonly fingerprint: string }[];
}

export interface SecretHeads {
  /** A position in the order of writes: what is written from now on is after it. */
  position(): Promise<bigint>;
  /** Everything, in pages by id. */
  list(after: string | undefined, limit: number): Promise<readonly SecretHead[]>;
  /**
   * What was written since, and perhaps more; what was purged is not in it. Undefined when the position is not of this
   * database, as after a restore: then only `list` tells.
   */
  changedSince(
    position: bigint,
  ): Promise<{ readonly heads: readonly SecretHead[]; readonly position: bigint } | undefined>;
}
