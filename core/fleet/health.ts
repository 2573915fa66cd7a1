/** How well a gateway is, from the last that was heard of it. Pure. */
import type { GatewayRecord } from "../ports/fleet-store.ts";
import { HEARTBEAT_SECONDS } from "./protocol.ts";

export const GATEWAY_STATES = ["healthy", "degraded", "offline", "awaitingRegistration", "revoked"] as const;
export type GatewayState = (typeof GATEWAY_STATES)[number];

export interface GatewayHealth {
  readonly state: GatewayState;
  /** From 0 to 1, in hundredths. */
  readonly score: number;
  /** Since its last heartbeat, or while there is none since it registered; undefined when it has not registered. */
  readonly ageSeconds: number | undefined;
  /** What it tells itself, and what is seen from here; without a value. */
  readonly problems: readonly string[];
}

/** As many heartbeats as may be missed. */
export const MISSED_HEARTBEATS = 3;
export const HEARTBEAT_MISSING_MS = MISSED_HEARTBEATS * HEARTBEAT_SECONDS * 1_000;

/** A queue of this length costs its whole share. */
export const LONG_QUEUE = 1_000;
/** A gateway renews its certificate before; one that cannot goes dark when this is over. */
export const CERTIFICATE_ENDS_SOON_DAYS = 30;
const DAY_MS = 86_400_000;

/** What each of these takes from 1.0 at most. */
export const SHARES = { eachProblem: 0.25, problems: 0.5, queue: 0.3, certificate: 0.3 } as const;
/** Below it a gateway that tells no problem is degraded all the same. */
export const HEALTHY_FROM = 0.8;

/** Whether it has registered, and nothing has taken that back. */
export const isRegistered = ({ registeredAt, revokedAt }: GatewayRecord): boolean =>
  registeredAt !== undefined && revokedAt === undefined;

/** What it told last; what it told before it registered anew does not count. */
export function lastHeartbeat({ heartbeat, registeredAt }: GatewayRecord): GatewayRecord["heartbeat"] {
  return heartbeat === undefined || registeredAt === undefined || heartbeat.at < registeredAt ? undefined : heartbeat;
}

/** The last sign of life: a heartbeat, or that it registered. */
export const lastSign = (record: GatewayRecord): Date | undefined => lastHeartbeat(record)?.at ?? record.registeredAt;

/** Whether more heartbeats are missing than may be. */
export const isSilent = (record: GatewayRecord, now: Date): boolean => {
  const sign = lastSign(record);
  return sign !== undefined && now.getTime() - sign.getTime() > HEARTBEAT_MISSING_MS;
};

/**
 * The score is 1.0, less
 * - for its age beyond one interval of heartbeats: in proportion, and all of it at three intervals;
 * - 0.25 for each problem that it tells, 0.5 at most;
 * - 0.3 for a queue of 1000 writes or more, in proportion below;
 * - 0.3 for a certificate that ends now, in proportion over the 30 days before.
 *
 * It is 0 for a gateway that is offline, has not registered, or was revoked.
 */
export function healthOf(record: GatewayRecord, now: Date): GatewayHealth {
  if (record.revokedAt !== undefined) return { state: "revoked", score: 0, ageSeconds: undefined, problems: [] };
  const sign = lastSign(record);
  if (sign === undefined || !isRegistered(record)) {
    return { state: "awaitingRegistration", score: 0, ageSeconds: undefined, problems: [] };
  }
  const ageSeconds = Math.max(0, (now.getTime() - sign.getTime()) / 1_000);
  const heartbeat = lastHeartbeat(record);
  const parts = [ageLoss(ageSeconds), ...(heartbeat === undefined ? [] : toldLosses(heartbeat, now))];
  const problems = parts.flatMap((part) => part.problems);
  if (isSilent(record, now)) return { state: "offline", score: 0, ageSeconds, problems };
  const left = parts.reduce((rest, { loss }) => rest - loss, 1);
  const score = Math.round(within(left, 0, 1) * 100) / 100;
  const state = problems.length > 0 || score < HEALTHY_FROM ? "degraded" : "healthy";
  return { state, score, ageSeconds, problems };
}

interface Loss {
  readonly loss: number;
  readonly problems: readonly string[];
}

function ageLoss(ageSeconds: number): Loss {
  const beyond = ageSeconds - HEARTBEAT_SECONDS;
  const missed = Math.floor(ageSeconds / HEARTBEAT_SECONDS);
  return {
    loss: within(beyond / ((MISSED_HEARTBEATS - 1) * HEARTBEAT_SECONDS), 0, 1),
    // One that is late by a moment is not missed.
    problems: missed < 2 ? [] : [`${missed} heartbeats are missing`],
  };
}

function toldLosses(heartbeat: NonNullable<GatewayRecord["heartbeat"]>, now: Date): readonly Loss[] {
  const { problems, queueLength, certificateNotAfter } = heartbeat;
  const daysLeft = (new Date(certificateNotAfter).getTime() - now.getTime()) / DAY_MS;
  return [
    { loss: Math.min(SHARES.problems, problems.length * SHARES.eachProblem), problems },
    {
      loss: SHARES.queue * within(queueLength / LONG_QUEUE, 0, 1),
      problems: queueLength < LONG_QUEUE ? [] : [`${queueLength} writes wait for the primary`],
    },
    {
      loss: SHARES.certificate * within(1 - daysLeft / CERTIFICATE_ENDS_SOON_DAYS, 0, 1),
      problems: certificateProblems(daysLeft),
    },
  ];
}

/** It renews in time, so what is about to end says that it cannot. */
function certificateProblems(daysLeft: number): readonly string[] {
  if (daysLeft <= 0) return ["its certificate has ended; make a token for it, and let it register anew"];
  return daysLeft < CERTIFICATE_ENDS_SOON_DAYS / 2 ? [`its certificate ends in ${Math.floor(daysLeft)} days`] : [];
}

const within = (value: number, least: number, most: number): number => Math.min(most, Math.max(least, value));
