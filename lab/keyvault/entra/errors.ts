import { randomUUID } from "node:crypto";
import type { Reply } from "../exchange.ts";

/**
 * A refusal of the token endpoint. Numbers and their meaning: "Microsoft Entra authentication and authorization error
 * codes"; the body's members: "Microsoft identity platform and the OAuth 2.0 client credentials flow".
 */
export class EntraError extends Error {
  override name = "EntraError";
  readonly status: number;
  readonly error: string;
  readonly number: number;

  constructor(status: number, error: string, number: number, description: string) {
    super(description);
    this.status = status;
    this.error = error;
    this.number = number;
  }

  reply(correlationId: string = randomUUID()): Reply {
    const traceId = randomUUID();
    const timestamp = `${new Date().toISOString().slice(0, 19).replace("T", " ")}Z`;
    return {
      status: this.status,
      headers: { "x-ms-request-id": traceId, "Cache-Control": "no-store, no-cache" },
      body: {
        error: this.error,
        error_description:
          `AADSTS${this.number}: ${this.message} ` +
          `Trace ID: ${traceId} Correlation ID: ${correlationId} Timestamp: ${timestamp}`,
        error_codes: [this.number],
        timestamp,
        trace_id: traceId,
        correlation_id: correlationId,
        error_uri: `https://login.microsoftonline.com/error?code=${this.number}`,
      },
    };
  }
}

export const invalidClient = (number: number, description: string) =>
  new EntraError(401, "invalid_client", number, description);

export const invalidRequest = (number: number, description: string) =>
  new EntraError(400, "invalid_request", number, description);

export const missingParameter = (name: string) =>
  invalidRequest(900144, `The request body must contain the following parameter: '${name}'.`);

export const unknownTenant = (tenant: string) =>
  invalidRequest(
    90002,
    `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the ` +
      "correct cloud. Check with your subscription administrator, this may happen if there are no active " +
      "subscriptions for the tenant.",
  );

export const unknownApplication = (clientId: string, tenant: string) =>
  new EntraError(
    400,
    "unauthorized_client",
    700016,
    `Application with identifier '${clientId}' was not found in the directory '${tenant}'. This can happen if the ` +
      "application has not been installed by the administrator of the tenant or consented to by any user in the " +
      "tenant. You may have sent your authentication request to the wrong tenant.",
  );

/** What the directory says with a status that is none of the caller's doing. */
export function failureOf(status: number): EntraError {
  return status === 403
    ? new EntraError(status, "access_denied", 53003, "Access has been blocked by Conditional Access policies.")
    : new EntraError(status, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.");
}
