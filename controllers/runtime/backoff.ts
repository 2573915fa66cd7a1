/** Growing pauses for each key that keeps failing. */
export interface BackoffOptions {
  readonly baseMs?: number;
  readonly maxMs?: number;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
}

/** An outage that ended should be noticed within a minute. */
const LONGEST_MS = 60_000;

export class Backoff {
  readonly #failures = new Map<string, number>();
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;

  constructor(options: BackoffOptions = {}) {
    this.#baseMs = options.baseMs ?? 250;
    this.#maxMs = options.maxMs ?? LONGEST_MS;
    this.#random = options.random ?? Math.random;
  }

  /** Counts a failure and gives the pause: doubling, of which the upper half is random so that keys spread. */
  next(key: string): number {
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const ceiling = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(failures - 1, 30));
    return Math.round(ceiling * (0.5 + this.#random() / 2));
  }

  failures(key: string): number {
    return this.#failures.get(key) ?? 0;
  }

  reset(key: string): void {
    this.#failures.delete(key);
  }
}
