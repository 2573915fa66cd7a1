/** Where a relying party finds what is published about certificates. The paths are those that the OCSP process serves. */
import type { CrlKey } from "../ports/pki-store.ts";

export interface PublicationUrls {
  readonly ocsp: string;
  crl(key: CrlKey): string;
  caCertificate(authorityId: string, generation: number): string;
}

/** Path of a CRL below the base URL. */
export const crlPath = ({ authorityId, generation, partition }: CrlKey): string =>
  `/crl/${authorityId}/${generation}${partition === 0 ? "" : `-${partition}`}.crl`;

export const caCertificatePath = (authorityId: string, generation: number): string =>
  `/ca/${authorityId}/${generation}.cer`;

/** @param base `http://pki.example.com`, with or without a path or a slash at its end */
export function publicationUrls(base: string): PublicationUrls {
  const root = base.replace(/\/+$/, "");
  return {
    ocsp: `${root}/ocsp`,
    crl: (key) => `${root}${crlPath(key)}`,
    caCertificate: (authorityId, generation) => `${root}${caCertificatePath(authorityId, generation)}`,
  };
}
