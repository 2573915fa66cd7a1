/**
 * How many calls one vault gets. In no 10 seconds, wherever they begin, does the service see more calls than the limit:
 * a call counts from when it is granted until 10 seconds after it ended, since nobody here knows when in between the
 * service counted it. With a ledger that holds over all processes of the installation.
 */
import { Unavailable } from "../errors.ts";
import type { CallLedger } from "../ports/call-ledger.ts";
import { Throttled } from "../ports/target-vault.ts";
import type { Priority } from "../ports/target-vaults.ts";
import { Bookings } from "./bookings.ts";

/** Monotonic time in milliseconds; `after` returns how to cancel. */
export interface Clock {
  now(): number;
  after(milliseconds: number, action: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after: (milliseconds, action) => {
    const timer = setTimeout(action, milliseconds);
    return () => clearTimeout(timer);
  },
};

interface Waiter {
  grant(): void;
  refuse(error: Error): void;
}

/** A tenth of a second more than the service's window: its clock is not ours, and may tell whole milliseconds. */
const WINDOW_MS = 10_100;

/** A look gets its turn after so many changes in a row, so that a flood of changes does not hide drift for ever. */
const CHANGES_PER_LOOK = 8;

/** Looks leave a tenth of what is shared to the changes that another process may have. */
const LEFT_BY_LOOKS = 10;

/** The budget as other processes share it. */
export interface SharedBudget {
  readonly ledger: CallLedger;
  readonly holder: string;
  readonly vault: string;
  /** The longest that a call lasts. */
  readonly callMs: number;
}

export class CallBudget {
  readonly #clock: Clock;
  readonly #maxWaitMs: number;
  #limit: number;
  #underWay = 0;
  /** When calls ended, oldest first; those before `#oldest` have left the window. */
  #ended: number[] = [];
  #oldest = 0;
  /** Sets keep the order of arrival and let go of an aborted waiter at once. */
  readonly #waiters: Record<Priority, Set<Waiter>> = { Change: new Set(), Look: new Set() };
  #changesInARow = 0;
  #pausedUntil = 0;
  #cancelWake: (() => void) | undefined;
  readonly #bookings: Bookings | undefined;

  /** `maxWaitMs`: how long a call waits for its turn before it fails. Without `shared` it is this process's alone. */
  constructor(limit: number, maxWaitMs: number, clock: Clock = systemClock, shared?: SharedBudget) {
    this.#limit = limit;
    this.#maxWaitMs = maxWaitMs;
    this.#clock = clock;
    this.#bookings = shared && new Bookings({ ...shared, windowMs: WINDOW_MS, clock });
  }

  get limit(): number {
    return this.#limit;
  }

  set limit(calls: number) {
    this.#limit = calls;
    this.#serve();
  }

  get waiting(): number {
    return this.#waiters.Change.size + this.#waiters.Look.size;
  }

  /** Calls that count at this moment. */
  get used(): number {
    const horizon = this.#clock.now() - WINDOW_MS;
    while (this.#oldest < this.#ended.length && (this.#ended[this.#oldest] ?? 0) <= horizon) this.#oldest += 1;
    if (this.#oldest > 1_024 && this.#oldest * 2 > this.#ended.length) {
      this.#ended = this.#ended.slice(this.#oldest);
      this.#oldest = 0;
    }
    return this.#underWay + this.#ended.length - this.#oldest;
  }

  /** Milliseconds until the service wants to hear from us again; 0 when it did not say. */
  get pausedMs(): number {
    return Math.max(0, this.#pausedUntil - this.#clock.now());
  }

  /**
   * Waits for a turn; the function that it resolves to must be called when the call has ended, however it did. Rejects
   * with BudgetExhausted, with `Throttled` while the vault is paused, with what the ledger threw, or with the signal's
   * reason.
   */
  async acquire(priority: Priority, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    this.checkPause();
    return new Promise((resolve, reject) => {
      const queue = this.#waiters[priority];
      const leave = (): void => {
        queue.delete(waiter);
        cancelTimeout();
        signal.removeEventListener("abort", onAbort);
        if (this.waiting === 0) this.#cancelWake?.();
      };
      const waiter: Waiter = {
        grant: () => {
          leave();
          resolve(this.#begin());
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const onAbort = (): void => waiter.refuse(signal.reason as Error);
      const cancelTimeout = this.#clock.after(this.#maxWaitMs, () => waiter.refuse(this.#exhausted()));
      signal.addEventListener("abort", onAbort);
      queue.add(waiter);
      this.#serve();
    });
  }

  /** Throws `Throttled` while the vault is paused. */
  checkPause(): void {
    if (this.pausedMs > 0) throw this.#throttled();
  }

  /** The service asked not to be called for so long: who waits is sent away, so that nobody's turn is held up by it. */
  pause(milliseconds: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#clock.now() + milliseconds);
    for (const queue of Object.values(this.#waiters)) for (const waiter of queue) waiter.refuse(this.#throttled());
  }

  #begin(): () => void {
    this.#underWay += 1;
    const endBooked = this.#bookings?.take();
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#underWay -= 1;
      endBooked?.();
      this.#ended.push(this.#clock.now());
      this.#serve();
    };
  }

  #serve(): void {
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    while (this.waiting > 0 && this.used < this.#limit && this.#bookings?.inHand !== 0) this.#nextWaiter()?.grant();
    if (this.waiting > 0 && this.used < this.#limit) {
      this.#book();
      return;
    }
    const oldest = this.#ended[this.#oldest];
    if (this.waiting === 0 || oldest === undefined) return;
    // At least one: a timer may fire a fraction early, and would then be set again for nothing.
    const delay = Math.max(1, Math.ceil(oldest + WINDOW_MS - this.#clock.now()));
    this.#cancelWake = this.#clock.after(delay, () => this.#serve());
  }

  #book(): void {
    const left = this.#waiters.Change.size === 0 ? Math.floor(this.#limit / LEFT_BY_LOOKS) : 0;
    this.#bookings?.book(this.#limit - left, this.used, this.waiting, (error) => {
      if (error === undefined) this.#serve();
      else for (const queue of Object.values(this.#waiters)) for (const waiter of queue) waiter.refuse(error);
    });
  }

  #nextWaiter(): Waiter | undefined {
    const { Change, Look } = this.#waiters;
    const look = Change.size === 0 || (Look.size > 0 && this.#changesInARow >= CHANGES_PER_LOOK);
    this.#changesInARow = look ? 0 : this.#changesInARow + 1;
    const [first] = look ? Look : Change;
    return first;
  }

  #exhausted(): Unavailable {
    const message = `the budget of ${this.#limit} calls in 10 seconds is used up; the rest follows, or raise spec.budget of the KeyVault`;
    return new Unavailable("BudgetExhausted", message);
  }

  #throttled(): Throttled {
    return new Throttled(Math.ceil(this.pausedMs));
  }
}
