import { issuerOf } from "./tokens.ts";

const HOST = "https://login.microsoftonline.com";

/** See "OpenID Connect on the Microsoft identity platform". */
export function openIdConfiguration(tenant: string, version: "v1.0" | "v2.0"): object {
  const second = version === "v2.0";
  const oauth = second ? "oauth2/v2.0" : "oauth2";
  return {
    token_endpoint: `${HOST}/${tenant}/${oauth}/token`,
    token_endpoint_auth_methods_supported: ["client_secret_post", "private_key_jwt"],
    jwks_uri: `${HOST}/${tenant}/discovery/${second ? "v2.0/" : ""}keys`,
    response_modes_supported: ["query", "fragment", "form_post"],
    subject_types_supported: ["pairwise"],
    id_token_signing_alg_values_supported: ["RS256"],
    response_types_supported: ["code", "id_token", "code id_token", "id_token token"],
    scopes_supported: ["openid", "profile", "email", "offline_access"],
    issuer: second ? `${HOST}/${tenant}/v2.0` : issuerOf(tenant),
    authorization_endpoint: `${HOST}/${tenant}/${oauth}/authorize`,
    end_session_endpoint: `${HOST}/${tenant}/${oauth}/logout`,
    tenant_region_scope: "EU",
    cloud_instance_name: "microsoftonline.com",
  };
}

/** The instance discovery document with which clients check that an authority is Microsoft's. */
export function cloudMetadata(tenant: string): object {
  return {
    tenant_discovery_endpoint: `${HOST}/${tenant}/v2.0/.well-known/openid-configuration`,
    "api-version": "1.1",
    metadata: [
      {
        preferred_network: "login.microsoftonline.com",
        preferred_cache: "login.windows.net",
        aliases: ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"],
      },
    ],
  };
}
