/** Errors as RFC 9457 problem details. What went wrong is told by a stable `code`; where and how to mend it by `errors`. */
import { z } from "zod";
import { SafeError } from "../../core/errors.ts";

export const PROBLEM_TYPE = "application/problem+json";

export const problemBody = z
  .object({
    type: z.literal("about:blank").meta({ description: "There is no page about it; `code` tells problems apart." }),
    title: z.string().meta({ description: "The reason phrase of the status." }),
    status: z.int().min(400).max(599).meta({ description: "The HTTP status." }),
    code: z.string().meta({ description: "A constant that a program can decide by, such as VersionNotKept." }),
    detail: z.string().meta({ description: "What is wrong and what to do, for a person." }),
    errors: z
      .array(
        z.object({
          field: z.string().meta({ description: "The parameter, header or field of the body, such as body.values." }),
          message: z.string().meta({ description: "What it must be." }),
        }),
      )
      .optional()
      .meta({ description: "Each part of the request that is wrong." }),
    requestId: z.string().meta({ description: "Stands in the log and in the audit record." }),
  })
  .meta({ description: "What went wrong (RFC 9457)." });
export type ProblemBody = z.infer<typeof problemBody>;

export const TITLES = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
} as const;
export type ProblemStatus = keyof typeof TITLES;

export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/** Thrown by a route to be answered as it is; its message is shown to the caller. */
export class Problem extends SafeError {
  readonly status: ProblemStatus;
  readonly code: string;
  readonly errors: readonly FieldError[];
  /** Further headers, such as Retry-After. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: ProblemStatus,
    code: string,
    detail: string,
    more: {
      readonly errors?: readonly FieldError[];
      readonly headers?: Readonly<Record<string, string>>;
      readonly cause?: unknown;
    } = {},
  ) {
    super(detail, more.cause === undefined ? {} : { cause: more.cause });
    this.name = "Problem";
    this.status = status;
    this.code = code;
    this.errors = more.errors ?? [];
    this.headers = more.headers ?? {};
  }

  body(requestId: string): ProblemBody {
    return {
      type: "about:blank",
      title: TITLES[this.status],
      status: this.status,
      code: this.code,
      detail: this.message,
      ...(this.errors.length > 0 && { errors: [...this.errors] }),
      requestId,
    };
  }
}

/** In whole seconds, and never too early. */
export const retryAfter = (ms: number): Readonly<Record<string, string>> => ({
  "retry-after": String(Math.max(1, Math.ceil(ms / 1000))),
});
