import { OcspResponseLint } from "../core/pki/lint/ocsp-response.ts";
import { type CertId, type CertIdHash, encodeCertId, issuerHashes } from "../core/pki/ocsp/cert-id.ts";
import type { Signer } from "../core/pki/signer.ts";
import type { OcspAuthority } from "../core/ports/ocsp-store.ts";
import type { Revocation, StoredCrl } from "../core/ports/pki-store.ts";
import { type ListedRevocations, readListed, toldStatus } from "./listed-revocations.ts";

/** A key to which a CA has delegated the signing of its answers (RFC 6960 4.2.2.2). */
export interface Responder {
  readonly signer: Signer;
  /** SHA-1 of its public key: its name in responses. */
  readonly keyHash: Buffer;
  /** DER. */
  readonly certificate: Buffer;
  /** How each of its responses ends: the certificate, as BasicOCSPResponse has it. */
  readonly ending: Buffer;
  readonly renewAt: number;
  readonly notAfter: number;
}

/** From when until when an answer holds; shared by answers that were signed in the same second. */
export interface Window {
  /** In milliseconds, whole seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** The same as HTTP dates. */
  readonly lastModified: string;
  readonly expires: string;
}

/** A signed response about one certificate. */
export interface Answer {
  /**
   * DER without its ending, which is the responder's; an octet in each character. A text of 300 octets takes hardly more,
   * a small Buffer keeps its whole pool of 8 KiB alive or costs as much again for itself.
   */
  readonly head: string;
  readonly responder: Responder;
  readonly window: Window;
  /** Made when it is first sent. */
  entityTag: string | undefined;
}

/** What is known of an issued certificate, and the answers about it by hash of the CertID. */
export interface Entry {
  readonly serialNumber: string;
  readonly notAfter: number;
  /** Which CRL tells about it. */
  readonly partition: number;
  /** As the database has it. */
  row: "good" | Revocation;
  /** As it is answered. */
  status: "good" | Revocation;
  sha1: Answer | undefined;
  sha256: Answer | undefined;
}

/** One key of a CA, the certificates that it signed, and who answers for it. */
export class CertificationAuthority {
  readonly certificates: Map<string, Entry>;
  responder: Responder | undefined;
  /** Certificates that the database calls otherwise than the CRL in force, in a way that nobody here does. */
  readonly tampered = new Set<string>();
  /** By partition. */
  readonly #listed = new Map<number, ListedRevocations>();
  #issuer: OcspAuthority;
  #lint: OcspResponseLint;
  readonly #hashes: Readonly<Record<CertIdHash, Pick<CertId, "issuerNameHash" | "issuerKeyHash">>>;
  readonly #octets: Readonly<Record<CertIdHash, number>>;

  constructor(issuer: OcspAuthority, certificates: Map<string, Entry>) {
    this.#issuer = issuer;
    this.#lint = new OcspResponseLint(issuer.certificate);
    this.certificates = certificates;
    const { subject, spki } = issuer;
    this.#hashes = { sha1: issuerHashes("sha1", subject, spki), sha256: issuerHashes("sha256", subject, spki) };
    const octets = (hash: CertIdHash) => encodeCertId(hash, this.#hashes[hash], "01").length - 1;
    this.#octets = { sha1: octets("sha1"), sha256: octets("sha256") };
  }

  /** Its settings may change, and its certificate may be renewed over the same key. */
  get issuer(): OcspAuthority {
    return this.#issuer;
  }

  set issuer(issuer: OcspAuthority) {
    if (!issuer.certificate.equals(this.#issuer.certificate)) this.#lint = new OcspResponseLint(issuer.certificate);
    this.#issuer = issuer;
  }

  /** Judges what is answered in its name. */
  get lint(): OcspResponseLint {
    return this.#lint;
  }

  /**
   * A CRL of this CA, when it is one and not older than the one before; a text says why not. Answers that say otherwise are
   * gone when this resolves.
   */
  async takeCrl(crl: Pick<StoredCrl, "partition" | "der" | "number" | "nextUpdate">): Promise<string | undefined> {
    const before = this.#listed.get(crl.partition);
    const listed = await readListed(this.#issuer, crl, before);
    if (typeof listed === "string") return listed;
    this.#listed.set(crl.partition, listed);
    for (const serialNumber of new Set([...(before?.bySerial.keys() ?? []), ...listed.bySerial.keys()])) {
      const entry = this.certificates.get(serialNumber);
      if (entry !== undefined) this.tell(entry);
    }
    return undefined;
  }

  /** Decides anew what is answered about a certificate. */
  tell(entry: Entry): void {
    const listed = [...this.#listed.values()].flatMap(({ bySerial }) => bySerial.get(entry.serialNumber) ?? []);
    const { status, tampered } = toldStatus(entry.row, listed[0]);
    this.tampered[tampered ? "add" : "delete"](entry.serialNumber);
    if (sameStatus(entry.status, status)) return;
    entry.status = status;
    entry.sha1 = undefined;
    entry.sha256 = undefined;
  }

  /**
   * Whether what is answered about a certificate is proven. That it is revoked needs no proof; that it is not needs the
   * CRL that would list it, in force when the database was last read.
   */
  isProven({ status, partition }: Pick<Entry, "status" | "partition">, syncedAt: number): boolean {
    return status !== "good" || (this.#listed.get(partition)?.nextUpdate ?? 0) > syncedAt;
  }

  /** How requests name it. */
  get names(): readonly string[] {
    return [issuerName(this.#hashes.sha1), issuerName(this.#hashes.sha256)];
  }

  /** The CertID as it is signed in advance. */
  certId(hash: CertIdHash, serialNumber: string): Buffer {
    return encodeCertId(hash, this.#hashes[hash], serialNumber);
  }

  /** Whether this CertID of ours is encoded like that one: its hash may lack the parameters, and is a little shorter then. */
  isUsual({ hash, der, serialNumber }: CertId): boolean {
    return der.length === this.#octets[hash] + serialNumber.length;
  }
}

/** As far as an answer tells it. */
const sameStatus = (a: Entry["status"], b: Entry["status"]): boolean =>
  a === b || (a !== "good" && b !== "good" && a.at.getTime() === b.at.getTime() && a.reason === b.reason);

/** Both hashes in one text. A name's length tells which hash they are of. */
export const issuerName = ({ issuerNameHash, issuerKeyHash }: Pick<CertId, "issuerNameHash" | "issuerKeyHash">) =>
  issuerNameHash.toString("latin1") + issuerKeyHash.toString("latin1");
