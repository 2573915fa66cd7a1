/** Work that the leader repeats beside reconciling, for as long as its term lasts. */
import { Fenced, Unavailable } from "../core/errors.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { Logger } from "../program/logging.ts";

export interface ChoresDependencies {
  readonly log: Logger;
  /** Somebody else leads. */
  readonly onFenced: (error: Fenced) => void;
}

/** What the leader has running for as long as its term lasts. */
export interface LeaderChores {
  start(writer: Writer): void;
  /** Resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

export abstract class Chores<Dependencies extends ChoresDependencies> implements LeaderChores {
  protected readonly deps: Dependencies;
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(deps: Dependencies) {
    this.deps = deps;
  }

  start(writer: Writer): void {
    const abort = new AbortController();
    this.#abort = abort;
    this.#running = this.work(writer, abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    await this.#running;
  }

  /** Until the signal is aborted. */
  protected abstract work(writer: Writer, signal: AbortSignal): Promise<void>;

  /** Whether it succeeded. What fails is told, and tried again at the next turn. */
  protected async attempt(chore: string, run: () => Promise<unknown>): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      if (error instanceof Fenced) this.deps.onFenced(error);
      const tampered = error instanceof Unavailable && error.code === "TamperDetected";
      this.deps.log[tampered ? "error" : "warn"]({ chore, error }, "housekeeping failed");
      return false;
    }
  }
}
