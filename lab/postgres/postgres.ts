import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import type { LabPki } from "../pki.ts";
import type { Ports } from "../ports.ts";
import type { Supervisor } from "../processes.ts";
import { libraryPath } from "../setup/packages.ts";
import type { SupervisedProcess } from "../supervised.ts";
import { type Account, type Placement, place } from "./account.ts";
import { type Database, describeDatabase, ensureDatabase, ensurePassword, ensureRole, withClient } from "./database.ts";
import { clearLeftovers } from "./leftovers.ts";
import { findPrograms, type Programs } from "./programs.ts";

export interface PostgresOptions {
  /** For passwords and, where PostgreSQL's user can enter it, the data. */
  readonly dir: string;
  readonly supervisor: Supervisor;
  readonly ports: Ports;
  readonly pki: LabPki;
  /** false switches fsync off: faster, and data may be corrupted when the machine stops. */
  readonly durable: boolean;
  /** The one that npm installed when absent. */
  readonly programs?: Programs;
}

/** A running PostgreSQL on loopback, TLS only, passwords only. */
export interface Postgres {
  readonly process: SupervisedProcess;
  readonly dataDir: string;
  /** Whom it runs as; undefined is the user who runs the lab. */
  readonly account: Account | undefined;
  /** For the lab and its tests; the product gets an owner role by `createDatabase`. */
  readonly superuser: Database;
  /**
   * A database of that name and the role that owns it, created where they do not exist. The role is no superuser; its
   * password is its own. The description is also stored as `<dir>/<name>.json` for `lab/psql.ts`.
   */
  createDatabase(name: string, owner?: string): Promise<Database>;
  /** How another role reaches that database; the role is created where it does not exist, and may do nothing yet. */
  createRole(role: string, database: string): Promise<Database>;
}

const host = "127.0.0.1";

/** Starts PostgreSQL, or resumes it on the data of its last run. */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const { dir, supervisor, ports, pki, programs = findPrograms() } = options;
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  const placement = place(realpathSync(dir), programs);
  const binDir = path.join(placement.programs, programs.bin);
  const env = { LC_ALL: "C", TZ: "UTC", ...libraryPath(placement.programs, programs.libraries) };
  // Backends of a killed server hold its port too.
  await clearLeftovers(placement.dataDir);
  const port = await ports.get("postgres");
  const describe = (database: string, user: string) =>
    describeDatabase({ host, port, database, user, passwordFile: passwordFile(dir, user), caFile: pki.caFile });
  const superuser = describe("postgres", "postgres");

  if (!existsSync(placement.dataDir)) {
    const password = ensurePassword(superuser.passwordFile);
    initialise(placement, { command: path.join(binDir, "initdb"), env, password, locale: locale(programs.major) });
  }
  const { certFile, keyFile } = await pki.issue("postgres", { commonName: "postgres", usage: "server" });
  const { dataDir, account } = placement;
  for (const [from, name] of [
    [certFile, "server.crt"],
    [keyFile, "server.key"],
  ] as const) {
    // The authority's directory is closed to PostgreSQL's user.
    install(from, path.join(dataDir, name), account);
  }
  const rules = path.join(dataDir, "pg_hba.conf");
  writeFileSync(rules, `hostssl all all ${host}/32 scram-sha-256\n`);

  const server = await supervisor.run({
    name: "postgres",
    command: path.join(binDir, "postgres"),
    args: ["-D", dataDir, ...settings(port, options.durable)],
    env,
    cwd: dataDir,
    ...(account === undefined ? {} : { user: account }),
    beforeStart: () => clearLeftovers(dataDir),
    isReady: () => withClient(superuser, async (client) => (await client.query("SELECT 1")).rowCount === 1),
    // Fast shutdown: ends connections, then writes a checkpoint.
    stopSignal: "SIGINT",
  });
  store(dir, superuser);

  return {
    process: server,
    dataDir,
    account,
    superuser,
    async createDatabase(name, owner = "mazevault") {
      const database = describe(name, owner);
      await ensureDatabase(superuser, database);
      store(dir, database);
      return database;
    },
    async createRole(role, database) {
      const described = describe(database, role);
      await ensureRole(superuser, described);
      return described;
    },
  };
}

/** Where the description of a database is stored. */
export function databaseFile(dir: string, name: string): string {
  return path.join(dir, `${name}.json`);
}

function store(dir: string, database: Database): void {
  writeFileSync(databaseFile(dir, database.database), `${JSON.stringify(database, undefined, 2)}\n`);
}

function passwordFile(dir: string, role: string): string {
  return path.join(dir, `${role}.password`);
}

function settings(port: number, durable: boolean): string[] {
  const values = {
    listen_addresses: host,
    port,
    // TCP only: the default socket directory is shared by all labs of the machine.
    unix_socket_directories: "",
    ssl: "on",
    ssl_min_protocol_version: "TLSv1.2",
    password_encryption: "scram-sha-256",
    max_connections: 200,
    timezone: "UTC",
    log_line_prefix: "%m [%p] %u@%d ",
    ...(durable ? {} : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
  };
  return Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/** Independent of the locales that the machine has. Sorts by code point; only the built-in provider, of 17 on, knows letters beyond ASCII. */
const locale = (major: number): readonly string[] =>
  major < 17 ? ["--locale=C"] : ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"];

interface Initdb {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  readonly password: string;
  readonly locale: readonly string[];
}

/** Makes the data directory; it appears under its name only when it is complete. */
function initialise({ dataDir, account }: Placement, { command, env, password, locale }: Initdb): void {
  const draft = `${dataDir}.new`;
  const passwordFile = `${dataDir}.password`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  own(draft, account);
  own(passwordFile, account);
  try {
    execFileSync(
      command,
      [
        `--pgdata=${draft}`,
        "--username=postgres",
        `--pwfile=${passwordFile}`,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        ...locale,
        "--no-sync",
      ],
      { ...account, cwd: draft, stdio: "pipe", encoding: "utf8", env: { ...process.env, ...env } },
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(draft, dataDir);
}

function install(from: string, to: string, account: Account | undefined): void {
  const draft = `${to}.new`;
  copyFileSync(from, draft);
  chmodSync(draft, 0o600);
  own(draft, account);
  renameSync(draft, to);
}

function own(file: string, account: Account | undefined): void {
  if (account !== undefined) chownSync(file, account.uid, account.gid);
}
