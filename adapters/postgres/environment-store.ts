import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  EnvironmentRecord,
  EnvironmentStore,
  Ground,
  Side,
  StoredEnvironment,
} from "../../core/ports/environment-store.ts";
import { Conflict, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const COLUMNS = `e.environment, e.generation, e.object, e.primary_gateway, e.standby_gateway, e.active, e.epoch, e.since,
                 e.fenced_until, e.failover_uid, e.failover_name, e.settled, e.mac`;

/** A gateway that renews its certificate stays confirmed as it was; only a new registration confirms anew. */
const GROUND = {
  name: "environment_ground",
  text: `SELECT clock_timestamp() AS at, ${COLUMNS},
                CASE WHEN g.valid_from_revision > 1 THEN g.confirmed_at END AS succeeded_at
         FROM (VALUES (1)) one LEFT JOIN environments e ON e.environment = $2 LEFT JOIN gateways g ON g.id = $1`,
};
const LIST = {
  name: "environments",
  text: `SELECT clock_timestamp() AS at, ${COLUMNS}
         FROM (VALUES (1)) one LEFT JOIN environments e ON true ORDER BY e.environment`,
};
const WRITE = {
  name: "write_environment",
  text: "SELECT write_environment($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
};

/** With nothing but `at` where there is no environment; node-postgres reads bigint as text. */
interface Row {
  readonly at: Date;
  readonly environment: string | null;
  readonly generation: string;
  readonly object: string | null;
  readonly primary_gateway: string | null;
  readonly standby_gateway: string | null;
  readonly active: Side;
  readonly epoch: string;
  readonly since: Date;
  readonly fenced_until: Date | null;
  readonly failover_uid: string | null;
  readonly failover_name: string | null;
  readonly settled: boolean;
  readonly mac: Buffer;
}

export class PostgresEnvironmentStore implements EnvironmentStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async ground(gatewayId: string, environment: string): Promise<Ground> {
    const [row] = await read<Row & { readonly succeeded_at: Date | null }>(this.#database, GROUND, [
      gatewayId,
      environment,
    ]);
    if (row === undefined) throw new TypeError("one row is selected from one");
    return { environment: storedOf(row)[0], succeededAt: row.succeeded_at ?? undefined, at: row.at };
  }

  async environments(): Promise<{ readonly stored: readonly StoredEnvironment[]; readonly at: Date }> {
    const rows = await read<Row>(this.#database, LIST, []);
    const [first] = rows;
    if (first === undefined) throw new TypeError("one row is selected from one");
    return { stored: rows.flatMap(storedOf), at: first.at };
  }

  async write(
    writer: Writer,
    before: bigint,
    record: EnvironmentRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const { environment, pair, active, epoch, since, fencedUntil, failover, settled } = record;
    const names = [pair?.object, pair?.primary, pair?.standby];
    const values = [environment, ...names, active, epoch, since, fencedUntil, failover?.uid, failover?.name, settled];
    try {
      await this.#database.query(WRITE, [writer.epoch, before, ...values, mac, auditParameter(this.#signer, audit)]);
    } catch (error) {
      if (sqlState(error) === CONFLICT) throw new Conflict(`environment ${environment}`);
      throw mapWriteError(error, writer.epoch);
    }
  }
}

function storedOf(row: Row): readonly StoredEnvironment[] {
  if (row.environment === null) return [];
  const { object, primary_gateway: primary, standby_gateway: standby, failover_uid: uid, failover_name: name } = row;
  const record: EnvironmentRecord = {
    environment: row.environment,
    pair: object !== null && primary !== null && standby !== null ? { object, primary, standby } : undefined,
    active: row.active,
    epoch: BigInt(row.epoch),
    since: row.since,
    fencedUntil: row.fenced_until ?? undefined,
    failover: uid !== null && name !== null ? { uid, name } : undefined,
    settled: row.settled,
  };
  return [{ record, generation: BigInt(row.generation), mac: row.mac }];
}
