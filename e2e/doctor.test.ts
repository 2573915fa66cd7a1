/**
 * Faults planted one after the other, each on the real part: `mazevault doctor`, as it ships, names each of them with what
 * to do, and is content again when it is mended.
 */
import { execFile, execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, request as httpsRequest, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type pg from "pg";
import { knownMigrations } from "../adapters/postgres/migrate.ts";
import type { Finding, FindingStatus } from "../core/diagnosis/finding.ts";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type OcspResponder, type Operator } from "../lab/mazevault.ts";
import type { CertificateFiles } from "../lab/pki.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const folder = mkdtempSync(path.join(tmpdir(), "mazevault-doctor-"));
const file = (name: string): string => path.join(folder, name);
const TEAM = "shop";
const LEASE_MS = 3_000;
const DAY_MS = 86_400_000;
const [vault, otherVault] = azure.vaults;

let world: World;
let operator: Operator;
let skewed: Operator;
let responder: OcspResponder;
let rest: RestClient;
let admin: string;
let key: string;
let expired: CertificateFiles;
let env: NodeJS.ProcessEnv;
const servers: Server[] = [];

interface Seen {
  readonly code: number;
  readonly findings: readonly Finding[];
}

interface Given {
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly cli?: string;
}

function doctor({ args = [], env: more = {}, cli = world.mazevault.cli }: Given = {}): Promise<Seen> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...env, ...more }, maxBuffer: 2 ** 26 };
    execFile(process.execPath, [cli, "doctor", "-o", "json", ...args], options, (error, stdout, stderr) => {
      try {
        resolve({ code: error === null ? 0 : Number(error.code), findings: JSON.parse(stdout) as Finding[] });
      } catch {
        reject(new Error(`doctor printed no JSON: ${stderr}`));
      }
    });
  });
}

/** What it must name. */
interface Named {
  readonly check: string;
  /** `failing` when absent. */
  readonly status?: FindingStatus;
  readonly subject?: string;
  readonly problem: RegExp;
  readonly fix: RegExp;
}

interface Fault extends Named {
  readonly fault: string;
  readonly plant?: () => unknown;
  readonly heal?: () => unknown;
  /** How doctor is called; once the fault is planted. */
  readonly given?: () => Given | Promise<Given>;
}

const names = ({ check, status = "failing", subject, problem, fix }: Named, finding: Finding): boolean =>
  finding.check === check &&
  finding.status === status &&
  (subject === undefined || finding.subject === subject) &&
  problem.test(finding.problem ?? "") &&
  fix.test(finding.fix ?? "");

/** Looks until it is named: what a controller has to notice first takes a moment. */
async function named(fault: Named, given: Given = {}): Promise<void> {
  let seen: Seen | undefined;
  try {
    await until(
      "it is named",
      async () => {
        seen = await doctor(given);
        return seen.findings.some((finding) => names(fault, finding));
      },
      { timeoutMs: 40_000, intervalMs: 200 },
    );
  } catch (error) {
    const bad = seen?.findings.filter(({ status }) => status !== "ok");
    throw new Error(`not named, but: ${JSON.stringify(bad, null, 1)}`, { cause: error });
  }
  expect(seen?.code).toBe(seen?.findings.some(({ status }) => status === "failing") ? 7 : 0);
}

const problems = async (given: Given = {}): Promise<readonly Finding[]> =>
  (await doctor(given)).findings.filter(({ status }) => status !== "ok");

const content = async (): Promise<void> => {
  let left: readonly Finding[] = [];
  await until(
    "doctor is content",
    async () => {
      left = await problems();
      return left.length === 0;
    },
    { timeoutMs: 60_000, intervalMs: 200 },
  ).catch((error: unknown) => {
    throw new Error(`it is not content: ${JSON.stringify(left, null, 1)}`, { cause: error });
  });
};

/** A server with this certificate; what it answers is up to it. */
async function serve(
  files: CertificateFiles,
  answer: Parameters<typeof createServer>[1] = (_request, response) => void response.end("<html>"),
): Promise<string> {
  const tls = { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
  const server = createServer(tls, answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The operator, behind a proxy whose clock is an hour ahead. */
const ahead = async (): Promise<string> => {
  const ca = readFileSync(world.lab.pki.caFile);
  const files = await world.lab.pki.issue("proxy", { commonName: "proxy", usage: "server" });
  return serve(files, ({ method, url, headers }, response) => {
    const onward = httpsRequest(`${operator.restUrl}${url}`, { method, headers, ca }, (answer) => {
      const date = new Date(Date.now() + 3_600_000).toUTCString();
      response.writeHead(answer.statusCode ?? 502, { ...answer.headers, date });
      answer.pipe(response);
    });
    onward.end();
  });
};

/** Replaces `Date` of a program: its clock is an hour ahead of everybody else's. */
const CLOCK_AHEAD = `
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { given.length === 0 ? super(Real.now() + 3_600_000) : super(...given); }
  static now() { return Real.now() + 3_600_000; }
};`;

beforeAll(async () => {
  world = await startWorld();
  const { lab, mazevault } = world;
  const past = (days: number) => new Date(Date.now() - days * DAY_MS);
  expired = await lab.pki.issue("expired", {
    commonName: "mazevault",
    usage: "both",
    validity: { notBefore: past(90), notAfter: past(1) },
  });
  const certificate = await lab.pki.issue("rest", { commonName: "mazevault", usage: "server" });
  copyFileSync(certificate.certFile, file("rest.crt"));
  copyFileSync(certificate.keyFile, file("rest.key"));
  const config = {
    kubernetes: { leaseDurationMs: LEASE_MS },
    pki: { baseUrl: mazevault.pkiUrl },
    rest: { certFile: file("rest.crt"), keyFile: file("rest.key") },
    azure: { allowedVaultHosts: ["*.vault.invalid"] },
  };
  operator = await mazevault.startOperator({ config });
  writeFileSync(file("clock.mjs"), CLOCK_AHEAD);
  const preload = ["--import", file("clock.mjs")];
  skewed = await mazevault.startOperator({ name: "skewed", config: { ...config, rest: {} }, nodeArgs: preload });
  responder = await mazevault.startOcsp();
  rest = RestClient.of(world, operator);
  const { email, password } = await firstAdmin(world);
  admin = await rest.login(email, password);
  key = (await apiKey(["audit", "list"])).secret;
  const { kubectlPath, kubeconfigPath } = lab.controlPlane;
  const { MAZEVAULT_TOKEN: _, KUBECONFIG: __, ...inherited } = process.env;
  env = {
    ...inherited,
    PATH: [path.dirname(kubectlPath), process.env.PATH].join(path.delimiter),
    KUBECONFIG: kubeconfigPath,
    MAZEVAULT_SERVER: operator.restUrl,
    MAZEVAULT_CA_FILE: lab.pki.caFile,
    MAZEVAULT_CLI_CONFIG: file("login.json"),
    MAZEVAULT_TOKEN: key,
  };
  await world.tenant(TEAM);
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "root" },
    spec: {
      ca: { subject: { commonName: "root CA" } },
      policy: { profiles: ["Server"] },
      namespaces: { names: [TEAM] },
    },
  });
  await world.waitReady("clusterissuer.mazevault.io", "root");
});

afterAll(async () => {
  for (const server of servers) server.close();
  await rest?.close();
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const apiKey = async (scopes: readonly string[]): Promise<{ id: string; secret: string }> => {
  const made = await rest.send("POST", "/api/v1/api-keys", { token: admin, body: { name: "doctor", scopes } });
  if (made.status !== 201) throw new Error(made.text);
  return made.body as { id: string; secret: string };
};

const asSuperuser = (text: string): Promise<unknown> =>
  withClient(world.lab.postgres.superuser, (client) => client.query(text));

test("where nothing is wrong it says so, and looks at everything", async () => {
  await content();
  const { code, findings } = await doctor();
  expect(code).toBe(0);
  expect(findings.map(({ check }) => check)).toEqual([
    "connection",
    "clock",
    "version",
    "database",
    "caches",
    "credentials",
    "keys.root",
    "kubernetes",
    "kubernetes.definitions",
    "kubernetes.rights",
    "leadership",
    "certificates",
    "disk",
    "process.coreDumps",
    "pki.authorities",
    "pki.crls",
    "ocsp.answers",
    "keyvault.calls",
    "keyvault.credentials",
    "resources",
  ]);
  const cluster = await doctor({ args: ["--kubeconfig"], env: { MAZEVAULT_SERVER: undefined } });
  expect(cluster).toEqual({
    code: 0,
    findings: [
      { check: "kubernetes", status: "ok" },
      { check: "kubernetes.definitions", status: "ok" },
      { check: "kubernetes.rights", status: "ok" },
      { check: "leadership", status: "ok" },
      { check: "pods", status: "ok" },
      { check: "resources", status: "ok" },
    ],
  });
});

test("a person gets a table, and each problem with its fix", async () => {
  const { stdout } = await new Promise<{ stdout: string }>((resolve) => {
    const args = [world.mazevault.cli, "doctor", "--server", "https://127.0.0.1:1"];
    execFile(process.execPath, args, { env }, (_error, out) => resolve({ stdout: out }));
  });
  expect(stdout).toMatch(
    /^CHECK +STATUS +SUBJECT\nconnection +failing\n\nFAILING connection\n {2}PROBLEM {2}\S.*nothing listens there\n {2}FIX {6}look at --server/,
  );
});

const at = (server: string): Given => ({ env: { MAZEVAULT_SERVER: server } });
const withToken = (token: string): Given => ({ env: { MAZEVAULT_TOKEN: token } });

describe("between here and the server", () => {
  test.each<Fault>([
    {
      fault: "nobody has said where it is",
      given: () => ({ env: { MAZEVAULT_SERVER: undefined } }),
      check: "connection",
      problem: /no server/,
      fix: /mazevault login --server/,
    },
    {
      fault: "nothing listens",
      given: () => at("https://127.0.0.1:1"),
      check: "connection",
      problem: /nothing listens there/,
      fix: /rest\.certFile.*kubectl -n mazevault-system/,
    },
    {
      fault: "there is no such host",
      given: () => at("https://mazevault.invalid:8443"),
      check: "connection",
      problem: /no such host|cannot be resolved/,
      fix: /--server|DNS/,
    },
    {
      fault: "the CA is not known",
      given: () => ({ env: { MAZEVAULT_CA_FILE: undefined } }),
      check: "connection",
      problem: /unknown CA/,
      fix: /--ca-file/,
    },
    {
      fault: "the CA file is not there",
      given: () => ({ env: { MAZEVAULT_CA_FILE: file("nowhere.pem") } }),
      check: "connection",
      problem: /cannot be read \(ENOENT\)/,
      fix: /correct --ca-file/,
    },
    {
      fault: "the server's certificate has expired",
      given: async () => at(await serve(expired)),
      check: "connection",
      problem: /its certificate has expired/,
      fix: /rest\.certFile/,
    },
    {
      fault: "the certificate is for another host",
      given: async () => {
        const elsewhere = { usage: "server", elsewhere: true, dnsNames: ["mazevault.example.com"] } as const;
        return at(await serve(await world.lab.pki.issue("elsewhere", { commonName: "elsewhere", ...elsewhere })));
      },
      check: "connection",
      problem: /for another host/,
      fix: /name that stands in it/,
    },
    {
      fault: "the certificate is not one of a server",
      given: async () =>
        at(await serve(await world.lab.pki.issue("client", { commonName: "client", usage: "client" }))),
      check: "connection",
      problem: /not one of a server/,
      fix: /serverAuth/,
    },
    {
      fault: "it is the port of something without TLS",
      given: () => at(`https://127.0.0.1:${operator.httpPort}`),
      check: "connection",
      problem: /does not speak TLS/,
      fix: /rest\.port/,
    },
    {
      fault: "something else answers",
      given: async () => at(await serve(await world.lab.pki.issue("proxy", { commonName: "proxy", usage: "server" }))),
      check: "connection",
      problem: /not MazeVault/,
      fix: /--server/,
    },
    {
      fault: "the clocks differ",
      given: async () => at(await ahead()),
      check: "clock",
      problem: /this clock is 3\d\d\d s behind the server's/,
      fix: /timedatectl/,
    },
    {
      fault: "the program is older than the server",
      given: () => ({ cli: olderCli() }),
      check: "version",
      problem: /this program is 0\.0\.9, older than the server/,
      fix: /install 0\.1\.0/,
    },
    {
      fault: "nobody is logged in",
      given: () => ({ env: { MAZEVAULT_TOKEN: undefined } }),
      check: "credentials",
      problem: /not logged in/,
      fix: /mazevault login/,
    },
    {
      fault: "a token that was forged",
      given: () => withToken(`${admin.slice(0, -8)}AAAAAAAA`),
      check: "credentials",
      problem: /a token that is not accepted/,
      fix: /unset MAZEVAULT_TOKEN, then mazevault login/,
    },
    {
      fault: "a token whose session was ended",
      given: async () => {
        const { email, password } = await firstAdmin(world);
        const token = await rest.login(email, password);
        expect((await rest.send("POST", "/api/v1/auth/logout", { token })).status).toBe(204);
        return withToken(token);
      },
      check: "credentials",
      problem: /its session was ended/,
      fix: /mazevault login/,
    },
    {
      fault: "an API key that was revoked",
      given: async () => {
        const { id, secret } = await apiKey(["list"]);
        expect((await rest.send("DELETE", `/api/v1/api-keys/${id}`, { token: admin })).status).toBe(204);
        return withToken(secret);
      },
      check: "credentials",
      problem: /an API key that is not accepted/,
      fix: /make a new one/,
    },
    {
      fault: "no right to see the server's own findings",
      given: async () => withToken((await apiKey(["list"])).secret),
      check: "diagnostics",
      status: "warning",
      problem: /may not see/,
      fix: /role admin or auditor/,
    },
  ])("$fault", async ({ given, ...fault }) => named(fault, await given?.()));
});

/** The program as it ships, with the version of an earlier release. */
function olderCli(): string {
  const programs = path.dirname(world.mazevault.cli);
  const older = file("older");
  execFileSync("cp", ["-r", programs, older]);
  for (const name of execFileSync("grep", ["-rlF", '"0.1.0"', older], { encoding: "utf8" }).trim().split("\n")) {
    writeFileSync(name, readFileSync(name, "utf8").replaceAll('"0.1.0"', '"0.0.9"'));
  }
  return path.join(older, path.basename(world.mazevault.cli));
}

const planted = async ({ plant, heal, given, ...fault }: Fault): Promise<void> => {
  await plant?.();
  try {
    await named(fault, await given?.());
  } finally {
    await heal?.();
  }
};

/** A transaction that somebody has left open. */
let forgotten: { end(): Promise<void> } | undefined;
async function leaveOpen(...statements: readonly string[]): Promise<void> {
  const ready = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  const done = withClient({ ...world.mazevault.database, url: "" }, async (client: pg.Client) => {
    await client.query("BEGIN; SET search_path = mazevault");
    for (const statement of statements) await client.query(statement);
    ready.resolve();
    await over.promise;
    await client.query("ROLLBACK");
  });
  done.catch(ready.reject);
  forgotten = {
    async end() {
      over.resolve();
      await done;
    },
  };
  await ready.promise;
}

const LAST_MIGRATION = "(SELECT name FROM migrations ORDER BY id DESC LIMIT 1)";

describe("in the database", () => {
  test.each<Fault>([
    {
      fault: "the role has another password",
      plant: () => asSuperuser("ALTER ROLE mazevault PASSWORD 'another'"),
      heal: () =>
        asSuperuser(`ALTER ROLE mazevault PASSWORD '${readFileSync(world.mazevault.database.passwordFile, "utf8")}'`),
      check: "database",
      problem: /refuses the password of role mazevault/,
      fix: /database\.passwordFile.*ALTER ROLE mazevault PASSWORD/,
    },
    {
      fault: "the role may not log in",
      plant: () => asSuperuser("ALTER ROLE mazevault NOLOGIN"),
      heal: () => asSuperuser("ALTER ROLE mazevault LOGIN"),
      check: "database",
      problem: /does not let role mazevault in/,
      fix: /ALTER ROLE mazevault LOGIN/,
    },
    {
      fault: "the role has all the connections that it may have",
      plant: () => asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT 1"),
      heal: () => asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT -1"),
      check: "database",
      problem: /takes no further connections/,
      fix: /CONNECTION LIMIT -1/,
    },
    {
      fault: "its connections are running out",
      plant: async () => {
        const [row] = await world.sql<{ open: number }>(
          "SELECT count(*)::integer AS open FROM pg_stat_activity WHERE usename = 'mazevault'",
        );
        await asSuperuser(`ALTER ROLE mazevault CONNECTION LIMIT ${(row?.open ?? 0) + 1}`);
      },
      heal: () => asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT -1"),
      check: "database.connections",
      status: "warning",
      problem: /\d+ of \d+ connections are open/,
      fix: /max_connections/,
    },
    {
      fault: "it takes no writes",
      plant: () => asSuperuser("ALTER ROLE mazevault SET default_transaction_read_only = on"),
      heal: async () => {
        await asSuperuser("ALTER ROLE mazevault RESET default_transaction_read_only");
        await asSuperuser("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mazevault'");
        // Our own connections were among them.
        await until("it answers us again", () => world.sql("SELECT"), { timeoutMs: 10_000 });
      },
      check: "database",
      problem: /takes no writes/,
      fix: /primary/,
    },
    {
      fault: "a migration is missing",
      plant: () => world.sql(`UPDATE migrations SET name = '0000_lost' WHERE name = ${LAST_MIGRATION}`),
      heal: () => world.sql("UPDATE migrations SET name = $1 WHERE name = '0000_lost'", [knownMigrations().at(-1)]),
      check: "database.migrations",
      problem: /lacks migrations that this program needs: 0\d+_\w+$/,
      fix: /rollout restart/,
    },
    {
      fault: "the schema is of a newer version",
      plant: () => world.sql("INSERT INTO migrations (name, run_on) VALUES ('9999_tomorrow', now())"),
      heal: () => world.sql("DELETE FROM migrations WHERE name = '9999_tomorrow'"),
      check: "database.migrations",
      problem: /does not know: 9999_tomorrow/,
      fix: /run the version that made them/,
    },
    {
      fault: "a key is nearly used up",
      plant: () => world.sql("UPDATE keys SET uses = 2000000000 WHERE purpose = 'Project'"),
      heal: () => world.sql("UPDATE keys SET uses = 65536 WHERE purpose = 'Project'"),
      check: "keys.uses",
      status: "warning",
      problem: /used 2000000000 times/,
      fix: /rotate the key/,
    },
    {
      fault: "a user is locked out",
      plant: async () => {
        for (let n = 0; n < 11; n++) {
          await rest.send("POST", "/api/v1/auth/login", { body: { email: "guessed@example.com", password: "wrong" } });
        }
        await world.sql(
          "UPDATE login_attempts SET blocked_until = now() + interval '5 minutes' WHERE blocked_until IS NOT NULL",
        );
      },
      heal: () => world.sql("DELETE FROM login_attempts"),
      check: "logins",
      status: "warning",
      problem: /have to wait/,
      fix: /DELETE FROM mazevault\.login_attempts/,
    },
    {
      fault: "a transaction that was left open holds the outbox back",
      plant: async () => {
        await leaveOpen("SELECT pg_current_xact_id()");
        await world.apply(secretManifest(TEAM, "held", { entries: [{ key: "k", literal: "v" }] }));
        await world.waitReady("secret.mazevault.io", "held", TEAM);
        await world.sql("UPDATE outbox_cursors SET moved_at = now() - interval '10 minutes'");
      },
      heal: () => forgotten?.end(),
      check: "outbox",
      problem: /\d+ changes wait for syncrules/,
      fix: /pg_terminate_backend\(\d+\)/,
    },
    {
      fault: "the linker of the audit chain is stopped",
      plant: async () => {
        await leaveOpen("SELECT FROM audit_head FOR UPDATE");
        await world.apply(secretManifest(TEAM, "unlinked", { entries: [{ key: "k", literal: "v" }] }));
        await world.waitReady("secret.mazevault.io", "unlinked", TEAM);
      },
      heal: () => forgotten?.end(),
      check: "audit.linking",
      problem: /audit rows wait to be linked/,
      fix: /pg_blocking_pids/,
    },
  ])("$fault", planted);
});

const patch = (resource: string, name: string, change: object, ...args: string[]): Promise<string> =>
  world.kubectl("patch", resource, name, "--type=json", "-p", JSON.stringify(change), ...args);

/** As this version installs them. */
const reinstall = (name: string): Promise<string> =>
  world.kubectl(
    "apply",
    "--server-side",
    "--force-conflicts",
    "--field-manager=mazevault-install",
    "-f",
    path.join(import.meta.dirname, "../crds/generated", name),
  );

const onlyCluster = (): Given => ({ args: ["--kubeconfig"], env: { MAZEVAULT_SERVER: undefined } });

describe("in Kubernetes", () => {
  const fewerRules = (name: string) => patch("clusterrole", name, [{ op: "remove", path: "/rules/0" }]);
  test.each<Fault>([
    {
      fault: "the operator lost rights in the whole cluster",
      plant: () =>
        patch("clusterrole", "mazevault-operator", [{ op: "replace", path: "/rules/1/verbs", value: ["patch"] }]),
      heal: () => reinstall("rbac.yaml"),
      check: "kubernetes.rights",
      problem: /lacks rights in the whole cluster: update projects\.mazevault\.io\/status/,
      fix: /kubectl apply .*rbac\.yaml/,
    },
    {
      fault: "the same, told by the cluster alone",
      plant: () =>
        patch("clusterrole", "mazevault-operator", [{ op: "replace", path: "/rules/1/verbs", value: ["patch"] }]),
      heal: () => reinstall("rbac.yaml"),
      given: onlyCluster,
      check: "kubernetes.rights",
      problem: /lacks rights in the whole cluster: update projects\.mazevault\.io\/status/,
      fix: /kubectl apply .*rbac\.yaml/,
    },
    {
      fault: "the operator lost rights in a namespace",
      plant: () => fewerRules("mazevault-namespace"),
      heal: () => reinstall("rbac.yaml"),
      check: "kubernetes.rights",
      problem: /lacks rights in namespace shop: get, list, watch, create, patch, delete secrets/,
      fix: /rbac\.yaml/,
    },
    {
      fault: "a definition is older than the program",
      plant: () =>
        patch("crd", "auditsinks.mazevault.io", [
          {
            op: "remove",
            path: "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/otlp/properties/caBundle",
          },
        ]),
      heal: () => reinstall("mazevault.io_auditsinks.yaml"),
      check: "kubernetes.definitions",
      subject: "CustomResourceDefinition auditsinks.mazevault.io",
      problem: /older than the program: it lacks spec\.otlp\.caBundle/,
      fix: /kubectl apply .*mazevault\.io_auditsinks\.yaml/,
    },
    {
      fault: "a definition is missing",
      plant: () => world.kubectl("delete", "crd", "auditsinks.mazevault.io"),
      heal: async () => {
        await reinstall("mazevault.io_auditsinks.yaml");
        await world.kubectl("wait", "--for=condition=Established", "crd/auditsinks.mazevault.io");
      },
      given: onlyCluster,
      check: "kubernetes.definitions",
      subject: "CustomResourceDefinition auditsinks.mazevault.io",
      problem: /its definition is missing/,
      fix: /kubectl apply .*mazevault\.io_auditsinks\.yaml/,
    },
    {
      fault: "the kubeconfig leads nowhere",
      given: () => {
        const kubeconfig = readFileSync(String(env.KUBECONFIG), "utf8");
        writeFileSync(file("nowhere"), kubeconfig.replaceAll(world.lab.controlPlane.url, "https://127.0.0.1:1"));
        return { args: ["--kubeconfig", file("nowhere")], env: { MAZEVAULT_SERVER: undefined } };
      },
      check: "kubernetes",
      problem: /refused/,
      fix: /kubectl config get-contexts/,
    },
    {
      fault: "a Pod ends again and again, since its root key is missing",
      plant: async () => {
        await world.apply({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: "operator", namespace: SYSTEM_NAMESPACE },
          spec: {
            serviceAccountName: OPERATOR_ACCOUNT,
            containers: [{ name: "operator", image: "example/mazevault:1", ...restricted }],
          },
        });
        const message = `${await rootKeyMissing()}\n`;
        const lastState = { terminated: { exitCode: 1, reason: "Error", message } };
        const state = { waiting: { reason: "CrashLoopBackOff", message: "back-off 5m0s restarting" } };
        const containerStatuses = [
          { name: "operator", ready: false, restartCount: 7, image: "", imageID: "", state, lastState },
        ];
        const status = [{ op: "replace", path: "/status", value: { phase: "Running", containerStatuses } }];
        await patch("pod", "operator", status, "-n", SYSTEM_NAMESPACE, "--subresource=status");
      },
      heal: () => world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "pod", "operator", "--grace-period=0", "--force"),
      given: onlyCluster,
      check: "pods",
      subject: `Pod ${SYSTEM_NAMESPACE}/operator`,
      problem: /CrashLoopBackOff, ended with 1: .*root key file .*: it does not exist/,
      fix: /logs operator -c operator --previous/,
    },
  ])("$fault", planted);
});

/** What namespace mazevault-system demands of a container. */
const restricted = {
  securityContext: {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    runAsNonRoot: true,
    seccompProfile: { type: "RuntimeDefault" },
  },
};

/** What the program says that starts without it. */
async function rootKeyMissing(): Promise<string> {
  const port = String(await world.lab.ports.get("keyless"));
  const args = [
    path.join(path.dirname(world.mazevault.cli), "operator.mjs"),
    "--config",
    operator.configFile,
    "--keys-file",
    file("no.key"),
    "--keys-create",
    "false",
  ];
  try {
    execFileSync(process.execPath, [...args, "--http-port", port], { stdio: "pipe", encoding: "utf8" });
  } catch (error) {
    return (
      String((error as { stdout?: string }).stdout)
        .trim()
        .split("\n")
        .at(-1) ?? ""
    );
  }
  throw new Error("it started");
}

const rootKeyFile = (): string => path.join(world.lab.dir, "operator/root.key");

describe("where the operator runs", () => {
  test.each<Fault>([
    {
      fault: "the certificate of REST is replaced by one that has expired",
      plant: () => {
        copyFileSync(file("rest.crt"), file("rest.crt.kept"));
        copyFileSync(expired.certFile, file("rest.crt"));
      },
      // Before it is taken up: then it would be told from outside.
      heal: () => renameSync(file("rest.crt.kept"), file("rest.crt")),
      check: "certificates",
      problem: /a certificate of rest\.certFile has expired/,
      fix: /rest\.crt: write a renewed certificate/,
    },
    {
      fault: "others can read the root key",
      plant: () => chmodSync(rootKeyFile(), 0o644),
      heal: () => chmodSync(rootKeyFile(), 0o600),
      check: "keys.root",
      problem: /others can read it/,
      fix: /mode 0600/,
    },
    {
      fault: "the root key is gone",
      plant: () => renameSync(rootKeyFile(), file("root.key")),
      heal: () => {
        copyFileSync(file("root.key"), rootKeyFile());
        chmodSync(rootKeyFile(), 0o600);
      },
      check: "keys.root",
      problem: /does not exist/,
      fix: /restore .*root\.key from its copy.*do not restart before/,
    },
    {
      fault: "the root key is another one",
      plant: () => writeFileSync(rootKeyFile(), `${Buffer.alloc(32, 7).toString("base64")}\n`, { mode: 0o600 }),
      heal: () => copyFileSync(file("root.key"), rootKeyFile()),
      check: "keys.root",
      problem: /is not the one that wrapped the installation's key/,
      fix: /restore the copy of the former key/,
    },
    {
      fault: "the operator's clock differs from PostgreSQL's",
      given: () => at(skewed.restUrl),
      check: "database.clock",
      problem: /the operator's clock is 3\d\d\d s ahead of PostgreSQL's/,
      fix: /timedatectl/,
    },
    {
      fault: "the operator's clock differs from the API server's",
      given: () => at(skewed.restUrl),
      // It must not lead when the other one cannot.
      heal: () => skewed.process.stop(),
      check: "kubernetes.clock",
      problem: /the operator's clock is 3\d\d\d s ahead of the API server's/,
      fix: /timedatectl/,
    },
    {
      fault: "the OCSP responder is stopped",
      plant: () => responder.process.stop(),
      heal: () => responder.process.start(),
      check: "ocsp.answers",
      problem: /cannot be reached \(ECONNREFUSED\)/,
      fix: /curl -sv http.*\/ocsp/,
    },
  ])("$fault", planted);
});

const object = (kind: string, name: string, spec: object, metadata: object = { namespace: TEAM }): object => ({
  apiVersion: "mazevault.io/v1",
  kind,
  metadata: { name, ...metadata },
  spec,
});
const secret = (name: string, entry: object, spec: object = {}): object =>
  secretManifest(TEAM, name, { entries: [{ key: "k", ...entry }], ...spec });
const keyVault = (name: string, url: string, credential: object, clientId: string = azure.servicePrincipal): object =>
  object("KeyVault", name, {
    projectRef: { name: TEAM },
    vaultUrl: `https://${url}/`,
    auth: { servicePrincipal: { tenantId: azure.tenantId, clientId, ...credential } },
  });
const azureVault = (name: string): string => `${name}.vault.azure.net`;
const source = (name: string, stringData: Readonly<Record<string, string>>): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: TEAM },
  stringData,
});

/** Resources that cannot become Ready, each for another reason; they do not meet, so they are planted together. */
const unready: readonly (Omit<Named, "check"> & { readonly subject: string; readonly manifest: () => object })[] = [
  {
    subject: `Secret ${TEAM}/no-source`,
    manifest: () => secret("no-source", { secretRef: { name: "nowhere", key: "k" } }),
    problem: /^SourceNotFound: .*nowhere/,
    fix: /kubectl -n shop get secrets/,
  },
  {
    subject: `Secret ${TEAM}/no-source-key`,
    manifest: () => secret("no-source-key", { secretRef: { name: "principal", key: "nothing" } }),
    problem: /^SourceKeyNotFound/,
    fix: /add the key or correct the reference/,
  },
  {
    subject: `Secret ${TEAM}/unwritten`,
    manifest: () => secret("unwritten", { external: {} }),
    problem: /^ValueMissing/,
    fix: /mazevault put shop\/unwritten KEY/,
  },
  {
    subject: `Secret ${TEAM}/bad-template`,
    manifest: () => secret("bad-template", { template: "{{ nothing }}" }),
    problem: /^TemplateInvalid/,
    fix: /kubectl -n shop edit secrets\.mazevault\.io bad-template/,
  },
  {
    subject: `Secret ${TEAM}/no-project`,
    manifest: () =>
      object("Secret", "no-project", {
        projectRef: { name: "nobody" },
        environment: "pro",
        entries: [{ key: "k", literal: "v" }],
      }),
    problem: /^ProjectNotFound/,
    fix: /kubectl get project nobody/,
  },
  {
    subject: `Secret ${TEAM}/no-environment`,
    manifest: () => secret("no-environment", { literal: "v" }, { environment: "qa" }),
    problem: /^(EnvironmentNotDeclared|NamespaceNotAdmitted)/,
    fix: /kubectl edit project shop/,
  },
  {
    subject: `Secret ${TEAM}/taken`,
    manifest: () => secret("taken", { literal: "v" }, { deliver: { secretName: "principal" } }),
    problem: /^TargetNotOwned/,
    fix: /set adopt/,
  },
  {
    subject: `KeyVault ${TEAM}/no-credential`,
    manifest: () =>
      keyVault("no-credential", azureVault(vault), { clientSecretRef: { name: "nowhere", key: "secret" } }),
    problem: /^CredentialNotFound/,
    fix: /kubectl -n shop get secrets/,
  },
  {
    subject: `KeyVault ${TEAM}/wrong-secret`,
    manifest: () => keyVault("wrong-secret", azureVault(vault), { clientSecretRef: { name: "wrong", key: "secret" } }),
    problem: /^CredentialInvalid/,
    fix: /put the new credential/,
  },
  {
    subject: `KeyVault ${TEAM}/refused`,
    manifest: () =>
      keyVault("refused", azureVault(vault), { clientSecretRef: { name: "principal", key: "secret" } }, azure.stranger),
    problem: /^AccessDenied/,
    fix: /az role assignment create --role "Key Vault Secrets Officer" --assignee 16fd2706/,
  },
  {
    subject: `KeyVault ${TEAM}/not-allowed`,
    manifest: () =>
      keyVault("not-allowed", "crdprointmzvgwckv01.vault.azure.example", {
        clientSecretRef: { name: "principal", key: "secret" },
      }),
    problem: /^VaultHostNotAllowed/,
    fix: /azure\.allowedVaultHosts/,
  },
  {
    subject: `KeyVault ${TEAM}/unresolvable`,
    manifest: () =>
      keyVault("unresolvable", "team.vault.invalid", { clientSecretRef: { name: "principal", key: "secret" } }),
    problem: /^VaultUnreachable/,
    fix: /nslookup team\.vault\.invalid/,
  },
  {
    subject: `SyncRule ${TEAM}/no-vault`,
    manifest: () =>
      object("SyncRule", "no-vault", {
        projectRef: { name: TEAM },
        environment: "pro",
        direction: "Push",
        secrets: { names: ["none-of-these"] },
        target: { keyVault: { ref: { name: "nowhere" } } },
      }),
    problem: /^KeyVaultNotFound/,
    fix: /kubectl -n shop get keyvaults/,
  },
  {
    subject: `Issuer ${TEAM}/orphan`,
    manifest: () =>
      object("Issuer", "orphan", {
        ca: { subject: { commonName: "orphan CA" }, parentRef: { kind: "ClusterIssuer", name: "nowhere" } },
      }),
    problem: /^IssuerNotFound/,
    fix: /kubectl get issuers/,
  },
  {
    subject: `Certificate ${TEAM}/outside`,
    manifest: () =>
      object("Certificate", "outside", {
        secretName: "outside-tls",
        issuerRef: { kind: "ClusterIssuer", name: "root" },
        commonName: "outside",
        profile: "Client",
      }),
    problem: /^PolicyViolated/,
    fix: /edit certificates\.mazevault\.io outside/,
  },
  {
    subject: "AuditSink deaf",
    manifest: () => object("AuditSink", "deaf", { otlp: { url: "https://127.0.0.1:1/v1/logs" } }, {}),
    problem: /^SinkUnreachable/,
    fix: /kubectl describe auditsinks\.mazevault\.io deaf/,
  },
];

describe("of the resources", () => {
  let seen: Seen;

  beforeAll(async () => {
    const pem = readFileSync(expired.certFile, "utf8") + readFileSync(expired.keyFile, "utf8");
    await world.apply(
      source("principal", { secret: world.mazevault.servicePrincipal.secret }),
      source("wrong", { secret: "not the secret" }),
      source("ended", { pem }),
      keyVault("ended", azureVault(otherVault), { certificateSecretRef: { name: "ended", key: "pem" } }),
      ...unready.map(({ manifest }) => manifest()),
    );
    await until(
      "each has its reason",
      async () => {
        seen = await doctor();
        return unready.every((fault) =>
          seen.findings.some((finding) => names({ check: "resources", ...fault }, finding)),
        );
      },
      { timeoutMs: 40_000, intervalMs: 300 },
    ).catch(() => {});
  });

  afterAll(async () => {
    const of = (kind: string) => world.kubectl("-n", TEAM, "delete", `${kind}.mazevault.io`, "--all");
    await Promise.all(["secrets", "keyvaults", "syncrules", "issuers", "certificates", "auditsinks"].map(of));
  });

  test.each(unready)("$subject", ({ manifest: _, ...fault }) => {
    const own = seen.findings.filter(({ subject }) => subject === fault.subject);
    expect(own).toMatchObject([
      { problem: expect.stringMatching(fault.problem), fix: expect.stringMatching(fault.fix) },
    ]);
  });

  test("a client certificate of a Key Vault that has expired", () => {
    expect(seen.findings).toContainEqual({
      check: "keyvault.credentials",
      status: "failing",
      problem: expect.stringMatching(/the client certificate of KeyVault shop\/ended has expired/),
      fix: expect.stringMatching(/core Secret shop\/ended, key pem/),
    });
  });
});

describe("of a Key Vault", () => {
  const push = object("SyncRule", "push", {
    projectRef: { name: TEAM },
    environment: "pro",
    direction: "Push",
    secrets: { names: ["pushed"] },
    target: { keyVault: { ref: { name: "healthy" } } },
  });
  const control = () => world.mazevault.keyVault.control;

  beforeAll(async () => {
    await world.apply(
      keyVault("healthy", azureVault(vault), { clientSecretRef: { name: "principal", key: "secret" } }),
      secret("pushed", { literal: "first" }),
      push,
    );
    await world.waitReady("syncrule.mazevault.io", "push", TEAM);
  });

  test.each<Fault>([
    {
      fault: "it wants to be left alone",
      plant: async () => {
        const effect = { kind: "status", status: 429, retryAfterSeconds: 4 } as const;
        await control().setFaults([{ vault, effect }]);
        await world.apply(secret("pushed", { literal: "second" }));
      },
      heal: () => control().setFaults([]),
      check: "keyvault.calls",
      status: "warning",
      subject: azureVault(vault),
      problem: /left alone for another \d+ s/,
      fix: /callsPer10Seconds/,
    },
    {
      fault: "it fails, and the breaker is open",
      plant: async () => {
        await control().setFaults([{ vault, effect: { kind: "status", status: 503 } }]);
        await world.apply(secret("pushed", { literal: "third" }));
      },
      heal: () => control().setFaults([]),
      check: "keyvault.calls",
      subject: azureVault(vault),
      problem: /circuit breaker/,
      fix: /status\.azure\.com/,
    },
  ])("$fault", planted);
});

describe("of what everything stands on", () => {
  test.each<Fault>([
    {
      fault: "PostgreSQL is frozen",
      plant: () => world.lab.postgres.process.pause(),
      heal: () => world.lab.postgres.process.resume(),
      check: "database",
      problem: /PostgreSQL at .* does not answer/,
      fix: /pg_isready/,
    },
    {
      fault: "PostgreSQL is away",
      plant: () => world.lab.postgres.process.stop(),
      heal: () => world.lab.postgres.process.start(),
      check: "database",
      problem: /PostgreSQL at .* does not answer/,
      fix: /pg_isready/,
    },
    {
      fault: "the operator is frozen, and nobody leads",
      plant: () => operator.process.pause(),
      heal: () => operator.process.resume(),
      given: onlyCluster,
      check: "leadership",
      problem: /nobody leads: .* renewed the Lease \d+ s ago/,
      fix: /logs deployment/,
    },
  ])("$fault", planted);

  test("when all of it is mended, doctor is content", async () => {
    await world.kubectl("-n", TEAM, "delete", "syncrules.mazevault.io,keyvaults.mazevault.io", "--all");
    await content();
  });
});

describe("a support bundle", () => {
  const bundle = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const all = [world.mazevault.cli, "support-bundle", ...args];
      execFile(process.execPath, all, { env: { ...env, ...more } }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      );
    });
  const listed = (name: string): string[] =>
    execFileSync("tar", ["-tzf", file(name)], { encoding: "utf8" })
      .trim()
      .split("\n")
      .map((entry) => entry.replace("mazevault-support/", ""));
  const partOf = (name: string, part: string): string =>
    execFileSync("tar", ["-xzOf", file(name), `mazevault-support/${part}`], { encoding: "utf8" });

  test("holds what helps, says what that is, and is its owner's alone", async () => {
    const { code, stdout, stderr } = await bundle(["--file", file("all.tar.gz"), "--kubeconfig", "-o", "json"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining("look through it") });
    expect(statSync(file("all.tar.gz")).mode & 0o777).toBe(0o600);
    const { parts, missing } = JSON.parse(stdout) as { parts: { part: string; bytes: number }[]; missing: string[] };
    expect(missing).toEqual([]);
    expect(parts.map(({ part }) => part)).toEqual(listed("all.tar.gz"));
    expect(listed("all.tar.gz")).toEqual([
      "versions.json",
      "doctor.json",
      "server/health.json",
      "server/about.json",
      "server/configuration.json",
      "server/database.json",
      "server/metrics.txt",
      "resources.ndjson",
      "cluster/version.json",
      "cluster/leases.json",
      "cluster/events.json",
    ]);
    const database = JSON.parse(partOf("all.tar.gz", "server/database.json")) as {
      migrations: string[];
      tables: object[];
    };
    expect(database.migrations).toEqual(knownMigrations());
    expect(database.tables).toContainEqual({ name: "audit", rows: expect.any(Number), bytes: expect.any(Number) });
    expect(partOf("all.tar.gz", "server/metrics.txt")).toContain("mazevault_rest_request_duration_seconds");
    expect(partOf("all.tar.gz", "resources.ndjson")).toContain('"name":"root"');
    expect(partOf("all.tar.gz", "server/configuration.json")).toContain('"leaseDurationMs": 3000');
  });

  test("overwrites nothing", async () => {
    const before = readFileSync(file("all.tar.gz"));
    const { code, stderr } = await bundle(["--file", file("all.tar.gz")]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining("is there already") });
    expect(readFileSync(file("all.tar.gz")).equals(before)).toBe(true);
  });

  test("is made of what can be had when REST is away, and says what it lacks", async () => {
    const away = { MAZEVAULT_SERVER: "https://127.0.0.1:1" };
    const { code, stderr } = await bundle(["--file", file("away.tar.gz"), "--kubeconfig"], away);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/not in it: facts.*nothing listens there/),
    });
    expect(partOf("away.tar.gz", "missing.txt")).toMatch(/nothing listens there/);
    expect(listed("away.tar.gz")).toContain("cluster/events.json");
    expect(partOf("away.tar.gz", "resources.ndjson")).toContain('"name":"root"');
  });
});

test("what keeps keys in memory leaves no core dump", () => {
  for (const { pid } of [operator.process, responder.process]) {
    const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
  }
});
