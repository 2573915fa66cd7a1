/** By key so many at once; the others wait, in the order in which they came. */
interface Taken {
  count: number;
  readonly waiting: Set<() => void>;
}

export class Places {
  readonly #most: number;
  readonly #taken = new Map<string, Taken>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Who does not wait any more gives up its turn; the place of what is under way is free when that has ended. */
  async take<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const taken = this.#taken.get(key) ?? { count: 0, waiting: new Set() };
    this.#taken.set(key, taken);
    if (taken.count < this.#most) taken.count += 1;
    else await turn(taken, signal);
    try {
      return await work();
    } finally {
      this.#leave(key, taken);
    }
  }

  #leave(key: string, taken: Taken): void {
    const [next] = taken.waiting;
    if (next !== undefined) {
      taken.waiting.delete(next);
      next();
      return;
    }
    taken.count -= 1;
    if (taken.count === 0) this.#taken.delete(key);
  }
}

/** Over when whoever leaves hands on its place. */
async function turn({ waiting }: Taken, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = () => {
    waiting.delete(resolve);
    reject(signal.reason);
  };
  waiting.add(resolve);
  signal.addEventListener("abort", onAbort, { once: true });
  await promise.finally(() => signal.removeEventListener("abort", onAbort));
}
