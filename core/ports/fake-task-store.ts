import type { FleetStore, GatewayRecord } from "./fleet-store.ts";
import type { Claim, Claimant, CollectOptions, SealedTask, TaskAdded, TaskStanding, TaskStore } from "./task-store.ts";

interface Kept {
  readonly task: SealedTask;
  readonly claimableUntil: number;
  state: "Waiting" | "Claimed" | "Done" | "Interrupted";
  by?: Claimant;
  deadlineAt?: number;
  result?: Buffer;
}

/** Tasks in memory, with the contract of the real store. */
export class FakeTaskStore implements TaskStore {
  readonly #fleet: Pick<FleetStore, "gateways">;
  readonly #onHint: (says: string) => void;
  readonly #now: () => number;
  /** Oldest first. */
  readonly #kept = new Map<string, Kept>();
  /** How often one was asked for that is not there. */
  missed = 0;

  /** @param onHint what the real one tells its listeners */
  constructor(
    fleet: Pick<FleetStore, "gateways">,
    onHint: (says: string) => void = () => {},
    now: () => number = () => performance.now(),
  ) {
    this.#fleet = fleet;
    this.#onHint = onHint;
    this.#now = now;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** As a crash of the real one does. */
  lose(): void {
    this.#kept.clear();
  }

  async add(task: SealedTask, claimableMs: number): Promise<TaskAdded> {
    const gateway = (await this.#serving()).find(({ name }) => name === task.addressee);
    if (gateway === undefined) return "Unknown";
    if (gateway.environment !== task.environment) return "EnvironmentDiffers";
    const now = this.#now();
    this.#kept.set(task.id, { task, claimableUntil: now + claimableMs, state: "Waiting" });
    this.#onHint(`gateway ${task.addressee}`);
    return "Added";
  }

  async claim({ gatewayId, environment, epoch, addressees, most, deadlineMs }: Claim): Promise<readonly SealedTask[]> {
    const gateway = (await this.#serving()).find(({ id }) => id === gatewayId);
    if (gateway?.environment !== environment) return [];
    const own = [...this.#kept.values()].filter(({ task }) => task.environment === environment);
    for (const kept of own) {
      if (kept.state !== "Claimed" || kept.by === undefined || kept.by.epoch >= epoch) continue;
      kept.state = "Interrupted";
      this.#onHint(`task ${kept.task.id}`);
    }
    const now = this.#now();
    const waiting = own.filter(
      ({ state, task, claimableUntil }) =>
        state === "Waiting" && addressees.includes(task.addressee) && claimableUntil > now,
    );
    return waiting.slice(0, most).map((kept) => {
      Object.assign(kept, {
        state: "Claimed",
        by: { gatewayId, environment, epoch },
        deadlineAt: now + deadlineMs,
      } satisfies Partial<Kept>);
      return kept.task;
    });
  }

  async finish(id: string, by: Claimant, result: Buffer): Promise<boolean> {
    const kept = this.#kept.get(id);
    if (kept?.state !== "Claimed" || kept.by?.gatewayId !== by.gatewayId || kept.by.epoch !== by.epoch) return false;
    if (kept.by.environment !== by.environment) return false;
    Object.assign(kept, { state: "Done", result } satisfies Partial<Kept>);
    this.#onHint(`task ${id}`);
    return true;
  }

  async collect(id: string, { withdraw = false, giveUp = false }: CollectOptions): Promise<TaskStanding> {
    const kept = this.#kept.get(id);
    if (kept === undefined) {
      this.missed += 1;
      return { state: "Gone" };
    }
    const { state, deadlineAt = 0, result = Buffer.alloc(0) } = kept;
    if (state === "Waiting" && !withdraw) return { state };
    if (state === "Claimed" && !giveUp) return { state, leftMs: Math.ceil(deadlineAt - this.#now()) };
    this.#kept.delete(id);
    if (state === "Waiting") return { state: "Withdrawn" };
    return state === "Done" ? { state, result } : { state: "Interrupted" };
  }

  async sweep(laterMs: number, limit: number): Promise<number> {
    const before = this.#now() - laterMs;
    const old = [...this.#kept].filter(([, { claimableUntil }]) => claimableUntil < before).slice(0, limit);
    for (const [id] of old) this.#kept.delete(id);
    return old.length;
  }

  async #serving(): Promise<readonly GatewayRecord[]> {
    return (await this.#fleet.gateways()).filter(
      ({ registeredAt, revokedAt }) => registeredAt !== undefined && revokedAt === undefined,
    );
  }
}
