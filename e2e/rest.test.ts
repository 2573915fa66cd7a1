/** The REST surface on the running product: the seed's lines as written, and what people and scripts do every day. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { decoded, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const run = promisify(execFile);

let world: World;
let surface: Rest;
let rest: RestClient;
let admin: string;

beforeAll(async () => {
  world = await startWorld();
  await world.mazevault.startOperator();
  surface = await world.mazevault.startRest();
  rest = RestClient.of(world, surface);
  const { email, password } = await firstAdmin(world);
  admin = await rest.login(email, password);
  await world.tenant("shop");
});

afterAll(async () => {
  await rest?.close();
  await world?.stop();
});

const soon = (what: string, holds: () => Promise<boolean>) => until(what, holds, { timeoutMs: 20_000, intervalMs: 50 });
const shell = async (script: string): Promise<string> => (await run("bash", ["--norc", "-c", script])).stdout;
const secret = "/api/v1/namespaces/shop/secrets";

describe("the lines of the gateway guide", () => {
  test("log in, with host and password put in", async () => {
    const { password } = await firstAdmin(world);
    const line = `TOKEN=$(curl -sk -X POST https://PRIMARY_URL/api/v1/auth/login \\
  -H "Content-Type: application/json" \\
  -d '{"email":"admin@mazevault.com","password":"YOUR_PASSWORD"}' | jq -r '.token')
echo "$TOKEN"`;
    const filled = line.replace("https://PRIMARY_URL", surface.restUrl).replace("YOUR_PASSWORD", password);
    const token = (await shell(filled)).trim();
    const { status, body } = await rest.send("GET", "/api/v1/auth/me", { token });
    expect({ status, body }).toMatchObject({
      status: 200,
      body: { subject: "LocalUser admin@mazevault.com", role: "admin" },
    });
  });

  test("health and mode", async () => {
    const at = (line: string) =>
      shell(line.replace("https://localhost:8443", surface.restUrl).replace("https://PRIMARY_URL", surface.restUrl));
    expect(JSON.parse(await at("curl -sk https://localhost:8443/api/v1/health"))).toMatchObject({
      status: "ok",
      mode: "primary",
    });
    expect(await at("curl -sk https://localhost:8443/")).toBe('{"mode":"primary"}');
    expect(await at('curl -sk -o /dev/null -w "%{http_code}" https://PRIMARY_URL/api/v1/health')).toBe("200");
  });
});

describe("secrets", () => {
  const put = (name: string, body: object, headers: Record<string, string> = {}) =>
    rest.send("PUT", `${secret}/${name}/values`, { token: admin, body, headers });

  test("one that is made here, read, changed, rolled back, deleted and recovered", async () => {
    const made = await put("partner", { project: "shop", environment: "pro", values: { "api-key": "first" } });
    expect(made).toMatchObject({ status: 200, body: { version: 1, changed: ["api-key"] } });
    const read = () => rest.send("GET", `${secret}/partner/values`, { token: admin });
    expect(await read()).toMatchObject({ status: 200, body: { version: 1, values: { "api-key": "first" } } });

    const second = await put("partner", { values: { "api-key": "second" } }, { "if-match": String(made.headers.etag) });
    expect(second.body).toEqual({ version: 2, changed: ["api-key"] });
    const stale = await put("partner", { values: { "api-key": "lost" } }, { "if-match": String(made.headers.etag) });
    expect(stale).toMatchObject({ status: 412, body: { code: "ChangedMeanwhile" } });
    const unchanged = await rest.send("GET", `${secret}/partner/values`, {
      token: admin,
      headers: { "if-none-match": String(second.headers.etag) },
    });
    expect(unchanged).toMatchObject({ status: 304, text: "" });

    const rolledBack = await rest.send("POST", `${secret}/partner/rollback`, { token: admin, body: { version: 1 } });
    expect(rolledBack.body).toEqual({ version: 3, changed: ["api-key"], kept: [] });
    expect((await read()).body).toEqual({ version: 3, values: { "api-key": "first" } });
    const versions = await rest.send("GET", `${secret}/partner/versions`, { token: admin });
    expect(versions.body.items.map(({ version }: { version: number }) => version)).toEqual([3, 2, 1]);

    expect((await rest.send("DELETE", `${secret}/partner`, { token: admin })).status).toBe(204);
    await soon("it is soft-deleted", async () => {
      const [row] = await world.sql<{ state: string }>("SELECT state FROM secrets WHERE name = 'partner'");
      return row?.state === "SoftDeleted";
    });
    expect((await read()).status).toBe(404);
    expect(await rest.send("POST", `${secret}/partner/recover`, { token: admin })).toMatchObject({
      status: 200,
      body: { version: 3 },
    });
    await soon("it is back", async () => (await read()).body?.values?.["api-key"] === "first");
    const elsewhere = await put("partner", { project: "shop", environment: "dev", values: { "api-key": "lost" } });
    expect(elsewhere).toMatchObject({ status: 409, body: { code: "BelongsElsewhere" } });
  });

  test("what is recovered keeps as many versions as before", async () => {
    const entries = [{ key: "k", external: {} }];
    await world.apply(
      secretManifest("shop", "kept", { entries, retention: { versions: 20 }, deletionPolicy: "Retain" }),
    );
    for (let n = 1; n <= 12; n++) expect((await put("kept", { values: { k: `${n}` } })).body.version).toBe(n);
    expect((await rest.send("DELETE", `${secret}/kept`, { token: admin })).status).toBe(204);
    await soon("it is recovered", async () => {
      const { status } = await rest.send("POST", `${secret}/kept/recover`, { token: admin });
      return status === 200;
    });
    await world.waitReady("secrets.mazevault.io", "kept", "shop");
    const { body } = await rest.send("GET", `${secret}/kept/versions`, { token: admin });
    expect(body.items).toHaveLength(12);
    const object = await world.get("secrets.mazevault.io", "kept", "shop");
    expect(object.spec).toMatchObject({ deletionPolicy: "Retain", retention: { versions: 20 } });
  });

  test("an external entry of a manifest is delivered as soon as it is written", async () => {
    await world.apply(
      secretManifest("shop", "mail", {
        entries: [
          { key: "user", literal: "shop" },
          { key: "password", external: {} },
          { key: "url", template: "smtp://{{ user }}:{{ password | url_encode }}@mail" },
        ],
        deliver: {},
      }),
    );
    await world.waitFor(
      "secrets.mazevault.io",
      "mail",
      "shop",
      ({ status }) => status?.conditions?.some(({ message }) => message.includes("password")) === true,
    );
    expect((await put("mail", { values: { password: "p@ss" } })).status).toBe(200);
    await world.waitReady("secrets.mazevault.io", "mail", "shop");
    expect(decoded(await world.get("secret", "mail", "shop"))).toMatchObject({ url: "smtp://shop:p%40ss@mail" });
    expect(await put("mail", { values: { user: "other" } })).toMatchObject({
      status: 409,
      body: { code: "ValueInvalid" },
    });
    expect(await put("mail", { values: { more: "x" } })).toMatchObject({ status: 409, body: { code: "EntryUnknown" } });
  });

  test("fifty writers at once: each gets a version of its own", async () => {
    await put("busy", { project: "shop", environment: "dev", values: { n: "0" } });
    const versions = await Promise.all(
      Array.from({ length: 50 }, async (_, n) => {
        for (;;) {
          const { status, body } = await put("busy", { values: { n: `value ${n}` } });
          if (status === 200) return body.version as number;
          expect(body).toMatchObject({ status: 409, code: "ChangedMeanwhile" });
        }
      }),
    );
    expect([...versions].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => n + 2));
  });

  test("bytes that are no text", async () => {
    const bytes = Buffer.from([0, 255, 254]).toString("base64");
    await put("binary", { project: "shop", environment: "dev", encoding: "base64", values: { blob: bytes } });
    const as = (encoding: string) => rest.send("GET", `${secret}/binary/values?encoding=${encoding}`, { token: admin });
    expect((await as("base64")).body.values).toEqual({ blob: bytes });
    expect(await as("utf8")).toMatchObject({ status: 409, body: { code: "ValueIsNotText" } });
    expect(await put("binary", { encoding: "base64", values: { blob: "???" } })).toMatchObject({
      status: 400,
      body: { errors: [{ field: "body.values.blob", message: "must be base64" }] },
    });
  });

  test("lists in pages, and an export of many", async () => {
    const first = await rest.send("GET", "/api/v1/secrets?namespace=shop&limit=1", { token: admin });
    expect(first.body.items).toHaveLength(1);
    const rest_ = await rest.send("GET", `/api/v1/secrets?namespace=shop&after=${first.body.next}`, { token: admin });
    const names = [...first.body.items, ...rest_.body.items].map(({ name }: { name: string }) => name);
    expect(names).toEqual([...new Set(names)].sort());
    const { text } = await rest.send("GET", "/api/v1/export?namespace=shop&encoding=base64", { token: admin });
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { name: string });
    expect(lines.map(({ name }) => name)).toEqual(names);
  });

  test("each read is on record with who it was and why it was allowed", async () => {
    await rest.send("GET", `${secret}/mail/values`, { token: admin });
    const { body } = await rest.send("GET", "/api/v1/audit?action=SecretRead&subject=shop/mail&limit=1", {
      token: admin,
    });
    expect(body.items[0]).toMatchObject({
      action: "SecretRead",
      actor: { kind: "Subject", subject: "LocalUser admin@mazevault.com", via: "Token" },
      details: { purpose: expect.stringContaining("role admin") },
    });
  });
});

describe("access", () => {
  test("a ServiceAccount reads what a policy grants, and nothing else; what is refused is on record", async () => {
    await world.kubectl("-n", "shop", "create", "serviceaccount", "app");
    await rest.send("PUT", `${secret}/granted/values`, {
      token: admin,
      body: { project: "shop", environment: "pro", values: { k: "v" } },
    });
    await world.apply({
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "app", namespace: "shop" },
      spec: {
        subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
        rules: [{ projects: ["shop"], environments: ["pro"], secrets: ["granted"], verbs: ["read"] }],
      },
    });
    await world.waitReady("accesspolicies.mazevault.io", "app", "shop");
    const token = (await world.kubectl("-n", "shop", "create", "token", "app", "--audience=mazevault")).trim();
    const as = (path: string) => rest.send("GET", path, { token });
    expect(await as(`${secret}/granted/values`)).toMatchObject({ status: 200, body: { values: { k: "v" } } });
    for (const path of [`${secret}/mail/values`, `${secret}/nothing/values`, "/api/v1/audit", "/api/v1/users"]) {
      expect(await as(path)).toMatchObject({ status: 403, body: { code: "AccessDenied" } });
    }
    expect((await as("/api/v1/secrets")).body.items).toEqual([]);
    const other = (await world.kubectl("-n", "shop", "create", "token", "app", "--audience=somebody-else")).trim();
    expect((await rest.send("GET", "/api/v1/auth/me", { token: other })).status).toBe(401);
    const { body } = await rest.send("GET", "/api/v1/audit?action=AccessDenied&limit=10", { token: admin });
    expect(body.items).toContainEqual(
      expect.objectContaining({ outcome: "Denied", subject: expect.objectContaining({ name: "shop/mail" }) }),
    );
  });

  test("an API key does no more than its scopes", async () => {
    const made = await rest.send("POST", "/api/v1/api-keys", { token: admin, body: { name: "ci", scopes: ["list"] } });
    expect(made.status).toBe(201);
    const token = made.body.secret as string;
    expect((await rest.send("GET", `${secret}/mail`, { token })).status).toBe(200);
    expect((await rest.send("GET", `${secret}/mail/values`, { token })).status).toBe(403);
    expect((await rest.send("DELETE", `/api/v1/api-keys/${made.body.id}`, { token: admin })).status).toBe(204);
    await soon("the key is refused", async () => (await rest.send("GET", `${secret}/mail`, { token })).status === 401);
  });

  test("a client certificate is somebody", async () => {
    const { certFile, keyFile } = await world.lab.pki.issue("somebody", { commonName: "somebody", usage: "client" });
    const client = new RestClient(surface.restUrl, { caFile: world.lab.pki.caFile, certFile, keyFile });
    expect((await client.send("GET", "/api/v1/auth/me")).body).toMatchObject({ subject: "Client somebody" });
    expect((await client.send("GET", `${secret}/mail/values`)).status).toBe(403);
    await client.close();
  });

  test("who may issue may not use every issuer for it", async () => {
    await world.apply({
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "ci", namespace: "shop" },
      spec: {
        subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
        rules: [
          {
            projects: ["shop"],
            environments: ["dev", "pro"],
            certificates: ["ci-*"],
            issuers: ["dev-*"],
            verbs: ["issue"],
          },
        ],
      },
    });
    await world.waitReady("accesspolicies.mazevault.io", "ci", "shop");
    const token = (await world.kubectl("-n", "shop", "create", "token", "app", "--audience=mazevault")).trim();
    const issue = (issuer: string) =>
      rest.send("POST", "/api/v1/namespaces/shop/certificate-requests", {
        token,
        body: { name: `ci-${issuer}`, request: "A".repeat(64), issuerRef: { name: issuer } },
      });
    expect(await issue("production-ca")).toMatchObject({
      status: 403,
      body: { detail: "no grant of issue on Issuer shop/production-ca" },
    });
    expect(await issue("dev-ca")).toMatchObject({ status: 201, body: { state: "Refused" } });
    const { body } = await rest.send("GET", "/api/v1/audit?action=ObjectChangeRequested&limit=1", { token: admin });
    expect(body.items[0]).toMatchObject({
      actor: { subject: "ServiceAccount shop/app" },
      subject: { kind: "Certificate", name: "shop/ci-dev-ca" },
    });
  });

  test("access explain says why", async () => {
    const { body } = await rest.send(
      "GET",
      "/api/v1/access/explain?verb=read&namespace=shop&name=mail&serviceAccount=shop/app",
      { token: admin },
    );
    expect(body).toMatchObject({ subject: "ServiceAccount shop/app", allowed: false });
    expect(body.considered).toContainEqual(expect.objectContaining({ counts: false }));
  });
});

describe("what is wrong is named", () => {
  test.each([
    { method: "GET", path: "/api/v1/nothing", status: 404, code: "RouteNotFound" },
    { method: "POST", path: "/api/v1/health", status: 405, code: "MethodNotAllowed" },
    { method: "GET", path: "/api/v1/secrets?limit=0", status: 400, code: "InvalidRequest", field: "query.limit" },
    { method: "GET", path: "/api/v1/secrets?nothing=1", status: 400, code: "InvalidRequest", field: "query" },
    {
      method: "GET",
      path: "/api/v1/namespaces/SHOP/secrets/x",
      status: 400,
      code: "InvalidRequest",
      field: "path.namespace",
    },
    {
      method: "PUT",
      path: `${secret}/mail/values`,
      body: {},
      status: 400,
      code: "InvalidRequest",
      field: "body.values",
    },
    { method: "PUT", path: `${secret}/mail/values`, body: "{", status: 400, code: "InvalidRequest", field: "body" },
    { method: "PUT", path: `${secret}/none/values`, body: { values: { a: "b" } }, status: 404, code: "NotFound" },
  ])("$method $path: $status $code", async ({ method, path, body, status, code, field }) => {
    const answer = await rest.send(method, path, { token: admin, ...(body !== undefined && { body }) });
    expect(answer).toMatchObject({ status, body: { code, status } });
    if (field !== undefined) expect(answer.body.errors).toContainEqual(expect.objectContaining({ field }));
    expect(answer.headers["content-type"]).toContain("application/problem+json");
    expect(answer.headers["x-request-id"]).toBe(answer.body.requestId);
  });

  test("without credentials, or with wrong ones, everything but health and mode is refused alike", async () => {
    for (const token of [undefined, "nonsense", "mvk_nonsense", "a.b.c"]) {
      const { status, body } = await rest.send("GET", "/api/v1/secrets", token === undefined ? {} : { token });
      expect({ status, code: body.code }).toEqual({ status: 401, code: "Unauthenticated" });
    }
  });
});
