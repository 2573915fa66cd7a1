/**
 * Which gateway of an environment acts, and how that passes from one to the other. Pure.
 *
 *                   paired                        switched: epoch + 1
 *    (by role) --------------> settled <------+--------------------------> nobody acts
 *        ^                        |           |                                 | fenced: what was granted before is over at
 *        |       released         |           | settled: that is on record      v fencedUntil
 *        +------------------------+           +--------------------------- the other one acts from then on
 *
 * Nothing is written when somebody is granted something: whatever was granted before the switch was written is over `FENCE_MS` after a
 * moment that is known to be later, and that is written by a second step.
 */
import type { EnvironmentRecord, Ground, Pair, Side } from "../ports/environment-store.ts";
import type { GatewayRecord } from "../ports/fleet-store.ts";
import { isRegistered, lastHeartbeat } from "./health.ts";
import type { Member } from "./member.ts";
import type { GatewayRole } from "./protocol.ts";
import { LEASE_MS, type Standing } from "./standing.ts";

/** Clocks do not run alike to the last millisecond. */
const MARGIN_MS = 2_000;
/** After it a grant of before is over, wherever it was on its way. */
export const FENCE_MS = LEASE_MS + MARGIN_MS;
/** For so long a replica may let in whom another certificate has put out, see `admission.ts`; clocks of replicas differ besides. */
const ADMITTED_MS = 10_000;
const SUCCESSION_MS = ADMITTED_MS + LEASE_MS;

/** Also of an environment of which nothing was ever written. */
const FIRST_EPOCH = 1n;

export const ROLE_OF: Readonly<Record<Side, GatewayRole>> = { Primary: "primary", Standby: "dr-standby" };

export const otherSide = (side: Side): Side => (side === "Primary" ? "Standby" : "Primary");

export const gatewayOf = (pair: Pair, side: Side): string => (side === "Primary" ? pair.primary : pair.standby);

/** Whether what was granted before the last switch is over. */
export const isOpen = ({ fencedUntil }: EnvironmentRecord, at: Date): boolean =>
  fencedUntil !== undefined && fencedUntil <= at;

/** What is granted to a gateway at this moment. */
export function standingOn(
  record: EnvironmentRecord | undefined,
  { succeededAt, at }: Pick<Ground, "succeededAt" | "at">,
  member: Pick<Member, "name" | "role">,
): Standing {
  const succeeds = succeededAt !== undefined && succeededAt.getTime() + SUCCESSION_MS > at.getTime();
  const actsFor = succeeds ? [] : actingFor(record, at, member);
  return { active: actsFor.length > 0, environmentEpoch: record?.epoch ?? FIRST_EPOCH, leaseMs: LEASE_MS, actsFor };
}

function actingFor(
  record: EnvironmentRecord | undefined,
  at: Date,
  { name, role }: Pick<Member, "name" | "role">,
): readonly string[] {
  const byRole = role === "primary" ? [name] : [];
  if (record === undefined) return byRole;
  const { pair, active } = record;
  if (pair === undefined) return isOpen(record, at) ? byRole : [];
  if (name !== pair.primary && name !== pair.standby) return byRole;
  if (name !== gatewayOf(pair, active) || role !== ROLE_OF[active] || !isOpen(record, at)) return [];
  return [name, gatewayOf(pair, otherSide(active))];
}

/** What a GatewayEnvironment remembers of its environment; more than the store does when that was restored from a backup. */
export interface Remembered {
  readonly active: Side;
  readonly epoch: bigint;
}

const inOrder = (record: EnvironmentRecord): EnvironmentRecord => ({
  ...record,
  fencedUntil: undefined,
  settled: false,
});

/** No store that was put back has forgotten more changes than that. */
export const MOST_FORGOTTEN = 1_000_000n;

/**
 * The newest epoch that one of these gateways has been told of, where the store knows only older ones, as after the restore of a backup
 * that nobody remembers more of than they do: they believe nothing that is older. Undefined when the store knows it, or when it is so
 * far beyond that no store has told it.
 */
export function forgottenEpoch(
  environment: string,
  record: EnvironmentRecord | undefined,
  gateways: Iterable<GatewayRecord | undefined>,
): bigint | undefined {
  const known = record?.epoch ?? FIRST_EPOCH;
  const told = [...gateways]
    .filter((gateway) => gateway !== undefined)
    .filter((gateway) => gateway.environment === environment && isRegistered(gateway))
    .map((gateway) => BigInt(lastHeartbeat(gateway)?.environmentEpoch ?? 0))
    .filter((epoch) => epoch > known && epoch - known <= MOST_FORGOTTEN);
  return told.reduce<bigint | undefined>(
    (newest, epoch) => (newest !== undefined && newest > epoch ? newest : epoch),
    undefined,
  );
}

/**
 * The primary acts, as it did by its role. Nothing stops the first time, and while the pair is the same; whoever acted for another one, or
 * before a release, may act yet, so that a new pair waits for a fence.
 */
export function paired(
  environment: string,
  record: EnvironmentRecord | undefined,
  pair: Pair,
  at: Date,
): EnvironmentRecord {
  const first = { environment, pair, active: "Primary", epoch: FIRST_EPOCH, since: at, failover: undefined } as const;
  if (record === undefined) return { ...first, fencedUntil: at, settled: true };
  if (record.pair?.primary === pair.primary && record.pair.standby === pair.standby) return { ...record, pair };
  return inOrder({ ...record, ...first, epoch: record.epoch + 1n });
}

/** What the store says is older than what it said before: it goes on from that, in an epoch that nobody has heard of. */
export function restored(
  environment: string,
  record: EnvironmentRecord | undefined,
  pair: Pair,
  { active, epoch }: Remembered,
  at: Date,
): EnvironmentRecord {
  const newest = record !== undefined && record.epoch > epoch ? record.epoch : epoch;
  const next = { environment, pair, active, epoch: newest + 1n, since: at, failover: undefined };
  return inOrder({ ...next, fencedUntil: undefined, settled: false });
}

/** Each gateway acts by its role again. */
export function released(record: EnvironmentRecord, at: Date): EnvironmentRecord {
  const alone = { ...record, pair: undefined, failover: undefined };
  return record.active === "Primary"
    ? alone
    : inOrder({ ...alone, active: "Primary", epoch: record.epoch + 1n, since: at });
}

export const switched = (
  record: EnvironmentRecord,
  active: Side,
  failover: NonNullable<EnvironmentRecord["failover"]>,
  at: Date,
): EnvironmentRecord => inOrder({ ...record, active, epoch: record.epoch + 1n, since: at, failover });

/** @param at a moment after the switch was written */
export const fenced = (record: EnvironmentRecord, at: Date): EnvironmentRecord => ({
  ...record,
  fencedUntil: new Date(at.getTime() + FENCE_MS),
});

export const settled = (record: EnvironmentRecord): EnvironmentRecord => ({ ...record, settled: true });
