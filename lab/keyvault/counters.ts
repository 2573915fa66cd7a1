import { SlidingWindow } from "./sliding-window.ts";

const WINDOW = 10_000;

/** What reached one vault since the last reset. */
export interface VaultCounters {
  /** Answered calls by operation and status; status 0 is a call that got no answer. */
  readonly operations: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Every call, the unauthenticated ones of the challenge included. */
  readonly calls: number;
  /** Calls that showed a secret's value. */
  readonly valueReads: number;
  /** Calls that changed the vault, answered or not. */
  readonly writes: number;
  /** The most calls in any ten seconds. */
  readonly peakCallsIn10Seconds: number;
}

export interface Counters {
  readonly vaults: Readonly<Record<string, VaultCounters>>;
  /** Token requests by endpoint ("entra", "instance-metadata") and status. */
  readonly tokens: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

type Tally = Record<string, Record<string, number>>;

class VaultTally {
  readonly operations: Tally = {};
  readonly window = new SlidingWindow(WINDOW);
  calls = 0;
  valueReads = 0;
  writes = 0;
  peak = 0;
}

/** Counts calls; see {@link Counters} for the meaning of each figure. */
export class CallCounter {
  #vaults = new Map<string, VaultTally>();
  #tokens: Tally = {};

  arrived(vault: string): void {
    const tally = this.#tally(vault);
    const now = Date.now();
    tally.calls++;
    tally.window.add(now);
    tally.peak = Math.max(tally.peak, tally.window.count(now));
  }

  answered(vault: string, operation: string, status: number): void {
    increment(this.#tally(vault).operations, operation, status);
  }

  performed(vault: string, effect: "value" | "write" | "none"): void {
    const tally = this.#tally(vault);
    tally.valueReads += effect === "value" ? 1 : 0;
    tally.writes += effect === "write" ? 1 : 0;
  }

  tokenAnswered(endpoint: string, status: number): void {
    increment(this.#tokens, endpoint, status);
  }

  reset(): void {
    this.#vaults = new Map();
    this.#tokens = {};
  }

  read(): Counters {
    const vaults = [...this.#vaults].map(([name, { operations, calls, valueReads, writes, peak }]) => [
      name,
      { operations, calls, valueReads, writes, peakCallsIn10Seconds: peak },
    ]);
    return { vaults: Object.fromEntries(vaults), tokens: this.#tokens };
  }

  #tally(vault: string): VaultTally {
    const known = this.#vaults.get(vault) ?? new VaultTally();
    this.#vaults.set(vault, known);
    return known;
  }
}

function increment(tally: Tally, row: string, status: number): void {
  const statuses = tally[row] ?? {};
  tally[row] = statuses;
  statuses[status] = (statuses[status] ?? 0) + 1;
}
