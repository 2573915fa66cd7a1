import type { Reply } from "./exchange.ts";

/**
 * An answer of the Key Vault data plane other than success. Codes and message forms follow "Azure Key Vault REST API
 * Error Codes" and "Common error codes for Azure Key Vault".
 */
export class KeyVaultError extends Error {
  override name = "KeyVaultError";
  readonly status: number;
  readonly code: string;
  readonly innerCode: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: string,
    message: string,
    details: { innerCode?: string; headers?: Record<string, string> } = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.innerCode = details.innerCode;
    this.headers = details.headers ?? {};
  }

  /** With the documented body; `innererror` is there only when the service gives one. */
  reply(): Reply {
    const { status, headers, code, message, innerCode } = this;
    const inner = innerCode === undefined ? {} : { innererror: { code: innerCode } };
    return { status, headers, body: { error: { code, message, ...inner } } };
  }
}

export const badParameter = (message: string) => new KeyVaultError(400, "BadParameter", message);

/** What the service says of any body member that breaks a limit. */
export const invalidProperty = () => badParameter("Property has invalid value\r\n");

export const methodNotAllowed = (allow: readonly string[]) =>
  new KeyVaultError(405, "MethodNotAllowed", "Method not supported", { headers: { Allow: allow.join(", ") } });

export const secretNotFound = (name: string, version?: string) =>
  new KeyVaultError(
    404,
    "SecretNotFound",
    `A secret with (name/id) ${version === undefined ? name : `${name}/${version}`} was not found in this key vault. ` +
      "If you recently deleted this secret you may be able to recover it using the correct recovery command. " +
      "For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
  );

export const deletedSecretNotFound = (name: string) =>
  new KeyVaultError(404, "SecretNotFound", `Deleted Secret not found: ${name}`);

export const secretDisabled = () =>
  new KeyVaultError(403, "Forbidden", "Operation get is not allowed on a disabled secret.", {
    innerCode: "SecretDisabled",
  });

export const conflict = (innerCode: string, message: string) =>
  new KeyVaultError(409, "Conflict", message, { innerCode });

export const isDeletedButRecoverable = (name: string) =>
  conflict(
    "ObjectIsDeletedButRecoverable",
    `Secret ${name} is currently in a deleted but recoverable state, and its name cannot be reused; ` +
      "in this state, the secret can only be recovered or purged.",
  );

export const isBeingDeleted = (name?: string) =>
  conflict(
    "ObjectIsBeingDeleted",
    name === undefined
      ? "Secret is currently being deleted."
      : `Secret ${name} is currently being deleted and cannot be re-created; retry later.`,
  );

export const isBeingRecovered = (name: string) =>
  conflict(
    "ObjectIsBeingRecovered",
    `Secret ${name} is currently being recovered and cannot be re-created; retry later.`,
  );

/** See "Azure Key Vault throttling guidance". */
export const throttled = (headers: Record<string, string> = {}) =>
  new KeyVaultError(
    429,
    "Throttled",
    "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
    { innerCode: "VaultRequestTypeLimitReached", headers },
  );

/** What the service says with a status that is none of the caller's doing. */
export function failureOf(status: number): KeyVaultError {
  switch (status) {
    case 403:
      return new KeyVaultError(
        403,
        "Forbidden",
        "Client address is not authorized and caller is not a trusted service.",
        {
          innerCode: "ForbiddenByFirewall",
        },
      );
    case 429:
      return throttled();
    case 503:
      return new KeyVaultError(503, "ServiceUnavailable", "The service is unavailable; retry later.");
    default:
      return new KeyVaultError(status, "InternalServerError", "An internal error occurred; retry later.");
  }
}
