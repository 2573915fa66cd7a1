/**
 * The way to one vault, shared by everybody who calls it: call budget, circuit breaker, time-outs, and what happened to
 * each request. It stands behind every policy of the SDK, so it sees what really goes over the wire, the requests of
 * the authentication challenge included.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { HttpClient, PipelineRequest, PipelineResponse } from "@azure/core-rest-pipeline";
import { Stalled } from "../../core/errors.ts";
import type { Priority, VaultState } from "../../core/ports/target-vaults.ts";
import { CallBudget, type SharedBudget, systemClock } from "../../core/sync/budget.ts";
import { type Answer, type Attempt, faultOf, vaultAnswer } from "./answer.ts";
import { Breaker, type BreakerOptions, VaultDown } from "./breaker.ts";

/** One request to Azure that ended; `code` is the status, or why there was none. */
export interface AzureCall {
  readonly target: "keyvault" | "entra";
  readonly operation: string;
  readonly code: string;
  readonly seconds: number;
  readonly host?: string;
  readonly requestId?: string;
}

export interface LaneOptions {
  readonly requestTimeoutMs: number;
  /** How long a request waits for its turn in the budget. */
  readonly budgetWaitMs: number;
  readonly breaker: BreakerOptions;
  readonly onCall: (call: AzureCall) => void;
  /** What all processes share of the vaults' budgets; without it each has its own. */
  readonly shared?: Pick<SharedBudget, "ledger" | "holder">;
}

/** What a caller asked for, and what came of its last request. */
export interface Operation {
  readonly name: string;
  readonly priority: Priority;
  readonly signal: AbortSignal;
  /** What the KeyVault resource behind the call may use; the vault's own budget comes on top. */
  readonly budget: CallBudget;
  /** What it throws keeps the request from going out. */
  readonly beforeRequest?: () => void;
  /** The request went out with a token, and so may have been carried out. */
  sent: boolean;
  last?: Attempt;
}

/** SDK policies pass no context on; this carries it to the wire. */
export const operations = new AsyncLocalStorage<Operation>();

/** What the service asks for when it names no time, and the most that is believed. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 5 * 60_000;
/** 16 s: what was throttled for a minute is in place half a minute after. */
const MOST_DOUBLINGS = 4;

export class Lane {
  readonly url: string;
  readonly budget: CallBudget;
  readonly #breaker: Breaker;
  readonly #host: string;
  readonly #wire: HttpClient;
  readonly #options: LaneOptions;
  #throttledInARow = 0;
  #denied = 0;

  constructor(url: string, callsPer10Seconds: number, wire: HttpClient, options: LaneOptions) {
    this.url = url;
    this.#host = new URL(url).host;
    const { budgetWaitMs, requestTimeoutMs: callMs } = options;
    const shared = options.shared && { ...options.shared, vault: this.#host, callMs };
    this.budget = new CallBudget(callsPer10Seconds, budgetWaitMs, systemClock, shared);
    this.#breaker = new Breaker(options.breaker);
    this.#wire = wire;
    this.#options = options;
  }

  get state(): VaultState {
    const { used, limit, waiting, pausedMs } = this.budget;
    return {
      url: this.url,
      breaker: this.#breaker.state,
      callsInWindow: used,
      limit,
      waiting,
      pausedMs,
      denied: this.#denied,
    };
  }

  /** Told by who can tell an answer 403 that denies access from one that says how an entry is. */
  deny(): void {
    this.#denied += 1;
  }

  /** Nothing would be lost if this lane were made anew. */
  get idle(): boolean {
    const { callsInWindow, waiting, pausedMs } = this.state;
    return callsInWindow === 0 && waiting === 0 && pausedMs === 0;
  }

  readonly httpClient: HttpClient = {
    sendRequest: async (request) => {
      const operation = operations.getStore();
      if (operation === undefined) throw new Error("a request to the vault outside of an operation");
      // Links to the next page come from the vault, and the SDK would follow them anywhere, token included.
      if (new URL(request.url).host !== this.#host) {
        throw new Stalled("VaultHostNotAllowed", `the vault ${this.url} refers to another host and is not followed`);
      }
      this.#breaker.check();
      this.budget.checkPause();
      const { priority, signal } = operation;
      const endOwn = await operation.budget.acquire(priority, signal);
      try {
        const end = await this.budget.acquire(priority, signal);
        try {
          operation.beforeRequest?.();
          return await this.#breaker.run(() => this.#send(request, operation));
        } finally {
          end();
        }
      } finally {
        endOwn();
      }
    },
  };

  async #send(request: PipelineRequest, operation: Operation): Promise<PipelineResponse> {
    const timeout = AbortSignal.timeout(this.#options.requestTimeoutMs);
    // The SDK's own time-out ends with the response's headers, and requests for further pages have neither.
    request.abortSignal = AbortSignal.any([operation.signal, timeout]);
    request.timeout = 0;
    operation.sent = request.headers.has("Authorization");
    const started = performance.now();
    try {
      const response = await this.#wire.sendRequest(request);
      const answer = vaultAnswer(response);
      this.#ended(operation, answer, started);
      this.#heed(response, answer);
      if (answer.status >= 500) throw new VaultDown();
      return response;
    } catch (error) {
      if (error instanceof VaultDown) throw error;
      operation.signal.throwIfAborted();
      this.#ended(operation, { fault: timeout.aborted ? "timeout" : faultOf(error) }, started);
      throw new VaultDown();
    }
  }

  #ended(operation: Operation, attempt: Attempt, started: number): void {
    operation.last = attempt;
    const code = "fault" in attempt ? attempt.fault : `${attempt.status}`;
    const seconds = (performance.now() - started) / 1000;
    const id = "requestId" in attempt ? { requestId: attempt.requestId } : {};
    this.#options.onCall({ target: "keyvault", operation: operation.name, code, seconds, host: this.#host, ...id });
  }

  #heed(response: PipelineResponse, { status }: Answer): void {
    if (status !== 429) {
      this.#throttledInARow = 0;
      return;
    }
    const fallback = FIRST_PAUSE_MS * 2 ** this.#throttledInARow;
    const asked = retryAfterMs(response.headers.get("Retry-After"));
    this.#throttledInARow = Math.min(this.#throttledInARow + 1, MOST_DOUBLINGS);
    this.budget.pause(Math.min(asked ?? fallback, LONGEST_PAUSE_MS));
  }
}

/** RFC 9110: seconds, or a date. */
function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const until = Date.parse(header);
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now());
}
