import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LabPki } from "../../../lab/pki.ts";
import { Ports } from "../../../lab/ports.ts";
import { removeOutside } from "../../../lab/postgres/account.ts";
import { describeDatabase, withClient } from "../../../lab/postgres/database.ts";
import { type Postgres, startPostgres } from "../../../lab/postgres/postgres.ts";
import { findPrograms, type Programs } from "../../../lab/postgres/programs.ts";
import { Supervisor } from "../../../lab/processes.ts";
import type { DatabaseOptions } from "../database.ts";
import { migrate } from "../migrate.ts";

declare global {
  /** Which PostgreSQL this run is about, see `jest.config.mjs`; the one that npm installed when undefined. */
  var postgresPrograms: Programs | undefined;
}

/** A PostgreSQL server for one test file; each test takes a database of its own. */
export interface TestServer {
  readonly postgres: Postgres;
  /** An empty database, migrated unless told otherwise. */
  database(options?: { readonly migrated?: boolean }): Promise<DatabaseOptions>;
  stop(): Promise<void>;
}

/** Migrated once: a copy takes a fraction of the time. */
const TEMPLATE = "template";

/** Each is an installation of its own, as if it had been migrated by itself. */
async function copyTemplate({ superuser }: Postgres, name: string): Promise<void> {
  await withClient(superuser, (client) => client.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE} OWNER mazevault`));
  const copy = describeDatabase({ ...superuser, database: name });
  await withClient(copy, (client) => client.query("UPDATE mazevault.installation SET id = gen_random_uuid()"));
}

/** `durable` false switches fsync off: right for every test that kills no more than processes. */
export async function startServer(durable = false): Promise<TestServer> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-postgres-"));
  const supervisor = await Supervisor.open(dir);
  const pki = await LabPki.open(path.join(dir, "pki"));
  const ports = new Ports(path.join(dir, "ports.json"));
  const postgres = await startPostgres({
    dir: path.join(dir, "postgres"),
    supervisor,
    ports,
    pki,
    durable,
    programs: globalThis.postgresPrograms ?? findPrograms(),
  });
  let databases = 0;
  let template: Promise<unknown> | undefined;
  return {
    postgres,
    async database({ migrated = true } = {}) {
      databases += 1;
      const name = `test${databases}`;
      if (migrated) {
        template ??= postgres.createDatabase(TEMPLATE).then(migrate);
        await template;
        await copyTemplate(postgres, name);
      }
      return postgres.createDatabase(name);
    },
    async stop() {
      await supervisor.stop();
      removeOutside(path.join(dir, "postgres"));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
