/** Brings the rows of a database back to what they were: a fraction of the work of making another one. */
import pg from "pg";

export interface Pristine {
  readonly schema: string;
  /** Statements that bring all rows and sequences back. */
  readonly restore: string;
}

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

async function schemaOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ schema: string }>(SCHEMA);
  return rows[0]?.schema ?? "";
}

/** Keeps the rows of a database that is as migrated. As superuser. */
export async function remember(client: pg.Client): Promise<Pristine> {
  const { rows: tables } = await client.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relnamespace = 'mazevault'::regnamespace AND relkind = 'r'",
  );
  const statements = ["SET lock_timeout = '10s'", "SET session_replication_role = replica"];
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
  for (const { name, value, called } of sequences) statements.push(`SELECT setval('${name}', ${value}, ${called})`);
  statements.push("UPDATE mazevault.installation SET id = gen_random_uuid()");
  return { schema: await schemaOf(client), restore: statements.join(";\n") };
}

/** Brings the rows back, as superuser; false where more than rows has changed. */
export async function restore(client: pg.Client, pristine: Pristine): Promise<boolean> {
  if ((await schemaOf(client)) !== pristine.schema) return false;
  await client.query(pristine.restore);
  return true;
}
