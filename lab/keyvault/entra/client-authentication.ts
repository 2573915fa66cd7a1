import { createHash, createPublicKey, type KeyObject, timingSafeEqual, X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
} from "jose";
import type { ApplicationConfiguration, FederatedCredential } from "../config.ts";
import { invalidClient, invalidRequest } from "./errors.ts";
import { thumbprints } from "./tokens.ts";

export const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const CLOCK_SKEW_SECONDS = 300;

/** `appidacr` of the access token: "1" by secret, "2" by certificate or federation. */
export type AuthenticationMethod = "1" | "2";

/** @throws EntraError AADSTS7000215 */
export function authenticateBySecret(application: ApplicationConfiguration, secret: string): AuthenticationMethod {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  if (application.secret === undefined || !timingSafeEqual(digest(secret), digest(application.secret))) {
    throw invalidClient(
      7000215,
      "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not " +
        `the client secret ID, for a secret added to app '${application.clientId}'.`,
    );
  }
  return "1";
}

/**
 * Verifies a client assertion: one signed with the application's certificate ("Microsoft identity platform application
 * authentication certificate credentials") when it names the application as its issuer, else one of an external
 * identity provider ("Workload identity federation").
 * @throws EntraError
 */
export async function authenticateByAssertion(
  application: ApplicationConfiguration,
  assertion: string,
  audiences: readonly string[],
): Promise<AuthenticationMethod> {
  const claims = decode(assertion);
  if (claims.iss === application.clientId || claims.sub === application.clientId) {
    await verifyCertificateAssertion(application, assertion, claims, audiences);
  } else {
    await verifyFederatedAssertion(application, assertion, claims);
  }
  return "2";
}

function decode(assertion: string): JWTPayload {
  try {
    return decodeJwt(assertion);
  } catch {
    throw invalidRequest(50027, "JWT token is invalid or malformed.");
  }
}

async function verifyCertificateAssertion(
  application: ApplicationConfiguration,
  assertion: string,
  claims: JWTPayload,
  audiences: readonly string[],
): Promise<void> {
  if (claims.iss !== application.clientId || claims.sub !== application.clientId) {
    throw invalidClient(700021, "Client assertion application identifier doesn't match 'client_id' parameter.");
  }
  const header = decodeProtectedHeader(assertion);
  const thumbprint = header["x5t#S256"] ?? header.x5t;
  const certificate =
    application.certificateFile === undefined
      ? undefined
      : new X509Certificate(readFileSync(application.certificateFile));
  const known = certificate === undefined ? undefined : thumbprints(certificate);
  const matches = header["x5t#S256"] === undefined ? header.x5t === known?.sha1 : header["x5t#S256"] === known?.sha256;
  if (certificate === undefined || thumbprint === undefined || !matches) {
    throw certificateRefused(application, "The key was not found.", String(thumbprint ?? ""));
  }
  if (Date.parse(certificate.validTo) < Date.now()) {
    throw certificateRefused(application, "The key used is expired.", String(thumbprint));
  }
  await verify(assertion, certificate.publicKey, () =>
    certificateRefused(application, "Client assertion failed signature validation.", String(thumbprint)),
  );
  const audience = typeof claims.aud === "string" ? claims.aud : claims.aud?.[0];
  if (audience === undefined || !audiences.includes(audience)) {
    throw invalidClient(
      700023,
      `Client assertion audience claim does not match Realm issuer. Expected ${audiences[0]}.`,
    );
  }
}

function certificateRefused(application: ApplicationConfiguration, reason: string, thumbprint: string) {
  return invalidClient(
    700027,
    "The certificate with identifier used to sign the client assertion is not registered on application. " +
      `[Reason - ${reason}, Thumbprint of key used by client: '${thumbprint}', ` +
      `Application: '${application.clientId}'].`,
  );
}

async function verifyFederatedAssertion(
  application: ApplicationConfiguration,
  assertion: string,
  claims: JWTPayload,
): Promise<void> {
  const ofIssuer = application.federatedCredentials.filter((credential) => credential.issuer === claims.iss);
  const ofSubject = ofIssuer.filter((credential) => credential.subject === claims.sub);
  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
  const credential = ofSubject.find((candidate) => audiences.includes(candidate.audience));
  if (ofIssuer.length === 0) {
    throw noMatchingRecord(700211, "issuer", claims.iss);
  }
  if (ofSubject.length === 0) {
    throw noMatchingRecord(700213, "subject", claims.sub);
  }
  if (credential === undefined) {
    throw noMatchingRecord(700212, "audience", audiences.join(", "));
  }
  const refuse = () =>
    invalidClient(700027, "Client assertion failed signature validation. [Reason - The key was not found.]");
  for (const key of credentialKeys(credential)) {
    if (await signatureFits(assertion, key)) {
      return verify(assertion, key, refuse);
    }
  }
  throw refuse();
}

function noMatchingRecord(number: number, what: string, presented: string | undefined) {
  return invalidClient(
    number,
    `No matching federated identity record found for presented assertion ${what} '${presented ?? ""}'. ` +
      "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
      "https://learn.microsoft.com/entra/workload-id/workload-identity-federation",
  );
}

type VerificationKey = KeyObject | ReturnType<typeof createLocalJWKSet>;

async function verify(assertion: string, key: VerificationKey, refuse: () => Error): Promise<void> {
  try {
    await check(assertion, key);
  } catch (error) {
    if (error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed) {
      throw invalidClient(
        700024,
        `Client assertion is not within its valid time range. Current time: ${new Date().toISOString()}.`,
      );
    }
    throw refuse();
  }
}

async function signatureFits(assertion: string, key: VerificationKey): Promise<boolean> {
  try {
    await check(assertion, key);
    return true;
  } catch (error) {
    return error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed;
  }
}

function check(assertion: string, key: VerificationKey) {
  const options = {
    algorithms: ["RS256", "PS256", "ES256", "RS384", "RS512", "ES384"],
    clockTolerance: CLOCK_SKEW_SECONDS,
    requiredClaims: ["exp"],
  };
  // The library tells a key from a key set by its type only; the two overloads do not meet in a union.
  return typeof key === "function" ? jwtVerify(assertion, key, options) : jwtVerify(assertion, key, options);
}

const keysByFile = new Map<string, { changed: number; keys: VerificationKey[] }>();

/** The issuer's keys: read when first needed and again when the file changed, since issuers rotate. */
function credentialKeys(credential: FederatedCredential): VerificationKey[] {
  const file = credential.publicKeyFile ?? credential.jwksFile ?? "";
  const changed = statSync(file).mtimeMs;
  const known = keysByFile.get(file);
  if (known?.changed === changed) {
    return known.keys;
  }
  const text = readFileSync(file, "utf8");
  const keys =
    credential.jwksFile === undefined
      ? (text.match(/-----BEGIN [^-]+-----[^-]+-----END [^-]+-----/g) ?? []).map((pem) => createPublicKey(pem))
      : [createLocalJWKSet(JSON.parse(text) as JSONWebKeySet)];
  keysByFile.set(file, { changed, keys });
  return keys;
}
