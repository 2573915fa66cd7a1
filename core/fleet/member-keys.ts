/** Keys of a gateway: made here, sealed for its own database, certified by the primary. */
import { createHash, type KeyObject } from "node:crypto";
import { type Certificate, parseCertificate, verifySignedBy } from "../pki/certificate.ts";
import { createCsr } from "../pki/csr.ts";
import { DerError } from "../pki/der/reader.ts";
import { generateKey, spkiOf } from "../pki/key.ts";
import { MalformedInput } from "../pki/malformed-input.ts";
import { parsePem, pem } from "../pki/pem.ts";
import { importPrivateKey, type KeyOwner, sealPrivateKey } from "../pki/sealed-key.ts";
import { LocalSigner } from "../pki/signer.ts";
import type { MemberKey, MembershipRecord } from "../ports/membership-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { PkiKeys } from "../vault/keyring.ts";
import { MembershipFault } from "./membership-fault.ts";

/** What every key of a registration is bound to: whoever exchanges the primary's root in the database loses the keys. */
export type Registered = Pick<MembershipRecord, "tokenHash" | "rootDigest">;

export interface InstallationPkiKeys {
  readonly installationId: string;
  pki(writer: Writer): Promise<PkiKeys>;
}

const digestOf = (spki: Buffer): Buffer => createHash("sha256").update(spki).digest();

const ownerOf = (digest: Buffer, { tokenHash, rootDigest }: Registered): KeyOwner => ({
  kind: "Membership",
  namespace: "",
  namespaceUid: "",
  name: "gateway",
  id: digest.toString("hex"),
  number: 0,
  bound: [rootDigest, tokenHash],
});

/** A new ECDSA P-256 key without a certificate, to be stored before anybody hears of it. */
export async function makeMemberKey(writer: Writer, keys: InstallationPkiKeys, of: Registered): Promise<MemberKey> {
  const key = await generateKey({ algorithm: "ECDSA", size: 256 });
  const digest = digestOf(spkiOf(key));
  const owner = ownerOf(digest, of);
  const sealed = await sealPrivateKey(writer, await keys.pki(writer), keys.installationId, owner, key);
  return { digest, sealed, certificates: [], receivedAt: undefined };
}

/** @throws Unavailable TamperDetected */
export async function openMemberKey(
  writer: Writer,
  keys: InstallationPkiKeys,
  of: Registered,
  { digest, sealed }: MemberKey,
): Promise<KeyObject> {
  return importPrivateKey(await keys.pki(writer), keys.installationId, ownerOf(digest, of), sealed);
}

/** PKCS #10 in PEM. Only the key counts, the primary knows the rest. */
export const memberCsr = async (key: KeyObject): Promise<string> =>
  pem("CERTIFICATE REQUEST", await createCsr([], [], new LocalSigner(key)));

/**
 * What the primary certified, in DER: the gateway's certificate first, the root last.
 *
 * @param certificates PEM
 * @throws MembershipFault unless it is for this key, and leads to the root
 */
export function judgeCertificates(certificates: string, digest: Buffer, rootDigest: Buffer): readonly Buffer[] {
  let chain: readonly Certificate[];
  let leads: boolean;
  try {
    chain = parsePem(certificates, "certificates").map(({ der }) => parseCertificate(der));
    leads = chain.every((each, at) => verifySignedBy(each, (chain[at + 1] ?? each).spki));
  } catch (error) {
    if (error instanceof DerError || error instanceof MalformedInput)
      throw new MembershipFault("PrimaryAnswerInvalid", "the primary answered with certificates that cannot be read");
    throw error;
  }
  const [own, root] = [chain.at(0), chain.at(-1)];
  if (own === undefined || root === undefined || chain.length < 2 || !leads || !digestOf(own.spki).equals(digest))
    throw new MembershipFault("PrimaryAnswerInvalid", "the primary answered with a certificate of another key");
  if (!digestOf(root.spki).equals(rootDigest))
    throw new MembershipFault("PrimaryUntrusted", "the certificate is of another root than the bootstrap token names");
  return chain.map(({ der }) => der);
}

/** The beginning and end of a certificate's life. */
export const lifeOf = ([own]: readonly Buffer[]): { readonly notBefore: Date; readonly notAfter: Date } | undefined =>
  own && parseCertificate(own);

const THIRD = 1 / 3;
/** Whatever its clock says, a gateway asks for no more certificates than this. */
const BETWEEN_RENEWALS_MS = 86_400_000;

/**
 * Whether two thirds of a certificate's life are over. Counted from when it came, since a clock that is wrong all the time counts
 * right; and to its end, since one that was put right meanwhile does not.
 */
export function isDue({ certificates, receivedAt }: MemberKey, now: Date): boolean {
  const life = lifeOf(certificates);
  if (life === undefined || receivedAt === undefined) return false;
  const wholeMs = life.notAfter.getTime() - life.notBefore.getTime();
  const heldMs = now.getTime() - receivedAt.getTime();
  if (heldMs >= wholeMs * (1 - THIRD)) return true;
  return Math.abs(heldMs) >= BETWEEN_RENEWALS_MS && life.notAfter.getTime() - now.getTime() <= wholeMs * THIRD;
}
