/** Generated entries get new values by a timetable and on request: once each, also when operators die over it. */
import type { Operator } from "../lab/mazevault.ts";
import { azure } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { consumerManifest, pushManifests } from "./chaos/manifests.ts";
import {
  conditionOf,
  decoded,
  difference,
  type KubernetesObject,
  leaderOf,
  secretManifest,
  startWorld,
  type World,
} from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const SECRET = "secret.mazevault.io";
const ASKED = "asked";
const DUE = "due";
/** Due in the same moment, so that an operator dies in the middle of them. */
const MANY = 60;
const [vault] = azure.vaults;
const soon = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let operators: Operator[];
/** When all of `DUE` are. */
let due: Date;

const nameOf = (index: number): string => `s-${String(index).padStart(2, "0")}`;
const names = Array.from({ length: MANY }, (_, index) => nameOf(index));

const entries = [
  { key: "user", literal: "orders" },
  { key: "salt", generate: { kind: "Hex" } },
  { key: "password", generate: { kind: "Password" } },
  { key: "url", template: "pg://{{ user }}:{{ password | url_encode }}@db" },
];

beforeAll(async () => {
  world = await startWorld();
  const config = { kubernetes: { leaseDurationMs: 9_000 } };
  operators = [];
  for (const name of ["first", "second"]) operators.push(await world.mazevault.startOperator({ name, config }));
  await world.tenant(ASKED, DUE, "marker");
  // What is asked for in the minute of its time is due an hour later: all must be stored before.
  due = new Date(Math.ceil((Date.now() + 45_000) / 60_000) * 60_000);
  const rotation = { schedule: `${due.getUTCMinutes()} * * * *`, keys: ["password"] };
  await world.apply(
    ...names.map((name) => secretManifest(DUE, name, { entries, rotation, deliver: { restartConsumers: true } })),
    consumerManifest(DUE, "one", nameOf(0)),
    ...pushManifests(world.mazevault, ASKED, "10s"),
    consumerManifest(ASKED, "one", "orders"),
  );
  for (const name of names) {
    const { status } = await world.waitReady(SECRET, name, DUE);
    expect(status).toMatchObject({ version: 1, nextRotationTime: toSeconds(due) });
  }
  expect(Date.now()).toBeLessThan(due.getTime());
});

afterAll(() => world?.stop());

const toSeconds = (time: Date): string => `${time.toISOString().slice(0, 19)}Z`;
const core = async (namespace: string, name: string) => decoded(await world.get("secret", name, namespace));
const generationOf = async (namespace: string) => (await world.get("deployment", "one", namespace)).metadata.generation;
const inVault = async (name: string) =>
  ((await world.mazevault.keyVault.control.secrets(vault)).find((each) => each.name === name)?.versions ?? []).map(
    ({ value }) => value,
  );
const rotations = (namespace: string) =>
  world.sql<{ name: string; actor: { kind: string; uid?: string }; details: Record<string, unknown> }>(
    `SELECT subject_name AS name, actor, details FROM audit
     WHERE action = 'SecretRotated' AND subject_name LIKE $1 ORDER BY sequence`,
    [`${namespace}/%`],
  );

const orders = (token?: string) => ({
  ...secretManifest(ASKED, "orders", { entries, deliver: { restartConsumers: true } }),
  metadata: {
    name: "orders",
    namespace: ASKED,
    ...(token !== undefined && { annotations: { "mazevault.io/rotate": token } }),
  },
});
const handled = (token: string) =>
  world.waitFor(SECRET, "orders", ASKED, ({ status }) => status?.lastHandledRotate === token);

describe("what is due", () => {
  test("is done once by whoever leads, though the leader dies in the middle of it", async () => {
    const before = await delivered();
    const leader = await leaderOf(world, operators);
    await until("the leader is in the middle of it", async () => (await rotations(DUE)).length >= MANY / 10, {
      timeoutMs: 180_000,
      intervalMs: 5,
    });
    await leader.process.kill();
    const done = (await rotations(DUE)).length;
    expect(done).toBeLessThan(MANY);
    for (const name of names) await world.waitFor(SECRET, name, DUE, isDone, 60_000);

    const rows = await rotations(DUE);
    expect(rows.map(({ name }) => name).sort()).toEqual(names.map((name) => `${DUE}/${name}`));
    for (const { details } of rows) {
      expect(details).toMatchObject({ version: 2, cause: "Timetable", due: due.toISOString(), made: "password,url" });
    }
    const after = await delivered();
    for (const name of names) {
      const [old, now] = [before.get(name), after.get(name)];
      expect(now?.password).not.toBe(old?.password);
      expect(now).toEqual({
        ...old,
        password: now?.password,
        url: `pg://orders:${encodeURIComponent(now?.password ?? "")}@db`,
      });
    }
    expect(await generationOf(DUE)).toBe(2);
  });

  test("is not done again by the next leader, which writes nothing", async () => {
    const state = await written(DUE);
    await handOver();
    expect(difference(state, await written(DUE))).toEqual([]);
    const next = toSeconds(new Date(due.getTime() + 3_600_000));
    for (const { status } of await world.list(SECRET, DUE))
      expect(status).toMatchObject({ version: 2, nextRotationTime: next });
  });

  test("by a period is told, and adding or changing one rotates nothing", async () => {
    const periodic = (rotation?: object) => secretManifest(DUE, "periodic", { entries, rotation, deliver: {} });
    await world.apply(periodic());
    await world.waitReady(SECRET, "periodic", DUE);
    for (const hours of [2, 1, 720]) {
      const from = Date.now();
      await world.apply(periodic({ every: `${hours}h` }));
      const { status } = await world.waitReady(SECRET, "periodic", DUE);
      const next = Date.parse(String(status?.nextRotationTime));
      expect(next - from).toBeGreaterThan(hours * 3_600_000 - Math.min(hours / 10, 1) * 3_600_000 - 1_000);
      expect(next).toBeLessThanOrEqual(Date.now() + hours * 3_600_000);
      expect(status).toMatchObject({ version: 1 });
    }
    const [row] = await world.sql<{ count: number }>(
      "SELECT count(*)::int AS count FROM audit WHERE action = 'SecretRotationChanged' AND subject_name = $1",
      [`${DUE}/periodic`],
    );
    expect(row?.count).toBe(3);
  });

  test("is told where it never comes, and goes on when that is corrected", async () => {
    const never = (schedule: string) => secretManifest(DUE, "never", { entries, rotation: { schedule }, deliver: {} });
    await world.apply(never("0 3 31 2 *"));
    const told = await world.waitFor(SECRET, "never", DUE, (it) => conditionOf(it, "Stalled")?.status === "True");
    expect(conditionOf(told, "Rotated")).toMatchObject({ status: "False", reason: "RotationInvalid" });
    expect(conditionOf(told, "Delivered")).toMatchObject({ status: "True" });
    await world.apply(never("0 3 29 2 *"));
    const { status } = await world.waitReady(SECRET, "never", DUE);
    expect(status).toMatchObject({ version: 1, nextRotationTime: expect.stringMatching(/-02-29T03:00:00Z$/) });
  });
});

describe("what a person asks for", () => {
  test("by an annotation is done once for each token, delivered, pushed, and restarts its users once", async () => {
    await world.apply(orders("first"));
    // Its values are new, so there is nothing to be done about a token that stands there from the beginning.
    expect((await handled("first")).status).toMatchObject({ version: 1 });
    await world.waitReady(SECRET, "orders", ASKED);
    const before = await core(ASKED, "orders");
    await until("it is pushed", async () => (await inVault("orders--url")).length === 1, soon);

    await world.apply(orders("second"));
    const { status, metadata } = await handled("second");
    expect(status).toMatchObject({ version: 2, lastRotationTime: expect.any(String) });
    expect(status).not.toHaveProperty("nextRotationTime");
    const after = await core(ASKED, "orders");
    expect(after).toEqual({
      user: "orders",
      salt: expect.stringMatching(/^[0-9a-f]{64}$/),
      password: expect.any(String),
      url: `pg://orders:${encodeURIComponent(after.password ?? "")}@db`,
    });
    for (const key of ["salt", "password"]) expect(after[key]).not.toBe(before[key]);
    expect(await generationOf(ASKED)).toBe(2);
    await until("it is pushed", async () => (await inVault("orders--url")).length === 2, soon);
    expect(await inVault("orders--password")).toEqual([before.password, after.password]);
    expect(await inVault("orders--user")).toEqual(["orders"]);
    expect(await rotations(ASKED)).toEqual([
      {
        name: `${ASKED}/orders`,
        actor: expect.objectContaining({ kind: "Object", uid: metadata.uid }),
        details: expect.objectContaining({ version: 2, cause: "Request", token: "second", made: "password,salt,url" }),
      },
    ]);
  });

  test("is not done again when the same is applied again, by whichever leader", async () => {
    const before = await written(ASKED);
    await world.apply(orders("second"));
    await handOver();
    expect(difference(before, await written(ASKED))).toEqual([]);
  });

  test("through REST is done for these keys, and refused where it makes no sense", async () => {
    const client = RestClient.of(world, await world.mazevault.startRest());
    const { email, password } = await firstAdmin(world);
    const token = await client.login(email, password);
    const path = `/api/v1/namespaces/${ASKED}/secrets/orders/rotate`;
    const rotate = (body: object, headers = {}) => client.send("POST", path, { token, body, headers });
    const before = await core(ASKED, "orders");
    expect(await rotate({ keys: ["salt"] })).toMatchObject({ status: 200, body: { version: 3, changed: ["salt"] } });
    await world.waitFor("secret", "orders", ASKED, (it) => decoded(it).salt !== before.salt);
    expect(await core(ASKED, "orders")).toEqual({ ...before, salt: expect.any(String) });
    expect((await rotations(ASKED)).at(-1)).toMatchObject({
      actor: { kind: "Subject" },
      details: { cause: "Request", made: "salt" },
    });
    expect(await rotate({ keys: ["user"] })).toMatchObject({
      status: 409,
      body: { code: "ValueInvalid", detail: expect.stringContaining("entry user cannot be rotated") },
    });
    expect(await rotate({}, { "if-match": '"1"' })).toMatchObject({ status: 412 });
    const other = await client.send("POST", "/api/v1/api-keys", {
      token,
      body: { name: "other", scopes: ["read", "write"] },
    });
    const refused = await client.send("POST", path, { token: other.body.secret, body: {} });
    expect(refused).toMatchObject({ status: 403 });
    await client.close();
  });

  test("where nothing is generated is told, and does not make it unready", async () => {
    const plain = secretManifest(ASKED, "plain", { entries: [{ key: "user", literal: "orders" }] });
    await world.apply(plain);
    await world.waitReady(SECRET, "plain", ASKED);
    await world.kubectl("-n", ASKED, "annotate", SECRET, "plain", "mazevault.io/rotate=now");
    const told = await world.waitFor(SECRET, "plain", ASKED, (it) => conditionOf(it, "Rotated") !== undefined);
    expect(conditionOf(told, "Rotated")).toMatchObject({ status: "False", reason: "NotRequested" });
    expect(conditionOf(told, "Ready")).toMatchObject({ status: "True" });
    expect(told.status).toMatchObject({ version: 1 });
  });
});

const isDone = ({ status, metadata }: KubernetesObject): boolean =>
  status?.version === 2 &&
  status.observedGeneration === metadata.generation &&
  String(status.lastRotationTime) >= toSeconds(due) &&
  status.conditions?.find(({ type }) => type === "Ready")?.status === "True";

async function delivered(): Promise<Map<string, Record<string, string>>> {
  const found = await world.list("secret", DUE);
  return new Map(
    found.filter(({ metadata }) => names.includes(metadata.name)).map((it) => [it.metadata.name, decoded(it)]),
  );
}

/** Everything of a namespace by its resource version, and what is on record of its secrets, reads apart. */
async function written(namespace: string): Promise<readonly string[]> {
  const kinds = [SECRET, "secret", "deployment"];
  const objects = await Promise.all(kinds.map((kind) => world.list(kind, namespace)));
  const rows = await world.sql<{ line: string }>(
    `SELECT concat_ws(' ', sequence, action, subject_name) AS line FROM audit
     WHERE subject_name LIKE $1 AND action LIKE 'Secret%' AND action <> 'SecretRead' ORDER BY sequence`,
    [`${namespace}/%`],
  );
  return [
    ...objects.flat().map(({ kind, metadata }) => `${kind} ${metadata.name} ${metadata.resourceVersion}`),
    ...rows.map(({ line }) => line),
  ];
}

/** The other one leads, and has looked at everything. */
async function handOver(): Promise<void> {
  const leader = await leaderOf(world, operators);
  const [successor] = operators.filter((each) => each !== leader);
  if (successor === undefined) throw new Error("there is no other operator");
  await successor.process.ready();
  await leader.process.restart();
  await until("the other one leads", async () => (await leaderOf(world, operators)) !== undefined, soon);
  // It takes up what is new after what there was already.
  markers += 1;
  const name = `marker-${markers}`;
  await world.apply(secretManifest("marker", name, { entries: [{ key: "k", literal: "v" }] }));
  await world.waitReady(SECRET, name, "marker");
}
let markers = 0;
