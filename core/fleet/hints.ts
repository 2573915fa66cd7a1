/** Who waits until something may have happened; hints come from elsewhere, and may get lost. */
export interface Pause {
  /** Resolves at the next hint, at the end of the time, or when nobody waits any more. */
  readonly over: Promise<void>;
  /** Whatever happens, once it is not waited for. */
  end(): void;
}

export class Hints {
  readonly #waiting = new Map<string, Set<() => void>>();

  /** Without a topic all may have happened. */
  hint(topic?: string): void {
    const concerned = topic === undefined ? [...this.#waiting.values()] : [this.#waiting.get(topic) ?? []];
    for (const wakes of concerned) for (const wake of [...wakes]) wake();
  }

  /** To be begun before the look that it follows: a hint that comes meanwhile is not lost. */
  pause(topics: readonly string[], ms: number, signal: AbortSignal): Pause {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    const timer = setTimeout(wake, Math.max(0, ms));
    if (signal.aborted) wake();
    signal.addEventListener("abort", wake, { once: true });
    for (const topic of topics) this.#waiting.set(topic, (this.#waiting.get(topic) ?? new Set()).add(wake));
    return {
      over,
      end: () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        for (const topic of topics) this.#forget(topic, wake);
      },
    };
  }

  #forget(topic: string, wake: () => void): void {
    const wakes = this.#waiting.get(topic);
    wakes?.delete(wake);
    if (wakes?.size === 0) this.#waiting.delete(topic);
  }
}
