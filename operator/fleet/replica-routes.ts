/** What a gateway may have of secrets and certificates, and their values. */
import {
  REPLICA,
  REPLICA_VALUES,
  type ReplicaValuesAnswer,
  replicaRequest,
  replicaValuesRequest,
} from "../../core/fleet/replica-protocol.ts";
import { type FleetRoute, ofMember } from "./route.ts";

export const replicaRoutes: readonly FleetRoute[] = [
  ofMember(REPLICA, replicaRequest, async ({ services, member, body, signal }) => ({
    status: 200,
    body: await services.replica.changes(member.environment, body, signal),
  })),
  ofMember(REPLICA_VALUES, replicaValuesRequest, async ({ services, member, address, body }) => {
    const items = await services.replicaValues.handOut(member, address, body);
    const answer: ReplicaValuesAnswer = { items: [...items] };
    return { status: 200, body: answer };
  }),
];
