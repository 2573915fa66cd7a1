/**
 * Roles of PostgreSQL that log in in turn. Which version a role's password was set for stands in the comment on the role,
 * changed in the same transaction: whoever is late, because another replica leads meanwhile, changes nothing.
 */
import pg from "pg";
import type {
  ApplyAnswer,
  DatabaseRoles,
  RefusedAnswer,
  RoleHolder,
  RoleLogin,
  RoleServer,
} from "../../core/ports/apply-targets.ts";
import { refusedHost } from "./hosts.ts";

export interface DatabaseRolesOptions {
  readonly allowedHosts: readonly string[];
  readonly timeoutMs: number;
}

interface Noted extends Omit<RoleHolder, "version"> {
  readonly version: number;
}

/** Beside whatever else people say about the role. */
const NOTE = /\s*\[mazevault ([^/\]]+)\/([^/\]]+)\/([^/\]]+)\/([^/\]]+)\/(\d+)\]/;

const noteOf = ({ installation, namespace, name, id, version }: RoleHolder): string =>
  `[mazevault ${installation}/${namespace}/${name}/${id}/${version}]`;

function noted(comment: string | null): Noted | undefined {
  const [, installation, namespace, name, id, version] = NOTE.exec(comment ?? "") ?? [];
  if (installation === undefined || namespace === undefined || name === undefined || id === undefined) return undefined;
  return { installation, namespace, name, id, version: Number(version) };
}

/** Of that name in that place: one that was deleted and made anew follows the one before. */
const isSamePlace = (a: Noted, b: Omit<RoleHolder, "version">): boolean =>
  a.installation === b.installation && a.namespace === b.namespace && a.name === b.name;

const DONE: ApplyAnswer = { kind: "Done" };
const refused = (message: string): RefusedAnswer => ({ kind: "Refused", message });

const noRole = (role: string): RefusedAnswer =>
  refused(`there is no role ${role}; create it with: CREATE ROLE ${role} NOLOGIN`);

const usedElsewhere = (role: string, by: Noted, { installation }: Omit<RoleHolder, "version">): RefusedAnswer =>
  refused(
    `role ${role} is used by Secret ${by.namespace}/${by.name}${by.installation === installation ? "" : " of another installation"}; ` +
      `name other roles, or clear the comment on the role if that Secret is gone`,
  );

export class PostgresRoles implements DatabaseRoles {
  readonly #options: DatabaseRolesOptions;

  constructor(options: DatabaseRolesOptions) {
    this.#options = options;
  }

  unused(
    server: RoleServer,
    admin: RoleLogin,
    { roles, holder, failed }: Parameters<DatabaseRoles["unused"]>[2],
    signal: AbortSignal,
  ): ReturnType<DatabaseRoles["unused"]> {
    return this.#connected(server, admin, signal, async (client) => {
      const { rows } = await client.query<{ role: string; login: boolean; comment: string | null }>(
        `SELECT rolname AS role, rolcanlogin AS login, shobj_description(oid, 'pg_authid') AS comment
         FROM pg_roles WHERE rolname = ANY($1) ORDER BY array_position($1, rolname::text)`,
        [[...roles]],
      );
      const found = rows.map(({ role, login, comment }) => ({ role, login, note: noted(comment) }));
      const ours = found.filter(({ note }) => note === undefined || isSamePlace(note, holder));
      const free =
        ours.find(({ login }) => !login) ??
        ours.find(({ note }) => note?.id === holder.id && failed.includes(note.version)) ??
        ours.find(({ note }) => note === undefined);
      if (free !== undefined) return { kind: "Unused", role: free.role } as const;
      const missing = roles.find((role) => !found.some((each) => each.role === role));
      if (missing !== undefined) return noRole(missing);
      const foreign = found.find((each) => !ours.includes(each));
      if (foreign?.note !== undefined) return usedElsewhere(foreign.role, foreign.note, holder);
      return refused(
        `roles ${roles.join(" and ")} both log in by passwords that were handed out for this Secret, and which of them is in use is not known; ` +
          "end the one that nobody uses, with: ALTER ROLE <role> NOLOGIN",
      );
    });
  }

  setPassword(
    server: RoleServer,
    admin: RoleLogin,
    { role, verifier, holder }: Parameters<DatabaseRoles["setPassword"]>[2],
    signal: AbortSignal,
  ): Promise<ApplyAnswer> {
    const change = (client: pg.Client) => async (comment: string | null) => {
      const before = noted(comment);
      if (before !== undefined && !isSamePlace(before, holder)) {
        return usedElsewhere(role, before, holder);
      }
      if (before?.id === holder.id && before.version > holder.version) {
        return refused(
          `role ${role} was given a password for version ${before.version} of this Secret, which is later than ${holder.version}; ` +
            `if MazeVault's database was restored, clear the comment on the role`,
        );
      }
      if (before?.id === holder.id && before.version === holder.version) return DONE;
      const name = pg.escapeIdentifier(role);
      await client.query(`ALTER ROLE ${name} LOGIN PASSWORD ${pg.escapeLiteral(verifier)} VALID UNTIL 'infinity'`);
      const others = (comment ?? "").replace(NOTE, "").trim();
      const now = others === "" ? noteOf(holder) : `${others} ${noteOf(holder)}`;
      await client.query(`COMMENT ON ROLE ${name} IS ${pg.escapeLiteral(now)}`);
      return DONE;
    };
    return this.#connected<ApplyAnswer>(server, admin, signal, async (client) => {
      const answer = await inTransaction(client, role, change(client));
      return answer === "NoRole" ? noRole(role) : answer;
    });
  }

  end(
    server: RoleServer,
    admin: RoleLogin,
    { role, holder, sessions }: Parameters<DatabaseRoles["end"]>[2],
    signal: AbortSignal,
  ): Promise<ApplyAnswer> {
    return this.#connected<ApplyAnswer>(server, admin, signal, async (client) => {
      let isLater = false;
      const answer = await inTransaction(client, role, async (comment) => {
        const before = noted(comment);
        isLater = before !== undefined && (!isSamePlace(before, holder) || before.version > holder.version);
        // Its password is somebody else's by now.
        if (!isLater) await client.query(`ALTER ROLE ${pg.escapeIdentifier(role)} NOLOGIN PASSWORD NULL`);
        return DONE;
      });
      // Whoever dropped it has ended it.
      if (answer === "NoRole") return DONE;
      if (isLater || !sessions || answer.kind !== "Done") return answer;
      // Committed before: else whoever is thrown out logs in again.
      return endSessions(client, role, admin.user, server);
    });
  }

  logIn(server: RoleServer, login: RoleLogin, signal: AbortSignal): Promise<ApplyAnswer> {
    return this.#connected(server, login, signal, async (client) => {
      await client.query("SELECT 1");
      return DONE;
    });
  }

  async #connected<Answer>(
    server: RoleServer,
    { user, password }: RoleLogin,
    signal: AbortSignal,
    use: (client: pg.Client) => Promise<Answer>,
  ): Promise<Answer | RefusedAnswer> {
    const { host, port, database, ca } = server;
    const { allowedHosts, timeoutMs } = this.#options;
    const notAllowed = refusedHost(host, allowedHosts);
    if (notAllowed !== undefined) return notAllowed;
    const client = new pg.Client({
      host,
      port,
      database,
      user,
      password: password.revealText(),
      ssl: { ...(ca !== undefined && { ca }) },
      application_name: "mazevault rotation",
      connectionTimeoutMillis: timeoutMs,
      statement_timeout: timeoutMs,
      query_timeout: timeoutMs + 1_000,
    });
    // What ends it is told by the call that waits for it.
    client.on("error", () => {});
    const abort = () => void client.end().catch(() => {});
    signal.addEventListener("abort", abort, { once: true });
    let isConnected = false;
    try {
      signal.throwIfAborted();
      await client.connect();
      isConnected = true;
      return await use(client);
    } catch (error) {
      signal.throwIfAborted();
      return answerOf(error, server, user, isConnected);
    } finally {
      signal.removeEventListener("abort", abort);
      await client.end().catch(() => {});
    }
  }
}

/** With the role to itself. */
async function inTransaction(
  client: pg.Client,
  role: string,
  change: (comment: string | null) => Promise<ApplyAnswer>,
): Promise<ApplyAnswer | "NoRole"> {
  await client.query("BEGIN");
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`mazevault role ${role}`]);
  const { rows } = await client.query<{ comment: string | null }>(
    "SELECT shobj_description(oid, 'pg_authid') AS comment FROM pg_roles WHERE rolname = $1",
    [role],
  );
  const [found] = rows;
  const answer = found === undefined ? "NoRole" : await change(found.comment);
  await client.query(answer !== "NoRole" && answer.kind === "Done" ? "COMMIT" : "ROLLBACK");
  return answer;
}

async function endSessions(client: pg.Client, role: string, admin: string, { host, port }: RoleServer) {
  try {
    await client.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", [role]);
    return DONE;
  } catch (error) {
    if (sqlState(error) !== LACKS_RIGHT) throw error;
    return refused(
      `it does not log in any more, but its sessions go on: ${admin} lacks pg_signal_backend at ${host}:${port}, which endSessions needs`,
    );
  }
}

const LACKS_RIGHT = "42501";

function sqlState(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "";
}

/** By SQLSTATE, whose text may quote the statement. https://www.postgresql.org/docs/current/errcodes-appendix.html */
function answerOf(
  error: unknown,
  { host, port, database }: RoleServer,
  user: string,
  isConnected: boolean,
): RefusedAnswer {
  const state = sqlState(error);
  const where = `${host}:${port}`;
  switch (state) {
    case "28P01":
      return refused(`${where} does not accept the password of ${user}`);
    case "28000":
      return refused(`${where} does not let ${user} log in to ${database}; see pg_hba.conf, and whether it has LOGIN`);
    case "3D000":
      return refused(`${where} has no database ${database}`);
    case LACKS_RIGHT:
      if (!isConnected) {
        return refused(
          `${user} may not connect to database ${database} at ${where}; allow it with: GRANT CONNECT ON DATABASE ${pg.escapeIdentifier(database)} TO ${pg.escapeIdentifier(user)}`,
        );
      }
      return refused(
        `${user} lacks a right at ${where}: it needs CREATEROLE and, from PostgreSQL 16 on, ADMIN OPTION for both roles`,
      );
  }
  return { kind: "Unreachable", message: `${where} does not answer${state === "" ? "" : ` (${state})`}` };
}
