/** What people change in a Key Vault is taken over: direction Pull. */
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { ruleManifest, vaultManifests } from "./chaos/manifests.ts";
import { Succession } from "./chaos/succession.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const TENANT = "taking";
const SECRET = "secret.mazevault.io";
const RULE = "syncrule.mazevault.io";
const [vault] = azure.vaults;

let world: World;
let operator: Operator;
let looks = 0;

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  await world.tenant(TENANT);
  await world.apply(...vaultManifests(world.mazevault, TENANT), ruleManifest(TENANT, { direction: "Pull" }));
  await world.waitReady(RULE, TENANT, TENANT);
});

afterAll(() => world?.stop());

const control = () => world.mazevault.keyVault.control;

async function askToLook(): Promise<string> {
  looks += 1;
  const token = String(looks);
  await world.kubectl("-n", TENANT, "annotate", "--overwrite", RULE, TENANT, `mazevault.io/sync-now=${token}`);
  return token;
}

/** Has the rule look at the vault now. */
async function look(): Promise<KubernetesObject> {
  const token = await askToLook();
  return world.waitFor(RULE, TENANT, TENANT, ({ status }) => status?.lastHandledSyncNow === token);
}

const version = async (name: string): Promise<unknown> => (await world.get(SECRET, name, TENANT)).status?.version;
const delivered = async (name: string) => decoded(await world.get("secret", name, TENANT));
const inVault = async (name: string) => (await control().secrets(vault)).find((each) => each.name === name);

test("a value that stands in the vault already is delivered at once, with what is made of it", async () => {
  await control().setSecret(vault, "partner--token", "t1", { tags: { owner: "alice" } });
  const entries = [
    { key: "user", literal: "shop" },
    { key: "token", external: {} },
    { key: "header", template: "{{ user }}:{{ token }}" },
  ];
  await world.apply(secretManifest(TENANT, "partner", { entries, deliver: {} }));
  await world.waitReady(SECRET, "partner", TENANT);
  expect(await delivered("partner")).toEqual({ user: "shop", token: "t1", header: "shop:t1" });
});

test("what is changed there comes as one version, is on record, and nothing is written there", async () => {
  const before = Number(await version("partner"));
  await control().setSecret(vault, "partner--token", "t2", { tags: { owner: "alice" } });
  await look();
  await world.waitFor("secret", "partner", TENANT, (it) => decoded(it).header === "shop:t2");
  await world.waitFor(SECRET, "partner", TENANT, ({ status }) => status?.version === before + 1);
  const { versions = [] } = (await inVault("partner--token")) ?? {};
  expect(versions.map(({ value, tags }) => [value, tags])).toEqual([
    ["t1", { owner: "alice" }],
    ["t2", { owner: "alice" }],
  ]);
  const rule = await world.get(RULE, TENANT, TENANT);
  const rows = await world.sql<{ made: string }>(
    "SELECT details->>'made' AS made FROM audit WHERE action = 'SecretVersionCreated' AND actor->>'uid' = $1",
    [rule.metadata.uid],
  );
  expect(rows.map(({ made }) => made)).toEqual(["header,token", "header,token"]);
});

test("a value that is written here is taken back, and stays as a version", async () => {
  const client = RestClient.of(world, await world.mazevault.startRest());
  const { email, password } = await firstAdmin(world);
  const token = await client.login(email, password);
  const path = `/api/v1/namespaces/${TENANT}/secrets/partner`;
  const put = await client.send("PUT", `${path}/values`, { token, body: { values: { token: "mine" } } });
  expect(put.status).toBe(200);
  const { version: mine } = put.body as { version: number };
  await world.waitFor(SECRET, "partner", TENANT, ({ status }) => Number(status?.version) > mine);
  await world.waitFor("secret", "partner", TENANT, (it) => decoded(it).token === "t2");
  const old = await client.send("GET", `${path}/values?version=${mine}&key=token`, { token });
  expect(old.body).toMatchObject({ values: { token: "mine" } });
  await client.close();
});

test("what is deleted there keeps its value here, the rule says so, and it heals when it is back", async () => {
  await look();
  await control().deleteSecret(vault, "partner--token");
  const rule = await look();
  expect(conditionOf(rule, "Synced")).toMatchObject({ status: "False", reason: "TargetMissing" });
  expect(conditionOf(rule, "Synced")?.message).toBe(
    "partner/token: the vault entry partner--token was deleted; partner/token keeps the value that it had",
  );
  expect((await delivered("partner")).token).toBe("t2");
  // The service refuses it while it still deletes.
  const recovered = async () => {
    await control().recoverSecret(vault, "partner--token");
    return true;
  };
  await until("the entry is recovered", recovered, { timeoutMs: 20_000 });
  const healed = async () => conditionOf(await look(), "Synced")?.status === "True";
  await until("the rule is in step again", healed, { timeoutMs: 20_000 });
});

test("an entry that is missing or disabled there holds up no other, and each is told with its name", async () => {
  await control().setSecret(vault, "several--there", "v");
  await control().setSecret(vault, "several--off", "v");
  await control().updateSecret(vault, "several--off", { enabled: false });
  const entries = ["there", "off", "absent"].map((key) => ({ key, external: {} }));
  await world.apply(secretManifest(TENANT, "several", { entries }));
  const rule = await world.waitFor(RULE, TENANT, TENANT, ({ status }) => Number(status?.pending) === 2);
  const failures = rule.status?.failures as { name: string; reason: string }[];
  expect(failures.map(({ name, reason }) => [name, reason]).sort()).toEqual([
    ["several--absent", "TargetMissing"],
    ["several--off", "TargetDisabled"],
  ]);
  await world.kubectl("-n", TENANT, "delete", SECRET, "several");
});

test("two rules that would write in turn are refused, in the one that came later", async () => {
  const all = (name: string, direction: "Push" | "Bidirectional") => {
    const rule = ruleManifest(TENANT, {
      direction,
      ...(direction === "Bidirectional" && { conflictPolicy: "TargetWins" }),
    });
    return { ...rule, metadata: { name, namespace: TENANT } };
  };
  // What is only pushed, the literal and the template, has no other name there.
  await world.apply(all("later", "Push"));
  const overlapping = (object: KubernetesObject) =>
    (object.status?.failures as { name: string; reason: string }[] | undefined)?.map(({ name, reason }) => [
      name,
      reason,
    ]);
  const pushing = await world.waitFor(RULE, "later", TENANT, (it) => overlapping(it) !== undefined);
  expect(overlapping(pushing)).toEqual([["partner--token", "RulesOverlap"]]);
  expect(conditionOf(pushing, "Synced")?.message).toContain(
    `SyncRule ${TENANT} with direction Pull covers partner/token too`,
  );
  await world.kubectl("-n", TENANT, "delete", RULE, "later");
  await world.apply(all("later", "Bidirectional"));
  const both = await world.waitFor(RULE, "later", TENANT, (it) => overlapping(it) !== undefined);
  expect(overlapping(both)).toEqual([["partner--token", "RulesOverlap"]]);
  await world.kubectl("-n", TENANT, "delete", RULE, "later");
});

test("an idle look reads list pages only; a restart writes nothing", async () => {
  await until("everything is settled", async () => conditionOf(await look(), "Synced")?.status === "True", {
    timeoutMs: 20_000,
  });
  await look();
  const state = async () => ({
    secret: (await world.get(SECRET, "partner", TENANT)).metadata.resourceVersion,
    core: (await world.get("secret", "partner", TENANT)).metadata.resourceVersion,
    pulled: await world.sql("SELECT *, xmin FROM sync_pulled ORDER BY secret_id, key"),
    rows: await world.sql("SELECT count(*) FROM audit WHERE action <> 'LeadershipTaken'"),
  });
  const before = await state();
  await control().resetCounters();
  await look();
  const counted = (await control().counters()).vaults[vault];
  expect(counted).toMatchObject({ calls: 1, valueReads: 0, writes: 0 });
  await operator.process.stop();
  operator = await world.mazevault.startOperator({ name: "successor" });
  await look();
  expect(await state()).toEqual(before);
});

describe("whoever dies over it", () => {
  let succession: Succession;

  beforeAll(async () => {
    await operator.process.stop();
    succession = await Succession.begin(world);
  });

  test.each(["sync.beforePull", "sync.afterPull", "sync.afterPulled"])(
    "at %s is followed by one that doubles nothing",
    async (failpoint) => {
      const before = Number(await version("partner"));
      const value = `after ${failpoint}`;
      await succession.dies(failpoint, async () => {
        await control().setSecret(vault, "partner--token", value);
        await askToLook();
      });
      await world.waitFor("secret", "partner", TENANT, (it) => decoded(it).token === value);
      await until("it is settled", async () => (await unsettled()) === 0, { timeoutMs: 30_000 });
      await world.waitFor(SECRET, "partner", TENANT, ({ status }) => status?.version === before + 1);
    },
  );

  async function unsettled(): Promise<number> {
    await look();
    return (await world.sql("SELECT FROM sync_pulled WHERE NOT settled")).length;
  }
});
