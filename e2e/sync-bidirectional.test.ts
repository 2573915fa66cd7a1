/** Both sides may change a value: direction Bidirectional. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { ruleManifest, vaultManifests } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const [PLATFORM, TARGET, MANUAL, NEWEST] = ["platform-wins", "target-wins", "manual", "newest-wins"];
const SECRET = "secret.mazevault.io";
const RULE = "syncrule.mazevault.io";
const [vault] = azure.vaults;

let world: World;
let operator: Operator;
let client: RestClient;
let token: string;
/** Where the command line is logged in. */
const folder = mkdtempSync(join(tmpdir(), "mazevault-both-"));
let shell: NodeJS.ProcessEnv;
let looks = 0;

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  await world.tenant(PLATFORM, TARGET, MANUAL, NEWEST);
  for (const [tenant, conflictPolicy] of [
    [PLATFORM, "PlatformWins"],
    [TARGET, "TargetWins"],
    [MANUAL, "Manual"],
    [NEWEST, "NewestWins"],
  ] as const) {
    await world.apply(
      ...vaultManifests(world.mazevault, tenant),
      ruleManifest(tenant, {
        direction: "Bidirectional",
        conflictPolicy,
        target: { keyVault: { ref: { name: tenant }, name: `${tenant}-{secret}--{key}` } },
      }),
    );
    await world.waitReady(RULE, tenant, tenant);
  }
  const surface = await world.mazevault.startRest();
  client = RestClient.of(world, surface);
  const { email, password } = await firstAdmin(world);
  shell = cliEnvironment(world, surface, folder);
  const login = `printf %s "$PASSWORD" | mazevault login --email ${email} --password-stdin`;
  await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", login], {
    env: { ...shell, PASSWORD: password },
  });
  token = await client.login(email, password);
});

afterAll(async () => {
  await client?.close();
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** What a person types into a shell. */
async function typed(command: string): Promise<string> {
  const options = { cwd: folder, env: { ...shell, MAZEVAULT_LAB: world.lab.dir } };
  return (await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", command], options)).stdout;
}

const control = () => world.mazevault.keyVault.control;

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

const path = (tenant: string) => `/api/v1/namespaces/${tenant}/secrets/orders/values`;
const versionsThere = async (tenant: string, key: string): Promise<readonly string[]> => {
  const found = (await control().secrets(vault)).find(({ name }) => name === `${tenant}-orders--${key}`);
  return found?.versions.map(({ value }) => value) ?? [];
};
const versionOf = async (tenant: string) => Number((await world.get(SECRET, "orders", tenant)).status?.version);

async function write(tenant: string, values: Record<string, string>): Promise<number> {
  const { status, body } = await client.send("PUT", path(tenant), { token, body: { values } });
  expect(status).toBe(200);
  return body.version;
}

async function valueHere(tenant: string, key: string, version?: number): Promise<string> {
  const query = version === undefined ? "" : `&version=${version}`;
  const { body } = await client.send("GET", `${path(tenant)}?key=${key}${query}`, { token });
  return body.values[key];
}

async function suspend(tenant: string, is: boolean): Promise<void> {
  await world.kubectl(
    "-n",
    tenant,
    "patch",
    RULE,
    tenant,
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { suspend: is } }),
  );
  if (is) await world.waitFor(RULE, tenant, tenant, (it) => conditionOf(it, "Synced")?.reason === "Suspended");
}

/** Both sides have the value, and what is delivered too. */
async function inStep(tenant: string, key: string, value: string): Promise<void> {
  await world.waitFor("secret", "orders", tenant, (it) => decoded(it)[key] === value);
  await until(`${value} is in the vault`, async () => (await versionsThere(tenant, key)).at(-1) === value, {
    timeoutMs: 30_000,
  });
  await world.waitReady(RULE, tenant, tenant);
}

/** When it was set, and when it was written. */
const STAMP = /^\d{4}-\d\d-\d\dT[\d:.]+Z\/\d{4}-\d\d-\d\dT[\d:.]+Z$/;

test.each([PLATFORM, TARGET, MANUAL, NEWEST])("what is changed on one side comes to the other (%s)", async (tenant) => {
  const entries = [
    { key: "user", literal: "shop" },
    { key: "token", external: {} },
    { key: "password", generate: { kind: "Hex" } },
    { key: "header", template: "{{ user }}:{{ token }}" },
  ];
  await control().setSecret(vault, `${tenant}-orders--token`, "t1", { tags: { owner: "alice" } });
  await world.apply(secretManifest(tenant, "orders", { entries, deliver: {} }));
  await inStep(tenant, "header", "shop:t1");
  const generated = decoded(await world.get("secret", "orders", tenant)).password ?? "";
  await inStep(tenant, "password", generated);

  await control().setSecret(vault, `${tenant}-orders--password`, "rotated in the portal");
  await look(tenant);
  await inStep(tenant, "password", "rotated in the portal");

  await write(tenant, { token: "t2" });
  for (const [key, value] of [
    ["token", "t2"],
    ["header", "shop:t2"],
  ] as const) {
    await inStep(tenant, key, value);
  }
  expect(await versionsThere(tenant, "token")).toEqual(["t1", "t2"]);
  expect(await versionsThere(tenant, "password")).toEqual([generated, "rotated in the portal"]);
  // What others said of the entry stays.
  const entry = (await control().secrets(vault)).find(({ name }) => name === `${tenant}-orders--token`);
  expect(entry?.versions.at(-1)?.tags).toMatchObject({
    owner: "alice",
    "mazevault-shared": expect.stringMatching(STAMP),
  });
});

test.each([
  [PLATFORM, "here"],
  [TARGET, "there"],
])(
  "after a change on both sides the policy decides, and the other value stays as a version (%s)",
  async (tenant, wins) => {
    await suspend(tenant, true);
    const before = await write(tenant, { token: "here" });
    await control().setSecret(vault, `${tenant}-orders--token`, "there");
    await suspend(tenant, false);
    await look(tenant);
    await inStep(tenant, "token", wins);
    expect(await valueHere(tenant, "token")).toBe(wins);
    const last = await versionOf(tenant);
    const kept: string[] = [];
    for (let version = before; version <= last; version += 1) kept.push(await valueHere(tenant, "token", version));
    expect(kept).toEqual(wins === "here" ? ["here", "there", "here"] : ["here", "there"]);
  },
);

describe("where a person decides", () => {
  const conflicts = async (): Promise<readonly KubernetesObject[]> => world.list("syncconflicts.mazevault.io", MANUAL);

  /** Changes both sides before the rule can look; the version that has the value of this side. */
  async function plant(here: string, there: string): Promise<number> {
    await suspend(MANUAL, true);
    const version = await write(MANUAL, { token: here });
    await control().setSecret(vault, `${MANUAL}-orders--token`, there);
    await suspend(MANUAL, false);
    await look(MANUAL);
    return version;
  }

  test.each([
    ["KeepPlatform", "here", ["here", "there", "here"]],
    ["KeepTarget", "there", ["here", "there"]],
  ] as const)(
    "a conflict is seen, %s by kubectl resolves it, and both values stay",
    async (resolution, wins, values) => {
      const [here, there] = [`here ${resolution}`, `there ${resolution}`];
      const before = await plant(here, there);
      const rule = await world.waitFor(
        RULE,
        MANUAL,
        MANUAL,
        (it) => conditionOf(it, "Synced")?.reason === "ChangedOnBothSides",
      );
      expect(rule.status).toMatchObject({ conflicts: 1, pending: 1 });
      const [conflict, ...others] = await conflicts();
      expect(others).toEqual([]);
      expect(conflict?.status).toMatchObject({ secret: "orders", key: "token", platformVersion: before });
      const name = conflict?.metadata.name ?? "";
      const printed = await world.kubectl("-n", MANUAL, "get", "syncconflicts", "--no-headers");
      expect(printed).toMatch(new RegExp(`^${name}\\s+orders\\s+token\\s+${MANUAL}\\s`));
      // It waits, whatever happens, and writes nothing.
      await look(MANUAL);
      expect([await valueHere(MANUAL, "token"), (await versionsThere(MANUAL, "token")).at(-1)]).toEqual([here, there]);

      const patch = JSON.stringify({ spec: { resolution } });
      await world.kubectl("-n", MANUAL, "patch", "syncconflict", name, "--type=merge", "-p", patch);
      await inStep(MANUAL, "token", `${wins} ${resolution}`);
      await until("the conflict is over", async () => (await conflicts()).length === 0, { timeoutMs: 30_000 });
      const kept: string[] = [];
      for (let version = before; version <= (await versionOf(MANUAL)); version += 1) {
        kept.push(await valueHere(MANUAL, "token", version));
      }
      expect(kept).toEqual(values.map((value) => `${value} ${resolution}`));
      // As a person sees it on the command line.
      const shown = await typed(`mazevault versions ${MANUAL}/orders`);
      for (const [at, value] of values.entries()) {
        expect(shown).toMatch(new RegExp(`^${before + at} `, "m"));
        expect(await typed(`mazevault get ${MANUAL}/orders token --at ${before + at}`)).toBe(`${value} ${resolution}`);
      }
      const rows = await world.sql(
        "SELECT FROM audit WHERE action = 'SyncConflictFound' AND details->>'key' = 'token'",
      );
      expect(rows.length).toBeGreaterThan(0);
    },
  );

  test("REST lists it and takes the resolution of whoever may write the Secret", async () => {
    await plant("at home", "abroad");
    await until("the conflict is there", async () => (await conflicts()).length === 1, { timeoutMs: 20_000 });
    const { body } = await client.send("GET", "/api/v1/sync-conflicts", { token });
    expect(body.items).toMatchObject([{ namespace: MANUAL, secret: "orders", key: "token", rule: MANUAL }]);
    const resolve = `/api/v1/namespaces/${MANUAL}/sync-conflicts/${body.items[0].name}/resolve`;
    const wrong = await client.send("POST", resolve, { token, body: { resolution: "Keep" } });
    expect(wrong).toMatchObject({ status: 400, body: { errors: [{ field: "body.resolution" }] } });
    expect((await client.send("POST", resolve, { token, body: { resolution: "KeepTarget" } })).status).toBe(200);
    await inStep(MANUAL, "token", "abroad");
    await until("the conflict is over", async () => (await conflicts()).length === 0, { timeoutMs: 30_000 });
  });

  test("one that is deleted without a resolution comes again; equal values end it", async () => {
    await plant("mine", "theirs");
    const [first] = await until("the conflict is there", conflicts, { timeoutMs: 20_000 });
    await world.kubectl("-n", MANUAL, "delete", "syncconflict", first?.metadata.name ?? "");
    const again = async () => (await conflicts()).some(({ metadata }) => metadata.uid !== first?.metadata.uid);
    await until("it is there again", again, { timeoutMs: 20_000 });
    await control().setSecret(vault, `${MANUAL}-orders--token`, "mine");
    await look(MANUAL);
    await until("the conflict is over", async () => (await conflicts()).length === 0, { timeoutMs: 30_000 });
    await inStep(MANUAL, "token", "mine");
  });
});

describe("where the newest wins", () => {
  /** What follows has a later time, as the vault tells it. */
  async function nextSecond(): Promise<void> {
    const now = () => Math.floor(Date.now() / 1_000);
    const before = now();
    await until("the second after the next", () => now() > before + 1, { timeoutMs: 5_000 });
  }

  test.each([
    ["Platform", "here"],
    ["Target", "there"],
  ] as const)(
    "%s wins when its value was set last; the rule, an Event and the record tell why",
    async (winner, last) => {
      const value = { here: `here for ${winner}`, there: `there for ${winner}` };
      await suspend(NEWEST, true);
      const acts = [
        () => write(NEWEST, { token: value.here }),
        () => control().setSecret(vault, `${NEWEST}-orders--token`, value.there),
      ];
      if (last === "here") acts.reverse();
      for (const act of acts) {
        await act();
        await nextSecond();
      }
      await suspend(NEWEST, false);
      await look(NEWEST);
      await inStep(NEWEST, "token", value[last]);
      const isTold = ({ status }: KubernetesObject): boolean =>
        (status?.lastConflict as { winner?: string } | undefined)?.winner === winner;
      const rule = await world.waitFor(RULE, NEWEST, NEWEST, isTold, 20_000);
      expect(rule.status?.lastConflict).toMatchObject({ secret: "orders", key: "token", winner });
      const message = (rule.status?.lastConflict as { message: string } | undefined)?.message ?? "";
      expect(message).toMatch(
        /by NewestWins both have .*, as the newer one \(set here \S+Z, there \S+Z, by the vault's clock\)/,
      );
      const told = async () =>
        (await world.kubectl("-n", NEWEST, "get", "events.events.k8s.io", "-o", "jsonpath={.items[*].note}")).includes(
          message,
        );
      await until("an Event tells it", told, { timeoutMs: 20_000 });
      const [row] = await world.sql<{ details: Record<string, unknown> }>(
        "SELECT details FROM audit WHERE action = 'SyncConflictDecided' AND details->>'policy' = 'NewestWins' ORDER BY sequence DESC LIMIT 1",
      );
      expect(row?.details).toMatchObject({ secret: "orders", key: "token", winner });
      const kept: string[] = [];
      for (let version = 1; version <= (await versionOf(NEWEST)); version += 1) {
        kept.push(await valueHere(NEWEST, "token", version));
      }
      expect(kept).toEqual(expect.arrayContaining([value.here, value.there]));
    },
  );
});

test("the guides work as they are printed: synchronise both ways, resolve a conflict", async () => {
  const printed: string[] = [];
  for (const guide of ["sync-both-ways", "resolve-a-conflict"]) {
    const file = fileURLToPath(new URL(`../docs/guides/${guide}.md`, import.meta.url));
    for (const [, block = ""] of readFileSync(file, "utf8").matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
      printed.push(await typed(block));
    }
  }
  expect(printed).toHaveLength(10);
  expect(printed[3]).toMatch(/made-in-the-vault\nmade-in-the-vault\n$/);
  expect(printed[4]).toMatch(/team .*True/);
  expect(printed[6]).toMatch(
    /partner +token +team[\s\S]*3 here, [0-9a-f]{32} there\nfrom-the-platform\nfrom-the-vault\n$/,
  );
  expect(printed[7]).toMatch(/from-the-vault\nfrom-the-vault\n$/);
  expect(printed[8]).toMatch(/\n4 [\s\S]*\n3 [\s\S]*from-the-platform\nfrom-the-vault\n$/);
  // Its looks would be counted below.
  await world.kubectl("-n", "both", "delete", RULE, "team");
  expect(printed[9]).toMatch(/by NewestWins both have the value of this side, as the newer one /);
});

test("what is deleted in the vault comes back, as it is here", async () => {
  await control().deleteSecret(vault, `${PLATFORM}-orders--token`);
  const isBack = async () => {
    await look(PLATFORM);
    return (await versionsThere(PLATFORM, "token")).at(-1) === "here" && (await settled(PLATFORM));
  };
  await until("it is back", isBack, { timeoutMs: 40_000, intervalMs: 500 });
});

test("an entry of another secret is left alone, and the rule says whose it is", async () => {
  const mappings = [{ secret: "other", key: "token", name: `${TARGET}-orders--token` }];
  await world.apply(
    secretManifest(TARGET, "other", { entries: [{ key: "token", external: {} }] }),
    ruleManifest(TARGET, {
      direction: "Bidirectional",
      conflictPolicy: "TargetWins",
      mappings,
      target: { keyVault: { ref: { name: TARGET }, name: `${TARGET}-{secret}--{key}` } },
    }),
  );
  const rule = await world.waitFor(
    RULE,
    TARGET,
    TARGET,
    (it) => conditionOf(it, "Synced")?.reason === "TargetNameCollision",
  );
  expect(conditionOf(rule, "Synced")?.message).toContain("other/token");
  await world.kubectl("-n", TARGET, "delete", SECRET, "other");
});

test("where a value that loses could not be kept, nothing is written on either side, and the rule says why", async () => {
  await control().setSecret(vault, `${TARGET}-single--token`, "there");
  const single = (change: object) =>
    world.apply(secretManifest(TARGET, "single", { entries: [{ key: "token", external: {} }], ...change }));
  await single({});
  await world.waitFor(SECRET, "single", TARGET, ({ status }) => status?.version === 1);
  const values = `/api/v1/namespaces/${TARGET}/secrets/single/values`;
  const put = (value: string) => client.send("PUT", values, { token, body: { values: { token: value } } });
  const there = async () =>
    (await control().secrets(vault))
      .find(({ name }) => name === `${TARGET}-single--token`)
      ?.versions.map(({ value }) => value);
  // The version in the vault is ours, so that pushing it would find nothing against it.
  await put("ours");
  await until("it is pushed", async () => (await there())?.at(-1) === "ours", { timeoutMs: 20_000 });
  await single({ retention: { versions: 1 } });
  const rule = await world.waitFor(
    RULE,
    TARGET,
    TARGET,
    (it) => conditionOf(it, "Synced")?.reason === "RetentionTooShort",
  );
  expect(conditionOf(rule, "Synced")?.message).toContain("single/token: spec.retention.versions of the Secret is 1");
  await put("here");
  await look(TARGET);
  await look(TARGET);
  expect(await there()).toEqual(["there", "ours"]);
  await world.kubectl("-n", TARGET, "delete", SECRET, "single");
});

/** What both sides may change; of what is pushed only, nothing is to be settled. */
const settled = async (tenant: string): Promise<boolean> =>
  conditionOf(await look(tenant), "Synced")?.status === "True" &&
  (
    await world.sql(
      "SELECT FROM sync_items i JOIN secrets s ON s.id = secret_id WHERE namespace = $1 AND key IN ('token', 'password') AND NOT settled",
      [tenant],
    )
  ).length === 0;

test("an idle look reads list pages only; a restart writes nothing", async () => {
  for (const tenant of [PLATFORM, TARGET, MANUAL, NEWEST]) {
    await until(`${tenant} is settled`, () => settled(tenant), { timeoutMs: 30_000, intervalMs: 300 });
  }
  const state = async () => ({
    secrets: await Promise.all(
      [PLATFORM, TARGET].flatMap((tenant) =>
        [SECRET, "secret"].map(async (kind) => (await world.get(kind, "orders", tenant)).metadata.resourceVersion),
      ),
    ),
    items: await world.sql("SELECT *, xmin FROM sync_items ORDER BY vault_url, entry_name"),
    rows: await world.sql("SELECT count(*) FROM audit WHERE subject_kind IN ('Secret', 'VaultEntry')"),
  });
  const before = await state();
  await control().resetCounters();
  await look(PLATFORM);
  expect((await control().counters()).vaults[vault]).toMatchObject({ calls: 1, valueReads: 0, writes: 0 });
  await operator.process.stop();
  operator = await world.mazevault.startOperator({ name: "successor" });
  for (const tenant of [PLATFORM, TARGET]) await look(tenant);
  expect(await state()).toEqual(before);
});

describe("whoever dies over it", () => {
  let succession: Succession;
  let turn = 0;

  beforeAll(async () => {
    await operator.process.stop();
    succession = await Succession.begin(world);
  });

  test.each(["sync.beforeTake", "sync.afterTake", "sync.afterAgreement"])(
    "at %s is followed by one that doubles nothing",
    async (failpoint) => {
      const before = await versionOf(PLATFORM);
      turn += 1;
      const value = `there-${turn}`;
      await succession.dies(failpoint, async () => {
        await control().setSecret(vault, `${PLATFORM}-orders--token`, value);
        await askToLook(PLATFORM);
      });
      await inStep(PLATFORM, "token", value);
      await until("it is settled", () => settled(PLATFORM), { timeoutMs: 30_000, intervalMs: 300 });
      expect(await versionOf(PLATFORM)).toBe(before + 1);
      expect((await versionsThere(PLATFORM, "token")).filter((each) => each === value)).toHaveLength(1);
    },
  );

  test.each(["sync.beforeKeep", "sync.afterKeep"])(
    "at %s is followed by one that keeps once what lost",
    async (failpoint) => {
      turn += 1;
      const [here, there] = [`here-${turn}`, `there-${turn}`];
      await suspend(PLATFORM, true);
      const before = await write(PLATFORM, { token: here });
      await succession.dies(failpoint, async () => {
        await control().setSecret(vault, `${PLATFORM}-orders--token`, there);
        await suspend(PLATFORM, false);
        await askToLook(PLATFORM);
      });
      await inStep(PLATFORM, "token", here);
      await until("it is settled", () => settled(PLATFORM), { timeoutMs: 30_000, intervalMs: 300 });
      expect(await versionOf(PLATFORM)).toBe(before + 2);
      expect((await versionsThere(PLATFORM, "token")).slice(-2)).toEqual([there, here]);
    },
  );
});
