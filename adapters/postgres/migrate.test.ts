import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Client } from "pg";
import { SafeError } from "../../core/errors.ts";
import { LabPki } from "../../lab/pki.ts";
import { until } from "../../lab/poll.ts";
import { withClient } from "../../lab/postgres/database.ts";
import { SilentProxy } from "../redis/testing/proxy.ts";
import { Database, type DatabaseOptions, read } from "./database.ts";
import { DatabaseIsNewer, knownMigrations, migrate, readSchemaState } from "./migrate.ts";
import { withConnection } from "./testing/client.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.stop());

test("replicas that start together migrate once", async () => {
  const database = await server.database({ migrated: false });
  const runs = await Promise.all([1, 2, 3, 4].map(() => migrate(database)));
  expect(knownMigrations()[0]).toBe("0001_vault");
  expect(runs.filter(({ applied }) => applied.length > 0)).toEqual([{ applied: knownMigrations(), newer: [] }]);
  expect(await migrate(database)).toEqual({ applied: [], newer: [] });
});

describe("a database that a newer program has migrated", () => {
  const asNewer = (database: DatabaseOptions, least: string) =>
    withConnection(database, async (client) => {
      await client.query("INSERT INTO migrations (name, run_on) VALUES ('9999_from_the_future', now())");
      await client.query("UPDATE compatibility SET least_migration = $1", [least]);
    });

  test("is worked with while it takes nothing away, and left alone", async () => {
    const database = await server.database();
    await asNewer(database, "0039_compatibility");
    expect(await migrate(database)).toEqual({ applied: [], newer: ["9999_from_the_future"] });
  });

  test("is refused where it needs a newer program", async () => {
    const database = await server.database();
    await asNewer(database, "9999_from_the_future");
    const refused = migrate(database);
    await expect(refused).rejects.toThrow(DatabaseIsNewer);
    // The log of a program that ends over it says why.
    await expect(refused).rejects.toBeInstanceOf(SafeError);
  });

  test("is refused where it lacks what this program needs", async () => {
    const database = await server.database();
    await asNewer(database, "0039_compatibility");
    await withConnection(database, (client) =>
      client.query("UPDATE migrations SET name = '0038_of_another_branch' WHERE name = '0036_set_times'"),
    );
    await expect(migrate(database)).rejects.toThrow(/0038_of_another_branch, 9999_from_the_future/);
  });

  test("is refused where it did not say what it needs", async () => {
    const database = await server.database();
    await asNewer(database, "0039_compatibility");
    await withConnection(database, (client) => client.query("DROP TABLE compatibility"));
    await expect(migrate(database)).rejects.toThrow(DatabaseIsNewer);
  });
});

describe("beside programs that serve", () => {
  let directory: string;
  let database: DatabaseOptions;
  const add = (name: string, sql: string) => writeFileSync(path.join(directory, `${name}.sql`), sql);
  const applied = async () => (await withConnection(database, readSchemaState)).applied.slice(knownMigrations().length);

  beforeEach(async () => {
    directory = mkdtempSync(path.join(tmpdir(), "mazevault-migrations-"));
    cpSync(path.join(import.meta.dirname, "migrations"), directory, { recursive: true });
    database = await server.database();
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  test("a migration that cannot have its lock lets writers through, keeps what went before it, and is tried again", async () => {
    add("9001_first", "CREATE TABLE first (a integer);");
    add("9002_second", "ALTER TABLE leadership ADD COLUMN second integer;");
    await withConnection(database, async (reader) => {
      await reader.query("BEGIN");
      await reader.query("SELECT FROM leadership");
      const migrating = migrate(database, { directory });
      const outcome = expect(migrating).rejects.toMatchObject({
        name: "MigrationWaits",
        code: "DatabaseUnavailable",
        message: expect.stringMatching(/^migration 9002_second did not get a lock within 0.5 s.*pg_stat_activity/),
      });
      await withConnection(database, async (writer) => {
        await until("it waits for the lock", () => isWaitedFor(writer, "leadership"), { timeoutMs: 20_000 });
        // Behind the one that waits; the limit of programs is 5 s.
        await writer.query("UPDATE leadership SET epoch = epoch");
      });
      await outcome;
      expect(await applied()).toEqual(["9001_first"]);
      await reader.query("ROLLBACK");
    });
    expect(await migrate(database, { directory })).toEqual({ applied: ["9002_second"], newer: [] });
  });

  test("an autovacuum that holds it up ends for an attempt that is patient", async () => {
    await withConnection(database, async (owner) => {
      await owner.query(`CREATE TABLE slow (a integer) WITH (
        autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)`);
      await owner.query("INSERT INTO slow SELECT generate_series(1, 100000)");
      await owner.query("DELETE FROM slow WHERE a % 2 = 0");
    });
    const { superuser } = server.postgres;
    await withClient(superuser, async (administrator) => {
      const set = async (...settings: readonly string[]): Promise<void> => {
        for (const setting of settings) await administrator.query(`ALTER SYSTEM ${setting}`);
        await administrator.query("SELECT pg_reload_conf()");
      };
      const isVacuumed = async (): Promise<boolean> => {
        const query = "SELECT FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM% mazevault.slow%'";
        return (await administrator.query(query)).rows.length > 0;
      };
      await set("SET autovacuum = on", "SET autovacuum_naptime = '1s'");
      try {
        await until("it is vacuumed", isVacuumed, { timeoutMs: 30_000 });
        add("9001_altered", "ALTER TABLE slow ADD COLUMN b integer;");
        await expect(migrate(database, { directory })).rejects.toMatchObject({ name: "MigrationWaits" });
        expect(await isVacuumed()).toBe(true);
        expect((await migrate(database, { directory, isPatient: true })).applied).toEqual(["9001_altered"]);
      } finally {
        await set("RESET autovacuum", "RESET autovacuum_naptime");
      }
    });
  });

  test("one that fails leaves nothing of itself behind", async () => {
    add("9001_half", "CREATE TABLE half (a integer); SELECT 1 / 0;");
    await expect(migrate(database, { directory })).rejects.toMatchObject({
      code: "Failed",
      message: "migration 9001_half: PostgreSQL refused a statement (SQLSTATE 22012)",
    });
    expect(await applied()).toEqual([]);
    add("9001_half", "CREATE TABLE half (a integer);");
    expect((await migrate(database, { directory })).applied).toEqual(["9001_half"]);
  });

  test("an index is made while others write, also after an attempt that was broken off", async () => {
    add(
      "9001_index",
      `-- Outside of a transaction
       DROP INDEX CONCURRENTLY IF EXISTS audit_by_action;
       CREATE INDEX CONCURRENTLY audit_by_action
         ON audit (action);
      `,
    );
    await withConnection(database, async (writer) => {
      await writer.query("BEGIN");
      await writer.query("LOCK TABLE audit IN ROW EXCLUSIVE MODE");
      const migrating = migrate(database, { directory, turnMs: 1_000 });
      await expect(migrating).rejects.toMatchObject({ name: "MigrationWaits" });
      await writer.query("COMMIT");
    });
    expect((await migrate(database, { directory })).applied).toEqual(["9001_index"]);
    const { rows } = await withConnection(database, (client) =>
      client.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'audit_by_action'::regclass"),
    );
    expect(rows).toEqual([{ indisvalid: true }]);
  });

  test("a replica that migrates and does not end is not waited for without a word, and not at all where nothing is to be run", async () => {
    const { PG_MIGRATE_LOCK_ID } = await import("node-pg-migrate");
    add("9001_first", "CREATE TABLE first (a integer);");
    await withConnection(database, async (other) => {
      await other.query(`SELECT pg_advisory_lock(${PG_MIGRATE_LOCK_ID})`);
      await expect(migrate(database, { directory, turnMs: 500 })).rejects.toMatchObject({
        name: "MigrationWaits",
        message: expect.stringMatching(/^another replica has been migrating the database for 0.5 s/),
      });
      expect(await migrate(database, { turnMs: 500 })).toEqual({ applied: [], newer: [] });
    });
    expect(await migrate(database, { directory })).toEqual({ applied: ["9001_first"], newer: [] });
  });

  test("one that sorts before what was run is told, and not tried for ever", async () => {
    add("0000_late", "CREATE TABLE late (a integer);");
    await expect(migrate(database, { directory })).rejects.toMatchObject({
      code: "Failed",
      message:
        "the migrations cannot be run: Not run migration 0000_late is preceding already run migration 0001_vault",
    });
  });

  test("one whose connection breaks off can be tried again", async () => {
    add("9001_slow", "SELECT pg_sleep(30);");
    const proxy = await SilentProxy.start(database.port);
    const port = Number(new URL(proxy.through("tcp://localhost:1")).port);
    const outcome = expect(migrate({ ...database, port }, { directory })).rejects.toMatchObject({
      code: "DatabaseUnavailable",
    });
    const runs = async (client: Client) =>
      (await client.query("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"))
        .rows.length > 0;
    await withConnection(database, (client) => until("it runs", () => runs(client), { timeoutMs: 20_000 }));
    await proxy.stop();
    await outcome;
  });
});

/** Whether somebody waits for a lock of that table which nobody shares. */
async function isWaitedFor(client: Client, table: string): Promise<boolean> {
  const { rows } = await client.query(
    "SELECT FROM pg_locks WHERE relation = $1::regclass AND mode = 'AccessExclusiveLock' AND NOT granted",
    [table],
  );
  return rows.length > 0;
}

test("a database that cannot be reached is unavailable", async () => {
  const database = await server.database();
  await expect(migrate({ ...database, port: 1 })).rejects.toMatchObject({ code: "DatabaseUnavailable" });
  await expect(migrate({ ...database, database: "absent" })).rejects.toMatchObject({ code: "DatabaseUnavailable" });
});

test("a server whose certificate another authority signed is not talked to", async () => {
  const database = await server.database();
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-pki-"));
  const foreign = await LabPki.open(dir);
  await expect(migrate({ ...database, caFile: foreign.caFile })).rejects.toMatchObject({ code: "DatabaseUnavailable" });
  rmSync(dir, { recursive: true });
});

test("what was prepared before a migration is prepared anew", async () => {
  const options = await server.database();
  await withConnection(options, (client) => client.query("CREATE TABLE grown AS SELECT 1 AS one"));
  const database = new Database({ ...options, maxConnections: 1 });
  const all = { name: "all_of_grown", text: "SELECT * FROM grown" };
  expect(await read(database, all, [])).toEqual([{ one: 1 }]);
  await withConnection(options, (client) => client.query("ALTER TABLE grown ADD COLUMN two integer DEFAULT 2"));
  await expect(read(database, all, [])).rejects.toMatchObject({ code: "DatabaseUnavailable" });
  expect(await read(database, all, [])).toEqual([{ one: 1, two: 2 }]);
  await database.close();
});
