import type {
  Claim,
  Claimant,
  CollectOptions,
  SealedTask,
  TaskAdded,
  TaskStanding,
  TaskStore,
} from "../../core/ports/task-store.ts";
import { type Database, read, type Statement } from "./database.ts";

export const TASK_CHANNEL = "mazevault_tasks";

const ADD: Statement = { name: "add_task", text: "SELECT add_task($1, $2, $3, $4, $5, $6) AS added" };
const CLAIM: Statement = { name: "claim_tasks", text: "SELECT * FROM claim_tasks($1, $2, $3, $4, $5, $6)" };
const FINISH: Statement = { name: "finish_task", text: "SELECT finish_task($1, $2, $3, $4, $5) AS accepted" };
const COLLECT: Statement = { name: "collect_task", text: "SELECT * FROM collect_task($1, $2, $3)" };
const SWEEP: Statement = {
  name: "sweep_tasks",
  text: `WITH gone AS (DELETE FROM tasks WHERE id IN
           (SELECT id FROM tasks WHERE claimable_until < clock_timestamp() - $1::integer * interval '1 millisecond'
            LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1)
         SELECT count(*)::integer AS count FROM gone`,
};

interface CollectedRow {
  readonly state: TaskStanding["state"];
  readonly left_ms: number;
  readonly result: Buffer | null;
}

export class PostgresTaskStore implements TaskStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async add({ id, addressee, environment, kind, body }: SealedTask, claimableMs: number): Promise<TaskAdded> {
    const values = [id, addressee, environment, kind, body, claimableMs];
    return (await this.#one<{ added: TaskAdded }>(ADD, values)).added;
  }

  async claim(claim: Claim): Promise<readonly SealedTask[]> {
    const { gatewayId, environment, addressees, epoch, most, deadlineMs } = claim;
    return read<SealedTask>(this.#database, CLAIM, [gatewayId, environment, addressees, epoch, most, deadlineMs]);
  }

  async finish(id: string, { gatewayId, environment, epoch }: Claimant, result: Buffer): Promise<boolean> {
    const values = [id, gatewayId, environment, epoch, result];
    return (await this.#one<{ accepted: boolean }>(FINISH, values)).accepted;
  }

  async collect(id: string, { withdraw = false, giveUp = false }: CollectOptions): Promise<TaskStanding> {
    const { state, left_ms: leftMs, result } = await this.#one<CollectedRow>(COLLECT, [id, withdraw, giveUp]);
    if (state === "Claimed") return { state, leftMs };
    return state === "Done" ? { state, result: result ?? Buffer.alloc(0) } : { state };
  }

  async sweep(laterMs: number, limit: number): Promise<number> {
    return (await this.#one<{ count: number }>(SWEEP, [laterMs, limit])).count;
  }

  async #one<Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row> {
    const [row] = await read<Row & Record<string, unknown>>(this.#database, statement, values);
    if (row === undefined) throw new TypeError(`${statement.name} returns one row`);
    return row;
  }
}
