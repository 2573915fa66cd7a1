/**
 * Which cluster the database belongs to, and which objects of this cluster stand for objects of another one. The platform's store is
 * PostgreSQL; `fake-home-store.ts` is the in-memory fake, and both pass `home-store.contract.ts`.
 *
 * Contract, common to all methods: as in `pki-store.ts`. MACs are kept and not judged here.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { Writer } from "./vault-store.ts";

/**
 * Settled: what the database knows of and the cluster does not have any more was deleted. Restored: a copy that nobody has taken over.
 * Adopted: taken over; what is missing may still come, so that nothing is ended because of it.
 */
export type HomeState = "Settled" | "Restored" | "Adopted";

export interface HomeRecord {
  /** UID of the cluster's namespace kube-system, by which clusters are told from each other. */
  readonly clusterUid: string;
  readonly state: HomeState;
}

export interface StoredHome {
  readonly record: HomeRecord;
  /** Grows with each write, from 1. */
  readonly generation: bigint;
  /** Authenticates both. */
  readonly mac: Buffer;
  /** The highest generation that the audit rows know. */
  readonly auditedGeneration: bigint;
}

/** What has a UID that stands under a MAC or in additional data, so that it cannot be written anew. */
export const boundKinds = ["Namespace", "Certificate", "CertificateRequest"] as const;
export type BoundKind = (typeof boundKinds)[number];

/** An object by its place; without a namespace it is one itself. */
export interface BoundPlace {
  readonly kind: BoundKind;
  /** Empty of a Namespace. */
  readonly namespace: string;
  readonly name: string;
}

export interface Binding extends BoundPlace {
  /** Under which the rows stand, and what is encrypted is bound to; never changes. */
  readonly heldUid: string;
  /** Of the object that stands for it here; undefined while there is none. */
  readonly uid: string | undefined;
}

export interface StoredBinding {
  readonly binding: Binding;
  readonly generation: bigint;
  readonly mac: Buffer;
  readonly auditedGeneration: bigint;
}

/** An object that rows stand for. */
export interface HeldObject extends BoundPlace {
  readonly heldUid: string;
  /** Under which the rows of its namespace stand; empty of a Namespace. */
  readonly namespaceUid: string;
  /** Something of it is in use: a namespace that was made anew has none left of the one before. */
  readonly inUse: boolean;
  /** The highest generation that the audit rows know of a binding of it, also of one that was forgotten; 0: it never had one. */
  readonly generation: bigint;
}

export interface HomeStore {
  home(): Promise<StoredHome | undefined>;
  /** Another one after each write, however cheap it is to ask for. */
  mark(): Promise<string>;
  /**
   * Puts the record in place of the one of that generation (0: there is none) and inserts the audit rows, in one transaction. What
   * becomes Settled forgets the bindings without an object. Throws `Conflict` when another one stands there, and `Fenced`.
   *
   * @param mac covers `before + 1`
   */
  writeHome(
    writer: Writer,
    before: bigint,
    record: HomeRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** By kind and UID. */
  bindings(): Promise<readonly StoredBinding[]>;
  /**
   * Each in place of the one of the generation before it, or where there is none; all of them or none. In their order: an object may stand
   * for another one where the binding before takes it from the one that it stood for. Throws `Conflict` and `Fenced`.
   */
  writeBindings(
    writer: Writer,
    bindings: readonly Omit<StoredBinding, "auditedGeneration">[],
    audit: readonly AuditEntry[],
  ): Promise<void>;
  /** Objects that rows stand for, by kind and UID, at most `limit` behind `after`. */
  heldObjects(after: Pick<HeldObject, "kind" | "heldUid"> | undefined, limit: number): Promise<readonly HeldObject[]>;
  /** SyncRules are known by other UIDs from now on; those that the store does not know are passed over. Throws `Fenced`. */
  renameRules(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void>;
  /** The same of AuditSinks, by their names. */
  renameSinks(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void>;
}
