/**
 * Copies of the whole database, by PostgreSQL's own programs: pg_dump in a snapshot of which is told what stands in it, and pg_restore
 * in one transaction.
 */
import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { GENESIS } from "../../core/audit/chain.ts";
import { Unavailable } from "../../core/errors.ts";
import { type BackupBody, BackupUnusable } from "../../core/recovery/manifest.ts";
import { APPLICATION, connectionSettings, type DatabaseOptions, noteRefusal, SCHEMA } from "./database.ts";
import { mapError } from "./errors.ts";
import { knownMigrations, MIGRATIONS } from "./migrate.ts";

/** What stands in the database at one moment. */
export interface SnapshotFacts {
  readonly installation: string;
  /** The last migration. */
  readonly schema: string;
  readonly server: { readonly version: string; readonly id: string };
  readonly rootKeys: readonly string[];
  readonly head: { readonly position: bigint; readonly link: Buffer; readonly mac: Buffer | undefined };
  readonly epoch: bigint;
  /** By table. */
  readonly rows: Readonly<Record<string, number>>;
}

export interface Snapshot {
  readonly facts: SnapshotFacts;
  /** For pg_dump, as long as the snapshot is not closed. */
  readonly id: string;
  close(): Promise<void>;
}

const FACTS = `
  SELECT (SELECT id::text FROM installation) AS installation,
         (SELECT name FROM migrations ORDER BY id DESC LIMIT 1) AS schema,
         current_setting('server_version') AS version,
         audit_server() AS server,
         ARRAY(SELECT DISTINCT wrapped_by FROM keys WHERE purpose = 'Installation' AND retired_at IS NULL ORDER BY 1) AS roots,
         (SELECT epoch FROM leadership) AS epoch, h.position, h.link, h.mac
  FROM (VALUES (1)) one LEFT JOIN audit_head h ON true`;

interface FactsRow {
  readonly installation: string;
  readonly schema: string;
  readonly version: string;
  readonly server: string;
  readonly roots: readonly string[];
  readonly epoch: string;
  readonly position: string | null;
  readonly link: Buffer | null;
  readonly mac: Buffer | null;
}

/**
 * Opens a snapshot and reads what is told of it.
 *
 * @throws BackupUnusable as of `assertSchema`; Unavailable DatabaseUnavailable
 */
export async function openSnapshot(options: DatabaseOptions): Promise<Snapshot> {
  const client = await connect(options);
  try {
    await assertSchema(client, options);
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const { rows: exported } = await client.query<{ id: string }>("SELECT pg_export_snapshot() AS id");
    const { rows } = await client.query<FactsRow>(FACTS);
    const [row] = rows;
    const [snapshot] = exported;
    if (row === undefined || snapshot === undefined) throw new TypeError("one row is selected from one");
    const { installation, schema, version, server: id, roots: rootKeys, epoch, position, link, mac } = row;
    return {
      facts: {
        installation,
        schema,
        server: { version, id },
        rootKeys,
        epoch: BigInt(epoch),
        head: { position: BigInt(position ?? 0), link: link ?? GENESIS, mac: mac ?? undefined },
        rows: await countRows(client),
      },
      id: snapshot.id,
      close: () => client.end().catch(() => {}),
    };
  } catch (error) {
    await client.end().catch(() => {});
    throw error instanceof BackupUnusable ? error : mapError(error);
  }
}

async function countRows(client: pg.Client): Promise<Record<string, number>> {
  const { rows: tables } = await client.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' ORDER BY relname",
    [SCHEMA],
  );
  const counts: Record<string, number> = {};
  for (const { name } of tables) {
    const { rows } = await client.query<{ count: string }>(`SELECT count(*) FROM ${pg.escapeIdentifier(name)}`);
    counts[name] = Number(rows[0]?.count);
  }
  return counts;
}

/** Rows by table, as they are now. @throws Unavailable DatabaseUnavailable */
export function rowsOf(options: DatabaseOptions): Promise<Readonly<Record<string, number>>> {
  return connected(options, countRows);
}

/** @throws BackupUnusable as of `assertSchema`, and where it has no keys; Unavailable DatabaseUnavailable */
export function assertUsable(options: DatabaseOptions): Promise<void> {
  return connected(options, async (client) => {
    await assertSchema(client, options);
    const { rows } = await client.query<{ purpose: string }>(
      "SELECT purpose FROM keys WHERE purpose IN ('Installation', 'Audit') GROUP BY purpose",
    );
    if (rows.length < 2)
      throw new BackupUnusable(
        `database ${options.database} has no keys: it is new, or only a part of it was restored; restore the backup into an empty database`,
      );
  });
}

/** The schema must be of this program: what is older has to be migrated first, what is newer is not understood. */
async function assertSchema(client: pg.Client, { database }: DatabaseOptions): Promise<void> {
  const { rows: tables } = await client.query<{ table: string | null }>("SELECT to_regclass($1) AS table", [
    MIGRATIONS,
  ]);
  if (tables[0]?.table === null)
    throw new BackupUnusable(
      `database ${database} holds nothing of MazeVault: name the one that is meant in database.name, or restore a backup into it`,
    );
  const { rows } = await client.query<{ name: string }>(`SELECT name FROM ${MIGRATIONS} ORDER BY id`);
  judgeSchema(
    rows.map(({ name }) => name),
    database,
  );
}

function judgeSchema(applied: readonly string[], database: string): void {
  const known = new Set(knownMigrations());
  const unknown = applied.filter((name) => !known.has(name));
  if (unknown.length > 0)
    throw new BackupUnusable(
      `database ${database} has migrations that this program does not know (${unknown.join(", ")}): take the program version that made them, or a newer one`,
    );
  const missing = [...known].filter((name) => !applied.includes(name));
  if (missing.length > 0)
    throw new BackupUnusable(
      `database ${database} is of an older version: it lacks ${missing.join(", ")}; start the operator of this version on it, which brings it up to date and does nothing else to what was restored`,
    );
}

/** @throws BackupUnusable when this program is older than the backup */
export function assertKnownSchema(schema: string): void {
  if (knownMigrations().includes(schema)) return;
  throw new BackupUnusable(
    `the backup has migration ${schema}, which this program does not know: take the program version that made the backup, or a newer one`,
  );
}

/** @throws BackupUnusable when there is anything in the schema; Unavailable DatabaseUnavailable */
export function assertEmpty(options: DatabaseOptions): Promise<void> {
  return connected(options, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 LIMIT 1",
      [SCHEMA],
    );
    if (rows.length > 0)
      throw new BackupUnusable(
        `database ${options.database} is not empty: schema ${SCHEMA} has table ${rows[0]?.name}. Nothing was written. Restore into a new database; one whose content is not needed is emptied by: DROP SCHEMA ${SCHEMA} CASCADE`,
      );
  });
}

/** Who takes the epoch in which a copy is marked as restored. */
export const RESTORER = "restore";

/** Rows that say what has been written since, but for what an attempt of `RESTORER` that was cut off wrote. */
const IS_COPY = `
  SELECT (SELECT id::text FROM ${SCHEMA}.installation) = $1
     AND coalesce((SELECT position FROM ${SCHEMA}.audit_head), 0) = $2
     AND coalesce((SELECT link FROM ${SCHEMA}.audit_head), $3) = $3
     AND NOT EXISTS (
           SELECT FROM (SELECT action, actor FROM ${SCHEMA}.audit ORDER BY sequence OFFSET $4) AS since
           WHERE NOT (action = 'LeadershipTaken' AND actor->>'name' = '${RESTORER}')
         ) AS is_copy,
         (SELECT count(*)::integer FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = '${APPLICATION}') AS sessions`;

/**
 * Whether the database is as this backup has it, and nothing was written since: it was put in, and who did so was ended before it
 * was marked as restored.
 *
 * @throws BackupUnusable while somebody uses it, as the database that the backup was made of would be; Unavailable DatabaseUnavailable
 */
export function isUnmarkedCopy(
  options: DatabaseOptions,
  { installation, head, rows }: Pick<BackupBody, "installation" | "head" | "rows">,
): Promise<boolean> {
  return connected(options, async (client) => {
    const { rows: tables } = await client.query<{ found: boolean }>("SELECT to_regclass($1) IS NOT NULL AS found", [
      `${SCHEMA}.audit_head`,
    ]);
    if (tables[0]?.found !== true) return false;
    const values = [installation, head.position, Buffer.from(head.link, "hex"), rows.audit ?? 0];
    const { rows: found } = await client.query<{ is_copy: boolean | null; sessions: number }>(IS_COPY, values);
    const { is_copy: isCopy, sessions } = found[0] ?? { is_copy: null, sessions: 0 };
    if (isCopy === true && sessions > 0)
      throw new BackupUnusable(
        `database ${options.database} has what the backup has, and ${sessions} sessions of MazeVault use it, so that it may be the one that the backup was made of; if it is not, stop every operator on it, and repeat this`,
      );
    return isCopy === true;
  });
}

export interface ProgramOptions {
  /** Folder of PostgreSQL's programs; those in PATH when absent. */
  readonly bin?: string;
}

/** Writes a dump of the snapshot. @throws Unavailable Failed, with what pg_dump said of itself */
export async function dumpTo(
  file: string,
  snapshot: Pick<Snapshot, "id">,
  options: DatabaseOptions,
  { bin }: ProgramOptions = {},
): Promise<void> {
  await run("pg_dump", bin, options, [
    `--snapshot=${snapshot.id}`,
    "--format=custom",
    `--schema=${SCHEMA}`,
    "--no-owner",
    "--no-privileges",
    `--file=${file}`,
  ]);
}

/** All of it or nothing. @throws Unavailable Failed, with what pg_restore said of itself */
export async function restoreFrom(file: string, options: DatabaseOptions, { bin }: ProgramOptions = {}): Promise<void> {
  await run("pg_restore", bin, options, [
    "--single-transaction",
    "--exit-on-error",
    "--no-owner",
    "--no-privileges",
    `--dbname=${options.database}`,
    file,
  ]);
}

const LONGEST_OUTPUT = 10_000_000;
const LONGEST_TOLD = 300;

async function run(
  program: "pg_dump" | "pg_restore",
  bin: string | undefined,
  options: DatabaseOptions,
  args: readonly string[],
): Promise<void> {
  const command = bin === undefined ? program : path.join(bin, program);
  const env = { ...process.env, ...(await environment(options)) };
  try {
    await promisify(execFile)(command, args, { env, maxBuffer: LONGEST_OUTPUT });
  } catch (error) {
    const { code, stderr = "" } = error as { readonly code?: unknown; readonly stderr?: string };
    if (code === "ENOENT")
      throw new Unavailable(
        "Failed",
        `${command} is not there: install PostgreSQL's client programs, of the server's version or newer, or say where they are with --pg-bin`,
      );
    throw new Unavailable("Failed", `${program} failed: ${whatItSaid(program, stderr)}`, { cause: error });
  }
}

/** What it says of itself and of the server; what follows may quote a row. */
function whatItSaid(program: string, stderr: string): string {
  const line = stderr.split("\n").find((each) => each.startsWith(`${program}: error:`)) ?? "it gave no reason";
  return line.slice(0, LONGEST_TOLD);
}

/** As libpq reads it. */
async function environment(options: DatabaseOptions): Promise<Readonly<Record<string, string>>> {
  const { host, port, database, user, caFile } = options;
  const { password: source } = connectionSettings(options);
  const password = typeof source === "function" ? await source() : source;
  return {
    PGHOST: host,
    PGPORT: String(port),
    PGDATABASE: database,
    PGUSER: user,
    PGPASSWORD: password ?? "",
    PGAPPNAME: "mazevault-backup",
    ...(caFile === undefined ? { PGSSLMODE: "disable" } : { PGSSLMODE: "verify-full", PGSSLROOTCERT: caFile }),
  };
}

/** Without time limits: a copy takes as long as it takes, and its snapshot idles meanwhile. */
async function connect(options: DatabaseOptions): Promise<pg.Client> {
  const {
    statement_timeout: _,
    query_timeout: __,
    idle_in_transaction_session_timeout: ___,
    ...settings
  } = connectionSettings(options);
  const client = new pg.Client({ ...settings, application_name: "mazevault-backup" });
  client.on("error", () => {});
  try {
    await client.connect();
    return client;
  } catch (error) {
    noteRefusal(options, error);
    throw mapError(error);
  }
}

async function connected<T>(options: DatabaseOptions, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect(options);
  try {
    return await use(client);
  } catch (error) {
    throw error instanceof BackupUnusable ? error : mapError(error);
  } finally {
    await client.end().catch(() => {});
  }
}
