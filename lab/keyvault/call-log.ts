/** One call as a vault has answered it, without a value. */
export interface LoggedCall {
  readonly vault: string;
  /** `Unknown` for what is no operation. */
  readonly operation: string;
  /** Empty where an operation is about no secret by name. */
  readonly name: string;
  /** Client id of the identity whose token it bore; absent when it proved none, as the first call of a challenge. */
  readonly caller?: string;
  /** Milliseconds since 1970: when its headers had been read, and when there was an answer or it was decided that there is none. */
  readonly arrivedAt: number;
  readonly answeredAt: number;
  /** 0 for a call that got no answer. */
  readonly status: number;
  /** That the call has made or shown, whether or not it got an answer. */
  readonly version?: string;
}

/** What is known of a call while it is under way. */
export type CallUnderWay = Pick<LoggedCall, "operation" | "name" | "caller" | "version">;

const MOST_CALLS = 100_000;

/** The last calls of all vaults, in the order of their answers. */
export class CallLog {
  #calls: LoggedCall[] = [];

  add(call: LoggedCall): void {
    this.#calls.push(call);
    if (this.#calls.length >= 2 * MOST_CALLS) this.#calls = this.#calls.slice(-MOST_CALLS);
  }

  read(vault: string): readonly LoggedCall[] {
    return this.#calls.filter((call) => call.vault.toLowerCase() === vault.toLowerCase());
  }
}
