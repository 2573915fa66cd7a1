/** What the CRLs of some CAs say about certificates that these CAs issued (RFC 5280 6.3, without deltas and indirect CRLs). */
import { SafeError } from "../errors.ts";
import { type Certificate, parseCaCertificate } from "./certificate.ts";
import { type Crl, parseCrl } from "./crl.ts";
import { readPublicKey } from "./key.ts";
import { nameToString, parseName } from "./name.ts";
import { oids } from "./oid.ts";
import { parsePem } from "./pem.ts";
import { verifySignature } from "./signer.ts";

/** They cannot be used; the message says which and why. */
export class UnusableCrl extends SafeError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UnusableCrl";
  }
}

/** `Revoked`; or that it cannot be told, since there is no CRL for it, or none that is still valid. */
export type RevocationFault = "Revoked" | "CrlMissing" | "CrlExpired";

interface List {
  readonly crl: Crl;
  readonly issuer: Certificate;
  /** Lower-case hex. */
  readonly serialNumbers: ReadonlySet<string>;
}

export class RevocationLists {
  readonly #lists: readonly List[];
  readonly #authorities: readonly Certificate[];

  private constructor(lists: readonly List[], authorities: readonly Certificate[]) {
    this.#lists = lists;
    this.#authorities = authorities;
  }

  /**
   * @param crls one in DER, or any number in PEM
   * @param authorities in PEM: CAs, each of which may have signed one
   * @throws UnusableCrl
   */
  static read(crls: Buffer, authorities: string): RevocationLists {
    try {
      const cas = parsePem(authorities, "CA certificates").map(({ der }) => parseCaCertificate(der));
      return new RevocationLists(
        blocksOf(crls).map((der) => judged(parseCrl(der), cas)),
        cas,
      );
    } catch (error) {
      if (error instanceof UnusableCrl) throw error;
      throw new UnusableCrl(`no CRL in DER or PEM: ${(error as Error).message}`, { cause: error });
    }
  }

  /** What speaks against a certificate, or against a CA above it; undefined when nothing does. */
  fault(certificate: Certificate, at: Date): RevocationFault | undefined {
    for (let current: Certificate | undefined = certificate, depth = 0; current !== undefined; depth += 1) {
      const issuer = this.#issuerOf(current);
      // A root is trusted because it stands in the file, and leaves it when it is not any more.
      if (issuer?.der.equals(current.der)) return undefined;
      if (issuer === undefined || depth > this.#authorities.length) return "CrlMissing";
      const fault = this.#faultBy(issuer, current, at);
      if (fault !== undefined) return fault;
      current = issuer;
    }
    return undefined;
  }

  /** CRLs that are to be renewed before that time, by their issuers. */
  expiring(before: Date): readonly { readonly issuer: string; readonly nextUpdate: Date }[] {
    return this.#lists.flatMap(({ crl: { nextUpdate }, issuer }) =>
      nextUpdate !== undefined && nextUpdate <= before ? [{ issuer: nameToString(issuer.subject), nextUpdate }] : [],
    );
  }

  #issuerOf(certificate: Certificate): Certificate | undefined {
    return this.#authorities.find((ca) => ca.subjectDer.equals(certificate.issuerDer) && isSignedBy(certificate, ca));
  }

  #faultBy(issuer: Certificate, certificate: Certificate, at: Date): RevocationFault | undefined {
    const covering = this.#lists.filter((list) => list.issuer === issuer && covers(list.crl, certificate));
    const serialNumber = certificate.serialNumber.toString("hex");
    // What an old one says stays true: a revocation does not end with it.
    if (covering.some(({ serialNumbers }) => serialNumbers.has(serialNumber))) return "Revoked";
    if (covering.length === 0) return "CrlMissing";
    return covering.some(({ crl }) => isCurrent(crl, at)) ? undefined : "CrlExpired";
  }
}

function blocksOf(crls: Buffer): readonly Buffer[] {
  // A SEQUENCE in DER; PEM is text.
  if (crls.at(0) === 0x30) return [crls];
  const blocks = parsePem(crls.toString("latin1"), "CRL");
  const other = blocks.find(({ label }) => label !== "X509 CRL");
  if (other !== undefined) throw new UnusableCrl(`a PEM block is ${other.label} instead of X509 CRL`);
  return blocks.map(({ der }) => der);
}

/** @throws UnusableCrl, DerError */
function judged(crl: Crl, cas: readonly Certificate[]): List {
  const issuer = cas.find(
    ({ subjectDer, spki }) =>
      subjectDer.equals(crl.issuer) &&
      verifySignature(crl.signatureAlgorithm, readPublicKey(spki), crl.tbs, crl.signature),
  );
  const name = nameToString(parseName(crl.issuer));
  if (issuer === undefined) throw new UnusableCrl(`the CRL of ${name} was not signed by a CA of the CA certificates`);
  // RFC 5280 6.3.3: whoever does not know what one means must not use the CRL.
  for (const [oid, { critical }] of crl.extensions) {
    if (critical && oid !== oids.issuingDistributionPoint) {
      throw new UnusableCrl(`the CRL of ${name} has the critical extension ${oid}; a full, direct CRL is needed`);
    }
  }
  const serialNumbers = new Set<string>();
  for (const entry of crl.entries()) {
    for (const [oid, { critical }] of entry.extensions) {
      if (critical) throw new UnusableCrl(`an entry of the CRL of ${name} has the critical extension ${oid}`);
    }
    serialNumbers.add(entry.serialNumber);
  }
  return { crl, issuer, serialNumbers };
}

/** Not with the CA's key: its name alone is what anybody can write. */
function isSignedBy({ signatureAlgorithm, tbs, signature }: Certificate, { spki }: Certificate): boolean {
  return verifySignature(signatureAlgorithm, readPublicKey(spki), tbs, signature);
}

/** RFC 5280 6.3.3 (b)(2)(i): one with a distribution point is about the certificates that name it. */
const covers = ({ distributionPoints }: Crl, { crlUrls }: Certificate): boolean =>
  distributionPoints === undefined || distributionPoints.some((url) => crlUrls.includes(url));

const isCurrent = ({ thisUpdate, nextUpdate }: Crl, at: Date): boolean =>
  thisUpdate <= at && nextUpdate !== undefined && at < nextUpdate;
