/** A bootstrap token as a gateway has it: what it says of the primary, before anything is sent there. */
import type { Sensitive } from "../sensitive.ts";
import { parseBootstrapToken } from "./bootstrap-token.ts";
import { FleetRefused } from "./errors.ts";

export interface PresentedToken {
  /** The whole token, for the primary alone. */
  readonly text: Sensitive;
  /** SHA-256 of its secret: tells whether it was used before. */
  readonly hash: Buffer;
  /** SHA-256 of the SubjectPublicKeyInfo of the primary's fleet root. */
  readonly rootDigest: Buffer;
}

/** Undefined when it is no bootstrap token. */
export function presentedToken(text: Sensitive): PresentedToken | undefined {
  try {
    const { hash, rootFingerprint } = parseBootstrapToken(text.revealText());
    return { text, hash, rootDigest: rootFingerprint };
  } catch (error) {
    if (error instanceof FleetRefused) return undefined;
    throw error;
  }
}
