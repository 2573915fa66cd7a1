/** What the CRLs of a CA prove: they are signed by its key, which whoever writes to the database does not have. */
import { setImmediate as yieldToRequests } from "node:timers/promises";
import { parseCrl } from "../core/pki/crl.ts";
import { DerError } from "../core/pki/der/reader.ts";
import { readPublicKey } from "../core/pki/key.ts";
import { verifySignature } from "../core/pki/signer.ts";
import type { OcspAuthority } from "../core/ports/ocsp-store.ts";
import type { Revocation, StoredCrl } from "../core/ports/pki-store.ts";
import type { Entry } from "./certification-authority.ts";

/** Entries read between two turns of the event loop: some milliseconds. */
const CHUNK = 1_000;

/** A CRL whose signature was verified. */
export interface ListedRevocations {
  readonly number: bigint;
  readonly nextUpdate: number;
  readonly bySerial: ReadonlyMap<string, Revocation>;
}

/** The revocations of a CRL; a text says why it is not the CA's, or not the one that it should be. */
export async function readListed(
  { subject, spki }: Pick<OcspAuthority, "subject" | "spki">,
  { der, number, nextUpdate }: Pick<StoredCrl, "der" | "number" | "nextUpdate">,
  before: ListedRevocations | undefined,
): Promise<ListedRevocations | string> {
  try {
    const crl = parseCrl(der);
    const signed = verifySignature(crl.signatureAlgorithm, readPublicKey(spki), crl.tbs, crl.signature);
    if (!signed || !crl.issuer.equals(subject)) return "it is not signed by the CA";
    if (crl.number !== number || crl.nextUpdate?.getTime() !== nextUpdate.getTime()) return "it is another one";
    if (before !== undefined && number < before.number) return "it is older than the one before";
    const bySerial = new Map<string, Revocation>();
    for (const { serialNumber, revokedAt: at, reason, invalidityDate } of crl.entries()) {
      if (reason === "removeFromCRL") return "a full CRL removes nothing";
      bySerial.set(serialNumber, { at, reason, ...(invalidityDate && { invalidityDate }) });
      if (bySerial.size % CHUNK === 0) await yieldToRequests();
    }
    return { number, nextUpdate: nextUpdate.getTime(), bySerial };
  } catch (error) {
    if (error instanceof DerError) return "it cannot be read";
    throw error;
  }
}

/**
 * What is answered, from what the database says and what the CRL in force says. The database is newer by a moment: it may
 * know a revocation that the CRL does not list yet. It cannot take back what the CRL lists: a hold goes on until a CRL
 * without it is there, and what is revoked for good stays as it is listed.
 */
export function toldStatus(
  row: Entry["status"],
  listed: Revocation | undefined,
): { readonly status: Entry["status"]; readonly tampered: boolean } {
  if (listed === undefined) return { status: row, tampered: false };
  if (listed.reason === "certificateHold") return { status: row === "good" ? listed : row, tampered: false };
  const same = row !== "good" && row.reason === listed.reason && wholeSeconds(row.at) === wholeSeconds(listed.at);
  return same ? { status: row, tampered: false } : { status: listed, tampered: true };
}

const wholeSeconds = (at: Date): number => Math.floor(at.getTime() / 1000);
