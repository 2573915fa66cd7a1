import type { Booking, CallLedger } from "./call-ledger.ts";

interface Booked {
  readonly holder: string;
  readonly vault: string;
  readonly calls: number;
  readonly until: number;
}

/** So long a holder that was refused counts as one who waits. */
const REMEMBERED_MS = 2_000;

/** A ledger in memory, with the contract of the real one. */
export class FakeCallLedger implements CallLedger {
  readonly #now: () => number;
  readonly #booked = new Map<string, Booked>();
  #ids = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  async book(holder: string, vault: string, limit: number, wanted: number, heldMs: number): Promise<Booking> {
    const now = this.#now();
    for (const [id, { until }] of this.#booked) if (until <= now) this.#booked.delete(id);
    const counting = [...this.#booked.values()].filter((each) => each.vault === vault);
    const used = counting.reduce((sum, { calls }) => sum + calls, 0);
    const calls = Math.max(0, Math.min(wanted, limit - used));
    const contended = counting.some((each) => each.holder !== holder);
    const mark = `${holder} waits for ${vault}`;
    this.#booked.delete(mark);
    if (calls === 0) {
      this.#booked.set(mark, { holder, vault, calls: 0, until: now + REMEMBERED_MS });
      const ends = counting.filter((each) => each.calls > 0).map(({ until }) => until - now);
      return { calls, waitMs: Math.min(...ends), contended };
    }
    this.#ids += 1;
    const id = String(this.#ids);
    this.#booked.set(id, { holder, vault, calls, until: now + heldMs });
    return { id, calls, waitMs: 0, contended };
  }

  async settle(id: string, calls: number, countedMs: number): Promise<void> {
    const booked = this.#booked.get(id);
    if (booked === undefined) return;
    if (calls === 0) this.#booked.delete(id);
    else this.#booked.set(id, { ...booked, calls, until: this.#now() + countedMs });
  }
}
