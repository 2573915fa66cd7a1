import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
  type X509Certificate,
} from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { errors, exportJWK, type JWK, type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { Settings } from "../settings.ts";
import { writeFileAtomically } from "../write-file.ts";

export const VAULT_RESOURCE = "https://vault.azure.net";

/** The claims of an access token that the vault looks at. */
export interface AccessToken {
  readonly audience: string;
  readonly issuer: string;
  readonly tenant: string;
  readonly clientId: string;
  readonly objectId: string;
  /** Seconds since 1970. */
  readonly expires: number;
}

/** Why a token was refused. */
export class TokenRefused extends Error {
  override name = "TokenRefused";
  readonly reason: "malformed" | "expired" | "signature";

  constructor(reason: TokenRefused["reason"]) {
    super(reason);
    this.reason = reason;
  }
}

const VERIFIED_LIMIT = 10_000;

/** Signs and verifies access tokens in the form of Microsoft Entra ID's version 1 (see "Access tokens in the Microsoft identity platform"). */
export class TokenIssuer {
  readonly #privateKey: KeyObject;
  readonly #publicKey: KeyObject;
  readonly #keyId: string;
  readonly #verified = new Map<string, AccessToken>();
  readonly #settings: Pick<Settings, "tokenLifetimeSeconds">;

  private constructor(privateKey: KeyObject, settings: Pick<Settings, "tokenLifetimeSeconds">) {
    this.#privateKey = privateKey;
    this.#publicKey = createPublicKey(privateKey);
    const der = this.#publicKey.export({ type: "spki", format: "der" });
    this.#keyId = createHash("sha1").update(der).digest("base64url");
    this.#settings = settings;
  }

  /** Keeps its RSA key in a file, made on first use, so that tokens stay valid over a restart. */
  static open(keyFile: string, settings: Pick<Settings, "tokenLifetimeSeconds">): TokenIssuer {
    if (!existsSync(keyFile)) {
      const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
      writeFileAtomically(keyFile, privateKey.export({ type: "pkcs8", format: "pem" }).toString(), 0o600);
    }
    return new TokenIssuer(createPrivateKey(readFileSync(keyFile)), settings);
  }

  /** Lifetime of new tokens in seconds. */
  get lifetime(): number {
    return this.#settings.tokenLifetimeSeconds;
  }

  /** The signing key, whose bytes also protect backups. */
  get key(): KeyObject {
    return this.#privateKey;
  }

  async publicKeys(): Promise<{ keys: JWK[] }> {
    const jwk = await exportJWK(this.#publicKey);
    return { keys: [{ ...jwk, kid: this.#keyId, x5t: this.#keyId, use: "sig" }] };
  }

  async issue(claims: {
    tenant: string;
    clientId: string;
    audience: string;
    authenticatedBy: "0" | "1" | "2";
  }): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const oid = objectId(claims.tenant, claims.clientId);
    return new SignJWT({
      appid: claims.clientId,
      appidacr: claims.authenticatedBy,
      idp: issuerOf(claims.tenant),
      idtyp: "app",
      oid,
      tid: claims.tenant,
      uti: randomUUID(),
      ver: "1.0",
    })
      .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: this.#keyId, x5t: this.#keyId })
      .setIssuer(issuerOf(claims.tenant))
      .setAudience(claims.audience)
      .setSubject(oid)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + this.lifetime)
      .sign(this.#privateKey);
  }

  /** @throws TokenRefused */
  async verify(token: string): Promise<AccessToken> {
    const known = this.#verified.get(token);
    if (known !== undefined) {
      if (known.expires <= Date.now() / 1000) {
        this.#verified.delete(token);
        throw new TokenRefused("expired");
      }
      return known;
    }
    const verified = readClaims(await this.#payload(token));
    if (this.#verified.size >= VERIFIED_LIMIT) {
      this.#verified.clear();
    }
    this.#verified.set(token, verified);
    return verified;
  }

  async #payload(token: string): Promise<JWTPayload> {
    try {
      return (await jwtVerify(token, this.#publicKey, { algorithms: ["RS256"] })).payload;
    } catch (error) {
      if (error instanceof errors.JWTExpired) {
        throw new TokenRefused("expired");
      }
      throw new TokenRefused(error instanceof errors.JWSSignatureVerificationFailed ? "signature" : "malformed");
    }
  }
}

function readClaims(payload: JWTPayload): AccessToken {
  const { aud, iss, exp, tid, appid, oid } = payload;
  if (
    typeof aud !== "string" ||
    iss === undefined ||
    exp === undefined ||
    typeof tid !== "string" ||
    typeof appid !== "string" ||
    typeof oid !== "string"
  ) {
    throw new TokenRefused("malformed");
  }
  return { audience: aud, issuer: iss, tenant: tid, clientId: appid, objectId: oid, expires: exp };
}

export function issuerOf(tenant: string): string {
  return `https://sts.windows.net/${tenant}/`;
}

/** The service principal's object id: always the same GUID for an application in a tenant. */
export function objectId(tenant: string, clientId: string): string {
  return guidFrom(`${tenant}/${clientId}`);
}

/** A GUID that depends on nothing but the text. */
export function guidFrom(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Base64url thumbprints of a certificate, as they stand in `x5t` (SHA-1) and `x5t#S256`. */
export function thumbprints(certificate: X509Certificate): { sha1: string; sha256: string } {
  const digest = (algorithm: string) => createHash(algorithm).update(certificate.raw).digest("base64url");
  return { sha1: digest("sha1"), sha256: digest("sha256") };
}
