/** What the contract cannot time: somebody claims an entry in a transaction that is not over. */
import { randomUUID } from "node:crypto";
import { identity, nextVersion } from "../../core/ports/samples.ts";
import { Conflict, UNLED } from "../../core/ports/vault-store.ts";
import { until } from "../../lab/poll.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const VAULT = "https://kept.vault.azure.net/";
const LONG_MS = 600_000;

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

test("who begins to write while an entry is being taken to be settled is refused", async () => {
  const { stores, database } = installation;
  const epoch = await stores.leadership.acquireEpoch("leader");
  const { id: secretId } = nextVersion(identity("one"), undefined);
  const write = (writeId: string) => ({
    id: writeId,
    secretId,
    identity: identity("one"),
    owner: "owner of one",
    vaultUrl: VAULT,
    entries: [{ key: "password", entryName: "one--password" }],
    leaseMs: LONG_MS,
  });
  const former = randomUUID();
  await stores.kept.begin(UNLED, write(former));
  await stores.kept.release(former, true);
  await withConnection(database, async (client) => {
    await client.query("BEGIN");
    await client.query("SELECT take_kept_entry($1, $2, $3, $4, $5)", [
      epoch,
      VAULT,
      "one--password",
      randomUUID(),
      LONG_MS,
    ]);
    const begun = stores.kept.begin({ epoch }, write(randomUUID()));
    const outcome = begun.then(
      () => "begun",
      (error: unknown) => error,
    );
    const waits = () =>
      withConnection(database, async (other) => {
        const { rowCount } = await other.query(
          "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%begin_kept_write%'",
        );
        return rowCount === 1;
      });
    await until("it waits for the one that takes", waits, { timeoutMs: 10_000 });
    await client.query("COMMIT");
    expect(await outcome).toBeInstanceOf(Conflict);
  });
});
