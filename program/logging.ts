/**
 * Logs with redaction by type and by name, at every level. What can be logged is what is known to be harmless:
 * - `Sensitive` values and bytes print as `[redacted]`;
 * - fields whose names carry values or credentials (`data`, `body`, `token`, ...) print as `[redacted]`, at any depth;
 * - errors print type, code and stack frames; their message only when it is a `SafeError`. A foreign message may quote what it was given (JSON.parse does, and so do SQL and HTTP libraries).
 */
import { type DestinationStream, type Logger, pino } from "pino";
import { SafeError } from "../core/errors.ts";
import { Sensitive } from "../core/sensitive.ts";

export type { Logger } from "pino";

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

export interface LoggerOptions {
  readonly level?: LogLevel;
  /** Standard output when absent. */
  readonly destination?: DestinationStream;
  /** Of the trace that a line belongs to; asked at each line. */
  readonly traceId?: () => string | undefined;
}

const REDACTED = "[redacted]";

/** Compared in lower case and without `-` and `_`. */
const REDACTED_NAMES = new Set([
  "data",
  "stringdata",
  "literal",
  "value",
  "values",
  "body",
  "requestbody",
  "responsebody",
  "plaintext",
  "token",
  "accesstoken",
  "refreshtoken",
  "idtoken",
  "clientsecret",
  "clientassertion",
  "password",
  "passphrase",
  "privatekey",
  "authorization",
  "proxyauthorization",
  "cookie",
  "setcookie",
  "headers",
  "connectionstring",
]);

const MAX_DEPTH = 6;
const MAX_ITEMS = 100;

export interface LoggedError {
  /** The error's name; its class where it has no name of its own. */
  readonly type: string;
  readonly code?: string;
  readonly status?: number;
  readonly message?: string;
  /** Frames only: the first lines of a stack repeat the message. */
  readonly stack?: string;
  readonly cause?: LoggedError;
}

const frames = (stack: string | undefined): string | undefined => {
  const lines = stack?.split("\n").filter((line) => /^\s+at /.test(line));
  return lines === undefined || lines.length === 0 ? undefined : lines.join("\n");
};

const typeOf = (error: Error): string =>
  error.name === "" || error.name === "Error" ? error.constructor.name : error.name;

/** An error as far as it is safe to show. */
export const describeError = (error: unknown, depth = 0): LoggedError => {
  if (!(error instanceof Error)) return { type: typeof error };
  const { code, status } = error as { code?: unknown; status?: unknown };
  const stack = frames(error.stack);
  return {
    type: typeOf(error),
    // Codes are constants such as ECONNREFUSED or 23505; anything longer is not one.
    ...(typeof code === "string" && /^[A-Za-z0-9_]{1,64}$/.test(code) ? { code } : {}),
    ...(typeof status === "number" ? { status } : {}),
    ...(error instanceof SafeError ? { message: error.message } : {}),
    ...(stack === undefined ? {} : { stack }),
    ...(error.cause !== undefined && depth < 4 ? { cause: describeError(error.cause, depth + 1) } : {}),
  };
};

/** A copy that is safe to print. */
export const redact = (value: unknown, depth = 0): unknown => {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return typeof value === "function" ? undefined : value;
  if (value instanceof Sensitive || ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return REDACTED;
  if (value instanceof Error) return describeError(value);
  if (value instanceof Date) return value.toJSON();
  if (value instanceof URL) return `${value.protocol}//${value.host}${value.pathname}`;
  if (depth >= MAX_DEPTH) return "[deeper]";
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => redact(item, depth + 1));
  const entries = value instanceof Map ? [...value].map(([k, v]) => [String(k), v] as const) : Object.entries(value);
  return Object.fromEntries(
    entries
      .slice(0, MAX_ITEMS)
      .map(([name, item]) => [
        name,
        REDACTED_NAMES.has(name.toLowerCase().replaceAll(/[-_]/g, "")) ? REDACTED : redact(item, depth + 1),
      ]),
  );
};

/** JSON lines with ISO times. Log objects of ours and messages without values; the objects are redacted. */
export const createLogger = (options: LoggerOptions = {}): Logger => {
  const { traceId } = options;
  const logger = pino(
    {
      level: options.level ?? "info",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: "message",
      errorKey: "error",
      ...(traceId !== undefined && {
        mixin: () => {
          const id = traceId();
          return id === undefined ? {} : { trace_id: id };
        },
      }),
      // pino would take what `redact` made of an error for an error again, of type Object.
      serializers: { error: (described: unknown) => described },
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => redact(fields) as Record<string, unknown>,
      },
      hooks: {
        // pino prints the message of an error that is passed alone or first; ours decides what is shown of it.
        logMethod(args, method) {
          const [first, ...rest] = args as unknown[];
          const fields = first instanceof Error ? { error: first } : first;
          const message = rest.length === 0 && first instanceof Error ? [typeOf(first)] : rest;
          method.apply(this, [fields, ...message] as Parameters<typeof method>);
        },
      },
    },
    options.destination ?? pino.destination(1),
  );
  // Formatters see what is logged, but not the bindings of a child.
  const { child } = logger;
  logger.child = function redacted(this: Logger, bindings, childOptions) {
    return child.call(this, redact(bindings) as typeof bindings, childOptions);
  } as typeof child;
  return logger;
};
