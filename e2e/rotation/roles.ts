/** A server with two roles of the same rights, whose passwords somebody may set who is no superuser. */
import { readFileSync } from "node:fs";
import pg from "pg";
import { withClient } from "../../lab/postgres/database.ts";
import type { World } from "../harness.ts";

export interface TwoRoles {
  readonly roles: readonly [string, string];
  readonly admin: { readonly user: string; readonly password: string };
  /** Of spec.rotation.apply.postgres, but for the entries. */
  readonly spec: object;
  /** For a client of the database. */
  readonly client: pg.ClientConfig;
}

/** `name`: of both roles, with _a and _b. */
export async function twoRoles({ lab }: World, name: string): Promise<TwoRoles> {
  const { superuser } = lab.postgres;
  const roles = [`${name}_a`, `${name}_b`] as const;
  const admin = { user: `${name}_rotator`, password: `the rotator's of ${name}` };
  await withClient(superuser, async (client) => {
    await client.query(`CREATE ROLE ${admin.user} LOGIN CREATEROLE PASSWORD ${pg.escapeLiteral(admin.password)}`);
    await client.query(`GRANT pg_signal_backend TO ${admin.user}`);
  });
  await asAdmin(superuser, admin, async (client) => {
    for (const role of roles) await client.query(`CREATE ROLE ${role} NOLOGIN`);
    await client.query(`COMMENT ON ROLE ${roles[0]} IS 'of the orders team'`);
  });
  const { host, port, database, caFile } = superuser;
  const caBundle = readFileSync(caFile, "utf8");
  return {
    roles,
    admin,
    spec: {
      host,
      port,
      database,
      caBundle,
      admin: { username: admin.user, passwordSecretRef: { name: "rotator", key: "password" } },
      roles: [...roles],
      username: "username",
      password: "password",
    },
    client: { host, port, database, ssl: { ca: caBundle }, connectionTimeoutMillis: 5_000 },
  };
}

async function asAdmin(
  { host, port, database, caFile }: World["lab"]["postgres"]["superuser"],
  admin: TwoRoles["admin"],
  use: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({ host, port, database, ...admin, ssl: { ca: readFileSync(caFile, "utf8") } });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}
