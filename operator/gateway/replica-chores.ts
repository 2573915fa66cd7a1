/** Mode gateway: the leader keeps what the gateway holds of its primary in step. */
import { setTimeout as delay } from "node:timers/promises";
import { Fenced } from "../../core/errors.ts";
import { pauseAfter } from "../../core/fleet/pause.ts";
import type { ReplicaPull } from "../../core/fleet/replica-pull.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { Chores, type ChoresDependencies } from "../chores.ts";

export interface ReplicaChoresDependencies extends ChoresDependencies {
  readonly pull: Pick<ReplicaPull, "begin" | "turn">;
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

export class ReplicaChores extends Chores<ReplicaChoresDependencies> {
  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { pull, log, onFenced } = this.deps;
    pull.begin();
    let failed = 0;
    let told: string | undefined;
    while (!signal.aborted) {
      let pauseMs: number;
      try {
        pauseMs = await pull.turn(writer, signal);
        failed = 0;
        told = undefined;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Fenced) onFenced(error);
        const { message } = error as Error;
        failed += 1;
        // Once may be because the channel is just being opened.
        if (failed > 1 && message !== told) {
          log.warn({ error }, "the replica could not be brought in step with the primary");
          told = message;
        }
        pauseMs = pauseAfter(failed, FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
      }
      if (pauseMs > 0) await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}
