import type { Verb } from "../../core/access/policy.ts";
import type { Role } from "../../core/access/subject.ts";
import type {
  ApiKeyRow,
  SessionRow,
  Stored,
  StoredApiKey,
  StoredSession,
  UserRow,
} from "../../core/ports/identity-store.ts";

/** Where a row is older than the audit record says, it was put back: see `Authenticity`. */
const auditedGeneration = (table: string): string =>
  `(SELECT max(a.subject_generation) FROM audit a
    WHERE a.subject_id = ${table}.id::text AND a.subject_generation IS NOT NULL)`;

const USER = ["id", "email", "state", "role", "password", "session_epoch", "generation", "created_at", "mac"];

export const USER_COLUMNS = `${USER.map((column) => `u.${column}`).join(", ")}, ${auditedGeneration("u")} AS audited_generation`;
/** Beside those of another row. */
export const JOINED_USER_COLUMNS = `${USER.map((column) => `u.${column} AS user_${column}`).join(", ")},
  ${auditedGeneration("u")} AS user_audited_generation`;
export const SESSION_COLUMNS = `s.*, ${auditedGeneration("s")} AS audited_generation`;
export const API_KEY_COLUMNS = `k.*, ${auditedGeneration("k")} AS audited_generation`;

interface Judged {
  readonly mac: Buffer;
  readonly audited_generation: string | null;
}

/** node-postgres reads bigint as text. */
export interface UserColumns extends Judged {
  readonly id: string;
  readonly email: string;
  readonly state: UserRow["state"];
  readonly role: Role | null;
  readonly password: string | null;
  readonly session_epoch: number;
  readonly generation: string;
  readonly created_at: Date;
}

type Joined = { readonly [Column in keyof UserColumns as `user_${Column}`]: UserColumns[Column] };

export interface SessionColumns extends Judged {
  readonly id: string;
  readonly user_id: string;
  readonly session_epoch: number;
  readonly address: string;
  readonly refresh_hash: Buffer;
  readonly created_at: Date;
  readonly expires_at: Date;
  readonly ended_at: Date | null;
}

export interface ApiKeyColumns extends Judged {
  readonly id: string;
  readonly owner_id: string;
  readonly name: string;
  readonly hash: Buffer;
  readonly scopes: readonly Verb[];
  readonly created_at: Date;
  readonly expires_at: Date;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
}

export type JoinedSession = Omit<SessionColumns, "user_id"> & Joined;
export type JoinedApiKey = ApiKeyColumns & Joined;

const stored = <Row>(row: Row, { mac, audited_generation }: Judged): Stored<Row> => ({
  row,
  mac,
  auditedGeneration: BigInt(audited_generation ?? 0),
});

export function userOf(columns: UserColumns): Stored<UserRow> {
  const row = {
    id: columns.id,
    email: columns.email,
    state: columns.state,
    ...(columns.role === null ? {} : { role: columns.role }),
    ...(columns.password === null ? {} : { password: columns.password }),
    sessionEpoch: columns.session_epoch,
    generation: BigInt(columns.generation),
    createdAt: columns.created_at,
  };
  return stored(row, columns);
}

const joinedUser = (columns: Joined): Stored<UserRow> =>
  userOf({
    id: columns.user_id,
    email: columns.user_email,
    state: columns.user_state,
    role: columns.user_role,
    password: columns.user_password,
    session_epoch: columns.user_session_epoch,
    generation: columns.user_generation,
    created_at: columns.user_created_at,
    mac: columns.user_mac,
    audited_generation: columns.user_audited_generation,
  });

export function sessionOf(columns: SessionColumns): Stored<SessionRow> {
  const row = {
    id: columns.id,
    userId: columns.user_id,
    sessionEpoch: columns.session_epoch,
    address: columns.address,
    refreshHash: columns.refresh_hash,
    createdAt: columns.created_at,
    expiresAt: columns.expires_at,
    ...(columns.ended_at === null ? {} : { endedAt: columns.ended_at }),
  };
  return stored(row, columns);
}

export const joinedSession = (columns: JoinedSession): StoredSession => ({
  session: sessionOf(columns),
  user: joinedUser(columns),
});

export function joinedApiKey(columns: JoinedApiKey): StoredApiKey {
  const row: ApiKeyRow = {
    id: columns.id,
    ownerId: columns.owner_id,
    name: columns.name,
    hash: columns.hash,
    scopes: columns.scopes,
    createdAt: columns.created_at,
    expiresAt: columns.expires_at,
    ...(columns.revoked_at === null ? {} : { revokedAt: columns.revoked_at }),
  };
  return {
    key: stored(row, columns),
    owner: joinedUser(columns),
    ...(columns.last_used_at === null ? {} : { lastUsedAt: columns.last_used_at }),
  };
}
