import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { Leadership } from "../../core/ports/leadership.ts";
import { auditParameter } from "./audit-rows.ts";
import type { Database } from "./database.ts";
import { mapError } from "./errors.ts";

export class PostgresLeadership implements Leadership {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async acquireEpoch(holder: string): Promise<bigint> {
    try {
      return await this.#database.transaction(async (client) => {
        const { rows } = await client.query<{ epoch: string }>("SELECT take_leadership($1) AS epoch", [holder]);
        const [row] = rows;
        if (row === undefined) throw new Unavailable("TamperDetected", "the row of the leader's epoch is gone");
        const entry = {
          action: "LeadershipTaken",
          actor: { kind: "Controller", name: holder },
          subject: { kind: "Installation", id: "leadership", name: "leadership" },
          outcome: "Success",
          details: { epoch: row.epoch },
        } as const;
        await client.query("SELECT insert_audit($1)", [auditParameter(this.#signer, [entry])]);
        return BigInt(row.epoch);
      });
    } catch (error) {
      throw error instanceof Unavailable ? error : mapError(error);
    }
  }
}
