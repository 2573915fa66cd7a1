/** Mode gateway: the leader sends what waits to the primary; every replica knows how much that is. */
import type { HintListenerOptions } from "../../adapters/postgres/hint-listener.ts";
import { Fenced, Unavailable } from "../../core/errors.ts";
import type { QueuedWrites } from "../../core/fleet/queued-writes.ts";
import type { WriteDrain } from "../../core/fleet/write-drain.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { Logger } from "../../program/logging.ts";
import type { ChoresDependencies } from "../chores.ts";
import { HintedChores } from "../hinted-chores.ts";

export interface WriteChoresDependencies extends ChoresDependencies {
  readonly drain: Pick<WriteDrain, "turn" | "forgetOld">;
}

const APART_MS = 5;
/** Nobody tells when the channel is open again. */
const LOOK_EVERY_MS = 1_000;
const SWEEP_EVERY_MS = 600_000;

export class WriteChores extends HintedChores<WriteChoresDependencies> {
  protected plan(writer: Writer, signal: AbortSignal): ReturnType<HintedChores<WriteChoresDependencies>["plan"]> {
    const { drain, onFenced, log } = this.deps;
    let sweepAt = performance.now() + SWEEP_EVERY_MS;
    let told: string | undefined;
    const send = async (): Promise<void> => {
      try {
        while (!signal.aborted && (await drain.turn(writer, signal)));
        told = undefined;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Fenced) onFenced(error);
        // That the primary is away is told once, by its name; what comes of it is told by the queue's length.
        const name = error instanceof Unavailable ? error.code : "Failed";
        if (name !== told) log.warn({ error }, "writes wait: they cannot be sent to the primary");
        told = name;
      }
    };
    const turn = async (): Promise<void> => {
      await send();
      if (performance.now() < sweepAt) return;
      sweepAt = performance.now() + SWEEP_EVERY_MS;
      await this.attempt("forget writes that were sent long ago", () => drain.forgetOld(writer));
    };
    return { apartMs: APART_MS, everyMs: LOOK_EVERY_MS, turn };
  }
}

interface Listening {
  listenWrites(options: Pick<HintListenerOptions, "onHint" | "onError">): { stop(): Promise<void> };
}

const LENGTH_EVERY_MS = 5_000;

/** Until stopped. */
export function followWrites(
  writes: Pick<QueuedWrites, "hint" | "look">,
  stores: Listening,
  log: Pick<Logger, "debug">,
  onHint: () => void,
): () => void {
  let looking = false;
  const look = (): void => {
    if (looking) return;
    looking = true;
    // What is wrong with the database is told by its own health check.
    void writes
      .look()
      .catch(() => undefined)
      .finally(() => {
        looking = false;
      });
  };
  const listener = stores.listenWrites({
    onHint: () => {
      writes.hint();
      onHint();
      look();
    },
    onError: (error) => log.debug({ error }, "hints of writes interrupted"),
  });
  const timer = setInterval(look, LENGTH_EVERY_MS);
  timer.unref();
  look();
  return () => {
    clearInterval(timer);
    void listener.stop();
  };
}
