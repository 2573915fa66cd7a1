/**
 * For how many heartbeats in a row only the standby of a pair was heard. Pure.
 *
 * Who hears nobody has lost its own ears, and when it hears again, one of the two comes back first: nothing follows from that about
 * the other one. So what counts is not how long the primary has been silent, but how often the standby was heard meanwhile.
 */
import type { GatewayRecord } from "../ports/fleet-store.ts";
import { lastSign } from "./health.ts";
import { HEARTBEAT_SECONDS } from "./protocol.ts";

export interface Heard {
  /** The last sign of each, in milliseconds since 1970 by the store's clock; 0 when there is none. */
  readonly primary: number;
  readonly standby: number;
  /** Heartbeats of the standby since the last sign of the primary, without a gap between them. */
  readonly standbyAlone: number;
}

/** Who reconnects beats at once, and again where the answer was lost: those are not one more. */
const ONE_MORE_MS = HEARTBEAT_SECONDS * 500;
/** One that is late is not missed. */
const GAP_MS = 2 * HEARTBEAT_SECONDS * 1_000;

/** @param before undefined when the count begins */
export function heardSince(
  before: Heard | undefined,
  primaryRecord: GatewayRecord | undefined,
  standbyRecord: GatewayRecord | undefined,
): Heard {
  const [primary, standby] = [signOf(primaryRecord), signOf(standbyRecord)];
  if (before === undefined || before.primary !== primary) return { primary, standby, standbyAlone: 0 };
  if (standby >= before.standby && standby - before.standby < ONE_MORE_MS) return before;
  const follows = standby > before.standby && standby - before.standby < GAP_MS;
  return { primary, standby, standbyAlone: follows ? before.standbyAlone + 1 : 0 };
}

const signOf = (record: GatewayRecord | undefined): number =>
  record === undefined ? 0 : (lastSign(record)?.getTime() ?? 0);
