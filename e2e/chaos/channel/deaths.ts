/** Kills of primary and gateway with SIGKILL: over a named point of what they do, or wherever they are just then. */
import { rmSync, writeFileSync } from "node:fs";
import { SYSTEM_NAMESPACE } from "../../../crds/installation.ts";
import type { Program } from "../../../lab/mazevault.ts";
import { pause, until } from "../../../lab/poll.ts";
import type { World } from "../../harness.ts";
import type { Random } from "../random.ts";

export interface Mortal {
  readonly side: "primary" | "gateway";
  readonly world: World;
  readonly program: Program;
  /** Whether it holds the Lease, as whoever serves nothing but REST does not. */
  readonly leads: boolean;
  /** Its `MAZEVAULT_FAILPOINT_FILE`. */
  readonly failpointFile: string;
  readonly failpoints: readonly string[];
}

/** A point that is not passed in that time is not waited for. */
const PASSED_WITHIN_MS = 6_000;
const READY_MS = 60_000;
const BETWEEN_MS = { least: 2_000, most: 8_000 };

export class Deaths {
  readonly #mortals: readonly Mortal[];
  readonly #random: Random;
  readonly #report: (line: string) => void;
  readonly #deck: Mortal[] = [];
  /** Where they died, by side. */
  readonly at = { primary: [] as string[], gateway: [] as string[] };

  constructor(parts: {
    readonly mortals: readonly Mortal[];
    readonly random: Random;
    readonly report: (line: string) => void;
  }) {
    this.#mortals = parts.mortals;
    this.#random = parts.random;
    this.#report = parts.report;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { least, most } = BETWEEN_MS;
    for (;;) {
      await pause(least + this.#random.below(most - least), signal);
      if (signal.aborted) return;
      if (this.#deck.length === 0) this.#deck.push(...this.#random.shuffled(this.#mortals));
      const mortal = this.#deck.pop();
      if (mortal !== undefined) await this.#kill(mortal);
    }
  }

  async #kill(mortal: Mortal): Promise<void> {
    const { side, world, program, leads, failpointFile, failpoints } = mortal;
    const { process } = program;
    // A signal that comes before it is listened to would be the end without a kill.
    await process.ready(READY_MS);
    const { restarts } = process;
    const failpoint = this.#random.chance(0.7) ? this.#random.pick(failpoints) : undefined;
    let where = "no point in particular";
    if (failpoint !== undefined) {
      writeFileSync(failpointFile, failpoint);
      await process.kill("SIGUSR2");
      const died = () => process.restarts > restarts || process.pid === undefined;
      const passed = await until("death", died, { timeoutMs: PASSED_WITHIN_MS, intervalMs: 10 }).catch(() => false);
      if (passed) where = failpoint;
    }
    if (process.restarts === restarts && process.pid !== undefined) await process.kill();
    rmSync(failpointFile, { force: true });
    this.at[side].push(where);
    this.#report(`${process.name} of the ${side} died at ${where}`);
    await until("it is started again", () => process.restarts > restarts, { timeoutMs: READY_MS });
    // Its holder is dead, so the next one need not wait until it runs out.
    if (leads)
      await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await process.ready(READY_MS);
  }
}
