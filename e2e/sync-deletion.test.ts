/** What a rule deletes in a Key Vault, what it never deletes, and what waits for a person. */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual, promisify } from "node:util";
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { ruleManifest, vaultManifests } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin } from "./rest-client.ts";

const [SAFE, LIMITED, LEAVING, GUIDE] = ["safe", "limited", "leaving", "shop"];
const SECRET = "secrets.mazevault.io";
const RULE = "syncrules.mazevault.io";
const [vault, otherVault] = azure.vaults;

let world: World;
let operator: Operator;
let looks = 0;

const control = () => world.mazevault.keyVault.control;
const target = (tenant: string, pattern = `${tenant}-{secret}--{key}`, ref = tenant) => ({
  keyVault: { ref: { name: ref }, name: pattern },
});
const rule = (tenant: string, spec: object = {}): object =>
  ruleManifest(tenant, { direction: "Push", deletionPolicy: "Delete", target: target(tenant), ...spec });
const secret = (tenant: string, name: string, keys: readonly string[], labels = { tier: "db" }): object => {
  const manifest = secretManifest(tenant, name, { entries: keys.map((key) => ({ key, literal: `${name} ${key}` })) });
  return { ...manifest, metadata: { name, namespace: tenant, labels } };
};
const patch = (resource: string, name: string, tenant: string, change: object) =>
  world.kubectl("-n", tenant, "patch", resource, name, "--type=merge", "-p", JSON.stringify(change));
const remove = (tenant: string, ...names: readonly string[]) => world.kubectl("-n", tenant, "delete", SECRET, ...names);

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  await world.tenant(SAFE, LIMITED, LEAVING, GUIDE);
  for (const tenant of [SAFE, LIMITED, LEAVING]) {
    await world.apply(
      ...vaultManifests(world.mazevault, tenant),
      rule(tenant),
      secret(tenant, "orders", ["a", "b"]),
      secret(tenant, "users", ["a"]),
    );
  }
  const [, keyVault] = vaultManifests(world.mazevault, SAFE) as readonly [object, KubernetesObject];
  const vaultUrl = `https://${otherVault}.vault.azure.net/`;
  await world.apply({
    ...keyVault,
    metadata: { name: "other", namespace: SAFE },
    spec: { ...keyVault.spec, vaultUrl },
  });
  for (const tenant of [SAFE, LIMITED, LEAVING]) await world.waitReady(RULE, tenant, tenant);
});

afterAll(() => world?.stop());

async function askToLook(tenant: string): Promise<string> {
  looks += 1;
  await world.kubectl("-n", tenant, "annotate", "--overwrite", RULE, tenant, `mazevault.io/sync-now=${looks}`);
  return String(looks);
}

/** Has the rule look at the vault now. */
async function look(tenant: string): Promise<KubernetesObject> {
  const asked = await askToLook(tenant);
  return world.waitFor(RULE, tenant, tenant, ({ status }) => status?.lastHandledSyncNow === asked);
}

/** Names without what the tenant's begin with, and in which state they are. */
async function entries(tenant: string, of: string = vault): Promise<Record<string, string>> {
  const found = (await control().secrets(of)).filter(({ name }) => name.startsWith(`${tenant}-`));
  return Object.fromEntries(found.map(({ name, state }) => [name.slice(tenant.length + 1), state]));
}

const deleted = (tenant: string, ...names: readonly string[]) =>
  until(
    `${names.join(", ")} deleted`,
    async () => {
      const states = await entries(tenant);
      if (names.every((name) => states[name] === "deleted")) return true;
      throw new Error(JSON.stringify([states, (await world.get(RULE, tenant, tenant)).status]));
    },
    { timeoutMs: 30_000 },
  );

const pushed = (tenant: string, ...names: readonly string[]) =>
  until(
    `${names.join(", ")} pushed`,
    async () => {
      const states = await entries(tenant);
      return names.every((name) => states[name] === "active");
    },
    { timeoutMs: 30_000 },
  );

const audited = async (action: string) =>
  (await world.sql<{ name: string }>("SELECT subject_name AS name FROM audit WHERE action = $1", [action])).map(
    ({ name }) => name.slice(name.lastIndexOf("/") + 1),
  );

const ALL = { "orders--a": "active", "orders--b": "active", "users--a": "active" };

test("no changed reference, scope or label deletes anything, nor does a rule that goes", async () => {
  const changes: readonly (() => Promise<unknown>)[] = [
    () => world.apply(secret(SAFE, "orders", ["a", "b"], { tier: "web" })),
    () => patch(RULE, SAFE, SAFE, { spec: { secrets: { selector: { matchLabels: { tier: "db" } } } } }),
    () => patch(RULE, SAFE, SAFE, { spec: { secrets: { names: ["nothing"], selector: null } } }),
    () => patch(RULE, SAFE, SAFE, { spec: { secrets: null } }),
    () => patch(RULE, SAFE, SAFE, { spec: { target: target(SAFE, "x-{secret}--{key}") } }),
    () => patch(RULE, SAFE, SAFE, { spec: { mappings: [{ secret: "orders", key: "a", name: "Mapped" }] } }),
    () => patch(RULE, SAFE, SAFE, { spec: { target: target(SAFE, undefined, "other") } }),
    async () => {
      await world.kubectl("-n", SAFE, "delete", RULE, SAFE);
      await world.apply(rule(SAFE));
    },
  ];
  for (const change of changes) {
    await change();
    await look(SAFE);
    expect(await entries(SAFE)).toMatchObject(ALL);
  }
  await world.apply(secret(SAFE, "orders", ["a", "b"]));
  await world.waitReady(RULE, SAFE, SAFE);
  expect(await audited("VaultEntryDeleted")).toEqual([]);
});

test("what goes along with its namespace is not deleted in the vault", async () => {
  await world.kubectl("delete", "namespace", LEAVING, "--wait=false");
  await remove(LEAVING, "orders", "users");
  await until(
    "the secrets are ended",
    async () =>
      (await world.sql("SELECT FROM secrets WHERE namespace = $1 AND state = 'Active'", [LEAVING])).length === 0,
    { timeoutMs: 30_000 },
  );
  expect(await world.sql("SELECT FROM sync_tombstones")).toEqual([]);
  expect(await entries(LEAVING)).toEqual(ALL);
});

test("while the vault or its list cannot be read nothing is deleted; it is made up for afterwards", async () => {
  await world.apply(secret(SAFE, "brief", ["a"]));
  await pushed(SAFE, "brief--a");
  await control().setFaults([{ operation: "SecretList", effect: { kind: "status", status: 503 } }]);
  await remove(SAFE, "brief");
  await world.waitFor(RULE, SAFE, SAFE, (it) => conditionOf(it, "TargetReachable")?.status === "False");
  expect(await entries(SAFE)).toMatchObject({ ...ALL, "brief--a": "active" });
  // It may not delete either, and may do everything else.
  await control().setFaults([{ operation: "SecretDelete", effect: { kind: "status", status: 403 } }]);
  const refused = await world.waitFor(RULE, SAFE, SAFE, (it) => conditionOf(it, "Synced")?.reason === "AccessDenied");
  expect(conditionOf(refused, "TargetReachable")).toMatchObject({ status: "True" });
  expect(conditionOf(refused, "Synced")?.message).toMatch(/^brief\/a: delete at https:\/\/.*: 403 Forbidden/);
  await control().setFaults([]);
  await askToLook(SAFE);
  await deleted(SAFE, "brief--a");
  await world.waitReady(RULE, SAFE, SAFE);
  expect(await audited("VaultEntryDeleted")).toEqual([`${SAFE}-brief--a`]);
});

test("what a person deletes is deleted, a value that was changed over there is not, and what comes back is recovered", async () => {
  await world.apply(secret(SAFE, "touched", ["a"]));
  await pushed(SAFE, "touched--a");
  // In another second: who writes in the same one and leaves out our tags has made the entry their own.
  const began = Math.floor(Date.now() / 1000);
  await until("a second is over", () => Math.floor(Date.now() / 1000) > began, { timeoutMs: 5_000 });
  await control().setSecret(vault, `${SAFE}-touched--a`, "a person's");
  await remove(SAFE, "touched", "users");
  await world.apply(secret(SAFE, "orders", ["a"]));
  await deleted(SAFE, "users--a", "orders--b");
  const told = await world.waitFor(RULE, SAFE, SAFE, (it) => conditionOf(it, "Synced")?.reason === "ChangedInTarget");
  expect(told.status?.failures).toMatchObject([{ secret: "touched", key: "a", name: `${SAFE}-touched--a` }]);
  expect(await entries(SAFE)).toMatchObject({ "touched--a": "active", "orders--a": "active" });

  await world.apply(secret(SAFE, "users", ["a"]), secret(SAFE, "orders", ["a", "b"]));
  await pushed(SAFE, "users--a", "orders--b");
  expect((await audited("VaultEntryRecovered")).toSorted()).toEqual([`${SAFE}-orders--b`, `${SAFE}-users--a`]);
  await control().deleteSecret(vault, `${SAFE}-touched--a`);
  await look(SAFE);
  await world.waitReady(RULE, SAFE, SAFE);
});

test("a vault of the same name that was made anew is filled again, and nothing is deleted there", async () => {
  for (const name of Object.keys(ALL)) await control().deleteSecret(vault, `${SAFE}-${name}`);
  for (const name of Object.keys(ALL)) {
    const purged = () =>
      control()
        .purgeSecret(vault, `${SAFE}-${name}`)
        .then(() => true);
    await until(`${name} is purged`, purged, { timeoutMs: 20_000 });
  }
  await until("all are purged", async () => (await entries(SAFE))["users--a"] === undefined, { timeoutMs: 20_000 });
  // Somebody restored one of them, with its tags.
  const [known] = (await control().secrets(vault)).filter(({ name }) => name === `${LIMITED}-users--a`);
  await control().setSecret(vault, `${SAFE}-users--a`, "restored", { tags: known?.versions.at(-1)?.tags ?? {} });
  await remove(SAFE, "users");
  await look(SAFE);
  await pushed(SAFE, "orders--a", "orders--b");
  await look(SAFE);
  expect(await entries(SAFE)).toMatchObject(ALL);
});

describe("a plan over its limits", () => {
  const MANY = Array.from({ length: 12 }, (_, at) => `key-${at}`);
  let hash: string;

  /** What must not change at rest. */
  const state = async () => ({
    rule: (await world.get(RULE, LIMITED, LIMITED)).metadata.resourceVersion,
    items: await world.sql("SELECT *, xmin FROM sync_items ORDER BY vault_url, entry_name"),
    rules: await world.sql("SELECT *, xmin FROM sync_rules ORDER BY rule_uid"),
    rows: await world.sql("SELECT count(*) FROM audit WHERE action <> 'LeadershipTaken'"),
  });
  const active = async () => Object.values(await entries(LIMITED)).filter((each) => each === "active").length;

  test("stands still, says so and how to release it, and all else goes on", async () => {
    await world.apply(secret(LIMITED, "many", MANY));
    await until("they are pushed", async () => (await active()) === 15, { timeoutMs: 30_000 });
    await remove(LIMITED, "many");
    await world.apply(secret(LIMITED, "fresh", ["a"]));
    const { status } = await world.waitFor(
      RULE,
      LIMITED,
      LIMITED,
      (it) => conditionOf(it, "LimitExceeded")?.status === "True",
    );
    expect(status).toMatchObject({ planTotal: 12, planHash: expect.stringMatching(/^[0-9a-f]{16}$/) });
    hash = String(status?.planHash);
    const first = { action: "Delete", secret: "many", key: "key-0", target: `${LIMITED}-many--key-0` };
    expect(status?.plan).toContainEqual(first);
    await until("the new one is pushed", async () => (await active()) === 16, { timeoutMs: 30_000 });
  });

  test("is the same after a restart, which writes nothing", async () => {
    await look(LIMITED);
    await look(LIMITED);
    const before = await state();
    await operator.process.stop();
    operator = await world.mazevault.startOperator({ name: "successor" });
    await control().resetCounters();
    // A pass of its own, and no request for it.
    const looked = async () => ((await control().counters()).vaults[vault]?.calls ?? 0) >= 2;
    await until("the successor has looked", looked, { timeoutMs: 30_000 });
    expect(await state()).toEqual(before);
    expect((await control().counters()).vaults[vault]).toMatchObject({ writes: 0, valueReads: 0 });
  });

  test("runs once it is released, as its message says", async () => {
    const { status } = await world.get(RULE, LIMITED, LIMITED);
    const message = status?.conditions?.find(({ type }) => type === "LimitExceeded")?.message ?? "";
    const [, command = "false"] = /: kubectl (.*)$/.exec(message) ?? [];
    await world.kubectl(...command.split(" "));
    await deleted(LIMITED, ...MANY.map((key) => `many--${key}`));
    const after = await world.waitReady(RULE, LIMITED, LIMITED);
    expect(after.status).toMatchObject({ lastHandledRelease: hash });
    expect(after.status).not.toHaveProperty("plan");
    expect(conditionOf(after, "LimitExceeded")).toBeUndefined();
    const [released] = await world.sql<{ details: { hash: string } }>(
      "SELECT details FROM audit WHERE action = 'SyncPlanReleased'",
    );
    expect(released?.details).toMatchObject({ hash, deletions: 12 });
  });

  test("of a rule that is only tried is told, and nothing is written", async () => {
    await patch(RULE, LIMITED, LIMITED, { spec: { dryRun: true } });
    await world.waitFor(RULE, LIMITED, LIMITED, (it) => conditionOf(it, "Ready")?.reason === "DryRun");
    await remove(LIMITED, "users");
    await world.apply(secret(LIMITED, "tried", ["a"]));
    const plan = [
      { action: "Delete", secret: "users", key: "a", target: `${LIMITED}-users--a` },
      { action: "Create", secret: "tried", key: "a", target: `${LIMITED}-tried--a` },
    ];
    await world.waitFor(RULE, LIMITED, LIMITED, ({ status }) => isDeepStrictEqual(status?.plan, plan));
    expect(await entries(LIMITED)).toMatchObject({ "users--a": "active", "orders--a": "active" });
    await patch(RULE, LIMITED, LIMITED, { spec: { dryRun: null } });
    await deleted(LIMITED, "users--a");
  });

  test("in a protected environment is smaller", async () => {
    await world.apply(secret(LIMITED, "guarded", ["a", "b", "c", "d"]));
    await pushed(LIMITED, "guarded--a", "guarded--b", "guarded--c", "guarded--d");
    const environments = [{ name: "dev" }, { name: "pro", protected: true }];
    await patch("projects.mazevault.io", LIMITED, LIMITED, { spec: { environments } });
    await remove(LIMITED, "guarded");
    const held = await world.waitFor(RULE, LIMITED, LIMITED, (it) => conditionOf(it, "LimitExceeded") !== undefined);
    expect(conditionOf(held, "LimitExceeded")).toMatchObject({ reason: "ProtectedEnvironment" });
    await world.apply(secret(LIMITED, "guarded", ["a", "b", "c", "d"]));
    await world.waitReady(RULE, LIMITED, LIMITED);
  });
});

test("docs/guides/recover-a-deletion.md works as printed", async () => {
  const folder = path.join(world.lab.dir, "guide");
  mkdirSync(folder, { recursive: true });
  const env = cliEnvironment(world, await world.mazevault.startRest(), folder);
  const run = async (script: string) => {
    const { stdout, stderr } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", script], {
      cwd: folder,
      env,
    });
    return `${stdout}${stderr}`;
  };
  const { email, password } = await firstAdmin(world);
  await run(`printf %s '${password}' | mazevault login --email ${email} --password-stdin`);
  const keys = Array.from({ length: 11 }, (_, at) => `key-${at}`);
  await world.apply(
    ...vaultManifests(world.mazevault, GUIDE),
    rule(GUIDE),
    secret(GUIDE, "orders", ["password"]),
    secret(GUIDE, "reports", keys),
  );
  await world.waitReady(RULE, GUIDE, GUIDE);
  await until("they are pushed", async () => Object.keys(await entries(GUIDE)).length === keys.length + 1, {
    timeoutMs: 30_000,
  });

  const guide = readFileSync(fileURLToPath(new URL("../docs/guides/recover-a-deletion.md", import.meta.url)), "utf8");
  const blocks = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  expect(blocks).toHaveLength(5);
  const [tried = "", recovered = "", entry = "", seen = "", released = ""] = blocks;
  expect(await run(tried)).toMatch(/^shop +True /m);
  await remove(GUIDE, "orders");
  await deleted(GUIDE, "orders--password");
  const back = await run(recovered);
  expect(back).toContain("shop/orders is back");
  expect(back).toMatch(/syncrule.*shop condition met/);
  await pushed(GUIDE, "orders--password");
  const removed = () =>
    control()
      .deleteSecret(vault, `${GUIDE}-orders--password`)
      .then(() => true);
  await until("it can be deleted again", removed, { timeoutMs: 20_000 });
  await run(entry);
  await pushed(GUIDE, "orders--password");
  await remove(GUIDE, "reports");
  await world.waitFor(RULE, GUIDE, GUIDE, (it) => conditionOf(it, "LimitExceeded") !== undefined);
  expect(await run(seen)).toMatch(/11 deletions at once, 10 may be[\s\S]*Delete +reports +key-0/);
  await run(released);
  await deleted(GUIDE, ...keys.map((key) => `reports--${key}`));
});

describe("whoever dies over it", () => {
  let succession: Succession;

  beforeAll(async () => {
    await operator.process.stop();
    succession = await Succession.begin(world);
  });

  const everyDeath = ["sync.afterDelete", "sync.beforeDelete", "sync.afterDeleted"];
  test.each(process.env.CHAOS_FAILPOINTS === "all" ? everyDeath : everyDeath.slice(0, 1))(
    "at %s is followed by one that finishes, and it is on record once",
    async (failpoint) => {
      const name = `dies-${failpoint.slice(5).toLowerCase()}`;
      await world.apply(secret(SAFE, name, ["a"]));
      await pushed(SAFE, `${name}--a`);
      await succession.dies(failpoint, () => remove(SAFE, name));
      await deleted(SAFE, `${name}--a`);
      const left = () => world.sql("SELECT FROM sync_items WHERE entry_name LIKE $1", [`%${name}%`]);
      await until("it is forgotten", async () => (await left()).length === 0, { timeoutMs: 30_000 });
      expect((await audited("VaultEntryDeleted")).filter((each) => each === `${SAFE}-${name}--a`)).toHaveLength(1);
      expect(await entries(SAFE)).toMatchObject({ "orders--a": "active" });
    },
  );
});
