/** The main job, as the samples tell it. */
import path from "node:path";
import { openStores } from "../adapters/postgres/stores.ts";
import { openRootKeyFile } from "../adapters/rootkey/file.ts";
import { UNLED } from "../core/ports/vault-store.ts";
import { Sensitive } from "../core/sensitive.ts";
import { newReaderKey, openAs, sealFor } from "../core/vault/end-to-end.ts";
import {
  readSealingKeyFile,
  type SealingKey,
  type SignedSealingKey,
  seal,
  sealingKeyFile,
} from "../core/vault/sealing.ts";
import { Vault } from "../core/vault/vault.ts";
import type { ReaderSpec, SecretEntry } from "../crds/secret.ts";
import { azure } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import {
  conditionOf,
  decoded,
  type KubernetesObject,
  samples,
  secretManifest,
  startWorld,
  type World,
} from "./harness.ts";

let world: World;

beforeAll(async () => {
  world = await startWorld();
  await world.mazevault.startOperator();
  await world.kubectl("apply", "-f", samples);
});

afterAll(() => world?.stop());

const secret = "secret.mazevault.io";
const [vault] = azure.vaults;

test("the database password arrives in a core Secret, with the connection string made from it", async () => {
  await world.waitReady(secret, "orders-db", "payments");
  const { username, password, url } = decoded(await world.get("secret", "orders-db", "payments"));
  expect(username).toBe("orders");
  expect(password).toMatch(/^[^'"`\\]{32}$/);
  expect(url).toBe(`postgres://orders:${encodeURIComponent(password ?? "")}@db:5432/orders`);
});

test("the other environment has a value of its own, under the keys that its application expects", async () => {
  await world.waitReady(secret, "orders-db", "payments-dev");
  const { DB_USER, DB_PASSWORD, ...rest } = decoded(await world.get("secret", "orders-database", "payments-dev"));
  expect(rest).toEqual({});
  expect(DB_USER).toBe("orders");
  expect(DB_PASSWORD).toMatch(/^[0-9a-f]{32}$/);
});

test("everything of the pro environment is in the team's Key Vault", async () => {
  await world.waitReady("syncrule.mazevault.io", "payments-pro-vault", "payments");
  const entries = await world.mazevault.keyVault.control.secrets(vault);
  const values = Object.fromEntries(entries.map(({ name, versions }) => [name, versions.at(-1)?.value]));
  const core = decoded(await world.get("secret", "orders-db", "payments"));
  expect(values).toEqual({
    OrdersDbPwd: core.password,
    "orders-db--username": "orders",
    "orders-db--url": core.url,
    "partner-api--endpoint": "https://api.partner.example/v2",
    "partner-api--api-key": "an-api-key-for-the-demonstration",
  });
});

test("the policy says who may read what", async () => {
  const policy = await world.waitReady("accesspolicy.mazevault.io", "orders", "payments");
  expect(conditionOf(policy, "Ready")?.message).toBe(
    "grants ServiceAccount payments/orders: list, read on secrets orders-*, partner-api of project payments, environment pro",
  );
});

test("what stands in PostgreSQL is encrypted", async () => {
  const { password = "" } = decoded(await world.get("secret", "orders-db", "payments"));
  const rows = await world.sql<{ ciphertext: Buffer }>("SELECT ciphertext FROM entries WHERE key = 'password'");
  expect(rows.length).toBeGreaterThan(0);
  for (const { ciphertext } of rows) expect(ciphertext.includes(password)).toBe(false);
});

test("applying the samples again changes no resourceVersion", async () => {
  const kinds =
    "projects.mazevault.io,secrets.mazevault.io,keyvaults.mazevault.io,syncrules.mazevault.io,accesspolicies.mazevault.io,secrets,deployments,namespaces";
  const versions = async () =>
    (await world.list(kinds)).map(
      ({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name} ${metadata.resourceVersion}`,
    );
  await world.waitReady(secret, "partner-api", "payments");
  await world.waitReady("certificate.mazevault.io", "orders-tls", "payments");
  const before = await versions();
  const applied = await world.kubectl("apply", "-f", samples);
  expect(applied.split("\n").filter((line) => line !== "" && !line.endsWith("unchanged"))).toEqual([]);
  expect(await versions()).toEqual(before);
});

test("a changed source goes everywhere at once, and restarts only who uses it", async () => {
  const trigger = async () => JSON.stringify((await world.get("deployment", "orders", "payments")).spec?.template);
  const before = await trigger();
  await world.kubectl(
    "-n",
    "payments",
    "patch",
    "secret",
    "partner-handover",
    "-p",
    '{"stringData":{"token":"a-new-key"}}',
  );
  await world.waitFor(secret, "partner-api", "payments", ({ status }) => status?.version === 2);
  await world.waitFor("syncrule.mazevault.io", "payments-pro-vault", "payments", (rule) => rule.status?.pending === 0);
  const entry = async () =>
    (await world.mazevault.keyVault.control.secrets(vault)).find(({ name }) => name === "partner-api--api-key");
  const deadline = Date.now() + 10_000;
  while ((await entry())?.versions.at(-1)?.value !== "a-new-key" && Date.now() < deadline);
  expect((await entry())?.versions.map(({ value }) => value)).toEqual([
    "an-api-key-for-the-demonstration",
    "a-new-key",
  ]);
  expect(await trigger()).toBe(before);

  await world.kubectl(
    "-n",
    "payments",
    "patch",
    secret,
    "orders-db",
    "--type=json",
    "-p",
    '[{"op":"replace","path":"/spec/entries/0/literal","value":"orders2"}]',
  );
  await world.waitFor(
    secret,
    "orders-db",
    "payments",
    (object) => object.status?.version === 2 && conditionOf(object, "Ready")?.status === "True",
  );
  expect(decoded(await world.get("secret", "orders-db", "payments")).username).toBe("orders2");
  expect(await trigger()).not.toBe(before);
});

describe("values from outside", () => {
  const tenant = "outside";
  let replica: Replica;

  beforeAll(async () => {
    await world.tenant(tenant);
    replica = await openReplica(world);
  });
  afterAll(() => replica?.close());

  test("an external entry is delivered and pushed once another process has written it", async () => {
    const entries = [
      { key: "user", literal: "shop" },
      { key: "token", external: {} },
      { key: "header", template: "{{ user }}:{{ token }}" },
    ] as const;
    await world.apply(
      secretManifest(tenant, "partner", { entries, deliver: {} }),
      {
        apiVersion: "mazevault.io/v1",
        kind: "KeyVault",
        metadata: { name: "vault", namespace: tenant },
        spec: {
          projectRef: { name: tenant },
          vaultUrl: `https://${vault}.vault.azure.net/`,
          auth: {
            servicePrincipal: {
              tenantId: azure.tenantId,
              clientId: azure.servicePrincipal,
              clientSecretRef: { name: "principal", key: "secret" },
            },
          },
        },
      },
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "principal", namespace: tenant },
        stringData: { secret: world.mazevault.servicePrincipal.secret },
      },
      {
        apiVersion: "mazevault.io/v1",
        kind: "SyncRule",
        metadata: { name: "push", namespace: tenant },
        spec: {
          projectRef: { name: tenant },
          environment: "pro",
          direction: "Push",
          target: { keyVault: { ref: { name: "vault" } } },
        },
      },
    );
    const reasonOf = (type: string) => (object: KubernetesObject) => conditionOf(object, type)?.reason;
    const waiting = await world.waitFor(secret, "partner", tenant, (it) => reasonOf("Stored")(it) === "ValueMissing");
    expect(conditionOf(waiting, "Ready")).toMatchObject({
      status: "False",
      reason: "ValueMissing",
      message: "entry token has no value yet; write it with: mazevault put outside/partner token",
    });
    await world.waitFor("syncrule.mazevault.io", "push", tenant, (it) => reasonOf("Synced")(it) === "SecretNotStored");
    const pushed = async () =>
      (await world.mazevault.keyVault.control.secrets(vault))
        .filter(({ name }) => name.startsWith("partner--"))
        .map(({ name, versions }) => [name, ...versions.map(({ value }) => value)]);
    expect(await pushed()).toEqual([]);
    const { items } = JSON.parse(await world.kubectl("-n", tenant, "get", "secrets", "-o", "json")) as {
      items: KubernetesObject[];
    };
    expect(items.map(({ metadata }) => metadata.name)).toEqual(["principal"]);

    await replica.put("partner", entries, { token: "t1" });
    const ready = await world.waitReady(secret, "partner", tenant);
    expect(ready.status?.version).toBe(2);
    expect(decoded(await world.get("secret", "partner", tenant))).toEqual({
      user: "shop",
      token: "t1",
      header: "shop:t1",
    });
    await replica.put("partner", entries, { token: "t2" });
    await world.waitFor("secret", "partner", tenant, (it) => decoded(it).header === "shop:t2");
    await world.waitFor(secret, "partner", tenant, ({ status }) => status?.version === 3);
    await world.waitReady("syncrule.mazevault.io", "push", tenant);
    const latest = async () => (await pushed()).map(([name, ...values]) => [name, values.at(-1)]).sort();
    const isLatest = async () => (await latest()).some(([name, value]) => name === "partner--token" && value === "t2");
    await until("the vault has the last value", isLatest, { timeoutMs: 10_000 });
    expect(await latest()).toEqual([
      ["partner--header", "shop:t2"],
      ["partner--token", "t2"],
      ["partner--user", "shop"],
    ]);
  });

  test("a sealed entry is delivered where it belongs, and nowhere else", async () => {
    const { status } = await world.get("project.mazevault.io", tenant);
    const place = { project: tenant, environment: "pro", namespace: tenant, name: "licence", key: "licence" };
    const sealed = await seal(status?.sealingKey as SealingKey, place, new Sensitive("for Git"));
    const manifest = (name: string) =>
      secretManifest(tenant, name, { entries: [{ key: "licence", sealed }], deliver: {} });
    await world.apply(manifest("licence"), manifest("copied"));
    await world.waitReady(secret, "licence", tenant);
    expect(decoded(await world.get("secret", "licence", tenant))).toEqual({ licence: "for Git" });
    const copied = await world.waitFor(
      secret,
      "copied",
      tenant,
      (it) => conditionOf(it, "Stalled")?.reason === "SealedValueInvalid",
    );
    expect(conditionOf(copied, "Stored")?.message).toBe(
      "entry licence: the sealed value does not open: it was sealed for another project, environment, namespace, name or " +
        "key, or was damaged; seal it again with: mazevault seal outside/copied licence",
    );
    const read = readSealingKeyFile(sealingKeyFile(await replica.sealingKey()));
    expect(read).toMatchObject(status?.sealingKey as SealingKey);
  });

  test("what is sealed for its readers is stored and handed out, and nothing else is done with it", async () => {
    const alice = newReaderKey();
    const readers = [{ name: "alice", publicKey: alice.publicKey }];
    const entries = [{ key: "pan", external: {} }];
    await world.apply(secretManifest("outside", "card", { protection: "EndToEnd", readers, entries }));
    await world.waitFor(secret, "card", "outside", (it) => conditionOf(it, "Stored")?.reason === "ValueMissing");
    await expect(replica.put("card", entries, { pan: "4111" }, readers)).rejects.toThrow(
      "for exactly the readers alice",
    );
    const place = { project: "outside", environment: "pro", namespace: "outside", name: "card", key: "pan" };
    await replica.put("card", entries, { pan: await sealFor(readers, place, new Sensitive("4111")) }, readers);
    await world.waitReady(secret, "card", "outside");
    const stored = await replica.read("card", "pan");
    expect((await openAs(alice.privateKey, place, stored)).revealText()).toBe("4111");
    const rule = await world.waitFor(
      "syncrule.mazevault.io",
      "push",
      "outside",
      (it) => conditionOf(it, "Synced")?.reason === "EndToEndProtected",
    );
    expect(conditionOf(rule, "Synced")?.message).toContain("card/pan: the value is sealed for its readers");
  });
});

/** A process that serves requests beside the operator and does not lead: this one. */
interface Replica {
  put(
    name: string,
    entries: readonly SecretEntry[],
    values: Readonly<Record<string, string>>,
    readers?: readonly ReaderSpec[],
  ): Promise<void>;
  read(name: string, key: string): Promise<string>;
  sealingKey(): Promise<SignedSealingKey>;
  close(): Promise<void>;
}

async function openReplica(world: World): Promise<Replica> {
  const root = openRootKeyFile(path.join(world.lab.dir, "operator/root.key"));
  const stores = await openStores(world.mazevault.database, root);
  const replica = new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit });
  const namespaceUid = (await world.get("namespace", "outside")).metadata.uid;
  const identity = (name: string) => ({
    project: "outside",
    environment: "pro",
    namespace: "outside",
    namespaceUid,
    name,
  });
  const actor = { kind: "Controller", name: "replica" } as const;
  return {
    async put(name, entries, values, readers) {
      await replica.put(UNLED, {
        readers,
        identity: identity(name),
        seen: await replica.describe(identity(name)),
        entries,
        values: new Map(Object.entries(values).map(([key, value]) => [key, new Sensitive(value)])),
        lifecycle: { deletionPolicy: "SoftDelete", softDeleteMs: 1, keepVersions: 1 },
        actor,
      });
    },
    async read(name, key) {
      const record = await replica.describe(identity(name));
      if (record === undefined) throw new Error("expected a record");
      const { values } = await replica.open(record, { actor, purpose: "Test" });
      return values.get(key)?.revealText() ?? "";
    },
    async sealingKey() {
      const key = await replica.sealingKey("outside");
      if (key === undefined) throw new Error("expected a sealing key");
      return key;
    },
    close: () => stores.close(),
  };
}
