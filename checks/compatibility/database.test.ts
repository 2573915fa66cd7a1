/** What programs of the last release find in a database that this one has migrated. */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Client } from "pg";
import { withConnection } from "../../adapters/postgres/testing/client.ts";
import { startServer, type TestServer } from "../../adapters/postgres/testing/server.ts";
import { notAccepted } from "./accepted.ts";
import { sentence } from "./break.ts";
import { brokenByCatalog, type Catalog, readCatalog, wrongLeast } from "./database.ts";
import { RELEASED, releasedMigrations } from "./surfaces.ts";

const released = JSON.parse(readFileSync(path.join(RELEASED, "database.json"), "utf8")) as Catalog;
let server: TestServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.stop());

test("is all that they had, or what is accepted; and where something is gone, older ones are kept away", async () => {
  const now = await withConnection(await server.database(), readCatalog);
  const broken = brokenByCatalog(released, now);
  expect(notAccepted("database", broken)).toEqual([]);
  expect(wrongLeast(now.least, Object.keys(releasedMigrations()), broken.length > 0)).toEqual([]);
});

test.each([
  ["the last one of the last release, where something is gone", "0002_b", true, []],
  ["the same, where nothing is", "0002_b", false, []],
  ["an older one, where nothing is", "0001_a", false, []],
  ["an older one, where something is gone", "0001_a", true, [expect.stringContaining("set it to 0002_b")]],
  ["one that the last release does not have", "0003_c", true, [expect.stringContaining("set it to 0002_b")]],
  ["the same, where nothing is gone", "0003_c", false, [expect.stringContaining("set it to 0002_b")]],
])("the migration to know at least is %s", (_, least, takesAway, problems) => {
  expect(wrongLeast(least, ["0001_a", "0002_b"], takesAway)).toEqual(problems);
});

const breaking: readonly (readonly [what: string, sql: string, problem: string])[] = [
  ["a table goes", "DROP TABLE things", "things: was removed"],
  ["a table has another name", "ALTER TABLE things RENAME TO stuff", "things: was removed"],
  ["a column goes", "ALTER TABLE things DROP COLUMN note", "things.note: was removed"],
  ["a column has another name", "ALTER TABLE things RENAME note TO remark", "things.note: was removed"],
  ["a column has another type", "ALTER TABLE things ALTER size TYPE bigint", "things.size: was integer, is bigint"],
  [
    "a column must be given",
    "ALTER TABLE things ADD more text NOT NULL",
    "things.more: must be given by who inserts a row",
  ],
  ["a column may not be null", "ALTER TABLE things ALTER note SET NOT NULL", "things.note: may not be null any more"],
  [
    "a column may be null",
    "ALTER TABLE things ALTER size DROP NOT NULL",
    "things.size: may be null now, which the last release does not expect",
  ],
  ["a column has another default", "ALTER TABLE things ALTER size SET DEFAULT 2", "things.size: default was 1, is 2"],
  ["a column has no default", "ALTER TABLE things ALTER size DROP DEFAULT", "things.size: default was 1, is none"],
  [
    "a condition comes",
    "ALTER TABLE things ADD CONSTRAINT small CHECK (size < 9)",
    "things: has a new rule: CHECK ((size < 9))",
  ],
  [
    "a condition is another one",
    "ALTER TABLE things DROP CONSTRAINT sized; ALTER TABLE things ADD CONSTRAINT sized CHECK (size > 1)",
    "things: has another rule sized: CHECK ((size > 1))",
  ],
  [
    "a unique index comes",
    "CREATE UNIQUE INDEX noted ON things (note)",
    "things: has a new rule: CREATE UNIQUE INDEX noted ON mazevault.things USING btree (note)",
  ],
  [
    "an index that ON CONFLICT names goes",
    "DROP INDEX things_named",
    "things: has no longer: CREATE UNIQUE INDEX things_named ON mazevault.things USING btree (name)",
  ],
  [
    "a trigger goes",
    "DROP TRIGGER kept ON things",
    "things: has no longer: CREATE TRIGGER kept BEFORE DELETE ON mazevault.things FOR EACH ROW EXECUTE FUNCTION keep()",
  ],
  ["a function goes", "DROP FUNCTION make_thing(text, integer)", "make_thing(text, integer): was removed"],
  [
    "a function takes more",
    "DROP FUNCTION make_thing(text, integer); CREATE FUNCTION make_thing(of_name text, of_size integer, more text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "make_thing(text, integer): was removed",
  ],
  [
    "a function returns something else",
    "DROP FUNCTION make_thing(text, integer); CREATE FUNCTION make_thing(of_name text, of_size integer) RETURNS integer LANGUAGE sql AS 'SELECT $2'",
    "make_thing(text, integer): returned text, returns integer",
  ],
  [
    "a function that calls cannot be told from comes",
    "CREATE FUNCTION make_thing(of_name text, of_note text, more text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "make_thing(text, integer): cannot be told from make_thing(text, text, text) by who calls it",
  ],
  [
    "an argument must be given",
    "DROP FUNCTION count_things(integer); CREATE FUNCTION count_things(of_size integer) RETURNS integer LANGUAGE sql AS 'SELECT $1'",
    "count_things(integer): needs 1 arguments, needed 0",
  ],
  ["a sequence goes", "DROP SEQUENCE numbers", "numbers: was removed"],
];

const compatible: readonly (readonly [what: string, sql: string])[] = [
  ["a table comes", "CREATE TABLE others (a integer NOT NULL)"],
  ["columns come", "ALTER TABLE things ADD more text, ADD most integer NOT NULL DEFAULT 3"],
  ["an index comes", "CREATE INDEX noted ON things (note)"],
  ["a trigger comes", "CREATE TRIGGER also_kept BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION keep()"],
  ["a function comes", "CREATE FUNCTION make_other(of_name text) RETURNS text LANGUAGE sql AS 'SELECT $1'"],
  [
    "a function that takes more arguments comes",
    "CREATE FUNCTION make_thing(a text, b integer, c text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
  ],
  [
    "a function does it otherwise",
    "CREATE OR REPLACE FUNCTION make_thing(of_name text, of_size integer) RETURNS text LANGUAGE sql AS 'SELECT upper($1)'",
  ],
];

describe("a schema with", () => {
  let before: Catalog;
  const changed = (sql: string): Promise<Catalog> =>
    withConnection(database, async (client) => {
      await client.query("BEGIN");
      await client.query(sql);
      return readCatalog(client);
    });
  let database: Awaited<ReturnType<TestServer["database"]>>;

  beforeAll(async () => {
    database = await server.database();
    await withConnection(database, (client: Client) =>
      client.query(`
        CREATE TABLE things (name text NOT NULL, size integer NOT NULL DEFAULT 1 CONSTRAINT sized CHECK (size > 0), note text);
        CREATE UNIQUE INDEX things_named ON things (name);
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER kept BEFORE DELETE ON things FOR EACH ROW EXECUTE FUNCTION keep();
        CREATE FUNCTION make_thing(of_name text, of_size integer) RETURNS text LANGUAGE sql AS 'SELECT $1';
        CREATE FUNCTION count_things(of_size integer DEFAULT 1) RETURNS integer LANGUAGE sql AS 'SELECT $1';
        CREATE SEQUENCE numbers;
      `),
    );
    before = await withConnection(database, readCatalog);
  });

  test.each(breaking)("%s is found", async (_, sql, problem) => {
    expect(brokenByCatalog(before, await changed(sql)).map(sentence)).toContain(problem);
  });

  test.each(compatible)("%s is none of it", async (_, sql) => {
    expect(brokenByCatalog(before, await changed(sql))).toEqual([]);
  });
});
