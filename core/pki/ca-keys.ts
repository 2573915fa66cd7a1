import type { KeyObject } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { AuthorityGeneration, AuthorityIdentity, AuthorityRecord, SealedKey } from "../ports/pki-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { DerError } from "./der/reader.ts";
import { keyIdentifier } from "./key.ts";
import { importPrivateKey, type KeyOwner, sealPrivateKey } from "./sealed-key.ts";
import { LocalSigner, type Signer } from "./signer.ts";

/** A generation of a CA that can sign. */
export interface SigningCa {
  readonly authorityId: string;
  readonly generation: number;
  /** DER of its Name, the issuer of what it signs. */
  readonly subject: Buffer;
  readonly signer: Signer;
  /** Undefined while its own is being made. */
  readonly certificate: Certificate | undefined;
  /** Its certificate, then those above it up to the root. */
  readonly chain: readonly Buffer[];
}

/** As its certificate has it, who signed it elsewhere may have computed it otherwise (RFC 5280 4.2.1.1). */
export const keyIdentifierOf = ({ certificate, signer }: SigningCa): Buffer =>
  certificate?.subjectKeyIdentifier ?? keyIdentifier(signer.spki);

/** So many CAs sign without their key being unwrapped again. */
const MOST_CACHED = 256;

/** Seals and opens the keys of CAs. Opened ones stay in memory as KeyObjects, which do not print. */
export class CaKeys {
  readonly #keys: KeyRing;
  /** Least recently used first. */
  readonly #open = new Map<string, SigningCa>();

  constructor(keys: KeyRing) {
    this.#keys = keys;
  }

  async seal(
    writer: Writer,
    authority: Pick<AuthorityRecord, "id" | "identity">,
    generation: Pick<AuthorityGeneration, "number" | "subject">,
    key: KeyObject,
  ): Promise<SealedKey> {
    const keys = await this.#keys.pki(writer);
    return sealPrivateKey(writer, keys, this.#keys.installationId, ownerOf(authority, generation), key);
  }

  /**
   * The generation, its key unwrapped and its certificate judged: it must certify this key and name, and be signed by
   * the one above it.
   *
   * @throws Unavailable TamperDetected, KeyUnavailable, DatabaseUnavailable
   */
  async open(writer: Writer | Unled, authority: AuthorityRecord, generation: AuthorityGeneration): Promise<SigningCa> {
    const place = `${authority.id} ${generation.number}`;
    const cached = this.#open.get(place);
    if (cached !== undefined && sameCertificate(cached, generation)) {
      this.#open.delete(place);
      this.#open.set(place, cached);
      return cached;
    }
    const { sealedKey } = generation;
    if (sealedKey === undefined) throw new TypeError(`the key of authority ${authority.id} is at the primary`);
    const keys = await this.#keys.pki(writer);
    const owner = ownerOf(authority, generation);
    const key = importPrivateKey(keys, this.#keys.installationId, owner, sealedKey);
    const signer = new LocalSigner(key);
    const opened: SigningCa = {
      authorityId: authority.id,
      generation: generation.number,
      subject: generation.subject,
      signer,
      certificate: judgedCertificate(authority.identity, generation, signer.spki),
      chain: generation.certificate === undefined ? [] : [generation.certificate, ...generation.chain],
    };
    this.#open.set(place, opened);
    const [oldest] = this.#open.keys();
    if (this.#open.size > MOST_CACHED && oldest !== undefined) this.#open.delete(oldest);
    return opened;
  }
}

const ownerOf = (
  { id, identity }: Pick<AuthorityRecord, "id" | "identity">,
  { number, subject }: Pick<AuthorityGeneration, "number" | "subject">,
): KeyOwner => ({
  kind: "Authority",
  namespace: identity.namespace,
  namespaceUid: identity.namespaceUid,
  name: identity.name,
  id,
  number,
  bound: [identity.kind, subject],
});

function sameCertificate({ chain }: SigningCa, generation: AuthorityGeneration): boolean {
  const stored = generation.certificate === undefined ? [] : [generation.certificate, ...generation.chain];
  return chain.length === stored.length && chain.every((each, at) => stored[at]?.equals(each));
}

function judgedCertificate(
  identity: AuthorityIdentity,
  { certificate, subject, spki, chain }: AuthorityGeneration,
  own: Buffer,
): Certificate | undefined {
  const tampered = (what: string) =>
    new Unavailable("TamperDetected", `${what} of ${identity.kind} ${identity.name} is not its own; see the runbook`);
  if (!spki.equals(own)) throw tampered("the public key");
  if (certificate === undefined) return undefined;
  try {
    const path = [certificate, ...chain].map(parseCertificate);
    const [leaf] = path;
    const signedInOrder = path.every((each, index) => {
      const above = path[index + 1] ?? each;
      return each.issuerDer.equals(above.subjectDer) && verifySignedBy(each, above.spki);
    });
    if (leaf?.spki.equals(own) && leaf.subjectDer.equals(subject) && signedInOrder) return leaf;
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
  }
  throw tampered("the certificate");
}
