import { SafeError } from "../errors.ts";

/** Who it is could not be established. The same for everybody and everything: what was wrong stands in the audit record. */
export class Unauthenticated extends SafeError {
  readonly code = "Unauthenticated";
  constructor(options?: { cause?: unknown }) {
    super("the credentials are not valid", options);
    this.name = "Unauthenticated";
  }
}

/** Refused without a look at the credentials, which may be right. */
export class TooManyAttempts extends SafeError {
  readonly code = "TooManyAttempts";
  readonly retryAfterMs: number;
  constructor(retryAfterMs: number) {
    super(`too many attempts: try again in ${Math.ceil(retryAfterMs / 1_000)} s`);
    this.name = "TooManyAttempts";
    this.retryAfterMs = retryAfterMs;
  }
}

export type RefusalCode =
  | "EmailInvalid"
  | "EmailTaken"
  | "PasswordTooShort"
  | "PasswordTooLong"
  | "PasswordIsEmail"
  | "LastAdmin"
  | "ScopesMissing"
  | "ExpiryInvalid"
  | "NotFound"
  | "Changed";

/** What was asked for cannot be; the message names the rule. */
export class IdentityRefused extends SafeError {
  readonly code: RefusalCode;
  constructor(code: RefusalCode, message: string) {
    super(message);
    this.name = "IdentityRefused";
    this.code = code;
  }
}
