import { randomUUID } from "node:crypto";
import { errors, jwtVerify, SignJWT } from "jose";
import { Unauthenticated } from "./errors.ts";
import type { IdentityKeys, SigningKey } from "./keys.ts";
import { Recent } from "./recent.ts";

const ALGORITHM = "EdDSA";
/** RFC 9068, 2.1: nothing else that we sign can be taken for an access token. */
const TYPE = "at+jwt";
/** Ours have about 500 characters; what is longer is not even parsed. */
const LONGEST = 2_048;
/** By how much the clocks of replicas may differ. */
const CLOCK_TOLERANCE_S = 5;

export interface TokensOptions {
  readonly keys: IdentityKeys;
  readonly installationId: string;
  readonly audience: string;
  readonly tokenMs: number;
  readonly now: () => Date;
}

export interface TokenClaims {
  readonly userId: string;
  readonly sessionId: string;
}

interface Verified {
  readonly claims: TokenClaims;
  readonly validUntil: Date;
}

/** Access tokens: JWTs (RFC 7519), signed with Ed25519 (RFC 8037) and with nothing else (RFC 8725, 3.1). */
export class Tokens {
  readonly #options: TokensOptions;
  /** A signature takes longer to verify than everything else about a request; many come with the same one. */
  readonly #verified: Recent<Verified>;

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#verified = new Recent((token) => this.#verify(token));
  }

  /** Ends with the session at the latest. */
  async issue(
    { userId, sessionId }: TokenClaims,
    sessionExpiresAt: Date,
  ): Promise<{ readonly token: string; readonly expiresAt: Date }> {
    const { keys, installationId, audience, tokenMs, now } = this.#options;
    const key = await keys.signing();
    const issuedAt = Math.floor(now().getTime() / 1_000);
    const expiresAt = Math.floor(Math.min(now().getTime() + tokenMs, sessionExpiresAt.getTime()) / 1_000);
    const token = await new SignJWT({ sid: sessionId })
      .setProtectedHeader({ alg: ALGORITHM, typ: TYPE, kid: key.id })
      .setIssuer(installationId)
      .setAudience(audience)
      .setSubject(userId)
      .setJti(randomUUID())
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt)
      .setExpirationTime(expiresAt)
      .sign(key.private);
    return { token, expiresAt: new Date(expiresAt * 1_000) };
  }

  /** Whether its session goes on is another question. Throws `Unauthenticated`. */
  async verify(token: string): Promise<TokenClaims> {
    if (token.length > LONGEST) throw new Unauthenticated();
    const { claims, validUntil } = await this.#verified.get(token);
    if (validUntil <= this.#options.now()) throw new Unauthenticated();
    return claims;
  }

  async #verify(token: string): Promise<Verified> {
    const { keys, installationId, audience, now } = this.#options;
    let key: SigningKey | undefined;
    const keyOf = async ({ kid }: { readonly kid?: string }) => {
      key = typeof kid === "string" ? await keys.verifying(kid) : undefined;
      if (key === undefined) throw new Unauthenticated();
      return key.public;
    };
    try {
      const { payload } = await jwtVerify<{ readonly sid?: unknown }>(token, keyOf, {
        algorithms: [ALGORITHM],
        typ: TYPE,
        issuer: installationId,
        audience,
        requiredClaims: ["sub", "sid", "jti", "iat", "nbf", "exp"],
        clockTolerance: CLOCK_TOLERANCE_S,
        currentDate: now(),
      });
      const { sub, sid, exp } = payload;
      if (typeof sid !== "string" || sub === undefined || exp === undefined) throw new Unauthenticated();
      const expires = (exp + CLOCK_TOLERANCE_S) * 1_000;
      const keyEnds = key?.endsAt?.getTime() ?? Number.POSITIVE_INFINITY;
      return { claims: { userId: sub, sessionId: sid }, validUntil: new Date(Math.min(expires, keyEnds)) };
    } catch (error) {
      throw error instanceof errors.JOSEError ? new Unauthenticated({ cause: error }) : error;
    }
  }
}
