/** docs/security/controls.md: every block of evidence as it is printed, against an installation in which something has happened. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { BACKUP } from "../build/bundle.ts";
import { sbom } from "../build/sbom.ts";
import { read, root } from "../checks/pages.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { writeLauncher } from "../lab/launcher.ts";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { samples, startWorld, type World } from "./harness.ts";
import { firstAdmin } from "./rest-client.ts";
import { SimulatedGateway } from "./simulated-gateway.ts";

const DAY_MS = 86_400_000;
const PERSON = "ada@example.com";
const PASSWORD = "correct horse battery staple";
const pageOf = (file: string) => read(file, readFileSync(path.join(root, file), "utf8"));
const page = pageOf("docs/security/controls.md");
const folder = mkdtempSync(path.join(tmpdir(), "mazevault-evidence-"));
const soon = { timeoutMs: 60_000, intervalMs: 200 };

let world: World;
let operator: Operator;
let surface: Rest;
const gateways: SimulatedGateway[] = [];
let env: NodeJS.ProcessEnv;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  /** On both. */
  readonly printed: string;
}

type Who = "admin" | "auditor";

function shell(block: string, as: Who, input = ""): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: mkdtempSync(path.join(folder, "block-")), env: { ...env, MAZEVAULT_CLI_CONFIG: login(as) } };
    const child = execFile("bash", ["--norc", "-euo", "pipefail", "-c", block], options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, printed: `${stdout}${stderr}` }),
    );
    child.stdin?.end(input);
  });
}

const login = (as: Who): string => path.join(folder, `${as}.json`);

/** What it prints on standard output; throws when it does not end well. */
async function admin(block: string, input?: string): Promise<string> {
  const { code, stdout, printed } = await shell(block, "admin", input);
  if (code !== 0) throw new Error(`${block}: ${code} ${printed}`);
  return stdout;
}

beforeAll(async () => {
  world = await startWorld();
  const { mazevault, lab } = world;
  const audit = { checkpointMs: 500, retentionMs: 400 * DAY_MS };
  operator = await mazevault.startOperator({ config: { audit, pki: { baseUrl: mazevault.pkiUrl } } });
  surface = await mazevault.startRest({ config: { audit } });
  env = {
    ...cliEnvironment(world, surface, folder),
    MAZEVAULT_HEALTH: `http://127.0.0.1:${operator.httpPort}`,
    INSTALLATION: SYSTEM_NAMESPACE,
    SECRET: "payments/orders-db",
    CERTIFICATE: "payments/orders-tls",
    ISSUER: "payments-ca",
    ENVIRONMENT: "NPR",
    PERSON,
    FROM: new Date(Date.now() - DAY_MS).toISOString().slice(0, 10),
    WITNESS: path.join(lab.dir, "operator/audit/witness.jsonl"),
    PROGRAMS: folder,
    MANIFEST: path.join(folder, "manifest.json"),
    // Of whoever makes backups.
    MAZEVAULT_CONFIG: operator.configFile,
  };
  writeLauncher(folder, "mazevault-backup", path.join(mazevault.programs, BACKUP));
  writeFileSync(path.join(folder, "sbom.cdx.json"), sbom());
  await Promise.all([installed(), people()]);
  await Promise.all([payments(), failover(), mazevault.startOcsp()]);
  await admin('mazevault-backup create --manifest-only > "$MANIFEST"');
});

afterAll(async () => {
  for (const gateway of gateways) gateway.close();
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** What an administrator of the cluster applies, the policies as docs/operations/rights.md has it. */
async function installed(): Promise<void> {
  const rights = pageOf("docs/operations/rights.md").sections.flatMap(({ blocks }) => blocks);
  const commands = rights.filter(({ language }) => language === "sh").map(({ text }) => text);
  await admin(`cd "${root}"; ${commands.join("\n")}\nkubectl apply -f charts/mazevault/files/changed-by.yaml`);
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "AuditSink",
    metadata: { name: "witness" },
    spec: { file: { name: "witness.jsonl" } },
  });
}

/** An admin, and an auditor who first mistypes. */
async function people(): Promise<void> {
  const { password } = await firstAdmin(world);
  await admin("mazevault login --email admin@mazevault.com --password-stdin", password);
  await admin(`mazevault users create ${PERSON} --role auditor --password-stdin`, PASSWORD);
  const attempt = (given: string) => shell(`mazevault login --email ${PERSON} --password-stdin`, "auditor", given);
  expect((await attempt("not the password")).code).toBe(3);
  expect((await attempt(PASSWORD)).code).toBe(0);
}

/** A tenant with a life: versions, a rotation, keys, a refusal, a deletion, a revocation. */
async function payments(): Promise<void> {
  await world.kubectl("apply", "-f", samples);
  await world.waitReady("secret.mazevault.io", "orders-db", "payments");
  await world.waitReady("certificate.mazevault.io", "orders-tls", "payments");
  await admin("mazevault get payments/orders-db password");
  await admin("mazevault rotate payments/orders-db");
  await admin("mazevault keys rotate --project payments");
  expect(await shell("mazevault get payments/orders-db", "auditor")).toMatchObject({ code: 4 });
  await admin("mazevault put payments/gone token=- --project payments --environment pro", "x");
  await admin("mazevault delete payments/gone");
  await admin("mazevault revoke payments/orders-tls --reason superseded");
  const stamped = async () => {
    const change = `kubectl -n payments patch secrets.mazevault.io orders-db --type=merge -p '{"spec":{"retention":{"versions":${Math.floor(Math.random() * 50) + 5}}}}'`;
    await admin(change);
    const { metadata } = await world.get("secret.mazevault.io", "orders-db", "payments");
    return metadata.annotations?.["mazevault.io/changed-by"] !== undefined;
  };
  await until("the API server stamps who changed an object", stamped, soon);
}

/** Two gateways, of which the standby is to act. */
async function failover(): Promise<void> {
  for (const role of ["primary", "dr-standby"] as const) {
    const name = `gw-npr-${role}`;
    const token = (await admin(`mazevault gateways bootstrap ${name} --environment NPR --role ${role}`)).trim();
    const place = { url: surface.restUrl, token, environment: "NPR", role };
    const gateway = await SimulatedGateway.make(place);
    gateways.push(gateway);
    await until(`${name} registers`, () => gateway.register().then(() => true), soon);
    await gateway.heartbeat();
  }
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "GatewayEnvironment",
    metadata: { name: "npr" },
    spec: { environment: "NPR", primaryRef: { name: "gw-npr-primary" }, standbyRef: { name: "gw-npr-dr-standby" } },
  });
  const begun = () => admin("mazevault failover activate-dr NPR").then(() => true);
  await until("a failover begins", begun, soon);
}

interface Evidence {
  readonly prints: RegExp;
  /** 0 unless said. */
  readonly code?: number;
  readonly as?: Who;
}

const row = (action: string, subject: string, outcome = "Success"): string =>
  `${action} +\\S.* ${subject} +${outcome}\\n`;

/** What each block prints, some of it in a moment. */
const expected: Readonly<Record<string, Evidence>> = {
  "Who may read": { prints: /ServiceAccount payments\/orders\b/ },
  "Nobody without a grant": { prints: /^denied: no grant/, code: 4 },
  "Users and their roles": {
    as: "admin",
    prints: new RegExp(`${PERSON} +auditor[\\s\\S]*${row("UserCreated", `User ${PERSON}`)}`),
  },
  Logins: { prints: new RegExp(`${row("LoginSucceeded", ".*")}[\\s\\S]*LoginFailed .*Denied\\n`) },
  "Who read what": { prints: new RegExp(row("SecretRead", "Secret payments/orders-db")) },
  "Who changed a secret": {
    prints: new RegExp(`${row("SecretVersionCreated", "Secret payments/orders-db")}[\\s\\S]*\\norders-db +\\w`),
  },
  "What was refused": { prints: new RegExp(row("AccessDenied", "Secret payments/orders-db", "Denied")) },
  "The record is whole": { prints: /an external anchor vouches for rows up to \d+/ },
  "The record is elsewhere": { prints: /witness +True[\s\S]*mazevault_audit_sink_lag_rows\{sink="witness"\} \d+\n$/ },
  Settings: { prints: /"retentionMs": 34560000000/ },
  Keys: {
    as: "admin",
    prints: new RegExp(
      `^root key: file:\\w+\\n[\\s\\S]*project payments +2 [\\s\\S]*${row("KeyCreated", ".*")}[\\s\\S]*${row("KeyRotated", ".*")}`,
    ),
  },
  "Secrets are rotated": {
    prints: new RegExp(`LAST +NEXT\\n[\\s\\S]*${row("SecretRotated", "Secret payments/orders-db")}`),
  },
  "What the programs may do": { prints: /^(?:Warning: .*\n)*no\nno\nno\n(?:Warning: .*\n)*$/ },
  "Authors are asked": { prints: /mazevault\S* +\[Deny\]/ },
  "Encrypted on the way": { prints: /^tls1_1: refused\ntls1_2: taken\ntls1_3: taken\n$/ },
  Certificates: { prints: /payments +orders-tls [\s\S]*payments-ca/ },
  Revocation: { prints: new RegExp(`${row("CertificateRevoked", ".*")}[\\s\\S]*chain\\.pem: good\\n`) },
  Deletion: { prints: new RegExp(row("SecretSoftDeleted", "Secret payments/gone")) },
  Backups: { prints: /^keys: \d+\n[\s\S]*^private keys: \d+\n[\s\S]*^everything opens, and is as it was written\n$/m },
  "About a person": { prints: new RegExp(`LocalUser ${PERSON}[\\s\\S]*${row("UserCreated", `User ${PERSON}`)}`) },
  "Environments are apart": { prints: /payments +dev,pro/ },
  Failover: {
    prints: new RegExp(
      `NPR[\\s\\S]*ObjectChangeRequested +LocalUser admin@mazevault\\.com +Gateway NPR[\\s\\S]*${row("FailoverBegun", "GatewayEnvironment NPR")}`,
    ),
  },
  "Health and clocks": { prints: /^clock +ok[\s\S]*^leadership +ok[\s\S]*^leadership: leading$/m },
  "What it is made of": { prints: /^\d{3}\n$/ },
};

/** In e2e/chart/chart.test.ts, where there are pods. */
const ELSEWHERE = ["Pods and networks"];

const evidence = page.sections.filter(({ blocks }) => blocks.some(({ language }) => language === "sh"));

test("each block of evidence is judged, and each judgement has a block", () => {
  const judged = [...Object.keys(expected), ...ELSEWHERE];
  expect(evidence.map(({ heading }) => heading).toSorted()).toEqual(judged.toSorted());
});

test.each(Object.entries(expected))("%s", async (heading, { prints, code = 0, as = "auditor" }) => {
  const [block = { text: "false" }] = evidence.find((section) => section.heading === heading)?.blocks ?? [];
  const holds = async () => {
    expect(await shell(block.text, as)).toMatchObject({ code, printed: expect.stringMatching(prints) });
    return true;
  };
  await until(`"${heading}" is printed`, holds, { timeoutMs: 30_000 });
});

test("each block is evidence for a control", () => {
  const anchors = evidence.map(({ anchor }) => `#${anchor}`);
  expect(anchors.filter((anchor) => !page.links.includes(anchor))).toEqual([]);
});
