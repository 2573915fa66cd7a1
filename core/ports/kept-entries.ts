/**
 * Entries of Key Vaults that have the only copy of a value (storage Orchestrator): which secret each belongs to, what is
 * being written to them, and what is still to be done there. PostgreSQL has names, never values.
 *
 * A write is on record before the vault is called, and ends in the transaction that commits the versions it was for
 * (`NewVersion.write`). One that never came to that is found by `unsettled`: the vault may be ahead of the platform. The
 * state of a secret decides what is wanted of its entries, in the same transaction: Active and Retained Kept, SoftDeleted
 * Deleted, purged Purged.
 */
import type { SecretIdentity, Unled, Writer } from "./vault-store.ts";

export interface EntryName {
  readonly key: string;
  /** As it is called in the vault; Key Vault ignores case. */
  readonly entryName: string;
}

export interface EntryWrite {
  readonly id: string;
  readonly secretId: string;
  readonly identity: SecretIdentity;
  /** See `ownerOf`. */
  readonly owner: string;
  readonly vaultUrl: string;
  readonly entries: readonly EntryName[];
  /** How long nobody else may write to them; a leader may at once what a former one began. */
  readonly leaseMs: number;
}

export interface KeptEntry extends EntryName {
  readonly vaultUrl: string;
  readonly owner: string;
  readonly secretId: string;
  readonly identity: SecretIdentity;
  readonly wanted: "Kept" | "Deleted" | "Purged";
  /** In the vault, of the value that was committed last; absent: none ever was. */
  readonly targetVersion?: string;
  /** Of a write that did not come to its commit. */
  readonly writeId?: string;
}

export interface KeptEntries {
  /**
   * Claims the names for this secret, and the right to write to them. Throws `EntryTaken` when another secret, or another
   * key of this one, has one of the names; `Conflict` while somebody else writes, and where the identity is stored under
   * another id; `Fenced`. What is wanted of an entry changes with the commit only.
   */
  begin(writer: Writer | Unled, write: EntryWrite): Promise<void>;
  /**
   * The write was given up, and nothing of it is under way any more: else its time ends it. `touched`: the vault may have been changed, so it stays on record; whoever comes next may take
   * over at once. What a secret before it left is still to be purged.
   */
  release(writeId: string, touched: boolean): Promise<void>;
  /** What is to be done in vaults but those of `except`, and by nobody at this time, at most `limit`: of each vault in turn. */
  unsettled(writer: Writer, limit: number, except?: readonly string[]): Promise<readonly KeptEntry[]>;
  /** The right to settle it, as by `begin`; false when somebody was faster. `Fenced`. */
  take(writer: Writer, entry: KeptEntry, takeId: string, leaseMs: number): Promise<boolean>;
  /** It is as wanted; one that was purged is forgotten. Nothing happens when the right was lost. */
  settled(writer: Writer, entry: KeptEntry, takeId: string): Promise<void>;
}

export class EntryTaken extends Error {
  readonly entryName: string;
  readonly holder: Pick<KeptEntry, "secretId" | "key">;
  constructor(entryName: string, holder: Pick<KeptEntry, "secretId" | "key">) {
    super(`the vault entry ${entryName} belongs to another secret or key`);
    this.name = "EntryTaken";
    this.entryName = entryName;
    this.holder = holder;
  }
}
