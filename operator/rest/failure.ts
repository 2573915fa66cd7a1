/** Which problem an error is. What is not known here is a defect of ours, and says nothing of itself. */
import { ApiError } from "../../controllers/runtime/api-error.ts";
import { ExportOvertaken } from "../../core/audit/export.ts";
import { Fenced, Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { FleetRefused } from "../../core/fleet/errors.ts";
import { WriteQueueFull } from "../../core/fleet/queued-writes.ts";
import { RequestRefused } from "../../core/idempotency/requests.ts";
import { IdentityRefused, TooManyAttempts, Unauthenticated } from "../../core/identity/errors.ts";
import { Conflict } from "../../core/ports/vault-store.ts";
import { Problem, type ProblemStatus, retryAfter } from "./problem.ts";

const AGAIN_MS = 1_000;

/** Of refusals that are not about what the request says. */
const refusalStatus: Partial<Record<IdentityRefused["code"], ProblemStatus>> = {
  Changed: 409,
  EmailTaken: 409,
  LastAdmin: 409,
  NotFound: 404,
};

const fleetStatus: Record<FleetRefused["code"], ProblemStatus> = {
  TokenMalformed: 400,
  TokenRefused: 403,
  PlaceDiffers: 409,
  GatewayRevoked: 403,
  CertificateUnknown: 403,
  CertificateExpired: 401,
};

export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof Unauthenticated) {
    return new Problem(401, "Unauthenticated", error.message, { headers: { "www-authenticate": "Bearer" } });
  }
  if (error instanceof TooManyAttempts) {
    return new Problem(429, "TooManyRequests", error.message, { headers: retryAfter(error.retryAfterMs) });
  }
  if (error instanceof IdentityRefused) {
    const { code, message } = error;
    return new Problem(refusalStatus[code] ?? 422, code, message);
  }
  if (error instanceof RequestRefused) {
    const { code, message, retryAfterMs } = error;
    const headers = retryAfterMs === undefined ? {} : retryAfter(retryAfterMs);
    return new Problem(code === "IdempotencyKeyReused" ? 422 : 409, code, message, { headers });
  }
  if (error instanceof WriteQueueFull)
    return new Problem(503, error.name, error.message, { headers: retryAfter(error.retryAfterMs) });
  if (error instanceof Conflict) {
    return new Problem(
      409,
      "ChangedMeanwhile",
      "somebody else changed it in the same moment; read it again and repeat",
    );
  }
  if (error instanceof FleetRefused) return new Problem(fleetStatus[error.code], error.code, error.message);
  if (error instanceof Stalled || error instanceof Waiting) return new Problem(409, error.code, error.message);
  if (error instanceof Unavailable) {
    const { code, message } = error;
    // Waiting does not help against these; a person has to look.
    if (code === "TamperDetected") return new Problem(500, code, message, { cause: error });
    return new Problem(503, code, message, { headers: retryAfter(AGAIN_MS), cause: error });
  }
  if (error instanceof ExportOvertaken) {
    return new Problem(503, error.name, error.message, { headers: retryAfter(AGAIN_MS), cause: error });
  }
  if (error instanceof Fenced) {
    return new Problem(503, "LeaderChanged", "another replica has just taken over; repeat the request", {
      headers: retryAfter(AGAIN_MS),
      cause: error,
    });
  }
  if (error instanceof ApiError) return apiProblem(error);
  return (
    ofExpress(error) ??
    new Problem(500, "InternalError", "this is a defect; the log has more under this request id", { cause: error })
  );
}

/** What the API server refused is the caller's to mend, as with kubectl; anything else is ours. */
function apiProblem(error: ApiError): Problem {
  const { status, reason, details, retryAfterSeconds } = error;
  if (status === 422 || (status === 400 && reason === "BadRequest")) {
    const errors = (details.causes ?? []).map(({ field = "", message = "" }) => ({ field, message }));
    return new Problem(422, "RefusedByKubernetes", error.message, { errors });
  }
  if (status === 409)
    return new Problem(409, reason === "AlreadyExists" ? "AlreadyExists" : "ChangedMeanwhile", error.message);
  if (status === 404) return new Problem(404, "NotFound", error.message);
  const pauseMs = (retryAfterSeconds ?? AGAIN_MS / 1000) * 1000;
  return new Problem(503, "KubernetesUnavailable", error.message, { headers: retryAfter(pauseMs), cause: error });
}

/** Errors of express and its body parser carry a type and a status; their messages may quote the body. */
function ofExpress(error: unknown): Problem | undefined {
  const { type, status } = error as { readonly type?: unknown; readonly status?: unknown };
  if (error instanceof URIError) return new Problem(400, "InvalidRequest", "the path is not well encoded");
  switch (type) {
    case "entity.too.large":
      return new Problem(413, "BodyTooLarge", "the body may have one megabyte at most");
    case "entity.parse.failed":
      return new Problem(400, "InvalidRequest", "body: must be JSON", {
        errors: [{ field: "body", message: "must be JSON" }],
      });
    case "charset.unsupported":
    case "encoding.unsupported":
      return new Problem(415, "UnsupportedMediaType", "the body must be JSON in UTF-8, plain or compressed with gzip");
    default:
      return typeof type === "string" && typeof status === "number" && status < 500
        ? new Problem(400, "InvalidRequest", "body: cannot be read")
        : undefined;
  }
}
