/**
 * A Key Vault that fails in every way it knows. Each time status tells what is wrong and for whom, the other vault and the
 * Secrets themselves go on, no call goes beyond the budget, and it heals by itself without doubling a version.
 */
import { readFileSync } from "node:fs";
import type { Condition } from "../crds/common.ts";
import type { FaultRule, StoredSecret, VaultCounters } from "../lab/keyvault/control.ts";
import { azure, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import {
  conditionOf,
  type KubernetesObject,
  scrape,
  secretManifest,
  startWorld,
  total,
  type World,
} from "./harness.ts";

/** Its ServiceAccount `kv` is one that the identity at the vaults trusts. */
const TEAM = "payments";
/** The Secrets and how many entries each has. */
const SIZES = { many: 60, few: 3 } as const;
const BUDGET = 300;
const [failing, healthy] = azure.vaults;
const api = "mazevault.io/v1";

const secrets = "secret.mazevault.io";
const keyVaults = "keyvault.mazevault.io";
const rules = "syncrule.mazevault.io";

let world: World;
let operator: Operator;
let pid: number | undefined;

type Manifest = object;

const credential = (name: string, data: Readonly<Record<string, string>>): Manifest => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: TEAM },
  stringData: data,
});

const servicePrincipal = (reference: object): object => ({
  servicePrincipal: { tenantId: azure.tenantId, clientId: azure.servicePrincipal, ...reference },
});

const keyVault = (name: string, vault: string, auth: object): Manifest => ({
  apiVersion: api,
  kind: "KeyVault",
  metadata: { name, namespace: TEAM },
  spec: {
    projectRef: { name: TEAM },
    vaultUrl: `https://${vault}.vault.azure.net/`,
    auth,
    budget: { callsPer10Seconds: BUDGET },
  },
});

const rule = (name: string, vault: string, names: readonly string[], spec: object = {}): Manifest => ({
  apiVersion: api,
  kind: "SyncRule",
  metadata: { name, namespace: TEAM },
  spec: {
    projectRef: { name: TEAM },
    environment: "pro",
    secrets: { names },
    direction: "Push",
    interval: "10s",
    target: { keyVault: { ref: { name: vault } } },
    ...spec,
  },
});

const keyOf = (index: number): string => `key-${String(index).padStart(2, "0")}`;

/** A Secret whose every value tells the round in which it was changed last. */
const secretOfRound = (name: string, entries: number, round: number): Manifest =>
  secretManifest(TEAM, name, {
    entries: Array.from({ length: entries }, (_, index) => ({
      key: keyOf(index),
      literal: `${index}, round ${round}`,
    })),
  });

let round = 0;

/** Changes every value of both Secrets. */
async function change(): Promise<void> {
  round += 1;
  await world.apply(secretOfRound("many", SIZES.many, round), secretOfRound("few", SIZES.few, round));
}

const entriesOf = (vault: string): Promise<readonly StoredSecret[]> => world.mazevault.keyVault.control.secrets(vault);
const current = (entry: StoredSecret | undefined): string | undefined => entry?.versions.at(-1)?.value;

async function entry(vault: string, name: string): Promise<StoredSecret | undefined> {
  return (await entriesOf(vault)).find((each) => each.name === name);
}

/** What MazeVault wrote for one Secret. */
async function entriesFor(vault: string, secret: string): Promise<readonly StoredSecret[]> {
  return (await entriesOf(vault)).filter(({ name }) => name.startsWith(`${secret}--`));
}

/** Every entry is there and holds the value of this round, and the rule says so. */
async function inStep(name: keyof typeof SIZES, vault: string): Promise<void> {
  await until(
    `${name} in step in ${vault}`,
    async () => {
      const entries = await entriesFor(vault, name);
      return (
        entries.length === SIZES[name] && entries.every((each) => current(each)?.endsWith(`round ${round}`) === true)
      );
    },
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  await world.waitFor(rules, name, TEAM, ({ status }) => status?.pending === 0, 60_000);
  await world.waitReady(rules, name, TEAM, 60_000);
}

const ready = (object: KubernetesObject): Condition | undefined => conditionOf(object, "Ready");

/** Waits until Ready is False for this reason, and returns its message. */
async function says(resource: string, name: string, reason: string): Promise<string> {
  const object = await world.waitFor(
    resource,
    name,
    TEAM,
    (each) => ready(each)?.status === "False" && ready(each)?.reason === reason,
  );
  return ready(object)?.message ?? "";
}

const setFaults = (...faults: readonly FaultRule[]): Promise<void> =>
  world.mazevault.keyVault.control.setFaults(faults);

async function counters(vault: string): Promise<VaultCounters> {
  const { vaults } = await world.mazevault.keyVault.control.counters();
  return vaults[vault] ?? { operations: {}, calls: 0, valueReads: 0, writes: 0, peakCallsIn10Seconds: 0 };
}

/** A figure of one vault in /metrics. */
async function figure(vault: string, name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
  return total(await scrape(operator), `mazevault_keyvault_${name}`, {
    vault: `${vault}.vault.azure.net`,
    ...labels,
  });
}

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config: { azure: { timeoutMs: 1_000 } } });
  pid = operator.process.pid;
  await world.tenant(TEAM);
  await world.apply(
    credential("client-secret", { secret: world.mazevault.servicePrincipal.secret }),
    keyVault("failing", failing, servicePrincipal({ clientSecretRef: { name: "client-secret", key: "secret" } })),
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "kv", namespace: TEAM } },
    keyVault("healthy", healthy, {
      workloadIdentity: {
        tenantId: azure.tenantId,
        clientId: azure.workloadIdentity,
        serviceAccountRef: { name: "kv" },
      },
    }),
    rule("many", "failing", ["many"]),
    rule("few", "healthy", ["few"]),
  );
  await change();
  await inStep("many", failing);
  await inStep("few", healthy);
});

afterAll(() => world?.stop());

afterEach(async () => {
  await setFaults();
  expect([operator.process.pid, operator.process.restarts]).toEqual([pid, 0]);
});

test("every way into a vault becomes Ready: secret, certificate, workload identity, managed identity", async () => {
  const { certFile, keyFile } = world.mazevault.servicePrincipal;
  await world.apply(
    credential("certificate", { pem: readFileSync(certFile, "utf8") + readFileSync(keyFile, "utf8") }),
    keyVault(
      "by-certificate",
      healthy,
      servicePrincipal({ certificateSecretRef: { name: "certificate", key: "pem" } }),
    ),
    keyVault("by-managed-identity", healthy, { managedIdentity: { clientId: azure.managedIdentity } }),
  );
  for (const name of ["failing", "healthy", "by-certificate"]) await world.waitReady(keyVaults, name, TEAM);
  expect(await says(keyVaults, "by-managed-identity", "VaultNotAllowed")).toMatch("spec.keyVaults");
  const url = `https://${healthy}.vault.azure.net/`;
  await world.kubectl(
    "patch",
    "project.mazevault.io",
    TEAM,
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { keyVaults: [url] } }),
  );
  await world.waitReady(keyVaults, "by-managed-identity", TEAM);
});

test("an idle cycle costs one list, and neither reads a value nor writes", async () => {
  await world.mazevault.keyVault.control.resetCounters();
  // 60 entries are three pages of 25.
  const operations = await until(
    "a cycle",
    async () => {
      const { operations: done } = await counters(failing);
      const answered = done.SecretList?.[200] ?? 0;
      return answered >= 3 && answered % 3 === 0 ? done : undefined;
    },
    { timeoutMs: 40_000, intervalMs: 250 },
  );
  expect(Object.keys(operations ?? {})).toEqual(["SecretList"]);
  expect(await counters(failing)).toMatchObject({ valueReads: 0, writes: 0 });
});

describe("a vault that fails as a whole", () => {
  const everything = { vault: failing };
  const faults: readonly {
    title: string;
    faults: readonly FaultRule[];
    reason: string;
    words: readonly (string | RegExp)[];
  }[] = [
    {
      title: "throttles everything and asks for 3 s",
      faults: [{ ...everything, effect: { kind: "status", status: 429, retryAfterSeconds: 3 } }],
      reason: "VaultThrottled",
      words: ["the vault throttles (429); it is left alone"],
    },
    {
      title: "lets nobody in any more",
      faults: [{ ...everything, effect: { kind: "status", status: 403 } }],
      reason: "AccessDenied",
      words: ["403 Forbidden, ForbiddenByFirewall", "the vault's network rules", "allow it"],
    },
    {
      title: "answers 503, cuts connections and hangs",
      faults: [
        { ...everything, probability: 0.4, effect: { kind: "status", status: 503 } },
        { ...everything, probability: 0.5, effect: { kind: "drop" } },
        { ...everything, effect: { kind: "hang" } },
      ],
      reason: "VaultUnreachable",
      words: [/at https:.*: (503|ECONNRESET|timeout)|it is tried every 10 s/],
    },
  ];

  test.each(faults)("$reason: it $title", async ({ faults: list, reason, words }) => {
    await world.mazevault.keyVault.control.resetCounters();
    await setFaults(...list);
    await change();
    const started = Date.now();
    await says(rules, "many", reason);
    const message = await says(keyVaults, "failing", reason);
    for (const word of words) expect(message).toMatch(word);
    if (reason === "VaultUnreachable") {
      const opened = async () => (await figure(failing, "breaker_state", { state: "Open" })) === 1;
      await until("the breaker opens", opened, { timeoutMs: 30_000 });
      expect(await figure(healthy, "breaker_state", { state: "Closed" })).toBe(1);
    }
    // Everybody else goes on.
    await inStep("few", healthy);
    await world.waitReady(keyVaults, "healthy", TEAM);
    await world.waitReady(secrets, "many", TEAM);
    if (reason !== "VaultUnreachable") {
      const written = async () => {
        const objects = [await world.get(keyVaults, "failing", TEAM), await world.get(rules, "many", TEAM)];
        return objects.map(({ metadata }) => metadata.resourceVersion);
      };
      const furtherAttempts = async () => {
        const { calls } = await counters(failing);
        await until("further attempts", async () => (await counters(failing)).calls >= calls + 4, {
          timeoutMs: 30_000,
        });
      };
      // Until every item has had this answer, the rule has something new to tell.
      await furtherAttempts();
      const before = await written();
      await furtherAttempts();
      // The same answer again is no news.
      expect(await written()).toEqual(before);
    }
    if (reason === "VaultThrottled") {
      const paused = async () => (await figure(failing, "paused_seconds")) > 0;
      await until("the pause is shown", paused, { timeoutMs: 30_000 });
      expect(await figure(healthy, "paused_seconds")).toBe(0);
      const { operations } = await counters(failing);
      const refused = Object.values(operations).reduce((sum, { 429: count = 0 }) => sum + count, 0);
      // As many calls as are under way at once, and again each time when the three seconds are over.
      expect(refused).toBeLessThanOrEqual(8 * (1 + (Date.now() - started) / 3_000));
    }
    await setFaults();
    await inStep("many", failing);
    await world.waitReady(keyVaults, "failing", TEAM, 60_000);
    expect(await figure(failing, "breaker_state", { state: "Closed" })).toBe(1);
    expect((await counters(failing)).peakCallsIn10Seconds).toBeLessThanOrEqual(BUDGET);
  });
});

test("a write without a clear answer is recognised, and makes no second version", async () => {
  await setFaults(
    { vault: failing, operation: "SecretSet", count: 3, effect: { kind: "process-then-status", status: 503 } },
    { vault: failing, operation: "SecretSet", count: 3, name: "many--key-3*", effect: { kind: "process-then-drop" } },
  );
  await change();
  await inStep("many", failing);
});

test("a small budget makes a change slower, and is kept", async () => {
  // Two calls for each entry, so that a change needs more than ten seconds.
  const callsPer10Seconds = 100;
  await setBudget(callsPer10Seconds);
  await world.mazevault.keyVault.control.resetCounters();
  await change();
  await inStep("many", failing);
  const { calls, peakCallsIn10Seconds } = await counters(failing);
  expect(await figure(failing, "budget_limit")).toBe(callsPer10Seconds);
  expect(await figure(failing, "budget_used")).toBeGreaterThan(0);
  expect(calls).toBeGreaterThanOrEqual(2 * SIZES.many);
  expect(peakCallsIn10Seconds).toBeLessThanOrEqual(callsPer10Seconds);
  await setBudget(BUDGET);
});

async function setBudget(callsPer10Seconds: number): Promise<void> {
  const patch = JSON.stringify({ spec: { budget: { callsPer10Seconds } } });
  await world.kubectl("-n", TEAM, "patch", keyVaults, "failing", "--type=merge", "-p", patch);
  await world.waitReady(keyVaults, "failing", TEAM);
}

test("so far, no value stands twice in the history of any entry", async () => {
  for (const vault of azure.vaults) {
    for (const { name, versions } of await entriesOf(vault)) {
      const values = versions.map(({ value }) => value);
      expect([name, values]).toEqual([name, [...new Set(values)]]);
    }
  }
});

describe("credentials", () => {
  const remedy = "put a valid client secret into the core Secret of spec.auth.servicePrincipal.clientSecretRef";

  test("a wrong client secret is named with Entra ID's code, and the right one is taken up at once", async () => {
    await world.apply(credential("client-secret", { secret: "not-the-secret" }));
    const message = await says(keyVaults, "failing", "CredentialInvalid");
    expect(message).toMatch("AADSTS7000215");
    expect(message).toMatch(remedy);
    await change();
    expect(await says(rules, "many", "CredentialInvalid")).toMatch(remedy);
    await inStep("few", healthy);
    await world.apply(credential("client-secret", { secret: world.mazevault.servicePrincipal.secret }));
    await world.waitReady(keyVaults, "failing", TEAM);
    await inStep("many", failing);
  });

  test("an identity without a role is told which to get", async () => {
    const stranger = { clientId: azure.stranger, clientSecretRef: { name: "client-secret", key: "secret" } };
    await world.apply(keyVault("stranger", healthy, servicePrincipal(stranger)));
    const message = await says(keyVaults, "stranger", "AccessDenied");
    expect(message).toMatch("ForbiddenByRbac; grant the identity the role Key Vault Secrets Officer");
    expect(await figure(healthy, "denied_total")).toBeGreaterThan(0);
  });

  test("a token endpoint that fails is told apart from a credential that does", async () => {
    await setFaults({ target: "entra", effect: { kind: "status", status: 500 } });
    // A new object asks for a token of its own.
    const fresh = keyVault(
      "fresh",
      healthy,
      servicePrincipal({ clientSecretRef: { name: "client-secret", key: "secret" } }),
    );
    await world.apply(fresh);
    expect(await says(keyVaults, "fresh", "IdentityUnavailable")).toMatch("Entra ID gave no token (500");
    await setFaults();
    await world.waitReady(keyVaults, "fresh", TEAM);
  });
});

test("what people do in the vault is put right where the entry is ours, and left alone where it is not", async () => {
  const { control } = world.mazevault.keyVault;
  await control.setSecret(failing, "taken", "theirs");
  await control.setSecret(failing, "taken-and-deleted", "theirs");
  await control.deleteSecret(failing, "taken-and-deleted");
  await world.apply(
    secretManifest(TEAM, "newcomer", { entries: ["a", "b", "c"].map((key) => ({ key, literal: `ours, ${key}` })) }),
    rule("newcomer", "failing", ["newcomer"], {
      mappings: [
        { secret: "newcomer", key: "a", name: "taken" },
        { secret: "newcomer", key: "b", name: "taken-and-deleted" },
      ],
    }),
  );
  const [edited, deleted, disabled, tagged] = [0, 1, 2, 3].map((index) => `many--${keyOf(index)}`) as [
    string,
    string,
    string,
    string,
  ];
  const before = await entry(failing, deleted);
  const { tags } = (await entry(failing, tagged))?.versions.at(-1) ?? {};
  await control.setSecret(failing, edited, "by hand");
  await control.deleteSecret(failing, deleted);
  await control.updateSecret(failing, disabled, { enabled: false });
  await control.updateSecret(failing, tagged, { tags: { ...tags, team: "theirs" } });

  expect(await says(rules, "newcomer", "TargetNotOwned")).toMatch(/newcomer\/[ab]: /);
  const refused = await world.waitFor(rules, "newcomer", TEAM, ({ status }) => failuresOf(status).length === 2);
  expect(failuresOf(refused.status).map(({ name, message }) => [name, message])).toEqual([
    ["taken", expect.stringMatching(/not written by MazeVault .* delete it there, or add a mapping/)],
    ["taken-and-deleted", expect.stringMatching(/not written by MazeVault; purge it there, or add a mapping/)],
  ]);
  expect(await says(rules, "many", "TargetDisabled")).toMatch(`many/${keyOf(2)}: `);
  await until(
    "what was edited or deleted is back",
    async () => {
      const [now, back] = [await entry(failing, edited), await entry(failing, deleted)];
      return current(now) === `0, round ${round}` && back?.state === "active";
    },
    { timeoutMs: 30_000 },
  );
  expect((await entry(failing, deleted))?.versions).toEqual(before?.versions);
  expect(current(await entry(failing, "taken"))).toBe("theirs");
  expect(await entry(failing, "taken-and-deleted")).toMatchObject({ state: "deleted" });

  await control.updateSecret(failing, disabled, { enabled: true });
  await control.deleteSecret(failing, "taken");
  for (const name of ["taken", "taken-and-deleted"])
    await until(`${name} purged`, () => purged(name), { timeoutMs: 10_000 });
  await change();
  await inStep("many", failing);
  await world.waitReady(rules, "newcomer", TEAM, 60_000);
  expect(current(await entry(failing, "taken"))).toBe("ours, a");
  expect((await entry(failing, tagged))?.versions.at(-1)?.tags).toMatchObject({ team: "theirs" });
});

test("a Secret that was purged and is applied again goes on with its own entry, whichever rule pushes it", async () => {
  const again = (value: string) =>
    secretManifest(TEAM, "again", { entries: [{ key: "a", literal: value }], deletionPolicy: "Purge" });
  await world.apply(again("before"), rule("again", "healthy", ["again"]));
  await world.waitReady(rules, "again", TEAM);
  await world.kubectl("-n", TEAM, "delete", rules, "again");
  await world.kubectl("-n", TEAM, "delete", secrets, "again");
  const stored = () => world.sql("SELECT id FROM secrets WHERE name = 'again'");
  await until("it is purged", async () => (await stored()).length === 0, { timeoutMs: 30_000 });
  await world.apply(again("after"), rule("again", "healthy", ["again"]));
  await world.waitReady(rules, "again", TEAM);
  expect((await entry(healthy, "again--a"))?.versions.map(({ value }) => value)).toEqual(["before", "after"]);
});

test("a vault that no KeyVault names any more vanishes from the metrics", async () => {
  const hosts = async () =>
    new Set((await scrape(operator)).flatMap(({ labels: { vault } }) => (vault === undefined ? [] : [vault])));
  const [gone, stays] = [failing, healthy].map((vault) => `${vault}.vault.azure.net`);
  expect(await hosts()).toEqual(new Set([gone, stays]));
  await world.kubectl("-n", TEAM, "delete", keyVaults, "failing");
  await until("it has vanished", async () => !(await hosts()).has(gone ?? ""), { timeoutMs: 30_000 });
  expect(await hosts()).toEqual(new Set([stays]));
  expect(total(await scrape(operator), "mazevault_keyvault_vaults")).toBe(1);
});

interface Failure {
  readonly name: string;
  readonly message: string;
}

/** By name. */
const failuresOf = (status: KubernetesObject["status"]): readonly Failure[] =>
  ((status?.failures ?? []) as Failure[]).toSorted((a, b) => (a.name < b.name ? -1 : 1));

/** A vault refuses to purge what it is still deleting. */
async function purged(name: string): Promise<boolean> {
  await world.mazevault.keyVault.control.purgeSecret(failing, name);
  return true;
}
