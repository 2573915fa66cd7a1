import { randomUUID } from "node:crypto";
import { parseCertificate, verifySignedBy } from "../core/pki/certificate.ts";
import { createCsr } from "../core/pki/csr.ts";
import { DerError } from "../core/pki/der/reader.ts";
import { explicit, sequence } from "../core/pki/der/writer.ts";
import { generateKey } from "../core/pki/key.ts";
import { keyHash } from "../core/pki/ocsp/cert-id.ts";
import { oids } from "../core/pki/oid.ts";
import { LocalSigner } from "../core/pki/signer.ts";
import type { OcspStore } from "../core/ports/ocsp-store.ts";
import type { Logger } from "../program/logging.ts";
import type { CertificationAuthority, Responder } from "./certification-authority.ts";

/** After an answer that was of no use; the CA signs only so many in an hour. */
const ASK_AGAIN_MS = 60_000;

interface Request {
  readonly id: string;
  readonly signer: LocalSigner;
}

/**
 * The keys that sign answers, one for each CA and replica. They are made here and never leave this process; the leader
 * certifies them for a few days, and half-way through them the next one is made.
 */
export class ResponderKeys {
  readonly #store: Pick<OcspStore, "requestResponder" | "responder">;
  readonly #log: Logger;
  readonly #now: () => number;
  readonly #requests = new Map<CertificationAuthority, Request>();
  readonly #askNotBefore = new Map<CertificationAuthority, number>();

  constructor(parts: {
    readonly store: Pick<OcspStore, "requestResponder" | "responder">;
    readonly log: Logger;
    readonly now: () => number;
  }) {
    this.#store = parts.store;
    this.#log = parts.log;
    this.#now = parts.now;
  }

  /**
   * Asks for a certificate where one is missing or half over, and takes up what was asked for.
   *
   * @throws Unavailable DatabaseUnavailable
   */
  async tend(authority: CertificationAuthority): Promise<void> {
    const { authorityId, generation, certificate } = authority.issuer;
    const request = this.#requests.get(authority);
    if (request !== undefined) {
      const answer = await this.#store.responder(request.id);
      if (answer === "Pending") return;
      this.#requests.delete(authority);
      if (answer !== "Gone") this.#takeUp(authority, request, answer);
    }
    const now = this.#now();
    if (now < (authority.responder?.renewAt ?? 0) || now < (this.#askNotBefore.get(authority) ?? 0)) return;
    if (parseCertificate(certificate).notAfter.getTime() <= now) return;
    const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
    const id = randomUUID();
    // Only the key counts: what else is in the certificate the CA decides.
    const csr = await createCsr([[{ type: oids.commonName, value: "OCSP responder" }]], [], signer);
    await this.#store.requestResponder({ id, authorityId, generation, csr });
    this.#requests.set(authority, { id, signer });
    this.#log.info({ authority: authorityId, generation, request: id }, "asked for a responder certificate");
  }

  #takeUp(authority: CertificationAuthority, { id, signer }: Request, certificate: Buffer): void {
    const { authorityId, generation } = authority.issuer;
    const responder = responderOf(authority, signer, certificate, this.#now());
    if (typeof responder === "string") {
      this.#askNotBefore.set(authority, this.#now() + ASK_AGAIN_MS);
      this.#log.error(
        { authority: authorityId, generation, request: id, problem: responder },
        "no responder certificate",
      );
      return;
    }
    authority.responder = responder;
    const until = new Date(responder.notAfter).toISOString();
    this.#log.info({ authority: authorityId, generation, until }, "answers with a new responder certificate");
  }
}

/** What clients will check too (RFC 6960 4.2.2.2); a text says what is wrong. */
function responderOf(
  { issuer }: CertificationAuthority,
  signer: LocalSigner,
  der: Buffer,
  now: number,
): Responder | string {
  try {
    const certificate = parseCertificate(der);
    if (!certificate.spki.equals(signer.spki)) return "it is for another key";
    if (!certificate.issuerDer.equals(issuer.subject) || !verifySignedBy(certificate, issuer.spki)) {
      return "it is not signed by the CA";
    }
    if (!certificate.extendedKeyUsage?.includes(oids.ocspSigning)) return "it is not for signing OCSP responses";
    const [notBefore, notAfter] = [certificate.notBefore.getTime(), certificate.notAfter.getTime()];
    if (notAfter <= now) return "it is over already";
    return {
      signer,
      certificate: der,
      keyHash: keyHash("sha1", signer.spki),
      ending: explicit(0, sequence(der)),
      renewAt: (notBefore + notAfter) / 2,
      notAfter,
    };
  } catch (error) {
    if (error instanceof DerError) return "it cannot be read";
    throw error;
  }
}
