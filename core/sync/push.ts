/** Pushes many entries at once. One that fails does not stop the others; a vault that fails as a whole does. */

import type { Reason } from "../../crds/conditions.ts";
import { Fenced, Stalled, Unavailable, Waiting } from "../errors.ts";
import { Throttled } from "../ports/target-vault.ts";
import { failure, type SyncFailure } from "./entries.ts";
import type { PlannedPush } from "./plan.ts";
import { type PushContext, pushEntry } from "./push-entry.ts";

export type { PushContext } from "./push-entry.ts";

export interface PushResult {
  /** Entries that got a new version. */
  readonly written: number;
  /** Entries that had the value already. */
  readonly confirmed: number;
  readonly failed: number;
  /** The first 10 of the failed. */
  readonly failures: readonly SyncFailure[];
  /** Entries that the vault is still deleting or recovering. */
  readonly waiting: number;
  /** Entries not tried, since the vault failed as a whole. */
  readonly untried: number;
  /** Why the work ended early, or what some entries failed of that passes by itself. */
  readonly stopped?: Unavailable | Stalled;
  /** When to come back at the latest, for what waits; absent when nothing does. */
  readonly retryAfterMs?: number;
  /** A fault of our own, for the log; its entry is among the failed. */
  readonly unexpected?: unknown;
}

const MAX_FAILURES = 10;

/** A single entry may fail of a 500 that the others do not see. */
const UNREACHABLE_IN_A_ROW = 3;

/** What concerns every entry alike, so that the rest need not be tried. */
const FOR_ALL: ReadonlySet<Reason> = new Set<Reason>([
  "VaultThrottled",
  "BudgetExhausted",
  "IdentityUnavailable",
  "AccessDenied",
  "CredentialInvalid",
  "VaultHostNotAllowed",
  "DatabaseUnavailable",
  "KeyUnavailable",
]);

/**
 * Works through `planned` in its order, `concurrency` entries at a time (8 when absent). Rejects with `Fenced`, or with
 * the reason of an aborted signal; entries that were under way are finished first.
 */
export async function push(
  planned: readonly PlannedPush[],
  context: PushContext & { readonly concurrency?: number },
): Promise<PushResult> {
  const run = new PushRun();
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < planned.length && !run.ended && !context.signal.aborted) {
      const each = planned[next];
      next += 1;
      if (each === undefined) return;
      await run.one(each, context);
    }
  };
  await Promise.all(Array.from({ length: context.concurrency ?? 8 }, work));
  context.signal.throwIfAborted();
  return run.result(planned.length);
}

class PushRun {
  #written = 0;
  #confirmed = 0;
  #waiting = 0;
  #failed = 0;
  readonly #failures: SyncFailure[] = [];
  #unreachable = 0;
  #fenced: Fenced | undefined;
  #stopped: Unavailable | Stalled | undefined;
  #retryAfterMs: number | undefined;
  #unexpected: unknown;
  ended = false;

  async one(planned: PlannedPush, context: PushContext): Promise<void> {
    try {
      const pushed = await pushEntry(planned, context);
      this.#unreachable = 0;
      if (pushed.kind === "Written") this.#written += 1;
      else if (pushed.kind === "Confirmed") this.#confirmed += 1;
      else if (pushed.kind === "Failed") this.#fail(pushed.failure);
      else this.#wait(pushed.afterMs);
    } catch (error) {
      // The shutdown is told to the caller once, not as the failure of each entry.
      if (!context.signal.aborted) this.#caught(planned, error);
    }
  }

  result(planned: number): PushResult {
    if (this.#fenced !== undefined) throw this.#fenced;
    const done = this.#written + this.#confirmed + this.#failed + this.#waiting;
    return {
      written: this.#written,
      confirmed: this.#confirmed,
      failed: this.#failed,
      failures: this.#failures,
      waiting: this.#waiting,
      untried: planned - done,
      ...(this.#stopped && { stopped: this.#stopped }),
      ...(this.#retryAfterMs !== undefined && { retryAfterMs: this.#retryAfterMs }),
      ...(this.#unexpected !== undefined && { unexpected: this.#unexpected }),
    };
  }

  #caught({ entry }: PlannedPush, error: unknown): void {
    if (error instanceof Fenced) {
      this.#fenced = error;
      this.ended = true;
    } else if (error instanceof Waiting) {
      this.#wait(error.afterMs);
    } else if ((error instanceof Unavailable || error instanceof Stalled) && FOR_ALL.has(error.code)) {
      this.#stop(error);
    } else if (error instanceof Unavailable) {
      this.#fail(failure(entry, error.code, error.message));
      this.#stopped ??= error;
      this.#unreachable += 1;
      if (this.#unreachable >= UNREACHABLE_IN_A_ROW) this.#stop(error);
    } else if (error instanceof Stalled) {
      this.#fail(failure(entry, error.code, error.message));
    } else {
      this.#unexpected ??= error;
      // Only the name: the text of an unknown error may hold anything.
      const name = error instanceof Error ? error.name : typeof error;
      this.#fail(failure(entry, "Failed", `an unexpected ${name} occurred; the operator's log tells more`));
    }
  }

  #fail(reason: SyncFailure): void {
    this.#failed += 1;
    if (this.#failures.length < MAX_FAILURES) this.#failures.push(reason);
  }

  #wait(afterMs: number): void {
    this.#waiting += 1;
    this.#comeBack(afterMs);
  }

  #stop(error: Unavailable | Stalled): void {
    this.ended = true;
    this.#stopped = error;
    if (error instanceof Throttled) this.#comeBack(error.retryAfterMs);
  }

  #comeBack(afterMs: number): void {
    this.#retryAfterMs = Math.max(this.#retryAfterMs ?? 0, afterMs);
  }
}
