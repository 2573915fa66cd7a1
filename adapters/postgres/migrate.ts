import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { MigrationBuilder } from "node-pg-migrate";
import pg from "pg";
import { SafeError, Unavailable } from "../../core/errors.ts";
import { newerMigrations, type SchemaState, worksWithNewer } from "../../core/schema-state.ts";
import { connectionSettings, type DatabaseOptions, noteRefusal, SCHEMA } from "./database.ts";
import { mapError, sqlState } from "./errors.ts";

const shipped = fileURLToPath(new URL("migrations", import.meta.url));
const TABLE = "migrations";
export const MIGRATIONS = `${SCHEMA}.${TABLE}`;
const COMPATIBILITY = `${SCHEMA}.compatibility`;

/**
 * Of each lock that a migration takes. Whoever waits for a table's lock holds up all who come after it, so this is how long a
 * migration that cannot have it stops the replicas that serve; it is tried again by whoever has asked for it. Less than
 * `deadlock_timeout` (1 s): where both wait for each other, the migration gives up before PostgreSQL ends a write of a replica.
 */
const LOCK_TIMEOUT_MS = 500;
/** More than `deadlock_timeout`: only after that does PostgreSQL end an autovacuum that somebody waits for. */
const PATIENT_LOCK_TIMEOUT_MS = 1_500;
/** For its turn, while another replica migrates. */
const TURN_TIMEOUT_MS = 60_000;
const LOCK_NOT_AVAILABLE = "55P03";

/** An index has to be made concurrently, and so without a transaction; each of its statements may be run again. */
export const runsOutsideOfTransaction = (sql: string): boolean => /^-- Outside of a transaction/im.test(sql);
const END_OF_STATEMENT = /(?<=;)\s*$/m;
/** Of one that runs so, each of which is sent alone. */
export const statementsOf = (sql: string): readonly string[] =>
  sql.split(END_OF_STATEMENT).filter((statement) => /\S/.test(statement));

/** The migrations that this program has. */
export const knownMigrations = (directory = shipped): readonly string[] =>
  readdirSync(directory)
    .filter((file) => file.endsWith(".sql"))
    .map((file) => file.replace(/\.sql$/, ""))
    .sort();

/** The database was made by a newer program, which may rely on what this one does not know. */
export class DatabaseIsNewer extends SafeError {
  constructor(unknown: readonly string[]) {
    super(
      `the database has migrations that this program does not know and cannot work with (${unknown.join(", ")}): ` +
        "start the program version that made them, or a newer one",
    );
    this.name = "DatabaseIsNewer";
  }
}

/** Somebody has what a migration needs. Nothing was changed by it, and it can be tried again. */
export class MigrationWaits extends Unavailable {
  constructor(message: string, options: { readonly cause: unknown }) {
    super("DatabaseUnavailable", message, options);
    this.name = "MigrationWaits";
  }
}

export interface MigrateOptions {
  /** Of the migrations; those that are shipped when absent. */
  readonly directory?: string;
  /** How long another replica is waited for. */
  readonly turnMs?: number;
  /** Has an autovacuum that holds it up end, for which writers wait longer. */
  readonly isPatient?: boolean;
}

export interface Migrated {
  /** Those that were run. */
  readonly applied: readonly string[];
  /** Those of a newer program that this one does not know and can work with; nothing was run then. */
  readonly newer: readonly string[];
}

/**
 * Brings the schema up to date, forward only, each migration in a transaction of its own; replicas that start together wait for each
 * other. Throws `DatabaseIsNewer`, `MigrationWaits`, `Unavailable("DatabaseUnavailable")`, and `Unavailable("Failed")` where another
 * attempt would end the same way.
 */
export async function migrate(
  options: DatabaseOptions,
  { directory = shipped, turnMs = TURN_TIMEOUT_MS, isPatient = false }: MigrateOptions = {},
): Promise<Migrated> {
  // An index on a large table takes longer than a request may.
  const { statement_timeout: _, query_timeout: __, ...settings } = connectionSettings(options);
  const client = new pg.Client({
    ...settings,
    lock_timeout: turnMs,
    application_name: "mazevault-migrate",
  });
  client.on("error", () => {});
  const lockTimeoutMs = isPatient ? PATIENT_LOCK_TIMEOUT_MS : LOCK_TIMEOUT_MS;
  let begun: string | undefined;
  let connected = false;
  try {
    await client.connect();
    connected = true;
    const known = knownMigrations(directory);
    const state = await readSchemaState(client);
    const newer = newerThan(known, state);
    // Without its turn, which a newer program may have for as long as an index takes.
    if (newer.length > 0 || known.every((name) => state.applied.includes(name))) return { applied: [], newer };
    // Only needed here, and it brings a good part of its own weight in parsers.
    const { runner } = await import("node-pg-migrate");
    const load = async (file: string) => {
      const sql = await readFile(file, "utf8");
      const up = (pgm: MigrationBuilder): void => {
        begun = file.slice(file.lastIndexOf("/") + 1, -".sql".length);
        write(pgm, sql, lockTimeoutMs);
      };
      return { id: file, filePaths: [file], actions: { up, down: false as const } };
    };
    const run = await runner({
      dbClient: client,
      dir: directory,
      migrationLoaderStrategies: [{ extensions: [".sql"], loader: (files) => Promise.all(files.map(load)) }],
      direction: "up",
      migrationsTable: TABLE,
      schema: SCHEMA,
      createSchema: true,
      checkOrder: true,
      singleTransaction: false,
      advisoryLockMode: "wait",
      log: () => {},
    });
    return { applied: run.map(({ name }) => name), newer: [] };
  } catch (error) {
    if (error instanceof DatabaseIsNewer) throw error;
    noteRefusal(options, error);
    if (sqlState(error) === LOCK_NOT_AVAILABLE)
      throw new MigrationWaits(waitsFor(begun, begun === undefined ? turnMs : lockTimeoutMs), { cause: error });
    // Such as an order that it cannot have: PostgreSQL did not say it, and its connection is well.
    if (sqlState(error) === undefined && connected && (await answers(client)))
      throw new Unavailable("Failed", `the migrations cannot be run: ${(error as Error).message}`, { cause: error });
    const mapped = mapError(error);
    if (begun === undefined) throw mapped;
    throw new Unavailable(mapped.code, `migration ${begun}: ${mapped.message}`, { cause: error });
  } finally {
    await client.end().catch(() => {});
  }
}

const answers = (client: pg.Client): Promise<boolean> =>
  client.query("SELECT").then(
    () => true,
    () => false,
  );

function write(pgm: MigrationBuilder, sql: string, lockTimeoutMs: number): void {
  if (runsOutsideOfTransaction(sql)) {
    pgm.noTransaction();
    for (const statement of statementsOf(sql)) pgm.sql(statement);
  } else {
    pgm.sql(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
    pgm.sql(sql);
  }
}

const waitsFor = (migration: string | undefined, ms: number): string =>
  migration === undefined
    ? `another replica has been migrating the database for ${ms / 1_000} s; who: SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'mazevault-migrate'`
    : `migration ${migration} did not get a lock within ${ms / 1_000} s, because a transaction has been open for longer; who: SELECT pid, usename, application_name, state, xact_start FROM pg_stat_activity ORDER BY xact_start LIMIT 3`;

/** @throws DatabaseIsNewer where the program cannot work with them */
function newerThan(known: readonly string[], state: SchemaState): readonly string[] {
  const newer = newerMigrations(known, state);
  if (newer.length > 0 && !worksWithNewer(known, state)) throw new DatabaseIsNewer(newer);
  return newer;
}

/** Of a database without any table, too. */
export async function readSchemaState(client: pg.ClientBase): Promise<SchemaState> {
  const has = async (table: string): Promise<boolean> => {
    const { rows } = await client.query<{ found: boolean }>("SELECT to_regclass($1) IS NOT NULL AS found", [table]);
    return rows[0]?.found === true;
  };
  if (!(await has(MIGRATIONS))) return { applied: [], least: undefined };
  const { rows: migrations } = await client.query<{ name: string }>(`SELECT name FROM ${MIGRATIONS} ORDER BY id`);
  const applied = migrations.map(({ name }) => name);
  if (!(await has(COMPATIBILITY))) return { applied, least: undefined };
  const { rows } = await client.query<{ least: string }>(`SELECT least_migration AS least FROM ${COMPATIBILITY}`);
  return { applied, least: rows[0]?.least };
}
