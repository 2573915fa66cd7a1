/**
 * Deletes entries of secrets that were deleted, so that they can be recovered. Order of effects: look, intent with its
 * audit row, delete, forget. Whoever dies in between is followed by one that looks again: what is gone is forgotten, what
 * is there is deleted. What comes back meanwhile refutes the evidence, and the intent is refused.
 */
import { failpoint } from "../failpoints.ts";
import type { SyncStore } from "../ports/sync-store.ts";
import { Conflict } from "../ports/vault-store.ts";
import { type Doomed, edited } from "./deletion-plan.ts";
import { INTENT_TAG, isOurs } from "./ownership.ts";
import type { PushContext } from "./push-entry.ts";
import { type Done, type SyncResult, workThrough } from "./run.ts";

export type DeletionContext = Pick<
  PushContext,
  "vault" | "audit" | "writer" | "ruleUid" | "actor" | "installation" | "assertLeading" | "signal"
> & { readonly store: Pick<SyncStore, "recordDeletion" | "forget">; readonly concurrency?: number };

const SOON_MS = 1_000;
/** Recovery and deletion in the vault take some seconds. */
const TRANSITION_MS = 2_000;

/** `written` of the result are those that were deleted. */
export const deleteEntries = (doomed: readonly Doomed[], context: DeletionContext): Promise<SyncResult> =>
  workThrough(
    doomed.map((each) => ({ entries: [each], run: async () => [await deleteEntry(each, context)] })),
    context,
  );

async function deleteEntry(entry: Doomed, context: DeletionContext): Promise<Done> {
  const { vault, store, writer, ruleUid, signal } = context;
  const { item, entryName } = entry;
  context.assertLeading();
  const state = await vault.get(entryName, signal);
  if (state.kind === "Disabled") return failed(entry);
  if (state.kind === "Absent") {
    await store.forget(writer, ruleUid, [item]);
    return { kind: "Confirmed" };
  }
  const { version, tags, value } = state.entry;
  value.dispose();
  const { intent, outcome } = item;
  const written = version === outcome?.targetVersion || (intent !== undefined && tags[INTENT_TAG] === intent.id);
  if (!written || !isOurs(tags, context.installation, entry)) return failed(entry);
  try {
    await store.recordDeletion(writer, item, [
      {
        action: "VaultEntryDeleted",
        actor: context.actor,
        subject: { kind: "VaultEntry", id: entry.secretId, name: `${vault.url}secrets/${entryName}` },
        outcome: "Success",
        details: { secret: entry.secretName, key: entry.key, rule: ruleUid, targetVersion: version },
      },
    ]);
  } catch (error) {
    if (error instanceof Conflict) return { kind: "Waiting", afterMs: SOON_MS };
    throw error;
  }
  failpoint("sync.beforeDelete");
  context.assertLeading();
  const result = await vault.delete(entryName, signal);
  failpoint("sync.afterDelete");
  if (result.kind === "InTransition") return { kind: "Waiting", afterMs: TRANSITION_MS };
  await store.forget(writer, ruleUid, [item]);
  failpoint("sync.afterDeleted");
  return { kind: "Written" };
}

const failed = (entry: Doomed): Done => ({ kind: "Failed", failure: edited(entry) });
