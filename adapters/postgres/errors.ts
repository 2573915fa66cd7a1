import { Fenced, Unavailable } from "../../core/errors.ts";
import { KeyReplaced } from "../../core/ports/key-store.ts";

/** SQLSTATEs that our own functions raise. */
export const FENCED = "MV001";
export const CONFLICT = "MV002";
export const ATTEMPT_OVER = "MV003";
const KEY_REPLACED = "MV004";

/** Connection exceptions, operator intervention, too many connections, out of resources, read-only standby, a new schema. */
const UNAVAILABLE = /^(08|57|53)|^(0A000|25006|55P03|40001|40P01|3D000|28000|28P01)$/;

/** The five characters of an error that PostgreSQL sent; undefined for all others, also for `EPIPE` of the system. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" && /^(?!E[A-Z]{4})[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** What was prepared before a migration has another result now: PostgreSQL refuses it on that connection for ever. */
const PLAN_IS_OLD = "0A000";

/** What pg says when `query_timeout` has passed. */
const LATE = "Query read timeout";

/** Whether the connection cannot be used again: everything that PostgreSQL did not answer in order. */
export function breaksConnection(error: unknown): boolean {
  const state = sqlState(error);
  return state === undefined || state === PLAN_IS_OLD || state.startsWith("08") || state.startsWith("57P");
}

/**
 * The error that core knows. PostgreSQL's message is passed on only where it speaks of the connection: others may quote
 * a row.
 */
export function mapError(error: unknown): Unavailable {
  const state = sqlState(error);
  if (state === undefined) {
    const { message } = error as Error;
    const why =
      message === LATE ? "a query had no answer in time; look at its load and locks, and at the network" : message;
    return new Unavailable("DatabaseUnavailable", `PostgreSQL does not answer: ${why}`, { cause: error });
  }
  if (UNAVAILABLE.test(state)) {
    const { message } = error as Error;
    return new Unavailable("DatabaseUnavailable", `PostgreSQL cannot serve now (${state}): ${message}`, {
      cause: error,
    });
  }
  if (state === ATTEMPT_OVER) {
    return new Unavailable("Failed", "it took too long, and another attempt at this request is under way", {
      cause: error,
    });
  }
  return new Unavailable("Failed", `PostgreSQL refused a statement (SQLSTATE ${state})`, { cause: error });
}

/** As `mapError`, for a write with this epoch; what is written without leading cannot be fenced. */
export function mapWriteError(error: unknown, epoch: bigint | undefined): Error {
  const state = sqlState(error);
  if (state === KEY_REPLACED) return new KeyReplaced();
  return epoch !== undefined && state === FENCED ? new Fenced(epoch) : mapError(error);
}
