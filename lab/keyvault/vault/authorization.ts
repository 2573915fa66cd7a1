import type { Role, VaultConfiguration } from "../config.ts";
import {
  type AccessToken,
  guidFrom,
  issuerOf,
  type TokenIssuer,
  TokenRefused,
  VAULT_RESOURCE,
} from "../entra/tokens.ts";
import { KeyVaultError } from "../errors.ts";
import type { Operation } from "./requests.ts";

const ACTION_PREFIX = "Microsoft.KeyVault/vaults/secrets/";

/** Data actions as "Azure permissions for Security" lists them. */
const ACTIONS: Readonly<Record<Operation, string>> = {
  SecretSet: "setSecret/action",
  SecretGet: "getSecret/action",
  SecretUpdate: "update/action",
  SecretDelete: "delete",
  SecretList: "readMetadata/action",
  SecretListVersions: "readMetadata/action",
  SecretBackup: "backup/action",
  SecretRestore: "restore/action",
  SecretGetDeleted: "getSecret/action",
  SecretListDeleted: "readMetadata/action",
  SecretRecover: "recover/action",
  SecretPurge: "purge/action",
};

const USER_ACTIONS: ReadonlySet<string> = new Set(["getSecret/action", "readMetadata/action"]);

/** "Azure built-in roles for Security". */
const ALLOWS: Readonly<Record<Role, (action: string) => boolean>> = {
  "Key Vault Secrets Officer": () => true,
  "Key Vault Secrets User": (action) => USER_ACTIONS.has(action),
};

/**
 * Who is calling; see "Azure Key Vault REST API Error Codes", HTTP 401, and "Authentication, requests and responses".
 * @throws KeyVaultError 401 with the bearer challenge
 */
export async function authenticate(
  header: string | undefined,
  vault: VaultConfiguration,
  tokens: TokenIssuer,
): Promise<AccessToken> {
  const token = /^Bearer +(\S+)$/i.exec(header ?? "")?.[1];
  if (token === undefined) {
    throw unauthorized(vault, "AKV10000: Request is missing a Bearer or PoP token.");
  }
  const claims = await verified(token, vault, tokens);
  if (claims.audience !== VAULT_RESOURCE) {
    throw unauthorized(vault, `AKV10022: Invalid audience. Expected ${VAULT_RESOURCE}, found: ${claims.audience}.`);
  }
  const expected = issuerOf(vault.tenant);
  if (claims.issuer !== expected) {
    throw unauthorized(vault, `AKV10032: Invalid issuer. Expected one of ${expected}, found ${claims.issuer}.`);
  }
  return claims;
}

async function verified(token: string, vault: VaultConfiguration, tokens: TokenIssuer): Promise<AccessToken> {
  try {
    return await tokens.verify(token);
  } catch (error) {
    if (!(error instanceof TokenRefused)) {
      throw error;
    }
    throw unauthorized(
      vault,
      error.reason === "expired"
        ? "[TokenExpired] Error validating token: 'S2S12086'."
        : `AKV10046: Unable to resolve the key used for signature validation. EncodedJwtHeader: '${token.split(".")[0]}'.`,
    );
  }
}

function unauthorized(vault: VaultConfiguration, message: string): KeyVaultError {
  return new KeyVaultError(401, "Unauthorized", message, {
    headers: {
      "WWW-Authenticate": `Bearer authorization="https://login.microsoftonline.com/${vault.tenant}", resource="${VAULT_RESOURCE}"`,
    },
  });
}

/** @throws KeyVaultError 403 ForbiddenByRbac when no grant covers the operation */
export function authorize(caller: AccessToken, operation: Operation, name: string, vault: VaultConfiguration): void {
  const action = ACTIONS[operation];
  const allowed = vault.grants.some((grant) => grant.clientId === caller.clientId && ALLOWS[grant.role](action));
  if (allowed) {
    return;
  }
  const subscription = guidFrom(vault.tenant);
  const resource = `/subscriptions/${subscription}/resourcegroups/lab/providers/microsoft.keyvault/vaults/${vault.name.toLowerCase()}`;
  const lines = [
    "Caller is not authorized to perform action on resource.",
    "If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.",
    `Caller: appid=${caller.clientId};oid=${caller.objectId};iss=${caller.issuer}`,
    `Action: '${ACTION_PREFIX}${action}'`,
    `Resource: '${resource}${name === "" ? "" : `/secrets/${name.toLowerCase()}`}'`,
    "Assignment: (not found)",
    "DenyAssignmentId: null",
    "DecisionReason: null ",
    `Vault: ${vault.name};location=westeurope`,
    "",
  ];
  throw new KeyVaultError(403, "Forbidden", lines.join("\r\n"), { innerCode: "ForbiddenByRbac" });
}
