/** A project whose values are in its Key Vault only: what people do with it, with the vault, and to both. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openStores } from "../adapters/postgres/stores.ts";
import { openRootKeyFile } from "../adapters/rootkey/file.ts";
import { openVersion } from "../core/vault/version.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { FaultRule, StoredSecret } from "../lab/keyvault/control.ts";
import { azure, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import type { Death } from "./chaos/deaths.ts";
import { ruleManifest, vaultManifests } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { files, found, type Surface, tables } from "./leaks.ts";
import { firstAdmin, type RestAnswer, RestClient, type RestRequest } from "./rest-client.ts";

const TENANT = "kept";
const SECRET = "secret.mazevault.io";
const CANARY = "canary-in-key-vault-only";
const LARGE = `${CANARY}-${"x".repeat(20_000)}`;
const [vault] = azure.vaults;
const VAULT_URL = `https://${vault}.vault.azure.net/`;
const soon = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let succession: Succession;
let rest: Rest;
let client: RestClient;
let token: string;

const project = {
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: TENANT },
  spec: {
    storage: "Orchestrator",
    environments: [{ name: "pro", keyVault: { namespace: TENANT, name: TENANT } }],
    namespaces: [{ name: TENANT, environments: ["pro"] }],
  },
};
const entries = (user: string): object[] => [
  { key: "user", literal: user },
  { key: "password", generate: { kind: "Hex" } },
  { key: "url", template: "pg://{{ user }}:{{ password }}@db" },
];
const orders = (user: string, more: object = {}): object =>
  secretManifest(TENANT, "orders", { entries: entries(user), deliver: {}, ...more });

beforeAll(async () => {
  world = await startWorld();
  succession = await Succession.begin(world);
  rest = await world.mazevault.startRest();
  await world.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: TENANT } }, project);
  await world.waitReady("project.mazevault.io", TENANT);
});

afterAll(async () => {
  await client?.close();
  await world?.stop();
});

const control = () => world.mazevault.keyVault.control;
const inVault = async (name: string): Promise<StoredSecret | undefined> =>
  (await control().secrets(vault)).find((each) => each.name === name);
const shown = async (name: string): Promise<string | undefined> => {
  const entry = await inVault(name);
  return entry?.state === "active" ? entry.versions.at(-1)?.value : undefined;
};
const delivered = async (name = "orders") => decoded(await world.get("secret", name, TENANT));
const ask = (method: string, rest: string, request: RestRequest = {}): Promise<RestAnswer> =>
  client.send(method, `/api/v1/namespaces/${TENANT}/secrets/${rest}`, { token, ...request });
const condition = (type: string, reason: string) => (object: KubernetesObject) =>
  conditionOf(object, type)?.reason === reason;
const remove = (name: string) => world.kubectl("-n", TENANT, "delete", SECRET, name);

test("a Secret waits for the vault of its project, and says so; then its values are there and delivered", async () => {
  await world.apply(orders("shop"));
  const waiting = await world.waitFor(SECRET, "orders", TENANT, condition("Stored", "KeyVaultNotFound"));
  expect(conditionOf(waiting, "Stored")?.message).toBe(
    `spec.environments[0].keyVault of Project ${TENANT}: there is no KeyVault ${TENANT}/${TENANT} yet, which has the values of environment pro; apply it`,
  );
  await world.apply(...vaultManifests(world.mazevault, TENANT));
  const ready = await world.waitReady(SECRET, "orders", TENANT);
  expect(conditionOf(ready, "Stored")?.message).toBe(`version 1 is stored, its values in Key Vault ${VAULT_URL}`);
  const values = await delivered();
  expect(values).toEqual({ user: "shop", password: expect.stringMatching(/^[0-9a-f]+$/), url: expect.any(String) });
  expect(values.url).toBe(`pg://shop:${values.password}@db`);
  for (const [key, value] of Object.entries(values)) expect(await shown(`orders--${key}`)).toBe(value);
});

test("what changes makes one version in the vault, and what rotates delivers the new one", async () => {
  const before = await delivered();
  await world.apply(orders("shop2"));
  await world.waitFor("secret", "orders", TENANT, (it) => decoded(it).url === `pg://shop2:${before.password}@db`);
  expect((await inVault("orders--password"))?.versions).toHaveLength(1);
  await world.kubectl("-n", TENANT, "annotate", SECRET, "orders", "mazevault.io/rotate=now");
  await world.waitFor("secret", "orders", TENANT, (it) => decoded(it).password !== before.password);
  const after = await delivered();
  expect(await shown("orders--password")).toBe(after.password);
  expect(after.url).toBe(`pg://shop2:${after.password}@db`);
});

test("REST writes, reads, lists, rolls back and rotates", async () => {
  client = RestClient.of(world, rest);
  const { email, password } = await firstAdmin(world);
  token = await client.login(email, password);
  const put = (values: object, headers = {}, body: object = {}) =>
    ask("PUT", "partner/values", { body: { values, project: TENANT, environment: "pro", ...body }, headers });
  const idempotent = { "idempotency-key": '"k-1"' };
  const first = await put({ token: CANARY }, idempotent);
  expect(first).toMatchObject({ status: 200, body: { version: 1, changed: ["token"] } });
  expect((await put({ token: CANARY }, idempotent)).body).toEqual(first.body);
  expect(await shown("partner--token")).toBe(CANARY);
  await until("the Secret is known", async () => (await put({ token: LARGE })).status === 200, soon);
  expect((await ask("GET", "partner/values?key=token")).body).toMatchObject({ values: { token: LARGE } });
  const { body: kept } = await ask("GET", "partner/versions");
  const back = await ask("POST", "partner/rollback", { body: { version: 1 } });
  expect(back).toMatchObject({ status: 200, body: { version: kept.items.length + 1, changed: ["token"] } });
  expect(await shown("partner--token")).toBe(CANARY);
  expect((await ask("GET", "partner/values?version=2")).body.values).toEqual({ token: LARGE });
  const bytes = Buffer.from([0xff, 0, 1]).toString("base64");
  expect((await put({ token: bytes }, {}, { encoding: "base64" })).status).toBe(200);
  expect((await ask("GET", "partner/values?encoding=base64")).body.values).toEqual({ token: bytes });
  const large = await put({ token: "x".repeat(26_000) });
  expect(large).toMatchObject({ status: 409, body: { code: "ValueTooLarge" } });
  const before = (await delivered()).password;
  expect(await ask("POST", "orders/rotate", { body: {} })).toMatchObject({ status: 200 });
  await world.waitFor("secret", "orders", TENANT, (it) => decoded(it).password !== before);
  expect((await ask("GET", "orders/values?key=password")).body.values.password).toBe(await shown("orders--password"));
});

test("what people do in the vault is not delivered, is undone where it can be, and is told where not", async () => {
  const { password = "" } = await delivered();
  await control().setSecret(vault, "orders--password", "edited by hand");
  expect((await ask("GET", "orders/values?key=password")).body.values).toEqual({ password });
  await control().deleteSecret(vault, "orders--password");
  const refused = await ask("GET", "orders/values?key=password");
  expect(refused).toMatchObject({ status: 409, body: { code: "StoredValueMissing" } });
  const read = async () => (await ask("GET", "orders/values?key=password")).status === 200;
  await until("it is recovered", read, soon);
  await control().setSecret(vault, "foreign--token", "not ours", { tags: { team: "x" } });
  await world.apply(secretManifest(TENANT, "foreign", { entries: [{ key: "token", literal: "ours" }] }));
  const told = await world.waitFor(SECRET, "foreign", TENANT, condition("Stored", "TargetNotOwned"));
  expect(conditionOf(told, "Stored")?.message).toContain("was not written by MazeVault");
  expect((await inVault("foreign--token"))?.versions.map(({ value }) => value)).toEqual(["not ours"]);
  await remove("foreign");
});

test("a rule onto the vault that has the values is refused", async () => {
  await world.apply(ruleManifest(TENANT, { direction: "Push" }));
  await world.waitFor("syncrule.mazevault.io", TENANT, TENANT, condition("Ready", "TargetIsStorage"));
  await world.kubectl("-n", TENANT, "delete", "syncrule.mazevault.io", TENANT);
});

describe("PostgreSQL", () => {
  test("has no value: not in rows, files or the write-ahead log, and no program logs one", async () => {
    const { password = "", url = "" } = await delivered();
    const canaries = new Map(
      Object.entries({ CANARY, password, url }).map(([what, value]) => [what, Buffer.from(value)]),
    );
    const dir = path.join(world.lab.dir, "logs");
    const logs = readdirSync(dir).map((name): Surface => [`log ${name}`, readFileSync(path.join(dir, name))]);
    const all = [...(await tables(world)), ...(await files(world)), ...logs];
    expect(found(all, canaries)).toEqual([]);
    const planted = await world.sql<{ text: string }>("SELECT $1 AS text", [CANARY]);
    expect(found([["row", Buffer.from(planted[0]?.text ?? "")]], canaries)).toEqual(["row: CANARY"]);
  });

  test("has no ciphertext of one either: with the root key it gives names and version ids", async () => {
    const root = openRootKeyFile(path.join(world.lab.dir, "operator/root.key"));
    const stores = await openStores(world.mazevault.database, root);
    try {
      const keys = await stores.keys.existingProject(TENANT);
      if (keys === undefined) throw new Error("the project has no keys");
      let opened = 0;
      for (const { id, identity } of await stores.vault.listLocations(undefined, 100)) {
        for (const { version } of await stores.vault.listVersions(id)) {
          const sealed = await stores.vault.readVersion(id, version);
          if (sealed === undefined) throw new Error("a version is gone");
          for (const [key, place] of openVersion(keys, stores.keys.installationId, identity, sealed)) {
            expect(JSON.parse(place.revealText())).toEqual({
              entryName: `${identity.name}--${key}`,
              version: expect.stringMatching(/^[0-9a-f]{32}$/),
              form: expect.stringMatching(/^(text|base64)$/),
            });
            opened += 1;
          }
        }
      }
      expect(opened).toBeGreaterThan(10);
    } finally {
      await stores.close();
    }
  });
});

describe("a vault that does not answer", () => {
  const away: readonly FaultRule[] = [{ vault, effect: { kind: "status", status: 503 } }];
  afterEach(() => control().setFaults([]));

  test("holds up what needs a value and nothing else, and is waited for", async () => {
    await control().setFaults(away);
    const before = await delivered();
    await world.apply(orders("away"));
    const told = await world.waitFor(SECRET, "orders", TENANT, condition("Stored", "VaultUnreachable"));
    expect(conditionOf(told, "Ready")?.status).toBe("False");
    expect(await delivered()).toEqual(before);
    expect(await ask("GET", "orders/values?key=password")).toMatchObject({ status: 503 });
    await control().setFaults([]);
    await world.waitReady(SECRET, "orders", TENANT, 60_000);
    expect((await delivered()).user).toBe("away");
    expect(await shown("orders--user")).toBe("away");
  });

  test("that throttles is left alone, and all is in place afterwards", async () => {
    await control().setFaults([{ vault, count: 2, effect: { kind: "status", status: 429, retryAfterSeconds: 1 } }]);
    await world.apply(orders("throttled"));
    await world.waitFor("secret", "orders", TENANT, (it) => decoded(it).user === "throttled", 60_000);
  });

  test("is not missed by a restart: what is unchanged is neither read nor written", async () => {
    const settled = await world.waitReady(SECRET, "orders", TENANT, 60_000);
    const core = await world.get("secret", "orders", TENANT);
    await control().resetCounters();
    const epochs = async () => (await world.sql("SELECT FROM audit WHERE action = 'LeadershipTaken'")).length;
    const before = await epochs();
    await succession.leader.process.kill();
    // Its holder is dead, so nobody need wait until it runs out.
    await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator");
    await succession.leader.process.start();
    await world.apply(secretManifest(TENANT, "marker", { entries: [{ key: "k", literal: "v" }] }));
    await world.waitReady(SECRET, "marker", TENANT, 60_000);
    expect(await epochs()).toBeGreaterThan(before);
    const { valueReads, writes } = (await control().counters()).vaults[vault] ?? { valueReads: 0, writes: 0 };
    expect({ valueReads, writes }).toEqual({ valueReads: 0, writes: 1 });
    expect((await world.get("secret", "orders", TENANT)).metadata.resourceVersion).toBe(core.metadata.resourceVersion);
    expect((await world.get(SECRET, "orders", TENANT)).status).toEqual(settled.status);
  });
});

/** What is done while the failpoint is armed. */
type Effect = "change" | "recovery" | "removal" | "purge";
const everyRow: readonly Death<Effect>[] = [
  ["storage.afterBegin", "change"],
  ["storage.afterLook", "change"],
  ["storage.beforeSet", "change"],
  ["storage.afterSet", "change"],
  ["storage.afterSet:2", "change"],
  ["storage.afterRecover", "recovery"],
  ["storage.afterDelete", "removal"],
  ["storage.beforeSettled", "removal"],
  ["storage.afterPurge", "purge"],
];
/** One before the commit, and one of what is done after it. */
const bounded = ["storage.afterSet:2", "storage.afterDelete"];
const rows =
  process.env.CHAOS_FAILPOINTS === "all" ? everyRow : everyRow.filter(([failpoint]) => bounded.includes(failpoint));

describe("an operator that dies", () => {
  test.each(rows)("at %s during %s leaves it to the next one", async (failpoint, effect) => {
    const name = `${failpoint}-${effect}`.toLowerCase().replaceAll(/[^a-z0-9]/g, "-");
    const manifest = (user: string): object =>
      secretManifest(TENANT, name, {
        entries: entries(user),
        deliver: {},
        ...(effect === "purge" && { deletionPolicy: "Purge" }),
      });
    await world.apply(manifest("old"));
    await world.waitReady(SECRET, name, TENANT, 60_000);
    const before = await delivered(name);
    await succession.dies(failpoint, async () => {
      if (effect === "removal" || effect === "purge") return remove(name);
      if (effect === "recovery")
        for (const key of ["user", "url"]) await control().deleteSecret(vault, `${name}--${key}`);
      return world.apply(manifest("new"));
    });
    const states = async () =>
      (await Promise.all(Object.keys(before).map((key) => inVault(`${name}--${key}`)))).map(
        (each) => each?.state ?? "none",
      );
    if (effect === "removal" || effect === "purge") {
      const gone = effect === "removal" ? "deleted" : "none";
      await until("its entries are gone", async () => (await states()).every((state) => state === gone), soon);
    } else {
      await world.waitFor("secret", name, TENANT, (it) => decoded(it).user === "new", 60_000);
      await world.waitReady(SECRET, name, TENANT, 60_000);
      const after = await delivered(name);
      expect(after).toEqual({ user: "new", password: before.password, url: `pg://new:${before.password}@db` });
      for (const [key, value] of Object.entries(after)) expect(await shown(`${name}--${key}`)).toBe(value);
    }
    const open = () =>
      world.sql("SELECT FROM kept_entries WHERE name = $1 AND (write_id IS NOT NULL OR NOT settled)", [name]);
    await until("nothing is left to be done", async () => (await open()).length === 0, soon);
  });

  test("dies at every failpoint of this storage", () => {
    const source = fileURLToPath(new URL("../core/vault", import.meta.url));
    const named = readdirSync(source).flatMap((file) =>
      file.endsWith(".ts")
        ? [...readFileSync(path.join(source, file), "utf8").matchAll(/failpoint\("(storage\..+?)"\)/g)].map(
            ([, name]) => name,
          )
        : [],
    );
    const covered = new Set(everyRow.map(([failpoint]) => failpoint.replace(/:.*/, "")));
    expect([...covered].toSorted()).toEqual([...new Set(named)].toSorted());
  });
});

test("a deleted Secret takes its entries along, and brings them back when it is applied again", async () => {
  const before = await delivered();
  await remove("orders");
  const entry = async () => (await inVault("orders--password"))?.state;
  await until("its entries are deleted", async () => (await entry()) === "deleted", soon);
  await world.apply(orders("throttled"));
  await world.waitReady(SECRET, "orders", TENANT, 60_000);
  await until("its entries are back", async () => (await entry()) === "active", soon);
  await world.waitFor("secret", "orders", TENANT, (it) => decoded(it).password === before.password, 60_000);
  const again = async () => (await ask("GET", "orders/values")).body?.values?.password === before.password;
  await until("its values are read", again, soon);
});

test("the guide, as it is printed", async () => {
  const folder = path.join(world.lab.dir, "guide");
  const env = {
    ...cliEnvironment(world, rest, folder),
    MAZEVAULT_TOKEN: token,
    CLIENT_ID: azure.servicePrincipal,
    TENANT_ID: azure.tenantId,
    CLIENT_SECRET: world.mazevault.servicePrincipal.secret,
    VAULT_URL,
  };
  const text = readFileSync(
    fileURLToPath(new URL("../docs/guides/keep-values-in-key-vault.md", import.meta.url)),
    "utf8",
  );
  const printed: string[] = [];
  for (const [, block = ""] of text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    const { stdout } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", block], {
      cwd: folder,
      env,
    });
    printed.push(stdout);
  }
  expect(printed).toHaveLength(3);
  expect(printed[1]).toContain(`version 1 is stored, its values in Key Vault ${VAULT_URL}`);
  expect(printed[2]).toMatch(/\nfirst\n$/);
});
