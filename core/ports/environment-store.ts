/**
 * Where the primary remembers which gateway of an environment acts. The platform's store is PostgreSQL; `fake-environment-store.ts`
 * is the in-memory fake, and both pass `environment-store.contract.ts`.
 *
 * Contract, common to all methods: as in `pki-store.ts`. Times are those of the store's own clock. MACs are kept and not judged here.
 */
import type { AuditEntry } from "./audit-log.ts";
import type { Writer } from "./vault-store.ts";

/** Which of the pair: the gateway with role `primary`, or the one with role `dr-standby`. */
export type Side = "Primary" | "Standby";

export interface Pair {
  /** Name of the GatewayEnvironment that says so. */
  readonly object: string;
  /** Names of the gateways. */
  readonly primary: string;
  readonly standby: string;
}

export interface EnvironmentRecord {
  /** Such as NPR. */
  readonly environment: string;
  /** Undefined when each of its gateways acts by its role. */
  readonly pair: Pair | undefined;
  readonly active: Side;
  /** One more with each change of who acts, from 1. */
  readonly epoch: bigint;
  /** When that changed. */
  readonly since: Date;
  /** Whatever was granted before is over by then; undefined while that is not known: nobody acts until it is. */
  readonly fencedUntil: Date | undefined;
  /** The Failover that changed it; undefined when something else did. */
  readonly failover: { readonly uid: string; readonly name: string } | undefined;
  /** That it is over is on record. */
  readonly settled: boolean;
}

export interface StoredEnvironment {
  readonly record: EnvironmentRecord;
  /** Grows with each write, from 1. */
  readonly generation: bigint;
  /** Authenticates both. */
  readonly mac: Buffer;
}

/** What decides whether a gateway may act. */
export interface Ground {
  /** Undefined when nothing was ever written for it. */
  readonly environment: StoredEnvironment | undefined;
  /**
   * When another process took the gateway's name over, by a new registration: until its own certificate counted, and what it was granted
   * was over, the former one may act. Undefined when there was none before.
   */
  readonly succeededAt: Date | undefined;
  /** When this was so. */
  readonly at: Date;
}

export interface EnvironmentStore {
  /** Of a gateway of this environment; one statement that writes nothing. */
  ground(gatewayId: string, environment: string): Promise<Ground>;
  /** By environment, and when that was so. */
  environments(): Promise<{ readonly stored: readonly StoredEnvironment[]; readonly at: Date }>;
  /**
   * Puts the record in place of the one of that generation (0: there is none) and inserts the audit rows, in one transaction.
   * Whatever `ground` is asked for afterwards sees it. Throws `Conflict` when another one stands there, and `Fenced`.
   *
   * @param mac covers `before + 1`
   */
  write(
    writer: Writer,
    before: bigint,
    record: EnvironmentRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void>;
}
