/** How often an address and a subject may ask, counted over seconds so that a short burst passes. */
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { Problem, retryAfter } from "./problem.ts";

const WINDOW_S = 10;

export interface RateLimitSettings {
  /** Requests in each second, on average over ten. */
  readonly perAddress: number;
  readonly perSubject: number;
}

export class RateLimits {
  readonly #addresses: RateLimiterMemory;
  readonly #subjects: RateLimiterMemory;

  constructor({ perAddress, perSubject }: RateLimitSettings) {
    this.#addresses = new RateLimiterMemory({ points: perAddress * WINDOW_S, duration: WINDOW_S });
    this.#subjects = new RateLimiterMemory({ points: perSubject * WINDOW_S, duration: WINDOW_S });
  }

  /** Throws a `Problem` with 429. */
  address(address: string): Promise<void> {
    return consume(this.#addresses, address, "this address");
  }

  subject(name: string): Promise<void> {
    return consume(this.#subjects, name, name);
  }
}

async function consume(limiter: RateLimiterMemory, key: string, who: string): Promise<void> {
  try {
    await limiter.consume(key);
  } catch (refused) {
    if (!(refused instanceof RateLimiterRes)) throw refused;
    const headers = retryAfter(refused.msBeforeNext);
    throw new Problem(429, "TooManyRequests", `${who} asks too often; go on in ${headers["retry-after"]} s`, {
      headers,
    });
  }
}
