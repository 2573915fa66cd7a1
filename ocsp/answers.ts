import { setImmediate as yieldToRequests } from "node:timers/promises";
import type { Finding } from "../core/pki/lint/finding.ts";
import type { CertId, CertIdHash } from "../core/pki/ocsp/cert-id.ts";
import type { OcspRequest } from "../core/pki/ocsp/request.ts";
import { type SingleResponse, signOcspResponse } from "../core/pki/ocsp/response.ts";
import type { Answer, CertificationAuthority, Entry, Responder, Window } from "./certification-authority.ts";
import { KEPT_AFTER_END_MS, type Register } from "./register.ts";

/** A serial number that is unknown now may be issued in the next moment. */
const UNKNOWN_VALID_MS = 60_000;
/** Longest time that signing in advance keeps requests waiting. */
const SLICE_MS = 3;

export type Reply =
  /** For everybody who asks the same. */
  | { readonly kind: "kept"; readonly answer: Answer }
  /** For this request only. */
  | { readonly kind: "signed"; readonly der: Buffer }
  | { readonly kind: "error"; readonly status: "unauthorized" | "tryLater" };

export interface AnswersParts {
  readonly register: Register;
  /** Resolves when everything that was committed before the call is in the register; false when that could not be had. */
  readonly caughtUp: () => Promise<boolean>;
  readonly onSigned: () => void;
  /** Told of what is wrong with an answer that was signed, and is not given. */
  readonly onFaulty: (faults: readonly Finding[]) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

const UNAUTHORIZED: Reply = { kind: "error", status: "unauthorized" };
const TRY_LATER: Reply = { kind: "error", status: "tryLater" };

/**
 * What is answered. A certificate that was issued has an answer that is signed in advance, held until half of its time has
 * passed, and dropped when the status changes. Signed for one request: what has a nonce, asks for several certificates,
 * or for a serial number that was not issued, about which the answer is `unknown` (RFC 6960 2.2).
 */
export class Answers {
  readonly #parts: AnswersParts;
  #window: Window | undefined;

  constructor(parts: AnswersParts) {
    this.#parts = parts;
  }

  /**
   * At once where an answer is kept. `unauthorized`: about certificates of another issuer, or of several (RFC 9919 2.2.3).
   * `tryLater`: nothing is known for sure, or nobody may sign.
   */
  reply(request: OcspRequest): Reply | Promise<Reply> {
    const { register } = this.#parts;
    const [certId] = request.certIds;
    const authority = certId && register.issuerOf(certId);
    if (certId === undefined || authority === undefined)
      return register.syncedAt === undefined ? TRY_LATER : UNAUTHORIZED;
    const entry = keptEntry(authority, request);
    return entry === undefined ? this.#replyTo(authority, request) : this.#replyKept(authority, entry, certId.hash);
  }

  /** Whether that is a certificate which was issued here. */
  isIssued(certId: CertId): boolean {
    return this.#parts.register.issuerOf(certId)?.certificates.has(certId.serialNumber.toString("hex")) === true;
  }

  /** Signs what is missing or has passed half of its time, forgets what has ended. Requests go on in between. */
  async prepare(signal: AbortSignal): Promise<void> {
    const { register, now } = this.#parts;
    let sliceEnd = performance.now() + SLICE_MS;
    for (const authority of register.authorities) {
      for (const entry of authority.certificates.values()) {
        if (performance.now() > sliceEnd) {
          await yieldToRequests();
          if (signal.aborted) return;
          sliceEnd = performance.now() + SLICE_MS;
        }
        if (entry.notAfter + KEPT_AFTER_END_MS < now()) {
          authority.certificates.delete(entry.serialNumber);
          continue;
        }
        for (const hash of ["sha256", "sha1"] as const) {
          if (this.#isDue(entry[hash])) await this.#keep(authority, entry, hash);
        }
      }
    }
  }

  /** Past half of its time, and something newer could be said. */
  #isDue(answer: Answer | undefined): boolean {
    if (answer === undefined) return true;
    const { thisUpdate, nextUpdate } = answer.window;
    const { register, now } = this.#parts;
    return now() >= (thisUpdate + nextUpdate) / 2 && floor(register.syncedAt ?? 0) > thisUpdate;
  }

  #replyKept(authority: CertificationAuthority, entry: Entry, hash: CertIdHash): Reply | Promise<Reply> {
    const kept = entry[hash];
    if (kept !== undefined && kept.window.nextUpdate > this.#parts.now()) return { kind: "kept", answer: kept };
    return this.#keep(authority, entry, hash).then((answer) =>
      answer === undefined ? TRY_LATER : { kind: "kept", answer },
    );
  }

  /** Signs an answer and keeps it; undefined when there is none to give. */
  async #keep(authority: CertificationAuthority, entry: Entry, hash: CertIdHash): Promise<Answer | undefined> {
    for (;;) {
      const { responder } = authority;
      const { status } = entry;
      const window = this.#windowOf(authority, status);
      if (responder === undefined || window === undefined || !this.#isProven(authority, entry)) return undefined;
      const certId = authority.certId(hash, entry.serialNumber);
      const der = await this.#sign(responder, [single(certId, status, window)]);
      // Revoked while it was signed: what was signed must not be said any more.
      if (entry.status !== status) continue;
      if (!this.#isFaultless(authority, der)) return undefined;
      const head = der.toString("latin1", 0, der.length - responder.ending.length);
      const answer = { head, responder, window, entityTag: undefined };
      entry[hash] = answer;
      return answer;
    }
  }

  async #replyTo(authority: CertificationAuthority, request: OcspRequest): Promise<Reply> {
    const { certIds, nonce } = request;
    const { register, caughtUp } = this.#parts;
    // One signature cannot speak for several CAs.
    if (certIds.some((certId) => register.issuerOf(certId) !== authority)) return UNAUTHORIZED;
    const entryOf = (certId: CertId) => authority.certificates.get(certId.serialNumber.toString("hex"));
    // It may have been issued a moment ago.
    if (certIds.some((certId) => entryOf(certId) === undefined)) {
      if (!(await caughtUp())) return TRY_LATER;
      const [certId] = certIds;
      const entry = keptEntry(authority, request);
      if (certId !== undefined && entry !== undefined) return this.#replyKept(authority, entry, certId.hash);
    }
    const { responder } = authority;
    if (responder === undefined) return TRY_LATER;
    const responses: SingleResponse[] = [];
    for (const certId of certIds) {
      const entry = entryOf(certId);
      if (entry !== undefined && !this.#isProven(authority, entry)) return TRY_LATER;
      const status = entry?.status ?? "unknown";
      const window = this.#windowOf(authority, status);
      if (window === undefined) return TRY_LATER;
      responses.push(single(certId.der, status, window));
    }
    const der = await this.#sign(responder, responses, nonce);
    return this.#isFaultless(authority, der, request) ? { kind: "signed", der } : TRY_LATER;
  }

  #isProven(authority: CertificationAuthority, entry: Entry): boolean {
    return authority.isProven(entry, this.#parts.register.syncedAt ?? 0);
  }

  /** What was signed is read again before it leaves; what has a fault is not given. */
  #isFaultless({ lint }: CertificationAuthority, der: Buffer, request?: OcspRequest): boolean {
    const findings = lint.lint(der, { at: new Date(this.#parts.now()), ...(request && { request }) });
    const faulty = findings.some(({ severity }) => severity === "Error");
    if (faulty) this.#parts.onFaulty(findings);
    return !faulty;
  }

  async #sign(responder: Responder, responses: readonly SingleResponse[], nonce?: Buffer): Promise<Buffer> {
    this.#parts.onSigned();
    return signOcspResponse(
      {
        responderKeyHash: responder.keyHash,
        producedAt: new Date(floor(this.#parts.now())),
        responses,
        ...(nonce && { nonce }),
        certificates: [responder.certificate],
      },
      responder.signer,
    );
  }

  /**
   * thisUpdate is when the status was last known to be true (RFC 6960 4.2.2.1), so while PostgreSQL is away answers are
   * signed anew but never hold longer. Undefined when they do not hold any more.
   */
  #windowOf({ issuer, responder }: CertificationAuthority, status: SingleResponse["status"]): Window | undefined {
    const { register, now } = this.#parts;
    if (register.syncedAt === undefined || responder === undefined) return undefined;
    const known = typeof status === "object" ? Math.max(register.syncedAt, status.at.getTime()) : register.syncedAt;
    const thisUpdate = floor(Math.min(known, now()));
    const validity = status === "unknown" ? Math.min(UNKNOWN_VALID_MS, issuer.ocspValidityMs) : issuer.ocspValidityMs;
    const nextUpdate = floor(Math.min(thisUpdate + validity, responder.notAfter));
    if (nextUpdate <= now()) return undefined;
    if (this.#window?.thisUpdate !== thisUpdate || this.#window.nextUpdate !== nextUpdate) {
      const [lastModified, expires] = [thisUpdate, nextUpdate].map((ms) => new Date(ms).toUTCString());
      this.#window = { thisUpdate, nextUpdate, lastModified: `${lastModified}`, expires: `${expires}` };
    }
    return this.#window;
  }
}

/** Whose kept answer is what the request asks for. */
function keptEntry(authority: CertificationAuthority, { certIds, nonce }: OcspRequest): Entry | undefined {
  const [certId] = certIds;
  if (certId === undefined || certIds.length > 1 || nonce !== undefined || !authority.isUsual(certId)) return undefined;
  return authority.certificates.get(certId.serialNumber.toString("hex"));
}

function single(certId: Buffer, status: SingleResponse["status"], window: Window): SingleResponse {
  const thisUpdate = new Date(window.thisUpdate);
  // By another clock it may have been revoked in our future, which no client would believe.
  const told = typeof status === "object" && status.at > thisUpdate ? { ...status, at: thisUpdate } : status;
  return { certId, status: told, thisUpdate, nextUpdate: new Date(window.nextUpdate) };
}

/** To whole seconds: GeneralizedTime in responses has no fractions (RFC 5280 4.1.2.5.2). */
const floor = (ms: number): number => Math.floor(ms / 1000) * 1000;

/** The DER of an answer. */
export function derOf({ head, responder: { ending } }: Answer): Buffer {
  const der = Buffer.allocUnsafe(head.length + ending.length);
  der.write(head, "latin1");
  ending.copy(der, head.length);
  return der;
}
