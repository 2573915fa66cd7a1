import { hash } from "node:crypto";
import { caCertificatePath, crlPath } from "../core/pki/urls.ts";
import type { OcspAuthority, OcspStore } from "../core/ports/ocsp-store.ts";
import type { Register } from "./register.ts";

/** What is served as it is: a CRL, or the certificate of a CA. */
export interface Document {
  readonly contentType: "application/pkix-crl" | "application/pkix-cert";
  readonly der: Buffer;
  /** As HTTP has it, in quotes. */
  readonly entityTag: string;
  /** thisUpdate and nextUpdate of a CRL, in milliseconds. */
  readonly window?: { readonly thisUpdate: number; readonly nextUpdate: number };
}

export interface RefusedCrl {
  readonly path: string;
  readonly number: bigint;
  readonly problem: string;
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
   * Fetches the CRLs that are newer than those that are held; those that their CA did not sign, and older ones, are refused.
   * Returns which, and why.
   *
   * @throws Unavailable DatabaseUnavailable
   */
  async fetchCrls(
    store: Pick<OcspStore, "crls" | "crl">,
    register: Pick<Register, "authority">,
  ): Promise<readonly RefusedCrl[]> {
    const refused: RefusedCrl[] = [];
    for (const listed of await store.crls()) {
      const path = crlPath(listed);
      if (this.#numbers.get(path) === listed.number) continue;
      const crl = await store.crl(listed);
      const authority = register.authority(listed);
      if (crl === undefined || authority === undefined) continue;
      const problem = await authority.takeCrl(crl);
      if (problem !== undefined) {
        refused.push({ path, number: crl.number, problem });
        continue;
      }
      const window = { thisUpdate: crl.thisUpdate.getTime(), nextUpdate: crl.nextUpdate.getTime() };
      this.#documents.set(path, { ...document("application/pkix-crl", crl.der), window });
      this.#numbers.set(path, crl.number);
    }
    return refused;
  }
}

function document(contentType: Document["contentType"], der: Buffer): Document {
  return { contentType, der, entityTag: entityTag(der) };
}

/** RFC 9919 6.2 recommends this for responses; nothing speaks against it for others. */
export const entityTag = (content: Buffer): string => `"${hash("sha256", content, "hex")}"`;
