/**
 * Keys to be worked on: each at most once at a time, in order of priority and then of arrival.
 *
 *   delayed (heap by due time) --due--> ready (one FIFO per priority) --> running --> gone
 *                                          ^                                 |
 *                                          +---- added while it ran ---------+   (behind the others)
 *
 * One timer for the earliest due time; nothing polls.
 */
import type { TraceParent, Tracer } from "../../core/ports/tracer.ts";
import type { RuntimeMetrics } from "./metrics.ts";

export type Priority = "high" | "normal" | "low";

export interface AddOptions {
  /** `normal` when absent. Of two additions of a key the higher priority wins. */
  readonly priority?: Priority;
  /** Not before so many milliseconds from now. Of two additions of a key the earlier wins. */
  readonly afterMs?: number;
}

export interface QueueOptions {
  readonly name: string;
  /** How many keys are worked on at the same time. */
  readonly concurrency?: number;
  /** Must not throw: what to do about a failure is the caller's decision. `cause` is what was under way as the key was added. */
  readonly run: (key: string, signal: AbortSignal, cause: TraceParent | undefined) => Promise<void>;
  readonly metrics?: Pick<RuntimeMetrics, "queueDepth" | "queueLatency">;
  readonly tracer?: Pick<Tracer, "current">;
}

const PRIORITIES = ["high", "normal", "low"] as const;
// Every so many keys the lowest waiting priority goes first, so that a stream of changes does not stop resyncs.
const RELIEF_EVERY = 16;

interface Entry {
  priority: Priority;
  /** On the monotonic clock, milliseconds. */
  due: number;
  /** What was under way when this time was set. */
  cause: TraceParent | undefined;
}

export class KeyedQueue {
  readonly #options: QueueOptions;
  readonly #concurrency: number;
  readonly #waiting = new Map<string, Entry>();
  readonly #ready: Record<Priority, Set<string>> = { high: new Set(), normal: new Set(), low: new Set() };
  readonly #delayed = new DueHeap();
  readonly #running = new Map<string, Promise<void>>();
  readonly #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #timerDue = Number.POSITIVE_INFINITY;
  #started = false;
  #taken = 0;

  constructor(options: QueueOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency ?? 16;
  }

  /** Keys that wait for a free worker. */
  get depth(): number {
    return this.#ready.high.size + this.#ready.normal.size + this.#ready.low.size;
  }

  get running(): number {
    return this.#running.size;
  }

  /** Nothing is due, running or delayed by less than `withinMs`. */
  idle(withinMs = 0): boolean {
    return this.depth === 0 && this.#running.size === 0 && this.#delayed.earliest() > now() + withinMs;
  }

  add(key: string, options: AddOptions = {}): void {
    if (this.#abort.signal.aborted) return;
    const due = now() + Math.max(0, options.afterMs ?? 0);
    const priority = options.priority ?? "normal";
    const entry = this.#waiting.get(key);
    if (entry === undefined) {
      this.#waiting.set(key, { priority, due, cause: this.#options.tracer?.current() });
    } else {
      const higher = PRIORITIES.indexOf(priority) < PRIORITIES.indexOf(entry.priority);
      if (!higher && due >= entry.due) return;
      if (higher) {
        this.#ready[entry.priority].delete(key);
        entry.priority = priority;
      }
      if (due < entry.due) {
        entry.due = due;
        entry.cause = this.#options.tracer?.current();
      }
    }
    // A running key stays in `waiting` only; it is placed when its run ends.
    if (!this.#running.has(key)) this.#place(key);
    this.#pump();
  }

  start(): void {
    this.#started = true;
    this.#pump();
  }

  /** Takes nothing new, aborts the signal of what runs after `drainMs`, and waits for it at most as long again. */
  async shutdown(drainMs = 10_000): Promise<void> {
    this.#started = false;
    clearTimeout(this.#timer);
    this.#waiting.clear();
    for (const priority of PRIORITIES) this.#ready[priority].clear();
    this.#reportDepth();
    const drained = Promise.allSettled(this.#running.values());
    const first = await within(drained, drainMs);
    this.#abort.abort();
    if (!first) await within(drained, drainMs);
  }

  #place(key: string): void {
    const entry = this.#waiting.get(key);
    if (entry === undefined) return;
    if (entry.due <= now()) this.#ready[entry.priority].add(key);
    else this.#delayed.push(key, entry.due);
  }

  #pump(): void {
    if (!this.#started) return;
    this.#collectDue();
    while (this.#running.size < this.#concurrency) {
      const key = this.#take();
      if (key === undefined) break;
      this.#run(key);
    }
    this.#reportDepth();
    this.#setTimer();
  }

  #collectDue(): void {
    const until = now();
    for (let next = this.#delayed.popDue(until); next !== undefined; next = this.#delayed.popDue(until)) {
      const entry = this.#waiting.get(next.key);
      // An item of the heap that was overtaken by an earlier addition, or whose key runs, means nothing any more.
      if (entry === undefined || entry.due !== next.due || this.#running.has(next.key)) continue;
      this.#ready[entry.priority].add(next.key);
    }
  }

  #take(): string | undefined {
    this.#taken++;
    const order = this.#taken % RELIEF_EVERY === 0 ? PRIORITIES.toReversed() : PRIORITIES;
    for (const priority of order) {
      for (const key of this.#ready[priority]) {
        this.#ready[priority].delete(key);
        return key;
      }
    }
    return undefined;
  }

  #run(key: string): void {
    const entry = this.#waiting.get(key);
    this.#waiting.delete(key);
    if (entry !== undefined) {
      this.#options.metrics?.queueLatency(this.#options.name, Math.max(0, now() - entry.due) / 1000);
    }
    const running = this.#options
      .run(key, this.#abort.signal, entry?.cause)
      .catch(() => {})
      .finally(() => {
        this.#running.delete(key);
        this.#place(key);
        this.#pump();
      });
    this.#running.set(key, running);
  }

  #setTimer(): void {
    const due = this.#delayed.earliest();
    if (due === this.#timerDue) return;
    clearTimeout(this.#timer);
    this.#timerDue = due;
    if (due === Number.POSITIVE_INFINITY) return;
    // Longer delays than 2^31 ms fire at once; waking early is harmless.
    const delayMs = Math.min(Math.max(0, Math.ceil(due - now())), 2 ** 31 - 1);
    this.#timer = setTimeout(() => {
      this.#timerDue = Number.POSITIVE_INFINITY;
      this.#pump();
    }, delayMs);
  }

  #reportDepth(): void {
    this.#options.metrics?.queueDepth(this.#options.name, this.depth);
  }
}

const now = (): number => performance.now();

const within = async (work: Promise<unknown>, limitMs: number): Promise<boolean> => {
  const expired = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => expired.resolve(false), limitMs);
  try {
    return await Promise.race([work.then(() => true), expired.promise]);
  } finally {
    clearTimeout(timer);
  }
};

interface Due {
  readonly key: string;
  readonly due: number;
}

/** A binary heap, earliest first. Overtaken items are left in it and skipped when they come up. */
class DueHeap {
  readonly #items: Due[] = [];

  earliest(): number {
    return this.#items[0]?.due ?? Number.POSITIVE_INFINITY;
  }

  push(key: string, due: number): void {
    const items = this.#items;
    let at = items.length;
    const item = { key, due };
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = items[above];
      if (parent === undefined || parent.due <= due) break;
      items[at] = parent;
      at = above;
    }
    items[at] = item;
  }

  popDue(until: number): Due | undefined {
    const items = this.#items;
    const first = items[0];
    if (first === undefined || first.due > until) return undefined;
    const last = items.pop();
    if (last !== undefined && items.length > 0) this.#sink(last);
    return first;
  }

  #sink(item: Due): void {
    const items = this.#items;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const [l, r] = [items[left], items[left + 1]];
      if (l === undefined) break;
      const [child, smaller] = r !== undefined && r.due < l.due ? [left + 1, r] : [left, l];
      if (smaller.due >= item.due) break;
      items[at] = smaller;
      at = child;
    }
    items[at] = item;
  }
}
