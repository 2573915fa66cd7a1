import type { AuditSigner } from "../../core/audit/signer.ts";
import type { WriteOutcome } from "../../core/fleet/writes.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { HandledWrite, HandledWrites } from "../../core/ports/handled-writes.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";

const FIND = {
  name: "gateway_writes",
  text: "SELECT environment, id, outcome, mac FROM gateway_writes WHERE environment = $1 AND id = ANY ($2::uuid[])",
};
const LIST = {
  name: "list_gateway_writes",
  text: `SELECT environment, id, outcome, mac FROM gateway_writes WHERE (environment, id) > ($1, $2)
         ORDER BY environment, id LIMIT $3`,
};
const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";
const RECORD = { name: "handle_gateway_write", text: "SELECT handle_gateway_write($1, $2, $3, $4, $5) AS recorded" };
const FORGET = {
  name: "forget_gateway_writes",
  text: `WITH gone AS (DELETE FROM gateway_writes WHERE (environment, id) IN
           (SELECT environment, id FROM gateway_writes
            WHERE handled_at < clock_timestamp() - $1::double precision * interval '1 millisecond'
            LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1)
         SELECT count(*)::integer AS count FROM gone`,
};

interface Row {
  readonly environment: string;
  readonly id: string;
  readonly outcome: WriteOutcome;
  readonly mac: Buffer;
}

/** In the order of `handle_gateway_write`. */
export const handledParameters = ({ environment, id, outcome, mac }: HandledWrite): readonly unknown[] => [
  environment,
  id,
  JSON.stringify(outcome),
  mac,
];

export class PostgresHandledWrites implements HandledWrites {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  find(environment: string, ids: readonly string[]): Promise<readonly HandledWrite[]> {
    return read<Row>(this.#database, FIND, [environment, ids]);
  }

  list(after: Pick<HandledWrite, "environment" | "id"> | undefined, limit: number): Promise<readonly HandledWrite[]> {
    return read<Row>(this.#database, LIST, [after?.environment ?? "", after?.id ?? LOWEST_UUID, limit]);
  }

  async record(write: HandledWrite, audit: readonly AuditEntry[]): Promise<boolean> {
    const values = [...handledParameters(write), auditParameter(this.#signer, audit)];
    const [row] = await read<{ recorded: boolean }>(this.#database, RECORD, values);
    return row?.recorded === true;
  }

  async forget(olderThanMs: number, limit: number): Promise<number> {
    const [row] = await read<{ count: number }>(this.#database, FORGET, [olderThanMs, limit]);
    return row?.count ?? 0;
  }
}
