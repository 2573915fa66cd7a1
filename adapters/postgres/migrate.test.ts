import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LabPki } from "../../lab/pki.ts";
import { Database, read } from "./database.ts";
import { DatabaseIsNewer, migrate } from "./migrate.ts";
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
  const every = readdirSync(path.join(import.meta.dirname, "migrations"))
    .map((file) => path.basename(file, ".sql"))
    .sort();
  expect(every[0]).toBe("0001_vault");
  expect(runs.filter((names) => names.length > 0)).toEqual([every]);
  expect(await migrate(database)).toEqual([]);
});

test("a database of a newer program is refused and left alone", async () => {
  const database = await server.database();
  await withConnection(database, (client) =>
    client.query("INSERT INTO migrations (name, run_on) VALUES ('9999_from_the_future', now())"),
  );
  await expect(migrate(database)).rejects.toThrow(DatabaseIsNewer);
});

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
