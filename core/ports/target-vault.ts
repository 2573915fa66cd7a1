/**
 * One Azure Key Vault as the sync engine needs it. Every request it makes takes part in the vault's call budget, and it
 * never repeats a write by itself: after `Ambiguous` the engine looks first.
 *
 * Errors, common to all: `Unavailable` with VaultUnreachable, BudgetExhausted or IdentityUnavailable; `Throttled`;
 * `Stalled` with AccessDenied, CredentialInvalid or VaultHostNotAllowed. They concern the vault as a whole. What
 * concerns one entry is part of the result, or `Stalled` with ValueInvalid. Messages carry the service's error code and
 * request id, never a value. Aborting `signal` rejects with the signal's reason.
 */
import { Unavailable } from "../errors.ts";
import type { Sensitive } from "../sensitive.ts";

/** What a list page tells of an entry; Key Vault's times have whole seconds. */
export interface VaultEntryProperties {
  readonly name: string;
  readonly enabled: boolean;
  readonly updatedOn: Date;
  readonly contentType?: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface VaultEntry extends VaultEntryProperties {
  /** 32 hex digits. */
  readonly version: string;
  readonly value: Sensitive;
  /** When this version, and so its value, was made; whole seconds. Another tag does not change it. */
  readonly createdOn: Date;
  /** What the service's clock said when it answered, in whole seconds; absent when something on the way left it out. */
  readonly asOf?: Date;
}

/** A version as a list of them tells of it. */
export interface VaultVersion {
  /** 32 hex digits. */
  readonly version: string;
  readonly createdOn: Date;
  readonly enabled: boolean;
  readonly tags: Readonly<Record<string, string>>;
}

export type EntryState =
  /** `asOf` as of an entry. */
  | { readonly kind: "Absent"; readonly asOf?: Date }
  | { readonly kind: "Present"; readonly entry: VaultEntry }
  /** The version was disabled by somebody; the service refuses to show it. */
  | { readonly kind: "Disabled" };

export interface SetRequest {
  readonly name: string;
  readonly value: Sensitive;
  readonly tags: Readonly<Record<string, string>>;
  readonly contentType?: string;
}

export type SetResult =
  | { readonly kind: "Written"; readonly version: string; readonly updatedOn: Date }
  /** The name is soft-deleted; recover it first. */
  | { readonly kind: "SoftDeleted" }
  /** It is being deleted, recovered or purged; look again later. */
  | { readonly kind: "InTransition" };

export type DeleteResult =
  /** It can be recovered, for as long as the vault keeps what is deleted. */
  | { readonly kind: "Deleted" }
  /** There is no such entry, or it was deleted already. */
  | { readonly kind: "Absent" }
  /** It is being deleted, recovered or purged; look again later. */
  | { readonly kind: "InTransition" };

export type PurgeResult =
  /** Nothing of it is there, or soon will be. */
  | "Purged"
  /** The vault protects what is deleted, or the identity may not; the vault's own time ends it. */
  | "Refused"
  /** It is being deleted or recovered; look again later. */
  | "InTransition";

export interface TargetVault {
  /** Lower case, one slash at the end. */
  readonly url: string;
  /** Current entries in pages, as the service hands them out (at most 25 each, also none). */
  list(signal: AbortSignal): AsyncIterable<readonly VaultEntryProperties[]>;
  /** A version with its value; the current one when `version` is absent. A soft-deleted entry is Absent. */
  get(name: string, signal: AbortSignal, version?: string): Promise<EntryState>;
  /** All versions of an entry, in no order; a call for each 25. Of one that is absent: none. */
  listVersions(name: string, signal: AbortSignal): Promise<readonly VaultVersion[]>;
  /** Makes a new version. Throws `Ambiguous` when it is unknown whether the service acted. */
  set(request: SetRequest, signal: AbortSignal): Promise<SetResult>;
  /** Tags of a soft-deleted entry; undefined when there is none. */
  getDeleted(name: string, signal: AbortSignal): Promise<VaultEntryProperties | undefined>;
  /** Soft delete of all versions, never a purge. Harmless to repeat: what was carried out already is Absent. */
  delete(name: string, signal: AbortSignal): Promise<DeleteResult>;
  /** Starts recovery; the entry appears some seconds later. Harmless to repeat. */
  recover(name: string, signal: AbortSignal): Promise<void>;
  /** Ends what was deleted for good. */
  purge(name: string, signal: AbortSignal): Promise<PurgeResult>;
}

/** The connection ended, timed out or answered 5xx after a write was sent: it may or may not have been carried out. */
export class Ambiguous extends Error {
  readonly operation: string;
  readonly what: string;
  constructor(operation: string, what: string) {
    super(`no clear answer to ${operation} (${what}): it may or may not have been carried out`);
    this.name = "Ambiguous";
    this.operation = operation;
    this.what = what;
  }
}

/**
 * The service asked not to be called for a while. The message does not tell how long: it stands in status, which would
 * else be written anew with each attempt.
 */
export class Throttled extends Unavailable {
  readonly retryAfterMs: number;
  constructor(retryAfterMs: number) {
    super("VaultThrottled", "the vault throttles (429); it is left alone for as long as it asked, the rest follows");
    this.name = "Throttled";
    this.retryAfterMs = retryAfterMs;
  }
}
