/** `jest.config.mjs` leaves this file out where there is no squawk. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPythonTool, squawk } from "../../lab/setup/python-tool.ts";
import { sentence } from "./break.ts";
import { blocking, changedMigrations, digests } from "./migrations.ts";

const program = findPythonTool(squawk) ?? "";
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-migrations-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const write = (name: string, sql: string): void => writeFileSync(path.join(dir, `${name}.sql`), sql);
const wrong = (sql: string): Promise<readonly string[]> => {
  write("0099_new", sql);
  return blocking(program, dir, ["0099_new"]);
};

test.each([
  ["DROP TABLE secrets;", "ban-drop-table"],
  ["ALTER TABLE secrets DROP COLUMN state;", "ban-drop-column"],
  ["ALTER TABLE secrets RENAME COLUMN state TO phase;", "renaming-column"],
  ["ALTER TABLE secrets RENAME TO things;", "renaming-table"],
  ["ALTER TABLE secrets ALTER COLUMN state TYPE integer USING 1;", "changing-column-type"],
  ["ALTER TABLE secrets ALTER COLUMN state SET NOT NULL;", "adding-not-nullable-field"],
  ["ALTER TABLE secrets ADD COLUMN more text NOT NULL;", "adding-required-field"],
  ["ALTER TABLE secrets ADD CONSTRAINT more CHECK (state <> '');", "constraint-missing-not-valid"],
  ["ALTER TABLE secrets ADD CONSTRAINT more UNIQUE (state);", "disallowed-unique-constraint"],
  ["CREATE INDEX more ON secrets (state);", "require-concurrent-index-creation"],
  ["DROP INDEX more;", "require-concurrent-index-deletion"],
  ["SELECT; CREATE INDEX CONCURRENTLY more ON secrets (state);", "ban-concurrent-index-creation-in-transaction"],
  ["DROP FUNCTION fence(bigint);", "ban-drop-function"],
])("a migration that blocks others or takes something away is found: %s", async (sql, rule) => {
  expect(await wrong(`-- Up Migration\n\n${sql}\n`)).toContainEqual(
    expect.stringMatching(new RegExp(`^0099_new:3: .*\\(${rule}\\)$`)),
  );
});

test("one that changes rows itself is found, and one whose functions do is not", async () => {
  expect(await wrong("CREATE TABLE a (b text);\n\nUPDATE secrets SET state = 'Active';\n")).toEqual([
    expect.stringMatching(/^0099_new:3: it changes rows of a table/),
  ]);
  const change =
    "CREATE FUNCTION activate() RETURNS void LANGUAGE sql AS $$\n  UPDATE secrets SET state = 'Active';\n$$;\n";
  expect(await wrong(change)).toEqual([]);
});

test.each([
  ["WITH old AS (\n  DELETE FROM secrets RETURNING id\n) SELECT count(*) FROM old;", 2],
  ["CREATE TABLE names (name text);\nINSERT INTO names (name) SELECT name FROM secrets;", 2],
  ["DO $$\nBEGIN\n  UPDATE secrets SET state = 'Active';\nEND $$;", 3],
  ["MERGE INTO secrets USING names ON true WHEN MATCHED THEN DELETE;", 1],
])("one that changes rows in other ways is found: %s", async (sql, line) => {
  expect(await wrong(sql)).toContainEqual(expect.stringMatching(new RegExp(`^0099_new:${line}: it changes rows`)));
});

const OUTSIDE = "-- Outside of a transaction\n";

test.each([
  ["CREATE INDEX CONCURRENTLY more ON secrets (state);", "put DROP INDEX CONCURRENTLY IF EXISTS more before it"],
  [
    "DROP INDEX CONCURRENTLY IF EXISTS most;\nCREATE INDEX CONCURRENTLY more ON secrets (state);",
    "put DROP INDEX CONCURRENTLY IF EXISTS more before it",
  ],
  ["CREATE INDEX CONCURRENTLY IF NOT EXISTS more ON secrets (state);", "not: CREATE INDEX CONCURRENTLY IF NOT"],
  ["DROP INDEX CONCURRENTLY more;", "not: DROP INDEX CONCURRENTLY more;"],
  ["ALTER TABLE secrets ADD COLUMN more text;", "not: ALTER TABLE secrets ADD COLUMN more text;"],
  ["SELECT 1; SELECT 2;", "not: SELECT 1; SELECT 2;"],
])("one outside of a transaction that cannot be cut off and run again is found: %s", async (sql, problem) => {
  expect(await wrong(`${OUTSIDE}${sql}\n`)).toContainEqual(expect.stringContaining(problem));
});

test.each([
  "CREATE TABLE things (name text NOT NULL UNIQUE);\nCREATE INDEX things_name ON things (name);\n",
  "ALTER TABLE secrets ADD COLUMN more text, ADD COLUMN most integer NOT NULL DEFAULT 3;\n",
  "ALTER TABLE secrets ADD CONSTRAINT more CHECK (state <> '') NOT VALID;\n",
  "ALTER TABLE secrets VALIDATE CONSTRAINT more;\n",
  "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT $$;\n",
  `${OUTSIDE}-- For the list; it is long.\nDROP INDEX CONCURRENTLY IF EXISTS more;\nCREATE INDEX CONCURRENTLY more\n  ON secrets (state);\n`,
  `${OUTSIDE}ALTER TABLE secrets VALIDATE CONSTRAINT more;\n`,
  "UPDATE compatibility SET least_migration = '0039_compatibility';\n",
  "INSERT INTO compatibility (least_migration) VALUES ('0039_compatibility');\n",
  "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $fn$\n  UPDATE secrets SET state = 'It''s';\n$fn$;\n",
  "CREATE TABLE parts (whole bigint REFERENCES wholes ON UPDATE CASCADE ON DELETE SET NULL);\n",
  "CREATE TRIGGER kept BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION keep();\n",
  "-- Nobody's rows are changed:\n-- UPDATE secrets SET state = NULL;\nCREATE TABLE it ();\n",
])("one that does neither is none: %s", async (sql) => expect(await wrong(sql)).toEqual([]));

test("what is no SQL is told", async () => {
  expect(await wrong("CREATE TABEL things ();\n")).toContainEqual(expect.stringMatching(/syntax/i));
});

test("a migration that was released must stay as it is", () => {
  write("0001_first", "CREATE TABLE a ();");
  write("0002_second", "CREATE TABLE b ();");
  const released = digests(dir);
  write("0003_third", "CREATE TABLE c ();");
  expect(changedMigrations(released, digests(dir))).toEqual([]);
  write("0001_first", "CREATE TABLE a (b text);");
  rmSync(path.join(dir, "0002_second.sql"));
  write("0000_late", "CREATE TABLE d ();");
  expect(changedMigrations(released, digests(dir)).map(sentence)).toEqual([
    "0001_first: is not what was released",
    "0002_second: was removed",
    "0000_late: comes before 0002_second, so no database of the last release can run it",
  ]);
});
