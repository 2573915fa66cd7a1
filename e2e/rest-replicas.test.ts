/**
 * An operator and two processes that serve nothing but REST, with a Redis between them: what one of them does, the others
 * know; what must be done once is done once; and whoever may not have something any more does not get it.
 */
import { createPrivateKey } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Redis } from "ioredis";
import { Agent, request } from "undici";
import { parseCertificate } from "../core/pki/certificate.ts";
import { signCrl } from "../core/pki/crl.ts";
import { parsePem, pem } from "../core/pki/pem.ts";
import { LocalSigner } from "../core/pki/signer.ts";
import type { Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { type RedisServer, startRedis } from "../lab/redis/redis.ts";
import { secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const VALUE = "canary-in-no-counter";
const LARGE = 900_000;
const secrets = "/api/v1/namespaces/shop/secrets";

let world: World;
let redis: RedisServer;
let crlFile: string;
let surfaces: readonly [Rest, Rest];
let one: RestClient;
let two: RestClient;
let admin: { email: string; password: string };
let token: string;

beforeAll(async () => {
  world = await startWorld();
  const { pki, ports, dir, spawn } = world.lab;
  redis = await startRedis({ dir: path.join(dir, "redis"), pki, ports, spawn: spawn.bind(world.lab) });
  crlFile = path.join(dir, "clients.crl");
  await publishCrl([]);
  const config = {
    redis: { url: redis.url, caFile: redis.caFile, passwordFile: redis.passwordFile },
    rest: { clientCrlFile: crlFile },
  };
  await world.mazevault.startOperator({ config });
  admin = await firstAdmin(world);
  const alone = (name: string) => world.mazevault.startRest({ name, config });
  surfaces = [await alone("rest-1"), await alone("rest-2")];
  [one, two] = surfaces.map((each) => RestClient.of(world, each)) as [RestClient, RestClient];
  token = await one.login(admin.email, admin.password);
  await world.tenant("shop");
  await world.apply(secretManifest("shop", "mail", { entries: [{ key: "password", external: {} }] }));
  await soon("both see the Secret", async () =>
    (await Promise.all([one, two].map((rest) => put(rest, "mail", VALUE)))).every(({ status }) => status === 200),
  );
});

afterAll(async () => {
  await one?.close();
  await two?.close();
  await world?.stop();
});

const soon = (what: string, holds: () => Promise<boolean>) => until(what, holds, { timeoutMs: 30_000, intervalMs: 50 });
const put = (rest: RestClient, name: string, value: string, headers = {}) =>
  rest.send("PUT", `${secrets}/${name}/values`, { token, body: { values: { password: value } }, headers });

/** Of the lab's CA; valid for so long from now. */
async function publishCrl(revoked: readonly string[], validMs = 3_600_000): Promise<void> {
  const { pki } = world.lab;
  const [block] = parsePem(readFileSync(pki.caFile, "utf8"), "CA");
  const ca = parseCertificate(block?.der ?? Buffer.alloc(0));
  const der = await signCrl(
    {
      issuer: ca.subjectDer,
      authorityKeyIdentifier: ca.subjectKeyIdentifier ?? Buffer.alloc(0),
      number: BigInt(Date.now()),
      thisUpdate: new Date(Date.now() - 60_000),
      nextUpdate: new Date(Date.now() + validMs),
      entries: revoked.map((serialNumber) => ({
        serialNumber,
        revocation: { at: new Date(Date.now() - 30_000), reason: "keyCompromise" as const },
      })),
    },
    new LocalSigner(createPrivateKey(readFileSync(pki.caKeyFile))),
  );
  writeFileSync(`${crlFile}.new`, pem("X509 CRL", der));
  renameSync(`${crlFile}.new`, crlFile);
}

const serialOf = (certFile: string): string =>
  parseCertificate(
    parsePem(readFileSync(certFile, "utf8"), "certificate")[0]?.der ?? Buffer.alloc(0),
  ).serialNumber.toString("hex");

test("who logs in on one is known to the other, and who logs out there is known to neither", async () => {
  const session = await one.login(admin.email, admin.password);
  const me = (rest: RestClient) => rest.send("GET", "/api/v1/auth/me", { token: session });
  expect([(await me(two)).status, (await me(one)).status]).toEqual([200, 200]);
  expect((await two.send("POST", "/api/v1/auth/logout", { token: session })).status).toBe(204);
  expect((await me(two)).status).toBe(401);
  const since = performance.now();
  await soon("the other one knows", async () => (await me(one)).status === 401);
  // A second is what is promised without Redis, too; the rest is for a busy machine.
  expect(performance.now() - since).toBeLessThan(5_000);
  const rows = await world.sql<{ action: string }>("SELECT action FROM audit WHERE action = 'LoggedOut'");
  expect(rows).toHaveLength(1);
});

test("a policy counts on both, and so does its end", async () => {
  const { body: made } = await one.send("POST", "/api/v1/users", {
    token,
    body: { email: "reader@example.com", password: "a password of twelve" },
  });
  const reader = await two.login("reader@example.com", "a password of twelve");
  const read = (rest: RestClient) => rest.send("GET", `${secrets}/mail/values`, { token: reader });
  expect([(await read(one)).status, (await read(two)).status]).toEqual([403, 403]);
  const policy = {
    apiVersion: "mazevault.io/v1",
    kind: "AccessPolicy",
    metadata: { name: "reader", namespace: "shop" },
    spec: {
      subjects: [{ localUser: { id: made.id } }],
      rules: [{ projects: ["shop"], environments: ["dev", "pro"], verbs: ["read"] }],
    },
  };
  await world.apply(policy);
  const both = (status: number) => async () =>
    (await Promise.all([one, two].map(read))).every((answer) => answer.status === status);
  await soon("both let the reader in", both(200));
  await world.kubectl("-n", "shop", "delete", "accesspolicies.mazevault.io", "reader");
  await soon("neither does any more", both(403));
});

describe("an idempotency key", () => {
  const body = { name: "once", scopes: ["list"] };
  const create = (rest: RestClient, key: string, as = token, sent: object = body) =>
    rest.send("POST", "/api/v1/api-keys", { token: as, body: sent, headers: { "idempotency-key": key } });

  test("of many requests at once, on both, one is done, and each gets its answer in the end", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        const rest = n % 2 === 0 ? one : two;
        let answer = await create(rest, '"the first"');
        while (answer.status === 409) answer = await create(rest, '"the first"');
        return answer;
      }),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    const rows = await world.sql("SELECT id FROM api_keys WHERE name = 'once'");
    expect(rows).toHaveLength(1);
    // Another session of the same user is the same caller, and the key that was made is another one.
    const again = await create(two, '"the first"', await two.login(admin.email, admin.password));
    expect(again.text).toBe(answers[0]?.text);
    expect((await create(one, '"the first"', answers[0]?.body.secret)).status).toBe(403);
  });

  test("means one request, is given again also when nothing is left to decide by, and is checked", async () => {
    expect(await create(two, '"the first"', token, { ...body, name: "twice" })).toMatchObject({
      status: 422,
      body: { code: "IdempotencyKeyReused" },
    });
    expect(await create(one, "no string")).toMatchObject({
      status: 400,
      body: { errors: [{ field: "header.idempotency-key" }] },
    });
    await put(one, "mail", "to be deleted");
    const remove = (rest: RestClient) =>
      rest.send("DELETE", `${secrets}/mail`, { token, headers: { "idempotency-key": '"delete"' } });
    expect((await remove(one)).status).toBe(204);
    await soon("it is gone", async () => (await two.send("GET", `${secrets}/mail`, { token })).status === 404);
    expect((await remove(two)).status).toBe(204);
    const rows = await world.sql("SELECT 1 FROM audit WHERE details ->> 'operation' = 'Delete'");
    expect(rows).toHaveLength(1);
  });
});

test("a client certificate ends with the CRL, on connections that are open, and while no CRL is valid none counts", async () => {
  const { pki } = world.lab;
  const clients = await Promise.all(
    ["honest", "stolen"].map(async (name) => {
      const files = await pki.issue(name, { commonName: name, usage: "client" });
      const client = new RestClient(surfaces[0].restUrl, { caFile: pki.caFile, ...files });
      const status = async () => (await client.send("GET", "/api/v1/auth/me")).status;
      return { client, status, serial: serialOf(files.certFile) };
    }),
  );
  const [honest, stolen] = clients as [(typeof clients)[number], (typeof clients)[number]];
  expect([await honest.status(), await stolen.status()]).toEqual([200, 200]);
  await publishCrl([stolen.serial]);
  await soon("the stolen one is out", async () => (await stolen.status()) === 401);
  expect(await honest.status()).toBe(200);
  await publishCrl([stolen.serial], -1_000);
  await soon("none can be judged", async () => (await honest.status()) === 503);
  expect((await honest.client.send("GET", "/api/v1/auth/me")).body).toMatchObject({ code: "RevocationUnknown" });
  await publishCrl([stolen.serial]);
  await soon("they can again", async () => (await honest.status()) === 200);
  expect(await stolen.status()).toBe(401);
  for (const { client } of clients) await client.close();
});

test("an export ends when its session does, and that is on record", async () => {
  const entries = [{ key: "password", external: {} }];
  const names = Array.from({ length: 24 }, (_, n) => `large-${n}`);
  await world.apply(...names.map((name) => secretManifest("shop", name, { entries })));
  const value = "x".repeat(LARGE);
  await soon("they are seen", async () => (await put(one, names.at(-1) ?? "", value)).status === 200);
  for (const name of names) expect((await put(one, name, value)).status).toBe(200);
  const session = await one.login(admin.email, admin.password);
  const agent = new Agent({ connect: { ca: readFileSync(world.lab.pki.caFile) } });
  const { statusCode, body } = await request(`${surfaces[0].restUrl}/api/v1/export?namespace=shop`, {
    dispatcher: agent,
    headers: { authorization: `Bearer ${session}` },
  });
  expect(statusCode).toBe(200);
  // Nobody reads on yet: what was not sent stays with the server.
  await two.send("POST", "/api/v1/auth/logout", { token: session });
  await soon("it is on record", async () => {
    const rows = await world.sql(
      "SELECT 1 FROM audit WHERE action = 'AccessDenied' AND details ->> 'route' = 'exportSecrets'",
    );
    return rows.length > 0;
  });
  await expect(body.text()).rejects.toThrow();
  await agent.close();
});

test("what stands in Redis tells nothing, and without it everything goes on", async () => {
  const { url, caFile, passwordFile } = redis;
  const client = new Redis(url, { tls: { ca: readFileSync(caFile) }, password: readFileSync(passwordFile, "utf8") });
  expect((await one.send("POST", "/api/v1/auth/login", { body: { ...admin, password: "wrong" } })).status).toBe(401);
  await put(one, "large-0", VALUE);
  const kept = await everything(client);
  client.disconnect();
  for (const expected of ["rate:address", "rate:subject", "attempts"]) expect(kept).toContain(expected);
  for (const secret of [VALUE, token, token.split(".")[2], admin.password, admin.email, "once"]) {
    expect(kept.includes(secret ?? "")).toBe(false);
  }

  redis.process.autoRestart = false;
  await redis.process.kill();
  const ready = async () => (await request(`http://127.0.0.1:${surfaces[0].httpPort}/readyz`)).body.text();
  await soon("it is told", async () => (await ready()).includes("redis: Redis at"));
  const session = await one.login(admin.email, admin.password);
  expect((await two.send("GET", "/api/v1/auth/me", { token: session })).status).toBe(200);
  expect((await two.send("POST", "/api/v1/auth/logout", { token: session })).status).toBe(204);
  await soon("the other one knows", async () => {
    return (await one.send("GET", "/api/v1/auth/me", { token: session })).status === 401;
  });
  await redis.process.start();
  await soon("it heals", async () => (await ready()).includes("redis: ok"));
});

/** Every key, and what stands under it. */
async function everything(client: Redis): Promise<string> {
  const keys = await client.keys("*");
  const values = await Promise.all(
    keys.map(async (key) => {
      const type = await client.type(key);
      if (type === "string") return client.get(key);
      return type === "hash"
        ? JSON.stringify(await client.hgetall(key))
        : (await client.zrange(key, "0", "-1")).join("\n");
    }),
  );
  return [...keys, ...values].join("\n");
}
