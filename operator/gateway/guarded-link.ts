/** A primary that is away costs one question from time to time, instead of one for each of who would ask it. */
import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhen, isBrokenCircuitError } from "cockatiel";
import { Unavailable } from "../../core/errors.ts";
import type { ChannelAnswer } from "../../core/ports/primary-channel.ts";
import type { AskOptions, BreakerState, PrimaryLink } from "../../core/ports/primary-link.ts";
import type { Logger } from "../../program/logging.ts";

export interface GuardedLinkOptions {
  readonly link: PrimaryLink;
  /** How many questions in a row must fail. */
  readonly failures?: number;
  readonly probeAfterMs?: number;
  readonly log: Pick<Logger, "info" | "warn">;
}

const FAILURES = 5;
const PROBE_AFTER_MS = 10_000;
const SERVER_ERROR = 500;

/** An answer that counts as none, so that the breaker sees it; whoever asked gets it all the same. */
class Unserved extends Error {
  readonly answer: ChannelAnswer;
  constructor(answer: ChannelAnswer) {
    super("the primary cannot serve");
    this.name = "Unserved";
    this.answer = answer;
  }
}

/** Whoever gave up by themselves says nothing of the primary; when theirs was the question that tries it, it has not answered yet. */
class GivenUp extends Error {
  readonly tried: boolean;
  constructor(tried: boolean, cause: unknown) {
    super("given up", { cause });
    this.tried = tried;
  }
}

export class GuardedLink implements PrimaryLink {
  readonly #link: PrimaryLink;
  readonly #policy;
  readonly #probeAfterMs: number;
  readonly #onBack = new Set<() => void>();
  /** Whether the last question that says something of the primary had no answer. */
  #isAway = false;

  constructor({ link, failures = FAILURES, probeAfterMs = PROBE_AFTER_MS, log }: GuardedLinkOptions) {
    this.#link = link;
    this.#probeAfterMs = probeAfterMs;
    this.#policy = circuitBreaker(
      // What is not handled counts as an answer while the circuit is half open.
      handleWhen((error) => !(error instanceof GivenUp) || error.tried),
      { breaker: new ConsecutiveBreaker(failures), halfOpenAfter: probeAfterMs },
    );
    let isOpen = false;
    this.#policy.onBreak(() => {
      if (!isOpen)
        log.warn(
          { code: "CircuitOpen" },
          `The circuit breaker to the primary opened: ${failures} questions in a row had no answer`,
        );
      isOpen = true;
    });
    this.#policy.onReset(() => {
      if (isOpen) log.info("The circuit breaker to the primary closed: it answers again");
      isOpen = false;
    });
  }

  get state(): BreakerState {
    switch (this.#policy.state) {
      case CircuitState.Closed:
        return "Closed";
      case CircuitState.HalfOpen:
        return "HalfOpen";
      default:
        return "Open";
    }
  }

  /**
   * Calls `listener` each time the primary answers after a question that it did not answer, until stopped.
   * @returns stops it
   */
  onBack(listener: () => void): () => void {
    this.#onBack.add(listener);
    return () => this.#onBack.delete(listener);
  }

  /** The primary has let the gateway in again: what it did not answer before says nothing of it any more. */
  channelOpened(): void {
    if (this.state !== "Closed") this.#policy.isolate().dispose();
    this.#answered();
  }

  async ask(path: string, body: unknown, options: AskOptions): Promise<ChannelAnswer> {
    try {
      const answered = await this.#policy.execute(async () => {
        const answer = await this.#asked(path, body, options);
        if (answer.status >= SERVER_ERROR) throw new Unserved(answer);
        return answer;
      });
      this.#answered();
      return answered;
    } catch (error) {
      if (error instanceof GivenUp) throw error.cause;
      this.#isAway = true;
      if (error instanceof Unserved) return error.answer;
      if (!isBrokenCircuitError(error)) throw error;
      const seconds = Math.ceil(this.#probeAfterMs / 1_000);
      throw new Unavailable(
        "CircuitOpen",
        `the primary did not answer several times in a row; it is tried every ${seconds} s`,
      );
    }
  }

  #answered(): void {
    if (!this.#isAway) return;
    this.#isAway = false;
    for (const listener of this.#onBack) listener();
  }

  async #asked(path: string, body: unknown, options: AskOptions): Promise<ChannelAnswer> {
    const tried = this.state === "HalfOpen";
    try {
      return await this.#link.ask(path, body, options);
    } catch (error) {
      throw options.signal.aborted ? new GivenUp(tried, error) : error;
    }
  }
}
