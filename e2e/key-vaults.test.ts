/** What a KeyVault tells before it costs anything, whether its name is right; and what its rules hear of by events. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { azure, type Rest } from "../lab/mazevault.ts";
import { ruleManifest, vaultManifests } from "./chaos/manifests.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const KEY_VAULT = "keyvault.mazevault.io";
const PROJECT = "project.mazevault.io";
const RULE = "syncrule.mazevault.io";
const SECRET = "secret.mazevault.io";
const EVENT_TOKEN = "e0".repeat(32);
const [vault] = azure.vaults;

let world: World;
let surface: Rest;
let rest: RestClient;
let admin: string;

beforeAll(async () => {
  world = await startWorld();
  const eventTokensFile = path.join(world.lab.dir, "event-tokens");
  writeFileSync(eventTokensFile, `${EVENT_TOKEN}\n`);
  await world.mazevault.startOperator();
  surface = await world.mazevault.startRest({ config: { rest: { eventTokensFile } } });
  rest = RestClient.of(world, surface);
  const { email, password } = await firstAdmin(world);
  admin = await rest.login(email, password);
});

afterAll(async () => {
  await rest?.close();
  await world?.stop();
});

const control = () => world.mazevault.keyVault.control;

describe("names in Azure", () => {
  const TEAM = "naming";
  const crd = { company: "crd", project: "mzv", zone: "int", region: "gwc" };
  const patch = (naming: object) =>
    world.kubectl("patch", PROJECT, TEAM, "--type=merge", "-p", JSON.stringify({ spec: { naming } }));

  beforeAll(async () => {
    await world.tenant(TEAM);
    await world.apply(...vaultManifests(world.mazevault, TEAM));
    await world.waitReady(KEY_VAULT, TEAM, TEAM);
  });

  test("what Azure would refuse is told by field and fix, and heals with it", async () => {
    await patch({ ...crd, project: "accounting" });
    const stalled = await world.waitFor(PROJECT, TEAM, undefined, (it) => conditionOf(it, "Stalled") !== undefined);
    expect(conditionOf(stalled, "Named")).toMatchObject({ status: "False", reason: "NameInvalid" });
    expect(conditionOf(stalled, "Named")?.message).toMatch(
      /^spec\.naming: in environment dev KeyVault would be named "crdnprdevintaccountinggwckv01", which has 29 characters/,
    );
    await patch({ ...crd, project: "mvz" });
    const project = await world.waitReady(PROJECT, TEAM);
    expect(project.status?.names).toContainEqual({
      environment: "pro",
      type: "PostgreSQL",
      name: "crd-pro-int-mvz-gwc-psql01",
    });
  });

  test("a vault of another name works and says so; required, it is not called", async () => {
    const differs = await world.waitFor(
      KEY_VAULT,
      TEAM,
      TEAM,
      (it) => conditionOf(it, "Named")?.reason === "NameDiffers",
    );
    expect(conditionOf(differs, "Ready")?.status).toBe("True");
    await patch({ required: true });
    const refused = await world.waitFor(
      KEY_VAULT,
      TEAM,
      TEAM,
      (it) => conditionOf(it, "Ready")?.reason === "NameRefused",
    );
    expect(conditionOf(refused, "Ready")?.message).toContain(`the vault is named ${vault}`);
    await control().resetCounters();
    await world.apply(
      secretManifest(TEAM, "db", { entries: [{ key: "user", literal: "u" }] }),
      ruleManifest(TEAM, { direction: "Push" }),
    );
    await world.waitFor(RULE, TEAM, TEAM, (it) => conditionOf(it, "Stalled")?.reason === "NameRefused");
    expect((await control().counters()).vaults[vault]).toBeUndefined();
  });

  test("a rule of one environment does not write to the vault of another", async () => {
    await patch(crd);
    await world.waitReady(KEY_VAULT, TEAM, TEAM);
    await world.waitReady(RULE, TEAM, TEAM);
    const rule = ruleManifest(TEAM, { direction: "Push", environment: "dev" });
    await world.apply({ ...rule, metadata: { name: "dev", namespace: TEAM } });
    const refused = await world.waitFor(RULE, "dev", TEAM, (it) => conditionOf(it, "Stalled") !== undefined);
    expect(conditionOf(refused, "Ready")).toMatchObject({ status: "False", reason: "NameRefused" });
    expect(conditionOf(refused, "Ready")?.message).toContain("not one of environment dev (crdnprdevintmzvgwckv01)");
    await world.kubectl("-n", TEAM, "delete", RULE, "dev", TEAM);
  });

  test("the command line prints them for Terraform; of two projects the later one is told", async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "mazevault-names-"));
    try {
      const env = { ...cliEnvironment(world, surface, folder), MAZEVAULT_TOKEN: admin };
      const command = `mazevault projects names ${TEAM} --environment pro --number 2 -o json`;
      const { stdout } = await promisify(execFile)("bash", ["--norc", "-c", command], { env });
      expect(JSON.parse(stdout)).toContainEqual({
        environment: "pro",
        type: "KeyVault",
        name: "crdprointmzvgwckv02",
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
    await world.apply({
      apiVersion: "mazevault.io/v1",
      kind: "Project",
      metadata: { name: "later" },
      spec: { environments: [{ name: "pro" }], naming: crd },
    });
    const later = await world.waitFor(PROJECT, "later", undefined, (it) => conditionOf(it, "Stalled") !== undefined);
    expect(conditionOf(later, "Named")).toMatchObject({ reason: "NameCollision" });
    expect(conditionOf(await world.get(PROJECT, TEAM), "Ready")?.status).toBe("True");
    await world.kubectl("delete", PROJECT, "later");
  });
});

describe("events of the vault", () => {
  const TEAM = "events";
  const where = "/api/v1/events/key-vault";
  const subscription = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.KeyVault/vaults";
  const event = (vaultName: string = vault) => ({
    id: "1",
    topic: `${subscription}/${vaultName}`,
    subject: "partner--token",
    eventType: "Microsoft.KeyVault.SecretNewVersionCreated",
    data: { Id: "https://x", VaultName: vaultName, ObjectType: "Secret", ObjectName: "partner--token", Version: "1" },
    dataVersion: "1",
    metadataVersion: "1",
    eventTime: "2026-03-01T10:00:00Z",
  });
  const send = (
    body: unknown,
    headers: Readonly<Record<string, string>> = { "x-mazevault-event-token": EVENT_TOKEN },
  ) => rest.send("POST", where, { body, headers });
  const delivered = (value: string) =>
    world.waitFor("secret", "partner", TEAM, (it) => decoded(it).token === value, 20_000);

  beforeAll(async () => {
    await world.tenant(TEAM);
    await control().setSecret(vault, "partner--token", "t1");
    await world.apply(
      ...vaultManifests(world.mazevault, TEAM),
      secretManifest(TEAM, "partner", { entries: [{ key: "token", external: {} }], deliver: {} }),
      ruleManifest(TEAM, { direction: "Pull", interval: "24h" }),
    );
    await world.waitReady(SECRET, "partner", TEAM);
    await world.waitReady(RULE, TEAM, TEAM);
  });

  test("a subscription is validated, by either schema, for who has the token only", async () => {
    const validation = {
      ...event(),
      eventType: "Microsoft.EventGrid.SubscriptionValidationEvent",
      data: { validationCode: "512d38b6", validationUrl: "https://example.com" },
    };
    expect(await send([validation])).toMatchObject({ status: 200, body: { validationResponse: "512d38b6" } });
    const asked = { "webhook-request-origin": "eventgrid.azure.net" };
    const allowed = await rest.send("OPTIONS", `${where}?token=${EVENT_TOKEN}`, { headers: asked });
    expect(allowed).toMatchObject({
      status: 200,
      headers: { "webhook-allowed-origin": "eventgrid.azure.net", "webhook-allowed-rate": "120" },
    });
    for (const token of ["", EVENT_TOKEN.slice(1), "f".repeat(64)]) {
      expect((await send([validation], { "x-mazevault-event-token": token })).status).toBe(401);
      expect((await rest.send("OPTIONS", `${where}?token=${token}`, { headers: asked })).status).toBe(401);
    }
    expect((await send([event()], {})).status).toBe(401);
  });

  test("what was changed there is taken over long before the next look, and by a CloudEvent too", async () => {
    await control().setSecret(vault, "partner--token", "t2");
    expect((await send([event()])).status).toBe(200);
    await delivered("t2");
    await control().setSecret(vault, "partner--token", "t3");
    const { eventType: type, eventTime: time, topic: source, ...rest } = event(vault.toUpperCase());
    const headers = { "content-type": "application/cloudevents+json", "x-mazevault-event-token": EVENT_TOKEN };
    expect((await send({ ...rest, specversion: "1.0", type, time, source }, headers)).status).toBe(200);
    await delivered("t3");
  });

  test.each([
    ["no event at all", "events", 400],
    ["a vault that can be none", [{ ...event(), data: { VaultName: "a/b" } }], 400],
    ["no JSON", "{", 400],
    ["another vault", [event("another-vault")], 200],
    ["another type", [{ ...event(), eventType: "Microsoft.KeyVault.SecretNearExpiry" }], 200],
  ])("%s: what can never be right is refused, what concerns nobody here is not sent again", async (_, body, status) => {
    expect((await send(body)).status).toBe(status);
  });

  test("ten thousand events that say the same cost a look each five seconds at the most", async () => {
    await control().resetCounters();
    const started = Date.now();
    const crowd = Array.from({ length: 500 }, () => event());
    for (let sent = 0; sent < 10_000; sent += crowd.length) expect((await send(crowd)).status).toBe(200);
    await control().setSecret(vault, "partner--token", "t4");
    await send([event()]);
    await delivered("t4");
    const { operations = {} } = (await control().counters()).vaults[vault] ?? {};
    const lists = Object.values(operations.SecretList ?? {}).reduce((sum, count) => sum + count, 0);
    expect(lists).toBeGreaterThan(0);
    expect(lists).toBeLessThanOrEqual(2 + (Date.now() - started) / 5_000);
  });
});
