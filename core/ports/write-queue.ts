/**
 * At a gateway: writes on their way to the primary, in the order in which they were accepted. Values are sealed. What was accepted
 * is there until it was settled, and for days afterwards, since a primary that is restored from a backup gets it again; of what was
 * refused only the record stays, since it is never sent again.
 * `fake-write-queue.ts` is the in-memory fake; it and the adapter pass `write-queue.contract.ts`.
 *
 * Times are by the store's own clock, and told as how long ago they were.
 */
import type { WriteAuthor, WriteOutcome } from "../fleet/writes.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { Writer } from "./vault-store.ts";

/** Values under a data key of their own, which the key `keyId` wraps. */
export interface SealedValues {
  readonly wrappedKey: Buffer;
  readonly keyId: string;
  readonly ciphertext: Buffer;
}

export interface WritePlace {
  readonly namespace: string;
  readonly name: string;
}

/** Which secret of the primary is meant, whatever stands at its place later. */
export interface WrittenIdentity {
  /** UUID of its row at the primary. */
  readonly id: string;
  readonly project: string;
  readonly environment: string;
  readonly namespaceUid: string;
}

/** For whom writes are: as whose gateway they were accepted, and of which primary. Nobody else gets them. */
export interface WriteRecipient {
  readonly gatewayEnvironment: string;
  /** SHA-256 of the SubjectPublicKeyInfo of the primary's root, 32 bytes. */
  readonly rootDigest: Buffer;
}

export interface NewQueuedWrite {
  /** UUID. */
  readonly id: string;
  readonly recipient: WriteRecipient;
  readonly place: WritePlace;
  readonly secret: WrittenIdentity;
  readonly baseVersion: number;
  readonly author: WriteAuthor;
  /** Tells the author from every other one, also from a later one of that name. */
  readonly writer: string;
  /** Keyed digest of what was asked for, 32 bytes. */
  readonly fingerprint: Buffer;
  readonly sealed: SealedValues;
}

export type QueuedWriteState = "Waiting" | WriteOutcome["kind"];

/** As it can be told without its values. */
export interface QueuedWrite extends Omit<NewQueuedWrite, "sealed"> {
  readonly sequence: bigint;
  /** The write of the same secret before it that waited or was applied when this one came. */
  readonly follows: string | undefined;
  readonly ageMs: number;
  readonly state: QueuedWriteState;
  /** Undefined while it waits. */
  readonly outcome: WriteOutcome | undefined;
  readonly settledForMs: number | undefined;
}

export interface WaitingWrite extends QueuedWrite {
  readonly sealed: SealedValues;
}

export interface Settlement {
  readonly id: string;
  readonly outcome: WriteOutcome;
}

export interface WriteQueueLength {
  /** Writes that wait for this recipient. */
  readonly waiting: number;
  /** Writes that wait for other ones, and go nowhere while this one is the recipient. */
  readonly stranded: number;
  /** Of the one that waits longest, in milliseconds; undefined when none does. */
  readonly oldestAgeMs: number | undefined;
  /** Writes that were refused, and are not forgotten yet. */
  readonly refused: number;
}

export interface WriteQueue {
  /**
   * Accepts a write, by whichever replica, with its audit rows. Known: there is one of this id already, and nothing is changed.
   * Full: so many wait for its recipient already, and nothing is changed.
   */
  accept(write: NewQueuedWrite, most: number, audit: readonly AuditEntry[]): Promise<"Accepted" | "Known" | "Full">;
  find(id: string): Promise<QueuedWrite | undefined>;
  /** Newest first, below `before`; of one writer when `writer` is given. */
  list(
    of: { readonly writer?: string; readonly state?: QueuedWriteState },
    before: bigint | undefined,
    limit: number,
  ): Promise<readonly QueuedWrite[]>;
  /** Without a recipient: whomever they are for, and none is stranded. */
  length(recipient: WriteRecipient | undefined): Promise<WriteQueueLength>;
  /** Those that wait for it, in order, without those of these places: as many as `limit` and, but for the first, `bytes` of values allow. */
  waiting(
    recipient: WriteRecipient,
    limit: number,
    bytes: number,
    except: readonly WritePlace[],
  ): Promise<readonly WaitingWrite[]>;
  /** What the primary answered at once; those that do not wait stay as they are. Fenced. */
  settle(writer: Writer, settlements: readonly Settlement[], audit: readonly AuditEntry[]): Promise<void>;
  /** Ids of those with an effect at it (Applied, KeptBeside) that can be sent again, those that were settled last first. */
  lastSettled(recipient: WriteRecipient, limit: number): Promise<readonly string[]>;
  /** The same, all of them, in the order in which they were accepted, in pages behind a sequence number. */
  settled(
    recipient: WriteRecipient,
    after: bigint | undefined,
    limit: number,
  ): Promise<readonly Pick<QueuedWrite, "id" | "sequence">[]>;
  /** Has these wait again, in their old place. Fenced. */
  requeue(writer: Writer, ids: readonly string[], audit: readonly AuditEntry[]): Promise<void>;
  /** Clears the values of what was settled, which then is never sent again; returns of how many. Fenced. */
  clearSettled(writer: Writer, limit: number): Promise<number>;
  /** Deletes what was settled longer ago; returns how much. Fenced. */
  forget(writer: Writer, olderThanMs: number, limit: number): Promise<number>;
}
