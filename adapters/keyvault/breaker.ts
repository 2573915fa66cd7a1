/** A vault that is down costs one probe per interval, instead of a time-out for each call of each rule. */
import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhen, isBrokenCircuitError } from "cockatiel";
import { Unavailable } from "../../core/errors.ts";
import type { VaultState } from "../../core/ports/target-vaults.ts";

export interface BreakerOptions {
  /** How many calls in a row must fail. */
  readonly failures: number;
  readonly probeAfterMs: number;
}

/** The vault did not answer, or answered with 5xx: what the breaker counts. What it was stands with the operation. */
export class VaultDown extends Error {
  constructor() {
    super("the vault is down");
    this.name = "VaultDown";
  }
}

export class Breaker {
  readonly #policy;
  readonly #probeAfterMs: number;
  #openUntil = 0;

  constructor({ failures, probeAfterMs }: BreakerOptions) {
    this.#probeAfterMs = probeAfterMs;
    this.#policy = circuitBreaker(
      handleWhen((error) => error instanceof VaultDown),
      { breaker: new ConsecutiveBreaker(failures), halfOpenAfter: probeAfterMs },
    );
    this.#policy.onBreak(() => {
      this.#openUntil = Date.now() + probeAfterMs;
    });
  }

  get state(): VaultState["breaker"] {
    if (this.#policy.state === CircuitState.Closed) return "Closed";
    return this.#policy.state === CircuitState.HalfOpen ? "HalfOpen" : "Open";
  }

  /** Throws `Unavailable` while the circuit is open, so that a call which would be refused takes no budget. */
  check(): void {
    if (this.#policy.state === CircuitState.Open && Date.now() < this.#openUntil) throw this.#refusal();
  }

  /** Runs `call`; a `VaultDown` that it throws counts as a failure and reaches the caller. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await this.#policy.execute(call);
    } catch (error) {
      throw isBrokenCircuitError(error) ? this.#refusal() : error;
    }
  }

  #refusal(): Unavailable {
    const seconds = Math.ceil(this.#probeAfterMs / 1000);
    return new Unavailable(
      "VaultUnreachable",
      `the vault did not answer several times; it is tried every ${seconds} s`,
    );
  }
}
