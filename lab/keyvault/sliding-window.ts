/** Counts what happened in the last so many milliseconds, exactly. */
export class SlidingWindow {
  readonly #span: number;
  #times: number[] = [];
  #head = 0;

  constructor(milliseconds: number) {
    this.#span = milliseconds;
  }

  add(now: number): void {
    this.#times.push(now);
  }

  count(now: number): number {
    while (this.#head < this.#times.length && (this.#times[this.#head] ?? now) <= now - this.#span) {
      this.#head++;
    }
    if (this.#head > 4_096 && this.#head * 2 > this.#times.length) {
      this.#times = this.#times.slice(this.#head);
      this.#head = 0;
    }
    return this.#times.length - this.#head;
  }

  /** Milliseconds until the oldest event leaves the window; 0 when it is empty. */
  untilNextLeaves(now: number): number {
    return this.count(now) === 0 ? 0 : (this.#times[this.#head] ?? now) + this.#span - now;
  }
}
