import type { Writer } from "../core/ports/vault-store.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

/** Chores that are told when there is something to do, and look from time to time besides. */
export abstract class HintedChores<Dependencies extends ChoresDependencies> extends Chores<Dependencies> {
  #hinted = false;
  #wake: () => void = () => {};

  /** There may be something to do. */
  hint(): void {
    this.#hinted = true;
    this.#wake();
  }

  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { apartMs, everyMs, turn } = this.plan(writer, signal);
    while (!signal.aborted) {
      this.#hinted = false;
      await turn();
      await this.#sleep(apartMs, signal, false);
      if (!this.#hinted) await this.#sleep(everyMs, signal, true);
    }
  }

  /** For one term of leading. */
  protected abstract plan(
    writer: Writer,
    signal: AbortSignal,
  ): {
    /** Hints that come together are followed together. */
    readonly apartMs: number;
    /** Bounds what a lost hint costs. */
    readonly everyMs: number;
    /** What is done each time; it does not throw. */
    readonly turn: () => Promise<void>;
  };

  #sleep(ms: number, signal: AbortSignal, wakeable: boolean): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wake = () => {};
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done, { once: true });
      if (wakeable) this.#wake = done;
    });
  }
}
