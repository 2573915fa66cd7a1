/** What the leader does in Key Vaults that have the only copy of values: what was deleted here, and what writes left. */
import { setTimeout as delay } from "node:timers/promises";
import type { Writer } from "../core/ports/vault-store.ts";
import type { KeptSettlement } from "../core/vault/kept-settlement.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

export interface KeptChoresDependencies extends ChoresDependencies {
  readonly settlement: Pick<KeptSettlement, "settle">;
  /** What was to be purged may be the only copy of something that the restored database does not know of. */
  readonly isRecovering?: () => boolean;
  readonly everyMs?: number;
}

/** One look at an index where nothing is to be done. */
const EVERY_MS = 2_000;
const LONGEST_MS = 60_000;
const BATCH = 100;
const CHORE = "settle entries of Key Vaults";

export class KeptChores extends Chores<KeptChoresDependencies> {
  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { everyMs = EVERY_MS } = this.deps;
    let pauseMs = everyMs;
    while (!signal.aborted) {
      const done = await this.attempt(CHORE, () => this.#settle(writer, signal));
      // Of the database; a vault that fails has its own pause, so that it holds up no other.
      pauseMs = done ? everyMs : Math.min(LONGEST_MS, pauseMs * 2);
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #settle(writer: Writer, signal: AbortSignal): Promise<void> {
    let more = this.deps.isRecovering?.() !== true;
    while (more && !signal.aborted) {
      const { settled, failures } = await this.deps.settlement.settle(writer, BATCH);
      for (const failure of failures) await this.attempt(CHORE, () => Promise.reject(failure));
      more = settled === BATCH;
    }
  }
}
