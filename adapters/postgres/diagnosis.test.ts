import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { judgeDatabase } from "../../core/diagnosis/database.ts";
import { LabPki } from "../../lab/pki.ts";
import { readDatabaseFacts, readDatabaseSizes } from "./diagnosis.ts";
import { knownMigrations, migrate } from "./migrate.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;

beforeAll(async () => {
  server = await startServer();
  installation = await openInstallation(await server.database());
});
afterAll(async () => {
  await installation.stores.close();
  await server.stop();
});

const expected = { checkpointMs: 60_000, home: "vault" };

test("where nothing is wrong nothing is found", async () => {
  const facts = await readDatabaseFacts(installation.database);
  expect(facts).toMatchObject({
    readOnly: false,
    migrations: { applied: knownMigrations(), known: knownMigrations() },
    record: { outbox: [], sinks: [], responders: { waiting: 0 }, loginsBlocked: 0 },
  });
  if ("check" in facts) throw new Error("it was not reached");
  expect(facts.record?.keys.map(({ purpose }) => purpose)).toContain("Installation");
  expect(judgeDatabase(facts, expected)).toEqual([]);
});

test("a database that was never migrated lacks every migration, and says no more", async () => {
  const database = await server.database({ migrated: false });
  const facts = await readDatabaseFacts(database);
  if ("check" in facts) throw new Error("it was not reached");
  expect(facts.record).toBeUndefined();
  expect(judgeDatabase(facts, expected)).toMatchObject([{ check: "database.migrations", status: "failing" }]);
  await migrate(database);
  expect(await readDatabaseFacts(database)).toMatchObject({ migrations: { applied: knownMigrations() } });
});

test("the sizes of its tables", async () => {
  const sizes = await readDatabaseSizes(installation.database);
  if ("check" in sizes) throw new Error("it was not reached");
  expect(sizes.version).toMatch(/^\d+/);
  expect(sizes.tables.map(({ name }) => name)).toEqual(
    expect.arrayContaining(["audit", "keys", "secrets", "versions"]),
  );
});

describe("one that cannot be had says why", () => {
  let foreign: LabPki;
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-pki-"));
  beforeAll(async () => {
    foreign = await LabPki.open(dir);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  test.each([
    { why: "nothing listens", change: () => ({ port: 1 }), problem: /nothing listens at/ },
    { why: "another database", change: () => ({ database: "absent" }), problem: /has no database absent/ },
    { why: "another role", change: () => ({ user: "stranger" }), problem: /refuses the password of role stranger/ },
    { why: "another CA", change: () => ({ caFile: foreign.caFile }), problem: /of a CA that is not in/ },
    { why: "no password file", change: () => ({ passwordFile: path.join(dir, "none") }), problem: /does not exist/ },
    { why: "no such host", change: () => ({ host: "postgres.invalid" }), problem: /no host|does not answer/ },
  ])("$why", async ({ change, problem }) => {
    const finding = await readDatabaseFacts({ ...installation.database, ...change() });
    expect(finding).toMatchObject({ check: "database", status: "failing", problem: expect.stringMatching(problem) });
  });
});
