/**
 * What a gateway holds of its primary: items (`core/fleet/replica-item.ts`), the values of secrets among them sealed by its own
 * keys, and a state that says which items are all of them and since when. Every replica reads it, only the leader writes: fenced by
 * its epoch as in `vault-store.ts`. What is read is not yet judged. `fake-replica-store.ts` is the in-memory fake; it and the
 * adapter pass `replica-store.contract.ts`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { SealedKey } from "./pki-store.ts";
import type { Writer } from "./vault-store.ts";

export interface ReplicaState {
  /** Grows by one with each write, from 1; also over a wipe. */
  readonly revision: bigint;
  /** UUID: as which gateway, and of which environment, it got all this. */
  readonly gatewayId: string;
  readonly environment: string;
  /** Over all items, 32 bytes. */
  readonly digest: Buffer;
  /** When the primary was last known to have nothing else, by this gateway's clock, in whole milliseconds; undefined: it never was. */
  readonly syncedAt: Date | undefined;
  readonly mac: Buffer;
}

export interface StoredItem {
  readonly key: string;
  readonly body: string;
  /** Whether its values are here, of a secret. */
  readonly valued: boolean;
}

export interface NewItem {
  readonly key: string;
  readonly body: string;
  /** Absent where there are none, or not yet. */
  readonly values?: SealedKey;
}

export interface ReplicaChange {
  readonly put: readonly NewItem[];
  readonly remove: readonly string[];
}

export interface ReplicaStore {
  /** The state, and the items that were written since that revision, of one moment; all of them since 0. Undefined: there is none. */
  read(since: bigint): Promise<{ readonly state: ReplicaState; readonly items: readonly StoredItem[] } | undefined>;
  /** An item with its values; undefined when there is no such item, or it has none. */
  values(key: string): Promise<{ readonly body: string; readonly values: SealedKey } | undefined>;
  /** The highest revision that was ever written; 0: none. */
  revision(): Promise<bigint>;
  /**
   * Writes the state, whose revision follows the one that was read (0: there never was any), with the items that change, and the
   * audit rows; throws `Conflict` when another one stands there, and `Fenced`.
   */
  write(writer: Writer, state: ReplicaState, change: ReplicaChange, audit: readonly AuditEntry[]): Promise<void>;
  /** Everything goes, with the audit rows. Throws `Fenced`. */
  wipe(writer: Writer, audit: readonly AuditEntry[]): Promise<void>;
}
