/** Who is killed, and when. Every kill is SIGKILL; the lab's supervision starts again what died. */

import { azure, type Operator } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { withClient } from "../../lab/postgres/database.ts";
import type { SupervisedProcess } from "../../lab/supervised.ts";
import type { World } from "../harness.ts";
import type { Fleet } from "./fleet.ts";
import type { Observer } from "./observer.ts";
import type { Random } from "./random.ts";

/** One round; the operator is killed most, as its order of effects is what is tested. */
const ROUND = ["operator", "operator", "operator", "postgres", "backend", "backend", "apiServer", "etcd"] as const;
export type Target = (typeof ROUND)[number] | "keyVault";

const MOMENTS = ["at random", "acknowledged", "stored", "delivered", "status", "pushed", "reserved", "issued"] as const;
type Moment = (typeof MOMENTS)[number];

const RANDOM_WITHIN_MS = 800;
/** An event that does not come, since something it needs is down, is not waited for longer. */
const EVENT_WITHIN_MS = 2_000;
const RECOVERY_MS = 120_000;
/** The others are killed again while the last victim still recovers. */
const LEAVES_NO_TIME = 0.25;

export interface Kill {
  readonly target: Target;
  readonly moment: Moment;
}

export class Killer {
  readonly #world: World;
  readonly #operator: Operator;
  readonly #fleet: Fleet;
  readonly #observer: Observer;
  readonly #random: Random;
  readonly #round: readonly Target[];
  readonly #deck: Target[] = [];

  constructor(parts: {
    readonly world: World;
    readonly operator: Operator;
    readonly fleet: Fleet;
    readonly observer: Observer;
    readonly random: Random;
    /** Also the Key Vault stand-in, whose absence makes rules wait for half a minute. */
    readonly keyVault: boolean;
  }) {
    this.#world = parts.world;
    this.#operator = parts.operator;
    this.#fleet = parts.fleet;
    this.#observer = parts.observer;
    this.#random = parts.random;
    this.#round = parts.keyVault ? [...ROUND, "keyVault"] : ROUND;
  }

  async kill(): Promise<Kill> {
    if (this.#deck.length === 0) this.#deck.push(...this.#random.shuffled(this.#round));
    const target = this.#deck.pop() ?? "operator";
    // Before the moment: what is not up cannot die of anything.
    await this.#process(target).ready(RECOVERY_MS);
    const moment = await this.#moment();
    if (target === "backend") await this.#killBackend();
    else await this.#process(target).kill();
    return { target, moment };
  }

  /** Lets the product come back to work, most times; throws when it does not. */
  async recover(): Promise<void> {
    if (this.#random.chance(LEAVES_NO_TIME)) return;
    await this.allReady();
    const { statuses } = this.#observer;
    const works = () => this.#observer.unready === 0 || this.#observer.statuses > statuses;
    await until("progress after a kill", works, { timeoutMs: RECOVERY_MS });
  }

  async allReady(): Promise<void> {
    const targets = new Set<Target>([...ROUND, "keyVault"]);
    await Promise.all([...targets].map((target) => this.#process(target).ready(RECOVERY_MS)));
    await until("PostgreSQL answers", () => this.#world.sql("SELECT 1"), { timeoutMs: RECOVERY_MS });
  }

  #process(target: Target): SupervisedProcess {
    const { lab, mazevault } = this.#world;
    switch (target) {
      case "operator":
        return this.#operator.process;
      case "postgres":
      case "backend":
        return lab.postgres.process;
      case "apiServer":
        return lab.controlPlane.apiServer;
      case "etcd":
        return lab.controlPlane.etcd;
      case "keyVault":
        return mazevault.keyVault.process;
    }
  }

  /** One of the operator's sessions in the midst of its work, if there is one; PostgreSQL then ends all the others. */
  async #killBackend(): Promise<void> {
    const { superuser } = this.#world.lab.postgres;
    const find = () =>
      withClient(superuser, async (client) => {
        const { rows } = await client.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE usename = 'mazevault' AND backend_type = 'client backend'
           ORDER BY state = 'active' DESC, random() LIMIT 1`,
        );
        if (rows[0] === undefined) throw new Error("the operator has no session");
        return rows[0].pid;
      });
    const pid = await until("a session of the operator", find, { timeoutMs: RECOVERY_MS });
    process.kill(pid, "SIGKILL");
  }

  /** Waits for one; answers which it was after all. */
  async #moment(): Promise<Moment> {
    const moment = this.#random.pick(MOMENTS);
    const delayMs = this.#random.below(RANDOM_WITHIN_MS);
    if (moment !== "at random") {
      try {
        const before = await this.#count(moment);
        const happened = async () => (await this.#count(moment)) > before;
        await until(moment, happened, { timeoutMs: EVENT_WITHIN_MS, intervalMs: 2 });
        return moment;
      } catch {
        // Nothing of that kind happens now.
      }
    }
    await pause(delayMs);
    return "at random";
  }

  async #count(moment: Exclude<Moment, "at random">): Promise<number> {
    switch (moment) {
      case "acknowledged":
        return this.#fleet.acknowledgements;
      case "stored":
        return this.#rows("versions");
      case "reserved":
        return this.#rows("certificates");
      case "issued":
        return this.#rows("certificates WHERE state = 'Issued'");
      case "delivered":
        return this.#observer.deliveries;
      case "status":
        return this.#observer.statuses;
      case "pushed": {
        const { vaults } = await this.#world.mazevault.keyVault.control.counters();
        return vaults[azure.vaults[0]]?.writes ?? 0;
      }
    }
  }

  async #rows(from: string): Promise<number> {
    return (await this.#world.sql<{ count: number }>(`SELECT count(*)::int FROM ${from}`))[0]?.count ?? 0;
  }
}
