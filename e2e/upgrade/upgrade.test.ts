/**
 * An upgrade as `helm upgrade` makes it: definitions first, then new replicas beside old ones, which lead and serve until they are
 * replaced. What the older version has made is left alone by all of it: no write to an object, no version, no call that changes a vault.
 */
import { setTimeout as delay } from "node:timers/promises";
import { kinds } from "../../crds/index.ts";
import { installDefinitions, type Operator } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import {
  conditionOf,
  decoded,
  difference,
  type KubernetesObject,
  leaderOf,
  scrape,
  secretManifest,
  startWorld,
  total,
  type World,
} from "../harness.ts";
import { firstAdmin, RestClient } from "../rest-client.ts";
import { type OlderVersion, olderVersion } from "./older.ts";
import { dispute, NAMESPACE, PLACES, type Resources, resources, secretName, vaultName } from "./resources.ts";

/** `npm run test:upgrade` takes 1,000. */
const RESOURCES = Number(process.env.UPGRADE_RESOURCES ?? 100);
const PATIENCE_MS = 60_000 + RESOURCES * 300;
const wait = { timeoutMs: PATIENCE_MS, intervalMs: 250 };
const MARKER = "marker";
const OURS = kinds.map(({ plural }) => `${plural}.mazevault.io`);
/** Of gateways that nobody starts, which is waited for as it is told here. */
const NEVER_READY: Readonly<Record<string, string>> = {
  Gateway: "AwaitingRegistration",
  GatewayEnvironment: "GatewayNotHeardOf",
};

let world: World;
let older: OlderVersion;
let made: Resources;
let before: Operator;
let after: Operator;
let restBefore: RestClient;
let restAfter: RestClient | undefined;
let admin: { readonly email: string; readonly password: string };
let columns: ReadonlyMap<string, readonly string[]>;
let state: readonly string[];

beforeAll(async () => {
  world = await startWorld();
  older = await olderVersion(world.lab.dir);
  await installDefinitions(world.lab.controlPlane, older.definitions);
  before = await start("before", older.programs);
  await world.tenant(MARKER);
  made = await resources(RESOURCES, world);
  await measured("made by the older version", async () => {
    await world.apply(...made.manifests);
    await world.apply(external);
    await until("everything is Ready", everythingIsReady, wait);
    await dispute(world, PATIENCE_MS);
    await settled();
  });
  restBefore = RestClient.of(world, await world.mazevault.startRest({ name: "rest-before", programs: older.programs }));
  admin = await firstAdmin(world);
  await mark("made");
  columns = await columnsOfTables();
  state = await everything();
  await world.mazevault.keyVault.control.resetCounters();
}, 900_000);

afterAll(async () => {
  await restBefore?.close();
  await restAfter?.close();
  await world?.stop();
});

test("of each kind there is something that could be written", async () => {
  const found = new Set((await objects(OURS)).map(({ kind }) => kind));
  expect(kinds.map(({ kind }) => kind).filter((kind) => !found.has(kind))).toEqual([]);
});

test("its definitions write nothing, and the older version goes on with them", async () => {
  await installDefinitions(world.lab.controlPlane);
  await mark("defined");
  await assertUntouched();
});

test("it migrates while the older version leads and takes writes", async () => {
  const write = writing(restBefore);
  await measured("started beside the older version, migrations included", async () => {
    after = await start("after");
  });
  restAfter = RestClient.of(world, await world.mazevault.startRest({ name: "rest-after" }));
  expect(await leaderOf(world, [before, after])).toBe(before);
  // Also with what was prepared before the migrations, and by one that does not lead.
  await mark("migrated");
  await writing(restAfter).end();
  const { writes, slowestMs } = await write.end();
  console.log(`writes through the older version meanwhile: ${writes}, the slowest took ${slowestMs} ms`);
  await assertUntouched();
});

test("it takes over and writes nothing", async () => {
  await measured("took over", async () => {
    await before.process.stop();
    await assertLooksAtEverything();
  });
  expect(await kubernetesWrites()).toEqual(["patch leases.coordination.k8s.io"]);
  await mark("taken-over");
  await assertUntouched();
});

test("an older replica that starts after it has migrated works on, or says why it does not", async () => {
  if (older.knowsNewer) await before.process.start();
  else await expect(before.process.start()).rejects.toThrow(/DatabaseIsNewer/);
  await mark("started-again");
  await assertUntouched();
});

test("it can be taken back, and made again", async () => {
  // A version that cannot work with newer migrations has nothing to be taken back to.
  if (older.knowsNewer) {
    // As `helm rollback` does it: the newer one leads with the older definitions for a while.
    await installDefinitions(world.lab.controlPlane, older.definitions);
    await mark("defined-back");
    await assertUntouched();
    await after.process.stop();
    await until("the older one leads", async () => (await leaderOf(world, [before])) === before, wait);
    await mark("taken-back");
    await writing(restBefore).end();
    await assertUntouched();
    await installDefinitions(world.lab.controlPlane);
    await after.process.start();
    await before.process.stop();
    await assertLooksAtEverything();
  }
  await mark("upgraded");
  await assertUntouched();
});

test("what the older version has made can be changed, and only that is", async () => {
  const name = secretName(10);
  const old = decoded(await world.get("secret", name, NAMESPACE));
  await world.kubectl("-n", NAMESPACE, "annotate", "secrets.mazevault.io", name, "mazevault.io/rotate=now");
  const rotated = await world.waitFor("secret", name, NAMESPACE, (it) => decoded(it).password !== old.password);
  expect(decoded(rotated)).toMatchObject({ user: old.user, password: expect.stringMatching(/^.{32}$/) });
  await world.waitReady("secret.mazevault.io", name, NAMESPACE);
  const [{ id } = { id: "" }] = await world.sql<{ id: string }>(
    "SELECT id FROM secrets WHERE namespace = $1 AND name = $2",
    [NAMESPACE, name],
  );
  // Its rule and the vault of that say when it went there.
  const rule = vaultName(10 % made.kinds.keyvault);
  const concerned = [name, id, ` ${NAMESPACE}/${rule} `];
  const others = difference(state, await everything()).filter((line) => !concerned.some((each) => line.includes(each)));
  expect(others.filter((line) => !/^[-+] sync_rules /.test(line))).toEqual([]);
});

const start = (name: string, programs?: string): Promise<Operator> =>
  world.mazevault.startOperator({
    name,
    ...(programs !== undefined && { programs }),
    config: { kubernetes: { leaseDurationMs: 9_000 }, audit: { fileDirectory: world.lab.dir } },
  });

async function measured(what: string, work: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  await work();
  console.log(
    `${RESOURCES} resources of ${older.name}: ${what} in ${((performance.now() - started) / 1_000).toFixed(1)} s`,
  );
}

const external = secretManifest(MARKER, "external", { entries: [{ key: "value", external: {} }], deliver: {} });

/** Writes without end, each of which must be taken. */
function writing(client: RestClient): { end(): Promise<{ readonly writes: number; readonly slowestMs: number }> } {
  const stopped = new AbortController();
  let token = "";
  let writes = 0;
  let slowestMs = 0;
  const write = async (): Promise<void> => {
    const started = performance.now();
    const body = { values: { value: `${writes}` } };
    const { status, text } = await client.send("PUT", `/api/v1/namespaces/${MARKER}/secrets/external/values`, {
      token,
      body,
    });
    if (status !== 200) throw new Error(`a write was answered ${status}: ${text}`);
    writes += 1;
    slowestMs = Math.max(slowestMs, Math.round(performance.now() - started));
  };
  const running = (async () => {
    token = await client.login(admin.email, admin.password);
    do {
      await write();
      await delay(50);
    } while (!stopped.signal.aborted);
  })();
  running.catch(() => {});
  return {
    async end() {
      stopped.abort();
      await running;
      return { writes, slowestMs };
    },
  };
}

/** Whoever leads does something new; Events and statuses that it has recorded before are there when it has. */
async function mark(name: string): Promise<void> {
  const entries = [{ key: "password", generate: { kind: "Password", length: 16 } }];
  await world.apply(
    secretManifest(MARKER, name, { entries, deliver: {} }),
    secretManifest(MARKER, `${name}-waits`, { entries: [{ key: "a", secretRef: { name: "missing", key: "a" } }] }),
  );
  await world.waitReady("secret.mazevault.io", name, MARKER, PATIENCE_MS);
  await until("its Event", async () => (await events(MARKER)).some((event) => event.includes(`${name}-waits`)), wait);
}

/** @throws with what is not, and why */
async function everythingIsReady(): Promise<boolean> {
  const ready = (object: KubernetesObject): boolean => {
    const told = conditionOf(object, "Ready");
    if (told === undefined || told.observedGeneration !== object.metadata.generation) return false;
    const awaited = NEVER_READY[object.kind];
    return awaited === undefined ? told.status === "True" : told.reason === awaited;
  };
  const others = (await world.list(OURS.join(","), NAMESPACE)).filter((object) => !ready(object));
  const why = others.slice(0, 3).map((object) => {
    const told = conditionOf(object, "Ready");
    return `${object.kind} ${object.metadata.name}: ${told?.reason} ${told?.message}`;
  });
  if (others.length > 0) throw new Error(`${others.length} are not: ${why.join("; ")}`);
  return true;
}

/** What is known of a vault by looking at it is known: an empty one was looked at first. */
async function settled(): Promise<void> {
  const vaults = [...made.entries];
  const inSync = (name: string, entries: number) =>
    world.waitFor("syncrule.mazevault.io", name, NAMESPACE, ({ status }) => status?.inSync === entries, PATIENCE_MS);
  for (const [index, [, entries]] of vaults.entries()) await inSync(vaultName(index), entries);
  // A vault tells whole seconds: who looks earlier looks once more, and takes that down.
  const isPast = async () =>
    (
      await world.sql<{ past: boolean }>(
        "SELECT max(target_updated_on) < now() - interval '3 s' AS past FROM sync_items",
      )
    ).every(({ past }) => past);
  await until("all was written seconds ago", isPast, wait);
  for (const index of vaults.keys())
    await world.kubectl(
      "-n",
      NAMESPACE,
      "annotate",
      "syncrules.mazevault.io",
      vaultName(index),
      "mazevault.io/sync-now=once",
    );
  for (const [index, [, entries]] of vaults.entries()) {
    await world.waitFor(
      "syncrule.mazevault.io",
      vaultName(index),
      NAMESPACE,
      ({ status }) => status?.lastHandledSyncNow === "once",
      PATIENCE_MS,
    );
    await world.waitFor(
      "keyvault.mazevault.io",
      vaultName(index),
      NAMESPACE,
      ({ status }) => status?.secrets === entries,
    );
  }
}

/** By the leader of today, since it has started. */
async function assertLooksAtEverything(): Promise<void> {
  const looked = async (): Promise<boolean> => {
    const samples = await scrape(after);
    return Object.entries(made.kinds).every(
      ([controller, least]) => total(samples, "mazevault_reconcile_duration_seconds_count", { controller }) >= least,
    );
  };
  await until("every object was looked at", looked, wait);
}

/** Writes of the newer version to the API server since it started, by verb and resource. */
async function kubernetesWrites(): Promise<readonly string[]> {
  const calls = (await scrape(after)).filter(({ name }) => name === "mazevault_external_calls_total");
  const operations = calls.filter(({ labels }) => labels.target === "kubernetes").map(({ labels }) => labels.operation);
  return [...new Set(operations)].flatMap((operation = "") =>
    /^(get|list|watch)\b/.test(operation) ? [] : [operation],
  );
}

async function assertUntouched(): Promise<void> {
  expect(difference(state, await everything())).toEqual([]);
  const { vaults } = await world.mazevault.keyVault.control.counters();
  const changed = Object.entries(vaults).filter(([, { writes }]) => writes > 0);
  expect(changed).toEqual([]);
}

async function events(namespace?: string): Promise<readonly string[]> {
  const found = await world.list("events.events.k8s.io", namespace);
  return found
    .map((event) => event as KubernetesObject & { reportingController?: string; regarding?: { name: string } })
    .filter(({ reportingController }) => reportingController?.startsWith("mazevault.io/"))
    .map(
      ({ metadata, regarding }) =>
        `${metadata.namespace}/${regarding?.name} ${metadata.name} ${metadata.resourceVersion}`,
    );
}

/** As the older version has them. */
async function columnsOfTables(): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = await world.sql<{ table: string; columns: string[] }>(
    `SELECT table_name AS "table", array_agg(quote_ident(column_name) ORDER BY ordinal_position)::text[] AS columns
     FROM information_schema.columns WHERE table_schema = 'mazevault' GROUP BY 1`,
  );
  return new Map(rows.map(({ table, columns }) => [table, columns]));
}

/** Of the installation itself, of who leads and writes, and of looks at vaults: no object's. */
const MOVING =
  /^(leadership|audit\w*|vault_calls|outbox\w*|migrations|compatibility|requests|login_attempts|sessions|used_refresh_tokens|keys)$/;

/** Of these kinds, all that the older version has made something of. */
const objects = async (types: readonly string[]): Promise<readonly KubernetesObject[]> =>
  (await world.list(types.join(","))).filter(({ metadata: { name, namespace = name } }) => PLACES.includes(namespace));

/** All that could have been written to what was there before, with the versions that tell it. */
async function everything(): Promise<readonly string[]> {
  const versions = (await objects([...OURS, "secrets", "rolebindings", "namespaces", "configmaps"])).map(
    ({ kind, metadata }) =>
      `${kind} ${metadata.namespace}/${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`,
  );
  // Their status is the cluster's, their template would be ours.
  const workloads = (await world.list("deployments", NAMESPACE)).map(
    ({ metadata }) => `${metadata.name} ${metadata.generation}`,
  );
  const ids = (await world.sql<{ id: string }>("SELECT id FROM secrets WHERE namespace = $1", [MARKER])).map(
    ({ id }) => id,
  );
  const rows: string[] = [];
  for (const [table, names] of columns) {
    if (MOVING.test(table)) continue;
    const found = await world.sql<{ row: string }>(
      `SELECT ROW(${names.map((name) => `t.${name}`).join(", ")})::text AS row FROM ${table} t`,
    );
    rows.push(
      ...found.map(({ row }) => `${table} ${row}`).filter((row) => ![MARKER, ...ids].some((own) => row.includes(own))),
    );
  }
  const told = (await events()).filter((event) => !event.startsWith(`${MARKER}/`));
  return [...versions, ...workloads, ...rows, ...told];
}
