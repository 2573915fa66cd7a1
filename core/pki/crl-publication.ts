import { Fenced, Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import { type CrlWork, PkiConflict, type PkiStore, type RevokedEntry } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { authorityEntry } from "./audit-entries.ts";
import type { Authorities } from "./authority.ts";
import { keyIdentifierOf } from "./ca-keys.ts";
import { signCrl } from "./crl.ts";
import { lintCrl } from "./lint/crl.ts";
import { refuseFaults } from "./lint/refuse-faults.ts";
import type { PublicationUrls } from "./urls.ts";

const ACTOR: Actor = { kind: "Controller", name: "crl" };
/** nextUpdate is this often `crlEveryMs` after thisUpdate: half of it is there to mend what keeps the next one away. */
const VALIDITY = 1.5;
const PAGE = 10_000;

/** Makes the CRLs of all authorities, retired ones included. */
export class CrlPublication {
  readonly #store: PkiStore;
  readonly #authorities: Authorities;
  readonly #urls: PublicationUrls | undefined;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: PkiStore;
    readonly authorities: Authorities;
    readonly urls?: PublicationUrls;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#authorities = parts.authorities;
    this.#urls = parts.urls;
    this.#now = parts.now ?? (() => new Date());
  }

  /**
   * Makes those that are due, looking at no more than `limit`; returns how many. One that cannot be made does not hold up
   * the others: its error is thrown when all had their turn.
   *
   * @throws Fenced; PkiConflict; Unavailable DatabaseUnavailable, KeyUnavailable, TamperDetected
   */
  async publishDue(writer: Writer, limit: number): Promise<number> {
    const failures: unknown[] = [];
    let published = 0;
    for (const work of await this.#store.listDueCrls(this.#now(), limit)) {
      try {
        await this.#publish(writer, work);
        published += 1;
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return published;
  }

  async #publish(writer: Writer, work: CrlWork): Promise<void> {
    const { authorityId, generation, partition, covers, last } = work;
    const authority = await this.#store.authority(authorityId);
    const issuing = authority?.generations.find(({ number }) => number === generation);
    if (authority === undefined || issuing === undefined) throw new PkiConflict(`authority ${authorityId}`);
    if (this.#urls === undefined && partition > 0) {
      // Without its distribution point it would claim to be about all certificates of the CA (RFC 5280 5.2.5).
      throw new Unavailable("Failed", `CRL ${partition} of authority ${authorityId} needs pki.baseUrl`);
    }
    const ca = await this.#authorities.signingCa(writer, authority, issuing);
    // Whole seconds, as the CRL has them: what the store says of it and what stands in it are the same.
    const thisUpdate = new Date(Math.floor(this.#now().getTime() / 1000) * 1000);
    const nextUpdate = new Date(thisUpdate.getTime() + authority.revocation.crlEveryMs * VALIDITY);
    const number = (last?.number ?? 0n) + 1n;
    const scope = await this.#scope(work);
    const der = await signCrl(
      {
        issuer: ca.subject,
        authorityKeyIdentifier: keyIdentifierOf(ca),
        number,
        thisUpdate,
        nextUpdate,
        entries: this.#entries(work),
        ...scope,
      },
      ca.signer,
    );
    const { certificate } = ca;
    if (certificate !== undefined) {
      const at = this.#now();
      const findings = await lintCrl(der, { issuer: certificate.der, at, ...scope });
      refuseFaults(`CRL ${number} of authority ${authorityId}`, findings);
    }
    failpoint("pki.beforeCrl");
    const crl = { authorityId, generation, partition, number, thisUpdate, nextUpdate, der, covers };
    const details = { generation, partition, number: number.toString() };
    await this.#store.publishCrl(writer, crl, [authorityEntry("CrlPublished", authority, ACTOR, details)]);
    failpoint("pki.afterCrl");
  }

  /**
   * One of several CRLs says which one it is (RFC 5280 5.2.5). One that covers all certificates of the CA must not: those
   * that do not point to the same URL would be outside of it, as a root's, a responder's, and those from before the
   * base URL was set or changed.
   */
  async #scope(work: CrlWork): Promise<{ readonly distributionPoint?: string }> {
    const several = work.partition > 0 || (await this.#store.crlWork({ ...work, partition: 1 })) !== undefined;
    return several && this.#urls ? { distributionPoint: this.#urls.crl(work) } : {};
  }

  /** Also those that have ended since the last one was made: each must appear once after its end. */
  async *#entries({ last, ...key }: CrlWork): AsyncGenerator<RevokedEntry> {
    const unexpiredAt = last?.thisUpdate ?? new Date(0);
    let after: string | undefined;
    for (;;) {
      const page = await this.#store.revoked(key, unexpiredAt, after, PAGE);
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)?.serialNumber;
    }
  }
}
