/**
 * What PostgreSQL says of itself and of what stands in it, over a connection of its own: a pool's connections go on when a
 * password was changed or a limit was reached, and the next one that is needed fails.
 */
import pg from "pg";
import {
  type DatabaseFacts,
  type DatabasePlace,
  judgeNoDatabase,
  type KeyFacts,
  type RecordFacts,
} from "../../core/diagnosis/database.ts";
import type { Finding } from "../../core/diagnosis/finding.ts";
import { connectionSettings, type DatabaseOptions, noteRefusal, SCHEMA } from "./database.ts";
import { knownMigrations, readSchemaState } from "./migrate.ts";

const CONNECT_MS = 2_000;
const STATEMENT_MS = 1_500;
/** What is behind by more is not counted further. */
const MOST_COUNTED = 100_000;
const NO_SUCH_TABLE = "42P01";

const SERVER = `
  SELECT clock_timestamp() AS now,
         pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
         l.open::integer AS open, l.most::integer AS most
  FROM (
    SELECT count(*) AS open, current_setting('max_connections')::integer - 3 AS most
    FROM pg_stat_activity WHERE backend_type = 'client backend'
    UNION ALL
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user), rolconnlimit
    FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0
    UNION ALL
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()), datconnlimit
    FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
  ) AS l ORDER BY l.most - l.open LIMIT 1`;

const AGE = (at: string): string => `coalesce(extract(epoch FROM now() - ${at}) * 1000, 0)::float8`;

const RECORD = `
  SELECT (SELECT epoch FROM leadership) AS epoch,
         (SELECT count(*)::integer FROM audit WHERE position IS NULL) AS unlinked,
         (SELECT ${AGE("min(at)")} FROM audit WHERE position IS NULL) AS unlinked_ms,
         h.position - coalesce(c.position, 0) AS unsigned,
         ${AGE("coalesce(c.at, (SELECT min(at) FROM audit WHERE position > 0 AND position <= 1000))")} AS unsigned_ms,
         r.waiting::integer AS waiting, r.oldest_ms AS waiting_ms,
         (SELECT count(*)::integer FROM login_attempts WHERE blocked_until > now()) AS blocked,
         (SELECT min(pid) FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
            AND transactionid::text::bigint = pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296
            AND pid <> pg_backend_pid()) AS blocking
  FROM (SELECT count(*) AS waiting, ${AGE("min(requested_at)")} AS oldest_ms
        FROM ocsp_responders WHERE certificate IS NULL) AS r
  LEFT JOIN audit_head h ON true
  LEFT JOIN LATERAL (SELECT position, at FROM audit_checkpoints ORDER BY number DESC LIMIT 1) AS c ON true`;
const KEYS = "SELECT purpose, scope, version, uses, wrapped_by FROM keys WHERE purpose = 'Installation' OR uses > 0";
const SINKS = `
  SELECT s.name, greatest(h.position - s.position, 0)::integer AS rows, ${AGE("s.moved_at")} AS moved_ms
  FROM audit_sinks s CROSS JOIN audit_head h`;
const OUTBOX = `
  SELECT c.consumer, ${AGE("c.moved_at")} AS moved_ms, (
    SELECT count(*)::integer FROM (
      SELECT FROM outbox o WHERE (o.transaction, o.id) > (c.transaction, c.id) LIMIT ${MOST_COUNTED}
    ) AS behind) AS rows
  FROM outbox_cursors c`;

const TABLES = `
  SELECT c.relname AS name, greatest(c.reltuples, 0)::float8 AS rows, pg_total_relation_size(c.oid)::float8 AS bytes
  FROM pg_class c WHERE c.relnamespace = to_regnamespace('${SCHEMA}') AND c.relkind = 'r' ORDER BY 1`;

/** How large what stands in it is, as far as its statistics tell without counting. */
export interface DatabaseSizes {
  readonly version: string;
  readonly migrations: readonly string[];
  readonly tables: readonly { readonly name: string; readonly rows: number; readonly bytes: number }[];
}

/** The facts; or, where it cannot be reached, why. */
export const readDatabaseFacts = (options: DatabaseOptions): Promise<DatabaseFacts | Finding> =>
  connected(options, facts);

/** As `readDatabaseFacts`. */
export const readDatabaseSizes = (options: DatabaseOptions): Promise<DatabaseSizes | Finding> =>
  connected(options, async (client) => {
    const [server] = (await client.query<{ version: string }>("SELECT current_setting('server_version') AS version"))
      .rows;
    const { rows: tables } = await client.query<DatabaseSizes["tables"][number]>(TABLES);
    return { version: server?.version ?? "", migrations: (await readSchemaState(client)).applied, tables };
  });

async function connected<T>(options: DatabaseOptions, read: (client: pg.Client) => Promise<T>): Promise<T | Finding> {
  let client: pg.Client | undefined;
  try {
    client = new pg.Client({
      ...connectionSettings(options),
      application_name: "mazevault-diagnosis",
      connectionTimeoutMillis: CONNECT_MS,
      statement_timeout: STATEMENT_MS,
      query_timeout: STATEMENT_MS,
    });
    client.on("error", () => {});
    await client.connect();
    return await read(client);
  } catch (error) {
    noteRefusal(options, error);
    return judgeNoDatabase(codeOf(error), options satisfies DatabasePlace);
  } finally {
    // A frozen server never says good-bye.
    void client?.end().catch(() => {});
  }
}

/** SQLSTATEs, and the codes of Node and OpenSSL, are constants. */
function codeOf(error: unknown): string | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === "string" && /^\w{1,64}$/.test(code) ? code : undefined;
}

interface ServerRow {
  readonly now: Date;
  readonly read_only: boolean;
  readonly open: number;
  readonly most: number;
}

async function facts(client: pg.Client): Promise<DatabaseFacts> {
  const asked = new Date();
  const { rows } = await client.query<ServerRow>(SERVER);
  const answered = new Date();
  const [server] = rows as [ServerRow];
  const state = await readSchemaState(client);
  const record = await recordFacts(client);
  return {
    clock: { asked, answered, theirs: server.now },
    readOnly: server.read_only,
    connections: { open: server.open, most: server.most },
    migrations: { ...state, known: knownMigrations() },
    ...(record !== undefined && { record }),
  };
}

interface RecordRow {
  readonly epoch: string;
  readonly unlinked: number;
  readonly unlinked_ms: number;
  readonly unsigned: string | null;
  readonly unsigned_ms: number;
  readonly waiting: number;
  readonly waiting_ms: number;
  readonly blocked: number;
  readonly blocking: number | null;
}

/** Undefined while tables are missing: which migrations are, is told besides. */
async function recordFacts(client: pg.Client): Promise<RecordFacts | undefined> {
  try {
    const { rows } = await client.query<RecordRow>(RECORD);
    const [row] = rows as [RecordRow];
    const keys = await client.query<Omit<KeyFacts, "uses" | "wrappedBy"> & { uses: string; wrapped_by: string }>(KEYS);
    const sinks = await client.query<{ name: string; rows: number; moved_ms: number }>(SINKS);
    const outbox = await client.query<{ consumer: string; rows: number; moved_ms: number }>(OUTBOX);
    return {
      epoch: BigInt(row.epoch),
      keys: keys.rows.map(({ uses, wrapped_by: wrappedBy, ...key }) => ({ ...key, uses: BigInt(uses), wrappedBy })),
      unlinked: { rows: row.unlinked, oldestMs: row.unlinked_ms },
      checkpoint: { rowsSince: Number(row.unsigned ?? 0), ageMs: row.unsigned_ms },
      sinks: sinks.rows.map(({ moved_ms: movedMs, ...sink }) => ({ ...sink, movedMs })),
      outbox: outbox.rows.map(({ moved_ms: movedMs, ...waiting }) => ({ ...waiting, movedMs })),
      responders: { waiting: row.waiting, oldestMs: row.waiting_ms },
      loginsBlocked: row.blocked,
      ...(row.blocking !== null && { blocking: { pid: row.blocking } }),
    };
  } catch (error) {
    if (codeOf(error) === NO_SUCH_TABLE) return undefined;
    throw error;
  }
}
