/** What the status of every issuer says of its CA. */
import { newest } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { pem } from "../../core/pki/pem.ts";
import { serialToText } from "../../core/pki/serial.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";

/** None while it has no certificate. */
export function caFields(authority: AuthorityRecord): Readonly<Record<string, unknown>> {
  const { certificate, notAfter, chain } = newest(authority);
  if (certificate === undefined || notAfter === undefined) return {};
  return {
    serialNumber: serialToText(parseCertificate(certificate).serialNumber),
    notAfter: seconds(notAfter),
    caBundle: [certificate, ...chain].map((der) => pem("CERTIFICATE", der)).join(""),
  };
}

/** As the API server has times. */
export const seconds = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
