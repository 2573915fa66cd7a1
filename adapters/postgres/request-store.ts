import type { Attempt, NamedRequest, RequestStore, Standing } from "../../core/ports/request-store.ts";
import { type Database, read, type Statement } from "./database.ts";

const BEGIN: Statement = { name: "begin_request", text: "SELECT * FROM begin_request($1, $2, $3, $4, $5, $6)" };
const ANSWER: Statement = {
  name: "answer_request",
  text: "UPDATE requests SET answer = $2 WHERE attempt = $1 AND answer IS NULL RETURNING true AS done",
};
const RELEASE: Statement = {
  name: "release_request",
  text: `WITH gone AS (DELETE FROM requests WHERE attempt = $1 AND NOT changed AND answer IS NULL)
         UPDATE requests SET lease_until = $2 WHERE attempt = $1 AND changed`,
};
const FORGET: Statement = {
  name: "forget_requests",
  text: `WITH gone AS (DELETE FROM requests WHERE id IN
           (SELECT id FROM requests WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1)
         SELECT count(*)::integer AS count FROM gone`,
};

interface RequestRow {
  readonly outcome: Standing["outcome"];
  readonly attempt: string;
  readonly lease_until: Date;
  readonly answer: Buffer | null;
}

export class PostgresRequestStore implements RequestStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async begin({ id, fingerprint }: NamedRequest, { attempt, at, leaseUntil, expiresAt }: Attempt): Promise<Standing> {
    const values = [id, fingerprint, attempt, at, leaseUntil, expiresAt];
    const [row] = await read<RequestRow>(this.#database, BEGIN, values);
    if (row === undefined) throw new TypeError("begin_request returns one row");
    return standingOf(row);
  }

  async answer(attempt: string, answer: Buffer): Promise<boolean> {
    return (await read(this.#database, ANSWER, [attempt, answer])).length > 0;
  }

  async release(attempt: string, at: Date): Promise<void> {
    await read(this.#database, RELEASE, [attempt, at]);
  }

  async forget(before: Date, limit: number): Promise<number> {
    const [row] = await read<{ count: number }>(this.#database, FORGET, [before, limit]);
    return row?.count ?? 0;
  }
}

function standingOf({ outcome, attempt, lease_until, answer }: RequestRow): Standing {
  switch (outcome) {
    case "Answered":
      return { outcome, attempt, answer: answer ?? Buffer.alloc(0) };
    case "InProgress":
      return { outcome, until: lease_until };
    default:
      return { outcome };
  }
}
