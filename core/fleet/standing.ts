/** What the primary lets a gateway do at this moment. */
import type { Member } from "./member.ts";
import type { Grant } from "./protocol.ts";

export interface Standing {
  readonly active: boolean;
  /** Of its environment. */
  readonly environmentEpoch: bigint;
  readonly leaseMs: number;
  /** Names of the gateways whose tasks it performs, itself and, in a pair, the other one; none while it is not active. */
  readonly actsFor: readonly string[];
}

/** Each call grants anew, so it is called once for each answer that tells of it. */
export type StandingOf = (member: Member) => Promise<Standing>;

/** Older than any: who acts is not known at this moment. A gateway keeps what it was granted to its end, which is near. */
export const UNKNOWN_EPOCH = 0n;

/** As long as a grant lasts that is not renewed. */
export const LEASE_MS = 20_000;

export const grantOf = ({ active, environmentEpoch, leaseMs }: Standing): Grant => ({
  active,
  environmentEpoch: environmentEpoch.toString(),
  leaseMs,
});
