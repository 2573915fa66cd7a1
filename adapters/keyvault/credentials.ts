/**
 * Credentials of Entra ID. Each keeps its tokens as long as it lives, so it is made anew when what it was made from
 * changes. Failures are judged by what the token endpoint answered, not by the SDK's texts.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { HttpClient } from "@azure/core-rest-pipeline";
import type { TokenCredential, TokenCredentialOptions } from "@azure/identity";
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { OwnVaultAuth, VaultAuth } from "../../core/ports/target-vaults.ts";
import { type Attempt, describe, faultOf, tokenAnswer } from "./answer.ts";
import type { AzureCall } from "./lane.ts";

export interface IdentityOptions {
  /** Of the cloud; Azure's public one when absent. */
  readonly authorityHost?: string;
  /** Do not ask Azure's public cloud about the authority; for clouds that cannot reach it. */
  readonly disableInstanceDiscovery?: boolean;
  /** Client ID of the managed identity where the resource names none; the system-assigned one when absent. */
  readonly managedIdentityClientId?: string;
  readonly requestTimeoutMs: number;
  readonly onCall: (call: AzureCall) => void;
}

/** OAuth errors that stay until a person changes something. RFC 6749, section 5.2, and RFC 8707. */
const FINAL: ReadonlySet<string> = new Set([
  "invalid_client",
  "unauthorized_client",
  "invalid_grant",
  "invalid_request",
  "invalid_scope",
  "invalid_resource",
  "invalid_target",
  "access_denied",
]);

const CLIENT_SECRET = "spec.auth.servicePrincipal.clientSecretRef";
const CERTIFICATE = "spec.auth.servicePrincipal.certificateSecretRef";

/** What to do about a credential that is not accepted; the error codes of Entra ID are too many to tell them apart. */
const remedies: Readonly<Record<OwnVaultAuth["kind"], string>> = {
  ClientSecret: `check tenantId and clientId, and put a valid client secret into the core Secret of ${CLIENT_SECRET}`,
  ClientCertificate: `check tenantId and clientId, and whether the application knows the certificate of ${CERTIFICATE}`,
  WorkloadIdentity:
    "check tenantId and clientId, and whether the identity has a federated credential for the ServiceAccount of spec.auth.workloadIdentity",
  ManagedIdentity:
    "check spec.auth.managedIdentity.clientId (without it AZURE_MANAGED_IDENTITY_CLIENT_ID of the operator), and whether the identity is assigned to where the operator runs",
};

/** @throws Stalled with CredentialInvalid: calls through gateways are tasks, which only a primary has */
export function ownAuth(auth: VaultAuth): OwnVaultAuth {
  if (auth.kind !== "Gateway") return auth;
  throw new Stalled(
    "CredentialInvalid",
    "spec.auth.gateway: only a primary has gateways; apply the KeyVault there, or set spec.auth.managedIdentity",
  );
}

/** Equal for two resources whose credentials are interchangeable. Holds no secret. */
export function credentialKey(auth: OwnVaultAuth): string {
  switch (auth.kind) {
    case "ClientSecret":
    case "ClientCertificate":
      return JSON.stringify([auth.kind, auth.tenantId, auth.clientId, auth.sourceVersion]);
    case "WorkloadIdentity":
      return JSON.stringify([auth.kind, auth.tenantId, auth.clientId, auth.serviceAccount]);
    case "ManagedIdentity":
      return JSON.stringify([auth.kind, auth.clientId ?? null]);
  }
}

/** @throws Stalled with CredentialInvalid, when it is not well formed; no request is made */
export function makeCredential(auth: OwnVaultAuth, wire: HttpClient, options: IdentityOptions): TokenCredential {
  return new Credential(auth, wire, options);
}

/** What came of the last token request; several callers may wait for one. */
const exchanges = new AsyncLocalStorage<{ last?: Attempt }>();

class Credential implements TokenCredential {
  readonly #make: () => Promise<TokenCredential>;
  readonly #tenantId: string | undefined;
  readonly #remedy: string;
  #made: Promise<TokenCredential> | undefined;

  constructor(auth: OwnVaultAuth, wire: HttpClient, options: IdentityOptions) {
    this.#remedy = remedies[auth.kind];
    this.#tenantId = auth.kind === "ManagedIdentity" ? undefined : auth.tenantId;
    this.#make = prepare(withDefault(auth, options), {
      httpClient: tokenClient(wire, options),
      retryOptions: { maxRetries: 0 },
      ...(options.authorityHost !== undefined && { authorityHost: options.authorityHost }),
      ...(options.disableInstanceDiscovery && { disableInstanceDiscovery: true }),
    });
  }

  /** The caller's signal is not passed on: others may wait for the same token. */
  async getToken(...[scopes, asked = {}]: Parameters<TokenCredential["getToken"]>) {
    const { enableCae, claims, tenantId } = asked;
    if (this.#tenantId !== undefined && tenantId !== undefined && tenantId !== this.#tenantId) {
      throw new Stalled(
        "CredentialInvalid",
        `the vault belongs to the tenant ${tenantId}, the credential to ${this.#tenantId}; correct the tenantId in spec.auth`,
      );
    }
    const exchange: { last?: Attempt } = {};
    try {
      this.#made ??= this.#make();
      const made = await this.#made;
      return await exchanges.run(exchange, () =>
        made.getToken(scopes, {
          ...(enableCae !== undefined && { enableCae }),
          ...(claims !== undefined && { claims }),
          ...(tenantId !== undefined && { tenantId }),
        }),
      );
    } catch (error) {
      // After a 5xx the SDK would refuse by itself for a minute. Of a 429 it heeds the Retry-After, which is right.
      if (exchange.last && isDown(exchange.last)) this.#made = undefined;
      throw judge(error, exchange.last, this.#remedy);
    }
  }
}

const withDefault = (auth: OwnVaultAuth, { managedIdentityClientId: clientId }: IdentityOptions): OwnVaultAuth =>
  auth.kind === "ManagedIdentity" && clientId !== undefined ? { clientId, ...auth } : auth;

const isDown = (attempt: Attempt): boolean => "fault" in attempt || attempt.status >= 500;

function prepare(auth: OwnVaultAuth, options: TokenCredentialOptions): () => Promise<TokenCredential> {
  switch (auth.kind) {
    case "ClientSecret": {
      // A line feed at the end, as editors leave it, would make Entra ID refuse the secret.
      const secret = auth.secret.reveal().toString("utf8").trim();
      if (secret === "") throw new Stalled("CredentialInvalid", `${CLIENT_SECRET}: the client secret is empty`);
      return async () =>
        new (await import("@azure/identity")).ClientSecretCredential(auth.tenantId, auth.clientId, secret, options);
    }
    case "ClientCertificate": {
      const certificate = auth.pem.reveal().toString("utf8");
      checkCertificate(certificate);
      return async () =>
        new (await import("@azure/identity")).ClientCertificateCredential(
          auth.tenantId,
          auth.clientId,
          { certificate },
          options,
        );
    }
    case "WorkloadIdentity":
      return async () =>
        new (await import("@azure/identity")).ClientAssertionCredential(
          auth.tenantId,
          auth.clientId,
          () => auth.token(),
          options,
        );
    case "ManagedIdentity": {
      const { clientId } = auth;
      return async () =>
        new (await import("@azure/identity")).ManagedIdentityCredential({
          ...options,
          ...(clientId !== undefined && { clientId }),
        });
    }
  }
}

function checkCertificate(pem: string): void {
  const invalid = (what: string) => new Stalled("CredentialInvalid", `${CERTIFICATE}: the client certificate ${what}`);
  let certificate: X509Certificate;
  let fits: boolean;
  try {
    certificate = new X509Certificate(pem);
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== "rsa") throw invalid("has a key that is not RSA, which Entra ID needs");
    fits = certificate.checkPrivateKey(key);
  } catch (error) {
    if (error instanceof Stalled) throw error;
    throw invalid("needs a PEM certificate and its unencrypted PEM private key in one value");
  }
  if (!fits) throw invalid("does not belong to the private key beside it");
  if (certificate.validToDate.getTime() < Date.now()) {
    throw invalid(`expired at ${certificate.validToDate.toISOString()}; replace it`);
  }
}

/** Bounds each request and remembers its end; credentials have no time-out of their own. */
function tokenClient(wire: HttpClient, { requestTimeoutMs, onCall }: IdentityOptions): HttpClient {
  return {
    sendRequest: async (request) => {
      const exchange = exchanges.getStore() ?? {};
      const timeout = AbortSignal.timeout(requestTimeoutMs);
      request.abortSignal = request.abortSignal
        ? AbortSignal.any([request.abortSignal as AbortSignal, timeout])
        : timeout;
      const started = performance.now();
      const ended = (last: Attempt): void => {
        exchange.last = last;
        const code = "fault" in last ? last.fault : `${last.status}`;
        const id = "requestId" in last ? { requestId: last.requestId } : {};
        onCall({ target: "entra", operation: "token", code, seconds: (performance.now() - started) / 1000, ...id });
      };
      try {
        const response = await wire.sendRequest(request);
        ended(tokenAnswer(response));
        return response;
      } catch (error) {
        ended({ fault: timeout.aborted ? "timeout" : faultOf(error) });
        throw error;
      }
    },
  };
}

/** Our own errors (a ServiceAccount that is gone) come back wrapped by the SDK. */
function judge(error: unknown, last: Attempt | undefined, remedy: string): Error {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (each instanceof Stalled || each instanceof Unavailable || each instanceof Waiting) return each;
  }
  if (last === undefined) {
    const message = `no token was asked for (${faultOf(error)}); Entra ID wanted to be left alone for a while`;
    return new Unavailable("IdentityUnavailable", message);
  }
  const final = "status" in last && last.status < 500 && last.code !== undefined && FINAL.has(last.code);
  return final
    ? new Stalled("CredentialInvalid", `Entra ID does not accept the credential (${describe(last)}); ${remedy}`)
    : new Unavailable("IdentityUnavailable", `Entra ID gave no token (${describe(last)})`);
}
