import type { AttemptLimit, LoginAttempts } from "../../core/ports/login-attempts.ts";
import { type Database, read, type Statement } from "./database.ts";

const BEGIN: Statement = { name: "begin_attempt", text: "SELECT * FROM begin_attempt($1, $2, $3, $4, $5, $6)" };
const END: Statement = { name: "end_attempt", text: "SELECT end_attempt($1, $2, $3)" };
const FORGET: Statement = {
  name: "forget_attempts",
  text: `WITH gone AS (DELETE FROM login_attempts WHERE key IN
           (SELECT key FROM login_attempts WHERE last_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1)
         SELECT count(*)::integer AS count FROM gone`,
};

export class PostgresLoginAttempts implements LoginAttempts {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async begin(limits: readonly AttemptLimit[], now: Date): ReturnType<LoginAttempts["begin"]> {
    const [row] = await read<{ key: string; blocked_until: Date }>(this.#database, BEGIN, [
      limits.map(({ key }) => key),
      limits.map(({ free }) => free),
      limits.map(({ firstMs }) => firstMs),
      limits.map(({ mostMs }) => mostMs),
      limits.map(({ forgetMs }) => forgetMs),
      now,
    ]);
    return row && { key: row.key, until: row.blocked_until };
  }

  async end(cleared: readonly string[], returned: readonly string[], began: Date): Promise<void> {
    await read(this.#database, END, [cleared, returned, began]);
  }

  async forget(before: Date, limit: number): Promise<number> {
    const [row] = await read<{ count: number }>(this.#database, FORGET, [before, limit]);
    return row?.count ?? 0;
  }
}
