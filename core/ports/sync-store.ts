/**
 * What the platform remembers of each pair (entry of a secret, entry of a target): what was meant (intent, recorded
 * before the call) and what came of it (outcome). After a crash at any point the engine compares both with the target
 * and finishes. Writes are fenced by the leader's epoch as in `vault-store.ts`.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { EntryDigest, Writer } from "./vault-store.ts";

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
  readonly outcome?: {
    readonly version: number;
    readonly fingerprint: string;
    readonly targetVersion: string;
    readonly targetUpdatedOn: Date;
    /** See `PulledItem`; what is recorded by `recordOutcome` is not. */
    readonly settled: boolean;
  };
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
   * was read `readMsAgo` milliseconds ago; whether that settles it is the store's to say. Throws `NameTaken`.
   */
  recordAgreement(writer: Writer, item: SyncItem, readMsAgo: number): Promise<void>;
  /** Forgets items of the rule (its scope no longer has them); nothing is deleted in the target. */
  forget(writer: Writer, ruleUid: string, keys: readonly ItemKey[]): Promise<void>;
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
