/**
 * Where local users, their sessions and API keys stand. The platform's store is PostgreSQL; `fake-identity-store.ts` is
 * the in-memory fake, and both pass `identity-store.contract.ts`.
 *
 * Contract, common to all methods:
 * - Acknowledged means durable: a resolved promise survives a kill of every process.
 * - Whoever serves logins writes, not only the leader, so nothing is fenced: a write is conditional on what its caller
 *   has seen, and of several at once one wins.
 * - A write inserts its audit rows in the same transaction; one that changes nothing inserts none.
 * - What is read is not judged yet: the caller verifies MAC and generation.
 * - When the store cannot be reached: `Unavailable("DatabaseUnavailable")`.
 * - Times have milliseconds; the store neither rounds nor judges them.
 */
import type { Verb } from "../access/policy.ts";
import type { Role } from "../access/subject.ts";
import type { AuditEntry } from "./audit-log.ts";

/** A row with its MAC. */
export interface Authentic<Row> {
  readonly row: Row;
  /** HMAC-SHA-256, 32 bytes. */
  readonly mac: Buffer;
}

/** A row together with what its authenticity is judged by. */
export interface Stored<Row> extends Authentic<Row> {
  /** The highest generation that the audit rows know for it. */
  readonly auditedGeneration: bigint;
}

export interface UserRow {
  readonly id: string;
  /** Normalised; never changed, and never given to another user. */
  readonly email: string;
  /** Removed: a tombstone, which keeps the address. */
  readonly state: "Active" | "Disabled" | "Removed";
  /** In the whole installation. */
  readonly role?: Role;
  /** Hash in PHC string format; a removed user has none. */
  readonly password?: string;
  /** Sessions of an earlier one have ended. */
  readonly sessionEpoch: number;
  /** Grows by one with every change, from 1. */
  readonly generation: bigint;
  readonly createdAt: Date;
}

/** One login, and everything that came of it by refreshing. Generation 1, and 2 once it has ended. */
export interface SessionRow {
  readonly id: string;
  readonly userId: string;
  /** Of the user when the session began. */
  readonly sessionEpoch: number;
  /** Where the login came from. */
  readonly address: string;
  /** SHA-256 of the refresh token that can be used now. */
  readonly refreshHash: Buffer;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly endedAt?: Date;
}

/** Generation 1, and 2 once it is revoked. */
export interface ApiKeyRow {
  readonly id: string;
  readonly ownerId: string;
  readonly name: string;
  /** SHA-256 of the secret, 32 bytes. */
  readonly hash: Buffer;
  readonly scopes: readonly Verb[];
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly revokedAt?: Date;
}

export interface StoredSession {
  readonly session: Stored<SessionRow>;
  readonly user: Stored<UserRow>;
}

export interface StoredApiKey {
  readonly key: Stored<ApiKeyRow>;
  readonly owner: Stored<UserRow>;
  readonly lastUsedAt?: Date;
}

export interface IdentityStore {
  findUser(id: string): Promise<Stored<UserRow> | undefined>;
  /** Also a removed one. */
  findUserByEmail(email: string): Promise<Stored<UserRow> | undefined>;
  /** By email, without removed ones, after that address, at most `limit`. */
  listUsers(after: string | undefined, limit: number): Promise<readonly Stored<UserRow>[]>;
  /** `NotFirst` only when asked for the first one: there are, or were, others. */
  createUser(
    user: Authentic<UserRow>,
    audit: readonly AuditEntry[],
    options?: { readonly first: boolean },
  ): Promise<"Created" | "EmailTaken" | "NotFirst">;
  /** Conflict: the generation is not one more than that of the row. LastAdmin: no active admin would be left. */
  changeUser(user: Authentic<UserRow>, audit: readonly AuditEntry[]): Promise<"Changed" | "Conflict" | "LastAdmin">;

  createSession(session: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<void>;
  findSession(id: string): Promise<StoredSession | undefined>;
  /** Whose refresh token this is or was. */
  findRefreshToken(hash: Buffer): Promise<{ readonly sessionId: string; readonly used: boolean } | undefined>;
  /** Of that user, which have not ended, newest first. */
  listSessions(userId: string): Promise<readonly Stored<SessionRow>[]>;
  /** Replaces the refresh token, which is remembered as used. False when it is not this one any more, or the session has ended. */
  refreshSession(session: Authentic<SessionRow>, used: Buffer): Promise<boolean>;
  /** False when the session has ended already, or its refresh token is another by now. */
  endSession(session: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<boolean>;
  /** Deletes sessions that expired before that time; returns how many. */
  forgetSessions(before: Date, limit: number): Promise<number>;

  createApiKey(key: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<void>;
  findApiKey(id: string): Promise<StoredApiKey | undefined>;
  /** By id, of that owner or of all, after that id, at most `limit`. */
  listApiKeys(ownerId: string | undefined, after: string | undefined, limit: number): Promise<readonly StoredApiKey[]>;
  /** False when it is revoked already. */
  revokeApiKey(key: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<boolean>;
  /** By id of the key. A time before the one that is known changes nothing. */
  recordUses(uses: ReadonlyMap<string, Date>): Promise<void>;
}
