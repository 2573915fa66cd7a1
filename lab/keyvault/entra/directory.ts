import type { IncomingMessage } from "node:http";
import type { ApplicationConfiguration, TenantConfiguration } from "../config.ts";
import { type Reply, readBody } from "../exchange.ts";
import {
  ASSERTION_TYPE,
  type AuthenticationMethod,
  authenticateByAssertion,
  authenticateBySecret,
} from "./client-authentication.ts";
import { cloudMetadata, openIdConfiguration } from "./discovery.ts";
import {
  EntraError,
  invalidClient,
  invalidRequest,
  missingParameter,
  unknownApplication,
  unknownTenant,
} from "./errors.ts";
import { type TokenIssuer, VAULT_RESOURCE } from "./tokens.ts";

const BODY_LIMIT = 64 * 1024;

/** Resources that every tenant knows, so that a token for another service than Key Vault can be had too. */
const RESOURCES = new Set([VAULT_RESOURCE, "https://graph.microsoft.com", "https://management.azure.com"]);

/** Hosts under which the directory answers; the first is the one that challenges name. */
export const DIRECTORY_HOSTS: readonly string[] = [
  "login.microsoftonline.com",
  "login.windows.net",
  "login.microsoft.com",
  "sts.windows.net",
];

/** What Microsoft Entra ID offers to a daemon: discovery documents and the client credentials flow. */
export class Directory {
  readonly #tenants: ReadonlyMap<string, TenantConfiguration>;
  readonly #tokens: TokenIssuer;

  constructor(tenants: readonly TenantConfiguration[], tokens: TokenIssuer) {
    this.#tenants = new Map(tenants.map((tenant) => [tenant.id.toLowerCase(), tenant]));
    this.#tokens = tokens;
  }

  /** Never throws for what a client sent: refusals are replies. */
  async answer(request: IncomingMessage, url: URL): Promise<Reply> {
    try {
      return await this.#route(request, url);
    } catch (error) {
      if (error instanceof EntraError) {
        return error.reply(url.searchParams.get("client-request-id") ?? headerOf(request, "client-request-id"));
      }
      throw error;
    }
  }

  async #route(request: IncomingMessage, url: URL): Promise<Reply> {
    const [tenantId = "", ...rest] = url.pathname.split("/").filter((segment) => segment !== "");
    const path = rest.join("/");
    if (path === "discovery/instance") {
      return { status: 200, body: cloudMetadata(tenantOfAuthorization(url)) };
    }
    const tenant = this.#tenant(tenantId);
    switch (path) {
      case "v2.0/.well-known/openid-configuration":
        return { status: 200, body: openIdConfiguration(tenant.id, "v2.0") };
      case ".well-known/openid-configuration":
        return { status: 200, body: openIdConfiguration(tenant.id, "v1.0") };
      case "discovery/v2.0/keys":
      case "discovery/keys":
        return { status: 200, body: await this.#tokens.publicKeys() };
      case "oauth2/v2.0/token":
      case "oauth2/token":
        return request.method === "POST"
          ? this.#token(tenant, new URLSearchParams(await readBody(request, BODY_LIMIT)), path)
          : new EntraError(
              400,
              "invalid_request",
              900561,
              `The endpoint only accepts POST, OPTIONS requests. Received a ${request.method} request.`,
            ).reply();
      default:
        return { status: 404 };
    }
  }

  #tenant(id: string): TenantConfiguration {
    const tenant = this.#tenants.get(id.toLowerCase());
    if (tenant === undefined) {
      throw unknownTenant(id);
    }
    return tenant;
  }

  async #token(tenant: TenantConfiguration, form: URLSearchParams, path: string): Promise<Reply> {
    const grant = required(form, "grant_type");
    if (grant !== "client_credentials") {
      throw new EntraError(
        400,
        "unsupported_grant_type",
        70003,
        `The app requested an unsupported grant type '${grant}'.`,
      );
    }
    const clientId = required(form, "client_id");
    const application = tenant.applications.find((candidate) => candidate.clientId === clientId);
    if (application === undefined) {
      throw unknownApplication(clientId, tenant.id);
    }
    const audience = path === "oauth2/token" ? known(required(form, "resource"), tenant) : audienceOf(form, tenant);
    const authenticatedBy = await authenticate(application, form, tenant);
    const token = await this.#tokens.issue({ tenant: tenant.id, clientId, audience, authenticatedBy });
    const lifetime = this.#tokens.lifetime;
    return {
      status: 200,
      headers: { "Cache-Control": "no-store, no-cache", Pragma: "no-cache" },
      body: { token_type: "Bearer", expires_in: lifetime, ext_expires_in: lifetime, access_token: token },
    };
  }
}

function authenticate(
  application: ApplicationConfiguration,
  form: URLSearchParams,
  tenant: TenantConfiguration,
): Promise<AuthenticationMethod> | AuthenticationMethod {
  const secret = form.get("client_secret");
  const assertion = form.get("client_assertion");
  if (secret !== null) {
    return authenticateBySecret(application, secret);
  }
  if (assertion === null) {
    throw invalidClient(
      7000216,
      "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    );
  }
  if (form.get("client_assertion_type") !== ASSERTION_TYPE) {
    throw invalidRequest(900144, `The request body must contain the following parameter: 'client_assertion_type'.`);
  }
  return authenticateByAssertion(application, assertion, assertionAudiences(tenant.id));
}

/** The audiences that "certificate credentials" lists for an assertion, and the token endpoint itself. */
function assertionAudiences(tenant: string): string[] {
  return DIRECTORY_HOSTS.flatMap((host) => [
    `https://${host}/${tenant}/v2.0`,
    `https://${host}/${tenant}/oauth2/v2.0/token`,
    `https://${host}/${tenant}/oauth2/token`,
    `https://${host}/${tenant}/`,
  ]);
}

function audienceOf(form: URLSearchParams, tenant: TenantConfiguration): string {
  const scopes = required(form, "scope").split(" ");
  // Clients add the OpenID Connect scopes, which this flow ignores.
  const scope = scopes.find((each) => !["openid", "profile", "offline_access", "email"].includes(each)) ?? "";
  if (!scope.endsWith("/.default")) {
    throw new EntraError(
      400,
      "invalid_scope",
      1002012,
      `The provided value for scope ${scopes.join(" ")} is not valid. Client credential flows must have a scope value ` +
        "with /.default suffixed to the resource identifier (application ID URI).",
    );
  }
  return known(scope.slice(0, -"/.default".length), tenant);
}

function known(resource: string, tenant: TenantConfiguration): string {
  const audience = resource.replace(/\/$/, "");
  if (!RESOURCES.has(audience)) {
    throw new EntraError(
      400,
      "invalid_resource",
      500011,
      `The resource principal named ${resource} was not found in the tenant named ${tenant.id}. This can happen if the ` +
        "application has not been installed by the administrator of the tenant or consented to by any user in the tenant.",
    );
  }
  return audience;
}

function required(form: URLSearchParams, name: string): string {
  const value = form.get(name);
  if (value === null || value === "") {
    throw missingParameter(name);
  }
  return value;
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
}

function tenantOfAuthorization(url: URL): string {
  const endpoint = url.searchParams.get("authorization_endpoint");
  const path = endpoint !== null && URL.canParse(endpoint) ? new URL(endpoint).pathname : "";
  return path.split("/")[1] ?? "common";
}
