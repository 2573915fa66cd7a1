/** PostgreSQL, and what stands in it. */
import { readFileSync } from "node:fs";
import type pg from "pg";
import { knownMigrations } from "../../../adapters/postgres/migrate.ts";
import { until } from "../../../lab/poll.ts";
import { withClient } from "../../../lab/postgres/database.ts";
import { secretManifest } from "../../harness.ts";
import type { Fault } from "../fault.ts";
import { type Installation, TEAM } from "../installation.ts";

const LAST_MIGRATION = "(SELECT name FROM migrations ORDER BY id DESC LIMIT 1)";

export const inTheDatabase = (on: Installation): void =>
  describe("in the database", () => {
    /** A transaction that somebody has left open. */
    let forgotten: { end(): Promise<void> } | undefined;
    test.each<Fault>([
      {
        fault: "the role has another password",
        plant: () => on.asSuperuser("ALTER ROLE mazevault PASSWORD 'another'"),
        heal: () =>
          on.asSuperuser(
            `ALTER ROLE mazevault PASSWORD '${readFileSync(on.world.mazevault.database.passwordFile, "utf8")}'`,
          ),
        check: "database",
        problem: /refuses the password of role mazevault/,
        fix: /database\.passwordFile.*ALTER ROLE mazevault PASSWORD/,
      },
      {
        fault: "the role may not log in",
        plant: () => on.asSuperuser("ALTER ROLE mazevault NOLOGIN"),
        heal: () => on.asSuperuser("ALTER ROLE mazevault LOGIN"),
        check: "database",
        problem: /does not let role mazevault in/,
        fix: /ALTER ROLE mazevault LOGIN/,
      },
      {
        fault: "the role has all the connections that it may have",
        plant: () => on.asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT 1"),
        heal: () => on.asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT -1"),
        check: "database",
        problem: /takes no further connections/,
        fix: /CONNECTION LIMIT -1/,
      },
      {
        fault: "its connections are running out",
        plant: async () => {
          const [row] = await on.world.sql<{ open: number }>(
            "SELECT count(*)::integer AS open FROM pg_stat_activity WHERE usename = 'mazevault'",
          );
          await on.asSuperuser(`ALTER ROLE mazevault CONNECTION LIMIT ${(row?.open ?? 0) + 1}`);
        },
        heal: () => on.asSuperuser("ALTER ROLE mazevault CONNECTION LIMIT -1"),
        check: "database.connections",
        status: "warning",
        problem: /\d+ of \d+ connections are open/,
        fix: /max_connections/,
      },
      {
        fault: "it takes no writes",
        plant: () => on.asSuperuser("ALTER ROLE mazevault SET default_transaction_read_only = on"),
        heal: async () => {
          await on.asSuperuser("ALTER ROLE mazevault RESET default_transaction_read_only");
          await on.asSuperuser("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mazevault'");
          // Our own connections were among them.
          await until("it answers us again", () => on.world.sql("SELECT"), { timeoutMs: 10_000 });
        },
        check: "database",
        problem: /takes no writes/,
        fix: /primary/,
      },
      {
        fault: "a migration is missing",
        plant: () => on.world.sql(`UPDATE migrations SET name = '0000_lost' WHERE name = ${LAST_MIGRATION}`),
        heal: () =>
          on.world.sql("UPDATE migrations SET name = $1 WHERE name = '0000_lost'", [knownMigrations().at(-1)]),
        check: "database.migrations",
        problem: /lacks migrations that this program needs: 0\d+_\w+$/,
        fix: /rollout restart/,
      },
      {
        fault: "the schema is of a newer version",
        plant: () => on.world.sql("INSERT INTO migrations (name, run_on) VALUES ('9999_tomorrow', now())"),
        heal: () => on.world.sql("DELETE FROM migrations WHERE name = '9999_tomorrow'"),
        check: "database.migrations",
        status: "warning",
        problem: /does not know: 9999_tomorrow; it can work with them/,
        fix: /rollout status/,
      },
      {
        fault: "the schema is of a newer version that takes something away",
        plant: () =>
          on.world.sql(`WITH tomorrow AS (INSERT INTO migrations (name, run_on) VALUES ('9999_tomorrow', now()))
                        UPDATE compatibility SET least_migration = '9999_tomorrow'`),
        heal: () =>
          on.world.sql(`WITH tomorrow AS (DELETE FROM migrations WHERE name = '9999_tomorrow')
                        UPDATE compatibility SET least_migration = '0039_compatibility'`),
        check: "database.migrations",
        problem: /does not know: 9999_tomorrow$/,
        fix: /run the version that made them/,
      },
      {
        fault: "a key is nearly used up",
        plant: () => on.world.sql("UPDATE keys SET uses = 2000000000 WHERE purpose = 'Project'"),
        heal: () => on.world.sql("UPDATE keys SET uses = 65536 WHERE purpose = 'Project'"),
        check: "keys.uses",
        status: "warning",
        problem: /used 2000000000 times/,
        fix: /rotate the key/,
      },
      {
        fault: "a user is locked out",
        plant: async () => {
          for (let n = 0; n < 11; n++) {
            await on.rest.send("POST", "/api/v1/auth/login", {
              body: { email: "guessed@example.com", password: "wrong" },
            });
          }
          await on.world.sql(
            "UPDATE login_attempts SET blocked_until = now() + interval '5 minutes' WHERE blocked_until IS NOT NULL",
          );
        },
        heal: () => on.world.sql("DELETE FROM login_attempts"),
        check: "logins",
        status: "warning",
        problem: /have to wait/,
        fix: /DELETE FROM mazevault\.login_attempts/,
      },
      {
        fault: "a transaction that was left open holds the outbox back",
        plant: async () => {
          forgotten = await leaveOpen(on, "SELECT pg_current_xact_id()");
          await on.world.apply(secretManifest(TEAM, "held", { entries: [{ key: "k", literal: "v" }] }));
          await on.world.waitReady("secret.mazevault.io", "held", TEAM);
          await on.world.sql("UPDATE outbox_cursors SET moved_at = now() - interval '10 minutes'");
        },
        heal: () => forgotten?.end(),
        check: "outbox",
        problem: /\d+ changes wait for syncrules/,
        fix: /pg_terminate_backend\(\d+\)/,
      },
      {
        fault: "the linker of the audit chain is stopped",
        plant: async () => {
          forgotten = await leaveOpen(on, "SELECT FROM audit_head FOR UPDATE");
          await on.world.apply(secretManifest(TEAM, "unlinked", { entries: [{ key: "k", literal: "v" }] }));
          await on.world.waitReady("secret.mazevault.io", "unlinked", TEAM);
        },
        heal: () => forgotten?.end(),
        check: "audit.linking",
        problem: /audit rows wait to be linked/,
        fix: /pg_blocking_pids/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });

async function leaveOpen(on: Installation, ...statements: readonly string[]): Promise<{ end(): Promise<void> }> {
  const ready = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  const done = withClient({ ...on.world.mazevault.database, url: "" }, async (client: pg.Client) => {
    await client.query("BEGIN; SET search_path = mazevault");
    for (const statement of statements) await client.query(statement);
    ready.resolve();
    await over.promise;
    await client.query("ROLLBACK");
  });
  done.catch(ready.reject);
  await ready.promise;
  return {
    async end() {
      over.resolve();
      await done;
    },
  };
}
