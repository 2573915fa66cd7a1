/** Who acts for each environment: read by every replica that answers a gateway, changed by the leader. */
import { failpoint } from "../failpoints.ts";
import { tampered } from "../pki/status.ts";
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import type { EnvironmentRecord, EnvironmentStore, Pair, Side, StoredEnvironment } from "../ports/environment-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { environmentMac, type FleetKeys, sameMac } from "./authenticity.ts";
import { fenced, paired, type Remembered, released, restored, settled, standingOn, switched } from "./environment.ts";
import type { Member } from "./member.ts";
import { LEASE_MS, type Standing, type StandingOf, UNKNOWN_EPOCH } from "./standing.ts";

export interface EnvironmentsParts {
  readonly store: EnvironmentStore;
  readonly keys: FleetKeys;
  /**
   * The newest epoch that somebody else than the store has of an environment: what is older was put back. Throws while it is not known.
   */
  readonly remembered?: (environment: string) => bigint | undefined;
  /** Told why nobody of an environment is granted anything, once until it is well again. */
  readonly onProblem?: (error: unknown, environment: string) => void;
}

/** What stands there, judged; `record` is undefined, and `generation` 0, when nothing was ever written. */
export interface EnvironmentState {
  readonly environment: string;
  readonly generation: bigint;
  readonly record: EnvironmentRecord | undefined;
  /** When that was so, by the store's clock. */
  readonly at: Date;
}

/** One that stands there. */
export interface KnownEnvironment extends EnvironmentState {
  readonly record: EnvironmentRecord;
}

/** For the audit record. */
interface Step {
  readonly action: AuditAction;
  readonly actor: Actor;
  readonly details?: AuditEntry["details"];
}

/** What an environment is looked at for when no gateway asks. */
const NO_GATEWAY = "00000000-0000-0000-0000-000000000000";

/**
 * Errors, common to all methods but `standing`: `Unavailable` with DatabaseUnavailable and TamperDetected; of those that write besides
 * `Conflict`, when somebody else wrote meanwhile, and `Fenced`.
 */
export class Environments {
  readonly #parts: EnvironmentsParts;
  /** Environments of which was told that they cannot be read. */
  readonly #told = new Set<string>();

  constructor(parts: EnvironmentsParts) {
    this.#parts = parts;
  }

  /** Never throws: where it is not known who acts, nobody is granted anything. */
  readonly standing: StandingOf = async (member: Member): Promise<Standing> => {
    const { environment } = member;
    try {
      const ground = await this.#parts.store.ground(member.gatewayId, environment);
      const record = ground.environment && this.#judged(environment, ground.environment);
      this.#assertNotOlder(environment, record);
      this.#told.delete(environment);
      return standingOn(record, ground, member);
    } catch (error) {
      if (!this.#told.has(environment)) this.#parts.onProblem?.(error, environment);
      this.#told.add(environment);
      return { active: false, environmentEpoch: UNKNOWN_EPOCH, leaseMs: LEASE_MS, actsFor: [] };
    }
  };

  async find(environment: string): Promise<EnvironmentState> {
    const { environment: stored, at } = await this.#parts.store.ground(NO_GATEWAY, environment);
    const generation = stored?.generation ?? 0n;
    return { environment, generation, record: stored && this.#judged(environment, stored), at };
  }

  /** By name. What was tampered with is left out, and told by whoever needs it. */
  async list(): Promise<readonly KnownEnvironment[]> {
    const { stored, at } = await this.#parts.store.environments();
    return stored
      .filter((each) => this.#isAuthentic(each))
      .map(({ record, generation }) => ({ environment: record.environment, generation, record, at }));
  }

  /** The two act in turn from now on. */
  async pair(writer: Writer, { environment, generation, record, at }: EnvironmentState, pair: Pair, actor: Actor) {
    const next = paired(environment, record, pair, at);
    return this.#write(writer, generation, next, at, { action: "EnvironmentPaired", actor, details: { ...pair } });
  }

  /** The store has forgotten what it said before, as after the restore of a backup. */
  async restore(
    writer: Writer,
    { environment, generation, record, at }: EnvironmentState,
    pair: Pair,
    remembered: Remembered,
    actor: Actor,
  ) {
    const next = restored(environment, record, pair, remembered, at);
    const details = { ...pair, knownEpoch: remembered.epoch.toString(), storedEpoch: `${record?.epoch ?? 0n}` };
    return this.#write(writer, generation, next, at, { action: "EnvironmentRestored", actor, details: details });
  }

  /** Each acts by its role again. */
  async release(writer: Writer, { generation, record, at }: KnownEnvironment, actor: Actor) {
    const next = released(record, at);
    return this.#write(writer, generation, next, at, {
      action: "EnvironmentReleased",
      actor,
      details: { ...record.pair },
    });
  }

  /** Nobody acts any more, until `fence` says when the other side may. */
  async switch(
    writer: Writer,
    { generation, record, at }: KnownEnvironment,
    to: Side,
    failover: NonNullable<EnvironmentRecord["failover"]>,
    actor: Actor,
    details: AuditEntry["details"],
  ) {
    const next = switched(record, to, failover, at);
    failpoint("failover.beforeSwitch");
    const written = await this.#write(writer, generation, next, at, {
      action: "FailoverBegun",
      actor,
      details: details,
    });
    failpoint("failover.afterSwitch");
    return written;
  }

  /** From when on the side in charge may act: counted from a moment at which nobody can have seen any more what stood before. */
  async fence(writer: Writer, environment: string, actor: Actor): Promise<EnvironmentState> {
    // Read here, and not given: what was read before the switch was written has its time from before too.
    const state = await this.find(environment);
    const { generation, record, at } = state;
    if (record === undefined || record.fencedUntil !== undefined) return state;
    const next = fenced(record, at);
    const details = { until: next.fencedUntil?.toISOString() ?? "" };
    const written = await this.#write(writer, generation, next, at, {
      action: "FailoverFenced",
      actor,
      details: details,
    });
    failpoint("failover.afterFence");
    return written;
  }

  /** The fence is over, and the side in charge may act: puts that on record. */
  async settle(writer: Writer, { generation, record, at }: KnownEnvironment, actor: Actor) {
    const next = settled(record);
    failpoint("failover.beforeCompletion");
    const written = await this.#write(writer, generation, next, at, { action: "FailoverCompleted", actor });
    failpoint("failover.afterCompletion");
    return written;
  }

  async #write(
    writer: Writer,
    before: bigint,
    record: EnvironmentRecord,
    at: Date,
    { action, actor, details }: Step,
  ): Promise<KnownEnvironment> {
    const { environment, active, epoch, failover } = record;
    const mac = environmentMac(this.#parts.keys, record, before + 1n);
    const state = { active, epoch: epoch.toString(), ...(failover && { failover: failover.name }) };
    const audit = environmentEntry(action, environment, actor, { ...state, ...details });
    await this.#parts.store.write(writer, before, record, mac, [audit]);
    return { environment, generation: before + 1n, record, at };
  }

  #judged(environment: string, stored: StoredEnvironment): EnvironmentRecord {
    if (stored.record.environment === environment && this.#isAuthentic(stored)) return stored.record;
    throw tampered(`the state of environment ${environment} does not match its MAC`);
  }

  #assertNotOlder(environment: string, record: EnvironmentRecord | undefined): void {
    const known = this.#parts.remembered?.(environment);
    const epoch = record?.epoch ?? 0n;
    if (known !== undefined && epoch < known)
      throw tampered(`environment ${environment} is said to be in epoch ${epoch}, and was in ${known} before`);
  }

  #isAuthentic({ record, generation, mac }: StoredEnvironment): boolean {
    return sameMac(environmentMac(this.#parts.keys, record, generation), mac);
  }
}

/** How environments stand in the audit record. */
export const environmentEntry = (
  action: AuditAction,
  environment: string,
  actor: Actor,
  details: AuditEntry["details"] = {},
  outcome: AuditEntry["outcome"] = "Success",
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "GatewayEnvironment", id: environment, name: environment },
  outcome,
  details,
});
