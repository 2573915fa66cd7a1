import { until } from "../../lab/poll.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { HintListener } from "./hint-listener.ts";
import { OutboxHint } from "./outbox-hint.ts";
import { startServer, type TestServer } from "./testing/server.ts";
import { VAULT_CHANNEL, VaultHint } from "./vault-hint.ts";

let server: TestServer;
let options: DatabaseOptions;
let database: Database;
let listener: HintListener;
let hint: VaultHint;
let heard: (string | undefined)[];

beforeAll(async () => {
  server = await startServer();
  options = await server.restored();
});
beforeEach(async () => {
  heard = [];
  // One connection, so that every statement meets what was prepared before it.
  database = new Database({ ...options, maxConnections: 1 });
  hint = new VaultHint(database);
  listener = new HintListener({
    connection: options,
    channel: VAULT_CHANNEL,
    onHint: (says) => heard.push(says),
  });
  listener.start();
  await until("it listens", async () => heard.length === 1, { timeoutMs: 20_000 });
});
afterEach(async () => {
  hint.close();
  await listener.stop();
  await database.close();
});
afterAll(() => server.stop());

test("a vault is told of by its name, also over a connection that told of something else before", async () => {
  const outbox = new OutboxHint(database);
  outbox.changed();
  await until("the outbox is told of", async () => told("SELECT pg_notify($1, '')"), { timeoutMs: 20_000 });
  outbox.close();
  hint.tell("crdprointmzvgwckv01");
  await until("it is heard", async () => heard.length > 1, { timeoutMs: 20_000 });
  expect(heard).toEqual([undefined, "crdprointmzvgwckv01"]);
});

test("a crowd of hints is told at once and once more, so that the last of them is not missed", async () => {
  for (let at = 0; at < 1_000; at += 1) hint.tell("a-vault");
  hint.tell("other");
  await until("both are heard", async () => heard.length >= 3, { timeoutMs: 20_000 });
  await until("the rest is heard", async () => heard.filter((says) => says === "a-vault").length === 2, {
    timeoutMs: 20_000,
  });
  expect(heard.filter((says) => says === "other")).toHaveLength(1);
});

/** Whether the connection has prepared this statement. */
async function told(text: string): Promise<boolean> {
  const prepared = { name: "prepared", text: "SELECT statement FROM pg_prepared_statements" };
  const rows = await database.query<{ statement: string }>(prepared, []);
  return rows.some(({ statement }) => statement === text);
}
