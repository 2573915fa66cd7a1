/** Brings the rows of a database back to what they were: a fraction of the work of making another one. */
import { readFileSync } from "node:fs";
import pg from "pg";
import type { Database } from "../../../lab/postgres/database.ts";

/** Everything that tests have changed besides rows: tables, triggers, functions and rights. */
const SCHEMA = `
  SELECT md5(string_agg(line, ';' ORDER BY line)) AS schema FROM (
    SELECT concat_ws(' ', oid::regclass, relkind, relnatts, relacl) AS line FROM pg_class
    WHERE relnamespace = 'mazevault'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' ', oid::regprocedure, prosrc, proacl) FROM pg_proc WHERE pronamespace = 'mazevault'::regnamespace
  ) AS lines`;

/**
 * One database, and a connection to it that stays: a new one would first have to read all that PostgreSQL knows of the
 * tables, which takes longer than to empty them.
 */
export class Pristine {
  readonly #client: pg.Client;
  readonly #schema: string;
  #lost = false;

  private constructor(client: pg.Client, schema: string) {
    this.#client = client;
    this.#schema = schema;
    client.on("error", () => {
      this.#lost = true;
    });
  }

  /** Keeps the rows of a database that is as migrated. @param database as superuser */
  static async of({ passwordFile, caFile, ...where }: Database): Promise<Pristine> {
    const { host, port, database, user } = where;
    const password = readFileSync(passwordFile, "utf8");
    const client = new pg.Client({ host, port, database, user, password, ssl: { ca: readFileSync(caFile, "utf8") } });
    await client.connect();
    await remember(client);
    return new Pristine(client, await schemaOf(client));
  }

  /** Brings the rows back; false where more than rows has changed, or the server was restarted. */
  async restore(): Promise<boolean> {
    if (this.#lost || (await schemaOf(this.#client)) !== this.#schema) return false;
    await this.#client.query("SELECT pristine.restore()");
    return true;
  }

  async close(): Promise<void> {
    await this.#client.end().catch(() => {});
  }
}

async function schemaOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ schema: string }>(SCHEMA);
  return rows[0]?.schema ?? "";
}

/** Makes `pristine.restore()`, whose statements PostgreSQL plans once, and the rows that it brings back. */
async function remember(client: pg.Client): Promise<void> {
  const { rows: tables } = await client.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = 'mazevault'::regnamespace AND relkind = 'r'",
  );
  const statements: string[] = [];
  await client.query("CREATE SCHEMA pristine");
  for (const { name } of tables) {
    const table = pg.escapeIdentifier(name);
    statements.push(`DELETE FROM mazevault.${table}`);
    const { rowCount } = await client.query(`SELECT FROM mazevault.${table} LIMIT 1`);
    if (rowCount === 0) continue;
    await client.query(`CREATE TABLE pristine.${table} AS TABLE mazevault.${table}`);
    statements.push(`INSERT INTO mazevault.${table} OVERRIDING SYSTEM VALUE TABLE pristine.${table}`);
  }
  const { rows: sequences } = await client.query<{ name: string; value: string; called: boolean }>(
    `SELECT concat_ws('.', schemaname, sequencename) AS name, coalesce(last_value, start_value) AS value,
            last_value IS NOT NULL AS called
     FROM pg_sequences WHERE schemaname = 'mazevault'`,
  );
  for (const { name, value, called } of sequences) statements.push(`PERFORM setval('${name}', ${value}, ${called})`);
  statements.push("UPDATE mazevault.installation SET id = gen_random_uuid()");
  await client.query(
    `CREATE FUNCTION pristine.restore() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ${statements.join(";\n")}; END $$`,
  );
  // Without the triggers, some of which refuse what is done here.
  await client.query("SET session_replication_role = replica; SET lock_timeout = '10s'");
}
