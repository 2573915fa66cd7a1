/** What the leader does for keys: the root key in use, rotations that are due, and what replaced versions still wrap. */
import { setTimeout as delay } from "node:timers/promises";
import { Fenced } from "../core/errors.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { KeyRotation } from "../core/vault/rotation.ts";
import type { Logger } from "../program/logging.ts";

export interface KeyChoresDependencies {
  readonly rotation: Pick<KeyRotation, "replaceRoot" | "rotateDue" | "advance">;
  readonly log: Logger;
  readonly onFenced: (error: Fenced) => void;
}

/** Anybody may have asked for a rotation, through any replica. */
const EVERY_MS = 5_000;
const DUE_EVERY_MS = 600_000;

export class KeyChores {
  readonly #deps: KeyChoresDependencies;
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(deps: KeyChoresDependencies) {
    this.#deps = deps;
  }

  start(writer: Writer): void {
    const abort = new AbortController();
    this.#abort = abort;
    this.#running = this.#work(writer, abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    await this.#running;
  }

  async #work(writer: Writer, signal: AbortSignal): Promise<void> {
    let dueAt = performance.now();
    while (!signal.aborted) {
      await this.#attempt("wrap the installation key by the root key", () => this.#replaceRoot(writer));
      if (performance.now() >= dueAt) {
        dueAt = performance.now() + DUE_EVERY_MS;
        await this.#attempt("rotate keys that are due", () => this.#deps.rotation.rotateDue(writer));
      }
      await this.#attempt("wrap keys by newer ones", () => this.#advance(writer, signal));
      await delay(EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #replaceRoot(writer: Writer): Promise<void> {
    const versions = await this.#deps.rotation.replaceRoot(writer);
    if (versions === 0) return;
    this.#deps.log.warn(
      { versions },
      "the root key was replaced: remove keys.previous, and keep the former one as long as backups need it",
    );
  }

  async #advance(writer: Writer, signal: AbortSignal): Promise<void> {
    const { rotation, log } = this.#deps;
    const { left, stuck, retired } = await rotation.advance(writer, signal);
    if (retired > 0) log.info({ retired, left }, "replaced keys were retired: nothing is wrapped by them any more");
    if (stuck > 0) log.error({ stuck }, "keys do not open, so what wraps them is not retired; see the runbook");
  }

  async #attempt(chore: string, run: () => Promise<unknown>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (error instanceof Fenced) this.#deps.onFenced(error);
      this.#deps.log.warn({ chore, error }, "housekeeping failed");
    }
  }
}
