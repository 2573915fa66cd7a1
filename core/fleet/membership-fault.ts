/** Why a gateway is not what it should be to its primary, each with what to do about it. */
import { Unavailable } from "../errors.ts";

export type MembershipFaultCode =
  | "PrimaryUnreachable"
  | "PrimaryUntrusted"
  | "PrimaryAnswerInvalid"
  | "BootstrapTokenMissing"
  | "BootstrapTokenRefused"
  | "GatewayPlaceDiffers"
  | "GatewayRevoked"
  | "GatewayCertificateEnded"
  | "CertificateUnknown"
  | "GatewayCertificateRefused";

const NEW_TOKEN = "make a new token with `mazevault gateways bootstrap NAME` at the primary, and configure it here";

const fixes: Readonly<Record<MembershipFaultCode, string>> = {
  PrimaryUnreachable:
    "check gateway.primaryUrl (PRIMARY_BACKEND_URL), whether the primary runs, and whether TCP to it is let through",
  PrimaryUntrusted: `check gateway.primaryUrl (PRIMARY_BACKEND_URL); if the primary was installed anew, ${NEW_TOKEN}`,
  PrimaryAnswerInvalid: "look whether the primary is older than the gateway (it is upgraded first), and into its log",
  BootstrapTokenMissing:
    "make a token with `mazevault gateways bootstrap NAME` at the primary, and give it as GATEWAY_BOOTSTRAP_TOKEN, in gateway.bootstrapTokenFile or in gateway.bootstrapTokenSecret",
  BootstrapTokenRefused: NEW_TOKEN,
  GatewayPlaceDiffers: `correct MAZEVAULT_GATEWAY_ENVIRONMENT and MAZEVAULT_GATEWAY_ROLE; or correct the Gateway at the primary, ${NEW_TOKEN}`,
  GatewayRevoked: `if it is to come back, ${NEW_TOKEN}`,
  CertificateUnknown: `wait until the primary is restored to a newer state; or ${NEW_TOKEN}`,
  GatewayCertificateRefused: `look whether the clocks of both are right, and into the log of the primary; if that does not help, ${NEW_TOKEN}`,
  GatewayCertificateEnded: `look whether the clock is right; if it is, ${NEW_TOKEN}`,
};

export class MembershipFault extends Unavailable {
  declare readonly code: MembershipFaultCode;
  readonly problem: string;
  readonly fix: string;

  constructor(code: MembershipFaultCode, problem: string, options?: { cause?: unknown }) {
    super(code, `${problem}; ${fixes[code]}`, options);
    this.name = "MembershipFault";
    this.problem = problem;
    this.fix = fixes[code];
  }
}
