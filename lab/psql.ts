/**
 * Runs one SQL statement on the lab's PostgreSQL and prints the result as a table.
 *
 *   npm run --silent psql -- [--database mazevault] [--dir .mazevault/lab] "SELECT ..."
 *
 * `--database postgres` connects as superuser.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { errorMessage } from "./errors.ts";
import { type Database, withClient } from "./postgres/database.ts";
import { databaseFile } from "./postgres/postgres.ts";
import { formatTable } from "./table.ts";

const usage = 'usage: npm run --silent psql -- [--database NAME] [--dir LAB] "SELECT ..."';

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      database: { type: "string", default: "mazevault" },
      dir: { type: "string", default: path.join(import.meta.dirname, "..", ".mazevault", "lab") },
    },
  });
  const [sql, ...rest] = positionals;
  if (sql === undefined || rest.length > 0) throw new Error(usage);
  const file = databaseFile(path.join(values.dir, "postgres"), values.database);
  if (!existsSync(file)) throw new Error(`${file} does not exist: has the lab been started, and is the name right?`);
  const database: Database = JSON.parse(readFileSync(file, "utf8"));
  await withClient(database, async (client) => {
    const result = await client.query<(string | null)[]>({
      text: sql,
      rowMode: "array",
      // The server's own notation, as psql shows it.
      types: { getTypeParser: () => String },
    });
    if (result.fields.length === 0) {
      console.log(`${result.command} ${result.rowCount ?? ""}`.trim());
      return;
    }
    const header = result.fields.map(({ name }) => name);
    console.log(formatTable(header, result.rows));
  });
}

try {
  await main();
} catch (error) {
  console.error(errorMessage(error));
  process.exitCode = 1;
}
