/** Works through many entries at once. One that fails does not stop the others; a vault that fails as a whole does. */
import type { Reason } from "../../crds/conditions.ts";
import { Fenced, Stalled, Unavailable, Waiting } from "../errors.ts";
import { Throttled } from "../ports/target-vault.ts";
import { type EntryPlace, failure, type SyncFailure } from "./entries.ts";

/** What came of one entry. */
export type Done =
  | { readonly kind: "Written"; readonly decided?: DecidedConflict }
  /** Both sides had the value already. */
  | { readonly kind: "Confirmed" }
  | { readonly kind: "Waiting"; readonly afterMs: number }
  /** Both sides changed, and a person decides. */
  | { readonly kind: "Conflict"; readonly conflict: FoundConflict }
  | { readonly kind: "Failed"; readonly failure: SyncFailure };

export interface FoundConflict {
  readonly entry: EntryPlace;
  /** Of the secret. */
  readonly secretId: string;
  readonly platformVersion: number;
  readonly targetVersion: string;
  readonly targetUpdatedOn: Date;
}

/** Both sides changed, and the rule's policy or a person said which value both have now. */
export interface DecidedConflict {
  readonly entry: EntryPlace;
  readonly policy: string;
  readonly winner: "Platform" | "Target";
  /** Of the values as they stood on both sides. */
  readonly platformVersion: number;
  readonly targetVersion: string;
  /** By the vault's clock, see `clock.ts`; absent when it did not say what time it is. */
  readonly platformSetOn?: Date;
  readonly targetSetOn: Date;
}

export interface SyncResult {
  /** Entries that got a new version. */
  readonly written: number;
  /** Entries that had the value already. */
  readonly confirmed: number;
  readonly failed: number;
  /** The first 10 of the failed. */
  readonly failures: readonly SyncFailure[];
  /** Entries that the vault is still deleting or recovering. */
  readonly waiting: number;
  readonly conflicts: readonly FoundConflict[];
  /** The first 10. */
  readonly decided: readonly DecidedConflict[];
  /** Entries not tried, since the vault failed as a whole or something else had to go first. */
  readonly untried: number;
  /** Something else had to go first. */
  readonly gaveWay?: boolean;
  /** Why the work ended early, or what some entries failed of that passes by itself. */
  readonly stopped?: Unavailable | Stalled;
  /** When to come back at the latest, for what waits; absent when nothing does. */
  readonly retryAfterMs?: number;
  /** A fault of our own, for the log; its entry is among the failed. */
  readonly unexpected?: unknown;
}

/** What two runs came to together. */
export function merged(one: SyncResult, other: SyncResult): SyncResult {
  const { stopped = other.stopped, unexpected = other.unexpected } = one;
  const retries = [one.retryAfterMs, other.retryAfterMs].filter((ms) => ms !== undefined);
  return {
    written: one.written + other.written,
    confirmed: one.confirmed + other.confirmed,
    failed: one.failed + other.failed,
    failures: [...one.failures, ...other.failures].slice(0, MAX_FAILURES),
    waiting: one.waiting + other.waiting,
    conflicts: [...one.conflicts, ...other.conflicts],
    decided: [...one.decided, ...other.decided].slice(0, MAX_DECIDED),
    untried: one.untried + other.untried,
    ...((one.gaveWay === true || other.gaveWay === true) && { gaveWay: true }),
    ...(stopped && { stopped }),
    ...(retries.length > 0 && { retryAfterMs: Math.max(...retries) }),
    ...(unexpected !== undefined && { unexpected }),
  };
}

/** Entries that are done together: all of them, or none. */
export interface Task {
  readonly entries: readonly EntryPlace[];
  run(): Promise<readonly Done[]>;
}

const CONCURRENCY = 8;
const MAX_FAILURES = 10;
const MAX_DECIDED = 10;

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
  "GatewayUnavailable",
  "GatewayTaskUnknown",
  "GatewayFenced",
]);

/**
 * Works through `tasks` in their order, some at a time. Rejects with `Fenced`, or with the reason of an aborted signal;
 * what was under way is finished first. No task is begun any more once `giveWay` has said so.
 */
export async function workThrough(
  tasks: readonly Task[],
  {
    signal,
    concurrency = CONCURRENCY,
    giveWay = () => false,
  }: {
    readonly signal: AbortSignal;
    readonly concurrency?: number | undefined;
    readonly giveWay?: (() => boolean) | undefined;
  },
): Promise<SyncResult> {
  const run = new Run(signal);
  let next = 0;
  let gaveWay = false;
  const work = async (): Promise<void> => {
    while (next < tasks.length && !run.ended && !signal.aborted) {
      gaveWay ||= giveWay();
      if (gaveWay) return;
      const each = tasks[next];
      next += 1;
      if (each === undefined) return;
      await run.one(each);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  signal.throwIfAborted();
  const result = run.result(tasks.reduce((sum, { entries }) => sum + entries.length, 0));
  return gaveWay ? { ...result, gaveWay } : result;
}

class Run {
  #written = 0;
  #confirmed = 0;
  #waiting = 0;
  #failed = 0;
  readonly #failures: SyncFailure[] = [];
  readonly #conflicts: FoundConflict[] = [];
  readonly #decided: DecidedConflict[] = [];
  #unreachable = 0;
  readonly #signal: AbortSignal;
  #fenced: Fenced | undefined;
  #stopped: Unavailable | Stalled | undefined;
  #retryAfterMs: number | undefined;
  #unexpected: unknown;
  ended = false;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  async one(task: Task): Promise<void> {
    try {
      for (const done of await task.run()) this.#count(done);
      this.#unreachable = 0;
    } catch (error) {
      // The shutdown is told to the caller once, not as the failure of each entry.
      if (!this.#signal.aborted) this.#caught(task.entries, error);
    }
  }

  result(planned: number): SyncResult {
    if (this.#fenced !== undefined) throw this.#fenced;
    const done = this.#written + this.#confirmed + this.#failed + this.#waiting + this.#conflicts.length;
    return {
      written: this.#written,
      confirmed: this.#confirmed,
      failed: this.#failed,
      failures: this.#failures,
      waiting: this.#waiting,
      conflicts: this.#conflicts,
      decided: this.#decided,
      untried: planned - done,
      ...(this.#stopped && { stopped: this.#stopped }),
      ...(this.#retryAfterMs !== undefined && { retryAfterMs: this.#retryAfterMs }),
      ...(this.#unexpected !== undefined && { unexpected: this.#unexpected }),
    };
  }

  #count(done: Done): void {
    if (done.kind === "Written") this.#wrote(done.decided);
    else if (done.kind === "Confirmed") this.#confirmed += 1;
    else if (done.kind === "Failed") this.#fail(done.failure);
    else if (done.kind === "Conflict") this.#conflicts.push(done.conflict);
    else this.#wait(done.afterMs);
  }

  #wrote(decided: DecidedConflict | undefined): void {
    this.#written += 1;
    if (decided !== undefined && this.#decided.length < MAX_DECIDED) this.#decided.push(decided);
  }

  #caught(entries: readonly EntryPlace[], error: unknown): void {
    if (error instanceof Fenced) {
      this.#fenced = error;
      this.ended = true;
    } else if (error instanceof Waiting) {
      for (const _ of entries) this.#wait(error.afterMs);
    } else if ((error instanceof Unavailable || error instanceof Stalled) && FOR_ALL.has(error.code)) {
      this.#stop(error);
    } else if (error instanceof Unavailable) {
      for (const entry of entries) this.#fail(failure(entry, error.code, error.message));
      this.#stopped ??= error;
      this.#unreachable += 1;
      if (this.#unreachable >= UNREACHABLE_IN_A_ROW) this.#stop(error);
    } else if (error instanceof Stalled) {
      for (const entry of entries) this.#fail(failure(entry, error.code, error.message));
    } else {
      this.#unexpected ??= error;
      // Only the name: the text of an unknown error may hold anything.
      const name = error instanceof Error ? error.name : typeof error;
      for (const entry of entries)
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
