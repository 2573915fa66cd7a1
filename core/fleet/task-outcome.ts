/** What came of a task, as it crosses the channel: errors come out as what they were. */
import { z } from "zod";
import { type Reason, reasons } from "../../crds/conditions.ts";
import { Stalled, Unavailable, Waiting } from "../errors.ts";
import { Ambiguous, Throttled } from "../ports/target-vault.ts";

const message = z.string().max(4_096);
/** What this version does not know is told as Failed. */
const code = z.string().transform((told): Reason => (told in reasons ? (told as Reason) : "Failed"));

const taskError = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Stalled"), code, message }),
  z.object({ kind: z.literal("Waiting"), code, message, afterMs: z.number().nonnegative() }),
  z.object({ kind: z.literal("Unavailable"), code, message }),
  z.object({ kind: z.literal("Throttled"), retryAfterMs: z.number().nonnegative() }),
  z.object({ kind: z.literal("Ambiguous"), operation: message, what: message }),
]);
export type TaskError = z.infer<typeof taskError>;

export const taskOutcome = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Done"), result: z.unknown() }),
  z.object({ kind: z.literal("Failed"), error: taskError }),
]);
export type TaskOutcome = z.infer<typeof taskOutcome>;

/** At the primary they mean its own. */
const OF_THE_GATEWAY: ReadonlySet<Reason> = new Set(["DatabaseUnavailable", "ApiServerUnavailable", "KeyUnavailable"]);
const MESSAGE_CHARACTERS = 4_096;

/** Of any other error nothing is told: its message may quote what it was given. */
export function errorOf(thrown: unknown): TaskError {
  if (thrown instanceof Ambiguous) return { kind: "Ambiguous", operation: thrown.operation, what: thrown.what };
  if (thrown instanceof Throttled) return { kind: "Throttled", retryAfterMs: thrown.retryAfterMs };
  if (thrown instanceof Stalled || thrown instanceof Waiting || thrown instanceof Unavailable) {
    const { code, message: text } = thrown;
    const message = text.slice(0, MESSAGE_CHARACTERS);
    if (thrown instanceof Waiting) return { kind: "Waiting", code, message, afterMs: thrown.afterMs };
    return { kind: thrown instanceof Stalled ? "Stalled" : "Unavailable", code, message };
  }
  return { kind: "Unavailable", code: "Failed", message: "it failed at the gateway; see its log" };
}

export function thrownBy(error: TaskError, gateway: string): Error {
  switch (error.kind) {
    case "Ambiguous":
      return new Ambiguous(error.operation, error.what);
    case "Throttled":
      return new Throttled(error.retryAfterMs);
    case "Waiting":
      return new Waiting(error.code, error.message, error.afterMs);
    case "Stalled":
      return new Stalled(error.code, error.message);
    case "Unavailable":
      return OF_THE_GATEWAY.has(error.code)
        ? new Unavailable("GatewayUnavailable", `gateway ${gateway}: ${error.message}`)
        : new Unavailable(error.code, error.message);
  }
}
