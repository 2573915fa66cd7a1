import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { copyLab } from "../../../lab/lab.ts";
import { waitForLock } from "../../../lab/lock.ts";
import { LabPki } from "../../../lab/pki.ts";
import { Ports } from "../../../lab/ports.ts";
import { removeOutside } from "../../../lab/postgres/account.ts";
import { type Database, describeDatabase, withClient } from "../../../lab/postgres/database.ts";
import { type Postgres, startPostgres } from "../../../lab/postgres/postgres.ts";
import { findPrograms, type Programs } from "../../../lab/postgres/programs.ts";
import { Supervisor } from "../../../lab/processes.ts";
import type { DatabaseOptions } from "../database.ts";
import { migrate } from "../migrate.ts";
import { Pristine } from "./pristine.ts";

declare global {
  /** Which PostgreSQL this run is about, see `jest.config.mjs`; the one that npm installed when undefined. */
  var postgresPrograms: Programs | undefined;
}

/** A PostgreSQL server for one test file; each test takes a database of its own. */
export interface TestServer {
  readonly postgres: Postgres;
  /** An empty database, migrated unless told otherwise. */
  database(options?: { readonly migrated?: boolean }): Promise<DatabaseOptions>;
  /**
   * One with the rows of a migrated database, which is faster: the same again and again, as long as only rows were changed.
   * For tests that take one at a time.
   */
  restored(): Promise<DatabaseOptions>;
  stop(): Promise<void>;
}

/** Migrated once: a copy takes a fraction of the time. */
const TEMPLATE = "template";

/** `durable` false switches fsync off: right for every test that kills no more than processes. */
export async function startServer(durable = false): Promise<TestServer> {
  const programs = globalThis.postgresPrograms ?? findPrograms();
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-postgres-"));
  // What `setup.ts` has made room for; without Jest there is none.
  const { MAZEVAULT_SERVERS: shared } = process.env;
  if (shared !== undefined) copyLab(await preparedServer(path.join(shared, programs.version), programs), dir);
  const { postgres, stop } = await runServer(dir, programs, durable);
  const { superuser } = postgres;
  let databases = 0;
  let template: Promise<Database> | undefined;
  const migrated = (): Promise<Database> => {
    template ??= shared === undefined ? makeTemplate(postgres) : postgres.createDatabase(TEMPLATE);
    return template;
  };
  const copy = async (): Promise<Database> => {
    const owned = await migrated();
    databases += 1;
    const database = `test${databases}`;
    await withClient(superuser, (client) =>
      client.query(`CREATE DATABASE ${database} TEMPLATE ${TEMPLATE} OWNER ${owned.user}`),
    );
    // Each is an installation of its own, as if it had been migrated by itself.
    await withClient(describeDatabase({ ...superuser, database }), (client) =>
      client.query("UPDATE mazevault.installation SET id = gen_random_uuid()"),
    );
    return describeDatabase({ ...owned, database });
  };
  let kept: { readonly database: Database; readonly pristine: Pristine } | undefined;
  return {
    postgres,
    async database({ migrated = true } = {}) {
      if (migrated) return copy();
      databases += 1;
      return postgres.createDatabase(`test${databases}`);
    },
    async restored() {
      if (kept !== undefined) {
        if (await kept.pristine.restore()) return kept.database;
        await kept.pristine.close();
      }
      const database = await copy();
      kept = { database, pristine: await Pristine.of(describeDatabase({ ...superuser, database: database.database })) };
      return database;
    },
    async stop() {
      await kept?.pristine.close();
      await stop();
      removeServer(dir);
    },
  };
}

/** Removes a server that does not run. */
export function removeServer(dir: string): void {
  removeOutside(path.join(dir, "postgres"));
  rmSync(dir, { recursive: true, force: true });
}

interface RunningServer {
  readonly postgres: Postgres;
  stop(): Promise<void>;
}

async function runServer(dir: string, programs: Programs, durable: boolean): Promise<RunningServer> {
  const supervisor = await Supervisor.open(dir);
  const pki = await LabPki.open(path.join(dir, "pki"));
  const ports = new Ports(path.join(dir, "ports.json"));
  const postgres = await startPostgres({
    dir: path.join(dir, "postgres"),
    supervisor,
    ports,
    pki,
    durable,
    programs,
  });
  return { postgres, stop: () => supervisor.stop() };
}

async function makeTemplate(postgres: Postgres): Promise<Database> {
  const database = await postgres.createDatabase(TEMPLATE);
  await migrate(database);
  return database;
}

/** The server that the one of each test file is a copy of: it has the template. The first who asks makes it. */
async function preparedServer(dir: string, programs: Programs): Promise<string> {
  const complete = path.join(dir, "complete");
  const lock = await waitForLock(`${dir}.lock`, () => {});
  try {
    if (!existsSync(complete)) {
      const { postgres, stop } = await runServer(dir, programs, false);
      try {
        await makeTemplate(postgres);
      } finally {
        await stop();
      }
      writeFileSync(complete, "");
    }
  } finally {
    lock.release();
  }
  return dir;
}
