/** What to do for one GatewayEnvironment: its gateways act in turn, what a switch began is brought to its end. Pure. */
import { forgottenEpoch, gatewayOf, isOpen, MOST_FORGOTTEN, ROLE_OF } from "../../core/fleet/environment.ts";
import type { EnvironmentState, KnownEnvironment } from "../../core/fleet/environments.ts";
import { isRegistered, lastSign } from "../../core/fleet/health.ts";
import { HEARTBEAT_SECONDS } from "../../core/fleet/protocol.ts";
import { whyNotHeardOf } from "../../core/fleet/readiness.ts";
import type { Pair, Side } from "../../core/ports/environment-store.ts";
import type { GatewayRecord } from "../../core/ports/fleet-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { Gateway } from "../../crds/gateway.ts";
import type { GatewayEnvironment } from "../../crds/gatewayenvironment.ts";
import type { Next, OwnedCondition, OwnedStatus, Plan } from "../runtime/controller.ts";

/** A gateway that the environment refers to. */
export interface Referred {
  readonly object: Gateway | undefined;
  readonly record: GatewayRecord | undefined;
}

export interface Observed {
  /** The name of the GatewayEnvironment that is for the same environment and older. */
  readonly older: string | undefined;
  readonly state: EnvironmentState;
  readonly gateways: Readonly<Record<Side, Referred>>;
  /** Since when heartbeats have had the chance to arrive, by the store's clock. */
  readonly watchingSince: Date;
  /** See `silence.ts`; counted since then. */
  readonly standbyAlone: number;
  /** When the youngest Failover of the environment was made. */
  readonly lastRequestedAt: Date | undefined;
}

interface Subject {
  readonly object: GatewayEnvironment;
}

export type Action =
  | (Subject & { readonly kind: "Pair"; readonly state: EnvironmentState; readonly pair: Pair })
  /** The store says less than status, or than the gateways, as after the restore of a backup. */
  | (Subject & {
      readonly kind: "Restore";
      readonly state: EnvironmentState;
      readonly pair: Pair;
      readonly remembered: { readonly active: Side; readonly epoch: bigint };
    })
  | (Subject & { readonly kind: "Fence" })
  | (Subject & { readonly kind: "Settle"; readonly state: KnownEnvironment })
  /** The primary is silent, and the standby is not. */
  | (Subject & {
      readonly kind: "FailOver";
      readonly missed: number;
      /** What it was decided on: from the same it is asked for once. */
      readonly epoch: bigint;
      readonly lastRequestedAt: Date | undefined;
      /** When it was decided, by the store's clock. */
      readonly at: Date;
    });

/** What gateways tell is noticed by then. */
export const LOOK_AGAIN_MS = 5_000;
/** A gateway that comes and goes does not make the environment go to and fro. */
export const CALM_MS = 600_000;
/** The fence is over by the store's clock, which is asked again a moment later. */
const MOMENT_MS = 50;

export function decide(object: GatewayEnvironment, seen: Observed, now: Date): Plan<Action> {
  const { environment } = object.spec;
  if (seen.older !== undefined) {
    const message = `spec.environment: GatewayEnvironment ${seen.older} is older and for ${environment} too, so it counts; delete one of the two`;
    return stalled("EnvironmentTaken", message, {});
  }
  const { state } = seen;
  const pair = pairOf(object);
  const remembered = rememberedBy(object, state, pair);
  const stored = state.record?.epoch ?? 0n;
  if (remembered !== undefined && stored < remembered.epoch) {
    if (remembered.epoch - stored > MOST_FORGOTTEN) {
      const message = `status.epoch: ${remembered.epoch} is far beyond ${stored}, which the database says, and nobody acts; delete this object and create it anew, and see the runbook for who writes status`;
      return stalled("TamperDetected", message, keptFields(object));
    }
    return { ...progressing(object), actions: [{ kind: "Restore", object, state, pair, remembered }] };
  }
  const unsuitable = unsuitability(object, seen);
  const { Primary, Standby } = seen.gateways;
  const forgotten = forgottenEpoch(environment, state.record, [Primary.record, Standby.record]);
  if (forgotten !== undefined && (isOf(state, pair) || unsuitable === undefined)) {
    // Gateways are believed what the epoch is, and not who acts in it.
    const active = isOf(state, pair) ? state.record.active : "Primary";
    const remembered = { active, epoch: forgotten };
    return { ...progressing(object), actions: [{ kind: "Restore", object, state, pair, remembered }] };
  }
  if (!isOf(state, pair)) {
    if (unsuitable === undefined) return { ...progressing(object), actions: [{ kind: "Pair", object, state, pair }] };
    const kept = keptFields(object);
    return unsuitable.waits ? waiting(unsuitable, kept, now) : stalled(unsuitable.reason, unsuitable.message, kept);
  }
  const { record } = state;
  if (record.fencedUntil === undefined) return { ...progressing(object), actions: [{ kind: "Fence", object }] };
  if (!record.settled && isOpen(record, state.at)) {
    return { ...progressing(object), actions: [{ kind: "Settle", object, state }] };
  }
  const missed = automaticAfter(object, seen);
  const plan = inCharge(object, { ...seen, state }, unsuitable, now);
  if (missed === undefined || unsuitable !== undefined) return plan;
  const { lastRequestedAt } = seen;
  const { at } = state;
  return { ...plan, actions: [{ kind: "FailOver", object, missed, epoch: record.epoch, lastRequestedAt, at }] };
}

const pairOf = ({ metadata: { name }, spec }: GatewayEnvironment): Pair => ({
  object: name,
  primary: spec.primaryRef.name,
  standby: spec.standbyRef.name,
});

/** Status carries no MAC, as the row does: who acts is taken from it only where the store says nothing, or something older, of this pair. */
function rememberedBy(
  { status }: GatewayEnvironment,
  state: EnvironmentState,
  pair: Pair,
): { readonly active: Side; readonly epoch: bigint } | undefined {
  if (status?.active === undefined || status.epoch === undefined) return undefined;
  const ofOther = state.record !== undefined && !isOf(state, pair);
  return { active: ofOther ? state.record.active : status.active, epoch: BigInt(status.epoch) };
}

const isOf = (state: EnvironmentState, pair: Pair): state is KnownEnvironment =>
  state.record?.pair?.object === pair.object &&
  state.record.pair.primary === pair.primary &&
  state.record.pair.standby === pair.standby;

interface Unsuitability {
  readonly reason: Reason;
  readonly message: string;
  /** It can still come by itself. */
  readonly waits: boolean;
}

/** What keeps the two from acting in turn. */
function unsuitability({ spec }: GatewayEnvironment, { gateways }: Observed): Unsuitability | undefined {
  for (const side of ["Primary", "Standby"] as const) {
    const field = side === "Primary" ? "spec.primaryRef" : "spec.standbyRef";
    const { name } = side === "Primary" ? spec.primaryRef : spec.standbyRef;
    const { object } = gateways[side];
    if (object === undefined) {
      return { reason: "GatewayNotFound", message: `${field}: there is no Gateway ${name} yet; apply it`, waits: true };
    }
    const role = ROLE_OF[side];
    const at = object.status?.environment ?? object.spec.environment;
    const as = object.status?.role ?? object.spec.role;
    if (at !== undefined && at !== spec.environment) {
      const message = `${field}: Gateway ${name} is for environment ${at}, and this is ${spec.environment}; refer to another Gateway in a new GatewayEnvironment`;
      return { reason: "GatewayUnsuitable", message, waits: false };
    }
    if (as !== undefined && as !== role) {
      const message = `${field}: Gateway ${name} has role ${as}, and ${role} is needed; refer to another Gateway in a new GatewayEnvironment`;
      return { reason: "GatewayUnsuitable", message, waits: false };
    }
    if (at === undefined || as === undefined) {
      const message = `${field}: Gateway ${name} says neither in spec nor by its registration that it is for ${spec.environment} as ${role}; set spec.environment and spec.role, or let it register`;
      return { reason: "AwaitingRegistration", message, waits: true };
    }
  }
  return undefined;
}

/** How many heartbeats are missing, where that is enough to activate DR without a person. By the clock that heartbeats are stamped with. */
function automaticAfter({ spec }: GatewayEnvironment, seen: Observed): number | undefined {
  const { automaticFailover } = spec;
  const { state, gateways, watchingSince, standbyAlone, lastRequestedAt } = seen;
  const { record, at: now } = state;
  if (automaticFailover === undefined || record === undefined) return undefined;
  if (record.active !== "Primary" || !record.settled) return undefined;
  const isCalm = (since: Date | undefined) => since === undefined || now.getTime() - since.getTime() >= CALM_MS;
  if (!isCalm(record.since) || !isCalm(lastRequestedAt)) return undefined;
  const [primary, standby] = [gateways.Primary.record, gateways.Standby.record];
  if (primary === undefined || standby === undefined || !isRegistered(primary)) return undefined;
  const missed = Math.min(missedSince(primary, watchingSince, now), standbyAlone);
  if (missed < automaticFailover.missedHeartbeats) return undefined;
  // Whoever hears nobody has lost its own ears.
  if (whyNotHeardOf(spec.standbyRef.name, standby, now) !== undefined) return undefined;
  return missedSince(standby, watchingSince, now) <= 1 ? missed : undefined;
}

/** Only what had the chance to arrive is missing. */
function missedSince(record: GatewayRecord, watchingSince: Date, now: Date): number {
  const sign = Math.max(lastSign(record)?.getTime() ?? 0, watchingSince.getTime());
  return Math.floor((now.getTime() - sign) / (HEARTBEAT_SECONDS * 1_000));
}

function inCharge(
  object: GatewayEnvironment,
  seen: Observed & { readonly state: KnownEnvironment },
  unsuitable: Unsuitability | undefined,
  now: Date,
): Plan<Action> {
  const { record, at } = seen.state;
  const pair = pairOf(object);
  const name = gatewayOf(pair, record.active);
  const acting = actingCondition(object, name, seen);
  const fencing = record.fencedUntil !== undefined && !isOpen(record, at) ? record.fencedUntil : undefined;
  // Nobody tells when the store is put back, or a gateway falls silent.
  const recheck = fencing === undefined ? LOOK_AGAIN_MS : fencing.getTime() - at.getTime() + MOMENT_MS;
  const standbyActs = record.active === "Standby";
  const conditions: OwnedCondition[] = [
    unsuitable === undefined
      ? {
          type: "Paired",
          status: "True",
          reason: "Succeeded",
          message: `${pair.primary} and ${pair.standby} act in turn`,
        }
      : { type: "Paired", status: "False", reason: unsuitable.reason, message: unsuitable.message },
    acting,
    {
      type: "FailoverActive",
      status: standbyActs ? "True" : "False",
      reason: standbyActs ? "StandbyActive" : "PrimaryActive",
      message: standbyActs
        ? `DR is active: ${name} is in charge since ${record.since.toISOString()}; back by: mazevault failover failback ${record.environment}`
        : `${name} is in charge since ${record.since.toISOString()}`,
    },
  ];
  const next: Next =
    unsuitable === undefined || unsuitable.waits
      ? { kind: "recheckAt", at: new Date(now.getTime() + recheck) }
      : { kind: "stalled", reason: unsuitable.reason, message: unsuitable.message };
  return {
    actions: [],
    status: {
      conditions,
      fields: {
        active: record.active,
        activeGateway: name,
        epoch: Number(record.epoch),
        since: record.since.toISOString(),
      },
      message: `${name} acts for ${record.environment}.`,
    },
    next: fencing === undefined ? next : { kind: "recheckAt", at: new Date(now.getTime() + recheck) },
  };
}

function actingCondition(
  { spec }: GatewayEnvironment,
  name: string,
  { state: { record, at }, gateways }: Observed & { readonly state: KnownEnvironment },
): OwnedCondition {
  const type = "Acting";
  if (!isOpen(record, at)) {
    const message = `what was granted before is over at ${record.fencedUntil?.toISOString()}; ${name} acts from then on`;
    return { type, status: "False", reason: "Fencing", message };
  }
  const why = whyNotHeardOf(name, gateways[record.active].record, at);
  if (why !== undefined) {
    const fix =
      record.active === "Primary"
        ? `; to let DR act meanwhile: mazevault failover activate-dr ${spec.environment}`
        : "";
    return { type, status: "False", reason: "GatewayNotHeardOf", message: `${why}${fix}` };
  }
  return { type, status: "True", reason: "Available", message: `${name} acts for ${spec.environment}` };
}

/** What status says of the epoch stays in any case: it is what the store is compared with. */
const keptFields = ({ status }: GatewayEnvironment): Readonly<Record<string, unknown>> => {
  const { active, activeGateway, epoch, since } = status ?? {};
  return { active, activeGateway, epoch, since };
};

const progressing = (object: GatewayEnvironment): Plan<Action> => ({
  actions: [],
  status: {
    conditions: [
      {
        type: "Paired",
        status: "Unknown",
        reason: "Progressing",
        message: "the state of the environment is being written",
      },
    ],
    fields: keptFields(object),
  },
  next: { kind: "settled" },
});

const unpaired = (reason: Reason, message: string, fields: Readonly<Record<string, unknown>>): OwnedStatus => ({
  conditions: [{ type: "Paired", status: "False", reason, message }],
  fields,
});

const waiting = (
  { reason, message }: Unsuitability,
  fields: Readonly<Record<string, unknown>>,
  now: Date,
): Plan<Action> => ({
  actions: [],
  status: unpaired(reason, message, fields),
  next: { kind: "recheckAt", at: new Date(now.getTime() + LOOK_AGAIN_MS) },
});

const stalled = (reason: Reason, message: string, fields: Readonly<Record<string, unknown>>): Plan<Action> => ({
  actions: [],
  status: unpaired(reason, message, fields),
  next: { kind: "stalled", reason, message },
});
