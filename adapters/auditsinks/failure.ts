import { Unavailable } from "../../core/errors.ts";

/** Codes only: a message of the system may quote what was sent. */
export function unreachable(what: string, error: unknown): Unavailable {
  const { code, name } = error as { code?: unknown; name?: string };
  return new Unavailable("SinkUnreachable", `${what} (${typeof code === "string" ? code : name})`, { cause: error });
}
