import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import { type CertificateStatus, PkiConflict, type PkiStore } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { authorityEntry } from "./audit-entries.ts";
import type { Authorities } from "./authority.ts";
import { serialToText } from "./serial.ts";

const ACTOR: Actor = { kind: "Controller", name: "housekeeping" };
/**
 * The shortest time that a certificate stays on record after its end. Responders answer about it for a day of that, and forget it
 * by the clock, so nobody need tell them what is removed; the other day is for clocks that differ.
 */
export const SHORTEST_KEPT_MS = 48 * 3_600_000;

/** Removes certificates that ended long ago. What is asked about them is `unknown` from then on, as it is after a day already. */
export class ExpiredCertificates {
  readonly #store: Pick<PkiStore, "authority" | "listPurgeable" | "purge">;
  readonly #authorities: Pick<Authorities, "judgeStatus">;
  readonly #keepMs: number;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: Pick<PkiStore, "authority" | "listPurgeable" | "purge">;
    readonly authorities: Pick<Authorities, "judgeStatus">;
    /** How long after their end they stay; at least `SHORTEST_KEPT_MS`. */
    readonly keepMs: number;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#authorities = parts.authorities;
    this.#keepMs = Math.max(parts.keepMs, SHORTEST_KEPT_MS);
    this.#now = parts.now ?? (() => new Date());
  }

  /**
   * Removes at most `limit`, those of one authority in one transaction; returns how many. One whose status was tampered with
   * stays, and does not hold up the others: its error is thrown when they are gone.
   *
   * @throws Fenced; PkiConflict; Unavailable DatabaseUnavailable, TamperDetected
   */
  async purge(writer: Writer, limit: number): Promise<number> {
    const now = this.#now();
    const before = (ms: number): Date => new Date(now.getTime() - ms);
    const times = { now, endedBefore: before(this.#keepMs), surplusEndedBefore: before(SHORTEST_KEPT_MS) };
    const found = await this.#store.listPurgeable(times, limit);
    const problems = found.map((status) => this.#problemOf(status));
    const sound = found.filter((_, index) => problems[index] === undefined);
    for (const [authorityId, statuses] of Map.groupBy(sound, (each) => each.authorityId)) {
      const audit = [await this.#entry(authorityId, statuses), ...statuses.flatMap(statusEntry)];
      failpoint("pki.beforePurge");
      await this.#store.purge(writer, { authorityId, statuses, times, audit });
      failpoint("pki.afterPurge");
    }
    const problem = problems.find((each) => each !== undefined);
    if (problem !== undefined) throw problem;
    return found.length;
  }

  /** When it ended is what its row says, so that must be authentic, or an edited row would remove itself. */
  #problemOf(status: CertificateStatus): Unavailable | undefined {
    try {
      this.#authorities.judgeStatus(status);
      return undefined;
    } catch (error) {
      if (error instanceof Unavailable && error.code === "TamperDetected") return error;
      throw error;
    }
  }

  /** One for all: each of them was audited when it was issued. */
  async #entry(authorityId: string, certificates: readonly CertificateStatus[]) {
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

/** And one for each that was ever revoked or on hold: of any other one that is gone the row was deleted by hand (ADR 12). */
function statusEntry({ authorityId, serialNumber, notAfter, seal }: CertificateStatus): AuditEntry[] {
  if (seal === undefined) return [];
  const id = serialToText(Buffer.from(serialNumber, "hex"));
  return [
    {
      action: "CertificatePurged",
      actor: ACTOR,
      subject: { kind: "Certificate", id, generation: seal.generation, name: id },
      outcome: "Success",
      details: { authority: authorityId, notAfter: notAfter.toISOString() },
    },
  ];
}
