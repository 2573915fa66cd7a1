/** Certificates of the primary's CAs for objects in the clusters of gateways. */
import {
  issuerQuestion,
  revocationRequest,
  SIGNING_ROUTES,
  signingRequest,
} from "../../core/fleet/signing-protocol.ts";
import { type FleetRoute, ofMember } from "./route.ts";

export const signingRoutes: readonly FleetRoute[] = [
  ofMember(SIGNING_ROUTES.issuer, issuerQuestion, async ({ services, member, body }) => ({
    status: 200,
    body: { certificates: await services.signing.issuer(member, body.issuer.name) },
  })),
  ofMember(SIGNING_ROUTES.sign, signingRequest, async ({ services, member, body, signal }) => {
    const certificates = await services.signing.sign(member, body, signal);
    return certificates === undefined ? { status: 202 } : { status: 200, body: { certificates } };
  }),
  ofMember(SIGNING_ROUTES.revoke, revocationRequest, async ({ services, member, body, signal }) => ({
    status: (await services.signing.revoke(member, body, signal)) ? 204 : 202,
  })),
];
