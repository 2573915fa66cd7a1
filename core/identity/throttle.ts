import { isIPv6 } from "node:net";
import type { AttemptLimit, LoginAttempts } from "../ports/login-attempts.ts";
import { plainAddress } from "./address.ts";
import { TooManyAttempts } from "./errors.ts";

export interface ThrottleLimits {
  readonly user: Omit<AttemptLimit, "key">;
  readonly address: Omit<AttemptLimit, "key">;
}

/**
 * A guesser has some 300 tries a day for a user, and whom he locks out waits five minutes. Behind one address there may
 * be a whole office.
 */
export const THROTTLE_LIMITS: ThrottleLimits = {
  user: { free: 10, firstMs: 1_000, mostMs: 300_000, forgetMs: 3_600_000 },
  address: { free: 50, firstMs: 1_000, mostMs: 900_000, forgetMs: 3_600_000 },
};

/** An attempt that was let through, and counts as failed until it is ended. */
export interface Attempt {
  /** It was none to count against anybody. */
  withdraw(): Promise<void>;
  /** The user begins anew; of the address, whose other attempts may be somebody else's, only this one is taken back. */
  succeed(): Promise<void>;
}

/** So many keys that have to wait are known without asking. */
const MOST_KNOWN = 10_000;

export class Throttle {
  readonly #attempts: LoginAttempts;
  readonly #limits: ThrottleLimits;
  readonly #now: () => Date;
  /** Until when a key has to wait; oldest first. A flood then costs the store nothing. */
  readonly #waiting = new Map<string, number>();

  constructor(attempts: LoginAttempts, limits: ThrottleLimits, now: () => Date) {
    this.#attempts = attempts;
    this.#limits = limits;
    this.#now = now;
  }

  /** `user` stands for the name that was given, whether or not there is such a user. Throws `TooManyAttempts`. */
  async begin(user: string, address: string): Promise<Attempt> {
    const ofUser = `user ${user}`;
    const ofAddress = `address ${networkOf(address)}`;
    const now = this.#now();
    for (const key of [ofUser, ofAddress]) {
      const until = this.#waiting.get(key) ?? 0;
      if (until > now.getTime()) throw new TooManyAttempts(until - now.getTime());
    }
    const { user: userLimit, address: addressLimit } = this.#limits;
    const refused = await this.#attempts.begin(
      [
        { ...userLimit, key: ofUser },
        { ...addressLimit, key: ofAddress },
      ],
      now,
    );
    if (refused !== undefined) {
      this.#remember(refused.key, refused.until.getTime());
      throw new TooManyAttempts(refused.until.getTime() - now.getTime());
    }
    return {
      withdraw: () => this.#attempts.end([], [ofUser, ofAddress], now),
      succeed: async () => {
        await this.#attempts.end([ofUser], [ofAddress], now);
        this.#waiting.delete(ofUser);
      },
    };
  }

  #remember(key: string, until: number): void {
    this.#waiting.delete(key);
    this.#waiting.set(key, until);
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size > MOST_KNOWN && oldest !== undefined) this.#waiting.delete(oldest);
  }
}

/** Whoever has one IPv6 address has a network of 2^64 of them (RFC 6177), so the network counts. */
export function networkOf(given: string): string {
  const address = plainAddress(given);
  if (!isIPv6(address)) return address;
  const [before = "", after] = address.split("::").map((part) => part.split(":").filter((group) => group !== ""));
  const [first, last] = [[...before], [...(after ?? [])]];
  const zeros = Array.from({ length: Math.max(0, 8 - first.length - last.length) }, () => "0");
  const groups = [...first, ...zeros, ...last].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}
