/** All vaults of the process: one lane per URL, one client per KeyVault resource. */
import { randomUUID } from "node:crypto";
import type { CallLedger } from "../../core/ports/call-ledger.ts";
import type { TargetVault } from "../../core/ports/target-vault.ts";
import {
  DEFAULT_CALLS_PER_10_SECONDS,
  normalVaultUrl,
  type Priority,
  type TargetVaults,
  type VaultAccess,
  type VaultState,
} from "../../core/ports/target-vaults.ts";
import { CallBudget } from "../../core/sync/budget.ts";
import type { BreakerOptions } from "./breaker.ts";
import { type ConnectionOptions, Connections } from "./connection.ts";
import { credentialKey, makeCredential, ownAuth } from "./credentials.ts";
import { allowedHost } from "./hosts.ts";
import { type AzureCall, Lane, type LaneOptions } from "./lane.ts";
import { VaultClient } from "./target.ts";

export type { AzureCall } from "./lane.ts";

/** Settings of the installation. Times are in milliseconds; defaults stand behind each. */
export interface KeyVaultOptions extends ConnectionOptions {
  /** Hosts beyond Azure's clouds, exact or with `*.` for one label. */
  readonly allowedHosts?: readonly string[];
  /** `https://login.microsoftonline.com` */
  readonly authorityHost?: string;
  readonly disableInstanceDiscovery?: boolean;
  /** Of a KeyVault that names no managed identity; the system-assigned one. */
  readonly managedIdentityClientId?: string;
  /** 10 s */
  readonly requestTimeoutMs?: number;
  /** 30 s */
  readonly budgetWaitMs?: number;
  /** 5 failures in a row, a probe every 10 s */
  readonly breaker?: BreakerOptions;
  readonly onCall?: (call: AzureCall) => void;
  /** Its identities need to read and no more, which is what a refusal then advises. */
  readonly readsOnly?: boolean;
  /** What all processes share of the vaults' budgets; without it this process has them alone. */
  readonly ledger?: CallLedger;
}

interface Member {
  readonly lane: Lane;
  readonly client: VaultClient;
  readonly credentialKey: string;
  readonly budget: CallBudget;
}

export class KeyVaults implements TargetVaults {
  readonly #options: Required<
    Pick<KeyVaultOptions, "allowedHosts" | "requestTimeoutMs" | "budgetWaitMs" | "breaker" | "onCall" | "readsOnly">
  > &
    Pick<KeyVaultOptions, "authorityHost" | "disableInstanceDiscovery" | "managedIdentityClientId">;
  readonly #shared: LaneOptions["shared"];
  readonly #connections: Connections;
  readonly #lanes = new Map<string, Lane>();
  readonly #members = new Map<string, Member>();

  constructor(options: KeyVaultOptions = {}) {
    this.#options = {
      allowedHosts: [],
      requestTimeoutMs: 10_000,
      budgetWaitMs: 30_000,
      breaker: { failures: 5, probeAfterMs: 10_000 },
      onCall: () => undefined,
      readsOnly: false,
      ...options,
    };
    this.#shared = options.ledger && { ledger: options.ledger, holder: randomUUID() };
    this.#connections = new Connections(options);
  }

  open(access: VaultAccess, priority: Priority, beforeRequest?: () => void): TargetVault {
    const url = normalVaultUrl(access.url);
    const { custom } = allowedHost(url, this.#options.allowedHosts);
    const known = this.#members.get(access.uid);
    const here = known?.lane.url === url ? known : undefined;
    const auth = ownAuth(access.auth);
    const key = credentialKey(auth);
    const calls = access.callsPer10Seconds ?? DEFAULT_CALLS_PER_10_SECONDS;
    if (here?.credentialKey !== key) {
      const credential = makeCredential(auth, this.#connections.httpClient, this.#options);
      const lane = this.#lane(url, calls);
      const budget = here?.budget ?? new CallBudget(calls, this.#options.budgetWaitMs);
      const client = new VaultClient(lane, credential, budget, {
        customHost: custom,
        readsOnly: this.#options.readsOnly,
      });
      this.#members.set(access.uid, { lane, client, credentialKey: key, budget });
      if (known !== undefined && here === undefined) this.#leave(known.lane);
    }
    const member = this.#member(access.uid);
    if (member.budget.limit !== calls || here === undefined) {
      member.budget.limit = calls;
      this.#limit(member.lane);
    }
    return member.client.at(priority, beforeRequest);
  }

  forget(uid: string): void {
    const member = this.#members.get(uid);
    this.#members.delete(uid);
    if (member !== undefined) this.#leave(member.lane);
  }

  forgetAll(): void {
    this.#members.clear();
    this.#sweep();
  }

  states(): readonly VaultState[] {
    const used = this.#sweep();
    return [...this.#lanes.values()].filter((lane) => used.has(lane)).map((lane) => lane.state);
  }

  async close(): Promise<void> {
    this.#members.clear();
    this.#lanes.clear();
    this.#connections.close();
  }

  #member(uid: string): Member {
    const member = this.#members.get(uid);
    if (member === undefined) throw new Error(`the KeyVault ${uid} was not opened`);
    return member;
  }

  #lane(url: string, calls: number): Lane {
    let lane = this.#lanes.get(url);
    if (lane === undefined) {
      lane = new Lane(url, calls, this.#connections.httpClient, {
        ...this.#options,
        ...(this.#shared && { shared: this.#shared }),
      });
      this.#lanes.set(url, lane);
    }
    return lane;
  }

  /**
   * The largest wish bounds the vault as a whole, each wish its own resource: a tenant that asks for little must not
   * slow down another one who uses the same vault.
   */
  #limit(lane: Lane): void {
    const wishes = [...this.#members.values()].filter((each) => each.lane === lane).map((each) => each.budget.limit);
    if (wishes.length > 0) lane.budget.limit = Math.max(...wishes);
  }

  #leave(lane: Lane): void {
    this.#limit(lane);
    this.#sweep();
  }

  /** Drops the lanes that nobody uses; the others. */
  #sweep(): ReadonlySet<Lane> {
    const used = new Set([...this.#members.values()].map((member) => member.lane));
    // A lane whose window still counts calls stays a while: made anew at once, it would allow them a second time.
    for (const [url, each] of this.#lanes) if (!used.has(each) && each.idle) this.#lanes.delete(url);
    return used;
  }
}
