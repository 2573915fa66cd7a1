/** Whether a gateway can take over, and whether the other one can let go. Pure. */
import type { GatewayRecord } from "../ports/fleet-store.ts";
import { isRegistered, isSilent, lastHeartbeat } from "./health.ts";

/** Why the gateway of this name cannot act; undefined when it can. A sentence for a person, with what to do. */
export function whyNotHeardOf(name: string, record: GatewayRecord | undefined, now: Date): string | undefined {
  if (record === undefined || !isRegistered(record)) {
    const what = record?.revokedAt === undefined ? "has not registered" : "was revoked";
    return `gateway ${name} ${what}; let it register: mazevault gateways bootstrap ${name}`;
  }
  if (lastHeartbeat(record) === undefined) return `gateway ${name} has registered, and not sent a heartbeat yet`;
  return isSilent(record, now)
    ? `heartbeats of gateway ${name} are missing; look whether it runs, and whether it reaches port 8443 of the primary`
    : undefined;
}

/** Writes that wait at a gateway, as it told last; undefined when it told nothing. */
export const queueOf = (record: GatewayRecord | undefined): number | undefined =>
  record === undefined ? undefined : lastHeartbeat(record)?.queueLength;
