/**
 * No plaintext anywhere: unique values in every kind of source and credential, everything provoked that could make an
 * error quote them, and then a search of all that the product writes outside of the places that are meant to hold them.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { Redis } from "ioredis";
import { type ReceivedSpan, TraceReceiver } from "../adapters/tracing/testing/receiver.ts";
import { Sensitive } from "../core/sensitive.ts";
import { type SealingKey, seal } from "../core/vault/sealing.ts";
import { azure, type Operator, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { hasRedis, startRedis } from "../lab/redis/redis.ts";
import { conditionOf, type KubernetesObject, leaderOf, secretManifest, startWorld, type World } from "./harness.ts";
import { files, found as foundOf, plain, type Surface, tables } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const NAMESPACE = "canary";
const secret = "secret.mazevault.io";
const keyVault = "keyvault.mazevault.io";
const rule = "syncrule.mazevault.io";
const [vault, secondVault] = azure.vaults;
const wait = { timeoutMs: 30_000, intervalMs: 100 };

/** With characters that look different in a URL, in JSON and in base64url. */
const canary = (): string => `canary/"ö?${randomBytes(18).toString("base64")}>~`;

/** Together larger than Key Vault accepts. */
const REPEATED = 900;

const handed = {
  first: canary(),
  second: canary(),
  sealed: canary(),
  large: canary().repeat(REPEATED),
  principal: canary(),
  certificate: canary(),
  written: canary(),
  refused: canary(),
  wrongPassword: canary(),
  tokenForTraces: randomBytes(24).toString("base64url"),
  forgedToken: `${randomBytes(24).toString("base64url")}.${randomBytes(24).toString("base64url")}.x`,
};

/** What may stand in a manifest, and in nothing that is handed to those who help from outside. */
const inManifests = { literal: canary(), template: canary() };

let world: World;
let receiver: TraceReceiver;
let operators: readonly Operator[];
/** Logins are counted in PostgreSQL by one of them, in Redis by the other. */
let plainRest: Rest;
let watchedRest: Rest;
/** Every value that must not show, by what it is. */
const canaries = new Map<string, Buffer>();

beforeAll(async () => {
  [world, receiver] = await Promise.all([startWorld(), TraceReceiver.start()]);
  const headersFile = path.join(world.lab.dir, "trace-headers");
  writeFileSync(headersFile, `Authorization: Bearer ${handed.tokenForTraces}\n`);
  const tracing = { endpoint: receiver.url, headersFile };
  const started: Operator[] = [];
  for (const name of ["first", "second"]) {
    const config = { kubernetes: { leaseDurationMs: 3_000 }, tracing };
    started.push(await world.mazevault.startOperator({ name, config, logLevel: "trace" }));
  }
  operators = started;
  plainRest = await world.mazevault.startRest({ name: "rest-plain", logLevel: "trace", config: { tracing } });
  const config = { ...(await watchedRedis()), tracing: { ...tracing, serviceName: "rest with redis" } };
  watchedRest = await world.mazevault.startRest({ logLevel: "trace", config });
  await world.tenant(NAMESPACE);
  await workWithoutFaults();
  await workWithFaults();
  for (const surface of [plainRest, watchedRest]) await workThroughRest(surface);
  await collectCanaries();
});

afterAll(async () => {
  redis.watching?.disconnect();
  await world?.stop();
  await receiver?.close();
});

test("what is done is traced: each call below what made it, and a request below its caller's", async () => {
  const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  const client = RestClient.of(world, watchedRest);
  const where = `/api/v1/namespaces/${NAMESPACE}/secrets/written/values`;
  const headers = { traceparent: `00-${traceId}-${spanId}-01` };
  expect(await client.send("GET", where, { token: rest.key, headers })).toMatchObject({ status: 200 });
  await client.close();
  const read = await tracedWith("GET /api/v1/namespaces/{namespace}/secrets/{name}/values", {}, ["postgres"], traceId);
  expect(read).toMatchObject({ parentSpanId: spanId, service: "rest with redis" });
  expect(read.attributes).toMatchObject({ "http.response.status_code": 200, "mazevault.subject.kind": "LocalUser" });
  const log = readFileSync(path.join(world.lab.dir, "logs/rest.log"), "utf8");
  expect(log).toMatch(new RegExp(`"REST request".*"trace_id":"${traceId}"|"trace_id":"${traceId}".*"REST request"`));

  const success = { "mazevault.outcome": "success", "mazevault.next": "settled" };
  const delivered = await tracedWith("reconcile Secret", { ...success, "mazevault.name": "all" }, [
    "postgres",
    "kubernetes create secrets",
    "kubernetes applyStatus secrets.mazevault.io",
  ]);
  expect(delivered).toMatchObject({ parentSpanId: "", service: "mazevault" });
  expect(delivered.attributes).toMatchObject({ "mazevault.kind": "Secret", "mazevault.namespace": NAMESPACE });
  const pushed = await tracedWith("reconcile SyncRule", { "mazevault.name": "push" }, ["postgres", "keyvault set"]);
  const set = receiver.childrenOf(pushed).find(({ name }) => name === "keyvault set");
  expect(set?.attributes).toMatchObject({ "server.address": `${vault}.vault.azure.net` });
  expect(receiver.headers.every(({ authorization }) => authorization === `Bearer ${handed.tokenForTraces}`)).toBe(true);
});

test("no value shows anywhere", async () => {
  expect([...canaries.keys()].length).toBeGreaterThanOrEqual(25);
  expect(found(await surfaces())).toEqual([]);
});

test("no program that holds values leaves a core dump", () => {
  for (const { process } of [...operators, plainRest, watchedRest]) {
    expect(readFileSync(`/proc/${process.pid}/limits`, "utf8")).toMatch(/^Max core file size +0 +0 /m);
  }
});

test("the search knows a value in every form, wherever it stands in a larger one", () => {
  const value = Buffer.from(handed.second, "utf8");
  const within = (offset: number) => Buffer.concat([Buffer.alloc(offset, "x"), value, Buffer.from("tail")]);
  const shapes = {
    raw: value.toString("utf8"),
    "base64 at 0": within(0).toString("base64"),
    "base64 at 1": within(1).toString("base64"),
    "base64 at 2": within(2).toString("base64"),
    base64url: within(1).toString("base64url"),
    hex: value.toString("hex"),
    HEX: value.toString("hex").toUpperCase(),
    url: encodeURIComponent(value.toString("utf8")),
    form: new URLSearchParams({ value: value.toString("utf8") }).toString(),
    JSON: JSON.stringify({ value: value.toString("utf8") }),
  };
  const surfaces = Object.entries(shapes).map(([name, text]): Surface => [name, Buffer.from(text)]);
  expect(found(surfaces)).toEqual(Object.keys(shapes).map((shape) => `${shape}: handed over, second`));
});

test("a support bundle holds no text of a manifest in which a value may stand", async () => {
  await world.apply(
    secretManifest(NAMESPACE, "manifest", {
      entries: [
        { key: "user", literal: inManifests.literal },
        { key: "url", template: `db://{{ user }}/${inManifests.template}` },
      ],
    }),
  );
  await world.waitReady(secret, "manifest", NAMESPACE);
  const values = new Map(Object.entries(inManifests).map(([what, value]) => [what, Buffer.from(value)]));
  const bundled = await supportBundle();
  expect(bundled[0]?.[1].includes(`"name":"manifest"`)).toBe(true);
  expect(found(bundled, values)).toEqual([]);
  // As apply writes it, once in the manifest and once more in an annotation.
  expect(found(await objects(), values)).toEqual([
    `Secret ${NAMESPACE}/manifest: literal`,
    `Secret ${NAMESPACE}/manifest: template`,
  ]);
});

test("the search finds a value that is planted in an annotation, an Event, a row or Redis", async () => {
  const planted = Buffer.from(`planted ${handed.second}`).toString("base64");
  await world.kubectl("-n", NAMESPACE, "annotate", "deployment", "consumer", `example.com/planted=${planted}`);
  await world.sql("CREATE TABLE planted AS SELECT $1::bytea AS shown", [Buffer.from(handed.second)]);
  await world.apply({
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: { name: "planted", namespace: NAMESPACE },
    regarding: { apiVersion: "mazevault.io/v1", kind: "Secret", namespace: NAMESPACE, name: "all" },
    type: "Warning",
    reason: "Planted",
    action: "Plant",
    note: `planted ${handed.second}`,
    eventTime: new Date().toISOString().replace("Z", "000Z"),
    reportingController: "example.com/test",
    reportingInstance: "test",
  });
  const inRedis = redis.connect?.();
  await inRedis?.set("planted", handed.second);
  inRedis?.disconnect();
  const leaks = found(await surfaces(["objects", "tables", "files", "supportBundle", "commandsOfRedis"]));
  const where = leaks.map((leak) => leak.replace(/[0-9]+/g, "N"));
  expect(where).toContain(`Deployment ${NAMESPACE}/consumer: handed over, second`);
  expect(where).toContain("table planted: handed over, second");
  expect(where).toContain("support bundle: handed over, second");
  if (inRedis !== undefined) expect(where).toContain("commands of Redis: handed over, second");
  expect(where).toContain("file base/N/N: handed over, second");
  expect(where.some((leak) => leak.startsWith("file pg_wal/"))).toBe(true);
});

/** What happens on a good day: versions, deliveries, pushes, a change, a hand-over to the other replica. */
async function workWithoutFaults(): Promise<void> {
  await source("handover", { token: handed.first });
  await source("principal", { secret: world.mazevault.servicePrincipal.secret });
  await source("certificate", { pem: certificate() });
  const { status } = await world.get("project.mazevault.io", NAMESPACE);
  const place = { project: NAMESPACE, environment: "pro", namespace: NAMESPACE, name: "all", key: "sealed" };
  const sealed = await seal(status?.sealingKey as SealingKey, place, new Sensitive(handed.sealed));
  const entries = [
    { key: "user", literal: "app" },
    { key: "sealed", sealed },
    { key: "password", generate: { kind: "Password" } },
    { key: "hex", generate: { kind: "Hex" } },
    { key: "base64", generate: { kind: "Base64" } },
    { key: "uuid", generate: { kind: "UUID" } },
    { key: "token", secretRef: { name: "handover", key: "token" } },
    { key: "url", template: "db://{{ user }}:{{ password | url_encode }}@db?token={{ token | url_encode }}" },
    { key: "encoded", template: "{{ hex }}:{{ token | base64_encode }}" },
  ];
  await world.apply(
    secretManifest(NAMESPACE, "all", { entries, deliver: { restartConsumers: true } }),
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "consumer", namespace: NAMESPACE },
      spec: {
        selector: { matchLabels: { app: "consumer" } },
        template: {
          metadata: { labels: { app: "consumer" } },
          spec: { containers: [{ name: "app", image: "example/app:1", envFrom: [{ secretRef: { name: "all" } }] }] },
        },
      },
    },
    vaultManifest("vault", { clientSecretRef: { name: "principal", key: "secret" } }),
    vaultManifest("by-certificate", { certificateSecretRef: { name: "certificate", key: "pem" } }, secondVault),
    ruleManifest("push", "vault"),
  );
  await world.waitReady(secret, "all", NAMESPACE);
  await world.waitReady(keyVault, "by-certificate", NAMESPACE);
  await world.waitFor(rule, "push", NAMESPACE, ({ status }) => status?.inSync === entries.length);
  await source("handover", { token: handed.second });
  await world.waitFor(secret, "all", NAMESPACE, ({ status }) => status?.version === 2);
  const leader = await leaderOf(world, operators);
  await leader.process.restart();
  await until("the other one leads", async () => (await leaderOf(world, operators)) !== leader, wait);
}

/** Everything that answers with an error in whose text a value could stand. */
async function workWithFaults(): Promise<void> {
  // An admission policy whose message quotes what it refuses: the worst that an API server can answer.
  await world.apply(
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicy",
      metadata: { name: "quoting" },
      spec: {
        failurePolicy: "Fail",
        matchConstraints: {
          resourceRules: [
            { apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE", "UPDATE"], resources: ["secrets"] },
          ],
        },
        matchConditions: [{ name: "quoted", expression: "object.metadata.name == 'quoted'" }],
        validations: [{ expression: "false", messageExpression: "'refused: ' + string(object.data['password'])" }],
      },
    },
    {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name: "quoting" },
      spec: { policyName: "quoting", validationActions: ["Deny"] },
    },
  );
  await until("the policy is in force", policyRefuses, wait);
  await source("large", { value: handed.large });
  await source("handover-copy", { token: handed.first });
  await source("wrong-principal", { secret: handed.principal });
  await source("wrong-certificate", {
    pem: `-----BEGIN CERTIFICATE-----\n${handed.certificate}\n-----END CERTIFICATE-----`,
  });
  const password = { key: "password", generate: { kind: "Password" } };
  const token = { key: "token", secretRef: { name: "handover", key: "token" } };
  await world.apply(
    secretManifest(NAMESPACE, "quoted", { entries: [{ ...token, key: "password" }], deliver: {} }),
    secretManifest(NAMESPACE, "registry", {
      entries: [{ ...token, key: ".dockerconfigjson" }],
      deliver: { type: "kubernetes.io/dockerconfigjson" },
    }),
    secretManifest(NAMESPACE, "tls", {
      entries: [
        { key: "tls.crt", secretRef: { name: "handover", key: "token" } },
        { ...password, key: "tls.key" },
      ],
      deliver: { type: "kubernetes.io/tls" },
    }),
    secretManifest(NAMESPACE, "no-template", {
      entries: [token, { key: "t", template: "{{ token | no_such_filter }}" }],
    }),
    secretManifest(NAMESPACE, "bad-template", {
      entries: [token, { key: "t", template: "{% assign a = token %}{{ a | divided_by: 0 }}" }],
    }),
    secretManifest(NAMESPACE, "taken", { entries: [token], deliver: { secretName: "handover-copy", adopt: true } }),
    vaultManifest("stranger", { clientSecretRef: { name: "wrong-principal", key: "secret" } }),
    vaultManifest("no-certificate", { certificateSecretRef: { name: "wrong-certificate", key: "pem" } }),
    secretManifest(NAMESPACE, "large", { entries: [{ key: "value", secretRef: { name: "large", key: "value" } }] }),
  );
  for (const name of ["quoted", "registry", "no-template", "taken"]) await notReady(secret, name);
  for (const name of ["stranger", "no-certificate"]) await notReady(keyVault, name);
  await world.waitFor(rule, "push", NAMESPACE, ({ status }) =>
    JSON.stringify(status?.failures ?? "").includes("ValueTooLarge"),
  );

  for (const effect of [
    { kind: "status", status: 403 },
    { kind: "process-then-drop" },
    { kind: "process-then-status", status: 500 },
    // Last, as it opens the circuit breaker.
    { kind: "status", status: 503 },
  ] as const) {
    await world.mazevault.keyVault.control.resetCounters();
    await world.mazevault.keyVault.control.setFaults([{ vault, operation: "SecretSet", effect }]);
    const name = `pushed-${effect.kind}-${"status" in effect ? effect.status : 0}`;
    await world.apply(secretManifest(NAMESPACE, name, { entries: [password, token] }));
    await world.waitReady(secret, name, NAMESPACE);
    await until(`a push failed with ${name}`, failedCalls, wait);
  }
  await world.mazevault.keyVault.control.setFaults([]);
}

const rest = {
  /** Names of everything secret that went through it. */
  sent: new Map<string, string>(),
  key: "",
};

const redis: { connect?: () => Redis; watching?: Redis; readonly told: Buffer[] } = { told: [] };

/** Settings for a Redis of which every command is seen, arguments included; none where this machine has no Redis. */
async function watchedRedis(): Promise<Readonly<Record<string, Readonly<Record<string, unknown>>>>> {
  if (!hasRedis()) return {};
  const { pki, ports, dir, spawn } = world.lab;
  const place = { dir: path.join(dir, "redis"), pki, ports, spawn: spawn.bind(world.lab) };
  const { url, caFile, passwordFile } = await startRedis(place);
  const password = readFileSync(passwordFile, "utf8");
  redis.connect = () => new Redis(url, { tls: { ca: readFileSync(caFile) }, password });
  const client = redis.connect();
  redis.watching = await client.monitor();
  client.disconnect();
  redis.watching.on("monitor", (_time: string, command: readonly string[]) => redis.told.push(...command.map(bytesOf)));
  return { redis: { url, caFile, passwordFile } };
}

/** An argument as MONITOR shows it: what is not printable ASCII is escaped byte by byte. */
function bytesOf(argument: string): Buffer {
  const controls: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", a: "\u0007", b: "\b" };
  const plainly = (_: string, hex: string | undefined, character: string) =>
    hex === undefined ? (controls[character] ?? character) : String.fromCharCode(Number.parseInt(hex, 16));
  return Buffer.from(argument.replaceAll(/\\(?:x([0-9a-f]{2})|(.))/g, plainly), "latin1");
}

/** Logins, reads and writes, as they should be and as they should not. */
async function workThroughRest(surface: Rest): Promise<void> {
  const client = RestClient.of(world, surface);
  const send = async (expected: number, method: string, where: string, request: object = {}) => {
    const answer = await client.send(method, where, request);
    if (answer.status !== expected) throw new Error(`${method} ${where}: ${answer.status} ${answer.text}`);
    return answer.body;
  };
  try {
    const { email, password } = await firstAdmin(world);
    await until("REST serves", async () => (await client.send("GET", "/api/v1/health")).status === 200, wait);
    await send(401, "POST", "/api/v1/auth/login", { body: { email, password: handed.wrongPassword } });
    await send(400, "POST", "/api/v1/auth/login", {
      body: `{"email": "${email}", "password": "${handed.wrongPassword}`,
    });
    const first = await send(200, "POST", "/api/v1/auth/login", { body: { email, password } });
    const second = await send(200, "POST", "/api/v1/auth/refresh", { body: { refreshToken: first.refreshToken } });
    await send(401, "GET", "/api/v1/auth/me", { token: handed.forgedToken });
    const { token } = second;
    const { secret: key } = await send(201, "POST", "/api/v1/api-keys", {
      token,
      body: { name: "canary", scopes: ["list", "read", "write", "audit"] },
    });
    const where = `/api/v1/namespaces/${NAMESPACE}/secrets/written/values`;
    const body = { project: NAMESPACE, environment: "pro", values: { value: handed.written } };
    await send(200, "PUT", where, { token: key, body });
    await send(400, "PUT", where, { token: key, body: { values: { value: [handed.refused] } } });
    await send(200, "GET", where, { token });
    await client.send("GET", `/api/v1/export?namespace=${NAMESPACE}`, { token: key });
    const secrets = { password, key: key.replace(/^mvk_[0-9a-f]+_/, "") };
    const through = surface.process.name;
    for (const [what, value] of [
      ...Object.entries(secrets),
      // What is signed is known to everybody who may see it; the signature makes it a credential.
      ["first token", first.token.split(".")[2]],
      ["second token", token.split(".")[2]],
      ["first refresh token", first.refreshToken],
      ["second refresh token", second.refreshToken],
    ])
      rest.sent.set(`${what} (${through})`, value);
    rest.key = key;
    await send(204, "POST", "/api/v1/auth/logout", { token });
  } finally {
    await client.close();
  }
}

async function collectCanaries(): Promise<void> {
  const add = (what: string, value: string | Buffer): void => {
    const bytes = Buffer.from(value);
    if (![...canaries.values()].some((known) => known.equals(bytes))) canaries.set(what, bytes);
  };
  add("handed over, first", handed.first);
  add("handed over, second", handed.second);
  // It is one value repeated, and only some of it might show.
  add("sealed", handed.sealed);
  add("handed over, large", handed.large.slice(0, handed.large.length / REPEATED));
  add("written through REST", handed.written);
  add("refused by REST", handed.refused);
  add("wrong password", handed.wrongPassword);
  add("forged token", handed.forgedToken);
  add("token for the receiver of traces", handed.tokenForTraces);
  for (const [what, value] of rest.sent) add(what, value);
  add("client secret", world.mazevault.servicePrincipal.secret);
  add("wrong client secret", handed.principal);
  add("wrong client certificate", handed.certificate);
  const key = readFileSync(world.mazevault.servicePrincipal.keyFile, "utf8").split("\n");
  for (const [index, line] of key.slice(1, -2).entries()) add(`client key, line ${index}`, line);
  const rootKey = readFileSync(path.join(world.lab.dir, "operator/root.key"), "utf8").trim();
  add("root key", Buffer.from(rootKey, "base64"));
  add("root key as it stands in its file", rootKey);
  add("database password", readFileSync(world.mazevault.database.passwordFile, "utf8"));
  add("token of the operator", readFileSync(tokenFile(), "utf8"));
  for (const { metadata, data = {} } of await world.list("secrets", NAMESPACE)) {
    if (!delivered.has(metadata.name)) continue;
    for (const [entry, value] of Object.entries(data)) {
      if (!["user", "value"].includes(entry)) add(`${metadata.name}/${entry}`, Buffer.from(value, "base64"));
    }
  }
  for (const { name, versions } of await world.mazevault.keyVault.control.secrets(vault)) {
    for (const { version, value } of versions) {
      if (value.length >= 16 && value.length < 1_000) add(`vault entry ${name} ${version}`, value);
    }
  }
}

const delivered = new Set(["all", "tls"]);

/** A span that has ended, with calls whose names begin so below it. */
const tracedWith = (
  name: string,
  attributes: Readonly<Record<string, unknown>>,
  calls: readonly string[],
  traceId?: string,
): Promise<ReceivedSpan> =>
  until(
    `${name} was traced`,
    () =>
      receiver.spans.find(
        (span) =>
          span.name === name &&
          (traceId === undefined || span.traceId === traceId) &&
          Object.entries(attributes).every(([key, value]) => span.attributes[key] === value) &&
          calls.every((call) => receiver.childrenOf(span).some((child) => child.name.startsWith(call))),
      ) as ReceivedSpan,
    wait,
  );

/** All that the receiver of traces was sent. */
async function traces(): Promise<readonly Surface[]> {
  expect(receiver.spans.length).toBeGreaterThan(100);
  return [["traces", Buffer.concat([...receiver.bodies, Buffer.from(plain(receiver.spans))])]];
}

/** `surface: canary`, for each canary that shows in it. */
const found = (where: Iterable<Surface>, of: ReadonlyMap<string, Buffer> = canaries) => foundOf(where, of);

/** A store that values could get into has its collector here. */
const collectors: Readonly<Record<string, () => Promise<readonly Surface[]>>> = {
  commandsOfRedis,
  logs,
  objects,
  tables: () => tables(world),
  files: () => files(world),
  answers,
  supportBundle,
  traces,
};

/** Everything that the product writes, by where it stands. */
async function surfaces(which = Object.keys(collectors)): Promise<readonly Surface[]> {
  const all: Surface[] = [];
  for (const name of which) all.push(...((await collectors[name]?.()) ?? []));
  return all;
}

/** All that Redis was ever told, and so all that it held, and passed on to others. */
async function commandsOfRedis(): Promise<readonly Surface[]> {
  if (!hasRedis()) return [];
  const all = Buffer.concat(redis.told.flatMap((argument) => [argument, Buffer.from("\n")]));
  // What is counted, kept and published there was seen.
  for (const seen of ["rate:address", "rate:subject", "attempts", "publish"]) expect(all.includes(seen)).toBe(true);
  return [["commands of Redis", all]];
}

/** Of all replicas, of PostgreSQL with the statements that failed, and of the servers that were talked to. */
async function logs(): Promise<readonly Surface[]> {
  const dir = path.join(world.lab.dir, "logs");
  return readdirSync(dir).map((name) => [`log ${name}`, readFileSync(path.join(dir, name))]);
}

/** Every object of every kind, managedFields included; of core Secrets all but the data, which is what they are for. */
async function objects(): Promise<readonly Surface[]> {
  const kinds = (await world.kubectl("api-resources", "--verbs=list", "-o", "name")).trim().split("\n");
  const text = await world.kubectl("get", kinds.join(","), "--all-namespaces", "--show-managed-fields", "-o", "json");
  const { items } = JSON.parse(text) as { items: KubernetesObject[] };
  return items.map(({ data, ...object }) => {
    const shown = object.kind === "Secret" && object.apiVersion === "v1" ? object : { ...object, data };
    const { namespace, name } = object.metadata;
    // As it is, not as JSON: quotes and backslashes would look different.
    return [`${object.kind} ${namespace}/${name}`, Buffer.from(`${JSON.stringify(shown)}\n${plain(shown)}`)];
  });
}

/** What the programs say of themselves. */
async function answers(): Promise<readonly Surface[]> {
  const said: Surface[] = [];
  for (const { httpPort, configFile } of [...operators, plainRest, watchedRest]) {
    for (const page of ["metrics", "healthz", "readyz"]) {
      said.push([page, Buffer.from(await (await fetch(`http://127.0.0.1:${httpPort}/${page}`)).text())]);
    }
    const args = ["operator/main.ts", "--config", configFile, "--print-config"];
    said.push(["--print-config", execFileSync(process.execPath, args)]);
  }
  return said;
}

/** As the command line makes it, from REST and from the cluster, unpacked. */
async function supportBundle(): Promise<readonly Surface[]> {
  const { kubectlPath, kubeconfigPath } = world.lab.controlPlane;
  const file = path.join(world.lab.dir, `bundle-${randomBytes(4).toString("hex")}.tar.gz`);
  const args = ["support-bundle", "--file", file, "--kubeconfig", kubeconfigPath];
  const env = {
    PATH: [path.dirname(kubectlPath), process.env.PATH].join(path.delimiter),
    HOME: world.lab.dir,
    MAZEVAULT_SERVER: plainRest.restUrl,
    MAZEVAULT_CA_FILE: world.lab.pki.caFile,
    MAZEVAULT_TOKEN: rest.key,
  };
  const said = execFileSync(process.execPath, [world.mazevault.cli, ...args], { env, stdio: "pipe" });
  return [
    ["support bundle", gunzipSync(readFileSync(file))],
    ["what support-bundle prints", said],
  ];
}

/** Made without `apply`, which would copy the values into an annotation: that would be kubectl's doing. */
async function source(name: string, stringData: Readonly<Record<string, string>>): Promise<void> {
  const manifest = { apiVersion: "v1", kind: "Secret", metadata: { name, namespace: NAMESPACE }, stringData };
  const { kubectl } = world.lab.controlPlane;
  const input = JSON.stringify(manifest);
  const { code, stderr } = await kubectl(["apply", "--server-side", "--field-manager=test", "-f", "-"], { input });
  if (code !== 0) throw new Error(stderr);
}

const vaultManifest = (name: string, credential: object, of: string = vault): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    projectRef: { name: NAMESPACE },
    vaultUrl: `https://${of}.vault.azure.net/`,
    auth: { servicePrincipal: { tenantId: azure.tenantId, clientId: azure.servicePrincipal, ...credential } },
  },
});

const ruleManifest = (name: string, ref: string): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    projectRef: { name: NAMESPACE },
    environment: "pro",
    direction: "Push",
    target: { keyVault: { ref: { name: ref } } },
  },
});

const certificate = (): string => {
  const { certFile, keyFile } = world.mazevault.servicePrincipal;
  return readFileSync(certFile, "utf8") + readFileSync(keyFile, "utf8");
};

const tokenFile = (): string => {
  const dir = path.join(world.lab.dir, "operator");
  return path.join(dir, readdirSync(dir).find((name) => name.endsWith(".token")) ?? "token");
};

const notReady = (kind: string, name: string): Promise<KubernetesObject> =>
  world.waitFor(kind, name, NAMESPACE, (object) => {
    const ready = conditionOf(object, "Ready");
    return ready?.status === "False" && ready.reason !== "Progressing";
  });

async function policyRefuses(): Promise<boolean> {
  const input = JSON.stringify({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "quoted", namespace: NAMESPACE },
    stringData: { password: "probe" },
  });
  const { stderr } = await world.lab.controlPlane.kubectl(["create", "--dry-run=server", "-f", "-"], { input });
  return stderr.includes("refused: ");
}

async function failedCalls(): Promise<boolean> {
  const { vaults } = await world.mazevault.keyVault.control.counters();
  const statuses = Object.entries(vaults[vault]?.operations ?? {}).flatMap(([, byStatus]) => Object.keys(byStatus));
  return statuses.some((status) => ["0", "403", "500", "503"].includes(status));
}
