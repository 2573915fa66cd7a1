import { z } from "zod";
import type { Certificate } from "../pki/certificate.ts";
import type { GeneralName } from "../pki/general-name.ts";
import { oids } from "../pki/oid.ts";
import { type GatewayRole, gatewayEnvironment, gatewayRole } from "./protocol.ts";

/** A gateway that came with a certificate which the fleet's CA signed, and which says all of this. */
export interface Member {
  /** UUID. */
  readonly gatewayId: string;
  readonly name: string;
  readonly environment: string;
  readonly role: GatewayRole;
  /** Of the certificate: lower-case hex, the content octets of the INTEGER. */
  readonly serialNumber: string;
}

/** What a gateway is and may do, as its certificate says it: a URI, so that it is signed and not looked up. */
export const memberName = (
  installationId: string,
  { gatewayId, environment, role }: Pick<Member, "gatewayId" | "environment" | "role">,
): GeneralName => ({
  kind: "uri",
  value: `mazevault://${installationId}/gateways/${gatewayId}/environments/${environment}/roles/${role}`,
});

const URI = /^mazevault:\/\/([^/]+)\/gateways\/([^/]+)\/environments\/([^/]+)\/roles\/([^/]+)$/;
const said = z.tuple([z.string(), z.uuid(), gatewayEnvironment, gatewayRole]);

/**
 * Who a certificate is for; undefined when it is not that of a gateway of this installation. That the fleet's CA signed it is the
 * caller's to check.
 */
export function memberOf(certificate: Certificate, installationId: string): Member | undefined {
  const { subject, subjectAltNames, serialNumber, extendedKeyUsage = [] } = certificate;
  const [uri, ...others] = subjectAltNames;
  const [name, ...more] = subject.flat().filter(({ type }) => type === oids.commonName);
  if (uri?.kind !== "uri" || others.length > 0 || name === undefined || more.length > 0) return undefined;
  const { data } = said.safeParse(URI.exec(uri.value)?.slice(1));
  if (data === undefined || data[0] !== installationId || !extendedKeyUsage.includes(oids.clientAuth)) return undefined;
  const [, gatewayId, environment, role] = data;
  return { gatewayId, name: name.value, environment, role, serialNumber: serialNumber.toString("hex") };
}
