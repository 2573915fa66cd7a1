/**
 * One Azure Key Vault as the sync engine needs it. Every method is one call to the service (paging apart), takes part
 * in the vault's call budget, and never repeats a write by itself: after `Ambiguous` the engine looks first.
 *
 * Errors, common to all: `Unavailable` with VaultThrottled, VaultUnreachable, BudgetExhausted or IdentityUnavailable;
 * `Stalled` with AccessDenied, CredentialInvalid. Messages carry the service's error code, never a value.
 */
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
}

export type EntryState =
  | { readonly kind: "Absent" }
  | { readonly kind: "Present"; readonly entry: VaultEntry }
  /** The current version was disabled by somebody; the service refuses to show it. */
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

export interface TargetVault {
  readonly url: string;
  /** Current entries in pages, as the service hands them out (at most 25 each). */
  list(signal: AbortSignal): AsyncIterable<readonly VaultEntryProperties[]>;
  /** The current version with its value. */
  get(name: string, signal: AbortSignal): Promise<EntryState>;
  /** Throws `Ambiguous` when it is unknown whether the service acted. */
  set(request: SetRequest, signal: AbortSignal): Promise<SetResult>;
  /** Tags of a soft-deleted entry; undefined when there is none. */
  getDeleted(name: string, signal: AbortSignal): Promise<VaultEntryProperties | undefined>;
  /** Starts recovery; the entry appears some seconds later. */
  recover(name: string, signal: AbortSignal): Promise<void>;
}

/** The connection ended, timed out or answered 5xx after a write was sent: it may or may not have been carried out. */
export class Ambiguous extends Error {
  constructor(operation: string, options?: { cause?: unknown }) {
    super(`no clear answer to ${operation}: it may or may not have been carried out`, options);
    this.name = "Ambiguous";
  }
}
