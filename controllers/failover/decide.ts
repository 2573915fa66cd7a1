/**
 * What to do for one Failover. Pure.
 *
 *    made --accepted--> (waits, only back to the primary) --switched--> fenced --> Completed
 *      |                        |
 *      +--> Refused             +--> Superseded by a newer one
 *
 * What comes after the switch is the environment's to do, whatever becomes of this object; it only tells.
 */
import { gatewayOf, isOpen, otherSide } from "../../core/fleet/environment.ts";
import type { EnvironmentState, KnownEnvironment } from "../../core/fleet/environments.ts";
import { queueOf, whyNotHeardOf } from "../../core/fleet/readiness.ts";
import type { Side } from "../../core/ports/environment-store.ts";
import type { GatewayRecord } from "../../core/ports/fleet-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { Failover, FailoverStatus } from "../../crds/failover.ts";
import type { Next, OwnedCondition, Plan } from "../runtime/controller.ts";

export interface Observed {
  /** Undefined while there is no GatewayEnvironment of that name, or its gateways are not paired. */
  readonly state: EnvironmentState | undefined;
  readonly records: Readonly<Record<Side, GatewayRecord | undefined>>;
  /** The epoch that the GatewayEnvironment remembers: a store that says less was put back, and is not believed. */
  readonly remembered: bigint;
  /** A Failover of the same environment that was made later, whatever has become of it. */
  readonly newer: string | undefined;
  /** Why it was refused, once that is on record. */
  readonly refusal: Why | undefined;
}

export interface Why {
  readonly reason: Reason;
  readonly message: string;
}

export type Action =
  | { readonly kind: "Switch"; readonly failover: Failover; readonly state: KnownEnvironment }
  | { readonly kind: "Refuse"; readonly failover: Failover; readonly environment: string; readonly why: Why };

/** Whoever asked has looked at something else by then. */
export const EXPIRES_MS = 600_000;
/** What gateways tell is noticed by then. */
export const LOOK_AGAIN_MS = 5_000;
const FENCE_LOOK_MS = 1_000;

type Outcome = NonNullable<FailoverStatus["outcome"]>;

export function decide(failover: Failover, seen: Observed, now: Date): Plan<Action> {
  if (failover.status?.outcome !== undefined) return ended(failover);
  const { state, newer } = seen;
  if (seen.refusal !== undefined) return refused(failover, seen.refusal);
  const name = failover.spec.environmentRef.name;
  if (state?.record?.pair?.object !== name) {
    const message = `spec.environmentRef: there is no GatewayEnvironment ${name} whose gateways are paired yet; apply it, or see its condition Paired`;
    return notYet(failover, { reason: "GatewayEnvironmentNotFound", message }, name, now);
  }
  const known: KnownEnvironment = { ...state, record: state.record };
  const { record, environment } = known;
  if (record.epoch < seen.remembered) {
    const message = `${environment} is said to be in epoch ${record.epoch}, and was in ${seen.remembered} before; it goes on from there first`;
    return notYet(failover, { reason: "Progressing", message }, environment, now);
  }
  if (isDoneBy(failover, known)) return underWay(failover, known, now);
  if (newer !== undefined) {
    const message = `Failover ${newer} is newer, and came first; nothing more is done by this one`;
    return superseded(failover, { reason: "Superseded", message });
  }
  if (!record.settled) {
    const message = `another change of ${environment} is being brought to its end`;
    return notYet(failover, { reason: "Progressing", message }, environment, now);
  }
  const { activate, force = false } = failover.spec;
  const target = gatewayOf(record.pair ?? never(), activate);
  if (record.active === activate) {
    return completed(failover, `${target} was in charge already`, Number(record.epoch));
  }
  const why = force ? undefined : obstacle(activate, known, seen);
  if (isTooOld(failover, now)) {
    return expired(failover, why?.message ?? `${target} is not in charge`, environment);
  }
  if (why === undefined) return { ...begun(failover, target), actions: [{ kind: "Switch", failover, state: known }] };
  if (activate === "Standby") {
    return { ...begun(failover, target), actions: [{ kind: "Refuse", failover, environment, why }] };
  }
  return waiting(failover, why, now);
}

const never = (): never => {
  throw new TypeError("a pair is there");
};

/** The store says that this one made the switch, or a later one came after it. */
function isDoneBy({ metadata, status }: Failover, { record }: KnownEnvironment): boolean {
  return record.failover?.uid === metadata.uid || (status?.epoch !== undefined && record.epoch >= BigInt(status.epoch));
}

/** What keeps the switch from being made; only a way back waits for it to go away. */
export function obstacle(
  activate: Side,
  { record, at: now }: KnownEnvironment,
  { records }: Pick<Observed, "records">,
): Why | undefined {
  const { pair } = record;
  if (pair === undefined) return undefined;
  const silent = whyNotHeardOf(gatewayOf(pair, activate), records[activate], now);
  if (silent !== undefined) return { reason: "GatewayNotHeardOf", message: silent };
  if (activate === "Standby") return undefined;
  const holder = otherSide(activate);
  const name = gatewayOf(pair, holder);
  const unheard = whyNotHeardOf(name, records[holder], now);
  if (unheard !== undefined) {
    const message = `whether writes wait at ${name} is not known: ${unheard}`;
    return { reason: "GatewayNotHeardOf", message };
  }
  const queue = queueOf(records[holder]) ?? 0;
  return queue === 0
    ? undefined
    : {
        reason: "QueueNotEmpty",
        message: `${queue} writes wait at ${name} for the primary; it goes on when none does`,
      };
}

function underWay(failover: Failover, { record, at }: KnownEnvironment, now: Date): Plan<Action> {
  const epoch = failover.status?.epoch ?? Number(record.epoch);
  const { pair } = record;
  const target = pair === undefined ? "the gateway" : gatewayOf(pair, failover.spec.activate);
  if (record.failover === undefined && record.active !== failover.spec.activate) {
    const message = `the environment was paired anew, or put back, since epoch ${epoch}; create another one`;
    return superseded(failover, { reason: "Superseded", message });
  }
  // A later change brought an end to this one too.
  if (record.settled || record.failover?.uid !== failover.metadata.uid) {
    return completed(failover, `${target} acts since epoch ${epoch}`, epoch);
  }
  const { fencedUntil } = record;
  const until =
    fencedUntil === undefined
      ? "what was granted before is being ended"
      : `what was granted before is over at ${fencedUntil.toISOString()}; ${target} acts from then on`;
  const after = fencedUntil === undefined || isOpen(record, at) ? FENCE_LOOK_MS : fencedUntil.getTime() - at.getTime();
  return {
    actions: [],
    status: {
      conditions: [accepted(), condition("Fenced", "False", "Fencing", until), incomplete("Fencing", until)],
      fields: { epoch },
    },
    next: recheckAfter(Math.max(after, FENCE_LOOK_MS), now),
  };
}

/** It may still be done, unless it has waited for too long. */
function notYet(failover: Failover, why: Why, environment: string, now: Date): Plan<Action> {
  if (isTooOld(failover, now)) return expired(failover, why.message, environment);
  return {
    actions: [],
    status: {
      conditions: [
        condition("Accepted", wasAccepted(failover) ? "True" : "Unknown", why.reason, why.message),
        condition("Fenced", "False", why.reason, why.message),
        incomplete(why.reason, why.message),
      ],
      fields: keptFields(failover),
    },
    next: recheckAfter(LOOK_AGAIN_MS, now),
  };
}

/** Only a way back that was accepted waits without an end. */
function isTooOld(failover: Failover, now: Date): boolean {
  const { creationTimestamp } = failover.metadata;
  const age = creationTimestamp === undefined ? 0 : now.getTime() - new Date(creationTimestamp).getTime();
  return age > EXPIRES_MS && !(failover.spec.activate === "Primary" && wasAccepted(failover));
}

function expired(failover: Failover, message: string, environment: string): Plan<Action> {
  const why: Why = {
    reason: "RequestExpired",
    message: `${message}; it was made more than ten minutes ago and is not done any more, create another one`,
  };
  return { ...refused(failover, why), actions: [{ kind: "Refuse", failover, environment, why }] };
}

const wasAccepted = ({ status }: Failover): boolean =>
  status?.conditions?.some(({ type, status: holds }) => type === "Accepted" && holds === "True") === true;

const keptFields = ({ status }: Failover): Readonly<Record<string, unknown>> => ({ epoch: status?.epoch });

const waiting = (failover: Failover, { reason, message }: Why, now: Date): Plan<Action> => ({
  actions: [],
  status: {
    conditions: [accepted(), condition("Fenced", "False", reason, message), incomplete(reason, message)],
    fields: keptFields(failover),
  },
  next: recheckAfter(LOOK_AGAIN_MS, now),
});

/** While it is being performed. */
const begun = (failover: Failover, target: string): Plan<Action> => {
  const message = `${target} is to act`;
  const conditions = [
    accepted(),
    condition("Fenced", "False", "Progressing", message),
    incomplete("Progressing", message),
  ];
  return { actions: [], status: { conditions, fields: keptFields(failover) }, next: { kind: "settled" } };
};

const completed = (_failover: Failover, message: string, epoch: number): Plan<Action> => ({
  actions: [],
  status: {
    conditions: [
      accepted(),
      condition("Fenced", "True", "Succeeded", "what was granted before is over"),
      condition("Completed", "True", "Succeeded", message),
    ],
    fields: { outcome: "Completed" satisfies Outcome, epoch },
    message,
  },
  next: { kind: "settled" },
});

const refused = (_failover: Failover, why: Why): Plan<Action> => given("Refused", why);
const superseded = (_failover: Failover, why: Why): Plan<Action> => given("Superseded", why);

const given = (outcome: Outcome, { reason, message }: Why): Plan<Action> => ({
  actions: [],
  status: {
    conditions: [
      condition("Accepted", "False", reason, message),
      condition("Fenced", "False", reason, message),
      incomplete(reason, message),
    ],
    fields: { outcome },
  },
  next: { kind: "stalled", reason, message },
});

/** Says what it said: nothing is looked at any more. */
function ended({ status }: Failover): Plan<Action> {
  const conditions = (status?.conditions ?? []).flatMap(({ type, status: holds, reason, message }): OwnedCondition[] =>
    type === "Accepted" || type === "Fenced" || type === "Completed"
      ? [{ type, status: holds, reason: reason as Reason, message }]
      : [],
  );
  const { outcome, epoch } = status ?? {};
  const last = conditions.find(({ type }) => type === "Completed");
  const why: Why = { reason: last?.reason ?? "Progressing", message: last?.message ?? "" };
  const next: Next = outcome === "Completed" ? { kind: "settled" } : { kind: "stalled", ...why };
  return { actions: [], status: { conditions, fields: { outcome, epoch }, message: why.message }, next };
}

const accepted = (): OwnedCondition => condition("Accepted", "True", "Succeeded", "it is to be done");

const condition = (
  type: "Accepted" | "Fenced" | "Completed",
  status: OwnedCondition["status"],
  reason: Reason,
  message: string,
): OwnedCondition => ({ type, status, reason, message });

const incomplete = (reason: Reason, message: string): OwnedCondition =>
  condition("Completed", "False", reason, message);

const recheckAfter = (ms: number, now: Date): Next => ({ kind: "recheckAt", at: new Date(now.getTime() + ms) });
