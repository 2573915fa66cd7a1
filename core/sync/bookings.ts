/** Calls to one vault that this process has booked in the ledger, and not made yet. */
import type { CallLedger } from "../ports/call-ledger.ts";
import type { Clock } from "./budget.ts";

/** A call that is granted begins at once, so what is not used by then is nobody's turn, and is given back. */
const VALID_MS = 2_000;
/** Others may settle earlier than the ledger foresees. */
const LONGEST_WAIT_MS = 1_000;
/** Who asks at the same moment as another one is not always the second. */
const SPREAD_MS = 40;
/** Where others have calls too, whoever has more of them asks later, so that what comes free goes to who has fewer. */
const YIELD_MS = 400;
/** A process books at most this part of the limit at once, so that others come in between. */
const PARTS = 8;

interface Block {
  readonly id: string;
  /** No call of it begins then or later. */
  readonly until: number;
  left: number;
  underWay: number;
  made: number;
  over: boolean;
}

export interface BookingsOptions {
  readonly ledger: CallLedger;
  /** Tells this process from others. */
  readonly holder: string;
  /** By what the ledger knows it. */
  readonly vault: string;
  /** The longest that a call lasts. */
  readonly callMs: number;
  /** How long a call counts after it ended. */
  readonly windowMs: number;
  readonly clock: Clock;
}

export class Bookings {
  readonly #options: BookingsOptions;
  #block: Block | undefined;
  #asking = false;
  /** Until it is time to ask again; who may have more than this limit asks at once. */
  #pause: { readonly limit: number; readonly cancel: () => void } | undefined;
  /** Doubled while bookings are used up: a single call books one, a flood few times many. */
  #size = 1;

  constructor(options: BookingsOptions) {
    this.#options = options;
  }

  /** Calls that may be made now. */
  get inHand(): number {
    const block = this.#block;
    // The ledger may have answered late, and a timer may be late: such a call would outlast its booking.
    if (block !== undefined && this.#options.clock.now() >= block.until) this.#expire(block);
    return this.#block?.left ?? 0;
  }

  /** Makes one of them; the result says that it ended. */
  take(): () => void {
    const block = this.#block;
    if (block === undefined || block.left === 0) throw new Error("no call is booked");
    block.left -= 1;
    block.made += 1;
    block.underWay += 1;
    if (block.left === 0) this.#end(block);
    return () => {
      block.underWay -= 1;
      this.#settle(block);
    };
  }

  /**
   * `used` of the limit are this process's own. Books for `waiting` calls where none are in hand, unless that is under way. Then `onChange` is called: with an error
   * when the ledger cannot be asked, else when there are calls in hand or it is time to ask again.
   */
  book(limit: number, used: number, waiting: number, onChange: (error?: Error) => void): void {
    if (this.#asking || this.inHand > 0 || (this.#pause !== undefined && limit <= this.#pause.limit)) return;
    this.#pause?.cancel();
    this.#pause = undefined;
    const { ledger, holder, vault, callMs, windowMs, clock } = this.#options;
    const most = Math.max(1, Math.floor(limit / PARTS));
    const wanted = Math.min(most, Math.max(waiting, this.#size));
    this.#asking = true;
    const asked = clock.now();
    ledger.book(holder, vault, limit, wanted, VALID_MS + callMs + windowMs).then(
      ({ id, calls, waitMs, contended }) => {
        this.#asking = false;
        const yieldMs = contended ? (YIELD_MS * used) / limit : 0;
        if (id === undefined) {
          const pauseMs = Math.min(LONGEST_WAIT_MS, waitMs) + yieldMs + Math.random() * SPREAD_MS;
          this.#rest(pauseMs, limit, onChange);
          // Somebody with a right to more may have come meanwhile.
          onChange();
          return;
        }
        if (yieldMs > 0) this.#rest(yieldMs, Number.POSITIVE_INFINITY, onChange);
        this.#size = Math.min(most, wanted * 2);
        const until = asked + VALID_MS;
        const block: Block = { id, until, left: calls, underWay: 0, made: 0, over: false };
        this.#block = block;
        clock.after(until - clock.now(), () => this.#expire(block));
        onChange();
      },
      (error: Error) => {
        this.#asking = false;
        onChange(error);
      },
    );
  }

  #rest(milliseconds: number, limit: number, onChange: () => void): void {
    const wake = (): void => {
      this.#pause = undefined;
      onChange();
    };
    this.#pause = { limit, cancel: this.#options.clock.after(Math.ceil(milliseconds) + 1, wake) };
  }

  #expire(block: Block): void {
    if (block.over) return;
    this.#size = 1;
    block.left = 0;
    this.#end(block);
    this.#settle(block);
  }

  #end(block: Block): void {
    block.over = true;
    if (this.#block === block) this.#block = undefined;
  }

  #settle(block: Block): void {
    if (!block.over || block.underWay > 0) return;
    // Where this fails, the calls count for as long as they were booked.
    this.#options.ledger.settle(block.id, block.made, this.#options.windowMs).catch(() => {});
  }
}
