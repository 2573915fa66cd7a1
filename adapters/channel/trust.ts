/** Whether the primary is the one that this gateway may speak to. */
import { createHash, timingSafeEqual, X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { CHANNEL_HOST } from "../../core/fleet/protocol.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { type ChainFault, validateChain } from "../../core/pki/chain.ts";
import { DerError } from "../../core/pki/der/reader.ts";
import { ChannelError } from "./errors.ts";

export type PrimaryTrust =
  /** SHA-256 of the SubjectPublicKeyInfo of the fleet's root, 32 bytes; before the root itself is known. */
  | { readonly kind: "Fingerprint"; readonly sha256OfRootSpki: Buffer }
  /** The fleet's root. */
  | { readonly kind: "Root"; readonly pem: string };

/** A chain that is longer than this is no chain of the fleet's. */
const MAX_CHAIN = 10;

/**
 * Judges the certificates that the primary has shown: a path to the trusted root, dates, name and purpose of the first
 * (RFC 5280, 6.1). That it has the key was proved in the handshake.
 *
 * @returns DER of the root
 * @throws ChannelError PrimaryNotTrusted, InnerTlsFailed
 */
export function verifyPrimary(socket: TLSSocket, trust: PrimaryTrust, at = new Date()): Buffer {
  const chain = chainOf(socket.getPeerX509Certificate());
  const root = trust.kind === "Root" ? new X509Certificate(trust.pem).raw : rootIn(chain, trust.sha256OfRootSpki);
  const [leaf, ...others] = chain;
  if (leaf === undefined || root === undefined) throw notTrusted(trust);
  const names = [{ kind: "dns", value: CHANNEL_HOST } as const];
  const verdict = validateChain(leaf, others, [root], { at, purpose: "serverAuth", names });
  if (!verdict.ok) throw faulty(verdict.fault, trust);
  // With the root known, OpenSSL has judged as well.
  if (trust.kind === "Root" && !socket.authorized) {
    const fault = socket.authorizationError?.toString() ?? "no reason";
    throw new ChannelError("InnerTlsFailed", `the certificate of the primary does not hold (${fault})`);
  }
  return root;
}

function chainOf(first: X509Certificate | undefined): Buffer[] {
  const chain: Buffer[] = [];
  for (let next = first; next !== undefined && chain.length < MAX_CHAIN; next = next.issuerCertificate) {
    const { raw } = next;
    if (chain.some((other) => other.equals(raw))) break;
    chain.push(raw);
  }
  return chain;
}

const rootIn = (chain: readonly Buffer[], fingerprint: Buffer): Buffer | undefined =>
  chain.find((certificate) => {
    const digest = createHash("sha256").update(spkiOf(certificate)).digest();
    return digest.length === fingerprint.length && timingSafeEqual(digest, fingerprint);
  });

function spkiOf(certificate: Buffer): Buffer {
  try {
    return parseCertificate(certificate).spki;
  } catch (error) {
    if (error instanceof DerError) return Buffer.alloc(0);
    throw error;
  }
}

function faulty(fault: ChainFault, trust: PrimaryTrust): ChannelError {
  if (fault === "issuerMissing" || fault === "signature" || fault === "malformed") return notTrusted(trust);
  const clocks = fault === "expired" || fault === "notYetValid" ? ": compare the clocks of both clusters" : "";
  const message = `the certificate that the primary showed does not hold (${fault})${clocks}; nothing was sent`;
  return new ChannelError("InnerTlsFailed", message);
}

function notTrusted({ kind }: PrimaryTrust): ChannelError {
  const other = kind === "Root" ? "this gateway is registered with" : "the bootstrap token names";
  const mend = kind === "Root" ? "register again with a new bootstrap token" : "take a token of that primary";
  return new ChannelError(
    "PrimaryNotTrusted",
    `whoever answers at the address of the primary does not belong to the fleet that ${other}; nothing was sent. Look whether the address is right; if the primary was made anew, ${mend}`,
  );
}
