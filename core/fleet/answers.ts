const LOOK_EVERY_MS = 2_000;
const PATIENCE_MS = 10_000;

/** Waits for what the leader of the primary answers to a row that another replica wrote; hints make it faster. */
export class Answers {
  readonly #patienceMs: number;
  readonly #lookEveryMs: number;
  readonly #waiting = new Set<() => void>();

  constructor({ patienceMs = PATIENCE_MS, lookEveryMs = LOOK_EVERY_MS } = {}) {
    this.#patienceMs = patienceMs;
    this.#lookEveryMs = lookEveryMs;
  }

  /** Something may have been answered. */
  hint(): void {
    for (const end of this.#waiting) end();
  }

  /** What `look` finds; undefined when it has found nothing in time. Throws when the signal is aborted. */
  async wait<T>(look: () => Promise<T | undefined>, signal: AbortSignal): Promise<T | undefined> {
    const until = performance.now() + this.#patienceMs;
    for (;;) {
      // Begun before the look: a hint that comes meanwhile is not lost.
      const pause = this.#pause(signal);
      try {
        const found = await look();
        if (found !== undefined) return found;
        signal.throwIfAborted();
        if (performance.now() >= until) return undefined;
        await pause.over;
      } finally {
        pause.end();
      }
    }
  }

  #pause(signal: AbortSignal): { readonly over: Promise<void>; end(): void } {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const end = () => resolve();
    const timer = setTimeout(end, this.#lookEveryMs);
    signal.addEventListener("abort", end, { once: true });
    this.#waiting.add(end);
    return {
      over,
      end: () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.#waiting.delete(end);
      },
    };
  }
}
