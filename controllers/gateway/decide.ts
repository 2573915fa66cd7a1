/** What to do for one Gateway: hand out a token until it has registered, and tell whether it is in touch. Pure. */
import { HEARTBEAT_MISSING_MS, isRegistered, isSilent, lastHeartbeat, lastSign } from "../../core/fleet/health.ts";
import type { GatewayRecord, Place } from "../../core/ports/fleet-store.ts";
import type { Gateway, GatewaySpec } from "../../crds/gateway.ts";
import { MADE_BY } from "../../crds/installation.ts";
import type { Next, OwnedCondition, Plan } from "../runtime/controller.ts";

/** The core Secret with the token, as far as its metadata tells. */
export interface TokenSecret {
  readonly uid: string;
  readonly resourceVersion: string;
  /** UID of the Gateway that it was made for; undefined when it was not made for one of this name. */
  readonly ownerUid: string | undefined;
  /** When the token in it ends. */
  readonly expiresAt: Date | undefined;
}

export interface Observed {
  /** The database was restored: what is older than the object is of the one that it was made for. */
  readonly recovering?: boolean;
  readonly record: GatewayRecord | undefined;
  readonly secret: TokenSecret | undefined;
  /** Where the core Secret stands, or would. */
  readonly place: { readonly namespace: string; readonly name: string };
}

export type Action =
  /** What was known under this name belongs to an object that was deleted while nobody watched. */
  | { readonly kind: "EndFormer"; readonly name: string }
  | { readonly kind: "DeleteSecret"; readonly name: string; readonly secret: TokenSecret }
  /** Instead of the one in `secret`, where there is one. */
  | {
      readonly kind: "IssueToken";
      readonly gateway: Gateway;
      readonly place: Partial<Place>;
      readonly secret: TokenSecret | undefined;
      /** End of the token that was known when this was decided: if there is another one, somebody else has just made it. */
      readonly knownEnd: Date | undefined;
    };

/** So long a token counts. */
export const TOKEN_MS = 86_400_000;
/** What registers or comes back is noticed by then. */
export const LOOK_AGAIN_MS = 5_000;
/** Whoever wants to use the token needs some time. */
const RENEWED_BEFORE_MS = 3_600_000;
/** Clocks of the cluster and of PostgreSQL may differ by so much. */
const CLOCKS_DIFFER_MS = 60_000;
/** Whoever made the object through REST has its token by then. */
const REST_GRACE_MS = 60_000;

export function decide(gateway: Gateway, seen: Observed, now: Date): Plan<Action> {
  const { name } = gateway.metadata;
  const { record } = seen;
  if (record !== undefined && seen.recovering !== true && isOfFormer(gateway, record)) {
    // When it cannot be revoked now, a status that named it would make it the one of this object.
    return { ...pending(gateway, { ...seen, record: undefined }, now), actions: [{ kind: "EndFormer", name }] };
  }
  const contradiction = record === undefined ? undefined : contradictionOf(gateway, record);
  if (contradiction !== undefined) return contradicting(gateway, seen, contradiction, now);
  return record !== undefined && isSettled(record)
    ? registered(gateway, { ...seen, record }, now)
    : pending(gateway, seen, now);
}

/** It has come with the certificate that it got. */
const isSettled = (record: GatewayRecord): boolean =>
  isRegistered(record) && (record.confirmedAt !== undefined || lastHeartbeat(record) !== undefined);

/**
 * An object whose status names no gateway has never been looked at when there was one. What is older than the object belongs to
 * one of its name that was deleted, which revokes.
 */
function isOfFormer(
  { metadata, status }: Gateway,
  { registeredAt, revokedAt, tokenExpiresAt }: GatewayRecord,
): boolean {
  if (revokedAt !== undefined || status?.gatewayId !== undefined || metadata.creationTimestamp === undefined)
    return false;
  // A token that was made for the new object through REST does not make a registration of before its own.
  const since = registeredAt?.getTime() ?? (tokenExpiresAt && tokenExpiresAt.getTime() - TOKEN_MS);
  return since !== undefined && since + CLOCKS_DIFFER_MS < new Date(metadata.creationTimestamp).getTime();
}

function contradictionOf({ metadata: { name }, spec }: Gateway, record: GatewayRecord): string | undefined {
  // Whoever registers anew under a name that was revoked is another one.
  if (record.revokedAt !== undefined) return undefined;
  const field = (["environment", "role"] as const).find(
    (each) => spec[each] !== undefined && record[each] !== undefined && spec[each] !== record[each],
  );
  if (field === undefined) return undefined;
  const known = isRegistered(record) ? "has registered" : "has a token";
  return `spec.${field} says ${spec[field]}, and gateway ${name} ${known} as ${record[field]}; delete the Gateway, which revokes it, and create it anew with the ${field} that is meant`;
}

function contradicting(gateway: Gateway, seen: Observed, message: string, now: Date): Plan<Action> {
  const { record } = seen;
  const conditions: OwnedCondition[] = [{ type: "Registered", status: "False", reason: "PlaceDiffers", message }];
  if (record !== undefined && isSettled(record)) conditions.push(connection(gateway, record, now));
  return {
    actions: [],
    status: { conditions, fields: fieldsOf(gateway, seen) },
    next: { kind: "stalled", reason: "PlaceDiffers", message },
  };
}

function registered(gateway: Gateway, seen: Observed & { readonly record: GatewayRecord }, now: Date): Plan<Action> {
  const { record, secret } = seen;
  const { name } = gateway.metadata;
  const connected = connection(gateway, record, now);
  return {
    actions: cleanUp(name, secret),
    status: {
      conditions: [
        {
          type: "Registered",
          status: "True",
          reason: "Succeeded",
          message: `it has registered for ${record.environment} as ${record.role}`,
        },
        connected,
      ],
      fields: fieldsOf(gateway, seen),
      message: `Gateway ${name} is in touch.`,
    },
    next: recheckAt(connected.status === "True" ? silentFrom(record) : soon(now)),
  };
}

function connection({ metadata: { name } }: Gateway, record: GatewayRecord, now: Date): OwnedCondition {
  const type = "Connected";
  if (isSilent(record, now)) {
    const ended = lastHeartbeat(record)?.certificateNotAfter;
    const fix =
      ended !== undefined && new Date(ended) <= now
        ? `its certificate has ended, so let it register anew: mazevault gateways bootstrap ${name}`
        : "look whether it runs, at its log, and whether it reaches port 8443 of the primary";
    return {
      type,
      status: "False",
      reason: "HeartbeatMissing",
      message: `three heartbeats or more have not come; ${fix}`,
    };
  }
  if (lastHeartbeat(record) === undefined) {
    return {
      type,
      status: "False",
      reason: "Progressing",
      message: "it has registered; its first heartbeat is awaited",
    };
  }
  return { type, status: "True", reason: "Available", message: "its heartbeats arrive" };
}

/** Nobody has registered yet, or not come with the certificate. */
function pending(gateway: Gateway, seen: Observed, now: Date): Plan<Action> {
  const { name } = gateway.metadata;
  const { record, secret, place } = seen;
  const at = `${place.namespace}/${place.name}`;
  const end = validUntil(record, now);
  const ours = secret?.ownerUid === gateway.metadata.uid ? secret : undefined;
  const inSecret = end !== undefined && sameTime(ours?.expiresAt, end);
  if (inSecret && end.getTime() - RENEWED_BEFORE_MS > now.getTime()) {
    return waiting(gateway, seen, { reason: "AwaitingRegistration", message: howToUse(at, end) }, soon(now));
  }
  if (end !== undefined && !inSecret && !wasInSecret(gateway, end)) {
    // Made through REST, and told there.
    return {
      ...waiting(gateway, { ...seen, secret: undefined }, elsewhere(name, end), soon(now)),
      actions: cleanUp(name, secret),
    };
  }
  if (secret !== undefined && secret.ownerUid === undefined) {
    const message = `core Secret ${at}, where the token would stand, exists and is not ours; delete it, or make a token by: mazevault gateways bootstrap ${name}`;
    return waiting(gateway, seen, { reason: "TargetNotOwned", message }, soon(now));
  }
  const graceEnd = restGrace(gateway);
  // Of one that was revoked the next token is made under the same name.
  const isNew = record === undefined || record.revokedAt !== undefined;
  if (isNew && graceEnd !== undefined && graceEnd > now) {
    const message = "the token is being made for whoever made this object through REST";
    const next = new Date(Math.min(graceEnd.getTime(), soon(now).getTime()));
    return waiting(gateway, seen, { reason: "Progressing", message }, next);
  }
  const plan = waiting(gateway, seen, { reason: "Progressing", message: "its token is being made" }, soon(now));
  const issue: Action = {
    kind: "IssueToken",
    gateway,
    place: placeOf(gateway.spec),
    secret,
    knownEnd: record?.tokenExpiresAt,
  };
  return { ...plan, actions: [issue] };
}

/** What is not ours stays. */
const cleanUp = (name: string, secret: TokenSecret | undefined): readonly Action[] =>
  secret?.ownerUid === undefined ? [] : [{ kind: "DeleteSecret", name, secret }];

const validUntil = (record: GatewayRecord | undefined, now: Date): Date | undefined => {
  const end = record?.revokedAt === undefined ? record?.tokenExpiresAt : undefined;
  return end !== undefined && end > now ? end : undefined;
};

/** Somebody has deleted the core Secret with this token: nobody has it. */
const wasInSecret = ({ status }: Gateway, end: Date): boolean => {
  const told = status?.bootstrapSecretRef?.expiresAt;
  return told !== undefined && sameTime(new Date(told), end);
};

const sameTime = (one: Date | undefined, other: Date): boolean => one?.getTime() === other.getTime();

const placeOf = ({ environment, role }: GatewaySpec): Partial<Place> => ({
  ...(environment !== undefined && { environment }),
  ...(role !== undefined && { role }),
});

function restGrace({ metadata: { annotations, creationTimestamp } }: Gateway): Date | undefined {
  if (annotations?.[MADE_BY] !== "rest" || creationTimestamp === undefined) return undefined;
  return new Date(new Date(creationTimestamp).getTime() + REST_GRACE_MS);
}

interface Why {
  readonly reason: "AwaitingRegistration" | "Progressing" | "TargetNotOwned";
  readonly message: string;
}

const howToUse = (at: string, end: Date): string => {
  const [namespace, name] = at.split("/");
  return `start the gateway with the token of core Secret ${at} as GATEWAY_BOOTSTRAP_TOKEN until ${end.toISOString()}: kubectl -n ${namespace} get secret ${name} -o jsonpath={.data.token} | base64 -d`;
};

const elsewhere = (name: string, end: Date): Why => ({
  reason: "AwaitingRegistration",
  message: `start the gateway with the token that was made through REST, as GATEWAY_BOOTSTRAP_TOKEN until ${end.toISOString()}; if it was lost: mazevault gateways bootstrap ${name}`,
});

function waiting(gateway: Gateway, seen: Observed, why: Why, next: Date): Plan<Action> {
  return {
    actions: [],
    status: {
      conditions: [
        { type: "Registered", status: "False", ...why },
        { type: "Connected", status: "False", reason: "AwaitingRegistration", message: "it has not registered yet" },
      ],
      fields: fieldsOf(gateway, seen),
    },
    next: recheckAt(next),
  };
}

/** Nothing here moves by itself: heartbeats are told by metrics. */
function fieldsOf({ metadata: { uid }, spec }: Gateway, { record, secret, place }: Observed) {
  const isNow = record !== undefined && isRegistered(record);
  const heartbeat = isNow ? lastHeartbeat(record) : undefined;
  const environment = record?.environment ?? spec.environment;
  const role = record?.role ?? spec.role;
  const expiresAt = secret?.ownerUid === uid ? secret.expiresAt : undefined;
  return {
    ...(record !== undefined && { gatewayId: record.id }),
    ...(environment !== undefined && { environment }),
    ...(role !== undefined && { role }),
    ...(heartbeat !== undefined && { version: heartbeat.version, certificateNotAfter: heartbeat.certificateNotAfter }),
    ...(expiresAt !== undefined && { bootstrapSecretRef: { ...place, expiresAt: expiresAt.toISOString() } }),
    ...(isNow && record.registeredAt !== undefined && { registeredAt: record.registeredAt.toISOString() }),
  };
}

const recheckAt = (at: Date): Next => ({ kind: "recheckAt", at });
const soon = (now: Date): Date => new Date(now.getTime() + LOOK_AGAIN_MS);

/** A moment later than it may be silent for. */
const silentFrom = (record: GatewayRecord): Date =>
  new Date((lastSign(record)?.getTime() ?? 0) + HEARTBEAT_MISSING_MS + 1_000);
