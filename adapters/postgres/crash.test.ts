import { Unavailable } from "../../core/errors.ts";
import { actor, auditEntry, identity, lifecycle, nextVersion } from "../../core/ports/samples.ts";
import type { SecretRecord, Writer } from "../../core/ports/vault-store.ts";
import { until } from "../../lab/poll.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;
let writer: Writer;

beforeAll(async () => {
  server = await startServer(true);
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  writer = { epoch: await installation.stores.leadership.acquireEpoch("test") };
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

/** Repeats at once until it succeeds; the test's own time limit ends it. */
async function eventually<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    const [result] = await Promise.allSettled([attempt()]);
    if (result.status === "fulfilled") return result.value;
    expect(result.reason).toMatchObject({ code: "DatabaseUnavailable" });
  }
}

test("acknowledged versions survive kill -9 of PostgreSQL, and none is doubled", async () => {
  const { vault, database } = installation;
  const acknowledged = new Map<string, number>();
  let stopped = false;
  const { promise: busy, resolve: isBusy } = Promise.withResolvers<void>();
  const write = async (name: string) => {
    for (let round = 1; !stopped; round += 1) {
      const value = `${name} ${round}`;
      const [result] = await Promise.allSettled([
        vault.describe(identity(name)).then((seen) =>
          vault.store(writer, {
            identity: identity(name),
            seen,
            entries: [{ key: "value", literal: value }],
            sources: new Map(),
            lifecycle: { ...lifecycle, keepVersions: 1_000 },
            actor,
          }),
        ),
      ]);
      if (result.status === "rejected") {
        expect(result.reason).toBeInstanceOf(Unavailable);
        expect(result.reason).toMatchObject({ code: "DatabaseUnavailable" });
        return;
      }
      acknowledged.set(name, result.value.record.currentVersion);
      if (acknowledged.size === 8 && round > 10) isBusy();
    }
  };
  const writers = Promise.all(Array.from({ length: 8 }, (_, n) => write(`s${n}`)));
  await busy;
  await server.postgres.process.kill();
  await writers;
  stopped = true;
  await server.postgres.process.ready();
  for (const [name, version] of acknowledged) {
    const record = await eventually(() => vault.describe(identity(name)));
    if (record === undefined) throw new Error("an acknowledged secret is gone");
    // One more may have been committed without its acknowledgement arriving, never two.
    expect(record.currentVersion - version).toBeGreaterThanOrEqual(0);
    expect(record.currentVersion - version).toBeLessThanOrEqual(1);
    const versions = await installation.stores.vault.listVersions(record.id);
    expect(versions.map((each) => each.version)).toEqual(
      Array.from({ length: record.currentVersion }, (_, n) => record.currentVersion - n),
    );
    expect((await vault.open(record, { actor, purpose: "Test" })).values.size).toBe(1);
  }
  expect(await installation.stores.audit.verify()).toMatchObject({ ok: true });
  await withConnection(database, async (client) => {
    const { rows } = await client.query("SELECT sum(generation) AS pointers FROM secrets");
    const { rows: created } = await client.query(
      "SELECT count(*) AS pointers FROM audit WHERE action = 'SecretVersionCreated'",
    );
    expect(rows).toEqual(created);
  });
});

test("a transaction whose backend is killed leaves nothing behind", async () => {
  const { stores, database } = installation;
  await withConnection(database, async (client) => {
    await client.query("BEGIN");
    await client.query("SELECT fence($1)", [writer.epoch]);
    await client.query("INSERT INTO outbox (secret_id, namespace, name) VALUES (gen_random_uuid(), 'n', 'lost')");
    const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
    const ended = new Promise((resolve) => client.once("end", resolve));
    process.kill(rows[0]?.pid ?? Number.NaN, "SIGKILL");
    await ended;
  });
  expect(await eventually(() => stores.vault.readOutbox(undefined, 10))).toEqual([]);
  // The lock of the fence went with it.
  expect(await eventually(() => stores.leadership.acquireEpoch("next"))).toBe(writer.epoch + 1n);
});

test("while PostgreSQL does not answer, everything is unavailable in bounded time and heals by itself", async () => {
  const { stores, database } = installation;
  server.postgres.process.autoRestart = false;
  const backends = await withConnection(database, async (client) => {
    const { rows } = await client.query<{ pid: number }>("SELECT pid FROM pg_stat_activity");
    return rows.map(({ pid }) => pid);
  });
  await server.postgres.process.kill();
  // They outlive their parent for a moment, and answer.
  await until("every backend is gone", () => !backends.some(isAlive), { timeoutMs: 10_000, intervalMs: 5 });
  const attempts = await Promise.allSettled([
    stores.vault.find(identity("one")),
    stores.vault.commitVersion(writer, nextVersion(identity("one"))),
    stores.audit.append([auditEntry("id")]),
    stores.audit.link(writer.epoch, 10),
    stores.audit.verify(),
    stores.leadership.acquireEpoch("next"),
    stores.sync.items("rule"),
    installation.vault.prepareProject(writer, "orders"),
  ]);
  for (const attempt of attempts) {
    expect(attempt).toMatchObject({ status: "rejected", reason: { code: "DatabaseUnavailable" } });
  }
  server.postgres.process.autoRestart = true;
  await server.postgres.process.start();
  await eventually(() => stores.vault.commitVersion(writer, nextVersion(identity("one"))));
  expect(await stores.vault.find(identity("one"))).toBeDefined();
  await installation.vault.prepareProject(writer, "orders");
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("no value leaves without its audit row", () => {
  let record: SecretRecord;
  const open = () => installation.vault.open(record, { actor, purpose: "Test" });
  const rowsOfReads = async () =>
    (await installation.stores.audit.read({ action: "SecretRead" }, undefined, 100)).length;

  beforeEach(async () => {
    const given = {
      identity: identity("one"),
      seen: undefined,
      entries: [{ key: "value", literal: "value" }],
      sources: new Map(),
      lifecycle,
      actor,
    };
    ({ record } = await eventually(() => installation.vault.store(writer, given)));
  });

  test("when the table refuses it", async () => {
    await withConnection(installation.database, (client) =>
      client.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()`),
    );
    await expect(open()).rejects.toMatchObject({ code: "Failed", message: expect.stringContaining("SQLSTATE P0001") });
  });

  test("when PostgreSQL stalls while it is written, in bounded time", async () => {
    await withConnection(installation.database, async (client) => {
      await client.query("BEGIN");
      await client.query("LOCK TABLE audit IN EXCLUSIVE MODE");
      // As many readers as there are; all of them are told.
      const readers = await Promise.allSettled(Array.from({ length: 20 }, open));
      for (const each of readers) {
        expect(each).toMatchObject({ status: "rejected", reason: { code: "DatabaseUnavailable" } });
      }
      await client.query("ROLLBACK");
    });
    expect(await rowsOfReads()).toBe(0);
    expect((await open()).values.size).toBe(1);
    expect(await rowsOfReads()).toBe(1);
  });

  test("and each has one while the linker is killed, whose successor links them all", async () => {
    const { audit } = installation.stores;
    await audit.link(writer.epoch, 1_000);
    await withConnection(installation.database, async (client) => {
      await client.query("BEGIN");
      await client.query("SELECT FROM audit_head FOR UPDATE");
      for (let read = 0; read < 3; read += 1) await open();
      const linking = expect(audit.link(writer.epoch, 1_000)).rejects.toMatchObject({ code: "DatabaseUnavailable" });
      // It has linked the rows, and waits to move the head.
      const killed = () =>
        client.query<{ ended: boolean }>(
          "SELECT pg_terminate_backend(pid) AS ended FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))",
        );
      while ((await killed()).rowCount === 0);
      await linking;
      expect((await open()).values.size).toBe(1);
      await client.query("ROLLBACK");
    });
    expect(await audit.verify()).toMatchObject({ ok: true, unlinked: 4 });
    const epoch = await installation.stores.leadership.acquireEpoch("next");
    expect(await audit.link(epoch, 1_000)).toBe(5);
    await audit.checkpoint(epoch, { rows: 1, ms: 0 });
    expect(await audit.verify()).toMatchObject({ ok: true, checkpoints: 1 });
    expect(await rowsOfReads()).toBe(4);
  });
});
