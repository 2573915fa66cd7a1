import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import pg from "pg";

/** How to reach one database as one role. It can be stored: secrets are referred to by file. */
export interface Database {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Mode 0600, the password without a line end. */
  readonly passwordFile: string;
  /** PEM; the server's certificate names `host`. */
  readonly caFile: string;
  /** All of the above but the password, in the form libpq and node-postgres read. */
  readonly url: string;
}

/** Describes a database on the lab's server, whose TLS certificate must verify. */
export function describeDatabase(parts: Omit<Database, "url">): Database {
  const url = new URL(`postgresql://${parts.host}:${parts.port}/${encodeURIComponent(parts.database)}`);
  url.username = parts.user;
  url.searchParams.set("sslmode", "verify-full");
  url.searchParams.set("sslrootcert", parts.caFile);
  return { ...parts, url: url.href };
}

/** Connects, runs and disconnects. */
export async function withClient<T>(database: Database, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    host: database.host,
    port: database.port,
    database: database.database,
    user: database.user,
    password: readFileSync(database.passwordFile, "utf8"),
    ssl: { ca: readFileSync(database.caFile, "utf8") },
    connectionTimeoutMillis: 5_000,
  });
  // A server that is killed while the connection idles must not end the whole program.
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

/** Creates the role where it does not exist; it can do nothing on the server yet. */
export async function ensureRole(superuser: Database, { user, passwordFile }: Database): Promise<void> {
  const role = pg.escapeIdentifier(user);
  const password = pg.escapeLiteral(ensurePassword(passwordFile));
  await withClient(superuser, async (client) => {
    const roles = await client.query("SELECT FROM pg_roles WHERE rolname = $1", [user]);
    await client.query(
      `${roles.rowCount === 0 ? "CREATE" : "ALTER"} ROLE ${role} LOGIN NOSUPERUSER PASSWORD ${password}`,
    );
  });
}

/** Creates the role and the database it owns where they do not exist; the role can do nothing else on the server. */
export async function ensureDatabase(superuser: Database, wanted: Database): Promise<void> {
  const role = pg.escapeIdentifier(wanted.user);
  const database = pg.escapeIdentifier(wanted.database);
  await ensureRole(superuser, wanted);
  await withClient(superuser, async (client) => {
    const databases = await client.query("SELECT FROM pg_database WHERE datname = $1", [wanted.database]);
    if (databases.rowCount === 0) await client.query(`CREATE DATABASE ${database} OWNER ${role}`);
    await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
  });
}

/** The password in that file; generated at the first call. */
export function ensurePassword(file: string): string {
  if (!existsSync(file)) writeFileSync(file, randomBytes(24).toString("base64url"), { mode: 0o600 });
  return readFileSync(file, "utf8");
}
