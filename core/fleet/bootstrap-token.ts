/**
 * What a gateway registers with: `mvg1.<secret>.<fingerprint>`. The secret is 32 random bytes, the fingerprint the SHA-256 of
 * the SubjectPublicKeyInfo of the fleet's root, by which the gateway knows the primary before it sends the secret; both in
 * base64url without padding (RFC 4648, section 5).
 */
import { createHash, randomBytes } from "node:crypto";
import { parseCertificate } from "../pki/certificate.ts";
import { FleetRefused } from "./errors.ts";

const PREFIX = "mvg1";
const SECRET_BYTES = 32;
/** Its form alone; `parseBootstrapToken` judges the rest. */
export const BOOTSTRAP_TOKEN = /^mvg1\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})$/;

export interface BootstrapToken {
  /** SHA-256 of the secret, which is all that is kept of it; 32 bytes. */
  readonly hash: Buffer;
  /** See `spkiFingerprint`. */
  readonly rootFingerprint: Buffer;
}

/** A new token; its text is told once and kept nowhere. */
export function makeBootstrapToken(rootFingerprint: Buffer): { readonly token: string; readonly hash: Buffer } {
  const secret = randomBytes(SECRET_BYTES);
  const token = [PREFIX, secret.toString("base64url"), rootFingerprint.toString("base64url")].join(".");
  return { token, hash: sha256(secret) };
}

/** @throws FleetRefused TokenMalformed */
export function parseBootstrapToken(text: string): BootstrapToken {
  const [, secret = "", fingerprint = ""] = BOOTSTRAP_TOKEN.exec(text) ?? [];
  return { hash: sha256(octets(secret)), rootFingerprint: octets(fingerprint) };
}

/**
 * SHA-256 of the SubjectPublicKeyInfo of a certificate, 32 bytes.
 *
 * @param certificateDer DER
 * @throws DerError
 */
export const spkiFingerprint = (certificateDer: Buffer): Buffer => sha256(parseCertificate(certificateDer).spki);

/** Of 43 characters the last one has two bits to spare, so only what comes out again was written by us. */
function octets(text: string): Buffer {
  const decoded = Buffer.from(text, "base64url");
  if (decoded.length === SECRET_BYTES && decoded.toString("base64url") === text) return decoded;
  throw new FleetRefused(
    "TokenMalformed",
    "token: must be mvg1.<secret>.<fingerprint>, both of 43 characters, as it was told when it was made; copy it whole",
  );
}

const sha256 = (content: Buffer): Buffer => createHash("sha256").update(content).digest();
