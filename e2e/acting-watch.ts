import { setTimeout as delay } from "node:timers/promises";

/** Looks all the time whether both act: one that does before and after the other one was seen to do so did at that moment too. */
export class ActingWatch {
  readonly seen = new Set<string>();
  readonly both: string[] = [];
  looks = 0;
  #ended = false;
  readonly #isActive: (name: string) => Promise<boolean | undefined>;
  readonly #running: Promise<void>;

  constructor(one: string, other: string, isActive: (name: string) => Promise<boolean | undefined>) {
    this.#isActive = isActive;
    this.#running = this.#run(one, other);
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await this.#running;
  }

  async #run(primary: string, standby: string): Promise<void> {
    while (!this.#ended) {
      for (const [one, other] of [
        [primary, standby],
        [standby, primary],
      ] as const) {
        const [before, between] = [await this.#isActive(one), await this.#isActive(other)];
        const after = before && between ? await this.#isActive(one) : false;
        if (before && between && after) this.both.push(`${new Date().toISOString()}: ${one} and ${other}`);
        if (before) this.seen.add(one);
        this.looks += 1;
      }
      await delay(150);
    }
  }
}
