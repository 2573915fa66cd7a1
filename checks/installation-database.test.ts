/** What the guide has an administrator of PostgreSQL say, on PostgreSQL: the programs need no more. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { migrate } from "../adapters/postgres/migrate.ts";
import { PostgresOcspStore } from "../adapters/postgres/ocsp-store.ts";
import { withConnection } from "../adapters/postgres/testing/client.ts";
import { startServer, type TestServer } from "../adapters/postgres/testing/server.ts";
import { read, root } from "./pages.ts";

const guide = "docs/guides/install-with-helm.md";
const [made = "", granted = ""] = read(guide, readFileSync(path.join(root, guide), "utf8"))
  .sections.flatMap(({ blocks }) => blocks)
  .flatMap(({ language, text }) => (language === "sql" ? [text] : []));

let server: TestServer;
let folder: string;
beforeAll(async () => {
  server = await startServer();
  folder = mkdtempSync(path.join(tmpdir(), "mazevault-guide-"));
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true });
});

test("a role and a database as the guide makes them are all that the operator needs, and need no superuser", async () => {
  const { superuser } = server.postgres;
  const passwordFile = path.join(folder, "password");
  // As it is printed.
  writeFileSync(passwordFile, "...");
  // The server has a role and databases of that name; the schema keeps its own.
  const as = (user: string, database = "guide") => ({ ...superuser, user, database, passwordFile });
  await withConnection(superuser, (client) =>
    client.query("CREATE ROLE administrator LOGIN CREATEDB CREATEROLE PASSWORD '...'"),
  );
  await withConnection(as("administrator", "postgres"), async (client) => {
    // A database cannot be made among other statements.
    for (const statement of made.replaceAll("mazevault", "guide").split("\n")) await client.query(statement);
  });
  expect((await migrate(as("guide"))).applied.length).toBeGreaterThan(10);
  await withConnection(as("administrator"), (client) => client.query(granted));
  const responder = new PostgresOcspStore(as("mazevault_ocsp"));
  try {
    expect(await responder.authorities()).toEqual([]);
  } finally {
    await responder.close();
  }
});
