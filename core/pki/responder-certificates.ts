import { Fenced } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor } from "../ports/audit-log.ts";
import type { AuthorityRecord, PkiStore, ResponderRequest } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { Authorities } from "./authority.ts";
import { CsrError, parseCsr } from "./csr.ts";
import { keySpecOf } from "./key.ts";
import { oids } from "./oid.ts";
import { profileUsages } from "./profile.ts";

const ACTOR: Actor = { kind: "Controller", name: "ocsp" };
/** A request that waits longer was left behind; its responder has asked anew. */
const PATIENCE_MS = 10 * 60_000;
/**
 * Whoever may write requests, because the responder was broken into, gets no more certificates than these. A replica needs
 * one for each CA in a day.
 */
const MOST_PER_HOUR = 60;
const HOUR_MS = 3_600_000;
/** Short, since nobody can ask whether a responder is revoked (RFC 6960 4.2.2.2.1) ... */
const SHORTEST_MS = 24 * HOUR_MS;
const LONGEST_MS = 7 * SHORTEST_MS;
/** ... and twice the validity of an answer: a responder renews at half of it, and its last answers must not outlive it. */
const ANSWERS = 2;

/** Signs what the OCSP responders ask for. Only the key of a request counts: all else is decided here. */
export class ResponderCertificates {
  readonly #store: PkiStore;
  readonly #authorities: Authorities;
  readonly #now: () => Date;

  constructor(parts: { readonly store: PkiStore; readonly authorities: Authorities; readonly now?: () => Date }) {
    this.#store = parts.store;
    this.#authorities = parts.authorities;
    this.#now = parts.now ?? (() => new Date());
  }

  /**
   * Answers the requests that wait; returns how many. Those that are no proper request are passed over. One that cannot be answered does not hold up the others: its error is thrown at the end.
   *
   * @throws Fenced; PkiConflict; Waiting IssuerNotReady; Unavailable
   */
  async sign(writer: Writer): Promise<number> {
    const now = this.#now().getTime();
    const pending = await this.#store.pendingResponders(new Date(now - PATIENCE_MS), MOST_PER_HOUR);
    if (pending.length === 0) return 0;
    const signedBefore = new Map(await this.#store.respondersSince(new Date(now - HOUR_MS)));
    const failures: unknown[] = [];
    let answered = 0;
    for (const request of pending) {
      const before = signedBefore.get(request.authorityId) ?? 0;
      if (before >= MOST_PER_HOUR) continue;
      try {
        if (!(await this.#answer(writer, request))) continue;
        signedBefore.set(request.authorityId, before + 1);
        answered += 1;
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return answered;
  }

  /** Deletes requests whose certificate has ended, and those that were left behind; returns how many. */
  forget(writer: Writer): Promise<number> {
    const now = this.#now();
    return this.#store.forgetResponders(writer, now, new Date(now.getTime() - PATIENCE_MS));
  }

  async #answer(writer: Writer, { id, authorityId, generation, csr }: ResponderRequest): Promise<boolean> {
    const spki = requestedKey(csr);
    const authority = await this.#store.authority(authorityId);
    if (spki === undefined || authority === undefined) return false;
    const { namespace, namespaceUid, name } = authority.identity;
    const { certificate, notAfter } = await this.#authorities.issue(writer, {
      authority: throughGeneration(authority, generation),
      requester: { kind: "Responder", namespace, namespaceUid, name, uid: id },
      revision: 1,
      profile: "OCSPResponder",
      subject: [[{ type: oids.commonName, value: `OCSP responder ${id.slice(0, 8)}` }]],
      subjectAltNames: [],
      usages: profileUsages("OCSPResponder", { algorithm: "ECDSA", size: 256 }),
      durationMs: Math.min(Math.max(ANSWERS * authority.revocation.ocspValidityMs, SHORTEST_MS), LONGEST_MS),
      key: { spki },
      actor: ACTOR,
    });
    if (certificate === undefined) return false;
    failpoint("pki.beforeResponder");
    await this.#store.answerResponder(writer, id, { certificate, notAfter });
    return true;
  }
}

/** SubjectPublicKeyInfo of a request that its own key signed; only P-256, as our responders make them. */
function requestedKey(csr: Buffer): Buffer | undefined {
  try {
    const { spki, publicKey } = parseCsr(csr);
    const spec = keySpecOf(publicKey);
    return spec?.algorithm === "ECDSA" && spec.size === 256 ? spki : undefined;
  } catch (error) {
    if (error instanceof CsrError) return undefined;
    throw error;
  }
}

/** The authority as it was when this generation was its newest: that one signs the answers about what it issued. */
function throughGeneration(authority: AuthorityRecord, number: number): AuthorityRecord {
  const generations = authority.generations.filter((each) => each.number <= number);
  return generations.length === 0 ? authority : { ...authority, generations };
}
