/** What gateways of one environment may have, the digest over it, and what changed last. */
import { type Digested, fold, noDigest, type ReplicaItem } from "./replica-item.ts";
import { ITEMS_PER_ANSWER } from "./replica-protocol.ts";

/** Changes that are remembered; who is further behind gets the index. */
const REMEMBERED = 20_000;

export interface Changes {
  /** Up to which these are all. */
  readonly sequence: number;
  readonly changed: ReplicaItem[];
  readonly removed: string[];
}

export class EnvironmentIndex {
  readonly #items = new Map<string, Digested>();
  readonly #digest = noDigest();
  /** Keys in the order of their changes; the last one has the present sequence. */
  #changes: string[] = [];
  #sequence = 0;
  #sorted: readonly string[] | undefined;
  readonly #waiting = new Set<() => void>();

  /** Grows by one with each change. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Hex. */
  get digest(): string {
    return this.#digest.toString("hex");
  }

  get(key: string): Digested | undefined {
    return this.#items.get(key);
  }

  keys(): readonly string[] {
    return [...this.#items.keys()];
  }

  put(item: Digested): void {
    const before = this.#items.get(item.key);
    if (before?.digest.equals(item.digest)) return;
    if (before === undefined) this.#sorted = undefined;
    else fold(this.#digest, before);
    this.#items.set(item.key, item);
    fold(this.#digest, item);
    this.#changed(item.key);
  }

  remove(key: string): void {
    const before = this.#items.get(key);
    if (before === undefined) return;
    this.#items.delete(key);
    this.#sorted = undefined;
    fold(this.#digest, before);
    this.#changed(key);
  }

  /** What changed behind a sequence, as it is now; undefined when that is not remembered. */
  since(sequence: number): Changes | undefined {
    const behind = this.#sequence - sequence;
    if (behind < 0 || behind > this.#changes.length) return undefined;
    const from = this.#changes.length - behind;
    const keys = this.#changes.slice(from, from + ITEMS_PER_ANSWER);
    const changed: ReplicaItem[] = [];
    const removed: string[] = [];
    for (const key of new Set(keys)) {
      const item = this.#items.get(key);
      if (item === undefined) removed.push(key);
      else changed.push({ key, body: item.body });
    }
    return { sequence: sequence + keys.length, changed, removed };
  }

  page(after: string | undefined): { readonly items: ReplicaItem[]; readonly next?: string } {
    this.#sorted ??= [...this.#items.keys()].sort();
    const from = after === undefined ? 0 : firstAbove(this.#sorted, after);
    const keys = this.#sorted.slice(from, from + ITEMS_PER_ANSWER);
    const items = keys.flatMap((key) => {
      const item = this.#items.get(key);
      return item === undefined ? [] : [{ key, body: item.body }];
    });
    const last = keys.at(-1);
    return from + keys.length < this.#sorted.length && last !== undefined ? { items, next: last } : { items };
  }

  /** Resolves when there are changes behind this sequence, the time is over, or nobody waits any more. */
  moved(sequence: number, withinMs: number, signal: AbortSignal): Promise<void> {
    if (this.#sequence !== sequence || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, withinMs);
      timer.unref();
      signal.addEventListener("abort", done, { once: true });
      this.#waiting.add(done);
    });
  }

  wake(): void {
    for (const done of [...this.#waiting]) done();
  }

  #changed(key: string): void {
    this.#sequence += 1;
    this.#changes.push(key);
    if (this.#changes.length > 2 * REMEMBERED) this.#changes = this.#changes.slice(-REMEMBERED);
    this.wake();
  }
}

function firstAbove(sorted: readonly string[], key: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? "") <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}
