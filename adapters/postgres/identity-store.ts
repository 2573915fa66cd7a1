import type { QueryResultRow } from "pg";
import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  ApiKeyRow,
  Authentic,
  IdentityStore,
  SessionRow,
  Stored,
  StoredApiKey,
  StoredSession,
  UserRow,
} from "../../core/ports/identity-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapError } from "./errors.ts";
import {
  API_KEY_COLUMNS,
  JOINED_USER_COLUMNS,
  type JoinedApiKey,
  type JoinedSession,
  joinedApiKey,
  joinedSession,
  SESSION_COLUMNS,
  type SessionColumns,
  sessionOf,
  USER_COLUMNS,
  type UserColumns,
  userOf,
} from "./identity-rows.ts";

const statement = (name: string, text: string): Statement => ({ name, text });

const FIND_USER = statement("find_user", `SELECT ${USER_COLUMNS} FROM users u WHERE u.id = $1`);
const FIND_USER_BY_EMAIL = statement("find_user_by_email", `SELECT ${USER_COLUMNS} FROM users u WHERE u.email = $1`);
const LIST_USERS = statement(
  "list_users",
  `SELECT ${USER_COLUMNS} FROM users u WHERE u.email > $1 AND u.state <> 'Removed' ORDER BY u.email LIMIT $2`,
);
const CREATE_USER = statement(
  "create_user",
  "SELECT create_user($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS outcome",
);
const CHANGE_USER = statement("change_user", "SELECT change_user($1, $2, $3, $4, $5, $6, $7, $8) AS outcome");
const CREATE_SESSION = statement("create_session", "SELECT create_session($1, $2, $3, $4, $5, $6, $7, $8, $9)");
const FIND_SESSION = statement(
  "find_session",
  `SELECT ${SESSION_COLUMNS}, ${JOINED_USER_COLUMNS} FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1`,
);
const FIND_REFRESH_TOKEN = statement(
  "find_refresh_token",
  `SELECT id AS session_id, false AS used FROM sessions WHERE refresh_hash = $1
   UNION ALL SELECT session_id, true FROM used_refresh_tokens WHERE hash = $1`,
);
const LIST_SESSIONS = statement(
  "list_sessions",
  `SELECT ${SESSION_COLUMNS} FROM sessions s WHERE s.user_id = $1 AND s.ended_at IS NULL
   ORDER BY s.created_at DESC, s.id`,
);
const REFRESH_SESSION = statement("refresh_session", "SELECT refresh_session($1, $2, $3, $4) AS done");
const END_SESSION = statement("end_session", "SELECT end_session($1, $2, $3, $4, $5) AS done");
const FORGET_SESSIONS = statement(
  "forget_sessions",
  `WITH gone AS (DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 LIMIT $2) RETURNING 1)
   SELECT count(*)::integer AS count FROM gone`,
);
const CREATE_API_KEY = statement("create_api_key", "SELECT create_api_key($1, $2, $3, $4, $5, $6, $7, $8, $9)");
const API_KEYS = `SELECT ${API_KEY_COLUMNS}, ${JOINED_USER_COLUMNS} FROM api_keys k JOIN users u ON u.id = k.owner_id`;
const FIND_API_KEY = statement("find_api_key", `${API_KEYS} WHERE k.id = $1`);
const LIST_API_KEYS = statement(
  "list_api_keys",
  `${API_KEYS} WHERE k.id > $1 AND ($2::uuid IS NULL OR k.owner_id = $2) ORDER BY k.id LIMIT $3`,
);
const REVOKE_API_KEY = statement("revoke_api_key", "SELECT revoke_api_key($1, $2, $3, $4) AS done");
const RECORD_USES = statement(
  "record_uses",
  `UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at)
   FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at) WHERE k.id = used.id`,
);

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

export class PostgresIdentityStore implements IdentityStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async findUser(id: string): Promise<Stored<UserRow> | undefined> {
    const [columns] = await read<UserColumns>(this.#database, FIND_USER, [id]);
    return columns && userOf(columns);
  }

  async findUserByEmail(email: string): Promise<Stored<UserRow> | undefined> {
    const [columns] = await read<UserColumns>(this.#database, FIND_USER_BY_EMAIL, [email]);
    return columns && userOf(columns);
  }

  async listUsers(after: string | undefined, limit: number): Promise<readonly Stored<UserRow>[]> {
    return (await read<UserColumns>(this.#database, LIST_USERS, [after ?? "", limit])).map(userOf);
  }

  async createUser(
    { row, mac }: Authentic<UserRow>,
    audit: readonly AuditEntry[],
    { first } = { first: false },
  ): ReturnType<IdentityStore["createUser"]> {
    const { id, email, state, role, password, sessionEpoch, generation, createdAt } = row;
    const values = [id, email, state, role ?? null, password ?? null, sessionEpoch, generation, createdAt, mac, first];
    const { outcome } = await this.#write<{ outcome: "Created" | "EmailTaken" | "NotFirst" }>(
      CREATE_USER,
      values,
      audit,
    );
    return outcome;
  }

  async changeUser(
    { row, mac }: Authentic<UserRow>,
    audit: readonly AuditEntry[],
  ): ReturnType<IdentityStore["changeUser"]> {
    const { id, state, role, password, sessionEpoch, generation } = row;
    const values = [id, state, role ?? null, password ?? null, sessionEpoch, generation, mac];
    const { outcome } = await this.#write<{ outcome: "Changed" | "Conflict" | "LastAdmin" }>(
      CHANGE_USER,
      values,
      audit,
    );
    return outcome;
  }

  async createSession({ row, mac }: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<void> {
    const { id, userId, sessionEpoch, address, refreshHash, createdAt, expiresAt } = row;
    const values = [id, userId, sessionEpoch, address, refreshHash, createdAt, expiresAt, mac];
    await this.#write(CREATE_SESSION, values, audit);
  }

  async findSession(id: string): Promise<StoredSession | undefined> {
    const [columns] = await read<JoinedSession>(this.#database, FIND_SESSION, [id]);
    return columns && joinedSession(columns);
  }

  async findRefreshToken(hash: Buffer): ReturnType<IdentityStore["findRefreshToken"]> {
    const [row] = await read<{ session_id: string; used: boolean }>(this.#database, FIND_REFRESH_TOKEN, [hash]);
    return row && { sessionId: row.session_id, used: row.used };
  }

  async listSessions(userId: string): Promise<readonly Stored<SessionRow>[]> {
    return (await read<SessionColumns>(this.#database, LIST_SESSIONS, [userId])).map(sessionOf);
  }

  async refreshSession({ row, mac }: Authentic<SessionRow>, used: Buffer): Promise<boolean> {
    return this.#done(REFRESH_SESSION, [row.id, used, row.refreshHash, mac]);
  }

  async endSession({ row, mac }: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<boolean> {
    return this.#done(END_SESSION, [row.id, row.refreshHash, row.endedAt, mac], audit);
  }

  async forgetSessions(before: Date, limit: number): Promise<number> {
    const { count } = await this.#write<{ count: number }>(FORGET_SESSIONS, [before, limit]);
    return count;
  }

  async createApiKey({ row, mac }: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<void> {
    const { id, ownerId, name, hash, scopes, createdAt, expiresAt } = row;
    await this.#write(CREATE_API_KEY, [id, ownerId, name, hash, scopes, createdAt, expiresAt, mac], audit);
  }

  async findApiKey(id: string): Promise<StoredApiKey | undefined> {
    const [columns] = await read<JoinedApiKey>(this.#database, FIND_API_KEY, [id]);
    return columns && joinedApiKey(columns);
  }

  async listApiKeys(
    ownerId: string | undefined,
    after: string | undefined,
    limit: number,
  ): Promise<readonly StoredApiKey[]> {
    const values = [after ?? LOWEST_UUID, ownerId ?? null, limit];
    return (await read<JoinedApiKey>(this.#database, LIST_API_KEYS, values)).map(joinedApiKey);
  }

  async revokeApiKey({ row, mac }: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<boolean> {
    return this.#done(REVOKE_API_KEY, [row.id, row.revokedAt, mac], audit);
  }

  async recordUses(uses: ReadonlyMap<string, Date>): Promise<void> {
    await read(this.#database, RECORD_USES, [[...uses.keys()], [...uses.values()]]);
  }

  async #done(statement: Statement, values: readonly unknown[], audit?: readonly AuditEntry[]): Promise<boolean> {
    const { done } = await this.#write<{ done: boolean }>(statement, values, audit);
    return done;
  }

  /** The one row that the statement gives. The audit rows are its last parameter, where it has any. */
  async #write<Row extends QueryResultRow>(
    statement: Statement,
    values: readonly unknown[],
    audit?: readonly AuditEntry[],
  ): Promise<Row> {
    const rows = audit === undefined ? [] : [auditParameter(this.#signer, audit)];
    try {
      const [row] = await this.#database.query<Row>(statement, [...values, ...rows]);
      if (row !== undefined) return row;
    } catch (error) {
      throw mapError(error);
    }
    throw new Unavailable("Failed", `PostgreSQL gave no answer to ${statement.name}`);
  }
}
