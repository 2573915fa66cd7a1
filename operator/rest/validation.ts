/** Judges what came in by the route's schemas; every fault is named with its field. */
import type { z } from "zod";
import { type FieldError, Problem } from "./problem.ts";
import type { Input, Route } from "./route.ts";

/** More would not be read. */
const MOST_FAULTS = 20;

/** The body of a request that has no other input. Throws a `Problem` with 400. */
export function judgeBody<Body>(schema: z.ZodType<Body>, given: unknown): Body {
  const { success, data, error } = schema.safeParse(given);
  if (success) return data;
  throw invalid(error.issues.map(({ path, message }) => ({ field: ["body", ...path].join("."), message })));
}

/** Throws a `Problem` with 400. */
export function readInput({ params, query, body }: Route, given: Input): Input {
  const faults: FieldError[] = [];
  const judge = (place: string, schema: z.ZodType, value: unknown): unknown => {
    const { success, data, error } = schema.safeParse(value);
    if (success) return data;
    for (const { path, message } of error.issues) faults.push({ field: [place, ...path].join("."), message });
    return undefined;
  };
  const input = {
    params: judge("path", params, given.params),
    query: judge("query", query, given.query),
    body: body === undefined ? undefined : judge("body", body, given.body),
  };
  if (faults.length === 0) return input;
  throw invalid(faults);
}

function invalid(faults: readonly FieldError[]): Problem {
  const [{ field, message }] = faults as [FieldError, ...FieldError[]];
  return new Problem(400, "InvalidRequest", `${field}: ${message}`, { errors: faults.slice(0, MOST_FAULTS) });
}
