/** Rotation of keys on a real database: killed anywhere and resumed, while others write, and with rows that somebody moved. */
import { spawn } from "node:child_process";
import { createSecretKey, randomUUID } from "node:crypto";
import { once } from "node:events";
import { Fenced } from "../../core/errors.ts";
import { KeyReplaced } from "../../core/ports/key-store.ts";
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import { Conflict, type SecretRecord, UNLED, type Writer } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { dataKeyContext, seal } from "../../core/vault/envelope.ts";
import { KeyRotation } from "../../core/vault/rotation.ts";
import { LocalRootKey } from "../rootkey/local-root-key.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const ROOT_KEY = Buffer.alloc(32, 5);
const NEXT_ROOT_KEY = Buffer.alloc(32, 6);
const ROTATOR = new URL("./testing/rotate.ts", import.meta.url).pathname;
const DAY_MS = 86_400_000;

let server: TestServer;
let installation: TestInstallation;
let writer: Writer;
const opened: TestInstallation[] = [];

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await reopened(await server.database());
  writer = { epoch: await installation.stores.leadership.acquireEpoch("test") };
  await installation.vault.prepareProject(writer, "payments");
});
afterEach(async () => {
  for (const { stores } of opened.splice(0)) await stores.close();
});
afterAll(() => server.stop());

/** A process of its own, with nothing in memory. */
async function reopened(database = installation.database, key = ROOT_KEY): Promise<TestInstallation> {
  const made = await openInstallation(database, new LocalRootKey("test", createSecretKey(key)));
  opened.push(made);
  return made;
}
const rotationOf = ({ stores: { keys, keyStore, vault } }: TestInstallation): KeyRotation =>
  new KeyRotation({ keys, store: keyStore, vault, ages: { installationMs: DAY_MS, projectMs: DAY_MS } });
const sql = (text: string) => withConnection(installation.database, (client) => client.query(text));

async function put({ vault }: TestInstallation, name: string, value: string): Promise<SecretRecord> {
  for (;;) {
    try {
      const { record } = await vault.put(UNLED, {
        identity: identity(name),
        seen: await vault.describe(identity(name)),
        entries: [{ key: "k", external: {} }],
        readers: undefined,
        values: new Map([["k", new Sensitive(value)]]),
        lifecycle: { ...lifecycle, keepVersions: 1_000 },
        actor,
      });
      return record;
    } catch (error) {
      // As every writer does: looks again when somebody was faster.
      if (!(error instanceof Conflict || error instanceof KeyReplaced)) throw error;
    }
  }
}
async function read({ vault }: TestInstallation, name: string, version?: number): Promise<string | undefined> {
  const record = await vault.describe(identity(name));
  if (record === undefined) throw new Error(`expected ${name}`);
  const { values } = await vault.open(record, { actor, purpose: "Test", ...(version !== undefined && { version }) });
  return values.get("k")?.reveal().toString();
}
/** Rows by the version of the key that wraps them. */
async function wrappedBy(): Promise<Record<string, number>> {
  const { rows } = await sql(`
    SELECT k.purpose || ' ' || k.version AS by, count(*)::integer AS rows
    FROM (SELECT project_key_id::text AS id FROM versions UNION ALL SELECT wrapped_by FROM keys WHERE retired_at IS NULL) w
    JOIN keys k ON k.id::text = w.id GROUP BY 1`);
  return Object.fromEntries(rows.map(({ by, rows: count }) => [by, count]));
}
async function actionsOf(prefix: string): Promise<Record<string, number>> {
  const { rows } = await sql(
    `SELECT action, count(*)::integer AS rows FROM audit WHERE action LIKE '${prefix}%' AND action <> 'KeyCreated' GROUP BY 1`,
  );
  return Object.fromEntries(rows.map(({ action, rows: count }) => [action, count]));
}

describe("a process that is killed while it rotates", () => {
  /** Ends at the failpoint; tells how. */
  async function killedAt(failpoint: string, what: string, input = ROOT_KEY): Promise<NodeJS.Signals | null> {
    const child = spawn(process.execPath, [ROTATOR, JSON.stringify(installation.database), `${writer.epoch}`, what], {
      env: { ...process.env, MAZEVAULT_FAILPOINT: failpoint },
      stdio: ["pipe", "ignore", "inherit"],
    });
    child.stdin.end(input);
    const [, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return signal;
  }

  const SECRETS = 1_100;
  /** Rows without values, as many as make three batches; and two with. */
  async function fill(): Promise<void> {
    await put(installation, "one", "first");
    await put(installation, "one", "second");
    const { stores } = installation;
    const { current } = await stores.keys.project(writer, "payments");
    const { installationId } = stores.keys;
    await withConnection(installation.database, async (client) => {
      await client.query(
        `INSERT INTO secrets SELECT gen_random_uuid(), project, environment, namespace, namespace_uid, 's' || n, state,
           current_version, generation, deletion_policy, soft_delete_ms, keep_versions, NULL, NULL, mac
         FROM secrets, generate_series(1, ${SECRETS}) AS n WHERE name = 'one'`,
      );
      const { rows } = await client.query<{ id: string; name: string }>(
        "SELECT id, name FROM secrets WHERE name <> 'one'",
      );
      const wrapped = rows.map(({ name }) =>
        seal(current.key, Buffer.alloc(32, 7), dataKeyContext(installationId, identity(name), 1, current.id)),
      );
      await client.query(
        `INSERT INTO versions (secret_id, version, wrapped_key, project_key_id)
         SELECT i, 1, w, $3 FROM unnest($1::uuid[], $2::bytea[]) AS t (i, w)`,
        [rows.map(({ id }) => id), wrapped, current.id],
      );
    });
  }

  test.each([
    ["rotation.afterKey", 0, [1, 2]],
    // The first batch is the sealing key alone.
    ["rotation.afterBatch:3", 1_000, [1, 2]],
    ["rotation.afterRetire", SECRETS + 2, [2]],
  ])("%s, after %i data keys: the next one wraps the others, and none twice", async (failpoint, done, versions) => {
    await fill();
    const before = await versionRows();
    expect(await killedAt(failpoint, "payments")).toBe("SIGKILL");
    const standing = await rotationOf(installation).find("payments");
    expect(standing?.versions.map(({ version }) => version)).toEqual(versions);
    const changed = await versionRows("WHERE entries_key_id IS NOT NULL");
    expect(changed.size).toBe(done);
    // Between the two everything opens.
    const between = await reopened();
    expect([await read(between, "one", 1), await read(between, "one")]).toEqual(["first", "second"]);
    await put(between, "one", "third");

    const next = await reopened();
    writer = { epoch: await next.stores.leadership.acquireEpoch("next") };
    const ended = versions.length === 1;
    expect(await rotationOf(next).rotate(writer, "payments", actor)).toBe(ended);
    expect(await rotationOf(next).advance(writer)).toMatchObject({ left: 0, stuck: 0, retired: 1 });
    const last = ended ? 3 : 2;
    // Its sealing key, three versions of the secret, and those without values.
    expect(await wrappedBy()).toMatchObject({ [`Project ${last}`]: 1 + 3 + SECRETS });
    expect((await wrappedBy())["Project 1"]).toBeUndefined();
    if (!ended) {
      const after = await versionRows();
      for (const [row, key] of before) expect(after.get(row)).not.toBe(key);
      for (const [row, key] of changed) expect(after.get(row)).toBe(key);
    }
    for (const each of [await reopened(), installation, between]) {
      expect([await read(each, "one", 1), await read(each, "one", 2)]).toEqual(["first", "second"]);
      expect(await read(each, "one")).toBe("third");
    }
    expect(await actionsOf("Key")).toEqual({ KeyRotated: last - 1, KeyRetired: last - 1 });
  });
  /** Wrapped data keys, by secret and version. */
  async function versionRows(where = ""): Promise<ReadonlyMap<string, string>> {
    const { rows } = await sql(
      `SELECT secret_id || ' ' || version AS row, encode(wrapped_key, 'hex') AS key FROM versions ${where}`,
    );
    return new Map(rows.map(({ row, key }) => [row, key]));
  }

  test.each(["rotation.afterKey", "rotation.afterBatch", "rotation.afterRetire"])(
    "%s, of the installation key",
    async (failpoint) => {
      await put(installation, "one", "value");
      await installation.stores.keys.pki(writer);
      expect(await killedAt(failpoint, "installation")).toBe("SIGKILL");
      expect(await read(await reopened(), "one")).toBe("value");
      const next = await reopened();
      writer = { epoch: await next.stores.leadership.acquireEpoch("next") };
      await rotationOf(next).advance(writer);
      const { rows } = await sql(
        "SELECT version, retired_at IS NULL AS used, length(wrapped) AS bytes FROM keys WHERE purpose = 'Installation' ORDER BY version",
      );
      expect(rows).toEqual([
        { version: 1, used: false, bytes: 0 },
        { version: 2, used: true, bytes: 60 },
      ]);
      expect((await wrappedBy())["Installation 1"]).toBeUndefined();
      for (const each of [await reopened(), installation]) {
        expect(await read(each, "one")).toBe("value");
        expect((await each.stores.keys.pki(writer)).current).toBeDefined();
        await put(each, "one", `value ${randomUUID()}`);
        await put(each, "one", "value");
      }
      expect(await installation.stores.audit.verify()).toMatchObject({ ok: true });
    },
  );

  test("rotation.afterRoot: each version opens with one of the two root keys, and who lacks one says which", async () => {
    await put(installation, "one", "value");
    const rotation = rotationOf(installation);
    await rotation.rotate(writer, undefined, actor);
    const both = Buffer.concat([NEXT_ROOT_KEY, ROOT_KEY]);
    const [former, next] = [ROOT_KEY, NEXT_ROOT_KEY].map((key) => new LocalRootKey("test", createSecretKey(key)));
    if (former === undefined || next === undefined) throw new Error("expected two root keys");
    expect(await killedAt("rotation.afterRoot", "root", both)).toBe("SIGKILL");
    await expect(reopened()).rejects.toThrow(
      `version 1 of the installation's key was wrapped by root key ${next.id}, which is missing: the test given is ${former.id}`,
    );
    await expect(reopened(undefined, NEXT_ROOT_KEY)).rejects.toThrow(
      `version 2 of the installation's key was wrapped by root key ${former.id}, which is missing`,
    );
    // It ran to its end this time.
    expect(await killedAt("none", "root", both)).toBeNull();
    expect(await read(await reopened(undefined, NEXT_ROOT_KEY), "one")).toBe("value");
    await expect(reopened()).rejects.toMatchObject({ code: "KeyUnavailable" });
    expect(await actionsOf("Keys")).toEqual({ KeysRewrapped: 2 });
  });
});

test("while five replicas write, keys are rotated again and again, and every value opens afterwards", async () => {
  const replicas = await Promise.all([1, 2, 3, 4, 5].map(() => reopened()));
  let stopped = false;
  const written = replicas.map(async (replica, n) => {
    let round = 0;
    while (!stopped) {
      round += 1;
      await put(replica, `s${n}`, `value ${round}`);
      // Read by one that did not write it.
      const other = replicas[(n + 1) % replicas.length] ?? replica;
      expect(await read(other, `s${n}`)).toBe(`value ${round}`);
    }
    return round;
  });
  const rotation = rotationOf(installation);
  for (let round = 0; round < 6; round += 1) {
    const asking = rotationOf(replicas[round % replicas.length] ?? installation);
    expect(await asking.rotate(UNLED, round % 3 === 2 ? undefined : "payments", actor)).toBe(true);
    while ((await rotation.advance(writer)).retired === 0);
  }
  stopped = true;
  const rounds = await Promise.all(written);
  expect((await rotation.find("payments"))?.versions.map(({ version }) => version)).toEqual([5]);
  expect((await rotation.find())?.versions.map(({ version }) => version)).toEqual([3]);
  const fresh = await reopened();
  for (const [n, last] of rounds.entries()) {
    for (let round = 1; round <= last; round += 1) expect(await read(fresh, `s${n}`, round)).toBe(`value ${round}`);
  }
  expect(await fresh.stores.audit.verify()).toMatchObject({ ok: true });
});

test("a version that was about to be written with the former key is seen before that is retired", async () => {
  await put(installation, "one", "value");
  const rotation = rotationOf(installation);
  const [version] = (await rotation.find("payments"))?.versions ?? [];
  await withConnection(installation.database, async (client) => {
    // One that checked already that its key is the newest, and has not committed.
    await client.query("BEGIN");
    await client.query("SELECT fence_led(NULL)");
    await client.query(
      `INSERT INTO versions (secret_id, version, wrapped_key, project_key_id)
       SELECT secret_id, 2, wrapped_key, project_key_id FROM versions`,
    );
    expect(await rotation.rotate(UNLED, "payments", actor)).toBe(true);
    const advanced = rotation.advance(writer);
    await blocked(client);
    await client.query("COMMIT");
    // It was written too late for the batch, and keeps the key for the next.
    expect((await advanced).retired).toBe(0);
  });
  expect((await rotation.find("payments"))?.versions[0]).toMatchObject({ id: version?.id, left: 1 });
});

test("a version that cannot be retired makes no writer wait", async () => {
  await put(installation, "one", "value");
  await sql("UPDATE versions SET wrapped_key = '\\x00'");
  const rotation = rotationOf(installation);
  await rotation.rotate(writer, "payments", actor);
  await withConnection(installation.database, async (client) => {
    // A long transaction of a writer: the lock that each of them shares is not to be had alone.
    await client.query("BEGIN");
    await client.query("SELECT fence_led(NULL)");
    expect(await rotation.advance(writer)).toEqual({ left: 1, stuck: 1, retired: 0 });
  });
});

/** Until somebody waits for this connection. */
async function blocked(client: Parameters<Parameters<typeof withConnection>[1]>[0]): Promise<void> {
  // pg_stat_activity would say for the whole transaction what it said first, without who connected since.
  const waiting =
    "SELECT count(*)::integer AS n FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))";
  while ((await client.query<{ n: number }>(waiting)).rows[0]?.n === 0);
}

test("a leader that is none any more changes nothing", async () => {
  await put(installation, "one", "value");
  const rotation = rotationOf(installation);
  await rotation.rotate(writer, "payments", actor);
  await installation.stores.leadership.acquireEpoch("another");
  const before = await wrappedBy();
  await expect(rotation.advance(writer)).rejects.toThrow(Fenced);
  await expect(rotation.replaceRoot(writer)).resolves.toBe(0);
  expect(await wrappedBy()).toEqual(before);
});

describe("what was wrapped anew opens in its own place only", () => {
  beforeEach(async () => {
    for (const name of ["one", "two"]) {
      await put(installation, name, `${name} 1`);
      await put(installation, name, `${name} 2`);
    }
    const rotation = rotationOf(installation);
    await rotation.rotate(writer, "payments", actor);
    await rotation.advance(writer);
    expect(await read(await reopened(), "one")).toBe("one 2");
  });

  const of = (name: string, version: number) =>
    `(v.version = ${version} AND v.secret_id = (SELECT id FROM secrets WHERE name = '${name}'))`;
  test.each([
    [
      "the data key of another secret",
      `UPDATE versions v SET wrapped_key = o.wrapped_key FROM versions o JOIN secrets s ON s.id = o.secret_id
       WHERE s.name = 'two' AND o.version = 2 AND ${of("one", 2)}`,
    ],
    [
      "the data key of another version",
      `UPDATE versions v SET wrapped_key = o.wrapped_key FROM versions o
       WHERE o.secret_id = v.secret_id AND o.version = 1 AND ${of("one", 2)}`,
    ],
    [
      "another key that its entries are bound to",
      `UPDATE versions v SET entries_key_id = project_key_id WHERE ${of("one", 2)}`,
    ],
    ["none", `UPDATE versions v SET entries_key_id = NULL WHERE ${of("one", 2)}`],
    [
      "entries of another version",
      `UPDATE entries v SET ciphertext = o.ciphertext FROM entries o
       WHERE o.secret_id = v.secret_id AND o.version = 1 AND ${of("one", 2)}`,
    ],
  ])("with %s it does not", async (_, change) => {
    expect((await sql(change)).rowCount).toBe(1);
    const other = await reopened();
    await expect(read(other, "one")).rejects.toMatchObject({ code: "TamperDetected" });
    expect(await read(other, "two")).toBe("two 2");
  });

  test("a key of the hierarchy neither", async () => {
    const rotation = rotationOf(installation);
    await rotation.rotate(writer, undefined, actor);
    await rotation.advance(writer);
    await installation.vault.prepareProject(writer, "orders");
    await sql(`UPDATE keys k SET wrapped = o.wrapped FROM keys o
               WHERE k.purpose = 'Project' AND k.scope = 'payments' AND k.retired_at IS NULL
                 AND o.purpose = 'Project' AND o.scope = 'orders'`);
    await expect(read(await reopened(), "one")).rejects.toMatchObject({ code: "TamperDetected" });
  });
});
