/**
 * Whether this gateway may act for its environment at this moment. The primary grants it for a short time, counted here from when
 * the request was sent and there from when it was answered, so that it has ended here before another one begins.
 */
import type { Grant } from "./protocol.ts";
import { LEASE_MS, UNKNOWN_EPOCH } from "./standing.ts";

export class ActingLease {
  readonly #elapsed: () => number;
  #epoch: bigint | undefined;
  #endsAt = Number.NEGATIVE_INFINITY;

  readonly #onOlder: (told: bigint, known: bigint) => void;
  /** When the first one of them was heard, in a row of answers that all are of an older epoch. */
  #olderSince: number | undefined;
  #toldOlder = false;

  /**
   * @param elapsed in milliseconds; never goes back, and goes on while the process stands still
   * @param onOlder told once when for longer than a lease all answers are of an older epoch: the primary has forgotten the newer one
   */
  constructor(elapsed: () => number, onOlder: (told: bigint, known: bigint) => void = () => {}) {
    this.#elapsed = elapsed;
    this.#onOlder = onOlder;
  }

  /** When to tell `take` that a request was sent. */
  now(): number {
    return this.#elapsed();
  }

  /** `askedAt`: what `now` said before the request was sent whose answer this is. An answer of an older epoch came late and counts no more. */
  take({ active, environmentEpoch, leaseMs }: Grant, askedAt: number): void {
    const epoch = BigInt(environmentEpoch);
    if (this.#epoch !== undefined && epoch < this.#epoch) {
      if (epoch !== UNKNOWN_EPOCH) this.#older(epoch, this.#epoch);
      return;
    }
    this.#olderSince = undefined;
    this.#toldOlder = false;
    const endsAt = active ? askedAt + leaseMs : Number.NEGATIVE_INFINITY;
    this.#endsAt = active && epoch === this.#epoch ? Math.max(this.#endsAt, endsAt) : endsAt;
    this.#epoch = epoch;
  }

  #older(told: bigint, known: bigint): void {
    this.#olderSince ??= this.#elapsed();
    if (this.#toldOlder || this.#elapsed() - this.#olderSince <= LEASE_MS) return;
    this.#toldOlder = true;
    this.#onOlder(told, known);
  }

  /** For how many milliseconds it may still act; 0 when it may not. With `epoch` only what was granted in that one counts. */
  leftMs(epoch = this.#epoch): number {
    return epoch !== this.#epoch ? 0 : Math.max(0, this.#endsAt - this.#elapsed());
  }

  get active(): boolean {
    return this.leftMs() > 0;
  }

  /** Of the environment, as far as it is known here. */
  get epoch(): bigint | undefined {
    return this.#epoch;
  }
}
