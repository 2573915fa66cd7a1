import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import { PkiConflict, type PkiStore, type PurgeableCertificate } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { authorityEntry } from "./audit-entries.ts";

const ACTOR: Actor = { kind: "Controller", name: "housekeeping" };
/**
 * The shortest time that a certificate stays on record after its end. Responders answer about it for a day of that, and forget it
 * by the clock, so nobody need tell them what is removed; the other day is for clocks that differ.
 */
export const SHORTEST_KEPT_MS = 48 * 3_600_000;

/** Removes certificates that ended long ago. What is asked about them is `unknown` from then on, as it is after a day already. */
export class ExpiredCertificates {
  readonly #store: Pick<PkiStore, "authority" | "listPurgeable" | "purge">;
  readonly #keepMs: number;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: Pick<PkiStore, "authority" | "listPurgeable" | "purge">;
    /** How long after their end they stay; at least `SHORTEST_KEPT_MS`. */
    readonly keepMs: number;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#keepMs = Math.max(parts.keepMs, SHORTEST_KEPT_MS);
    this.#now = parts.now ?? (() => new Date());
  }

  /**
   * Removes at most `limit`, those of one authority in one transaction; returns how many.
   *
   * @throws Fenced; PkiConflict; Unavailable DatabaseUnavailable
   */
  async purge(writer: Writer, limit: number): Promise<number> {
    const now = this.#now();
    const before = (ms: number): Date => new Date(now.getTime() - ms);
    const times = { now, endedBefore: before(this.#keepMs), surplusEndedBefore: before(SHORTEST_KEPT_MS) };
    const found = await this.#store.listPurgeable(times, limit);
    for (const [authorityId, certificates] of Map.groupBy(found, (each) => each.authorityId)) {
      const serialNumbers = certificates.map(({ serialNumber }) => serialNumber);
      const audit = [await this.#entry(authorityId, certificates)];
      failpoint("pki.beforePurge");
      await this.#store.purge(writer, { authorityId, serialNumbers, times, audit });
      failpoint("pki.afterPurge");
    }
    return found.length;
  }

  /** One for all: each of them was audited when it was issued. */
  async #entry(authorityId: string, certificates: readonly PurgeableCertificate[]) {
    const authority = await this.#store.authority(authorityId);
    if (authority === undefined) throw new PkiConflict(`authority ${authorityId}`);
    const ends = certificates.map(({ notAfter }) => notAfter.getTime());
    return authorityEntry("CertificatesPurged", authority, ACTOR, {
      certificates: certificates.length,
      endedFrom: new Date(Math.min(...ends)).toISOString(),
      endedUntil: new Date(Math.max(...ends)).toISOString(),
    });
  }
}
