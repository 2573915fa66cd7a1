/** What a rule is about to do, as a person reads it and as the limits count it. */
import type { SyncItem } from "../../core/ports/sync-store.ts";
import type { VaultEntryProperties } from "../../core/ports/target-vault.ts";
import { foldName } from "../../core/sync/entries.ts";
import type { PlannedExchange } from "../../core/sync/exchange-plan.ts";
import { type PlannedAction, planned } from "../../core/sync/limits.ts";
import type { PlannedPush } from "../../core/sync/plan.ts";
import type { PlannedPull } from "../../core/sync/pull-plan.ts";

type Target = readonly VaultEntryProperties[] | undefined;

/** Work, and what it is called; what only reads is not. */
export interface Announced<Work> {
  readonly work: Work;
  readonly action?: PlannedAction;
}

export function announcePushes(push: readonly PlannedPush[], target: Target): readonly Announced<PlannedPush>[] {
  const there = namesIn(target);
  return push.map((work) => ({ work, action: pushed(work, there) }));
}

export function announceExchanges(
  exchange: readonly PlannedExchange[],
  target: Target,
): readonly Announced<PlannedExchange>[] {
  const there = namesIn(target);
  return exchange.map((work) => announced(work, exchanged(work, there)));
}

export const announcePulls = (pull: readonly PlannedPull[]): readonly Announced<PlannedPull>[] =>
  pull.map((work) => announced(work, pulled(work)));

function pushed({ entry, cause, item }: PlannedPush, there: ReadonlySet<string>): PlannedAction {
  switch (cause) {
    case "Changed":
      return planned("Update", entry, wasBegun(item, entry.fingerprint) ? undefined : "Changes");
    case "TargetEdited":
      return planned("Update", entry, "Changes");
    case "IntentOpen":
      return planned("Update", entry);
    case "TargetMissing":
      return planned("Recover", entry);
    case "New":
      return planned(there.has(foldName(entry.entryName)) ? "Update" : "Create", entry);
  }
}

function exchanged({ entry, cause, item }: PlannedExchange, there: ReadonlySet<string>): PlannedAction | undefined {
  switch (cause) {
    case "Changed":
      return planned("Update", entry, wasBegun(item, entry.held?.fingerprint) ? undefined : "Changes");
    case "TargetChanged":
      return planned("TakeOver", entry, "Changes");
    // A person decided.
    case "Resolved":
    case "IntentOpen":
      return planned("Update", entry);
    case "TargetMissing":
      return planned("Recover", entry);
    case "New":
      return planned(there.has(foldName(entry.entryName)) ? "TakeOver" : "Create", entry);
    case "Unsettled":
      return undefined;
  }
}

/** What was begun with this very value is finished, whatever the limits say: it was counted then. */
const wasBegun = (item: SyncItem | undefined, fingerprint: string | undefined): boolean =>
  fingerprint !== undefined && (item?.intent?.fingerprint === fingerprint || item?.taking?.fingerprint === fingerprint);

function pulled({ entry, cause }: PlannedPull): PlannedAction | undefined {
  switch (cause) {
    case "TargetChanged":
    case "PlatformChanged":
      return planned("TakeOver", entry, "Changes");
    case "New":
      return planned("TakeOver", entry);
    case "Unsettled":
      return undefined;
  }
}

const announced = <Work>(work: Work, action: PlannedAction | undefined): Announced<Work> =>
  action === undefined ? { work } : { work, action };

const namesIn = (target: Target): ReadonlySet<string> => new Set(target?.map(({ name }) => foldName(name)));
