import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { connectionSettings, type DatabaseOptions, noteRefusal, SCHEMA } from "./database.ts";
import { mapError } from "./errors.ts";

const directory = fileURLToPath(new URL("migrations", import.meta.url));
const TABLE = "migrations";
export const MIGRATIONS = `${SCHEMA}.${TABLE}`;

/** The migrations that this program has. */
export const knownMigrations = (): readonly string[] =>
  readdirSync(directory)
    .filter((file) => file.endsWith(".sql"))
    .map((file) => file.replace(/\.sql$/, ""))
    .sort();

/** The database was made by a newer program, which may rely on what this one does not know. */
export class DatabaseIsNewer extends Error {
  constructor(unknown: readonly string[]) {
    super(
      `the database has migrations that this program does not know (${unknown.join(", ")}): ` +
        "start the program version that made them, or a newer one",
    );
    this.name = "DatabaseIsNewer";
  }
}

/**
 * Brings the schema up to date, forward only; replicas that start together wait for each other. Returns the names of the
 * migrations that were run. Throws `DatabaseIsNewer`, `Unavailable("DatabaseUnavailable")`.
 */
export async function migrate(options: DatabaseOptions): Promise<readonly string[]> {
  // An index on a large table takes longer than a request may.
  const { statement_timeout: _, query_timeout: __, lock_timeout: ___, ...settings } = connectionSettings(options);
  const client = new pg.Client({ ...settings, application_name: "mazevault-migrate" });
  client.on("error", () => {});
  try {
    await client.connect();
    await refuseNewer(client);
    // Only needed here, and it brings a good part of its own weight in parsers.
    const { runner } = await import("node-pg-migrate");
    const run = await runner({
      dbClient: client,
      dir: directory,
      direction: "up",
      migrationsTable: TABLE,
      schema: SCHEMA,
      createSchema: true,
      checkOrder: true,
      singleTransaction: true,
      advisoryLockMode: "wait",
      log: () => {},
    });
    return run.map(({ name }) => name);
  } catch (error) {
    if (error instanceof DatabaseIsNewer) throw error;
    noteRefusal(options, error);
    throw mapError(error);
  } finally {
    await client.end().catch(() => {});
  }
}

async function refuseNewer(client: pg.Client): Promise<void> {
  const known = new Set(knownMigrations());
  const { rows: tables } = await client.query<{ table: string | null }>("SELECT to_regclass($1) AS table", [
    MIGRATIONS,
  ]);
  if (tables[0]?.table === null) return;
  const { rows } = await client.query<{ name: string }>(`SELECT name FROM ${MIGRATIONS} ORDER BY id`);
  const unknown = rows.map(({ name }) => name).filter((name) => !known.has(name));
  if (unknown.length > 0) throw new DatabaseIsNewer(unknown);
}
