import { Fenced } from "../../core/errors.ts";
import { identity, nextVersion } from "../../core/ports/samples.ts";
import type { OutboxRow } from "../../core/ports/vault-store.ts";
import type { OutboxListener } from "./outbox-listener.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;
let listeners: OutboxListener[];
let epoch: bigint;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  epoch = await installation.stores.leadership.acquireEpoch("writer");
  listeners = [];
});
afterEach(async () => {
  for (const listener of listeners) await listener.stop();
  await installation.stores.close();
});
afterAll(() => server.stop());

const INSERT = "INSERT INTO outbox (secret_id, namespace, name) VALUES (gen_random_uuid(), 'n', $1)";

test("no row is passed over when transactions commit in another order than they began", async () => {
  const { stores, database } = installation;
  const names = (rows: readonly OutboxRow[]) => rows.map(({ name }) => name);
  await withConnection(database, async (slow) => {
    await slow.query("BEGIN");
    await slow.query(INSERT, ["slow"]);
    await withConnection(database, async (fast) => {
      await fast.query(INSERT, ["fast"]);
    });
    // The fast row is committed, but a reader that moved on behind it would never see the slow one.
    expect(await stores.vault.readOutbox(undefined, 10)).toEqual([]);
    await slow.query("COMMIT");
  });
  expect(names(await stores.vault.readOutbox(undefined, 10))).toEqual(["slow", "fast"]);
});

test("a reader that follows concurrent writers sees every row exactly once", async () => {
  const { stores, database } = installation;
  const writers = 6;
  const each = 40;
  const write = async (writer: number) =>
    withConnection(database, async (client) => {
      for (let number = 0; number < each; number += 1) {
        await client.query("BEGIN");
        await client.query(INSERT, [`${writer}.${number}.a`]);
        // A second row after other transactions had their chance to number theirs.
        await client.query("SELECT pg_sleep(random() * 0.004)");
        await client.query(INSERT, [`${writer}.${number}.b`]);
        await client.query(number % 5 === 0 ? "ROLLBACK" : "COMMIT");
      }
    });
  let writing = true;
  const written = Promise.all(Array.from({ length: writers }, (_, writer) => write(writer))).finally(() => {
    writing = false;
  });
  const seen: OutboxRow[] = [];
  const follow = async () => seen.push(...(await stores.vault.readOutbox(seen.at(-1)?.position, 7)));
  while (writing) await follow();
  await written;
  for (let before = -1; before < seen.length; await follow()) before = seen.length;
  const names = seen.map(({ name }) => name);
  expect(names).toHaveLength((writers * each * 2 * 4) / 5);
  expect(new Set(names).size).toBe(names.length);
});

/** A listener, and a promise for the moment when it has seen `names`. */
function listen(consumer: string, names: readonly string[], onError?: (error: unknown) => void) {
  const seen: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const listener = installation.stores.listen({
    epoch,
    consumer,
    onRows: async (rows) => {
      seen.push(...rows.map(({ name }) => name));
      if (names.every((name) => seen.includes(name))) resolve();
    },
    ...(onError === undefined ? {} : { onError }),
  });
  listeners.push(listener);
  return { listener, seen, complete: promise };
}

test("a listener gets what is written, and what was written while it was away", async () => {
  const { stores, database } = installation;
  const writer = { epoch };
  const first = listen("sync", ["one"]);
  await cursorOf("sync");
  await stores.vault.commitVersion(writer, nextVersion(identity("one")));
  await first.complete;
  await first.listener.stop();
  await stores.vault.commitVersion(writer, nextVersion(identity("two")));
  const second = listen("sync", ["two", "three"]);
  await stores.vault.commitVersion(writer, nextVersion(identity("three")));
  await second.complete;
  expect(second.seen).toEqual(["two", "three"]);
  await second.listener.stop();
  await withConnection(database, async (client) => {
    expect((await client.query("SELECT FROM outbox")).rowCount).toBe(0);
  });
});

test("rows stay until the slowest consumer has seen them", async () => {
  const { stores, database } = installation;
  const writer = { epoch };
  const slow = listen("slow", ["none"]);
  await cursorOf("slow");
  await slow.listener.stop();
  const fast = listen("fast", ["one"]);
  await cursorOf("fast");
  await stores.vault.commitVersion(writer, nextVersion(identity("one")));
  await fast.complete;
  await fast.listener.stop();
  await withConnection(database, async (client) => {
    expect((await client.query("SELECT FROM outbox")).rowCount).toBe(1);
  });
  await listen("slow", ["one"]).complete;
});

test("rows come again when the consumer failed", async () => {
  const { stores } = installation;
  const writer = { epoch };
  const attempts: string[][] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  listeners.push(
    stores.listen({
      epoch,
      consumer: "failing",
      onRows: async (rows) => {
        attempts.push(rows.map(({ name }) => name));
        if (attempts.length === 1) throw new Error("not this time");
        resolve();
      },
    }),
  );
  await cursorOf("failing");
  await stores.vault.commitVersion(writer, nextVersion(identity("one")));
  await promise;
  expect(attempts).toEqual([["one"], ["one"]]);
});

test("a listener outlives the end of its connections", async () => {
  const { stores, database } = installation;
  const writer = { epoch };
  const listening = listen("sync", ["one", "two"]);
  await cursorOf("sync");
  await stores.vault.commitVersion(writer, nextVersion(identity("one")));
  await withConnection(database, (client) =>
    client.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = user",
    ),
  );
  await eventually(() => stores.vault.commitVersion(writer, nextVersion(identity("two"))));
  await listening.complete;
});

test("a cursor from another server's past does not hide what is new", async () => {
  const { stores, database } = installation;
  const writer = { epoch };
  await withConnection(database, async (client) => {
    await client.query("INSERT INTO outbox_cursors (consumer, transaction, id) VALUES ('sync', '999999999', 7)");
    await client.query(
      "INSERT INTO outbox (transaction, secret_id, namespace, name) VALUES ('999999998', gen_random_uuid(), 'n', 'old')",
    );
  });
  const listening = listen("sync", ["new"]);
  await eventually(async () => {
    const { rows } = await withConnection(database, (client) =>
      client.query("SELECT FROM outbox_cursors WHERE transaction < '999999999'"),
    );
    expect(rows).toHaveLength(1);
  });
  await stores.vault.commitVersion(writer, nextVersion(identity("new")));
  await listening.complete;
  expect(listening.seen).toEqual(["new"]);
});

test("a leader whose term is over moves no cursor", async () => {
  const { stores } = installation;
  const fenced = Promise.withResolvers<unknown>();
  const { complete } = listen("sync", ["one"], fenced.resolve);
  await cursorOf("sync");
  const successor = { epoch: await stores.leadership.acquireEpoch("successor") };
  await stores.vault.commitVersion(successor, nextVersion(identity("one")));
  await complete;
  expect(await fenced.promise).toBeInstanceOf(Fenced);
  // The successor begins where the other one left off, and gets what the other one saw after its term.
  const seen = Promise.withResolvers<void>();
  listeners.push(stores.listen({ ...successor, consumer: "sync", onRows: async () => seen.resolve() }));
  await seen.promise;
});

/** Until the listener has stored where it begins. */
const cursorOf = (consumer: string): Promise<void> =>
  eventually(async () => {
    const { rowCount } = await withConnection(installation.database, (client) =>
      client.query("SELECT FROM outbox_cursors WHERE consumer = $1", [consumer]),
    );
    expect(rowCount).toBe(1);
  });

/** Repeats at once until it succeeds; the test's own time limit ends it. */
async function eventually(attempt: () => Promise<unknown>): Promise<void> {
  for (;;) {
    const [result] = await Promise.allSettled([attempt()]);
    if (result.status === "fulfilled") return;
  }
}
