/**
 * Tasks for gateways, without waiting for one that is known to be away: while it is, one task at a time finds out whether it is
 * back, and all others fail at once. Else whatever goes through it would hold up everybody else.
 */
import { GatewayAway, type GatewayTasks, type TaskKind, type TaskOptions } from "./tasks.ts";

const ASK_AGAIN_MS = 10_000;

interface Away {
  readonly error: GatewayAway;
  askAfter: number;
}

export class GatewayReach implements GatewayTasks {
  readonly #tasks: GatewayTasks;
  readonly #elapsed: () => number;
  readonly #away = new Map<string, Away>();

  /** `elapsed` in milliseconds; never goes back. */
  constructor(tasks: GatewayTasks, elapsed: () => number = () => performance.now()) {
    this.#tasks = tasks;
    this.#elapsed = elapsed;
  }

  /** Something changed about the gateway, or about any, so that it may be back. */
  heard(gateway?: string): void {
    if (gateway === undefined) this.#away.clear();
    else this.#away.delete(gateway);
  }

  async perform<Body, Result>(
    gateway: string,
    kind: TaskKind<Body, Result>,
    body: Body,
    options: TaskOptions,
  ): Promise<Result> {
    const away = this.#away.get(gateway);
    if (away !== undefined) {
      if (this.#elapsed() < away.askAfter) throw away.error;
      away.askAfter = Number.POSITIVE_INFINITY;
    }
    try {
      const result = await this.#tasks.perform(gateway, kind, body, options);
      this.#away.delete(gateway);
      return result;
    } catch (error) {
      if (error instanceof GatewayAway) {
        this.#away.set(gateway, { error, askAfter: this.#elapsed() + ASK_AGAIN_MS });
      } else if (away !== undefined && options.signal.aborted) {
        // The next one finds out.
        away.askAfter = this.#elapsed();
      } else if (this.#away.get(gateway) === away) this.#away.delete(gateway);
      throw error;
    }
  }
}
