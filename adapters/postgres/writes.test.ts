/** Writes of a gateway on two real databases: its own, and that of the primary, which is restored from a backup. */
import { randomBytes, randomUUID } from "node:crypto";
import { GatewayWrites } from "../../core/fleet/gateway-writes.ts";
import { QueuedWrites, WriteQueueFull } from "../../core/fleet/queued-writes.ts";
import { ALICE, MEMBER, sensitive } from "../../core/fleet/testing/writes-world.ts";
import { WriteDrain } from "../../core/fleet/write-drain.ts";
import { WRITES_PATH, type WritesRequest } from "../../core/fleet/writes.ts";
import type { PrimaryLink } from "../../core/ports/primary-link.ts";
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import { UNLED, type Writer } from "../../core/ports/vault-store.ts";
import { Vault } from "../../core/vault/vault.ts";
import { until } from "../../lab/poll.ts";
import { type Database, withClient } from "../../lab/postgres/database.ts";
import type { DatabaseOptions } from "./database.ts";
import type { HintListener } from "./hint-listener.ts";
import { openStores, type Stores } from "./stores.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const SECRETS = Array.from({ length: 10 }, (_, index) => `s${index}`);
const RECIPIENT = { gatewayEnvironment: MEMBER.environment, rootDigest: Buffer.alloc(32, 1) };
/** Of the primary, where each look is minutes after the one before it. */
let elapsedMs = 0;

let server: TestServer;
let gateway: TestInstallation;
let primary: TestInstallation;
let database: Database;
let backup: string;
let writer: Writer;
let writes: QueuedWrites;
let drain: WriteDrain;
let hints: HintListener;
let requests: WritesRequest[];
/** Requests that are done, and whose answers are lost. */
let lost = 0;
let served: GatewayWrites | undefined;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  gateway = await openInstallation(await server.database());
  database = (await server.database()) as Database;
  primary = await openInstallation(database);
  backup = `${database.database}_backup`;
  await primary.vault.prepareProject(
    { epoch: await primary.stores.leadership.acquireEpoch("primary") },
    identity("one").project,
  );
  for (const name of SECRETS) await put(name, "first");
  writer = { epoch: await gateway.stores.leadership.acquireEpoch("gateway") };
  await gateway.stores.keys.pki(writer);
  writes = new QueuedWrites({
    store: gateway.stores.writeQueue,
    keys: gateway.stores.keys,
    recipient: () => RECIPIENT,
    most: 2_000,
  });
  hints = gateway.stores.listenWrites({ onHint: () => writes.hint() });
  drain = draining(gateway.stores);
  [requests, lost, served] = [[], 0, undefined];
});
afterEach(async () => {
  await hints.stop();
  await gateway.stores.close();
  await primary.stores.close();
});
afterAll(() => server.stop());

const request = (name: string, value: string) => ({
  identity: identity(name),
  entries: [{ key: "password", external: {} }],
  readers: undefined,
  lifecycle: { ...lifecycle, keepVersions: 1_000 },
  values: sensitive({ password: value }),
  actor,
});

async function put(name: string, value: string): Promise<void> {
  await primary.vault.put(UNLED, { ...request(name, value), seen: await primary.vault.describe(identity(name)) });
}

const serving = ({ stores, vault }: Pick<TestInstallation, "stores" | "vault">): GatewayWrites =>
  new GatewayWrites({
    handled: stores.handledWrites,
    vault,
    secrets: {
      find: ({ name }) => (SECRETS.includes(name) ? { ...request(name, ""), appliedUsername: undefined } : undefined),
    },
    keys: stores.keys,
    isRecovering: () => false,
    elapsed: () => {
      elapsedMs += 180_000;
      return elapsedMs;
    },
    onProblem: (error) => {
      throw error;
    },
  });

const link: PrimaryLink = {
  async ask(path, body) {
    served ??= serving(primary);
    const at = served;
    const given = JSON.parse(JSON.stringify(body)) as WritesRequest & { ids: string[] };
    if (path !== WRITES_PATH) return { status: 200, body: { forgotten: await at.forgotten(MEMBER, given.ids) } };
    requests.push(given);
    const answer = await at.apply(MEMBER, given);
    lost -= 1;
    return lost >= 0 ? { status: 503, body: {} } : { status: 200, body: answer };
  },
};

const draining = ({ writeQueue: store, keys }: Pick<Stores, "writeQueue" | "keys">): WriteDrain =>
  new WriteDrain({
    store,
    keys,
    link,
    recipient: () => RECIPIENT,
    revoked: () => false,
    elapsed: () => performance.now(),
    onPaused: () => {},
  });

async function accept(name: string, value: string, version = 1): Promise<string> {
  const id = (await primary.vault.describe(identity(name)))?.id ?? randomUUID();
  const secret = { ...identity(name), id, version };
  const by = { kind: "Subject", subject: "alice", via: "Token", session: "s" } as const;
  const given = { who: ALICE, actor: by, secret, values: sensitive({ password: value }), idempotencyKey: undefined };
  return (await writes.accept(given)).id;
}

async function settle(): Promise<void> {
  const { signal } = new AbortController();
  await until(
    "nothing waits",
    async () => {
      while (await drain.turn(writer, signal));
      return (await gateway.stores.writeQueue.length(RECIPIENT)).waiting === 0;
    },
    { timeoutMs: 60_000, intervalMs: 20 },
  );
}

async function history(name: string): Promise<readonly string[]> {
  const record = await primary.vault.describe(identity(name));
  if (record === undefined) return [];
  const versions = await primary.vault.versions(record);
  const values = await Promise.all(
    versions
      .toReversed()
      .map(async ({ version }) => (await primary.vault.open(record, { version, actor, purpose: "Test" })).values),
  );
  return values.map((each) => each.get("password")?.revealText() ?? "");
}

const administer = (sql: string) => withClient(server.postgres.superuser, (client) => client.query(sql));

/** Closes the primary, changes its databases, and starts it again. */
async function whileClosed(change: () => Promise<unknown>): Promise<void> {
  await primary.stores.close();
  served = undefined;
  await change();
  const stores = await openStores(database, primary.root);
  primary = { ...primary, stores, vault: new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit }) };
}

test("a primary that is restored from a backup gets again what it has lost, in order, and nothing twice", async () => {
  for (const name of SECRETS) for (const n of [1, 2]) await accept(name, `${name} ${n}`);
  await settle();
  await whileClosed(() => administer(`CREATE DATABASE ${backup} TEMPLATE ${database.database} OWNER ${database.user}`));
  for (const name of SECRETS) for (const n of [3, 4]) await accept(name, `${name} ${n}`);
  await settle();
  await accept("s0", "s0 5");
  await whileClosed(async () => {
    await administer(`DROP DATABASE ${database.database}`);
    await administer(`CREATE DATABASE ${database.database} TEMPLATE ${backup} OWNER ${database.user}`);
  });
  expect(await history("s0")).toEqual(["first", "s0 1", "s0 2"]);
  await settle();
  for (const name of SECRETS) {
    const own = [1, 2, 3, 4, ...(name === "s0" ? [5] : [])].map((n) => `${name} ${n}`);
    expect(await history(name)).toEqual(["first", ...own]);
  }
  const { rows } = await withConnection(gateway.database, (client) =>
    client.query("SELECT details ->> 'count' AS count FROM audit WHERE action = 'WritesRequeued'"),
  );
  expect(rows).toEqual([{ count: "20" }]);
});

test("a thousand writes go in few requests, and once, though answers are lost and requests repeated at once", async () => {
  const ids: string[] = [];
  const numbers = Array.from({ length: 100 }, (_, n) => n);
  const acceptAll = async (name: string): Promise<void> => {
    for (const n of numbers) ids.push(await accept(name, `${name} ${n}`));
  };
  await Promise.all(SECRETS.map(acceptAll));
  lost = 1;
  await expect(drain.turn(writer, new AbortController().signal)).rejects.toMatchObject({ code: "PrimaryUnreachable" });
  const repeated = requests[0] ?? { settled: [], writes: [] };
  const other = await openStores(database, primary.root);
  try {
    const vault = new Vault({ store: other.vault, keys: other.keys, audit: other.audit });
    drain = draining(gateway.stores);
    const replicas = [serving(primary), serving({ stores: other, vault })];
    const beside = Promise.all(replicas.map((each) => each.apply(MEMBER, repeated)));
    await Promise.all([settle(), beside]);
    const [one, two] = await beside;
    expect(two).toEqual(one);
  } finally {
    await other.close();
  }
  expect(requests.length).toBeLessThan(15);
  for (const name of SECRETS) expect((await primary.vault.describe(identity(name)))?.currentVersion).toBe(101);
  expect(await history("s7")).toEqual(["first", ...numbers.map((n) => `s7 ${n}`)]);
  expect(await gateway.stores.writeQueue.find(ids.at(-1) ?? "")).toMatchObject({ state: "Applied" });
});

test("whoever waits hears of the answer from the replica that leads", async () => {
  const id = await accept("s0", "new");
  const heard = writes.settled(id, 30_000, new AbortController().signal);
  await settle();
  expect(await heard).toMatchObject({ state: "Applied", outcome: { version: 2, changed: ["password"] } });
  expect(await writes.settled(await accept("s0", "newer"), 0, new AbortController().signal)).toMatchObject({
    state: "Waiting",
  });
});

test("over the bound writes are refused, and none that was accepted is lost", async () => {
  writes = new QueuedWrites({
    store: gateway.stores.writeQueue,
    keys: gateway.stores.keys,
    recipient: () => RECIPIENT,
    most: 3,
  });
  const said = await Promise.allSettled(Array.from({ length: 6 }, (_, n) => accept("s1", `value ${n}`)));
  expect(said.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  for (const each of said) if (each.status === "rejected") expect(each.reason).toBeInstanceOf(WriteQueueFull);
  await settle();
  expect(await history("s1")).toHaveLength(4);
  await accept("s1", "again");
});

test("rows that were changed by hand are not believed, and hold up no other secret", async () => {
  const sql = (of: DatabaseOptions, text: string) => withConnection(of, (client) => client.query(text));
  await accept("s1", "moved");
  await accept("s2", "good");
  await sql(gateway.database, "UPDATE queued_writes SET name = 's3' WHERE name = 's1'");
  for (const [name, change] of [
    ["s5", "subject = 'LocalUser mallory@example.com'"],
    ["s6", "project = 'other'"],
    ["s7", "secret_id = gen_random_uuid()"],
    ["s8", "namespace_uid = 'another'"],
  ]) {
    await accept(name ?? "", "moved");
    await sql(gateway.database, `UPDATE queued_writes SET ${change} WHERE name = '${name}'`);
  }
  await drain.turn(writer, new AbortController().signal);
  expect([await history("s2"), await history("s3")]).toEqual([["first", "good"], ["first"]]);
  expect((await gateway.stores.writeQueue.length(RECIPIENT)).waiting).toBe(5);
  await sql(primary.database, `UPDATE gateway_writes SET outcome = '{"kind":"KeptBeside"}'`);
  await accept("s4", "next");
  await expect(
    serving(primary).forgotten(MEMBER, await gateway.stores.writeQueue.lastSettled(RECIPIENT, 10)),
  ).rejects.toMatchObject({
    code: "TamperDetected",
  });
});

test("no row of either database shows a value", async () => {
  const canary = `canary/ö"${randomBytes(16).toString("hex")}`;
  const bytes = Buffer.from(canary);
  await accept("s0", canary);
  await accept("gone", canary);
  await withConnection(gateway.database, (client) =>
    client.query("UPDATE queued_writes SET accepted_at = accepted_at - interval '1 minute' WHERE name = 'gone'"),
  );
  await accept("s1", canary);
  const dump = (of: DatabaseOptions): Promise<string> =>
    withConnection(of, async (client) => {
      const { rows: tables } = await client.query<{ name: string }>(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'mazevault'",
      );
      const texts: string[] = [];
      for (const { name } of tables) {
        const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM "${name}" t`);
        texts.push(...rows.map(({ row }) => row));
      }
      return texts.join("\n");
    });
  await settle();
  const both = (await dump(gateway.database)) + (await dump(primary.database));
  expect(both).toContain("there is no such Secret");
  const middle = bytes.subarray(8, 38);
  for (const form of [canary, JSON.stringify(canary).slice(1, -1), bytes.toString("hex"), middle.toString("hex")])
    expect(both).not.toContain(form);
  for (const offset of [0, 1, 2]) {
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString("base64")
      .slice(4, -4);
    for (const form of [shifted, Buffer.from(shifted).toString("hex")]) expect(both).not.toContain(form);
  }
});
