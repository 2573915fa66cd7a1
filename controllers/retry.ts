/** When to look again at what failed, told from the status alone: soon after it began, ever less often while it lasts. */
import type { Condition } from "../crds/common.ts";

const SHORTEST_MS = 1_000;
const LONGEST_MS = 60_000;

/**
 * Milliseconds until the next attempt: half as long as the failure has lasted, between 1 and 60 seconds. `failing` are the
 * types of which one is False or Unknown while it lasts.
 */
export function pauseMs(conditions: readonly Condition[] | undefined, failing: readonly string[], now: Date): number {
  const since = (conditions ?? [])
    .filter(({ type, status }) => failing.includes(type) && status !== "True")
    .map(({ lastTransitionTime }) => Date.parse(lastTransitionTime));
  const lasted = since.length === 0 ? 0 : now.getTime() - Math.min(...since);
  return Math.min(LONGEST_MS, Math.max(SHORTEST_MS, lasted / 2));
}
