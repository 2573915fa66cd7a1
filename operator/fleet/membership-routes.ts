/** Registering, staying registered, and being there. */
import { spkiFingerprint } from "../../core/fleet/bootstrap-token.ts";
import {
  certificateRequest,
  confirmationRequest,
  heartbeat,
  type Registration,
  registrationRequest,
} from "../../core/fleet/protocol.ts";
import { type FleetRoute, ofMember, ofStranger } from "./route.ts";

export const membershipRoutes: readonly FleetRoute[] = [
  ofStranger("/fleet/v1/registration", registrationRequest, async ({ services, body, address, signal }) => {
    const registered: Registration = await services.registrations.register(body, { address }, signal);
    return { status: 201, body: registered };
  }),
  ofMember("/fleet/v1/confirmation", confirmationRequest, async ({ services, member, certificate }) => {
    await services.registrations.confirm(member, spkiFingerprint(certificate));
    return { status: 204 };
  }),
  ofMember("/fleet/v1/heartbeat", heartbeat, async ({ services, member, body }) => ({
    status: 200,
    body: await services.registrations.heartbeat(member, body),
  })),
  ofMember("/fleet/v1/certificate", certificateRequest, async ({ services, member, certificate, body, signal }) => ({
    status: 201,
    body: {
      certificates: await services.registrations.renew(member, spkiFingerprint(certificate), body.csr, signal),
    },
  })),
];
