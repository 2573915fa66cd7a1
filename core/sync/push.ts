/** Pushes many entries at once. */
import type { PlannedPush } from "./plan.ts";
import { type PushContext, pushEntry } from "./push-entry.ts";
import { type SyncResult, workThrough } from "./run.ts";

export type { PushContext } from "./push-entry.ts";

/** As `workThrough` does it, `concurrency` entries at a time. */
export const push = (
  planned: readonly PlannedPush[],
  context: PushContext & { readonly concurrency?: number; readonly giveWay?: () => boolean },
): Promise<SyncResult> =>
  workThrough(
    planned.map((each) => ({ entries: [each.entry], run: async () => [await pushEntry(each, context)] })),
    context,
  );
