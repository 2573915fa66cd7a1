import type { CertId } from "../core/pki/ocsp/cert-id.ts";
import type { OcspAuthority, OcspCertificate } from "../core/ports/ocsp-store.ts";
import { CertificationAuthority, type Entry, issuerName } from "./certification-authority.ts";

/** After its end a certificate is answered for a little longer: clocks differ. */
export const KEPT_AFTER_END_MS = 24 * 3_600_000;

type Key = Pick<OcspAuthority, "authorityId" | "generation">;
const keyOf = ({ authorityId, generation }: Key): string => `${authorityId}/${generation}`;

/** What was issued by whom and what of it is revoked, as far as this process knows. */
export class Register {
  readonly #authorities = new Map<string, CertificationAuthority>();
  readonly #byName = new Map<string, CertificationAuthority>();
  /** By key of the CA; may be known before the CA is. */
  readonly #certificates = new Map<string, Map<string, Entry>>();
  /** Everything that was committed before is known, in milliseconds; undefined: nothing is known yet. */
  syncedAt: number | undefined;

  get authorities(): Iterable<CertificationAuthority> {
    return this.#authorities.values();
  }

  issuerOf(certId: CertId): CertificationAuthority | undefined {
    return this.#byName.get(issuerName(certId));
  }

  /** All CAs there are. Returns those whose certificate is new. */
  setAuthorities(issuers: readonly OcspAuthority[]): readonly CertificationAuthority[] {
    const certified: CertificationAuthority[] = [];
    for (const issuer of issuers) {
      const key = keyOf(issuer);
      const known = this.#authorities.get(key);
      if (known !== undefined) {
        if (!known.issuer.certificate.equals(issuer.certificate)) certified.push(known);
        known.issuer = issuer;
        continue;
      }
      const authority = new CertificationAuthority(issuer, this.#certificatesOf(key));
      this.#authorities.set(key, authority);
      for (const name of authority.names) this.#byName.set(name, authority);
      certified.push(authority);
    }
    return certified;
  }

  /** Certificates as they are now. An answer that says otherwise is gone with this call. */
  apply(certificates: readonly OcspCertificate[], now: number): void {
    for (const { serialNumber, notAfter, partition, revocation, ...key } of certificates) {
      if (notAfter.getTime() + KEPT_AFTER_END_MS < now) continue;
      const entries = this.#certificatesOf(keyOf(key));
      const row = revocation ?? "good";
      const entry = entries.get(serialNumber) ?? {
        serialNumber,
        notAfter: notAfter.getTime(),
        partition,
        row,
        status: row,
        sha1: undefined,
        sha256: undefined,
      };
      entries.set(serialNumber, entry);
      entry.row = row;
      const authority = this.#authorities.get(keyOf(key));
      if (authority === undefined) entry.status = row;
      else authority.tell(entry);
    }
  }

  authority(key: Key): CertificationAuthority | undefined {
    return this.#authorities.get(keyOf(key));
  }

  #certificatesOf(key: string): Map<string, Entry> {
    const found = this.#certificates.get(key) ?? new Map<string, Entry>();
    this.#certificates.set(key, found);
    return found;
  }
}
