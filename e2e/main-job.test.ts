/** The main job, as the samples tell it. */
import { azure } from "../lab/mazevault.ts";
import { conditionOf, decoded, samples, startWorld, type World } from "./harness.ts";

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
