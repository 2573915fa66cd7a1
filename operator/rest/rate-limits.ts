/** How often an address and a subject may ask, counted over seconds so that a short burst passes. */
import { describeSubject, immutableSubject, type Subject } from "../../core/access/subject.ts";
import type { RateCounter, RateCounters } from "../../core/ports/rate-counter.ts";
import { Problem, retryAfter } from "./problem.ts";

const WINDOW_S = 10;

export interface RateLimitSettings {
  /** Requests in each second, on average over ten. */
  readonly perAddress: number;
  readonly perSubject: number;
}

export class RateLimits {
  readonly #addresses: RateCounter;
  readonly #subjects: RateCounter;

  constructor(counters: RateCounters, { perAddress, perSubject }: RateLimitSettings) {
    this.#addresses = counters("address", { points: perAddress * WINDOW_S, windowSeconds: WINDOW_S });
    this.#subjects = counters("subject", { points: perSubject * WINDOW_S, windowSeconds: WINDOW_S });
  }

  /** Throws a `Problem` with 429. */
  address(address: string): Promise<void> {
    return count(this.#addresses, address, "this address");
  }

  /** Throws a `Problem` with 429. */
  subject(subject: Subject): Promise<void> {
    return count(this.#subjects, immutableSubject(subject).join("/"), describeSubject(subject));
  }
}

/** Throws a `Problem` with 429; `who` is named in it. */
export async function count(counter: RateCounter, key: string, who: string): Promise<void> {
  const waitMs = await counter.count(key);
  if (waitMs === undefined) return;
  const headers = retryAfter(waitMs);
  throw new Problem(429, "TooManyRequests", `${who} asks too often; go on in ${headers["retry-after"]} s`, { headers });
}
