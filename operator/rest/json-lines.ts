/** Long answers, one JSON object a line. */
import type { ProblemBody } from "./problem.ts";

export const JSON_LINES = "application/x-ndjson";

/** What stands last in an answer that could not be finished. */
export interface ProblemRecord {
  readonly type: "problem";
  readonly problem: ProblemBody;
}

export const problemLine = (problem: ProblemBody): string =>
  `${JSON.stringify({ type: "problem", problem } satisfies ProblemRecord)}\n`;
