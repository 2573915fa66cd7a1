/**
 * A gateway holds what its environment may have of the primary's secrets and certificates, and serves it: within seconds, by the primary's grants,
 * also while the primary is away, and no longer than its limit.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Sensitive } from "../core/sensitive.ts";
import { newReaderKey, openAs, sealFor } from "../core/vault/end-to-end.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { asOne, type Part } from "../lab/supervised.ts";
import { scrape, secretManifest, startWorld, total, type World } from "./harness.ts";
import { found, type Surface, tables } from "./leaks.ts";
import { firstAdmin, type RestAnswer, RestClient } from "./rest-client.ts";

const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const SECONDS = { timeoutMs: 5_000, intervalMs: 50 };
const NAME = "gw-npr-replica";
const CANARY = "canary-of-the-replica-7f3a91c2";
const PATH = (name: string, namespace = "shop") => `/api/v1/namespaces/${namespace}/secrets/${name}/values`;

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
/** What the primary is: its operator and REST. */
let whole: Part;
let ofPrimary: RestClient;
let ofGateway: RestClient;
let session: string;
/** Of the ServiceAccount shop/app in the gateway's cluster, which the grants of the primary name. */
let app: string;
/** Of one that they do not name. */
let stranger: string;
let failpointFile: string;
/** Private keys that the gateway has held, in PEM. */
const privateKeys: string[] = [];

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  const folder = path.join(primary.lab.dir, "replica");
  mkdirSync(folder, { recursive: true });
  failpointFile = path.join(folder, "failpoint");
  operator = await primary.mazevault.startOperator();
  main = await primary.mazevault.startRest();
  whole = asOne(operator.process, main.process);
  ofPrimary = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await ofPrimary.login(email, password);
  const made = await ofPrimary.send("POST", "/api/v1/gateways/bootstrap", { token: session, body: { name: NAME } });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
  for (const name of ["app", "stranger"]) {
    await cluster.apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: "shop" } });
  }
  await startGateway("gateway", { GATEWAY_BOOTSTRAP_TOKEN: made.body.token as string });
  [app = "", stranger = ""] = await Promise.all(
    ["app", "stranger"].map(async (name) =>
      (await cluster.kubectl("-n", "shop", "create", "token", name, "--audience=mazevault")).trim(),
    ),
  );
});

afterAll(async () => {
  await ofPrimary?.close();
  await ofGateway?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

async function startGateway(name: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
  await ofGateway?.close();
  gateway = await cluster.mazevault.startGateway({
    name,
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      PRIMARY_BACKEND_URL: main.restUrl,
      MAZEVAULT_FAILPOINT_FILE: failpointFile,
      ...env,
    },
  });
  ofGateway = RestClient.of(cluster, gateway);
}

const asked = (name: string, token = app, namespace = "shop"): Promise<RestAnswer> =>
  ofGateway.send("GET", PATH(name, namespace), { token });

const reads = (name: string, value: string, within = SECONDS) =>
  until(
    `the gateway reads ${name}`,
    async () => {
      const answer = await asked(name);
      if (answer.status === 200 && answer.body.values.password === value) return answer;
      throw new Error(`${answer.status} ${answer.status === 200 ? "another value" : answer.text}`);
    },
    within,
  );

const answers = (name: string, status: number, within = SECONDS) =>
  until(
    `the gateway answers ${status} for ${name}`,
    async () => {
      const answer = await asked(name);
      if (answer.status === status) return answer;
      throw new Error(`${answer.status} ${answer.text}`);
    },
    within,
  );

const secret = (name: string, value: string, environment = "dev", namespace = "shop") =>
  secretManifest(namespace, name, { environment, entries: [{ key: "password", literal: value }] });

const projectShop = (dev: string, pro: string) => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: "shop" },
  spec: {
    environments: [
      { name: "dev", gatewayEnvironment: dev },
      { name: "pro", gatewayEnvironment: pro },
      { name: "local" },
    ],
    namespaces: [{ name: "shop", environments: ["dev", "pro", "local"] }],
  },
});

const policy = (environments: readonly string[]) => ({
  apiVersion: "mazevault.io/v1",
  kind: "AccessPolicy",
  metadata: { name: "app", namespace: "shop" },
  spec: {
    subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
    rules: [{ projects: ["shop"], environments, role: "reader" }],
  },
});

test("a secret that is stored at the primary is read at the gateway, at the same path, within seconds", async () => {
  await primary.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } }, projectShop("NPR", "PRO"));
  await primary.waitReady("project.mazevault.io", "shop");
  await primary.apply(policy(["dev", "pro", "local"]), secret("first", CANARY));
  await primary.waitReady("secret.mazevault.io", "first", "shop");
  const { headers, body } = await reads("first", CANARY, SOON);
  expect(body.version).toBe(1);
  expect(Date.now() - Date.parse(String(headers["mazevault-synced-at"]))).toBeLessThan(120_000);
  const { headers: atPrimary } = await ofPrimary.send("GET", PATH("first"), { token: session });
  expect(headers.etag).toMatch(new RegExp(`^${String(atPrimary.etag).slice(0, -1)}-[0-9a-f]{16}"$`));
  const unchanged = await ofGateway.send("GET", PATH("first"), {
    token: app,
    headers: { "if-none-match": String(headers.etag) },
  });
  expect(unchanged.status).toBe(304);
  const listed = await ofGateway.send("GET", "/api/v1/secrets", { token: app });
  expect(listed.body.items).toEqual([expect.objectContaining({ namespace: "shop", name: "first", replicated: true })]);
  expect((await ofGateway.send("GET", `${PATH("first")}?version=7`, { token: app })).body).toMatchObject({
    status: 404,
    code: "VersionNotKept",
    detail: expect.stringContaining("ask the primary"),
  });
});

test("both reads are on record: of the gateway at the primary, and of the caller at the gateway", async () => {
  const rows = (world: World) =>
    world.sql<{ actor: string; details: string }>(
      "SELECT actor::text, details::text FROM audit WHERE action = 'SecretRead' AND subject_name = 'shop/first'",
    );
  expect((await rows(primary)).map(({ actor, details }) => `${actor} ${details}`)).toContainEqual(
    expect.stringMatching(/Gateway gw-npr-replica.*"purpose": ?"Replica"/),
  );
  expect((await rows(cluster)).map(({ actor, details }) => `${actor} ${details}`)).toContainEqual(
    expect.stringMatching(/ServiceAccount shop\/app.*AccessPolicy shop\/app rules\[0\].*"replica": ?true/),
  );
});

test("who has no grant at the primary is refused, also who administers the gateway's own installation", async () => {
  expect((await asked("first", stranger)).status).toBe(403);
  const { email, password } = await firstAdmin(cluster);
  const admin = await ofGateway.login(email, password);
  expect((await asked("first", admin)).status).toBe(403);
  expect((await ofGateway.send("GET", "/api/v1/secrets", { token: admin })).body.items).toEqual([]);
});

test("a change, a deletion and a grant that is taken away count within seconds", async () => {
  await primary.apply(secret("first", "second value"), secret("gone", "soon"));
  await reads("first", "second value");
  await reads("gone", "soon");
  await primary.kubectl("-n", "shop", "delete", "secrets.mazevault.io", "gone");
  await answers("gone", 403);
  await primary.apply(policy(["pro"]));
  await answers("first", 403);
  await primary.apply(policy(["dev", "pro", "local"]));
  await reads("first", "second value");
});

test("nothing of another environment, or of none, comes; moving an environment takes it away and brings it", async () => {
  await primary.apply(secret("of-pro", CANARY, "pro"), secret("of-none", CANARY, "local"));
  await primary.waitReady("secret.mazevault.io", "of-pro", "shop");
  await primary.waitReady("secret.mazevault.io", "of-none", "shop");
  await primary.apply(secret("later", "after them"));
  await reads("later", "after them");
  const held = async () =>
    (await cluster.sql<{ key: string }>("SELECT key FROM replica_items ORDER BY key")).map(({ key }) => key);
  expect(await held()).toEqual(["policy/shop/app", "project/shop", "secret/shop/first", "secret/shop/later"]);
  const bodies = await cluster.sql<{ body: string }>("SELECT body FROM replica_items");
  expect(bodies.map(({ body }) => body).join("\n")).not.toMatch(/"(pro|local)"/);
  await primary.apply(projectShop("PRO", "NPR"));
  await until(
    "the environments have changed places",
    async () => (await held()).join() === "policy/shop/app,project/shop,secret/shop/of-pro",
    SECONDS,
  );
  // Who serves learns of it from the rows, a moment after they are written.
  await answers("of-pro", 200);
  await answers("first", 403);
  await primary.apply(projectShop("NPR", "PRO"));
  await reads("first", "second value");
});

test("values that are sealed for their readers pass as they are", async () => {
  const { publicKey, privateKey } = newReaderKey();
  const readers = [{ name: "alice", publicKey }];
  const place = { project: "shop", environment: "dev", namespace: "shop", name: "card", key: "password" };
  const sealed = await sealFor(readers, place, new Sensitive(CANARY));
  await primary.apply(
    secretManifest("shop", "card", {
      environment: "dev",
      protection: "EndToEnd",
      readers,
      entries: [{ key: "password", external: {} }],
    }),
  );
  await until(
    "it is written",
    async () => {
      const answer = await ofPrimary.send("PUT", PATH("card"), {
        token: session,
        body: { values: { password: sealed } },
      });
      return answer.status === 200;
    },
    SOON,
  );
  const { body } = await reads("card", sealed);
  expect((await openAs(privateKey, place, body.values.password)).revealText()).toBe(CANARY);
  const shown = await ofGateway.send("GET", "/api/v1/namespaces/shop/secrets/card", { token: app });
  expect(shown.body).toMatchObject({ protection: "EndToEnd", readers: [{ name: "alice" }] });
});

const BUNDLE = (name: string) => `/api/v1/namespaces/shop/certificates/${name}/bundle`;

const certificate = (name: string, spec: object = {}) => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name, namespace: "shop" },
  spec: {
    secretName: `${name}-tls`,
    issuerRef: { kind: "ClusterIssuer", name: "services" },
    dnsNames: [`${name}.shop.svc`],
    ...spec,
  },
});

/** A bundle at the gateway, other than those before. */
const bundleOf = (name: string, within = SECONDS) =>
  until(
    `the gateway has a new bundle of ${name}`,
    async () => {
      const { status, body, headers, text } = await ofGateway.send("GET", BUNDLE(name), { token: app });
      if (status !== 200) throw new Error(`${status} ${text}`);
      if (privateKeys.includes(body.privateKey)) throw new Error("it is one of before");
      privateKeys.push(body.privateKey);
      return { body, headers };
    },
    within,
  );

const bundleAnswers = (name: string, status: number) =>
  until(
    `the gateway answers ${status} for the bundle of ${name}`,
    async () => (await ofGateway.send("GET", BUNDLE(name), { token: app })).status === status,
    SECONDS,
  );

test("a certificate that names the gateway's environment is had there with its key, at the same path", async () => {
  await primary.apply({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "services" },
    spec: {
      ca: { subject: { commonName: "Services CA" } },
      namespaces: { names: ["shop"] },
      policy: { profiles: ["Server"], dnsNames: ["*.shop.svc"] },
    },
  });
  await primary.waitReady("clusterissuers.mazevault.io", "services");
  await primary.apply(certificate("silent"), certificate("of-pro", { gateways: { environment: "PRO" } }));
  await primary.apply(certificate("of-other", { gateways: { environment: "OTHER" } }));
  for (const name of ["silent", "of-pro", "of-other"])
    await primary.waitReady("certificates.mazevault.io", name, "shop");
  await primary.apply(certificate("web", { gateways: { environment: "NPR" } }));
  await primary.waitReady("certificates.mazevault.io", "web", "shop");
  const { body, headers } = await bundleOf("web");
  const leaf = new X509Certificate(body.certificate);
  expect(leaf.checkPrivateKey(createPrivateKey(body.privateKey))).toBe(true);
  expect(leaf.checkHost("web.shop.svc")).toBe("web.shop.svc");
  expect(leaf.verify(new X509Certificate(body.ca).publicKey)).toBe(true);
  expect(Date.now() - Date.parse(String(headers["mazevault-synced-at"]))).toBeLessThan(120_000);
  const atPrimary = await ofPrimary.send("GET", BUNDLE("web"), { token: session });
  expect(atPrimary.body).toEqual(body);
  expect(atPrimary.headers.etag).toBe(headers.etag);
  const known = { token: app, headers: { "if-none-match": String(headers.etag) } };
  expect((await ofGateway.send("GET", BUNDLE("web"), known)).status).toBe(304);
  const held = await cluster.sql<{ key: string }>("SELECT key FROM replica_items WHERE key LIKE 'certificate/%'");
  expect(held).toEqual([{ key: "certificate/shop/web" }]);
  const listed = await ofGateway.send("GET", "/api/v1/certificates", { token: app });
  expect(listed.body.items).toEqual([expect.objectContaining({ namespace: "shop", name: "web", replicated: true })]);
  const chain = await ofGateway.send("GET", BUNDLE("web").replace("bundle", "chain"), { token: app });
  expect(chain.text).toBe(body.certificate + body.ca);
  expect((await ofGateway.send("GET", BUNDLE("of-pro"), { token: app })).status).toBe(403);
  expect((await ofGateway.send("GET", BUNDLE("web"), { token: stranger })).status).toBe(403);
});

test("its key is on record before it leaves, on both sides", async () => {
  const rows = async (world: World) =>
    (
      await world.sql<{ actor: string; details: string }>(
        "SELECT actor::text, details::text FROM audit WHERE action = 'CertificateKeyRead' AND subject_name = 'shop/web'",
      )
    ).map(({ actor, details }) => `${actor} ${details}`);
  expect(await rows(primary)).toContainEqual(expect.stringMatching(/Gateway gw-npr-replica.*"purpose": ?"Replica"/));
  expect(await rows(cluster)).toContainEqual(expect.stringMatching(/ServiceAccount shop\/app.*"replica": ?true/));
});

test("a certificate that is revoked, moved or deleted goes within seconds, and the next one comes", async () => {
  const gateways = { environment: "NPR" };
  const serialNumber = (await ofGateway.send("GET", BUNDLE("web"), { token: app })).body.serialNumber;
  await primary.apply(certificate("web", { gateways, revocations: [{ serialNumber, reason: "keyCompromise" }] }));
  const { body } = await bundleOf("web", SOON);
  expect(body.serialNumber).not.toBe(serialNumber);
  await primary.apply(certificate("web", { gateways: { environment: "PRO" } }));
  await bundleAnswers("web", 403);
  await primary.apply(certificate("web", { gateways }));
  await bundleAnswers("web", 200);
  await primary.kubectl("-n", "shop", "delete", "certificates.mazevault.io", "web");
  await bundleAnswers("web", 403);
  expect(await cluster.sql("SELECT FROM replica_items WHERE key LIKE 'certificate/%'")).toEqual([]);
  await primary.apply(certificate("stays", { gateways }));
  await bundleOf("stays", SOON);
});

test("a CA's key is not let go to gateways", async () => {
  const ca = certificate("ca", { isCA: true, commonName: "ca", gateways: { environment: "NPR" } });
  await expect(primary.apply(ca)).rejects.toThrow(/the key of a CA does not go to gateways/);
});

test("a death while it pulls is gone on from, and a restart at rest writes nothing", async () => {
  for (const [at, failpoint] of ["replica.beforeWrite", "replica.afterWrite"].entries()) {
    const { restarts } = gateway.process;
    writeFileSync(failpointFile, failpoint);
    await gateway.process.kill("SIGUSR2");
    await primary.apply(secret("first", `after death ${at}`));
    await until(`death at ${failpoint}`, () => gateway.process.restarts > restarts, SOON);
    expect(gateway.process.lastEnd).toBe("died of SIGKILL");
    rmSync(failpointFile, { force: true });
    await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await gateway.process.ready();
    await reads("first", `after death ${at}`, SOON);
  }
  const state = () => cluster.sql("SELECT revision FROM replica");
  const before = await state();
  await gateway.process.stop();
  await startGateway("gateway-again");
  await until("the channel is open", inTouch, SOON);
  await until("it is in step", () => log().includes("The replica is in step with the primary"), SOON);
  expect(await state()).toEqual(before);
});

test("while the primary is away it is served; past the limit it is not, and then it goes on", async () => {
  await reads("first", "after death 1", SOON);
  await whole.stop();
  expect((await asked("first")).status).toBe(200);
  expect((await ofGateway.send("GET", BUNDLE("stays"), { token: app })).status).toBe(200);
  // It has all of it in its own store, and how old that is, too.
  await gateway.process.stop();
  await startGateway("gateway-short", { MAZEVAULT_GATEWAY_OFFLINE_LIMIT: "20s" });
  const refused = await answers("first", 503, SOON);
  expect(refused.body).toMatchObject({
    code: "OfflineLimitReached",
    detail: expect.stringMatching(/^the primary is away since 20\d\d-.*gateway\.offlineLimit/),
  });
  expect((await ofGateway.send("GET", BUNDLE("stays"), { token: app })).body.code).toBe("OfflineLimitReached");
  await until("the breaker opens", async () => (await breaker()) !== "Closed", SOON);
  const figures = await scrape(gateway);
  expect(total(figures, "mazevault_gateway_circuit_breaker_state")).toBe(1);
  expect(total(figures, "mazevault_gateway_circuit_breaker_state", { state: "Closed" })).toBe(0);
  expect(total(figures, "mazevault_gateway_replica_age_seconds")).toBeGreaterThan(20);
  expect(log().match(/The circuit breaker to the primary opened/g)).toHaveLength(1);
  await whole.start();
  await whole.ready();
  await reads("first", "after death 1", SOON);
  await until("the breaker closes", async () => (await breaker()) === "Closed", SOON);
  expect(total(await scrape(gateway), "mazevault_gateway_replica_secrets")).toBe(3);
});

test("no value stands in the gateway's tables or logs", async () => {
  await primary.apply(secret("first", CANARY));
  await reads("first", CANARY);
  const logs = ["gateway", "gateway-again", "gateway-short"].map((name): Surface => {
    const file = path.join(path.dirname(gateway.process.logFile), `${name}.log`);
    return [`log of ${name}`, readFileSync(file)];
  });
  const surfaces = [
    ...(await tables(cluster)),
    ...logs,
    ...[operator, main].map(({ process }): Surface => [`log of ${process.name}`, readFileSync(process.logFile)]),
  ];
  const scalars = privateKeys.map((text, at) => {
    const { d = "" } = createPrivateKey(text).export({ format: "jwk" });
    return [`private key ${at}`, Buffer.from(d, "base64url")] as const;
  });
  expect(scalars.map(([, scalar]) => scalar.length)).toEqual([32, 32, 32]);
  expect(found(surfaces, new Map([["canary", Buffer.from(CANARY)], ...scalars]))).toEqual([]);
});

test("a gateway that is revoked holds nothing any more", async () => {
  const { status } = await ofPrimary.send("DELETE", `/api/v1/gateways/${NAME}`, { token: session });
  expect(status).toBe(204);
  await until("it is wiped", async () => (await cluster.sql("SELECT FROM replica_items")).length === 0, SOON);
  expect((await asked("first")).status).toBe(403);
  expect(await cluster.sql("SELECT FROM audit WHERE action = 'ReplicaWiped'")).toHaveLength(1);
});

const log = (): string => readFileSync(gateway.process.logFile, "utf8");

const health = async () => (await ofGateway.send("GET", "/api/v1/health")).body.gateway;
const breaker = async (): Promise<string> => (await health()).circuitBreaker.state;
const inTouch = async (): Promise<boolean> => (await health()).channel.state === "Open";
