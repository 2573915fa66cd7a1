/** What the leader does for keys: the root key in use, rotations that are due, and what replaced versions still wrap. */
import { setTimeout as delay } from "node:timers/promises";
import type { Writer } from "../core/ports/vault-store.ts";
import type { KeyRotation } from "../core/vault/rotation.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

export interface KeyChoresDependencies extends ChoresDependencies {
  readonly rotation: Pick<KeyRotation, "replaceRoot" | "rotateDue" | "advance">;
  /** Between two looks; 5 seconds when absent. */
  readonly everyMs?: number;
}

/** Anybody may have asked for a rotation, through any replica. */
const EVERY_MS = 5_000;
const DUE_EVERY_MS = 600_000;

export class KeyChores extends Chores<KeyChoresDependencies> {
  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { everyMs = EVERY_MS } = this.deps;
    let dueAt = performance.now();
    while (!signal.aborted) {
      await this.attempt("wrap the installation key by the root key", () => this.#replaceRoot(writer));
      if (performance.now() >= dueAt) {
        const rotated = await this.attempt("rotate keys that are due", () => this.deps.rotation.rotateDue(writer));
        if (rotated) dueAt = performance.now() + DUE_EVERY_MS;
      }
      await this.attempt("wrap keys by newer ones", () => this.#advance(writer, signal));
      await delay(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #replaceRoot(writer: Writer): Promise<void> {
    const versions = await this.deps.rotation.replaceRoot(writer);
    if (versions === 0) return;
    this.deps.log.warn(
      { versions },
      "the root key was replaced: remove keys.previous, and keep the former one as long as backups need it",
    );
  }

  async #advance(writer: Writer, signal: AbortSignal): Promise<void> {
    const { rotation, log } = this.deps;
    const { left, stuck, retired } = await rotation.advance(writer, signal);
    if (retired > 0) log.info({ retired, left }, "replaced keys were retired: nothing is wrapped by them any more");
    if (stuck > 0) log.error({ stuck }, "keys do not open, so what wraps them is not retired; see the runbook");
  }
}
