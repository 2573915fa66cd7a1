/**
 * Operators that die one after the other, each at a failpoint, and whose successor stands by: it leads as soon as the
 * Lease is free, and the one after it starts meanwhile, so that no death waits for a start.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { SYSTEM_NAMESPACE } from "../../crds/installation.ts";
import type { Operator, ProgramOptions } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { leaderOf, type World } from "../harness.ts";

/** Candidates ask more than once a second; a busy machine must not cost the leader its Lease. */
const LEASE_MS = 9_000;
const DEATH_MS = 30_000;

export class Succession {
  readonly #world: World;
  readonly #failpointFile: string;
  readonly #start: () => Promise<Operator>;
  #leader: Operator;
  #next: Promise<Operator>;

  private constructor(world: World, failpointFile: string, start: () => Promise<Operator>, leader: Operator) {
    this.#world = world;
    this.#failpointFile = failpointFile;
    this.#start = start;
    this.#leader = leader;
    this.#next = this.#standby();
  }

  /** Resolves when the first one leads. */
  static async begin(world: World, config: NonNullable<ProgramOptions["config"]> = {}): Promise<Succession> {
    const failpointFile = path.join(world.lab.dir, "failpoint");
    let started = 0;
    const start = async (): Promise<Operator> => {
      started += 1;
      const operator = await world.mazevault.startOperator({
        name: `operator-${started}`,
        env: { MAZEVAULT_FAILPOINT_FILE: failpointFile },
        config: { ...config, kubernetes: { ...config.kubernetes, leaseDurationMs: LEASE_MS } },
      });
      operator.process.autoRestart = false;
      return operator;
    };
    const leader = await start();
    await until("the first operator leads", () => leaderOf(world, [leader]), { timeoutMs: DEATH_MS });
    return new Succession(world, failpointFile, start, leader);
  }

  get leader(): Operator {
    return this.#leader;
  }

  /** The leader dies at the failpoint, `name` or `name:nth`, over what `provoke` gives it to do. */
  async dies(failpoint: string, provoke: () => Promise<unknown>): Promise<void> {
    await this.#settled();
    try {
      await this.#diesAt(failpoint, this.#leader, provoke);
    } finally {
      await this.#succeed();
    }
  }

  /** The leader ends, and its successor dies at the failpoint, over what `provoke` leaves to it. */
  async diesAsSuccessor(failpoint: string, provoke: () => Promise<unknown>): Promise<void> {
    await this.#settled();
    try {
      const successor = await this.#next;
      await this.#diesAt(failpoint, successor, async () => {
        // What it looks at only once, when it begins to lead, must be there by then.
        await successor.process.kill("SIGSTOP");
        await this.#leader.process.stop();
        await provoke();
        await successor.process.kill("SIGCONT");
      });
    } finally {
      // Only now, as it would be a candidate too.
      this.#next = this.#standby();
      await this.#succeed();
    }
  }

  /** Whoever stands by may have taken the Lease from one that could not renew it in time. */
  async #settled(): Promise<void> {
    const both = [this.#leader, await this.#next];
    const leader = await until("one of them leads", () => leaderOf(this.#world, both), { timeoutMs: DEATH_MS });
    if (leader === this.#leader) return;
    this.#next = Promise.resolve(this.#leader);
    this.#leader = leader;
  }

  async #diesAt(failpoint: string, { process }: Operator, provoke: () => Promise<unknown>): Promise<void> {
    writeFileSync(this.#failpointFile, failpoint);
    try {
      await process.kill("SIGUSR2");
      await provoke();
      await until(`death at ${failpoint}`, () => process.pid === undefined, { timeoutMs: DEATH_MS });
      expect(process.lastEnd).toBe("died of SIGKILL");
    } finally {
      await process.stop();
    }
  }

  async #succeed(): Promise<void> {
    this.#leader = await this.#next;
    // Its holder is dead, so the successor need not wait until it runs out; one that has it already takes another.
    await this.#world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator");
    this.#next = this.#standby();
  }

  #standby(): Promise<Operator> {
    const next = this.#start();
    // Its failure is told by whoever needs it.
    next.catch(() => {});
    return next;
  }
}
