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
  "CREATE TABLE things (name text NOT NULL UNIQUE);\nCREATE INDEX things_name ON things (name);\n",
  "ALTER TABLE secrets ADD COLUMN more text, ADD COLUMN most integer NOT NULL DEFAULT 3;\n",
  "ALTER TABLE secrets ADD CONSTRAINT more CHECK (state <> '') NOT VALID;\n",
  "ALTER TABLE secrets VALIDATE CONSTRAINT more;\n",
  "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT $$;\n",
  "-- Outside of a transaction\nDROP INDEX CONCURRENTLY IF EXISTS more;\nCREATE INDEX CONCURRENTLY more ON secrets (state);\n",
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
  expect(changedMigrations(released, digests(dir)).map(sentence)).toEqual([
    "0001_first: is not what was released",
    "0002_second: was removed",
  ]);
});
