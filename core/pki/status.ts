/** Whether a certificate is revoked, authenticated: a row that was edited or put back is noticed (ADR 12). */
import { createHmac, timingSafeEqual } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type { CertificateRecord, StatusSeal } from "../ports/pki-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { serialToText } from "./serial.ts";

export type StatusKeys = Pick<KeyRing, "installationId" | "pkiStatus">;

/** A certificate's status, as far as its MAC covers it. */
export type Status = Pick<
  CertificateRecord,
  "authorityId" | "generation" | "crlPartition" | "serialNumber" | "notAfter" | "revocation"
>;

/** Authenticates the status that a certificate gets. */
export function sealStatus({ installationId, pkiStatus }: StatusKeys, status: Status, generation: bigint): StatusSeal {
  const { authorityId, serialNumber, notAfter, revocation } = status;
  const { at, reason, invalidityDate } = revocation ?? {};
  // When it ends, and which CRL it is in, decide whether it is listed at all.
  const place = [authorityId, status.generation, status.crlPartition, serialNumber, notAfter];
  const fields = [installationId, ...place, generation, at, reason, invalidityDate];
  return {
    generation,
    mac: createHmac("sha256", pkiStatus).update(encodeFields("mazevault certificate status", fields)).digest(),
  };
}

/**
 * Refuses a status that is not as it was written, or older than the audit record says.
 *
 * @throws Unavailable TamperDetected
 */
export function judgeStatus(
  keys: StatusKeys,
  record: Status & Pick<CertificateRecord, "seal" | "auditedStatus">,
): void {
  const { serialNumber, revocation, seal, auditedStatus = 0n } = record;
  if (seal === undefined && revocation === undefined && auditedStatus === 0n) return;
  const name = `the status of certificate ${serialToText(Buffer.from(serialNumber, "hex"))}`;
  if (seal === undefined) throw tampered(`${name} has no MAC`);
  const { mac } = sealStatus(keys, record, seal.generation);
  if (mac.length !== seal.mac.length || !timingSafeEqual(mac, seal.mac)) {
    throw tampered(`${name} does not match its MAC`);
  }
  if (seal.generation !== auditedStatus) {
    throw tampered(`${name} has generation ${seal.generation}, the audit record says ${auditedStatus}`);
  }
}

export const tampered = (what: string): Unavailable => new Unavailable("TamperDetected", `${what}; see the runbook`);
