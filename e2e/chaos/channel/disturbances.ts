/** What goes wrong on the way between gateways and their primary, one thing after the other, drawn from a seed. */
import { pause } from "../../../lab/poll.ts";
import type { Direction, Toxic, ToxicProxy } from "../../../lab/toxiproxy/toxiproxy.ts";
import type { Random } from "../random.ts";

export const KINDS = ["latency", "bandwidth", "reset", "halfOpen", "slowClose", "slices", "off"] as const;
export type Kind = (typeof KINDS)[number];

const LASTS_MS = { least: 1_500, most: 6_000 };
const CALM_MS = { least: 300, most: 3_000 };
const DIRECTIONS: readonly Direction[] = ["upstream", "downstream"];

const between = (random: Random, { least, most }: { readonly least: number; readonly most: number }): number =>
  least + random.below(most - least);

function toxicOf(kind: Exclude<Kind, "off">, random: Random): Toxic {
  switch (kind) {
    case "latency":
      return { type: "latency", attributes: { latency: between(random, { least: 50, most: 1_500 }), jitter: 50 } };
    case "bandwidth":
      return { type: "bandwidth", attributes: { rate: between(random, { least: 1, most: 40 }) } };
    case "reset":
      return { type: "limit_data", attributes: { bytes: between(random, { least: 0, most: 20_000 }) } };
    case "halfOpen":
      return { type: "timeout", attributes: { timeout: 0 } };
    case "slowClose":
      return { type: "slow_close", attributes: { delay: between(random, { least: 100, most: 3_000 }) } };
    case "slices":
      return { type: "slicer", attributes: { average_size: 50, size_variation: 40, delay: 5_000 } };
  }
}

export class Disturbances {
  readonly #proxies: readonly ToxicProxy[];
  readonly #random: Random;
  readonly #report: (line: string) => void;
  readonly #deck: Kind[] = [];
  readonly counts = new Map<Kind, number>();

  constructor(parts: {
    readonly proxies: readonly ToxicProxy[];
    readonly random: Random;
    readonly report: (line: string) => void;
  }) {
    this.#proxies = parts.proxies;
    this.#random = parts.random;
    this.#report = parts.report;
  }

  /** One after the other until aborted; then nothing is wrong any more. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#disturb(signal);
      await this.#calm();
      await pause(between(this.#random, CALM_MS), signal);
    }
  }

  async #disturb(signal: AbortSignal): Promise<void> {
    // Each comes as often as the others.
    if (this.#deck.length === 0) this.#deck.push(...this.#random.shuffled(KINDS));
    const kind = this.#deck.pop() ?? "reset";
    const lastsMs = between(this.#random, LASTS_MS);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    if (kind === "off") {
      this.#report(`nobody listens for ${lastsMs} ms`);
      await Promise.all(this.#proxies.map((proxy) => proxy.enable(false)));
    } else {
      const directions = this.#random.chance(0.5) ? DIRECTIONS : [this.#random.pick(DIRECTIONS)];
      const toxic = toxicOf(kind, this.#random);
      this.#report(`${kind} ${JSON.stringify(toxic.attributes)} ${directions.join(" and ")} for ${lastsMs} ms`);
      for (const proxy of this.#proxies) for (const direction of directions) await proxy.add(toxic, direction);
    }
    await pause(lastsMs, signal);
  }

  async #calm(): Promise<void> {
    for (const proxy of this.#proxies) {
      await proxy.enable(true);
      await proxy.clear();
      // What ends a connection afterwards is a reset as often as not.
      if (this.#random.chance(0.5)) await proxy.endByReset();
    }
  }
}
