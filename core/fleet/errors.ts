import { SafeError } from "../errors.ts";

/**
 * TokenMalformed: it does not have the form of a bootstrap token. TokenRefused: unknown, of another installation, over, confirmed
 * or bound to another key, told alike. PlaceDiffers: the token or the gateway is fixed to another environment or role.
 * GatewayRevoked: the certificate is known as one that does not count any more. CertificateUnknown: nothing is known of it, as after
 * the restore of an older state. CertificateExpired: it has ended by the clock here.
 */
export type FleetRefusalCode = "TokenMalformed" | "TokenRefused" | "PlaceDiffers" | MemberRefusalCode;

/** Why a certificate does not let its gateway in; each ends the session. */
export type MemberRefusalCode = "GatewayRevoked" | "CertificateUnknown" | "CertificateExpired";

/** What a gateway asks for cannot be; the message names the rule, and never a value. */
export class FleetRefused extends SafeError {
  readonly code: FleetRefusalCode;
  constructor(code: FleetRefusalCode, message: string) {
    super(message);
    this.name = "FleetRefused";
    this.code = code;
  }
}
