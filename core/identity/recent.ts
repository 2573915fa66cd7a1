/** What another replica changes is known here after this time at the latest, in milliseconds. */
export const FRESH_MS = 1_000;
const MOST = 10_000;

interface Known<T> {
  readonly at: number;
  readonly answer: Promise<T>;
}

/** Answers that are at most a second old, by id; whoever asks meanwhile shares them. */
export class Recent<T> {
  readonly #load: (id: string) => Promise<T>;
  /** Least recently loaded first. */
  readonly #known = new Map<string, Known<T>>();

  constructor(load: (id: string) => Promise<T>) {
    this.#load = load;
  }

  get(id: string): Promise<T> {
    const known = this.#known.get(id);
    // Counted from before it was asked for: the answer is at least as new.
    const at = performance.now();
    if (known !== undefined && at - known.at < FRESH_MS) return known.answer;
    const answer = this.#load(id);
    const entry = { at, answer };
    this.#known.delete(id);
    this.#known.set(id, entry);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
    answer.catch(() => {
      if (this.#known.get(id) === entry) this.#known.delete(id);
    });
    return answer;
  }

  /** What this replica changed is known here at once. */
  forget(id: string): void {
    this.#known.delete(id);
  }

  clear(): void {
    this.#known.clear();
  }
}
