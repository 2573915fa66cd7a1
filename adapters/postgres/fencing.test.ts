import type { Client } from "pg";
import { Fenced } from "../../core/errors.ts";
import { identity, nextVersion } from "../../core/ports/samples.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

test("an epoch is only handed out when the last write of the one before has ended", async () => {
  const { stores, database } = installation;
  const epoch = await stores.leadership.acquireEpoch("first");
  await withConnection(database, async (stale) => {
    await stale.query("BEGIN");
    await stale.query("SELECT fence($1)", [epoch]);
    const order: string[] = [];
    const next = stores.leadership.acquireEpoch("second").then((taken) => {
      order.push("second leads");
      return taken;
    });
    await blockedBy(stale);
    await stale.query("INSERT INTO outbox (secret_id, namespace, name) VALUES (gen_random_uuid(), 'n', 'in flight')");
    order.push("stale commits");
    await stale.query("COMMIT");
    expect(await next).toBe(epoch + 1n);
    expect(order).toEqual(["stale commits", "second leads"]);
  });
});

test("a write that waited while the lead changed is refused", async () => {
  const { stores, database } = installation;
  const epoch = await stores.leadership.acquireEpoch("first");
  await withConnection(database, async (successor) => {
    await successor.query("BEGIN");
    await successor.query("SELECT take_leadership('second')");
    const write = stores.vault.commitVersion({ epoch }, nextVersion(identity("late")));
    const refused = expect(write).rejects.toThrow(Fenced);
    await blockedBy(successor);
    await successor.query("COMMIT");
    await refused;
  });
  expect(await stores.vault.find(identity("late"))).toBeUndefined();
});

test("what must be led is refused without an epoch", async () => {
  const { stores, database } = installation;
  await stores.leadership.acquireEpoch("first");
  await withConnection(database, async (client) => {
    const led = ["fence(NULL)", "purge_secret(NULL, gen_random_uuid(), 1, '[]')"];
    for (const call of led) await expect(client.query(`SELECT ${call}`)).rejects.toMatchObject({ code: "MV001" });
    // Some have two, for replicas of before and after an upgrade.
    const { rows } = await client.query<{ name: string }>(
      "SELECT DISTINCT proname AS name FROM pg_proc WHERE prosrc LIKE '%fence_led(writer_epoch)%' ORDER BY proname",
    );
    expect(rows.map(({ name }) => name)).toEqual([
      "add_fleet_token",
      "begin_kept_write",
      "change_pointer",
      "commit_pending_version",
      "commit_version",
      "name_gateway",
      "reserve_uses",
      "rotate_key",
    ]);
  });
});

test("of many leaders in a row, writes commit only with the epoch of their time", async () => {
  const { stores, database } = installation;
  let epoch = await stores.leadership.acquireEpoch("0");
  let number = 0;
  let done = false;
  const committed: { readonly name: string; readonly epoch: bigint }[] = [];
  const write = async () => {
    while (!done) {
      number += 1;
      const [name, used] = [`s${number}`, epoch];
      const [result] = await Promise.allSettled([
        stores.vault.commitVersion({ epoch: used }, nextVersion(identity(name))),
      ]);
      if (result.status === "fulfilled") committed.push({ name, epoch: used });
      else expect(result.reason).toBeInstanceOf(Fenced);
    }
  };
  const writers = Promise.all([write(), write(), write(), write()]);
  for (let leader = 1; leader <= 20; leader += 1) {
    // The epoch is known to the writers only after it was taken: in between they are stale.
    epoch = await stores.leadership.acquireEpoch(`${leader}`);
  }
  done = true;
  await writers;
  expect(committed.length).toBeGreaterThan(0);
  // Rows are numbered as they commit under the lock: those of an epoch stand between its taking and the next.
  await withConnection(database, async (client) => {
    const { rows } = await client.query<{ id: string; action: string; taken: string | null }>(
      "SELECT subject_id AS id, action, details->>'epoch' AS taken FROM audit WHERE action <> 'KeyCreated' ORDER BY sequence",
    );
    const { rows: secrets } = await client.query<{ id: string; name: string }>("SELECT id, name FROM secrets");
    const names = new Map(secrets.map(({ id, name }) => [id, name]));
    const epochs = new Map(committed.map((each) => [each.name, each.epoch]));
    let current = 0n;
    for (const { id, action, taken } of rows) {
      if (action === "LeadershipTaken") current = BigInt(taken ?? 0);
      else expect(epochs.get(names.get(id) ?? "")).toBe(current);
    }
    expect(secrets).toHaveLength(committed.length);
  });
});

/** Until another backend waits for a lock that this connection holds. */
async function blockedBy(holder: Client): Promise<void> {
  for (;;) {
    const { rowCount } = await holder.query(
      "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))",
    );
    if (rowCount !== null && rowCount > 0) return;
  }
}
