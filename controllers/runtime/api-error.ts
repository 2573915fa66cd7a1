/** What the API server answered when it refused, without anything that may be a value. */
import { SafeError } from "../../core/errors.ts";
import { coreSecrets, type ResourceType, resourceLabel } from "./resource-type.ts";

export interface ApiErrorCause {
  readonly reason?: string;
  readonly field?: string;
  readonly message?: string;
}

/** The parts of `metav1.Status.details` that are used. */
export interface ApiErrorDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly ApiErrorCause[];
}

export class ApiError extends SafeError {
  /** HTTP status. */
  readonly status: number;
  /** `metav1.Status.reason`, for example `NotFound`, `Conflict`, `Invalid`; empty when the answer was no Status. */
  readonly reason: string;
  readonly details: ApiErrorDetails;
  readonly retryAfterSeconds: number | undefined;

  constructor(init: {
    readonly status: number;
    readonly reason: string;
    readonly message: string;
    readonly details?: ApiErrorDetails;
    readonly retryAfterSeconds?: number | undefined;
  }) {
    super(init.message);
    this.name = "ApiError";
    this.status = init.status;
    this.reason = init.reason;
    this.details = init.details ?? {};
    this.retryAfterSeconds = init.retryAfterSeconds;
  }
}

/**
 * True only when the answer names the object. A 404 because the kind or the route is missing carries no name and must
 * not look like a deleted object.
 */
export const isNotFound = (error: unknown, name: string): error is ApiError =>
  error instanceof ApiError && error.status === 404 && error.reason === "NotFound" && error.details.name === name;

/** Somebody else wrote first, or a precondition does not hold. */
export const isConflict = (error: unknown): error is ApiError =>
  error instanceof ApiError && error.status === 409 && error.reason === "Conflict";

/** We lack the right. */
export const isForbidden = (error: unknown): error is ApiError => error instanceof ApiError && error.status === 403;

export const isAlreadyExists = (error: unknown): error is ApiError =>
  error instanceof ApiError && error.status === 409 && error.reason === "AlreadyExists";

/** The resourceVersion or the continue token is too old. */
export const isGone = (error: unknown): error is ApiError => error instanceof ApiError && error.status === 410;

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

const defined = <T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as never;

const isCoreSecret = (type: ResourceType | undefined): boolean =>
  type !== undefined && type.group === coreSecrets.group && type.plural === coreSecrets.plural;

/**
 * Builds the error from an answer. The API server quotes what it refuses (`Invalid value: "..."`), and for core
 * Secrets that is the secret itself: there only the reason and the paths of the fields are kept.
 */
export const apiError = (answer: {
  readonly status: number;
  readonly body: unknown;
  readonly type?: ResourceType | undefined;
  readonly operation: string;
  readonly retryAfterSeconds?: number | undefined;
}): ApiError => {
  const body = record(answer.body);
  const isStatus = body.kind === "Status";
  const details = record(body.details);
  const secret = isCoreSecret(answer.type);
  const causes = Array.isArray(details.causes) ? details.causes.map(record) : [];
  const reason = (isStatus ? text(body.reason) : undefined) ?? "";
  const kept: ApiErrorDetails = isStatus
    ? defined({
        name: text(details.name),
        group: text(details.group),
        kind: text(details.kind),
        uid: text(details.uid),
        causes: causes.map((cause) =>
          defined({
            reason: text(cause.reason),
            field: text(cause.field),
            message: secret ? undefined : text(cause.message),
          }),
        ),
      })
    : {};
  const fields = causes.map((cause) => text(cause.field)).filter((field) => field !== undefined);
  const quoted = secret ? fields.join(", ") : isStatus ? text(body.message) : undefined;
  const what = answer.type === undefined ? answer.operation : `${answer.operation} ${resourceLabel(answer.type)}`;
  const bodySeconds = typeof details.retryAfterSeconds === "number" ? details.retryAfterSeconds : undefined;
  return new ApiError({
    status: answer.status,
    reason,
    message: `${what}: ${answer.status} ${reason}${quoted ? `: ${quoted}` : ""}`.trimEnd(),
    details: kept,
    retryAfterSeconds: answer.retryAfterSeconds ?? bodySeconds,
  });
};
