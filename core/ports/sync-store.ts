/**
 * What the platform remembers of each pair (entry of a secret, entry of a target): what was meant (intent, recorded
 * before the call) and what came of it (outcome). After a crash at any point the engine compares both with the target
 * and finishes. Writes are fenced by the leader's epoch as in `vault-store.ts`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { EntryDigest, SecretState, Writer } from "./vault-store.ts";

export interface ItemKey {
  readonly secretId: string;
  readonly key: string;
  /** URL of the vault in lower case with a slash at its end. */
  readonly vaultUrl: string;
  /** Name of the entry in the vault; Key Vault ignores case, so it is compared in lower case. */
  readonly entryName: string;
}

export interface SyncItem extends ItemKey {
  /** UID of the rule that writes it. */
  readonly ruleUid: string;
  readonly intent?: { readonly id: string; readonly version: number; readonly fingerprint: string; readonly at: Date };
  /** The target's value that was about to be taken over, and when it was set; ended by any outcome. */
  readonly taking?: { readonly fingerprint: string; readonly clock: number };
  readonly outcome?: {
    readonly version: number;
    readonly fingerprint: string;
    readonly targetVersion: string;
    readonly targetUpdatedOn: Date;
    /** See `PulledItem`; what is recorded by `recordOutcome` is not. */
    readonly settled: boolean;
    /**
     * When the value was set, see `core/sync/clock.ts`. It never goes back: a lower one, or none, leaves what is there.
     */
    readonly clock?: number;
  };
  /** Since when it is to be deleted in the target, which is on record; what is written to it ends that. */
  readonly deletingAt?: Date;
}

/** What became of a secret that something is remembered of. */
export interface Ending {
  readonly secretId: string;
  /** Absent when it was purged and nothing says that it was deleted. */
  readonly secretName?: string;
  /** Absent when it was purged. */
  readonly state?: SecretState;
  /** Of the current version. */
  readonly keys: readonly string[];
  /** Evidence of deletion, as long as nothing refutes it. */
  readonly tombstones: readonly Tombstone[];
}

export interface Tombstone {
  /** That was taken out of the manifest; absent: the Secret was deleted. */
  readonly key?: string;
  /** By the store's clock, in milliseconds. */
  readonly age: number;
}

/** What is remembered of a rule itself. */
export interface RuleRecord {
  /** A digest of what it covers, and under which names. */
  readonly scope: string;
  /** The release that was handled last, see `limits.ts`. */
  readonly release?: string;
  /** What was released and not done yet. */
  readonly approved: readonly string[];
}

/** An entry of a current, active version, as a rule sees it. */
export interface SourceEntry extends EntryDigest {
  readonly secretId: string;
  readonly secretName: string;
  readonly version: number;
}

export interface SyncStore {
  /** Entries of all active secrets of one namespace in a project and environment; `names` narrows, absent means all. */
  sources(scope: {
    project: string;
    environment: string;
    namespace: string;
    namespaceUid: string;
    names?: readonly string[];
  }): Promise<readonly SourceEntry[]>;
  /** All items that the rule wrote or meant to write. */
  items(ruleUid: string): Promise<readonly SyncItem[]>;
  /** Who holds these entry names of the vault, whichever rule it was; a secret that was purged holds none. */
  holders(vaultUrl: string, entryNames: readonly string[]): Promise<readonly SyncItem[]>;
  /**
   * Records the intent and so claims the entry name for this secret and key. Throws `NameTaken` when another secret or
   * key holds the name; a rule may take over an item of the same secret and key, keeping its outcome. The claim of a
   * secret that was purged is void.
   */
  recordIntent(writer: Writer, item: SyncItem): Promise<void>;
  /**
   * Records the outcome, clears the intent, and inserts the audit rows, in one transaction. Throws `Conflict` when this
   * secret and key do not hold the name.
   */
  recordOutcome(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void>;
  /**
   * Records that both sides have the same value: claims the name as `recordIntent` does, and ends an intent. The target
   * was read `readMsAgo` milliseconds ago, and whether that settles it is the store's to say; undefined: the target's own
   * clock has said it. Throws `NameTaken`.
   */
  recordAgreement(writer: Writer, item: SyncItem, readMsAgo: number | undefined): Promise<void>;
  /**
   * Records that a value of the target is about to become one of the platform: claims the name as `recordIntent` does. Who
   * finds that value here, and no outcome, knows that nobody made it here. Throws `NameTaken`.
   */
  recordTaking(writer: Writer, item: SyncItem): Promise<void>;
  /** Forgets items of the rule (its scope no longer has them); nothing is deleted in the target. */
  forget(writer: Writer, ruleUid: string, keys: readonly ItemKey[]): Promise<void>;
  /** In the order of their ids, once each. */
  endings(secretIds: readonly string[]): Promise<readonly Ending[]>;
  /**
   * Records that the entry is to be deleted in the target, with the audit rows, which stand for every attempt. Throws
   * `Conflict` when the rule does not hold it, or nothing proves any more that its secret or key was deleted.
   */
  recordDeletion(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void>;
  rule(ruleUid: string): Promise<RuleRecord | undefined>;
  recordRule(writer: Writer, ruleUid: string, record: RuleRecord, audit: readonly AuditEntry[]): Promise<void>;
  /** What was pulled into these secrets, by whichever rule, and all that this rule pulled. */
  pulled(ruleUid: string, secretIds: readonly string[]): Promise<readonly PulledItem[]>;
  /**
   * Records what the rule took over, in place of what stood there, and read `readMsAgo` milliseconds ago. A secret that
   * was purged meanwhile is passed over.
   */
  recordPulled(writer: Writer, items: readonly Omit<PulledItem, "settled">[], readMsAgo: number): Promise<void>;
  forgetPulled(writer: Writer, ruleUid: string, keys: readonly Pick<PulledItem, "secretId" | "key">[]): Promise<void>;
}

/** What a rule with direction Pull last took over: for each entry of a secret at most one. */
export interface PulledItem {
  readonly secretId: string;
  readonly key: string;
  readonly ruleUid: string;
  readonly vaultUrl: string;
  /** As it is called in the vault, in lower case. */
  readonly entryName: string;
  /** Of the value that both sides had then. */
  readonly fingerprint: string;
  readonly targetVersion: string;
  readonly targetUpdatedOn: Date;
  /**
   * Key Vault's times have whole seconds, so an edit in the second of the one that was taken cannot be told by its time.
   * True once it was read again, unchanged, a second or more after it was recorded.
   */
  readonly settled: boolean;
}

export class NameTaken extends Error {
  readonly holder: Pick<SyncItem, "secretId" | "key" | "ruleUid">;
  constructor(entryName: string, holder: Pick<SyncItem, "secretId" | "key" | "ruleUid">) {
    super(`the vault entry ${entryName} is already written for another secret or key`);
    this.name = "NameTaken";
    this.holder = holder;
  }
}
