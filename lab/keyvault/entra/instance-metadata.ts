import type { IncomingMessage } from "node:http";
import type { ApplicationConfiguration, TenantConfiguration } from "../config.ts";
import type { Reply } from "../exchange.ts";
import { objectId, type TokenIssuer } from "./tokens.ts";

const API_VERSIONS = ["2018-02-01", "2019-08-01", "2019-11-01", "2020-06-01", "2021-02-01"];

interface ManagedIdentity {
  readonly tenant: string;
  readonly application: ApplicationConfiguration;
}

/**
 * The managed identity endpoint of a virtual machine; see "Azure Instance Metadata Service" and "How to use managed
 * identities for Azure resources on an Azure VM to acquire an access token".
 */
export class InstanceMetadata {
  readonly #identities: readonly ManagedIdentity[];
  readonly #tokens: TokenIssuer;

  constructor(tenants: readonly TenantConfiguration[], tokens: TokenIssuer) {
    this.#identities = tenants.flatMap((tenant) =>
      tenant.applications
        .filter((application) => application.managedIdentity)
        .map((application) => ({ tenant: tenant.id, application })),
    );
    this.#tokens = tokens;
  }

  async answer(request: IncomingMessage, url: URL): Promise<Reply> {
    if (url.pathname.replace(/\/$/, "") !== "/metadata/identity/oauth2/token") {
      return { status: 404, body: { error: "Not found" } };
    }
    if (request.method !== "GET") {
      return { status: 405, body: { error: "Method not allowed" } };
    }
    // Forwarded requests and requests without the header could have been smuggled through a proxy on the machine.
    if (
      request.headers["x-forwarded-for"] !== undefined ||
      request.headers.metadata?.toString().toLowerCase() !== "true"
    ) {
      return refuse("Required metadata header not specified");
    }
    const version = url.searchParams.get("api-version") ?? "";
    if (!API_VERSIONS.includes(version)) {
      return {
        status: 400,
        body: {
          error: "Bad request. api-version is invalid or was not specified in the request.",
          "newest-versions": API_VERSIONS.toReversed().slice(0, 3),
        },
      };
    }
    const resource = url.searchParams.get("resource");
    if (resource === null || resource === "") {
      return refuse("Required audience parameter not specified");
    }
    const identity = this.#identity(url.searchParams);
    return typeof identity === "string" ? refuse(identity) : this.#token(identity, resource);
  }

  /** The identity asked for, or why there is none. */
  #identity(query: URLSearchParams): ManagedIdentity | string {
    const clientId = query.get("client_id");
    const object = query.get("object_id") ?? query.get("principal_id");
    if (clientId !== null || object !== null) {
      return (
        this.#identities.find(({ tenant, application }) =>
          clientId === null ? objectId(tenant, application.clientId) === object : application.clientId === clientId,
        ) ?? "Identity not found"
      );
    }
    const [only, ...others] = this.#identities;
    if (others.length > 0) {
      return "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request";
    }
    return only ?? "Identity not found";
  }

  async #token({ tenant, application }: ManagedIdentity, resource: string): Promise<Reply> {
    const { clientId } = application;
    const audience = resource.replace(/\/$/, "");
    const token = await this.#tokens.issue({ tenant, clientId, audience, authenticatedBy: "2" });
    const now = Math.floor(Date.now() / 1000);
    const lifetime = this.#tokens.lifetime;
    return {
      status: 200,
      body: {
        access_token: token,
        client_id: clientId,
        expires_in: String(lifetime),
        expires_on: String(now + lifetime),
        ext_expires_in: String(lifetime),
        not_before: String(now),
        resource,
        token_type: "Bearer",
      },
    };
  }
}

function refuse(description: string): Reply {
  return { status: 400, body: { error: "invalid_request", error_description: description } };
}
