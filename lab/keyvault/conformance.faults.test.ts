import { ClientSecretCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import type { FaultEffect } from "./control.ts";
import { all, Conformance, codes } from "./testing/conformance.ts";
import { OFFICER, SECOND_VAULT, TENANT, VAULT, VAULT_URL } from "./testing/identities.ts";
import { API_VERSION, raw } from "./testing/raw.ts";

const suite = new Conformance();

beforeAll(async () => {
  await suite.start();
  await suite.client().setSecret("steady", "v");
});
afterAll(() => suite.dispose());
afterEach(async () => {
  await suite.lab.control.setFaults([]);
  await suite.lab.control.changeSettings({ serviceLimit: null });
});

const fault = (effect: FaultEffect, rest: object = {}) => suite.lab.control.setFaults([{ ...rest, effect }]);
const read = () => suite.call("/secrets/steady");
const versionsOf = async (name: string) =>
  (await suite.lab.control.secrets(VAULT)).find((secret) => secret.name === name)?.versions.length ?? 0;

it("answers with a status as long as the rule counts", async () => {
  // "Azure Key Vault throttling guidance": 429; the error body of "Azure Key Vault REST API Error Codes".
  await fault({ kind: "status", status: 429, retryAfterSeconds: 7 }, { count: 2 });
  for (const response of [await read(), await read()]) {
    expect([response.status, response.headers["retry-after"], codes(response).code]).toEqual([429, "7", "Throttled"]);
  }
  expect((await read()).status).toBe(200);
  expect(await suite.lab.control.faults()).toEqual([]);
});

it.each([403, 500, 503] as const)("answers %d without doing anything", async (status) => {
  await fault({ kind: "status", status });
  await expect(suite.client().setSecret(`status-${status}`, "v")).rejects.toMatchObject({ statusCode: status });
  expect(await versionsOf(`status-${status}`)).toBe(0);
});

it("hits only the operation, the vault and the names of its rule", async () => {
  await fault({ kind: "status", status: 503 }, { vault: VAULT, operation: "SecretSet", name: "db-*" });
  const client = suite.client();
  await expect(client.setSecret("db-password", "v")).rejects.toMatchObject({ statusCode: 503 });
  await expect(client.setSecret("other-db-password", "v")).resolves.toBeDefined();
  await expect(client.getSecret("steady")).resolves.toBeDefined();
  await fault({ kind: "status", status: 503 }, { vault: "another-vault" });
  expect((await read()).status).toBe(200);
});

it("leaves the challenge alone unless told otherwise", async () => {
  const url = `${VAULT_URL}/secrets/steady?api-version=${API_VERSION}`;
  const unauthenticated = () => raw(suite.lab.transport, { url });
  await fault({ kind: "status", status: 503 });
  expect((await unauthenticated()).status).toBe(401);
  await fault({ kind: "status", status: 503 }, { unauthenticated: true });
  expect((await unauthenticated()).status).toBe(503);
});

it("waits before it answers", async () => {
  await fault({ kind: "latency", milliseconds: 200 });
  const before = performance.now();
  expect((await read()).status).toBe(200);
  // Timers may fire a little early by the other clock.
  expect(performance.now() - before).toBeGreaterThan(190);
});

it("never answers while it hangs", async () => {
  await fault({ kind: "hang" }, { count: 1 });
  const abort = new AbortController();
  const pending = suite.client().getSecret("steady", { abortSignal: abort.signal });
  const outcome = pending.then(
    () => "answered",
    (error: Error) => error.name,
  );
  // The rule is used up once the request hangs.
  while ((await suite.lab.control.faults()).length > 0) {}
  abort.abort();
  expect(await outcome).toBe("AbortError");
});

it("cuts the connection before it has done anything", async () => {
  await fault({ kind: "drop" }, { operation: "SecretSet", count: 1 });
  await expect(suite.client().setSecret("dropped", "v")).rejects.toMatchObject({ code: "ECONNRESET" });
  expect(await versionsOf("dropped")).toBe(0);
});

it("does what was asked and then cuts the connection", async () => {
  await fault({ kind: "process-then-drop" }, { operation: "SecretSet", count: 1 });
  await expect(suite.client().setSecret("ambiguous", "v")).rejects.toMatchObject({ code: "ECONNRESET" });
  expect(await versionsOf("ambiguous")).toBe(1);
});

it("does what was asked and then says that it failed: the SDK's own retry makes a second version", async () => {
  await fault({ kind: "process-then-status", status: 503 }, { operation: "SecretSet", count: 1 });
  await expect(suite.client().setSecret("doubtful", "v")).rejects.toMatchObject({ statusCode: 503 });
  expect(await versionsOf("doubtful")).toBe(1);

  await fault({ kind: "process-then-status", status: 503, retryAfterSeconds: 0 }, { operation: "SecretSet", count: 1 });
  const httpClient = suite.lab.transport;
  const credential = new ClientSecretCredential(TENANT, OFFICER.clientId, OFFICER.secret, { httpClient });
  const retrying = new SecretClient(VAULT_URL, credential, { httpClient, retryOptions: { retryDelayInMs: 1 } });
  await retrying.setSecret("doubled", "v");
  expect(await versionsOf("doubled")).toBe(2);
});

it("disturbs the token endpoints too", async () => {
  await fault({ kind: "status", status: 503 }, { target: "entra", count: 1 });
  const parameters = { client_id: OFFICER.clientId, client_secret: OFFICER.secret };
  const unavailable = await suite.tokenRequest(TENANT, parameters);
  expect([unavailable.status, unavailable.body.error]).toEqual([503, "temporarily_unavailable"]);
  expect((await suite.tokenRequest(TENANT, parameters)).status).toBe(200);
  await fault({ kind: "drop" }, { target: "entra", count: 1 });
  await expect(suite.tokenRequest(TENANT, parameters)).rejects.toThrow();
});

it("refuses transactions beyond the service limit, and does not count the refused ones", async () => {
  // "Azure Key Vault service limits": secrets transactions in 10 seconds per vault; "throttling guidance".
  const { control } = suite.lab;
  const list = () => suite.call("/secrets", {}, SECOND_VAULT);
  await control.changeSettings({ serviceLimit: 5 });
  const statuses = await Promise.all(Array.from({ length: 8 }, async () => (await list()).status));
  expect(statuses.sort()).toEqual([200, 200, 200, 200, 200, 429, 429, 429]);
  const refused = await list();
  expect([refused.status, codes(refused).inner]).toEqual([429, "VaultRequestTypeLimitReached"]);
  expect(Number(refused.headers["retry-after"])).toBeGreaterThanOrEqual(1);
  expect(Number(refused.headers["retry-after"])).toBeLessThanOrEqual(10);
  await control.changeSettings({ serviceLimit: 6 });
  expect([(await list()).status, (await list()).status]).toEqual([200, 429]);
});

it("counts calls by operation and status, value reads, writes and the peak", async () => {
  const { control } = suite.lab;
  await control.resetCounters();
  const client = suite.client();
  await client.setSecret("counted", "v");
  await client.getSecret("counted");
  await expect(client.getSecret("uncounted")).rejects.toThrow();
  await all(client.listPropertiesOfSecrets());
  await fault({ kind: "drop" }, { count: 1 });
  await expect(read()).rejects.toThrow();
  const { vaults, tokens } = await control.counters();
  expect(vaults[VAULT]).toEqual({
    operations: { SecretSet: { 401: 1, 200: 1 }, SecretGet: { 0: 1, 200: 1, 404: 1 }, SecretList: { 200: 1 } },
    calls: 6,
    valueReads: 1,
    writes: 1,
    peakCallsIn10Seconds: 6,
  });
  expect(tokens).toEqual({ entra: { 200: 1 } });
});

it("has each call on record: when, by whom, what came of it, and which version", async () => {
  const { control } = suite.lab;
  const before = (await control.calls(VAULT)).length;
  const startedAt = Date.now();
  const client = suite.client();
  const { version } = (await client.setSecret("logged", "v")).properties;
  await client.getSecret("logged");
  await fault({ kind: "process-then-drop" }, { operation: "SecretSet", count: 1 });
  await expect(client.setSecret("logged", "w")).rejects.toMatchObject({ code: "ECONNRESET" });
  const unanswered = (await control.secrets(VAULT)).find(({ name }) => name === "logged")?.versions.at(-1)?.version;
  const calls = (await control.calls(VAULT)).slice(before);
  const who = { vault: VAULT, name: "logged", caller: OFFICER.clientId };
  expect(calls.map(({ arrivedAt: _, answeredAt: __, ...call }) => call)).toEqual([
    { vault: VAULT, operation: "SecretSet", name: "logged", status: 401 },
    { ...who, operation: "SecretSet", status: 200, version },
    { ...who, operation: "SecretGet", status: 200, version },
    { ...who, operation: "SecretSet", status: 0, version: unanswered },
  ]);
  const times = calls.flatMap(({ arrivedAt, answeredAt }) => [arrivedAt, answeredAt]);
  expect([startedAt, ...times, Date.now()]).toEqual([startedAt, ...times, Date.now()].toSorted((a, b) => a - b));
});

it("lets a person edit the vault without being counted", async () => {
  const { control } = suite.lab;
  await control.resetCounters();
  await control.setSecret(VAULT, "by-hand", "one", { tags: { by: "hand" } });
  await control.updateSecret(VAULT, "by-hand", { enabled: false });
  await control.deleteSecret(VAULT, "by-hand");
  await control.recoverSecret(VAULT, "by-hand");
  const stored = (await control.secrets(VAULT)).find((secret) => secret.name === "by-hand");
  expect(stored).toMatchObject({ state: "active", versions: [{ value: "one", enabled: false, tags: { by: "hand" } }] });
  await control.deleteSecret(VAULT, "by-hand");
  await control.purgeSecret(VAULT, "by-hand");
  expect(await versionsOf("by-hand")).toBe(0);
  expect((await control.counters()).vaults).toEqual({});
});

it("lets nobody control it without the token, and names a wrong field", async () => {
  const { control: address } = suite.lab.addresses;
  expect((await fetch(`http://${address.host}:${address.port}/counters`)).status).toBe(401);
  const wrong = suite.lab.control.setFaults([{ effect: { kind: "latency", milliseconds: -1 } }]);
  await expect(wrong).rejects.toThrow("milliseconds");
});
