/** What an error means for the key that it happened to. */
import { Fenced, Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { PkiConflict } from "../../core/ports/pki-store.ts";
import { Conflict } from "../../core/ports/vault-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import { ApiError, isConflict } from "./api-error.ts";

export type Verdict =
  /** Waits for a change; only the slow resync looks again. */
  | { readonly retry: "onChange"; readonly outcome: "stalled"; readonly reason: Reason; readonly message: string }
  | {
      readonly retry: "after";
      readonly outcome: "waiting";
      readonly afterMs: number;
      readonly reason: Reason;
      readonly message: string;
    }
  | {
      readonly retry: "backoff";
      readonly outcome: "error";
      /** What the other side asked for; the backoff is at least that. */
      readonly atLeastMs: number;
      readonly reason: Reason;
      readonly message: string;
    }
  /** Somebody wrote first: look again at what is there now. Says nothing in status. */
  | { readonly retry: "soon"; readonly outcome: "conflict" }
  /** This process must not write any more. */
  | { readonly retry: "never"; readonly outcome: "fenced"; readonly error: Fenced };

export const verdictOf = (error: unknown): Verdict => {
  if (error instanceof Stalled) {
    return { retry: "onChange", outcome: "stalled", reason: error.code, message: error.message };
  }
  if (error instanceof Waiting) {
    const { code: reason, message, afterMs } = error;
    return { retry: "after", outcome: "waiting", afterMs, reason, message };
  }
  if (error instanceof Fenced) return { retry: "never", outcome: "fenced", error };
  if (isConflict(error) || error instanceof Conflict || error instanceof PkiConflict)
    return { retry: "soon", outcome: "conflict" };
  if (error instanceof Unavailable) {
    return { retry: "backoff", outcome: "error", atLeastMs: 0, reason: error.code, message: error.message };
  }
  if (error instanceof ApiError) {
    const passing = error.status === 401 || error.status === 403 || error.status === 429 || error.status >= 500;
    return {
      retry: "backoff",
      outcome: "error",
      atLeastMs: (error.retryAfterSeconds ?? 0) * 1000,
      reason: passing ? "ApiServerUnavailable" : "Failed",
      message: error.message,
    };
  }
  // A foreign error's message may quote a value, so it is for nobody's eyes; the log has its name, code and frames.
  const message = "an unexpected error; the operator's log has the details under this object's name";
  return { retry: "backoff", outcome: "error", atLeastMs: 0, reason: "Failed", message };
};
