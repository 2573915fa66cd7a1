import { Fenced, Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import {
  type AuthorityRecord,
  type CrlWork,
  PkiConflict,
  type PkiStore,
  type RevokedEntry,
} from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { authorityEntry } from "./audit-entries.ts";
import type { Authorities } from "./authority.ts";
import { keyIdentifierOf, type SigningCa } from "./ca-keys.ts";
import { parseCrl, signCrl } from "./crl.ts";
import { DerError } from "./der/reader.ts";
import { readPublicKey } from "./key.ts";
import { lintCrl } from "./lint/crl.ts";
import { refuseFaults } from "./lint/refuse-faults.ts";
import { verifySignature } from "./signer.ts";
import { tampered } from "./status.ts";
import type { PublicationUrls } from "./urls.ts";

const ACTOR: Actor = { kind: "Controller", name: "crl" };
/** nextUpdate is this often `crlEveryMs` after thisUpdate: half of it is there to mend what keeps the next one away. */
const VALIDITY = 1.5;
const PAGE = 10_000;
const AUTHORITIES_AT_A_TIME = 100;

/** Makes the CRLs of all authorities, retired ones included. */
export class CrlPublication {
  readonly #store: PkiStore;
  readonly #authorities: Authorities;
  readonly #urls: PublicationUrls | undefined;
  readonly #now: () => Date;
  readonly #onProblem: (authority: AuthorityRecord) => void;
  /** Why an authority has no CRL that is current, by its id. */
  readonly #problems = new Map<string, Unavailable>();

  constructor(parts: {
    readonly store: PkiStore;
    readonly authorities: Authorities;
    readonly urls?: PublicationUrls;
    readonly now?: () => Date;
    /** Told when an authority has a problem, and when it has none any more. */
    readonly onProblem?: (authority: AuthorityRecord) => void;
  }) {
    this.#store = parts.store;
    this.#authorities = parts.authorities;
    this.#urls = parts.urls;
    this.#now = parts.now ?? (() => new Date());
    this.#onProblem = parts.onProblem ?? (() => {});
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
        await this.#note(work.authorityId, undefined);
        published += 1;
      } catch (error) {
        if (error instanceof Fenced) throw error;
        if (error instanceof Unavailable && error.code === "TamperDetected") {
          await this.#note(work.authorityId, error);
        }
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return published;
  }

  /** Why the CRLs of an authority are not made any more: what they would say was tampered with. */
  problemOf(authorityId: string): Unavailable | undefined {
    return this.#problems.get(authorityId);
  }

  /** Authorities whose CRLs are not made, because what they would say was tampered with. */
  get tampered(): number {
    return this.#problems.size;
  }

  /**
   * Judges all that the next CRLs would say, due or not. What is wrong is kept for `problemOf`, and thrown at the end.
   *
   * @throws Unavailable DatabaseUnavailable, TamperDetected
   */
  async judge(): Promise<void> {
    const failures: Unavailable[] = [];
    let after: string | undefined;
    do {
      const page = await this.#store.listAuthorities(after, AUTHORITIES_AT_A_TIME);
      for (const authority of page) {
        const problem = await this.#problemIn(authority);
        await this.#note(authority.id, problem);
        if (problem !== undefined) failures.push(problem);
      }
      after = page.length === AUTHORITIES_AT_A_TIME ? page.at(-1)?.id : undefined;
    } while (after !== undefined);
    if (failures.length > 0) throw failures[0];
  }

  async #problemIn({ id: authorityId, generations }: AuthorityRecord): Promise<Unavailable | undefined> {
    try {
      await this.#judgeCount(authorityId);
      for (const { number: generation } of generations) {
        for (let partition = 0; ; partition += 1) {
          const work = await this.#store.crlWork({ authorityId, generation, partition });
          if (work === undefined) break;
          for await (const _ of this.#entries(work));
        }
      }
      return undefined;
    } catch (error) {
      if (error instanceof Unavailable && error.code === "TamperDetected") return error;
      throw error;
    }
  }

  async #note(authorityId: string, problem: Unavailable | undefined): Promise<void> {
    const before = this.#problems.get(authorityId);
    if (before?.message === problem?.message) return;
    if (problem === undefined) this.#problems.delete(authorityId);
    else this.#problems.set(authorityId, problem);
    const authority = await this.#store.authority(authorityId);
    if (authority !== undefined) this.#onProblem(authority);
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
    await this.#judgeCount(authorityId);
    const scope = await this.#scope(work);
    const listed = new Set<string>();
    const der = await signCrl(
      {
        issuer: ca.subject,
        authorityKeyIdentifier: keyIdentifierOf(ca),
        number,
        thisUpdate,
        nextUpdate,
        entries: this.#entries(work, listed),
        ...scope,
      },
      ca.signer,
    );
    await this.#judgeDropped(work, ca, listed);
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

  /** Of each status that was ever sealed the row is there, whatever it says now, or was purged: any other one that is gone was deleted or put back. */
  async #judgeCount(authorityId: string): Promise<void> {
    const { sealed, audited } = await this.#store.countStatuses(authorityId);
    if (sealed !== audited) {
      throw tampered(
        `authority ${authorityId} has ${sealed} certificates with a status, the audit record says ${audited}`,
      );
    }
  }

  /** What the CRL in force lists and the next one does not has ended, or was on hold and released: its row must prove it, or its purge. */
  async #judgeDropped({ last, ...key }: CrlWork, { signer, subject }: SigningCa, listed: Set<string>): Promise<void> {
    const standing = last && (await this.#store.crl(key));
    if (last === undefined || standing === undefined) return;
    const name = `CRL ${last.number} of authority ${key.authorityId}`;
    try {
      const crl = parseCrl(standing.der);
      const signed = verifySignature(crl.signatureAlgorithm, readPublicKey(signer.spki), crl.tbs, crl.signature);
      if (!signed || !crl.issuer.equals(subject) || crl.number !== last.number)
        throw tampered(`${name} is another one`);
      for (const { serialNumber, reason } of crl.entries()) {
        if (listed.has(serialNumber)) continue;
        const record = await this.#store.certificate(key.authorityId, serialNumber);
        if (record === undefined) {
          if (await this.#store.wasPurged(key.authorityId, serialNumber)) continue;
          throw tampered(`certificate ${serialNumber} of ${name} is gone`);
        }
        this.#authorities.judgeStatus(record);
        const released = reason === "certificateHold" && record.revocation === undefined && record.seal !== undefined;
        if (!released && record.notAfter >= last.thisUpdate) throw tampered(`certificate ${serialNumber} left ${name}`);
      }
    } catch (error) {
      throw error instanceof DerError ? tampered(`${name} cannot be read`) : error;
    }
  }

  /** Also those that have ended since the last one was made: each must appear once after its end. */
  async *#entries({ last, ...key }: CrlWork, listed = new Set<string>()): AsyncGenerator<RevokedEntry> {
    const unexpiredAt = last?.thisUpdate ?? new Date(0);
    let after: string | undefined;
    for (;;) {
      const page = await this.#store.changedStatuses(key, unexpiredAt, after, PAGE);
      for (const status of page) {
        this.#authorities.judgeStatus(status);
        const { serialNumber, revocation } = status;
        if (revocation === undefined) continue;
        listed.add(serialNumber);
        yield { serialNumber, revocation };
      }
      if (page.length < PAGE) return;
      after = page.at(-1)?.serialNumber;
    }
  }
}
