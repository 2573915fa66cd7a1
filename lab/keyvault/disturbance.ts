import { setTimeout as delay } from "node:timers/promises";
import type { Reply } from "./exchange.ts";
import type { Disturbance } from "./faults.ts";

/** The connection is cut instead of answering. */
export const NO_ANSWER = "drop";
/** What a caller gets when it gets no answer: a cut connection, or silence on an open one. */
export type Unanswered = typeof NO_ANSWER | "hang";

/**
 * Runs a call as the disturbance wants it: late, not at all, or with another end than its own.
 * @param failure what the service answers with a status
 */
export async function disturb(
  disturbance: Disturbance | undefined,
  call: () => Promise<Reply | Unanswered>,
  failure: (status: number) => Reply,
): Promise<Reply | Unanswered> {
  if (disturbance === undefined) {
    return call();
  }
  if (disturbance.latency > 0) {
    await delay(disturbance.latency);
  }
  const { effect } = disturbance;
  switch (effect?.kind) {
    case undefined:
      return call();
    case "hang":
    case "drop":
      return effect.kind;
    case "status":
      return withRetryAfter(failure(effect.status), effect.retryAfterSeconds);
    case "process-then-drop":
      await call();
      return NO_ANSWER;
    case "process-then-status":
      await call();
      return withRetryAfter(failure(effect.status), effect.retryAfterSeconds);
  }
}

function withRetryAfter({ headers, ...reply }: Reply, seconds: number | undefined): Reply {
  return { ...reply, headers: { ...headers, ...(seconds === undefined ? {} : { "Retry-After": String(seconds) }) } };
}
