/**
 * A primary and a gateway, each with an API server, a database and programs of its own: the gateway registers with a token,
 * stays in touch, dies over it, comes back, and is put out.
 */
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import { NODE_ARGUMENTS, OPERATOR } from "../build/bundle.ts";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type Operator, type Program, type ProgramOptions, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, scrape, startWorld, total, type World } from "./harness.ts";
import { found, type Surface, tables } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const NAME = "azure-gateway-gwc-01";
const OBJECT = "gw-npr-primary";
const GATEWAYS = "gateways.mazevault.io";
const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const FAILPOINTS = [
  "membership.beforeRegistration",
  "membership.afterRegistration",
  "membership.beforeConfirmation",
  "membership.afterConfirmation",
];
/** Where the primary dies, what it dies over, and which of its programs. */
const PRIMARY_FAILPOINTS = [
  ["fleet.afterRevocation", "revocation", "operator"],
  ["fleet.afterRedemption", "registration", "REST"],
  ["fleet.beforeAnswer", "registration", "operator"],
] as const;
/** What the issue promises to whoever revokes a gateway. */
const PUT_OUT_WITHIN = { timeoutMs: 5_000, intervalMs: 50 };

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
let rest: RestClient;
let restOfGateway: RestClient;
let admin: { readonly email: string; readonly password: string };
let session: string;
/** Every token that was made, to be looked for afterwards. */
const tokens: string[] = [];
let tokenFile: string;
let failpointFile: string;
let primaryFailpointFile: string;
let folder: string;

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  folder = path.join(primary.lab.dir, "gateway");
  mkdirSync(folder, { recursive: true });
  tokenFile = path.join(folder, "bootstrap.token");
  failpointFile = path.join(folder, "failpoint");
  primaryFailpointFile = path.join(folder, "failpoint-of-primary");
  const env = { MAZEVAULT_FAILPOINT_FILE: primaryFailpointFile };
  operator = await primary.mazevault.startOperator({ env });
  main = await primary.mazevault.startRest({ env });
  rest = RestClient.of(primary, main);
  admin = await firstAdmin(primary);
  session = await rest.login(admin.email, admin.password);
});

afterAll(async () => {
  await rest?.close();
  await restOfGateway?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

async function startGateway(name: string, options: Pick<ProgramOptions, "env" | "config"> = {}): Promise<Rest> {
  await restOfGateway?.close();
  gateway = await cluster.mazevault.startGateway({
    name,
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      MAZEVAULT_VERSION: "1.5.0",
      PRIMARY_BACKEND_URL: main.restUrl,
      ...options.env,
    },
    config: { gateway: { primaryCaFile: primary.lab.pki.caFile }, ...options.config },
  });
  restOfGateway = RestClient.of(cluster, gateway);
  return gateway;
}

/** What each line says, as JSON has it. */
const messages = ({ process }: Program): readonly string[] =>
  readFileSync(process.logFile, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => (JSON.parse(line) as { message?: string }).message ?? "");

const SEED_LINES = /^(Starting MazeVault in |Registering gateway|Setting up mTLS|Gateway registered|Heartbeat loop)/;
const seedLines = (program: Program): readonly string[] =>
  messages(program).filter((message) => SEED_LINES.test(message));

interface GatewayHealth {
  readonly registration: { readonly state: string; readonly gatewayId?: string; readonly problem?: string };
  readonly channel: { readonly state: string };
}

const health = async (): Promise<GatewayHealth> =>
  (await restOfGateway.send("GET", "/api/v1/health")).body.gateway as GatewayHealth;

/** Throws what it tells while it is not. */
const isIn = async (state: string): Promise<GatewayHealth> => {
  const told = await health();
  if (told.registration.state === state && (state !== "Confirmed" || told.channel.state === "Open")) return told;
  throw new Error(JSON.stringify(told));
};

const untilIn = (state: string): Promise<GatewayHealth> => until(`the gateway is ${state}`, () => isIn(state), SOON);

const untilConnected = (name: string) =>
  primary.waitFor(
    GATEWAYS,
    name,
    undefined,
    (object) =>
      conditionOf(object, "Connected")?.status === "True" && conditionOf(object, "Registered")?.status === "True",
    60_000,
  );

/** As soon as whoever had the name before is put out. */
async function bootstrap(name: string): Promise<{ readonly token: string; readonly gatewayId: string }> {
  const answer = await until(
    `a token for ${name}`,
    async () => {
      const made = await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body: { name } });
      return made.status === 201 && made.body;
    },
    SOON,
  );
  const { token, gatewayId } = answer as { token: string; gatewayId: string };
  tokens.push(token);
  return { token, gatewayId };
}

async function shell(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  const args = ["--norc", "-euo", "pipefail", "-c", script];
  return (await promisify(execFile)("bash", args, { cwd: folder, env })).stdout;
}

test("the commands of the documentation give a token, and the first start says five lines with it", async () => {
  // As they are printed there, without the need for jq.
  const jq = "jq() { node -e 'process.stdin.on(\"data\", (text) => console.log(JSON.parse(text).token))'; }\n";
  const token = await shell(
    `${jq}
TOKEN=$(curl -sk -X POST $PRIMARY_URL/api/v1/auth/login \\
  -H "Content-Type: application/json" \\
  -d '{"email":"${admin.email}","password":"${admin.password}"}' | jq -r '.token')
curl -sk -X POST $PRIMARY_URL/api/v1/gateways/bootstrap \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"name":"${NAME}"}' | jq -r '.token'`,
    { ...process.env, PRIMARY_URL: main.restUrl },
  ).then((printed) => printed.trim());
  tokens.push(token);
  await startGateway("gateway", { env: { GATEWAY_BOOTSTRAP_TOKEN: token } });
  const { registration } = await untilIn("Confirmed");
  await until("its heartbeats", () => messages(gateway).some((line) => line.startsWith("Heartbeat loop")), SOON);
  expect(seedLines(gateway)).toEqual([
    "Starting MazeVault in gateway mode",
    "Registering gateway with primary...",
    "Setting up mTLS...",
    `Gateway registered successfully: ${registration.gatewayId}`,
    "Heartbeat loop started (60s interval)",
  ]);
  const { status } = await untilConnected(NAME);
  expect(status).toMatchObject({ gatewayId: registration.gatewayId, environment: "NPR", role: "primary" });
});

test("it may do what a gateway does, and nothing of what a primary does beyond that", async () => {
  const account = `system:serviceaccount:${SYSTEM_NAMESPACE}:${OPERATOR_ACCOUNT}`;
  const may = async (...what: string[]) =>
    (await cluster.lab.controlPlane.kubectl(["auth", "can-i", "--as", account, ...what])).stdout.trim();
  expect(await may("patch", "secrets.mazevault.io/status", "--all-namespaces")).toBe("yes");
  expect(await may("create", "certificaterequests.mazevault.io", "--all-namespaces")).toBe("yes");
  for (const what of ["create failovers", "delete failovers", "create gateways", "delete gateways"])
    expect([what, await may(...`${what}.mazevault.io`.split(" "))]).toEqual([what, "no"]);
  expect(await may("delete", "secrets", "-n", SYSTEM_NAMESPACE)).toBe("no");
});

test("it tells its mode, its health and its figures; the primary tells what it told before", async () => {
  const [mode, told, ofPrimary] = await Promise.all([
    restOfGateway.send("GET", "/"),
    restOfGateway.send("GET", "/api/v1/health"),
    rest.send("GET", "/"),
  ]);
  expect(mode.text).toBe('{"mode":"gateway"}');
  expect(ofPrimary.text).toBe('{"mode":"primary"}');
  expect(told).toMatchObject({
    status: 200,
    body: {
      status: "ok",
      mode: "gateway",
      version: "1.5.0",
      gateway: {
        registration: { state: "Confirmed", name: NAME, environment: "NPR", role: "primary" },
        channel: { state: "Open", consecutiveFailures: 0 },
        circuitBreaker: { state: "Closed" },
      },
    },
  });
  const ready = await (await fetch(`http://127.0.0.1:${gateway.httpPort}/readyz`)).text();
  expect(ready).toMatch(/^registration: registered as azure-gateway-gwc-01 /m);
  expect(ready).toMatch(/^channel: open$/m);
  const figures = await scrape(gateway);
  expect(total(figures, "mazevault_gateway_registered")).toBe(1);
  expect(total(figures, "mazevault_gateway_heartbeat_failures_total")).toBe(0);
  expect(total(figures, "mazevault_gateway_heartbeat_consecutive_failures")).toBe(0);
  const days = total(figures, "mazevault_gateway_certificate_expiry_seconds") / 86_400;
  expect(days).toBeGreaterThan(89);
  expect(days).toBeLessThanOrEqual(90);
});

const docs = (file: string): string => readFileSync(fileURLToPath(new URL(`../docs/${file}`, import.meta.url)), "utf8");

test("the page of metrics has what both programs tell, and nothing else", async () => {
  const listed = [...docs("reference/metrics.md").matchAll(/^\| `(mazevault_\w+)` \|.*?\|.*?\| (.*?) \|/gm)];
  for (const [program, { httpPort }] of [
    ["primary", operator],
    ["gateway", gateway],
  ] as const) {
    const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
    const told = [...text.matchAll(/^# TYPE (mazevault_\w+)/gm)].map(([, name]) => name);
    const promised = listed.filter(([, , by = ""]) => by.split(", ").includes(program)).map(([, name]) => name);
    expect({ program, told: told.toSorted() }).toEqual({ program, told: promised.toSorted() });
  }
});

const runbooks = readdirSync(fileURLToPath(new URL("../docs/runbooks", import.meta.url)));

test.each(runbooks.filter((file) => file !== "README.md"))(
  "the commands of docs/runbooks/%s work as printed",
  async (file) => {
    const blocks = [...docs(`runbooks/${file}`).matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
    expect(blocks).not.toEqual([]);
    // Whoever finds that something is wrong has done what it should.
    const found = 'mazevault() { command mazevault "$@" || [ $? = 7 ]; }\n';
    await shell(found + blocks.join(""), {
      ...cliEnvironment(primary, main, folder),
      MAZEVAULT_TOKEN: session,
      MAZEVAULT_HEALTH: `http://127.0.0.1:${operator.httpPort}`,
      GATEWAY_URL: gateway.restUrl,
      GATEWAY_CA_FILE: cluster.lab.pki.caFile,
      GATEWAY_HEALTH: `http://127.0.0.1:${gateway.httpPort}`,
    });
  },
);

test("a later start needs no token: it goes on with the certificate that it has", async () => {
  const before = await untilIn("Confirmed");
  await gateway.process.stop();
  writeFileSync(tokenFile, "");
  await startGateway("gateway-again", {
    env: { MAZEVAULT_FAILPOINT_FILE: failpointFile },
    config: { gateway: { primaryCaFile: primary.lab.pki.caFile, bootstrapTokenFile: tokenFile } },
  });
  expect((await untilIn("Confirmed")).registration.gatewayId).toBe(before.registration.gatewayId);
  expect(seedLines(gateway)).toEqual([
    "Starting MazeVault in gateway mode",
    "Setting up mTLS...",
    "Heartbeat loop started (60s interval)",
  ]);
  await untilConnected(NAME);
});

/** As by kill -9, over `work`; the next process goes on. */
async function diesAt(
  failpoint: string,
  { of: { process }, in: world, file }: { readonly of: Program; readonly in: World; readonly file: string },
  work: () => Promise<unknown>,
): Promise<void> {
  const { restarts } = process;
  writeFileSync(file, failpoint);
  await process.kill("SIGUSR2");
  await work();
  await until(`death at ${failpoint}`, () => process.restarts > restarts, SOON);
  expect(process.lastEnd).toBe("died of SIGKILL");
  rmSync(file, { force: true });
  // Its holder is dead, so the next one need not wait until it runs out.
  await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await process.ready();
}

/** In their order. */
test.each(FAILPOINTS)("death at %s ends in a registration as the same gateway", async (failpoint) => {
  const before = (await untilIn("Confirmed")).registration.gatewayId;
  const { status } = await rest.send("DELETE", `/api/v1/gateways/${NAME}`, { token: session });
  expect(status).toBe(204);
  await untilIn("Revoked");
  const { token, gatewayId } = await bootstrap(NAME);
  expect(gatewayId).toBe(before);

  await diesAt(failpoint, { of: gateway, in: cluster, file: failpointFile }, async () => {
    writeFileSync(tokenFile, token);
  });
  expect((await untilIn("Confirmed")).registration.gatewayId).toBe(before);
  writeFileSync(tokenFile, "");
  await untilConnected(NAME);
  const known = await primary.sql<{ name: string }>("SELECT name FROM gateways");
  expect(known).toEqual([{ name: NAME }]);
});

test.each(PRIMARY_FAILPOINTS)(
  "death of the primary at %s during %s, of its %s, is gone on from",
  async (failpoint, over, program) => {
    const before = (await untilIn("Confirmed")).registration.gatewayId;
    const dying = { of: program === "REST" ? main : operator, in: primary, file: primaryFailpointFile };
    const revoke = async () => {
      const { status } = await rest.send("DELETE", `/api/v1/gateways/${NAME}`, { token: session });
      expect(status).toBe(204);
    };
    if (over === "revocation") await diesAt(failpoint, dying, revoke);
    else await revoke();
    await untilIn("Revoked");
    const { token } = await bootstrap(NAME);
    const register = async () => writeFileSync(tokenFile, token);
    if (over === "registration") await diesAt(failpoint, dying, register);
    else await register();
    expect((await untilIn("Confirmed")).registration.gatewayId).toBe(before);
    writeFileSync(tokenFile, "");
    await untilConnected(NAME);
    // Of all that it ever had, one counts.
    const counting = () =>
      primary.sql(
        "SELECT FROM certificates WHERE requester_kind = 'Gateway' AND state = 'Issued' AND revocation_reason IS NULL",
      );
    await until("the others are revoked", async () => (await counting()).length === 1, SOON);
  },
);

test("a token that was used is told with what to do, once", async () => {
  await rest.send("DELETE", `/api/v1/gateways/${NAME}`, { token: session });
  await untilIn("Revoked");
  const [used = ""] = tokens;
  writeFileSync(tokenFile, used);
  const told = await until(
    "the refusal",
    async () => {
      const { registration } = await health();
      return registration.problem?.includes("does not take the bootstrap token") && registration;
    },
    SOON,
  );
  expect(told).toMatchObject({ fix: expect.stringContaining("mazevault gateways bootstrap NAME") });
  const lines = messages(gateway).filter((line) => line.includes("does not take the bootstrap token"));
  expect(lines).toHaveLength(1);
});

test("a Gateway object gives a token too; deleting it puts the gateway out on its open connection", async () => {
  await primary.apply({
    apiVersion: "mazevault.io/v1",
    kind: "Gateway",
    metadata: { name: OBJECT },
    spec: { environment: "NPR", role: "primary" },
  });
  const secret = await primary.waitFor("secret", `${OBJECT}-bootstrap`, SYSTEM_NAMESPACE, () => true);
  const { token = "" } = decoded(secret);
  tokens.push(token);
  writeFileSync(tokenFile, token);
  const { registration } = await untilIn("Confirmed");
  const { status } = await untilConnected(OBJECT);
  expect(status?.gatewayId).toBe(registration.gatewayId);

  const before = messages(gateway).length;
  await primary.kubectl("delete", GATEWAYS, OBJECT);
  await until("it is put out", () => isIn("Revoked"), PUT_OUT_WITHIN);
  // Whoever was asking the primary for something tells of it afterwards.
  expect(messages(gateway).slice(before)).toContainEqual(
    expect.stringMatching(/has revoked this gateway; if it is to come back, make a new token/),
  );
  // The same token does not bring it back.
  const { gateway: told, status: overall } = (await restOfGateway.send("GET", "/api/v1/health")).body;
  expect(overall).toBe("degraded");
  expect(told.registration).toMatchObject({ state: "Revoked", problem: "the primary has revoked this gateway" });
});

test("docs/guides/connect-a-gateway.md works as printed", async () => {
  const text = readFileSync(fileURLToPath(new URL("../docs/guides/connect-a-gateway.md", import.meta.url)), "utf8");
  const [make = "", verify = "", remove = "", ...more] = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(
    ([, block = ""]) => block,
  );
  expect(more).toEqual([]);
  const env = {
    ...cliEnvironment(primary, main, folder),
    MAZEVAULT_TOKEN: session,
    GATEWAY_URL: gateway.restUrl,
    GATEWAY_CA_FILE: cluster.lab.pki.caFile,
  };
  await shell(make, env);
  const made = readFileSync(path.join(folder, "gateway.token"), "utf8").trim();
  tokens.push(made);
  writeFileSync(tokenFile, made);
  await untilIn("Confirmed");
  await untilConnected("gw-npr-1");
  const printed = await shell(verify, env);
  expect(printed).toContain('{"mode":"gateway"}');
  expect(printed).toMatch(/"state": ?"Confirmed"/);
  await shell(remove, env);
  await untilIn("Revoked");
});

describe("its own secrets from a Key Vault that its managed identity may only read", () => {
  const NAME_THERE = "gateway-with-vault";
  const ENTRIES = { password: "database-password", rootKey: "root-key", token: "bootstrap-token" } as const;
  const VAULT = azure.operationalVault;
  const ROTATED = "rotated-canary-4f1d";
  let password: string;
  let rootKey: string;
  const control = () => cluster.mazevault.keyVault.control;
  const put = (entry: string, value: string) => control().setSecret(VAULT, entry, value);
  const env = { AZURE_MANAGED_IDENTITY_CLIENT_ID: azure.gateways.NPR.managedIdentity };

  const startWithVault = () =>
    startGateway(NAME_THERE, {
      env,
      config: {
        operationalSecrets: { vaultUrl: `https://${VAULT}.vault.azure.net/` },
        database: { passwordFile: undefined, passwordSecret: ENTRIES.password },
        keys: { file: undefined, create: undefined, rootKeySecret: ENTRIES.rootKey },
        gateway: { primaryCaFile: primary.lab.pki.caFile, bootstrapTokenSecret: ENTRIES.token },
      },
    });

  /** The program by itself on those settings, some of them changed: all that it says until it ends. */
  async function says(changed: NodeJS.ProcessEnv, ...flags: readonly string[]): Promise<string> {
    const port = await cluster.lab.ports.get("gateway-refused");
    const program = path.join(cluster.mazevault.programs, OPERATOR);
    const args = [...NODE_ARGUMENTS, program, "--config", gateway.configFile, "--http-port", `${port}`, ...flags];
    const running = promisify(execFile)(process.execPath, args, { env: { ...process.env, ...env, ...changed } });
    return running.then(
      ({ stdout }) => stdout,
      ({ code, stderr }: { code: unknown; stderr: string }) => `${code}: ${stderr}`,
    );
  }

  test("the root key and the password may move there; while the vault does not answer, the start waits and says so", async () => {
    await gateway.process.stop();
    password = readFileSync(cluster.mazevault.database.passwordFile, "utf8");
    rootKey = readFileSync(path.join(cluster.lab.dir, "operator", "root.key"), "utf8");
    await put(ENTRIES.password, password);
    await put(ENTRIES.rootKey, rootKey);
    await control().setFaults([{ target: "vault", vault: VAULT, unauthenticated: true, effect: { kind: "drop" } }]);
    const httpPort = await cluster.lab.ports.get(NAME_THERE);
    const starting = startWithVault();
    const readiness = async () => (await fetch(`http://127.0.0.1:${httpPort}/readyz`)).text();
    const says = /^operationalSecrets: waiting for entry root-key of https:\S+ \(keys\.rootKeySecret\): /m;
    await until("it waits for the vault", async () => says.test(await readiness()), SOON);
    await control().setFaults([]);
    await starting;
    expect(await readiness()).toMatch(/^operationalSecrets: ok$/m);
    expect(gateway.process.restarts).toBe(0);
  });

  test("what waiting cannot mend ends the start, and names vault, entry and fix", async () => {
    expect(await says({ MAZEVAULT_KEYS_ROOT_KEY_SECRET: "no-such-key" })).toMatch(
      /^1: [\s\S]*keys\.rootKeySecret: https:\S+ has no entry no-such-key; make it: az keyvault secret set --vault-name kv-mazevault-npr /,
    );
    expect(await says({ MAZEVAULT_OPERATIONAL_SECRETS_CLIENT_ID: azure.managedIdentity })).toMatch(
      /^1: [\s\S]*keys\.rootKeySecret: entry root-key: [\s\S]*grant the identity the role Key Vault Secrets User/,
    );
  });

  test("a bootstrap token that is put there is taken up without a restart", async () => {
    await untilIn("Revoked");
    const { token } = await bootstrap("gw-npr-vault");
    await put(ENTRIES.token, token);
    await untilIn("Confirmed");
    await untilConnected("gw-npr-vault");
  });

  test("a password that was rotated is read anew when PostgreSQL refuses the one before", async () => {
    const { superuser } = cluster.lab.postgres;
    const { user } = cluster.mazevault.database;
    /** Resolves once the gateway has a connection that it made after the change; those before are ended by it. */
    const change = async (to: string) => {
      await put(ENTRIES.password, to);
      const reconnected = (client: pg.Client) =>
        client.query(
          "SELECT FROM pg_stat_activity WHERE usename = $1 AND application_name = 'mazevault' AND state = 'idle' AND NOT pid = ANY ($2)",
          [user, before],
        );
      let before: readonly number[] = [];
      await withClient(superuser, async (client) => {
        await client.query(`ALTER ROLE "${user}" PASSWORD ${pg.escapeLiteral(to)}`);
        const ended = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
        before = (await client.query<{ pid: number }>(ended, [user])).rows.map(({ pid }) => pid);
        await until("it is let in", async () => (await reconnected(client)).rowCount !== 0, SOON);
      });
    };
    await change(ROTATED);
    await change(password.trimEnd());
    await untilIn("Confirmed");
    expect(gateway.process.restarts).toBe(0);
  });

  test("a restart finds all of it again; none of it is printed, logged or stored", async () => {
    await gateway.process.kill("SIGKILL");
    await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
    await gateway.process.ready();
    await untilIn("Confirmed");
    const canaries = new Map([
      ["password", Buffer.from(password.trim())],
      ["rotated password", Buffer.from(ROTATED)],
      ["root key", Buffer.from(rootKey.trim(), "base64")],
      ["token", Buffer.from(tokens.at(-1)?.split(".")[1] ?? "", "base64url")],
    ]);
    const printed = await says({}, "--print-config");
    expect(printed).toContain(`"rootKeySecret": "${ENTRIES.rootKey}"`);
    const surfaces: readonly Surface[] = [
      ...(await tables(cluster)),
      ["log", readFileSync(gateway.process.logFile)],
      ["printed settings", Buffer.from(printed)],
      ["environment", readFileSync(`/proc/${gateway.process.pid}/environ`)],
    ];
    expect(found(surfaces, canaries)).toEqual([]);
  });
});

test("no token is in a log, in a database, or in what others see of the processes", async () => {
  const canaries = new Map(
    tokens.map((token, at) => [`token ${at}`, Buffer.from(token.split(".")[1] ?? "", "base64url")]),
  );
  expect(canaries.size).toBeGreaterThanOrEqual(6);
  const commandLine = ({ process: { name, pid } }: Program): Surface => [
    `command line of ${name}`,
    pid === undefined ? Buffer.alloc(0) : readFileSync(`/proc/${pid}/cmdline`),
  ];
  const logs = ["gateway", "gateway-again"].map((name): Surface => {
    const file = path.join(path.dirname(gateway.process.logFile), `${name}.log`);
    return [`log of ${name}`, readFileSync(file)];
  });
  const surfaces: readonly Surface[] = [
    ...(await tables(primary)),
    ...(await tables(cluster)),
    ...logs,
    ...[operator, main].flatMap((program): readonly Surface[] => [
      [`log of the primary's ${program.process.name}`, readFileSync(program.process.logFile)],
      [`environment of the primary's ${program.process.name}`, readFileSync(`/proc/${program.process.pid}/environ`)],
      commandLine(program),
    ]),
    commandLine(gateway),
  ];
  expect(found(surfaces, canaries)).toEqual([]);
  rmSync(tokenFile, { force: true });
});
