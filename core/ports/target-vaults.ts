/**
 * How the sync engine comes to a `TargetVault`. Vaults with the same URL share one call budget and one circuit breaker,
 * whichever KeyVault resource opened them.
 */
import type { Sensitive } from "../sensitive.ts";
import type { TargetVault } from "./target-vault.ts";

/** Everything that gets an identity into a vault, already read from where it stands. */
export type OwnVaultAuth =
  | {
      readonly kind: "ClientSecret";
      readonly tenantId: string;
      readonly clientId: string;
      readonly secret: Sensitive;
      /** Changes with the core Secret that holds the credential: its UID and resourceVersion. */
      readonly sourceVersion: string;
    }
  | {
      readonly kind: "ClientCertificate";
      readonly tenantId: string;
      readonly clientId: string;
      /** Certificate and private key, one after the other. */
      readonly pem: Sensitive;
      readonly sourceVersion: string;
    }
  | {
      readonly kind: "WorkloadIdentity";
      readonly tenantId: string;
      readonly clientId: string;
      /** UID of the ServiceAccount: another one means another credential. */
      readonly serviceAccount: string;
      /** A fresh token of the ServiceAccount for Entra ID. `Stalled` and `Unavailable` that it throws reach the caller. */
      token(signal?: AbortSignal): Promise<string>;
    }
  | { readonly kind: "ManagedIdentity"; readonly clientId?: string };

/** A gateway makes the calls, with its managed identity; only at the primary. */
export interface GatewayVaultAuth {
  readonly kind: "Gateway";
  readonly gateway: string;
  readonly clientId?: string;
  /** Gateway environments whose work it is; the gateway must work for one of them. */
  readonly environments: readonly string[];
}

export type VaultAuth = OwnVaultAuth | GatewayVaultAuth;

export const DEFAULT_CALLS_PER_10_SECONDS = 400;

export interface VaultAccess {
  /** UID of the KeyVault resource: a later `open` with the same UID replaces what it said before. */
  readonly uid: string;
  readonly url: string;
  readonly auth: VaultAuth;
  /** 400 when absent. Where several resources name one vault, the largest bounds the vault and each its own calls. */
  readonly callsPer10Seconds?: number;
}

/** A person's change goes before a periodic look when the budget is short. */
export type Priority = "Change" | "Look";

export interface VaultState {
  readonly url: string;
  readonly breaker: "Closed" | "Open" | "HalfOpen";
  readonly callsInWindow: number;
  readonly limit: number;
  /** Calls that wait for the budget. */
  readonly waiting: number;
  /** Milliseconds until the service wants to hear from us again; 0 when it did not say. */
  readonly pausedMs: number;
  /** Calls that it has refused for want of rights, or for where they came from, since this program uses it. */
  readonly denied: number;
}

export interface TargetVaults {
  /**
   * Makes no request. Throws `Stalled` with VaultHostNotAllowed or CredentialInvalid.
   *
   * @param beforeRequest called right before each request goes out; what it throws reaches the caller, and the request does not go
   */
  open(access: VaultAccess, priority: Priority, beforeRequest?: () => void): TargetVault;
  /** The KeyVault resource is gone: its credential, tokens and say in the budget are dropped. */
  forget(uid: string): void;
  /** This replica does not lead any more, and will not see which resources go. */
  forgetAll(): void;
  /** One for each vault URL that a resource opened, in the order of their first use. */
  states(): readonly VaultState[];
  close(): Promise<void>;
}

/** One spelling per vault: lower case, one slash at the end. */
export function normalVaultUrl(url: string): string {
  return `${url.toLowerCase().replace(/\/+$/, "")}/`;
}
