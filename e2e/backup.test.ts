/**
 * An installation is backed up, its cluster and its PostgreSQL are lost, and it comes back on empty ones from its backup and its
 * manifests, as docs/guides/back-up-and-restore.md says: everything is served again, and nothing that was not changed is written anew.
 */
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { BACKUP } from "../build/bundle.ts";
import { writeLauncher } from "../lab/launcher.ts";
import { azure, type Operator, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { findOldestPrograms } from "../lab/postgres/programs.ts";
import { libraryPath } from "../lab/setup/packages.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin } from "./rest-client.ts";

const run = promisify(execFile);
const [vault] = azure.vaults;
const SHOP = "shop";
const secret = "secret.mazevault.io";
const certificate = "certificate.mazevault.io";
const request = "certificaterequest.mazevault.io";
const guide = readFileSync(fileURLToPath(new URL("../docs/guides/back-up-and-restore.md", import.meta.url)), "utf8");
const [make = "", manifestOnly = "", look = "", restore = "", adopt = "", settle = "", ...more] = [
  ...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm),
].map(([, block = ""]) => block);
const [, grant = ""] = /^```sql\n([\s\S]*?)^```$/m.exec(guide) ?? [];
const minutes = { timeoutMs: 120_000 };

const postgres = findOldestPrograms();
if (postgres === undefined) throw new Error("PostgreSQL 15, whose pg_dump makes the copy, is not on this machine");

let before: World;
let after: World;
let former: readonly (Operator | Rest)[];
/** Where commands run; the backup lies there. */
let folder: string;
/** Of a person on this machine, in the installation of before and in the one after. */
let there: NodeJS.ProcessEnv;
let here: NodeJS.ProcessEnv;
let apiKey: string;
/** As it was delivered and stored when the backup was made. */
let delivered: Readonly<Record<string, Readonly<Record<string, string>>>>;
let inVault: unknown;
let versionsBefore: unknown;

beforeAll(async () => {
  before = await startWorld({ isNew: true, postgres });
  folder = path.join(before.lab.dir, "person");
  mkdirSync(folder);
  const operator = await before.mazevault.startOperator({ config: configOf(before) });
  const surface = await before.mazevault.startRest();
  there = environment(before, operator, surface);
  await applyEverything(before);
  await before.apply(namespace("later"), late);
  await fill();
  former = [operator, surface];
  ({ delivered, inVault, versionsBefore } = await facts(before));
}, 400_000);

afterAll(async () => {
  await after?.stop();
  await before?.stop();
});

const configOf = (world: World) => ({
  kubernetes: { leaseDurationMs: 9_000 },
  // The name that relying parties know stays, wherever it leads.
  pki: { baseUrl: before.mazevault.pkiUrl },
  audit: { fileDirectory: path.join(world.lab.dir, "operator/audit"), checkpointMs: 1_000 },
});

/** The command line and the program of this guide, on the settings of that operator. */
function environment(world: World, operator: Operator, surface: Pick<Rest, "restUrl">): NodeJS.ProcessEnv {
  const bin = path.join(world.lab.dir, "bin");
  const env = cliEnvironment(world, surface, bin);
  writeLauncher(bin, "mazevault-backup", path.join(world.mazevault.programs, BACKUP));
  return {
    ...env,
    ...libraryPath(postgres?.dir ?? "", postgres?.libraries ?? []),
    PATH: [path.join(postgres?.dir ?? "", postgres?.bin ?? ""), env.PATH].join(path.delimiter),
    MAZEVAULT_CONFIG: operator.configFile,
  };
}

interface Said {
  readonly code: number | string;
  readonly stdout: string;
  /** And what it complained about. */
  readonly said: string;
}

/** A line of a shell; what it printed, and how it ended. */
async function shell(line: string, env: NodeJS.ProcessEnv): Promise<Said> {
  try {
    const { stdout, stderr } = await run("bash", ["--norc", "-euo", "pipefail", "-c", line], { cwd: folder, env });
    return { code: 0, stdout, said: `${stdout}${stderr}` };
  } catch (error) {
    const { code, signal, stdout, stderr } = error as {
      code: number | null;
      signal: string | null;
      stdout: string;
      stderr: string;
    };
    return { code: code ?? `ended by ${signal}`, stdout, said: `${stdout}${stderr}` };
  }
}

async function good(line: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { code, stdout, said } = await shell(line, env);
  if (code !== 0) throw new Error(`${line} ended with ${code}: ${said}`);
  return stdout;
}

const object = (kind: string, name: string, spec: object): object => ({
  apiVersion: "mazevault.io/v1",
  kind,
  metadata: { name, ...(/^(ClusterIssuer|AuditSink|Project)$/.test(kind) ? {} : { namespace: SHOP }) },
  spec,
});

const namespace = (name: string): object => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
const project = (name: string): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name },
  spec: { environments: [{ name: "pro" }], namespaces: [{ name, environments: ["pro"] }] },
});
const principal = (world: World): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "principal", namespace: SHOP },
  stringData: { secret: world.mazevault.servicePrincipal.secret },
});

/** What stands in Git, and grows while the installation is used. */
const manifests = new Map<string, object>();
const remember = (name: string, manifest: object): object => {
  manifests.set(name, manifest);
  return manifest;
};
const late = secretManifest("later", "db", {
  entries: [{ key: "password", generate: { kind: "Password" } }],
  deliver: {},
});

const pushed = { labels: { pushed: "true" } };
const labelled = (manifest: object): object => {
  const { metadata } = manifest as { metadata: object };
  return { ...manifest, metadata: { ...metadata, ...pushed } };
};
const literal = (value: string): object =>
  labelled(
    secretManifest(SHOP, "orders", {
      entries: [
        { key: "user", literal: value },
        { key: "password", generate: { kind: "Password" } },
        { key: "url", template: "postgres://{{ user }}:{{ password }}@db" },
      ],
      deliver: {},
    }),
  );
const card = (publicKey: string): object =>
  secretManifest(SHOP, "card", {
    protection: "EndToEnd",
    readers: [{ name: "alice", publicKey }],
    entries: [{ key: "pan", external: {} }],
  });
const issued = (name: string, spec: object = {}): object =>
  object("Certificate", name, {
    secretName: `${name}-tls`,
    issuerRef: { kind: "Issuer", name: "web" },
    dnsNames: [`${name}.${SHOP}.svc`],
    ...spec,
  });

/** All but what comes late. */
async function applyEverything(world: World): Promise<void> {
  if (manifests.size === 0) {
    for (const each of [SHOP, "later"]) remember(`project ${each}`, project(each));
    remember("orders", literal("first"));
    remember("api", labelled(secretManifest(SHOP, "api", { entries: [{ key: "token", external: {} }], deliver: {} })));
    remember(
      "root",
      object("ClusterIssuer", "root", {
        ca: { subject: { commonName: "Root" } },
        policy: { allowSubordinates: { namespaces: { names: [SHOP] } } },
      }),
    );
    remember(
      "issuer",
      object("Issuer", "web", {
        ca: { subject: { commonName: "Web" }, parentRef: { kind: "ClusterIssuer", name: "root" } },
        policy: { profiles: ["Server", "Client"], dnsNames: ["*.{namespace}.svc"] },
      }),
    );
    for (const name of ["site", "old"]) remember(name, issued(name));
    remember(
      "vault",
      object("KeyVault", "vault", {
        projectRef: { name: SHOP },
        vaultUrl: `https://${vault}.vault.azure.net/`,
        auth: {
          servicePrincipal: {
            tenantId: azure.tenantId,
            clientId: azure.servicePrincipal,
            clientSecretRef: { name: "principal", key: "secret" },
          },
        },
      }),
    );
    remember(
      "rule",
      object("SyncRule", "all", {
        projectRef: { name: SHOP },
        environment: "pro",
        direction: "Push",
        deletionPolicy: "Delete",
        secrets: { selector: { matchLabels: { pushed: "true" } } },
        target: { keyVault: { ref: { name: "vault" } } },
      }),
    );
    remember("sink", object("AuditSink", "file", { file: { name: "audit.jsonl" } }));
  }
  await world.apply(namespace(SHOP), principal(world), ...manifests.values());
}

/** Everything that there is to lose. */
async function fill(): Promise<void> {
  await before.waitReady(secret, "orders", SHOP, 60_000);
  const { email, password } = await firstAdmin(before);
  await good(`printf %s '${password}' | mazevault login --email ${email} --password-stdin`, there);
  await good("printf %s from-a-partner | mazevault put shop/api token=-", there);
  const made = await good("mazevault api-keys create backup --scope list --scope read --scope audit -o json", there);
  apiKey = JSON.parse(made).secret;
  // A version of before, and one that was rotated.
  await before.apply(remember("orders", literal("second")));
  await before.waitFor(secret, "orders", SHOP, ({ status }) => status?.version === 2);
  await good("mazevault rotate shop/orders", there);
  await before.waitFor(secret, "orders", SHOP, ({ status }) => status?.version === 3);
  const key = JSON.parse(await good("mazevault reader-keys new alice -o json", there));
  await before.apply(remember("card", card(key.publicKey)));
  await good(`mazevault reader-keys add shop/alice ${key.fingerprint}`, there);
  await until(
    "the sealed value is taken",
    async () => (await shell("printf 4111 | mazevault put shop/card pan=-", there)).code === 0,
    minutes,
  );
  // One certificate is revoked, and another one took its place.
  for (const name of ["site", "old"]) await before.waitReady(certificate, name, SHOP, 60_000);
  revoked = String((await before.get(certificate, "old", SHOP)).status?.serialNumber);
  revokedPem = decoded(await before.get("secret", "old-tls", SHOP))["tls.crt"] ?? "";
  const revocations = [{ serialNumber: revoked, reason: "keyCompromise" }];
  await before.apply(remember("old", issued("old", { revocations })));
  await before.waitFor(certificate, "old", SHOP, (each) => each.status?.serialNumber !== revoked && isReady(each));
  const csr = await good(
    "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout csr.key -subj /CN=job.shop.svc -addext subjectAltName=DNS:job.shop.svc 2>/dev/null",
    there,
  );
  await before.apply(
    remember("csr", object("CertificateRequest", "job", { issuerRef: { kind: "Issuer", name: "web" }, request: csr })),
  );
  await before.waitReady(request, "job", SHOP, 60_000);
  for (const name of ["orders", "api", "card"]) await before.waitReady(secret, name, SHOP, 60_000);
  await before.waitReady(secret, "db", "later");
  await before.waitFor("syncrule.mazevault.io", "all", SHOP, ({ status }) => status?.inSync === 4, 60_000);
}

let revoked: string;
let revokedPem: string;

const isReady = (each: KubernetesObject): boolean => conditionOf(each, "Ready")?.status === "True";

/** What must be the same afterwards. */
async function facts(world: World) {
  const names: [string, string][] = [
    ["orders", SHOP],
    ["api", SHOP],
    ["site-tls", SHOP],
    ["old-tls", SHOP],
    ["db", "later"],
  ];
  const core: Record<string, Record<string, string>> = {};
  for (const [name, namespace] of names) core[name] = decoded(await world.get("secret", name, namespace));
  const serials: Record<string, unknown> = {};
  for (const name of ["site", "old"]) serials[name] = (await world.get(certificate, name, SHOP)).status?.serialNumber;
  serials.job = (await world.get(request, "job", SHOP)).status?.serialNumber;
  return {
    delivered: core,
    inVault: await before.mazevault.keyVault.control.secrets(vault),
    versionsBefore: {
      serials,
      versions: await world.sql(
        "SELECT name, version, encode(wrapped_key, 'hex') AS key FROM versions JOIN secrets ON id = secret_id ORDER BY 1, 2",
      ),
      certificates: await world.sql(
        "SELECT encode(serial, 'hex') AS serial, state, revocation_reason FROM certificates WHERE requester_kind <> 'Responder' ORDER BY 1",
      ),
    },
  };
}

const backup = (name = "backup-1"): string => path.join(folder, name);
/** A copy of the backup that somebody has had in hands. */
function changed(name: string, change: (dir: string) => void): string {
  cpSync(backup(), backup(name), { recursive: true });
  change(backup(name));
  return name;
}

test("a backup is made while everything runs, and says what is in it", async () => {
  expect(more).toEqual([]);
  expect(await good(make, there)).toMatch(
    /mazevault\.dump: \d+ bytes[\s\S]*keep the root key apart[\s\S]*is as it was made/,
  );
  await good(manifestOnly, there);
  expect(await good(look, there)).toMatch(/entries: 12\n[\s\S]*everything opens, and is as it was written\n$/);
  const text = readFileSync(path.join(backup(), "manifest.json"), "utf8");
  for (const values of Object.values(delivered))
    for (const value of Object.values(values)) expect(text).not.toContain(value.slice(0, 40));
  // What has no place in a folder with a backup.
  expect(await shell("mazevault-backup create --dir backup-1", there)).toMatchObject({
    code: 1,
    said: expect.stringContaining("is there already"),
  });
  expect(await shell("mazevault-backup frobnicate", there)).toMatchObject({ code: 2 });
  expect(await shell("mazevault-backup adopt", there)).toMatchObject({
    code: 1,
    said: expect.stringContaining("there is nothing to adopt"),
  });
});

describe("a copy that is not whole", () => {
  test.each<readonly [string, (dir: string) => void, RegExp]>([
    [
      "a changed byte",
      (dir) => {
        const file = path.join(dir, "mazevault.dump");
        const bytes = readFileSync(file);
        const at = bytes.length >> 1;
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        writeFileSync(file, bytes);
      },
      /bytes of it were changed/,
    ],
    ["a dump that was cut off", (dir) => truncateSync(path.join(dir, "mazevault.dump"), 10_000), /it was cut off/],
    ["a manifest that was cut off", (dir) => truncateSync(path.join(dir, "manifest.json"), 100), /not JSON/],
  ])("%s is noticed by whoever checks it", async (name, change, says) => {
    const copy = changed(name.replaceAll(" ", "-"), change);
    const { code, said } = await shell(`mazevault-backup check ${copy}`, there);
    expect(said).toMatch(says);
    expect(code).toBe(1);
  });
});

describe("on an empty cluster with an empty PostgreSQL", () => {
  let started: Promise<unknown>;
  let port: number;

  beforeAll(async () => {
    // The former one ends for good; its Azure goes on.
    for (const each of former) await each.process.stop();
    after = await startWorld({ isNew: true, postgres, keyVault: before.mazevault.keyVault });
    const uid = async (world: World) => (await world.get("namespace", "kube-system")).metadata.uid;
    expect(await uid(after)).not.toBe(await uid(before));
  }, 300_000);

  const database = () => after.mazevault.database;
  const emptied = () =>
    withClient({ ...database(), url: "" }, (client) => client.query("DROP SCHEMA IF EXISTS mazevault CASCADE"));

  const readiness = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/readyz`)).text();

  test("bad input is refused with the fix, and writes nothing", async () => {
    // Its settings are written when one starts.
    const scout = await after.mazevault.startOperator({ name: "scout", config: configOf(after) });
    await scout.process.stop();
    const restUrl = `https://127.0.0.1:${await after.lab.ports.get("rest-rest")}`;
    here = environment(after, scout, { restUrl });
    const rootKey = path.join(after.lab.dir, "operator/root.key");
    writeFileSync(rootKey, `${Buffer.alloc(32, 9).toString("base64")}\n`, { mode: 0o600 });
    const refused = async (line: string, says: RegExp) => {
      const { code, said } = await shell(line, here);
      expect(said).toMatch(says);
      expect(code).toBe(1);
      expect(await tables()).toEqual([]);
    };
    await emptied();
    await refused("mazevault-backup restore backup-1", /the backup needs root key/);
    cpSync(path.join(before.lab.dir, "operator/root.key"), rootKey);
    await refused("mazevault-backup restore a-changed-byte", /bytes of it were changed/);
    await refused("mazevault-backup restore nowhere", /cannot be read \(ENOENT\)/);
    await refused("mazevault-backup adopt", /holds nothing of MazeVault/);
    await refused("mazevault-backup verify", /holds nothing of MazeVault/);
    const newer = changed("newer", (dir) => {
      const file = path.join(dir, "manifest.json");
      writeFileSync(file, readFileSync(file, "utf8").replace(/"schema": "[^"]+"/, '"schema": "9999_newer"'));
    });
    await refused(`mazevault-backup restore ${newer}`, /migration 9999_newer, which this program does not know/);
    await refused("mazevault-backup restore backup-1 --pg-bin /nowhere", /install PostgreSQL's client programs/);
  }, 120_000);

  const tables = async (): Promise<readonly unknown[]> =>
    after.sql("SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'mazevault'");

  const state = () => after.sql("SELECT state FROM home");

  test("a copy that does not belong to its manifest is marked, so that nobody serves it", async () => {
    const other = changed("other", (dir) => {
      const file = path.join(dir, "manifest.json");
      writeFileSync(file, readFileSync(file, "utf8").replace('"takenAt": "20', '"takenAt": "19'));
    });
    expect(await shell(`mazevault-backup restore ${other}`, here)).toMatchObject({
      code: 1,
      said: expect.stringContaining("the manifest does not match its signature"),
    });
    expect(await state()).toEqual([{ state: "Restored" }]);
    await emptied();
  }, 120_000);

  test("a restore that is killed before the copy is marked is finished by another one", async () => {
    const killed = await shell("mazevault-backup restore backup-1", {
      ...here,
      MAZEVAULT_FAILPOINT: "restore.beforeMark",
    });
    expect(killed.code).toBe("ended by SIGKILL");
    expect(await state()).toEqual([{ state: "Settled" }]);
    expect(await good("mazevault-backup restore backup-1", here)).toMatch(/was cut off[\s\S]*restored \d+ rows/);
    expect(await state()).toEqual([{ state: "Restored" }]);
    await emptied();
  }, 120_000);

  test("the copy is restored and verified; into a database that is not empty it is not", async () => {
    expect(await good(restore, here)).toMatch(/restored \d+ rows[\s\S]*everything opens, and is as it was written\n$/);
    expect(await shell("mazevault-backup restore backup-1", here)).toMatchObject({
      code: 1,
      said: expect.stringContaining("is not empty"),
    });
    expect(await state()).toEqual([{ state: "Restored" }]);
  }, 120_000);

  test("until it is taken over the operator waits, says why, and touches nothing", async () => {
    await before.mazevault.keyVault.control.resetCounters();
    port = await after.lab.ports.get("operator");
    // They are not ready before the database is taken over.
    const patient = { readyTimeoutMs: 400_000 };
    started = Promise.all([
      after.mazevault.startOperator({ config: configOf(after), ...patient }),
      after.mazevault.startRest(patient),
    ]);
    started.catch(() => {});
    await applyEverything(after);
    await until(
      "it says why it waits",
      async () => /home.*the database was restored from a backup.*mazevault-backup adopt/s.test(await readiness()),
      minutes,
    );
    // Long enough for whatever would be done.
    const rows = () => after.sql("SELECT count(*) FROM audit");
    const recorded = await rows();
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect(await rows()).toEqual(recorded);
    expect((await after.list("secret", SHOP)).map(({ metadata }) => metadata.name)).toEqual(["principal"]);
    expect((await after.get(secret, "orders", SHOP)).status?.conditions).toBeUndefined();
    const { vaults } = await before.mazevault.keyVault.control.counters();
    expect(vaults[vault]?.operations ?? {}).toEqual({});
    expect(await good("mazevault-backup status", here)).toContain("operators wait");
  }, 180_000);

  test("it is taken over although that is killed twice, once on record; what comes later waits", async () => {
    for (const failpoint of ["adoption.afterBatch", "adoption.beforeHome"]) {
      const killed = await shell(adopt, { ...here, MAZEVAULT_FAILPOINT: failpoint });
      expect(killed.code).toBe("ended by SIGKILL");
      expect(await state()).toEqual([{ state: "Restored" }]);
      expect(await readiness()).toContain("mazevault-backup adopt");
    }
    expect(await good(adopt, here)).toMatch(
      /belongs to cluster .* now[\s\S]*not here yet: Namespace later\n[\s\S]*DANGER[\s\S]*until mazevault-backup settle\n$/,
    );
    const forks = await after.sql<{ details: { position: number; link: string } }>(
      "SELECT details FROM audit WHERE action = 'AuditRecordForked' AND details->>'cluster' IS NOT NULL",
    );
    expect(forks).toHaveLength(1);
    const { head } = JSON.parse(readFileSync(path.join(backup(), "manifest.json"), "utf8")).body;
    expect(forks[0]?.details).toMatchObject({ position: Number(head.position), link: head.link });
    const bound = await after.sql("SELECT subject_name FROM audit WHERE action = 'ObjectRebound' ORDER BY 1");
    expect(bound.map(({ subject_name: name }) => name)).toEqual([
      "Certificate shop/old",
      "Certificate shop/site",
      "CertificateRequest shop/job",
      "Namespace shop",
    ]);
    await started;
  }, 180_000);

  test("everything is served again, and nothing was written that was not changed", async () => {
    for (const name of ["orders", "api", "card"]) await after.waitReady(secret, name, SHOP, 60_000);
    for (const name of ["site", "old"]) await after.waitReady(certificate, name, SHOP, 60_000);
    await after.waitReady(request, "job", SHOP, 60_000);
    await after.waitFor(
      "syncrule.mazevault.io",
      "all",
      SHOP,
      (each) => each.status?.inSync === 4 && isReady(each),
      60_000,
    );
    // The namespace comes late, and is not taken for another one.
    await after.apply(namespace("later"), late);
    await after.waitFor(secret, "db", "later", (each) => conditionOf(each, "Ready")?.reason === "NotAdopted", 60_000);
    // Nor does anybody end the recovery over it who takes it for something that is not there any more.
    const waits = "there, and not taken over yet: Namespace later: run mazevault-backup adopt once more";
    expect(await shell("mazevault-backup settle", here)).toMatchObject({
      code: 1,
      said: expect.stringContaining(waits),
    });
    expect(await good("mazevault-backup status", here)).toContain(waits);
    expect(await good(adopt, here)).toMatch(/^1 objects took the place/);
    await after.waitReady(secret, "db", "later", 60_000);
    const now = await facts(after);
    expect(now.delivered).toEqual(delivered);
    expect(now.versionsBefore).toEqual(versionsBefore);
    expect(now.inVault).toEqual(inVault);
    const { vaults } = await before.mazevault.keyVault.control.counters();
    expect(vaults[vault]).toMatchObject({ valueReads: 0, writes: 0 });
  }, 180_000);

  test("what is made anew before the recovery is settled waits, and is not taken for another one", async () => {
    await after.kubectl("delete", "namespace", "later", "--wait=false");
    // As the controller manager does, which this cluster has none of.
    const finalized = path.join(folder, "later.json");
    writeFileSync(finalized, JSON.stringify({ ...namespace("later"), spec: { finalizers: [] } }));
    await after.kubectl("replace", "--raw", "/api/v1/namespaces/later/finalize", "-f", finalized);
    await after.kubectl("-n", SHOP, "delete", certificate, "site");
    await after.apply(namespace("later"), late, manifests.get("site") ?? {});
    const waits = (each: KubernetesObject) => conditionOf(each, "Ready")?.reason === "NotAdopted";
    await after.waitFor(secret, "db", "later", waits, 60_000);
    await after.waitFor(certificate, "site", SHOP, waits, 60_000);
    expect(await good(adopt, here)).toMatch(/^2 objects took the place/);
    await after.waitReady(secret, "db", "later", 60_000);
    await after.waitReady(certificate, "site", SHOP, 60_000);
    const now = await facts(after);
    expect(now.delivered).toEqual(delivered);
    expect(now.versionsBefore).toEqual(versionsBefore);
  }, 180_000);

  test("people and programs come in as before, and read the versions of before", async () => {
    const env = { ...here, MAZEVAULT_TOKEN: apiKey, MAZEVAULT_CLI_CONFIG: there.MAZEVAULT_CLI_CONFIG };
    expect(await good("mazevault get shop/orders user", env)).toBe("second");
    expect(await good("mazevault get shop/orders user --at 1", env)).toBe("first");
    expect(await good("mazevault get shop/api token", env)).toBe("from-a-partner");
    expect(await good("mazevault get shop/card pan", env)).toBe("4111");
    expect(await good("mazevault audit verify", env)).toMatch(/rows are whole and in order/);
    const { email, password } = await firstAdmin(after);
    await good(`printf %s '${password}' | mazevault login --email ${email} --password-stdin`, here);
  }, 120_000);

  test("certificates verify, and what was revoked stays revoked by OCSP and CRL", async () => {
    const responderMayRead = () =>
      after.sql("SELECT has_table_privilege('mazevault_ocsp', 'mazevault.ocsp_certificates', 'SELECT') AS may");
    await expect(responderMayRead()).rejects.toThrow(/role "mazevault_ocsp" does not exist/);
    const administrator = { ...after.lab.postgres.superuser, database: database().database };
    await withClient(administrator, (client) => client.query(grant));
    expect(await responderMayRead()).toEqual([{ may: true }]);
    const responder = await after.mazevault.startOcsp();
    const { "tls.crt": chain = "", "ca.crt": root = "" } = decoded(await after.get("secret", "site-tls", SHOP));
    const [leaf = "", ca = ""] = chain.match(/-----BEGIN[\s\S]+?END CERTIFICATE-----\n/g) ?? [];
    const files = { "leaf.pem": leaf, "ca.pem": ca, "root.pem": root, "revoked.pem": revokedPem };
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
    expect(await good("openssl verify -CAfile root.pem -untrusted ca.pem leaf.pem", here)).toBe("leaf.pem: OK\n");
    expect(new X509Certificate(leaf).checkIssued(new X509Certificate(ca))).toBe(true);
    const ask = (name: string) =>
      shell(`openssl ocsp -issuer ca.pem -CAfile root.pem -cert ${name}.pem -url ${responder.url}`, here);
    await until("it is answered for", async () => (await ask("leaf")).said.includes("leaf.pem: good"), minutes);
    expect((await ask("revoked")).said).toMatch(/revoked\.pem: revoked[\s\S]*keyCompromise/);
    const crl = await after.sql<{ der: Buffer }>(
      "SELECT l.der FROM crls l JOIN authorities a ON a.id = l.authority_id WHERE a.name = 'web' AND l.der IS NOT NULL",
    );
    writeFileSync(path.join(folder, "crl.der"), crl[0]?.der ?? "");
    const listed = await good("openssl crl -inform DER -in crl.der -noout -text", here);
    expect(listed.toLowerCase().replaceAll(":", "")).toContain(revoked.replaceAll(":", ""));
  }, 180_000);

  test("the audit record is whole over the fork, which its own next checkpoint tells of once", async () => {
    expect(await good("mazevault-backup verify --manifest backup-1/manifest.json", here)).toMatch(
      /an external anchor vouches for rows up to \d+[\s\S]*everything opens/,
    );
    const forks = await after.sql("SELECT count(*)::integer AS count FROM audit WHERE action = 'AuditRecordForked'");
    expect(forks).toEqual([{ count: 1 }]);
  }, 120_000);

  test("what is missing is ended when the recovery is settled, and not before", async () => {
    await after.kubectl("-n", SHOP, "delete", "secrets.mazevault.io", "api");
    const stored = () => after.sql("SELECT state FROM secrets WHERE name = 'api'");
    const refused = await shell(settle, here);
    expect(refused).toMatchObject({
      code: 1,
      said: expect.stringContaining("missing in the cluster: Secret shop/api"),
    });
    expect(await stored()).toEqual([{ state: "Active" }]);
    await good("mazevault-backup settle --drop-missing", here);
    await until("it is ended", async () => JSON.stringify(await stored()).includes("SoftDeleted"), minutes);
    expect(await good(settle, here)).toContain("there is no recovery to settle");
    // The vault's entry follows, since the rule is known by the name of before.
    await until(
      "its entry is deleted",
      async () =>
        (await before.mazevault.keyVault.control.secrets(vault)).some(
          ({ name, state }) => name.startsWith("api") && state !== "active",
        ),
      minutes,
    );
  }, 240_000);
});
