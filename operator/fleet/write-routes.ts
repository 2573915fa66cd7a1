/** What gateways write, and whether it is still known here. */
import { KNOWN_WRITES_PATH, knownWritesRequest, WRITES_PATH, writesRequest } from "../../core/fleet/writes.ts";
import { type FleetRoute, ofMember } from "./route.ts";

export const writeRoutes: readonly FleetRoute[] = [
  ofMember(WRITES_PATH, writesRequest, async ({ services, member, body }) => ({
    status: 200,
    body: await services.writes.apply(member, body),
  })),
  ofMember(KNOWN_WRITES_PATH, knownWritesRequest, async ({ services, member, body }) => ({
    status: 200,
    body: { forgotten: await services.writes.forgotten(member, body.ids) },
  })),
];
