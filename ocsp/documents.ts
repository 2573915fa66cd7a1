import { hash } from "node:crypto";
import { caCertificatePath, crlPath } from "../core/pki/urls.ts";
import type { OcspAuthority, OcspStore } from "../core/ports/ocsp-store.ts";

/** What is served as it is: a CRL, or the certificate of a CA. */
export interface Document {
  readonly contentType: "application/pkix-crl" | "application/pkix-cert";
  readonly der: Buffer;
  /** As HTTP has it, in quotes. */
  readonly entityTag: string;
  /** thisUpdate and nextUpdate of a CRL, in milliseconds. */
  readonly window?: { readonly thisUpdate: number; readonly nextUpdate: number };
}

/** CRLs and CA certificates by their path, in memory, so that they are there while PostgreSQL is not. */
export class Documents {
  readonly #documents = new Map<string, Document>();
  /** CRLNumber of each CRL that is held. */
  readonly #numbers = new Map<string, bigint>();

  get(path: string): Document | undefined {
    return this.#documents.get(path);
  }

  addCertificate({ authorityId, generation, certificate }: OcspAuthority): void {
    this.#documents.set(caCertificatePath(authorityId, generation), document("application/pkix-cert", certificate));
  }

  /**
   * Fetches the CRLs that are newer than those that are held.
   *
   * @throws Unavailable DatabaseUnavailable
   */
  async fetchCrls(store: Pick<OcspStore, "crls" | "crl">): Promise<void> {
    for (const listed of await store.crls()) {
      const path = crlPath(listed);
      if (this.#numbers.get(path) === listed.number) continue;
      const crl = await store.crl(listed);
      if (crl === undefined) continue;
      const window = { thisUpdate: crl.thisUpdate.getTime(), nextUpdate: crl.nextUpdate.getTime() };
      this.#documents.set(path, { ...document("application/pkix-crl", crl.der), window });
      this.#numbers.set(path, crl.number);
    }
  }
}

function document(contentType: Document["contentType"], der: Buffer): Document {
  return { contentType, der, entityTag: entityTag(der) };
}

/** RFC 9919 6.2 recommends this for responses; nothing speaks against it for others. */
export const entityTag = (content: Buffer): string => `"${hash("sha256", content, "hex")}"`;
